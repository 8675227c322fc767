"""Freezing by pattern: what trains, what is refused, and that frozen weights stay."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

import burnish
from burnish.builtin.sets import generate, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.errors import ModelError
from burnish.model.freezing import freeze
from burnish.model.load import load_policy
from tests.conftest import FAMILIES


def left(family: str, *patterns: str) -> set[str]:
    model = FAMILIES[family]()
    freeze(model, patterns)
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_patterns():
    everything = {name for name, _ in FAMILIES["llama"]().named_parameters()}
    assert left("llama") == everything
    assert left("llama", r"embed_tokens", r"layers\.0\.") == {
        name for name in everything if "embed_tokens" not in name and "layers.0." not in name
    }
    assert left("llama", ".", r"!layers\.1\.mlp") == {name for name in everything if "layers.1.mlp" in name}
    assert left("llama", ".", r"!layers\.1\.", r"norm") == {
        name for name in everything if "layers.1." in name and "norm" not in name
    }


def test_a_tied_matrix_has_both_names():
    assert not any("embed_tokens" in name for name in left("llama-tied", "lm_head"))


@pytest.mark.parametrize(
    ("patterns", "words"), [((".",), "something is left"), (("embd",), "embd matches no parameter")]
)
def test_refusals(patterns, words):
    with pytest.raises(ModelError, match=words):
        left("llama", *patterns)


def test_added_tokens_have_to_learn(tmp_path):
    write_untrained(tmp_path / "model", hidden_size=32, layers=1)
    with pytest.raises(ModelError, match="rows of added tokens"):
        load_policy(str(tmp_path / "model"), freeze=("embed_tokens",), add_tokens=("<|im_start|>", "<|im_end|>"))


def test_frozen_weights_stay_in_a_run(tmp_path):
    write_untrained(tmp_path / "model", hidden_size=32, layers=2)
    write_rows(tmp_path / "rows.jsonl", generate(seed=1, count=20))
    run = burnish.sft(
        model=str(tmp_path / "model"),
        data=str(tmp_path / "rows.jsonl"),
        output=str(tmp_path / "run"),
        max_steps=2,
        adapter={"freeze": ["embed_tokens", r"layers\.0\."]},
    )
    before, after = (load_file(folder / "model.safetensors") for folder in (tmp_path / "model", run.folder / "model"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        frozen = "embed_tokens" in name or "layers.0." in name
        assert torch.equal(tensor, after[name]) == frozen, name
    assert "parameters train" in (run.folder / "log.txt").read_text()
