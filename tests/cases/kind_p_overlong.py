"""A first run succeeds although a few rows are too long, and loses nothing silently (point 5)."""

from __future__ import annotations

from .trial import Ended, Trial, case


def _sft(trial: Trial, long: int, count: int = 100) -> Ended:
    rows = [
        {"messages": [{"role": "user", "content": f"{n}+1?"}, {"role": "assistant", "content": str(n + 1) * size}]}
        for n in range(count)
        for size in [400 if n < long else 1]
    ]
    data, model = trial.write("rows.jsonl", *rows), trial.model("chatml")
    return trial.burnish("sft", "--model", model, "--data", data, "--output", "run", "max_steps=1", "max_length=200")


@case("point-5-few-overlong")
def few_long_rows_are_left_out(trial: Trial) -> None:
    _sft(trial, 2).succeeded("98 of 100 rows are usable", "longer than 200 tokens")
    listed = [line["where"] for line in trial.lines("run/unusable.jsonl")]
    assert [place.endswith(f"rows.jsonl line {n}") for n, place in enumerate(listed, 1)] == [True, True], listed


@case("point-5-many-overlong")
def many_long_rows_stop_the_run(trial: Trial) -> None:
    _sft(trial, 3).refused("3 of 100", "2 %", "max_length", "keeps")


@case("point-5-prompts")
def few_long_prompts_are_left_out(trial: Trial) -> None:
    rows = [{"question": f"{n}+1?" * (200 if n == 7 else 1), "answer": str(n + 1)} for n in range(60)]
    data, model = trial.write("rows.jsonl", *rows), trial.model("chatml")
    trial.burnish(
        "generate", "--model", model, "--data", data, "--output", "answers.jsonl", "max_new_tokens=2", "max_length=200"
    ).succeeded("rows.jsonl line 8")
