"""Opening: folders, adapters and runs give the model that peft and transformers give; what is incomplete is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from burnish.builtin.tiny import write_untrained
from burnish.errors import ModelError
from burnish.export.export import export
from burnish.model import open as module
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.load import load_policy
from burnish.model.open import find_model, open_model, with_template
from burnish.model.stop_tokens import stop_tokens_of
from tests.adapters import be_offline, change_json, write_adapter, write_base

IDS = torch.tensor([[5, 9, 30, 200, 257, 3]])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=IDS).logits
    return logits


def test_a_model_folder(base):
    opened = open_model(str(base))
    assert (opened.kind, opened.base) == ("model", None)
    assert not opened.model.training
    assert torch.equal(logits(opened.model), logits(AutoModelForCausalLM.from_pretrained(base)))
    end = opened.tokenizer.convert_tokens_to_ids("<|end|>")
    assert stop_tokens_of(opened.causal_lm.generation_config, opened.tokenizer) == (end,)


@pytest.mark.parametrize("tokens", [None, ["<|new|>", "<|other|>"]], ids=["as it was", "with added tokens"])
def test_an_adapter_is_what_peft_makes_of_it(base, tmp_path, tokens):
    adapter = write_adapter(tmp_path / "adapter", base, tokens=tokens)
    opened = open_model(str(adapter))
    assert isinstance(opened.model, PeftModel)
    assert opened.base == str(base)
    theirs = AutoPeftModelForCausalLM.from_pretrained(adapter).eval()
    assert torch.equal(logits(opened.model), logits(theirs))
    assert not torch.equal(logits(opened.model)[..., :5], logits(AutoModelForCausalLM.from_pretrained(base))[..., :5])
    assert opened.causal_lm.get_input_embeddings().weight.shape[0] == len(opened.tokenizer)


def test_the_base_may_have_moved(base, tmp_path):
    adapter = write_adapter(tmp_path / "adapter", base)
    expected = logits(open_model(str(adapter)).model)
    base.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="--base"):
        open_model(str(adapter))
    moved = open_model(str(adapter), base=str(tmp_path / "elsewhere"))
    assert torch.equal(logits(moved.model), expected)


def test_generation_settings_in_an_adapters_folder_are_used(base, tmp_path):
    adapter = write_adapter(tmp_path / "adapter", base)
    change_json(adapter / "generation_config.json", eos_token_id=[7, 9])
    opened = open_model(str(adapter))
    assert stop_tokens_of(opened.causal_lm.generation_config, opened.tokenizer) == (7, 9)


def test_an_adapter_that_lacks_tensors_is_not_filled_with_random_ones(base, tmp_path):
    adapter = write_adapter(tmp_path / "adapter", base)
    weights = load_file(adapter / "adapter_model.safetensors")
    del weights[next(name for name in weights if "q_proj" in name and "lora_A" in name)]
    save_file(weights, adapter / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="missing adapter keys"):
        open_model(str(adapter))


def test_an_adapter_of_another_base_is_refused(base, tmp_path):
    adapter = write_adapter(tmp_path / "adapter", base)
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file(
        {name: tensor[:, :-1].contiguous() for name, tensor in weights.items()}, adapter / "adapter_model.safetensors"
    )
    with pytest.raises(ModelError, match="does not fit"):
        open_model(str(adapter))


def test_adapter_weights_as_pickles_are_not_read(base, tmp_path):
    adapter = write_adapter(tmp_path / "adapter", base)
    weights = load_file(adapter / "adapter_model.safetensors")
    (adapter / "adapter_model.safetensors").unlink()
    torch.save(weights, adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match="run code"):
        open_model(str(adapter))


def test_added_tokens_without_embeddings_are_refused(base, tmp_path):
    adapter = write_adapter(tmp_path / "adapter", base)
    tokenizer = open_model(str(base)).tokenizer
    tokenizer.add_tokens(["<|new|>"])
    tokenizer.save_pretrained(adapter)
    with pytest.raises(ModelError, match="no embeddings"):
        open_model(str(adapter))


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_an_adapter_without_a_base_or_a_configuration(base, tmp_path, content):
    adapter = write_adapter(tmp_path / "adapter", base)
    (adapter / "adapter_config.json").write_text(content)
    with pytest.raises(ModelError, match="adapter"):
        find_model(str(adapter))


def test_a_whole_model_has_no_base(base):
    with pytest.raises(ModelError, match="whole model"):
        open_model(str(base), base=str(base))


def test_missing_shards(base):
    weights = load_file(base / "model.safetensors")
    names = sorted(weights)
    save_file({name: weights[name] for name in names[:3]}, base / "model-00001-of-00002.safetensors", {"format": "pt"})
    (base / "model.safetensors").unlink()
    where = {name: f"model-0000{1 if name in names[:3] else 2}-of-00002.safetensors" for name in names}
    (base / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    with pytest.raises(ModelError, match="model-00002-of-00002"):
        open_model(str(base))


def test_a_named_template_takes_the_place_of_its_own(base):
    opened = open_model(str(base))
    assert opened.template is not None
    other = with_template(opened, "plain")
    assert other.template is not None
    assert other.template.source != opened.template.source


def test_a_model_without_a_template_has_none(base):
    (base / "chat_template.jinja").unlink()
    assert open_model(str(base)).template is None


def test_an_adapter_on_the_hub_is_fetched_and_opened(base, tmp_path, monkeypatch):
    adapter = write_adapter(tmp_path / "adapter", base)
    asked: list[tuple[str, object]] = []
    monkeypatch.setattr("burnish.model.place.look_up", lambda *_: "online")
    monkeypatch.setattr(module, "find_adapter_config_file", lambda name: f"{name}/adapter_config.json")
    monkeypatch.setattr(module, "snapshot_download", lambda name, **kw: asked.append((name, kw)) or str(adapter))
    opened = open_model("owner/adapter")
    assert (opened.kind, opened.base) == ("adapter", str(base))
    assert torch.equal(logits(opened.model), logits(open_model(str(adapter)).model))
    ((name, options),) = asked
    assert name == "owner/adapter"
    assert "*.bin" not in options["allow_patterns"], "no pickles are even fetched"


def test_nothing_there(tmp_path, monkeypatch):
    be_offline(monkeypatch)
    for name in (str(tmp_path / "none"), "nobody/nothing"):
        with pytest.raises(ModelError, match="hub name"):
            open_model(name)


def test_an_adapter_whose_tokenizer_has_a_token_of_another_input(tmp_path):
    """The tokenizer of Gemma 3 1B has the image token of the larger models, and no row for it: an adapter of it is
    opened, trained further and verified on a base of the same rows."""
    write_untrained(tmp_path / "base", hidden_size=32, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    rows = len(tokenizer)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.save_pretrained(tmp_path / "base")
    path = tmp_path / "base" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "extra_special_tokens": {"image_token": "<image>"}}))
    policy = load_policy(str(tmp_path / "base"), adapter=AdapterSettings(rank=2))
    export(policy, tmp_path / "adapter", template=None, end_tokens=())
    opened = open_model(str(tmp_path / "adapter"))
    assert opened.causal_lm.get_input_embeddings().weight.shape[0] == rows
    further = load_policy(str(tmp_path / "adapter"), adapter=AdapterSettings(rank=2))
    assert further.causal_lm.get_input_embeddings().weight.shape[0] == rows


def test_an_adapter_that_trained_the_padding_token_has_its_row(tmp_path):
    """No text is read as padding, but the adapter holds its row: the base grows as in training."""
    write_untrained(tmp_path / "base", hidden_size=32, layers=1)
    policy = load_policy(str(tmp_path / "base"), adapter=AdapterSettings(rank=2), add_tokens=["<|pad|>"])
    policy.tokenizer.pad_token = "<|pad|>"
    rows = policy.causal_lm.get_input_embeddings().weight.shape[0]
    export(policy, tmp_path / "adapter", template=None, end_tokens=())
    opened = open_model(str(tmp_path / "adapter"))
    assert opened.causal_lm.get_input_embeddings().weight.shape[0] == rows
    further = load_policy(str(tmp_path / "adapter"), adapter=AdapterSettings(rank=2))
    assert further.causal_lm.get_input_embeddings().weight.shape[0] == rows


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`", "ignore:Setting `save_embedding_layers`")
def test_an_adapter_with_a_grown_embedding_of_its_own(tmp_path):
    """peft stores the embedding whole if it is in modules_to_save; its rows are those of the model."""
    write_untrained(tmp_path / "base", hidden_size=32, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    rows = len(tokenizer) + 1
    tokenizer.add_special_tokens({"pad_token": "<new>"})
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model.resize_token_embeddings(rows, mean_resizing=False)
    modules = ["embed_tokens", "lm_head"]
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=modules, task_type="CAUSAL_LM")
    get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    opened = open_model(str(tmp_path / "adapter"))
    assert opened.causal_lm.get_input_embeddings().weight.shape[0] == rows
