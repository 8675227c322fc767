"""The built-in models by name: small computes what tiny computes, is made the same everywhere, and is repaired."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from burnish.builtin.places import MODELS, small_card, tiny_folder
from burnish.errors import ModelError
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.builtin import builtin_folder
from burnish.model.load import load_policy, load_tokenizer
from burnish.model.open import open_model

TEXT = "Edda keeps a pig. 21 + 15 = 36. Runa's door is"


@pytest.fixture(scope="module")
def small() -> Path:
    return builtin_folder("builtin:small")


def model_of(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder)


def tokens() -> torch.Tensor:
    return AutoTokenizer.from_pretrained(tiny_folder())(TEXT, return_tensors="pt")["input_ids"]


def test_it_has_twice_the_layers_and_computes_the_same_to_the_bit(small):
    tiny, larger = model_of(tiny_folder()), model_of(small)
    assert larger.config.num_hidden_layers == 2 * tiny.config.num_hidden_layers == 10
    assert larger.num_parameters() == 3_536_160
    with torch.no_grad():
        assert torch.equal(larger(tokens()).logits, tiny(tokens()).logits)


def test_every_new_layer_is_trained(small):
    """The zeros have gradients at once, and the weights before them as soon as these are no longer 0."""
    model = model_of(small)
    new = {f"model.layers.{index}." for index in range(1, 10, 2)}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(2):
        optimizer.zero_grad()
        model(tokens(), labels=tokens()).loss.backward()
        trained = {name for name, weight in model.named_parameters() if weight.grad.any()}
        zeros = {f"{layer}{part}.weight" for layer in new for part in ("self_attn.o_proj", "mlp.down_proj")}
        assert zeros <= trained
        assert (trained == {name for name, _ in model.named_parameters()}) == (step == 1)
        optimizer.step()


def test_its_tokens_are_those_of_the_tiny_model(small):
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (small / name).read_bytes() == (tiny_folder() / name).read_bytes()
    assert load_tokenizer("builtin:small").get_vocab() == load_tokenizer("builtin:tiny").get_vocab()


def test_its_card_says_which_weights_they_are(small):
    assert MODELS["small"] in small_card().read_text(encoding="utf-8")
    assert (small / "README.md").read_bytes() == small_card().read_bytes()


def test_it_is_the_same_bytes_wherever_it_is_made(small, tmp_path, monkeypatch):
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "another"))
    again = builtin_folder("builtin:small")
    assert again != small
    assert again.name == small.name
    assert contents(again) == contents(small)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["missing", "cut off", "changed"])
def test_a_damaged_folder_is_made_again(name, damage, small, tmp_path, monkeypatch):
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    file = builtin_folder("builtin:small") / name
    whole = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(whole[:-9] if damage == "cut off" else whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    assert contents(builtin_folder("builtin:small")) == contents(small)
    assert [path.name for path in (tmp_path / "models").iterdir()] == [small.name]


def test_a_whole_folder_is_not_written_again(small):
    before = (small / "model.safetensors").stat()
    assert builtin_folder("builtin:small") == small
    assert (small / "model.safetensors").stat().st_mtime_ns == before.st_mtime_ns


def test_processes_that_write_it_at_once_do_not_disturb_each_other(small, tmp_path, monkeypatch):
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(builtin_folder("builtin:small"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert contents(found[0]) == contents(small)
    assert os.listdir(tmp_path / "models") == [small.name]


def test_a_cache_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="set BURNISH_CACHE"):
        builtin_folder("builtin:small")


def test_it_is_opened_and_trained_by_name(small):
    assert open_model("builtin:small").model.config.num_hidden_layers == 10
    policy = load_policy("builtin:small", adapter=AdapterSettings(rank=2))
    assert policy.share
    assert Path(policy.model.peft_config["default"].base_model_name_or_path) == small


@pytest.mark.parametrize("name", ["builtin:smal", "builtin:Small", "builtin:smalll"])
def test_a_misspelt_name_is_answered_with_the_right_one(name):
    with pytest.raises(ModelError, match="did you mean builtin:small"):
        builtin_folder(name)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
