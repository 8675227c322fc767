"""What the model of each stage can do: which models are asked, by which rules, and that they are asked once."""

from __future__ import annotations

from pathlib import Path

from burnish.builtin.sets import builtin_rows
from burnish.evaluate.accuracy import Accuracy, AnsweredPrompt
from burnish.verbs import retention as module
from burnish.verbs.evaluate import EvalSettings
from burnish.verbs.retention import Retention, measure_retention


def sampled(said: str, reference: str) -> AnsweredPrompt:
    return AnsweredPrompt(
        prompt="", message_text="", response=said, reference=reference, correct=False, ended=True, row=0
    )


def answers(kind: str) -> list[str]:
    return [str(row["messages"][1]["content"]) for row in builtin_rows("chat", "test") if row["kind"] == kind]


def test_every_question_has_its_kind() -> None:
    kinds = module._kinds()
    for kind in ("fact", "arithmetic", "format"):
        assert {kinds[answer] for answer in answers(kind)} == {kind}


def test_each_kind_has_its_rule(monkeypatch, tmp_path) -> None:
    """A fact stands in the answer, courtesies around it; of arithmetic the result counts; asked in order, once."""
    fact, form = answers("fact")[0], answers("format")[0]
    [first, *_] = (answer for answer in answers("arithmetic") if " = " in answer)
    result = first.rpartition(" ")[2]
    said = [
        sampled(f"Gladly. {fact}", fact),
        sampled("Nobody knows.", fact),
        sampled(f"It is {result}", first),
        sampled(f"{result} and 1000", first),
        sampled(form, form),
    ]
    asked: list[str] = []

    class Found:
        accuracy = Accuracy(0, len(said), tuple(said))

    def evaluate(model: str, settings: EvalSettings) -> Found:
        asked.append(str(Path(model).relative_to(tmp_path)))
        return Found()

    monkeypatch.setattr(module, "evaluate", evaluate)
    earlier = tmp_path / "stages" / "sft"
    (earlier / "model").mkdir(parents=True)
    (earlier / "finished.json").write_text("{}")
    for _ in range(2):
        assert measure_retention(tmp_path, ["sft", "rl"]) == [
            Retention(stage, facts=0.5, arithmetic=0.5, form=1.0, polite=0.5) for stage in ("sft", "rl")
        ]
    assert asked == ["stages/sft/model", "model"]
