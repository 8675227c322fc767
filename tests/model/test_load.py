"""Loading: what is refused, what is changed and said, and what sequences are exact."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config

from burnish.builtin.places import tiny_folder
from burnish.builtin.tiny import write_untrained
from burnish.errors import ModelError
from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.load import load_model, load_policy, load_tokenizer
from burnish.model.positions import exact_positions
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.train.step import Trainer
from burnish.types import Score
from tests.adapters import be_offline
from tests.conftest import make_groups
from tests.families import FAMILIES, LOCAL_EXPERTS, SIZES, built, route_of, small_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_untrained(tmp_path / "model", hidden_size=32, layers=1)
    return tmp_path / "model"


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_policy_is_ready_to_train(folder):
    policy = load_policy(str(folder))
    assert policy.model.training
    assert policy.share
    assert policy.notes == ()
    assert all(p.requires_grad for p in policy.model.parameters())


@pytest.mark.parametrize("adapter", [None, AdapterSettings()], ids=["full", "lora"])
def test_added_tokens_are_the_same_in_both_tokenizers(folder, adapter):
    """The data is prepared with one, the model is saved with the other."""
    tokens = ("<|im_start|>", "<|im_end|>")
    policy, tokenizer = (
        load_policy(str(folder), adapter=adapter, add_tokens=tokens),
        load_tokenizer(str(folder), tokens),
    )
    assert policy.tokenizer.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert len(tokenizer) == len(policy.head.weight) == 262
    assert (policy.head.new_rows is None) == (adapter is None)
    assert [note for note in policy.notes if "<|im_start|>, <|im_end|> are new" in note]


def test_missing_weights_are_not_made_up(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="up_proj"):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("stored", "requested", "loaded"),
    [
        (torch.bfloat16, "auto", torch.bfloat16),
        (torch.float32, "auto", torch.float32),
        (torch.float32, "bfloat16", torch.bfloat16),
        (torch.bfloat16, "float32", torch.float32),
        (torch.float16, "auto", torch.float32),
    ],
)
def test_weights_load_in_the_type_of_the_checkpoint_or_the_requested_one(folder, tmp_path, stored, requested, loaded):
    """But float16, whose gradients would vanish, becomes float32, and a line says so."""
    model, _ = load_model(str(folder))
    model.to(stored).save_pretrained(tmp_path / "stored")
    again, notes = load_model(str(tmp_path / "stored"), requested)
    assert again.dtype == loaded
    assert any("float16" in note for note in notes) == (stored == torch.float16)


def test_dropout_of_the_checkpoint_is_off_and_a_line_says_so(folder):
    change_config(folder, attention_dropout=0.1)
    model, notes = load_model(str(folder))
    assert model.config.attention_dropout == 0
    assert model.model.layers[0].self_attn.attention_dropout == 0
    assert notes == ["attention_dropout is 0.1 in the model's configuration; it is 0 here, and in what is saved"]


def test_home_is_expanded_and_adapters_remember_an_absolute_base(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(load_tokenizer("~/model")) == len(load_tokenizer(str(folder)))
    monkeypatch.chdir(folder.parent)
    policy = load_policy("model", adapter=AdapterSettings(rank=2))
    assert policy.model.peft_config["default"].base_model_name_or_path == str(folder)


@pytest.mark.parametrize(
    ("rope", "limit"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, 4096),
        ({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 1024}, 1024),
        ({"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}, 4096),
    ],
)
def test_rotary_scaling_that_depends_on_length_is_exact_up_to_the_original_length(rope, limit):
    assert exact_positions(LlamaConfig(max_position_embeddings=4096, rope_parameters=rope)) == limit


def test_long_rope():
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0] * 64,
        "long_factor": [2.0] * 64,
        "original_max_position_embeddings": 512,
    }
    assert exact_positions(Qwen3Config(max_position_embeddings=4096, rope_parameters=rope)) == 512


def test_a_hub_name_that_cannot_be_reached(monkeypatch):
    be_offline(monkeypatch)
    with pytest.raises(ModelError, match="nobody/nothing"):
        load_tokenizer("nobody/nothing")


def test_the_builtin_model_is_loaded_by_name():
    """And an adapter remembers where it lies."""
    policy = load_policy("builtin:tiny", adapter=AdapterSettings(rank=2))
    assert policy.share
    assert policy.tokenizer is not None
    base = policy.model.peft_config["default"].base_model_name_or_path
    assert Path(base) == tiny_folder()


@pytest.mark.parametrize("name", ["builtin:large", "builtin:", "builtin:tiny/"])
def test_an_unknown_builtin_model_is_refused_with_those_that_there_are(name):
    with pytest.raises(ModelError, match="builtin:tiny"):
        load_tokenizer(name)


def saved_family(family: str, folder: Path) -> Path:
    """A tiny model with a tokenizer of as many words."""
    torch.manual_seed(0)
    FAMILIES[family]().save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["mamba", "gpt-oss", "mixtral"])
def test_other_decoders_train(tmp_path, family, checkpointing):
    """The gradient of a step that was loaded as a run loads it; a line says what is slower."""
    policy = load_policy(str(saved_family(family, tmp_path)), gradient_checkpointing=checkpointing)
    assert policy.route is route_of(family)
    assert [line.split(" ")[0] for line in policy.notes] == (["MambaForCausalLM"] if family == "mamba" else [])
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=1e-2)))
    groups = make_groups([(5, [4, 3]), (2, [6])])
    losses = [trainer.step(groups, CrossEntropy(), 20, 1.0)["loss"] for _ in range(4)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(("requested", "again"), [(False, 0), (True, 4), (2, 2), (3, 2), (9, 1)])
def test_every_nth_layer_is_computed_again(tmp_path, requested, again):
    """The gradient stays what it is, bit for bit; a layer that is computed again is called twice."""
    config = LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2, vocab_size=8000
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    load_tokenizer("builtin:tiny").save_pretrained(tmp_path)
    groups, calls, gradients = make_groups([(5, [4, 3]), (2, [6])]), [], []
    for checkpointing in (False, requested):
        policy = load_policy(str(tmp_path), gradient_checkpointing=checkpointing)
        calls.clear()
        for layer in policy.causal_lm.model.layers:
            layer.mlp.register_forward_pre_hook(lambda *_: calls.append(1))
        [microbatch] = policy.pack(groups, 100)
        policy.score(microbatch, [Score.LOGPROB]).logprob.sum().backward()
        gradients.append([parameter.grad for _, parameter in policy.trained_parameters()])
    assert len(calls) == 4 + again
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_model_that_cannot_compute_layers_again(tmp_path, monkeypatch):
    folder = saved_family("llama", tmp_path)
    monkeypatch.setattr(LlamaForCausalLM, "supports_gradient_checkpointing", False)
    with pytest.raises(ModelError, match="gradient_checkpointing"):
        load_policy(str(folder), gradient_checkpointing=True)


def test_noise_is_switched_off(tmp_path):
    """Mixtral's routers add noise to what they see, in training."""
    folder = saved_family("mixtral", tmp_path)
    change_config(folder, router_jitter_noise=0.1)
    policy = load_policy(str(folder))
    assert policy.causal_lm.config.router_jitter_noise == 0
    assert policy.notes == (
        "router_jitter_noise is 0.1 in the model's configuration; it is 0 here, and in what is saved",
    )


def test_experts_in_four_bits_become_whole_numbers(tmp_path):
    """As gpt-oss is published: two numbers a byte, one power of two for every 32 (OCP Microscaling Formats, 2023)."""
    torch.manual_seed(0)
    model = built("GptOss", **{**SIZES, "intermediate_size": 32}, **LOCAL_EXPERTS, head_dim=8)().bfloat16()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name in [name for name in weights if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, inputs, outputs = weights.pop(name).shape
        weights[f"{name}_blocks"] = torch.randint(256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
        weights[f"{name}_scales"] = torch.randint(110, 120, (experts, outputs, inputs // 32), dtype=torch.uint8)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(tmp_path)
    change_config(tmp_path, quantization_config={"quant_method": "mxfp4"}, dtype="bfloat16")
    small_tokenizer().save_pretrained(tmp_path)

    policy = load_policy(str(tmp_path))
    assert any("MXFP4" in line for line in policy.notes)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    values = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    values += [-value for value in values]
    byte, power = int(weights[f"{name}_blocks"][1, 2, 0, 3]), int(weights[f"{name}_scales"][1, 2, 0]) - 127
    expected = [values[byte % 16] * 2.0**power, values[byte // 16] * 2.0**power]
    assert policy.causal_lm.get_parameter(name)[1, 6:8, 2].tolist() == expected
    policy.causal_lm.save_pretrained(tmp_path / "out")
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
