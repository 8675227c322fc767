"""QLoRA: 4-bit and 8-bit bases under an adapter, on a CPU: the laws, what is saved, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from burnish.errors import ModelError
from burnish.export.export import export
from burnish.export.write import write_model
from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.attention import plain_attention
from burnish.model.fingerprint import frozen_fingerprint
from burnish.model.linear import OneDnnLinear
from burnish.model.load import load_policy
from burnish.model.open import open_model
from burnish.model.policy import Model
from burnish.model.probe import TOLERANCE
from burnish.model.quantization import BASE, is_quantized, make_trainable, num_weights
from burnish.model.settings import Quantization
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.packing import count_denominators
from burnish.train.step import Trainer
from burnish.types import Group, Response, Score
from tests.adapters import write_base

FORMS = {
    "nf4": Quantization(),
    "nf4, single": Quantization(double_quantization=False),
    "fp4": Quantization(quant_type="fp4"),
    "int8": Quantization(bits=8),
}
LORA = AdapterSettings(rank=4, alpha=8.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "model")


def load(base: Path, form: str = "nf4", **options: object) -> Model:
    torch.manual_seed(0)
    return load_policy(str(base), **{"adapter": LORA, "quantization": FORMS[form], **options})


def groups() -> list[Group]:
    tokens = torch.randint(200, (3, 14), generator=torch.Generator().manual_seed(0))
    responses = [Response(tokens=row[4:], trainable=torch.ones(10, dtype=torch.bool)) for row in tokens]
    return [
        Group(prompt=tokens[0, :4], responses=(responses[0], responses[1])),
        Group(prompt=tokens[2, :4], responses=(responses[2],)),
    ]


@torch.no_grad()
def move(policy: Model) -> Model:
    generator = torch.Generator().manual_seed(1)
    for _, parameter in policy.trained_parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return policy


@torch.no_grad()
def logprobs(model) -> torch.Tensor:
    return model(input_ids=torch.arange(1, 30)[None], use_cache=False).logits.log_softmax(-1)


@pytest.mark.parametrize("form", FORMS)
def test_packed_is_plain_and_the_gradient_does_not_depend_on_the_split(base, form):
    policy = move(load(base, form))
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    ways = [policy.pack(groups(), 1000), policy.pack(groups(), 1)]
    denominators, gradients = count_denominators(groups()), []
    for way in ways:
        for microbatch in way:
            trainer.forward_backward(microbatch, CrossEntropy(), denominators)
        gradients.append({name: p.grad.clone() for name, p in policy.trained_parameters()})
        policy.model.zero_grad()
    for name, gradient in gradients[0].items():
        assert gradient.abs().max() > 0, name
        assert torch.allclose(gradient, gradients[1][name], rtol=0, atol=1e-5 * float(gradient.abs().max())), name
    [microbatch] = ways[0]
    with torch.no_grad(), plain_attention(policy.causal_lm):
        first = groups()[1]
        ids = torch.cat([first.prompt, first.responses[0].tokens])[None]
        plain = policy.model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
    expected = plain[3:-1].gather(1, ids[0, 4:, None])[:, 0]
    with torch.no_grad():
        packed = policy.score(microbatch, [Score.LOGPROB]).logprob
    assert min(float((packed[i : i + 10] - expected).abs().max()) for i in (0, 10, 20)) < 1e-5


@pytest.mark.parametrize("form", ["nf4", "int8"])
def test_an_evaluation_between_steps_changes_nothing(base, form):
    """bitsandbytes packs 4-bit weights anew in evaluation on some processors, and then has no gradient."""
    policy = load(base, form)
    [microbatch] = policy.pack(groups(), 1000)

    def gradient() -> torch.Tensor:
        policy.model.zero_grad()
        policy.score(microbatch, [Score.LOGPROB]).logprob.sum().backward()
        return torch.cat([p.grad.flatten() for _, p in policy.trained_parameters()])

    before, fingerprint = gradient(), frozen_fingerprint(policy)
    policy.model.eval()
    with torch.no_grad():
        evaluated = policy.score(microbatch, [Score.LOGPROB]).logprob
    policy.model.train()
    assert torch.equal(gradient(), before)
    assert torch.equal(policy.score(microbatch, [Score.LOGPROB]).logprob, evaluated)
    assert frozen_fingerprint(policy) == fingerprint


def confident(base: Path, folder: Path) -> Path:
    """The base with larger weights, so that its logits depend on all of them: rounding of inputs shows."""
    shutil.copytree(base, folder)
    generator, weights = torch.Generator().manual_seed(5), load_file(folder / "model.safetensors")
    for tensor in weights.values():
        if tensor.ndim == 2:
            tensor.normal_(0.0, 0.35, generator=generator)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_8_bit_layers_on_a_cpu_are_one_function(base, tmp_path):
    """Those of bitsandbytes alone are two: by mode, they differ by more than what the probe at load allows."""
    folder = confident(base, tmp_path / "confident")
    config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    ids = torch.randint(200, (1, 48), generator=torch.Generator().manual_seed(0))

    def by_mode(model: torch.nn.Module) -> list[torch.Tensor]:
        with torch.no_grad():
            return [model.train(mode)(input_ids=ids, use_cache=False).logits.log_softmax(-1) for mode in (True, False)]

    alone = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, device_map={"": "cpu"})
    trained, evaluated = by_mode(alone)
    assert (trained - evaluated).abs().mean() > TOLERANCE[torch.float32]
    policy = load(folder, "int8")
    with plain_attention(policy.causal_lm):
        ours = by_mode(policy.causal_lm)
    assert torch.equal(ours[0], ours[1])
    torch.testing.assert_close(ours[0], trained, rtol=0, atol=1e-4)


@pytest.mark.parametrize("form", ["nf4", "fp4"])
def test_dora_begins_as_the_quantised_base(base, form):
    with torch.no_grad():
        plain, dora = (load(base, form, adapter=AdapterSettings(rank=4, dora=dora)).model for dora in (False, True))
        ids = torch.arange(1, 20)[None]
        for model in (plain, dora):
            model.get_base_model().set_attn_implementation("sdpa")
        assert torch.allclose(plain(input_ids=ids).logits, dora(input_ids=ids).logits, rtol=0, atol=1e-4)


def test_the_head_stays_plain_and_weights_are_counted(base):
    policy = load(base)
    whole, _ = AutoModelForCausalLM.from_pretrained(base), None
    assert type(policy.causal_lm.get_output_embeddings()) in {torch.nn.Linear, OneDnnLinear}
    base_weights = [p for name, p in policy.causal_lm.named_parameters() if "lora_" not in name]
    assert sum(num_weights(p) for p in base_weights) == sum(p.numel() for p in whole.parameters())
    assert policy.cost.per_token > Model(whole, None).cost.per_token, "that of the base, and the adapter's"


@pytest.mark.parametrize(("form", "bits"), [("nf4", 4 + 8 / 64 + 32 / 64 / 256), ("nf4, single", 4.5), ("int8", 8)])
def test_bytes_of_a_weight(form, bits):
    """By hand: a scale for 64 weights, in 32 bits, or in 8 with 32 more for 256 of them."""
    assert FORMS[form].bytes_of(1 << 20) == pytest.approx((1 << 20) * bits / 8)


@pytest.mark.parametrize(("form", "dtype"), [*((form, "auto") for form in FORMS), ("nf4", "bfloat16")])
def test_what_is_saved_loads_in_peft_and_says_the_same(base, tmp_path, form, dtype):
    policy = move(load(base, form, dtype=dtype))
    folder = tmp_path / "adapter"
    folder.mkdir()
    export(policy, folder, template=None, end_tokens=[])
    settings = BitsAndBytesConfig.from_dict(json.loads((folder / BASE).read_text()))
    plain = AutoModelForCausalLM.from_pretrained(
        base, quantization_config=settings, dtype=policy.causal_lm.dtype, device_map={"": "cpu"}
    )
    make_trainable(plain)
    other = PeftModel.from_pretrained(plain, folder).eval()
    policy.model.eval()
    with plain_attention(policy.causal_lm):
        assert torch.equal(logprobs(other), logprobs(policy.model)), "the same bits, in the same arithmetic"
    opened = open_model(str(folder), dtype=dtype)
    assert is_quantized(opened.model)
    assert torch.equal(logprobs(opened.model), logprobs(other))
    again = load(folder, form, dtype=dtype)
    assert frozen_fingerprint(again) == frozen_fingerprint(policy)
    for (name, mine), (_, theirs) in zip(again.trained_parameters(), policy.trained_parameters(), strict=True):
        assert torch.equal(mine, theirs), name


@pytest.mark.parametrize("form", ["nf4", "int8"])
def test_merging_uses_the_unquantized_base_with_a_note(base, tmp_path, form):
    policy = move(load(base, form))
    folder = tmp_path / "adapter"
    folder.mkdir()
    export(policy, folder, template=None, end_tokens=[])
    written = write_model(str(folder), tmp_path / "merged")
    assert any("trained on a quantized base" in note for note in written.notes)
    merged, plain = (AutoModelForCausalLM.from_pretrained(each) for each in (tmp_path / "merged", base))
    layer = policy.causal_lm.model.layers[0].self_attn.q_proj
    expected = plain.model.layers[0].self_attn.q_proj.weight + layer.get_delta_weight("default")
    assert torch.allclose(merged.model.layers[0].self_attn.q_proj.weight, expected, rtol=0, atol=1e-6)
    card = (tmp_path / "merged" / "README.md").read_text()
    assert f"{FORMS[form].bits}-bit" in card
    assert "qlora" in card


def test_an_exported_adapter_keeps_how_its_base_was_quantised(base, tmp_path):
    policy = move(load(base))
    folder = tmp_path / "adapter"
    folder.mkdir()
    export(policy, folder, template=None, end_tokens=[])
    write_model(str(folder), tmp_path / "out", form="adapter")
    assert (tmp_path / "out" / BASE).read_bytes() == (folder / BASE).read_bytes()
    assert "BitsAndBytesConfig.from_dict" in (tmp_path / "out" / "README.md").read_text()


def test_a_checkpoint_that_is_already_quantized(base, tmp_path):
    quantised = load(base).model.unload()
    quantised.set_attn_implementation("sdpa")
    quantised.save_pretrained(tmp_path / "four")
    open_model(str(base)).tokenizer.save_pretrained(tmp_path / "four")
    policy = load(tmp_path / "four")
    expected = load(base)
    pairs = zip(policy.model.named_parameters(), expected.model.named_parameters(), strict=True)
    assert all(torch.equal(mine, theirs) for (_, mine), (_, theirs) in pairs)
    layer = policy.causal_lm.model.layers[0].self_attn.q_proj.base_layer
    assert dequantize_4bit(layer.weight.data, layer.weight.quant_state).shape == layer.weight.quant_state.shape
    with pytest.raises(ModelError, match=r"adapter\.bits: 8"):
        load(tmp_path / "four", "int8")
    for options in ({"adapter": LORA}, {}):
        with pytest.raises(ModelError, match="has quantized weights"):
            load_policy(str(tmp_path / "four"), **options)
    folder = tmp_path / "adapter"
    folder.mkdir()
    export(policy, folder, template=None, end_tokens=[])
    with pytest.raises(ModelError, match="--base"):
        write_model(str(folder), tmp_path / "merged")
    write_model(str(folder), tmp_path / "merged", base=str(base))


def test_changed_scales_are_another_base(base):
    for form in ("nf4", "int8"):
        policy = load(base, form)
        before = frozen_fingerprint(policy)
        layer = policy.causal_lm.model.layers[0].mlp.up_proj.base_layer
        scales = layer.weight.quant_state.offset if form == "nf4" else layer.state.SCB
        scales += 0.5
        assert frozen_fingerprint(policy) != before, form
