"""Many turns do not cost their square (kind M)."""

from __future__ import annotations

from .trial import Trial, case


def _characters(trial: Trial, model: str, turns: int) -> int:
    """Characters that the template writes to show one conversation."""
    writer = trial.named("Writer", "burnish.data.writer")
    name = "rendered" if hasattr(writer, "rendered") else "_rendered"
    before, sizes = getattr(writer, name), [0]

    def counted(self: object, *given: object, **named: object) -> str:
        text: str = before(self, *given, **named)
        sizes[0] += len(text)
        return text

    setattr(writer, name, counted)
    try:
        messages = [
            message
            for number in range(turns)
            for message in (
                {"role": "user", "content": f"Step {number}: go"},
                {"role": "assistant", "content": f"did {number} of it"},
            )
        ]
        data = trial.write(f"rows-{turns}.jsonl", {"messages": messages})
        trial.burnish("data", "view", data, "--model", trial.model(model), "overlong=drop").succeeded()
    finally:
        setattr(writer, name, before)
    return sizes[0]


def _grows(trial: Trial, model: str) -> None:
    few, many = _characters(trial, model, 100), _characters(trial, model, 400)
    assert many < 9 * few, f"{few} characters of 100 turns, {many} of 400"


@case("M-25-many-turns")
def turns_of_a_plain_template(trial: Trial) -> None:
    _grows(trial, "qwen25")


@case("M-25-many-turns-rewritten")
def turns_of_a_template_that_rewrites(trial: Trial) -> None:
    _grows(trial, "qwen3")
