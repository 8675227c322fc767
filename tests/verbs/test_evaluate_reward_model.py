"""Stages whose reward models judge steps or give several scores: runs, resumption, `burnish eval`, what is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification, AutoTokenizer

import burnish
from burnish.builtin.sets import builtin_rows, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.cli.main import _status
from burnish.errors import DataError, Interrupted, ModelError, RecipeError
from burnish.export.write import write_model
from burnish.verbs.evaluate import EvalSettings, read_settings
from burnish.verbs.evaluate_reward_model import RewardModelEvalReport, evaluate_reward_model, value_head_to_evaluate
from tests.interrupting import interrupted_at

SCORES = ["helpfulness", "verbosity"]


def stepwise(count: int, seed: int) -> list[dict[str, object]]:
    """A step says itself whether it is right."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        labels = [draw.random() < 0.6 for _ in range(draw.randint(1, 4))]
        steps = [f"step {at} is {'good' if label else 'bad'}." for at, label in enumerate(labels)]
        rows.append({"question": f"q {seed} {number}", "completions": steps, "labels": labels})
    return rows


def scored(count: int, seed: int) -> list[dict[str, object]]:
    """A response says itself how helpful it is; how verbose, nobody can know."""
    draw = random.Random(seed)
    return [
        {
            "prompt": f"q {seed} {i}",
            "response": "yes" if i % 2 else "no",
            "helpfulness": i % 2,
            "verbosity": draw.random(),
        }
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.pad_token = "<|system|>"  # that of the tiny model ends turns
    tokenizer.save_pretrained(folder / "model")
    write_rows(folder / "steps.jsonl", stepwise(160, 0))
    write_rows(folder / "steps-test.jsonl", stepwise(40, 1))
    write_rows(folder / "scores.jsonl", scored(100, 0))
    write_rows(folder / "scores-test.jsonl", scored(40, 1))
    write_rows(folder / "pairs.jsonl", builtin_rows("preferences", count=20))
    return folder


KINDS = {
    "steps": {"loss": "step_cross_entropy", "learning_rate": 5e-3},
    "scores": {"loss": "regression", "scores": SCORES, "learning_rate": 1e-2},
}
LORA = {"adapter.kind": "lora", "adapter.rank": 4}


def run(world: Path, output: Path, kind: str, **settings: object) -> burnish.RunResult:
    given = {"sequences_per_step": 16, "max_steps": 25, "log_every": 1, **KINDS[kind], **settings}
    data, held_out = (str(world / f"{kind}{end}.jsonl") for end in ("", "-test"))
    return burnish.reward(model=str(world / "model"), data=data, eval_data=held_out, output=str(output), **given)


def last(done: burnish.RunResult) -> dict[str, float]:
    return json.loads((done.folder / "metrics.jsonl").read_text().splitlines()[-1])


def evaluated(model: Path, data: Path, *settings: str) -> RewardModelEvalReport:
    head_config = value_head_to_evaluate(str(model))
    assert head_config is not None
    return evaluate_reward_model(str(model), read_settings(EvalSettings, {"data": str(data)}, settings), head_config)


def test_steps_are_learned(world: Path, tmp_path: Path):
    found = last(run(world, tmp_path / "run", "steps", max_steps=60))
    assert found["eval/step_accuracy"] > 0.9
    assert found["eval/first_error_accuracy"] > 0.9
    assert found["eval/first_error_f1"] > 0.9
    assert found["eval/step_accuracy_low"] <= found["eval/step_accuracy"] <= found["eval/step_accuracy_high"]


def test_scores_are_learned(world: Path, tmp_path: Path):
    """What can be known, is; what cannot, is not."""
    found = last(run(world, tmp_path / "run", "scores", max_steps=40))
    assert found["eval/correlation_of_helpfulness_low"] > 0.9
    assert found["eval/absolute_error_of_helpfulness"] < 0.3
    assert abs(found["eval/correlation_of_verbosity"]) < 0.5


@pytest.mark.parametrize("adapter", [{}, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_judges_as_in_training(world: Path, tmp_path: Path, kind: str, adapter: dict[str, object]):
    """`burnish eval` gives the figures of the run's end, also of what `burnish merge` writes."""
    done, data = run(world, tmp_path / "run", kind, max_steps=4, **adapter), world / f"{kind}-test.jsonl"
    wanted = {
        name.removeprefix("eval/"): value for name, value in last(done).items() if "_of_" in name or "step_" in name
    }
    assert wanted
    found = evaluated(done.folder, data)
    assert {name: found.figures()[name] for name in wanted} == pytest.approx(wanted, abs=1e-5)
    assert len(found.samples()) == 40
    assert found.table()[0] == ("responses", "40")
    written = write_model(str(done.folder / "model"), tmp_path / "merged")
    assert evaluated(written.folder, data).figures()["responses"] == 40
    merged = {name: evaluated(written.folder, data).figures()[name] for name in wanted}
    assert merged == pytest.approx(wanted, abs=1e-4)
    card = (written.folder / "README.md").read_text()
    assert ("AutoModelForTokenClassification" in card) == (kind == "steps")
    with pytest.raises(RecipeError, match="a reward model has values"):
        evaluated(done.folder, data, "reward=sum")


def test_transformers_judges_steps_as_burnish_does(world: Path, tmp_path: Path):
    """From text, by somebody who has never heard of Burnish: at the last token of every step."""
    done = run(world, tmp_path / "run", "steps", max_steps=4)
    folder = done.folder / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForTokenClassification.from_pretrained(folder)
    found = evaluated(done.folder, world / "steps-test.jsonl").samples()
    for row, sample in zip(stepwise(40, 1)[:5], found, strict=False):
        text = "\n".join(row["completions"])
        turns = [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": text}]
        whole = tokenizer.apply_chat_template(turns, tokenize=False)
        batch = tokenizer(whole, return_tensors="pt", add_special_tokens=False, return_offsets_mapping=True)
        offsets = batch.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            logits = model.eval()(**batch).logits[0, :, 0]
        ends, at = [], whole.index(text)
        for step in row["completions"]:
            end = whole.index(step, at) + len(step)
            at = end
            ends.append(next(i for i, (start, stop) in enumerate(offsets) if start < end <= stop))
        assert sample["values"] == pytest.approx(logits[ends].tolist(), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_goes_on_bit_for_bit(world: Path, tmp_path: Path, kind: str):
    whole = run(world, tmp_path / "whole", kind, max_steps=6)
    with interrupted_at(3), pytest.raises(Interrupted, match="after step 3"):
        run(world, tmp_path / "cut", kind, max_steps=6)
    resumed = run(world, tmp_path / "cut", kind, max_steps=6)
    one, other = (load_file(each.folder / "model" / "model.safetensors") for each in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert last(whole) == last(resumed)


def test_rows_of_another_kind(world: Path, tmp_path: Path):
    def refused(data: str, words: str, **settings: object) -> None:
        with pytest.raises(DataError, match=words):
            burnish.reward(
                model=str(world / "model"), data=str(world / data), output=str(tmp_path / "x"), max_steps=1, **settings
            )

    refused("steps.jsonl", "which of two responses is better")
    refused("pairs.jsonl", "a label for each step", loss="step_cross_entropy")
    refused("pairs.jsonl", "helpfulness is not", loss="regression", scores=["helpfulness"])


def test_a_reward_model_begins_with_one_of_its_kind(world: Path, tmp_path: Path):
    done = run(world, tmp_path / "run", "steps", max_steps=1)
    again = {"model": str(done.folder), "max_steps": 1, "loss": "step_cross_entropy"}
    burnish.reward(data=str(world / "steps.jsonl"), output=str(tmp_path / "again"), **again)
    with pytest.raises(ModelError, match="one number for each step, the logit of a probability"):
        burnish.reward(data=str(world / "pairs.jsonl"), output=str(tmp_path / "other"), model=str(done.folder))


@pytest.mark.parametrize("kind", KINDS)
def test_the_verbs(world: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]):
    done = run(world, tmp_path / "run", kind, max_steps=1)
    assert _status(["check", str(done.folder / "recipe.yaml")]) == 0
    capsys.readouterr()
    assert _status(["eval", str(done.folder), "--data", str(world / f"{kind}-test.jsonl")]) == 0
    name = "first error accuracy" if kind == "steps" else "correlation of helpfulness"
    assert name in capsys.readouterr().out
