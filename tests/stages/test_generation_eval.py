"""Held-out questions that a run answers where it evaluates: what is written, and that the run does not notice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import burnish
from burnish.builtin.sets import generate, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.errors import DataError
from burnish.evaluate.generation_eval import GenerationEval
from burnish.model.policy import Model
from burnish.watch.journal_lines import read_samples
from tests.faults.test_kill import figures, weights

ASKED = {"evaluation.generations": 4, "evaluation.max_new_tokens": 6}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    write_rows(folder / "train.jsonl", generate(seed=1, count=40))
    write_rows(folder / "test.jsonl", generate(seed=2, count=10))
    return folder


def train(world: Path, output: Path, **settings: object) -> Path:
    files = {"model": str(world / "model"), "data": str(world / "train.jsonl"), "output": str(output)}
    cadence = {"max_steps": 4, "sequences_per_step": 8, "eval_every": 2, "learning_rate": 1e-2}
    return burnish.sft(**{**files, "eval_data": str(world / "test.jsonl"), **cadence, **settings}).folder


def samples(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def test_what_is_written(world: Path, tmp_path: Path) -> None:
    folder = train(world, tmp_path / "run", **ASKED)
    lines = samples(folder)
    assert set(lines[0]) == {"stage", "step", "index", "prompt", "response", "reference", "correct"}
    assert [record.to_line() for record in read_samples(folder / "samples.jsonl")] == lines
    asked = [line["index"] for line in lines if line["step"] == 0]
    assert len(asked) == 4
    assert [(line["stage"], line["step"], line["index"]) for line in lines] == [
        ("sft", step, index) for step in (0, 2, 4) for index in asked
    ]
    rows = [json.loads(line) for line in (world / "test.jsonl").read_text().splitlines()]
    for line in lines:
        assert (line["prompt"], line["reference"]) == (rows[line["index"]]["question"], rows[line["index"]]["answer"])
        assert line["correct"] == (" ".join(line["response"].split()) == line["reference"])
    measured = {line["step"]: line["eval/accuracy"] for line in figures(folder) if "eval/accuracy" in line}
    assert measured == {step: sum(line["correct"] for line in lines if line["step"] == step) / 4 for step in (0, 2, 4)}
    assert "step 2: held-out loss" in (log := (folder / "log.txt").read_text())
    assert "accuracy 0 %" in log
    assert lines[-1]["prompt"] in (folder / "report.html").read_text().replace("&#39;", "'")


def test_questions_may_be_of_other_data(world: Path, tmp_path: Path) -> None:
    """Also in a stage of preferences, whose rows have no right answer."""
    other = {json.loads(line)["question"] for line in (world / "train.jsonl").read_text().splitlines()}
    folder = train(world, tmp_path / "run", **ASKED, **{"evaluation.prompts_data": str(world / "train.jsonl")})
    assert {line["prompt"] for line in samples(folder)} <= other
    pair = {"chosen": "Yes, gladly.", "rejected": "No."}
    pairs, held_out = tmp_path / "pairs.jsonl", tmp_path / "others.jsonl"
    for path, numbers in ((pairs, range(9)), (held_out, range(9, 15))):
        path.write_text("".join(json.dumps({"prompt": f"{n} or not?", **pair}) + "\n" for n in numbers))
    asked = {**ASKED, "evaluation.prompts_data": str(world / "train.jsonl"), "evaluation.match": "contains"}
    preferred = burnish.prefer(
        model=str(folder),
        data=str(pairs),
        output=str(tmp_path / "second"),
        eval_data=str(held_out),
        max_steps=2,
        **asked,
    ).folder
    assert {line["prompt"] for line in samples(preferred)} <= other
    assert {"eval/accuracy", "eval/pair_accuracy"} <= {name for line in figures(preferred) for name in line}


VARIANTS = {
    "full": {"gradient_checkpointing": True},
    "dropout": {"adapter": {"kind": "lora", "rank": 4, "dropout": 0.3}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_run_does_not_notice(world: Path, tmp_path: Path, variant: str) -> None:
    """Bit for bit the same weights and losses with and without; dropout would show a generator that was touched."""
    asking = train(world, tmp_path / "asking", **VARIANTS[variant], **ASKED)
    silent = train(world, tmp_path / "silent", **VARIANTS[variant])
    assert weights(asking) == weights(silent)
    seen = [{key: line[key] for key in line if key != "eval/accuracy"} for line in figures(asking)]
    assert seen == figures(silent)
    assert not (silent / "samples.jsonl").exists()


def test_the_right_answer_is_counted(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule and the length of answers reach the exam: whatever contains nothing but what it says itself is right."""
    exams: list[GenerationEval] = []
    evaluate = GenerationEval.evaluate

    def noted(self: GenerationEval, policy: Model, *rest: object) -> object:
        exams.append(self)
        return evaluate(self, policy, *rest)

    monkeypatch.setattr(GenerationEval, "evaluate", noted)
    train(world, tmp_path / "run", evaluation={"generations": 99, "match": "contains"}, eval_every=None, max_steps=1)
    assert [(exam.match, exam.max_new_tokens, len(exam.prompts)) for exam in exams] == [("contains", 128, 10)] * 2
    assert all(exam.sampler.end_tokens for exam in exams)


def test_rows_that_ask_nothing(world: Path, tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("A text.")
    with pytest.raises(DataError, match="have no prompts"):
        train(world, tmp_path / "run", eval_data=str(tmp_path / "plain.txt"), **ASKED)
    (tmp_path / "words.jsonl").write_text(json.dumps({"question": "who?", "answer": "she"}))
    with pytest.raises(DataError, match=r"evaluation\.match=number, and no answer"):
        train(
            world, tmp_path / "run", eval_data=str(tmp_path / "words.jsonl"), **ASKED, **{"evaluation.match": "number"}
        )
    assert not (tmp_path / "run").exists()
