"""Stages of preferences: what may be written, what runs, whether it resumes, and that the reference leaves no trace."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import burnish
from burnish.builtin.sets import builtin_rows, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.errors import DataError, Interrupted, ModelError, RecipeError
from burnish.losses.preference.registry import PREFERENCE_LOSSES
from burnish.recipe.read import stage_recipe
from burnish.settings.preference_loss import PreferenceLossOptions
from burnish.verbs.evaluate import EvalSettings, read_settings
from burnish.verbs.evaluate_preferences import evaluate_preferences, holds_comparisons
from tests.interrupting import interrupted_at


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    write_rows(folder / "pairs.jsonl", builtin_rows("preferences", count=60))
    write_rows(folder / "test.jsonl", builtin_rows("preferences", "test", count=12))
    write_rows(folder / "chat.jsonl", builtin_rows("chat", count=40))
    labelled = [
        {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
        for row in builtin_rows("preferences", count=40)
        for name in ("chosen", "rejected")
    ]
    write_rows(folder / "labelled.jsonl", labelled)
    ranked = [{"question": f"q{i}", "responses": ["good", f"fair {i}", "bad"], "scores": [3, 2, 1]} for i in range(30)]
    write_rows(folder / "ranked.jsonl", ranked)
    return folder


def run(world: Path, output: Path, data: str = "pairs.jsonl", **settings: object) -> burnish.RunResult:
    given = {"max_steps": 6, "sequences_per_step": 8, "learning_rate": 1e-2, "log_every": 1, **settings}
    return burnish.prefer(model=str(world / "model"), data=str(world / data), output=str(output), **given)


def weights(done: burnish.RunResult) -> dict[str, torch.Tensor]:
    [path] = (done.folder / "model").glob("*.safetensors")
    return load_file(path)


def equal(one: burnish.RunResult, other: burnish.RunResult) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def lines(done: burnish.RunResult, key: str) -> list[float]:
    text = (done.folder / "metrics.jsonl").read_text().splitlines()
    return [line[key] for line in map(json.loads, text) if key in line]


def test_every_option_of_every_loss_can_be_written():
    ours = {"beta", *PreferenceLossOptions.model_fields}
    assert ours == {entry.name for kind in PREFERENCE_LOSSES.values() for entry in fields(kind)}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["loss=dop"], ["loss: dop", "did you mean dpo"]),
        (["loss_options.margin=1"], ["loss_options.margin for the loss dpo, which does not use it"]),
        (["loss=simpo", "loss_options.margin=-1"], ["loss_options.margin: -1", "at least 0"]),
        (["beta=-1"], ["beta", "above 0"]),
        (["loss={dpo: 1, sft: 0.1}", "loss_options.temperature=1"], ["loss_options.temperature for the sum dpo + sft"]),
        (["loss={dpo: 1, kto: 1}"], ["learn from the same groups"]),
        (["loss=simpo", "reference=precomputed_in_memory"], ["reference has no effect", "simpo has no reference"]),
        (["reference=none"], ["dpo compares with a reference"]),
        (["reference=precomputed", "reference_sync_steps=2"], ["computed in each step"]),
        (["reference_sync_alpha=0.5"], ["needs reference_sync_steps"]),
        (["reference_model=x", "reference_sync_steps=2"], ["reference_model is fixed"]),
        (["train_on=everything"], ["compare only responses"]),
        (["eval_data=x", "evaluation.generations=3"], ["preference data have none"]),
        (["loss_options={a: 1}"], ["unknown key loss_options.a"]),
        (["loss=mine.py:loss", "beta=1"], ["beta is an option of built-in losses"]),
        (["filters.identical=keep"], ["filters.identical", "'drop' or 'error'"]),
        (["filters.leak=drop"], ["unknown key", "filters.leak", "did you mean filters.contamination"]),
        (["dpo_beta=0.1"], ["here it is beta"]),
        (["rpo_alpha=1"], ["{dpo: 1, sft: 1}"]),
        (["simpo_gamma=1"], ["here it is loss_options.margin"]),
        (["loss_type=ipo"], ["here it is loss"]),
        (["max_prompt_length=9"], ["max_length"]),
        (["precompute_ref_log_probs=true"], ["reference: precomputed"]),
        (["ref_model=x"], ["reference_model"]),
        (["loss_options.label_smoothing=0.1"], ["label_smoothing for the loss dpo"]),
    ],
)
def test_mistakes(overrides: list[str], words: list[str]):
    with pytest.raises(RecipeError) as error:
        stage_recipe("prefer", {"model": "m", "data": "d"}, overrides)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_stage_is_one_method(tmp_path: Path):
    for stage, words in (({}, "here are none"), ({"sft": {"data": "d"}, "prefer": {"data": "d"}}, "prefer and sft")):
        (tmp_path / "r.yaml").write_text(yaml.safe_dump({"model": "m", "stages": [stage]}))
        with pytest.raises(RecipeError, match=words):
            burnish.run(tmp_path / "r.yaml")


def test_the_resolved_recipe_has_what_the_loss_uses_and_no_other_method(world: Path, tmp_path: Path):
    done = run(world, tmp_path / "run", loss="cdpo", max_steps=1)
    resolved = yaml.safe_load((done.folder / "recipe.yaml").read_text())
    [stage] = resolved["stages"]
    assert list(stage) == ["prefer"]
    chosen = {name: stage["prefer"][name] for name in ("beta", "reference")}
    assert chosen == {"beta": 0.1, "reference": "precomputed"}
    options = stage["prefer"]["loss_options"]
    assert (options["label_smoothing"], options["margin"]) == (0.1, None)


def test_learning_and_its_figures(world: Path, tmp_path: Path):
    done = run(world, tmp_path / "run", eval_data=str(world / "test.jsonl"), max_steps=20, beta=0.3)
    assert lines(done, "train/loss")[0] == pytest.approx(0.693147, rel=1e-4), "at first the policy is its reference"
    assert lines(done, "train/kl")[0] == pytest.approx(0, abs=1e-9)
    before, after = lines(done, "eval/pair_accuracy")
    assert before == 0.5
    assert after > 0.8
    assert lines(done, "eval/pair_accuracy_low")[-1] <= after <= lines(done, "eval/pair_accuracy_high")[-1]
    assert len(lines(done, "eval/pair_accuracy_length_controlled")) == 2
    assert len(lines(done, "eval/pair_accuracy_by_logprob")) == 2
    card = json.loads((done.folder / "data.json").read_text())["stages"][0]["gates"]
    assert sorted(card) == ["held out", "training"]
    assert "Preference filters, training" in (done.folder / "report.html").read_text()
    again = run(world, tmp_path / "run", eval_data=str(world / "test.jsonl"), max_steps=20, beta=0.3)
    assert again.again, "the rows that pass the gate are the same"


RULES = {
    "memory": "precomputed_in_memory",
    "first": "precomputed",
    "again": "precomputed",
    "each": "online",
}
KINDS = {"full": {}, "lora": {"adapter.kind": "lora", "adapter.rank": 4}}


@pytest.mark.parametrize("kind", ["full", pytest.param("lora", marks=pytest.mark.slow)])
def test_a_stored_reference_trains_bit_for_bit_as_a_computed_one(world: Path, tmp_path: Path, monkeypatch, kind: str):
    """Two epochs: in memory, on the disk when it was just made, and when an earlier run has left it."""
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    two = {"max_steps": None, "epochs": 2, **KINDS[kind]}
    runs = {name: run(world, tmp_path / name, reference=rule, **two) for name, rule in RULES.items()}
    assert "cached from an earlier run" in (tmp_path / "again" / "log.txt").read_text()
    assert "cached from an earlier run" not in (tmp_path / "first" / "log.txt").read_text()
    assert equal(runs["memory"], runs["first"])
    assert equal(runs["memory"], runs["again"])
    losses = [lines(runs[name], "train/loss") for name in ("memory", "each")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


SLOW = pytest.mark.slow
QUICK = ("precomputed", "moving", "kto")
RESUMED = {
    "precomputed": {},
    "online": {"reference": "online"},
    "moving": {"reference_sync_steps": 2, "reference_sync_alpha": 0.5},
    "kto": {"loss": "kto", "data": "labelled.jsonl"},
    "kto online": {"loss": "kto", "reference": "online"},
    "lora": {"adapter.kind": "lora", "adapter.rank": 4, "reference": "online"},
    "aot": {"loss": "aot"},
    "no reference": {"loss": "orpo"},
}


@pytest.mark.parametrize("kind", [each if each in QUICK else pytest.param(each, marks=SLOW) for each in RESUMED])
def test_an_interrupted_run_goes_on_bit_for_bit(world: Path, tmp_path: Path, kind: str):
    settings = {"eval_data": str(world / "test.jsonl"), "eval_every": 2, **RESUMED[kind]}
    whole = run(world, tmp_path / "whole", **settings)
    with interrupted_at(4), pytest.raises(Interrupted, match="after step 4"):
        run(world, tmp_path / "cut", **settings)
    resumed = run(world, tmp_path / "cut", **settings)
    assert equal(whole, resumed)
    for key in ("train/loss", "eval/loss", "eval/pair_accuracy", "train/kl"):
        assert lines(whole, key) == lines(resumed, key)


def test_a_moving_reference_is_another_training(world: Path, tmp_path: Path):
    still = run(world, tmp_path / "still", reference="online")
    moving = run(world, tmp_path / "moving", reference_sync_steps=2)
    assert not equal(still, moving)
    kl = lines(moving, "train/kl")
    assert [value == pytest.approx(0, abs=1e-9) for value in kl] == [True, False, True, False, True, False]


@pytest.mark.parametrize(
    "loss",
    ["kto", "plackett_luce", "tpo", "simpo", *(pytest.param(x, marks=SLOW) for x in ("lipo", "orpo", "aot", "ipo"))],
)
def test_losses_of_all_kinds_run(world: Path, tmp_path: Path, loss: str):
    data = {"plackett_luce": "ranked.jsonl", "lipo": "ranked.jsonl", "tpo": "ranked.jsonl", "kto": "labelled.jsonl"}
    done = run(world, tmp_path / "run", data.get(loss, "pairs.jsonl"), loss=loss, max_steps=2)
    assert done.steps == 2
    asked = "the reference is" in (done.folder / "log.txt").read_text()
    assert asked == (loss not in ("simpo", "orpo", "tpo")), "who has no reference pays for none"


def test_a_sum_and_a_loss_of_ones_own(world: Path, tmp_path: Path):
    done = run(world, tmp_path / "sum", loss={"dpo": 1.0, "sft": 0.5}, max_steps=1)
    assert any("sft" in key for key in json.loads((done.folder / "metrics.jsonl").read_text().splitlines()[0]))
    (tmp_path / "mine.py").write_text(
        "from burnish.types import Denominator, LossOutput, LossTerm\n"
        "def loss(scores, microbatch):\n"
        "    ratio = scores.logprob - microbatch.reference_logprobs\n"
        "    return LossOutput({'mine': LossTerm((ratio ** 2).sum(), Denominator.TOKENS)})\n"
    )
    own = run(world, tmp_path / "own", loss=f"{tmp_path / 'mine.py'}:loss", max_steps=2)
    assert lines(own, "train/loss")[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_preferences_after_fine_tuning(world: Path, tmp_path: Path, kind: str):
    """The second stage begins with what the first made, also with its adapter, and has that as its reference."""
    adapter = {"adapter": {"kind": "lora", "rank": 4}} if kind == "lora" else {}
    short = {"max_steps": 3, "sequences_per_step": 8, "learning_rate": 1e-2}
    stages = [
        {"sft": {"data": str(world / "chat.jsonl"), **short}},
        {"prefer": {"data": str(world / "pairs.jsonl"), "eval_data": str(world / "test.jsonl"), **short}},
    ]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"model": str(world / "model"), "stages": stages, **adapter}))
    both = burnish.run(tmp_path / "r.yaml", f"output={tmp_path / 'both'}")
    assert lines(both, "eval/loss")[0] == pytest.approx(0.693147, rel=1e-5), "its reference is what it began with"
    overrides = {f"adapter.{key}": value for key, value in adapter.get("adapter", {}).items()}
    apart = burnish.prefer(
        model=str(tmp_path / "both" / "stages" / "sft" / "model"),
        data=str(world / "pairs.jsonl"),
        output=str(tmp_path / "apart"),
        **short,
        **overrides,
    )
    assert equal(both, apart)


def test_another_model_as_the_reference(world: Path, tmp_path: Path):
    first = run(world, tmp_path / "first", max_steps=2)
    other = str(first.folder / "model")
    stored, computed = (
        run(world, tmp_path / rule, reference_model=other, reference=rule, max_steps=2)
        for rule in ("precomputed", "online")
    )
    assert lines(stored, "train/loss")[0] != pytest.approx(0.693147, rel=1e-4)
    assert lines(stored, "train/loss") == pytest.approx(lines(computed, "train/loss"), rel=1e-4)
    with pytest.raises(ModelError, match="whose tokenizer has other tokens"):
        run(world, tmp_path / "wrong", reference_model="builtin:tiny", max_steps=2)


def test_a_reference_that_changed_under_a_run_is_refused(world: Path, tmp_path: Path):
    other = run(world, tmp_path / "other", max_steps=1).folder / "model"
    settings = {"reference_model": str(other), "reference": "precomputed_in_memory"}
    with interrupted_at(2), pytest.raises(Interrupted):
        run(world, tmp_path / "run", **settings)
    again = run(world, tmp_path / "another", max_steps=3).folder / "model" / "model.safetensors"
    (other / "model.safetensors").write_bytes(again.read_bytes())
    with pytest.raises(burnish.errors.RunError, match="the reference has changed since"):
        run(world, tmp_path / "run", **settings)


def test_data_that_do_not_fit_the_loss(world: Path, tmp_path: Path):
    with pytest.raises(DataError, match="one response with a label"):
        run(world, tmp_path / "a", "labelled.jsonl")
    with pytest.raises(DataError, match="3 responses"):
        run(world, tmp_path / "b", "ranked.jsonl")
    with pytest.raises(DataError, match="such rows are for sft or rl, not for prefer"):
        run(world, tmp_path / "c", "chat.jsonl")


def test_eval_on_pairs(world: Path, tmp_path: Path):
    done = run(world, tmp_path / "run", eval_data=str(world / "test.jsonl"), max_steps=10)
    data = {"data": str(world / "test.jsonl")}

    def measured(**given: object) -> dict[str, object]:
        settings = read_settings(EvalSettings, {**data, **given}, [])
        assert holds_comparisons(settings)
        return evaluate_preferences(str(done.folder), settings).figures()

    against = measured(reference=str(world / "model"))
    assert against["pair_accuracy"] == lines(done, "eval/pair_accuracy")[-1]
    assert against["reward"] == f"log-ratio to {world / 'model'}"
    assert measured()["pair_accuracy"] == lines(done, "eval/pair_accuracy_by_logprob")[-1]
    assert measured(reward="sum")["reward"] == "log-probability of the answer"
    with pytest.raises(RecipeError, match="has no comparisons"):
        holds_comparisons(read_settings(EvalSettings, {"data": str(world / "chat.jsonl"), "reward": "sum"}, []))
