"""Several adapters become one: exactly by cat, and as peft says by other ways."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM

from burnish.errors import ModelError
from burnish.export.write import write_model
from burnish.model.adapters.combine import Combination
from tests.adapters import write_adapter, write_base


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/, one/, two/ (of another kind of scale), dora/, other/ (of another base)."""
    folder = tmp_path_factory.mktemp("several")
    write_base(folder / "base")
    write_adapter(folder / "one", folder / "base")
    write_adapter(folder / "two", folder / "base", scale=0.05, use_rslora=True)
    write_adapter(folder / "dora", folder / "base", use_dora=True)
    write_base(folder / "base2")
    write_adapter(folder / "other", folder / "base2")
    return folder


def delta(folder: Path) -> dict[str, torch.Tensor]:
    """What an adapter adds to the weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoPeftModelForCausalLM.from_pretrained(folder)
    layers = {name: module for name, module in model.named_modules() if hasattr(module, "get_delta_weight")}
    return {name: layer.get_delta_weight("default") for name, layer in layers.items()}


@pytest.mark.parametrize("weights", [None, (0.3, -1.5)])
@pytest.mark.parametrize("first", ["one", "two"])
def test_cat_is_the_weighted_sum(place, tmp_path, weights, first):
    second = "two" if first == "one" else "one"
    how = Combination(weights)
    write_model(str(place / first), tmp_path / "sum", form="adapter", others=[str(place / second)], combination=how)
    a, b = weights or (0.5, 0.5)
    one, two, combined = delta(place / first), delta(place / second), delta(tmp_path / "sum")
    assert one.keys() == combined.keys()
    for name, tensor in combined.items():
        assert torch.allclose(tensor, a * one[name] + b * two[name], rtol=0, atol=1e-6), name


def test_into_the_weights(place, tmp_path):
    how = Combination((0.3, 0.7))
    for form in ("adapter", "merged"):
        write_model(str(place / "one"), tmp_path / form, form=form, others=[str(place / "two")], combination=how)
    whole, base = (AutoModelForCausalLM.from_pretrained(folder) for folder in (tmp_path / "merged", place / "base"))
    plain = dict(base.named_parameters())
    for name, tensor in delta(tmp_path / "adapter").items():
        weight = f"{name.removeprefix('base_model.model.')}.weight"
        assert torch.allclose(whole.get_parameter(weight), plain[weight] + tensor, rtol=0, atol=1e-6)
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert "LoRA (rank 8" in card
    assert "combined from one and two" in card


@pytest.mark.parametrize("way", ["svd", "linear", "ties", "dare_linear", "dare_ties"])
def test_other_ways_are_pefts(place, tmp_path, way):
    """And the same every time: what dare leaves out follows the seed."""
    how = Combination((0.5, 0.5), way, rank=8 if way == "svd" else None)
    combined = []
    for number in range(2):
        folder = tmp_path / f"{way}{number}"
        write_model(str(place / "one"), folder, form="adapter", others=[str(place / "one")], combination=how)
        combined.append(delta(folder))
    one = delta(place / "one")
    for name, tensor in combined[0].items():
        assert torch.equal(tensor, combined[1][name])
        if way in ("svd", "linear"):  # of an adapter with itself: the mean, and with linear's cross terms twice that
            assert torch.allclose(tensor, (2 if way == "linear" else 1) * one[name], rtol=0, atol=1e-5), name


@pytest.mark.parametrize(
    ("names", "how", "words"),
    [
        (["one", "dora"], Combination(), "is DoRA"),
        (["one", "other"], Combination(), "one base"),
        (["one", "base"], Combination(), "a whole model"),
        (["one", "two"], Combination((1.0,)), "1 weights for 2 adapters"),
    ],
)
def test_refusals(place, tmp_path, names, how, words):
    first, *others = (str(place / name) for name in names)
    with pytest.raises(ModelError, match=words):
        write_model(first, tmp_path / "out", form="adapter", others=others, combination=how)
    assert not (tmp_path / "out").exists()
