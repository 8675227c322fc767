"""The value head: what it begins with, what it reads, what is saved, and that packing leaves no trace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, AutoPeftModelForTokenClassification
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from burnish.errors import ModelError
from burnish.export.export import export
from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.attention import install, plain_attention
from burnish.model.load import load_policy
from burnish.model.policy import Model
from burnish.model.probe import probe
from burnish.model.settings import ValueHeadConfig
from burnish.model.value_head import finalize_padding, value_head_config, with_value_head
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.packing import count_denominators, pack, pack_singly
from burnish.sources.value_targets import value_target_at_end
from burnish.train.step import Trainer, score_joined
from burnish.types import Group, Score
from tests.adapters import write_base
from tests.conftest import make_groups
from tests.families import ROUTES
from tests.suites.loss_cases import CASES, values_at_steps

PAIRS = [(4, [5, 3]), (9, [2, 6]), (3, [4, 4]), (6, [1, 7])]
JUDGED = ("llama-tied", "qwen3-windowed", "gemma-2", "gpt-2", "opt", "falcon")
PADDING = 60
"""A token that ends no row."""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A tokenizer whose padding ends no turn, which that of the tiny model does."""
    folder = write_base(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = "<|system|>"
    tokenizer.save_pretrained(folder)
    return folder


def groups() -> list[Group]:
    return [value_target_at_end(group) for group in make_groups(PAIRS, holes=True)]


def packed(policy: Model) -> Tensor:
    """[responses] (or [responses, K]) values, prompts shared, some split; in the order of the groups."""
    scores, joined = score_joined(policy, policy.pack(groups(), 12), [Score.VALUE])
    order = (joined.sequence_group * 10 + joined.sequence_index).argsort()
    return scores.of(Score.VALUE)[order]


def padded(model: torch.nn.Module, padding: int, side: str = "right") -> Tensor:
    """[responses, K] of the same, as transformers computes a padded batch."""
    rows = [torch.cat([group.prompt, r.tokens]) for group in groups() for r in group.responses]
    longest = max(map(len, rows))
    tokens = torch.full((len(rows), longest), padding)
    mask = torch.zeros_like(tokens)
    for row, each in enumerate(rows):
        place = slice(0, len(each)) if side == "right" else slice(longest - len(each), longest)
        tokens[row, place], mask[row, place] = each, 1
    with torch.no_grad():
        return model.eval()(input_ids=tokens, attention_mask=mask).logits


def save(policy: Model, folder: Path) -> Path:
    folder.mkdir()
    export(policy, folder, template=None, end_tokens=[policy.tokenizer.eos_token_id])
    return folder


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_is_saved_gives_the_same_for_a_padded_batch(base, tmp_path, side):
    policy = load_policy(str(base), head_config=ValueHeadConfig(seed=4))
    folder = save(policy, tmp_path / "saved")
    theirs, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    assert theirs.config.num_labels == 1
    assert tokenizer.pad_token_id == theirs.config.pad_token_id != tokenizer.eos_token_id
    expected = padded(theirs, tokenizer.pad_token_id, side)[:, 0]
    assert float((packed(policy) - expected).abs().max()) < 1e-5
    assert float(expected.std()) > 0.1, "there is something to be equal"


@pytest.mark.parametrize("family", JUDGED)
def test_families_in_float64(float64_model, tmp_path, family):
    """Each with its own way of attending, its own names, and several numbers for each answer."""
    model = float64_model(family)
    install(model)
    fastest = probe(model).route
    reward_model = with_value_head(model, ValueHeadConfig(outputs=2, seed=2))
    reward_model.config.pad_token_id = PADDING
    for route in ROUTES[fastest]:
        found = packed(Model(reward_model, tokenizer=None, route=route))
        with plain_attention(reward_model):
            assert float((found - padded(reward_model, PADDING)).abs().max()) < 1e-10
    with plain_attention(reward_model):
        reward_model.save_pretrained(tmp_path)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    kept = theirs.state_dict()  # frequencies of rotations are no weights: loading computes them anew, rounded otherwise
    assert all(torch.equal(kept[name], tensor) for name, tensor in reward_model.state_dict().items())
    assert found.shape == (8, 2)
    assert probe(reward_model.train()).route is fastest


def test_the_head_begins_by_its_seed(base):
    one, same, other = (
        load_policy(str(base), head_config=ValueHeadConfig(seed=seed)).value_head.weight for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert float(one.detach().std()) == pytest.approx(33**-0.5, rel=0.5)


def nudged(policy: Model) -> Model:
    """An adapter does nothing at its beginning."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in policy.trained_parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(parameter))
    return policy


def test_an_adapter_has_the_head_in_it_and_merges(base, tmp_path):
    policy = nudged(load_policy(str(base), adapter=AdapterSettings(rank=4), head_config=ValueHeadConfig(seed=4)))
    names = [name for name, _ in policy.trained_parameters()]
    assert any("score.modules_to_save" in name for name in names)
    assert not any("score" in name and "lora" in name for name in names)
    folder = save(policy, tmp_path / "saved")
    theirs = AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    theirs.get_base_model().config.pad_token_id = padding = policy.tokenizer.pad_token_id
    assert torch.allclose(packed(policy), padded(theirs, padding)[:, 0], atol=1e-5)
    theirs.merge_and_unload().save_pretrained(tmp_path / "merged")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert torch.allclose(packed(policy), padded(merged, padding)[:, 0], atol=1e-5)


def test_an_adapter_of_a_language_model_continues_with_a_head(base, tmp_path):
    """The stage before was SFT: its adapter learns on, and what is saved is it and the head."""
    lora = AdapterSettings(rank=4)
    writer = nudged(load_policy(str(base), adapter=lora))
    before = save_adapter(writer, tmp_path / "sft")
    policy = load_policy(str(before), adapter=lora, head_config=ValueHeadConfig(seed=4))
    old, new = (dict(each.trained_parameters()) for each in (writer, policy))
    assert set(new) - set(old) == {"base_model.model.score.modules_to_save.default.weight"}
    assert all(torch.equal(old[name], new[name]) for name in old)
    theirs = AutoPeftModelForSequenceClassification.from_pretrained(save(policy, tmp_path / "saved"), num_labels=1)
    theirs.get_base_model().config.pad_token_id = padding = policy.tokenizer.pad_token_id
    assert torch.allclose(packed(policy), padded(theirs, padding)[:, 0], atol=1e-5)
    with pytest.raises(ModelError, match="scores answers, and generates none"):
        load_policy(str(tmp_path / "saved"), adapter=lora)


def save_adapter(policy: Model, folder: Path) -> Path:
    folder.mkdir()
    export(policy, folder, template=None, end_tokens=[])
    return folder


def test_a_reward_model_trains_further_and_generates_nothing(base, tmp_path):
    policy = load_policy(str(base), head_config=ValueHeadConfig(seed=4))
    folder = save(policy, tmp_path / "saved")
    assert not (folder / "generation_config.json").exists()
    again = load_policy(str(folder), head_config=ValueHeadConfig(seed=99))
    assert torch.equal(packed(policy), packed(again))
    assert again.share
    with pytest.raises(ModelError, match="scores answers, and generates none"):
        load_policy(str(folder))
    others = (
        ValueHeadConfig(outputs=2),
        ValueHeadConfig(judged="step"),
        ValueHeadConfig(problem="multi_label_classification"),
    )
    for other in others:
        with pytest.raises(ModelError, match="a reward model with one number for each answer"):
            load_policy(str(folder), head_config=other)


def test_rows_of_added_tokens(base):
    """Embeddings grow, and their rows train with an adapter; the head has no rows of tokens."""
    for adapter in (None, AdapterSettings(rank=4)):
        policy = load_policy(str(base), adapter=adapter, add_tokens=["<|pad|>", "<x>"], head_config=ValueHeadConfig())
        assert packed(policy).isfinite().all()
        assert len(policy.tokenizer) == policy.causal_lm.get_input_embeddings().weight.shape[0]


def test_padding_that_ends_answers_is_replaced_or_refused(base, tmp_path):
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(base)
    with pytest.raises(ModelError, match=r"add_tokens=\['<|pad|>'\]"):
        load_policy(str(base), head_config=ValueHeadConfig())
    policy = load_policy(str(base), add_tokens=["<|pad|>"], head_config=ValueHeadConfig())
    assert policy.tokenizer.pad_token == "<|pad|>"
    assert [note for note in policy.notes if "padding is <|pad|>" in note]
    lines = finalize_padding(policy.causal_lm, policy.tokenizer, [])
    assert lines == []


PACKINGS = {
    "one by one": pack_singly,
    "packed": lambda step: pack(step, 10**6),
    "split prompts": lambda step: pack(step, 12),
    "unshared": lambda step: pack(step, 30, share=False),
}


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize(
    ("name", "outputs"),
    [("reward: bradley_terry", 1), ("reward: step_regression", 1), ("reward: regression of two scores", 2)],
)
def test_invariance(float64_model, name, outputs, adapter):
    """In a reward model, whose value head trains with its adapter. The suite of losses has all losses."""
    loss, step = CASES[name].make(), CASES[name].step(0)
    model = float64_model("llama-tied")
    install(model)
    model = with_value_head(model, ValueHeadConfig(outputs=outputs, seed=3))
    if adapter:
        model = add_adapter(model, AdapterSettings(rank=3)).double()
    policy = nudged(Model(model.train(), tokenizer=None))
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    found = {}
    for packing, made in PACKINGS.items():
        policy.model.zero_grad()
        sums = trainer.accumulate(made(step), loss, count_denominators(step))
        found[packing] = {n: p.grad.clone() for n, p in policy.trained_parameters()}, float(sums["loss"])
    expected, value = found.pop("one by one")
    for gradients, other in found.values():
        assert other == pytest.approx(value, rel=1e-12)
        for parameter, gradient in gradients.items():
            scale = float(expected[parameter].abs().max())
            assert scale > 0, parameter
            assert float((gradient - expected[parameter]).abs().max()) < 1e-11 * scale, parameter


BY_STEP = ValueHeadConfig(seed=4, judged="step", problem="multi_label_classification")


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_reward_model_of_steps_is_saved_and_loads(base, tmp_path, kind):
    """transformers' AutoModelForTokenClassification (or peft's) gives the same at every token, also of padded rows."""
    adapter = AdapterSettings(rank=4) if kind == "lora" else None
    policy = nudged(load_policy(str(base), adapter=adapter, head_config=BY_STEP))
    folder = save(policy, tmp_path / "saved")
    if kind == "lora":
        theirs = AutoPeftModelForTokenClassification.from_pretrained(folder, num_labels=1).eval()
    else:
        theirs = AutoModelForTokenClassification.from_pretrained(folder).eval()
        assert theirs.config.problem_type == "multi_label_classification"
    rows = values_at_steps(0)
    scores, joined = score_joined(policy, policy.pack(rows, 12), [Score.VALUE])
    order = (joined.sequence_group * 10 + joined.sequence_index).argsort()
    parts = scores.of(Score.VALUE).split(joined.sequence_tokens.tolist())
    found = torch.cat([parts[index] for index in order.tolist()])
    logits = by_token(theirs, policy.tokenizer.pad_token_id, rows)
    assert torch.allclose(found, logits, atol=1e-5)
    again = load_policy(str(folder), adapter=adapter, head_config=replace(BY_STEP, seed=9))
    assert value_head_config(again.causal_lm) == replace(BY_STEP, seed=0)
    with pytest.raises(ModelError, match="scores answers, and generates none"):
        load_policy(str(folder), adapter=adapter)


def by_token(model: torch.nn.Module, padding: int, rows: list[Group]) -> Tensor:
    """The values at the scored tokens of all responses, from one padded batch."""
    whole = [(torch.cat([g.prompt, r.tokens]), len(g.prompt), r.trainable) for g in rows for r in g.responses]
    longest = max(len(tokens) for tokens, _, _ in whole)
    batch = torch.full((len(whole), longest), padding)
    mask = torch.zeros_like(batch)
    for row, (tokens, _, _) in enumerate(whole):
        batch[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
    with torch.no_grad():
        logits = model(input_ids=batch, attention_mask=mask).logits[:, :, 0]
    return torch.cat([logits[row, at : at + len(scored)][scored] for row, (_, at, scored) in enumerate(whole)])


def test_several_scores_have_their_names(base, tmp_path):
    named = ValueHeadConfig(outputs=2, seed=4, names=("helpfulness", "verbosity"))
    policy = load_policy(str(base), head_config=named)
    folder = save(policy, tmp_path / "saved")
    theirs = AutoModelForSequenceClassification.from_pretrained(folder)
    assert theirs.config.id2label == {0: "helpfulness", 1: "verbosity"}
    expected = padded(theirs, policy.tokenizer.pad_token_id)
    assert expected.shape == (8, 2)
    assert torch.allclose(packed(policy), expected, atol=1e-5)
    with pytest.raises(ModelError, match=r"2 numbers \(helpfulness, verbosity\) for each answer"):
        load_policy(str(folder), head_config=ValueHeadConfig())
