"""Saved adapters load in plain peft, and continue training bit-identically."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from peft.tuners.lora import LoraLayer

from burnish.errors import ModelError
from burnish.export.export import export
from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.attention import plain_attention
from burnish.model.load import load_policy
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.train.step import Trainer
from burnish.types import Group, Response
from tests.adapters import write_base
from tests.model.adapters.cases import CASES, lora

STEPS = 2


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "model")


def rows(seed: int) -> list[Group]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(200, (2, 12), generator=generator)
    learned = torch.ones(8, dtype=torch.bool)
    return [Group(prompt=row[:4], responses=(Response(tokens=row[4:], trainable=learned),)) for row in tokens]


def trained(policy, seeds: list[int]):
    """A step for each seed, by a fresh optimiser: no state but the weights."""
    for seed in seeds:
        settings = OptimizerSettings(learning_rate=1e-2)
        Trainer(policy, Optimizer(policy.trained_parameters(), settings)).step(rows(seed), CrossEntropy(), 100, 1.0)
    return policy


def state(policy) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in policy.trained_parameters()}


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model.eval()(input_ids=torch.arange(1, 20)[None]).logits


def saved(policy, folder: Path) -> Path:
    folder.mkdir()
    export(policy, folder, template=None, end_tokens=[])
    return folder


def start(base: Path, settings: AdapterSettings):
    torch.manual_seed(0)
    return load_policy(str(base), adapter=settings)


@pytest.mark.parametrize("title", CASES)
def test_saved_is_loaded_and_goes_on(base, tmp_path, title):
    settings = CASES[title].settings
    whole, half = (start(base, settings) for _ in range(2))
    trained(whole, [1, 2])
    trained(half, [1])
    assert any(not torch.equal(state(whole)[name], tensor) for name, tensor in state(half).items())
    folder = saved(half, tmp_path / "half")

    again = load_policy(str(folder), adapter=settings)
    assert state(again).keys() == state(half).keys()
    assert all(torch.equal(state(half)[name], tensor) for name, tensor in state(again).items())
    rest = trained(again, [2])
    for name, tensor in state(whole).items():
        assert torch.equal(state(rest)[name], tensor), name

    other = AutoPeftModelForCausalLM.from_pretrained(saved(rest, tmp_path / "rest"))
    with plain_attention(whole.causal_lm):
        assert torch.allclose(logits(other), logits(whole.model), rtol=0, atol=2e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_what_trained_whole_is_saved_and_goes_on(tmp_path, tied):
    base = write_base(tmp_path / "base", tied=tied)
    settings = replace(lora(), modules_to_save=("embed_tokens", "norm"))
    policy = trained(load_policy(str(base), adapter=settings), [1])
    folder = saved(policy, tmp_path / "half")
    other = AutoPeftModelForCausalLM.from_pretrained(folder)
    ends = other.get_base_model().get_input_embeddings(), other.get_base_model().get_output_embeddings()
    assert torch.equal(ends[0].weight, ends[1].weight) == tied
    with plain_attention(policy.causal_lm):
        assert torch.allclose(logits(other), logits(policy.model), rtol=0, atol=2e-5)
    again = load_policy(str(folder), adapter=settings)
    assert all(torch.equal(state(policy)[name], tensor) for name, tensor in state(again).items())


def test_added_tokens_with_an_embedding_that_trains_whole(tmp_path):
    base = write_base(tmp_path / "base")
    policy = load_policy(
        str(base), adapter=replace(lora(), modules_to_save=("embed_tokens",)), add_tokens=("<|im_start|>", "<|im_end|>")
    )
    assert policy.head.new_rows is None
    assert policy.head.weight.requires_grad
    trained(policy, [1])
    other = AutoPeftModelForCausalLM.from_pretrained(saved(policy, tmp_path / "adapter"))
    assert torch.equal(other.get_base_model().get_output_embeddings().weight, policy.head.weight)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rank": 3}, "rank 4"),
        ({"alpha": 3.0}, r"alpha 8\.0"),
        ({"dora": True}, "dora False"),
        ({"rslora": True}, "rslora False"),
        ({"rank_pattern": {"q_proj": 2}}, r"rank_pattern \{\}"),
        ({"targets": "attention"}, "targets down_proj"),
        ({"init": "pissa"}, "init zero"),
        ({"kind": "loha"}, "kind lora"),
    ],
)
def test_it_goes_on_only_as_it_is(base, tmp_path, changes, words):
    folder = saved(load_policy(str(base), adapter=lora()), tmp_path / "adapter")
    with pytest.raises(ModelError, match=words):
        load_policy(str(folder), adapter=replace(lora(), **changes))


def test_a_doubled_adapter_continues_as_plain_lora_by_the_settings(base, tmp_path):
    settings = CASES["PiSSA"].settings
    policy = trained(load_policy(str(base), adapter=settings), [1])
    folder = saved(policy, tmp_path / "adapter")
    plain = load_policy(str(folder), adapter=replace(settings, init="zero", rank=8, alpha=16.0))
    assert sum(p.numel() for _, p in plain.trained_parameters()) == 2 * sum(
        p.numel() for _, p in policy.trained_parameters()
    )


@pytest.mark.parametrize("ranks", [{}, {"q_proj": 2}])
@pytest.mark.parametrize("stabilised", [False, True])
def test_doubling_keeps_every_scale(base, tmp_path, ranks, stabilised):
    settings = replace(CASES["OLoRA"].settings, rank_pattern=ranks, rslora=stabilised, alpha_pattern={"up_proj": 3.0})
    policy = trained(load_policy(str(base), adapter=settings), [1])
    other = AutoPeftModelForCausalLM.from_pretrained(saved(policy, tmp_path / "adapter"))
    mine, theirs = (dict(model.named_modules()) for model in (policy.model, other))
    layers = [name for name, module in mine.items() if isinstance(module, LoraLayer)]
    assert layers
    for name in layers:
        assert theirs[name].scaling["default"] == pytest.approx(mine[name].scaling["default"])
        assert theirs[name].r["default"] == 2 * mine[name].r["default"]
