"""Loading: what is refused, what is changed and said, and what sequences are exact."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, Qwen3Config

from burnish.builtin import tiny_folder, write_untrained
from burnish.errors import ModelError
from burnish.model.adapters import AdapterSettings
from burnish.model.load import load_model, load_policy, load_tokenizer, max_positions
from tests.adapters import be_offline


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
    ("stored", "asked", "loaded"),
    [
        (torch.bfloat16, "auto", torch.bfloat16),
        (torch.float32, "auto", torch.float32),
        (torch.float32, "bfloat16", torch.bfloat16),
        (torch.bfloat16, "float32", torch.float32),
        (torch.float16, "auto", torch.float32),
    ],
)
def test_weights_load_in_the_type_of_the_checkpoint_or_the_one_asked_for(folder, tmp_path, stored, asked, loaded):
    """But float16, whose gradients would vanish, becomes float32, and a line says so."""
    model, _ = load_model(str(folder))
    model.to(stored).save_pretrained(tmp_path / "stored")
    again, notes = load_model(str(tmp_path / "stored"), asked)
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
    assert max_positions(LlamaConfig(max_position_embeddings=4096, rope_parameters=rope)) == limit


def test_long_rope():
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0] * 64,
        "long_factor": [2.0] * 64,
        "original_max_position_embeddings": 512,
    }
    assert max_positions(Qwen3Config(max_position_embeddings=4096, rope_parameters=rope)) == 512


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


@pytest.mark.parametrize("name", ["builtin:small", "builtin:", "builtin:tiny/"])
def test_an_unknown_builtin_model_is_refused_with_those_that_there_are(name):
    with pytest.raises(ModelError, match="builtin:tiny"):
        load_tokenizer(name)
