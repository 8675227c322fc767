"""What a set says of itself (kind L): held-out rows that are trained, empty answers, one kind of label."""

from __future__ import annotations

from .trial import Ended, Trial, case

SUMS = [{"question": f"{n}+1?", "answer": f"{n + 1}"} for n in range(8)]
RL = ["reward=number", "responses_per_prompt=2", "groups_per_step=2", "max_new_tokens=4"]


def run(trial: Trial, stage: str, *words: str, model: str = "chatml") -> Ended:
    data = str(trial.folder / "train.jsonl")
    return trial.burnish(stage, "--model", trial.model(model), "--data", data, "--output", "run", "max_steps=1", *words)


@case("L-20-held-out-is-trained-sft")
def held_out_rows_are_trained(trial: Trial) -> None:
    trial.write("train.jsonl", *SUMS)
    held_out = trial.write("held-out.jsonl", *SUMS[:3], {"question": "9+1?", "answer": "10"})
    run(trial, "sft", "--eval-data", held_out, "sequences_per_step=8").succeeded(
        "3 of 4 held-out rows are also trained", "held-out.jsonl line 1, "
    )


@case("L-20-held-out-is-trained-rl")
def held_out_prompts_are_trained(trial: Trial) -> None:
    trial.write("train.jsonl", *SUMS)
    held_out = trial.write("held-out.jsonl", *SUMS[:3], {"question": "9+1?", "answer": "10"})
    run(trial, "rl", "--eval-data", held_out, *RL, model="qwen25").succeeded("3 of 4 held-out rows are also trained")


@case("L-neighbor-another-answer")
def held_out_questions_are_trained(trial: Trial) -> None:
    trial.write("train.jsonl", *SUMS)
    held_out = trial.write("held-out.jsonl", *[{**row, "answer": "It is so."} for row in SUMS[:2]])
    ended = run(trial, "sft", "--eval-data", held_out, "sequences_per_step=8")
    ended.succeeded("2 of 2 held-out rows have a prompt that is trained with another answer")
    assert "are also trained" not in ended.text


def talk(question: str, *answers: str) -> dict[str, object]:
    turns = [[{"role": "user", "content": question}, {"role": "assistant", "content": answer}] for answer in answers]
    return {"messages": [message for turn in turns for message in turn]}


@case("L-21-empty-answers-jsonl")
def empty_answers_are_counted(trial: Trial) -> None:
    trial.write("train.jsonl", *[talk(f"{n}+1?", "" if n % 2 else str(n + 1)) for n in range(8)])
    run(trial, "sft", "sequences_per_step=8").succeeded("4 rows have an empty answer", "train.jsonl line 2")


@case("L-21-empty-answers-csv")
def empty_cells_are_counted(trial: Trial) -> None:
    data = trial.write("rows.csv", "question,answer\n1+1?,2\n2+1?,\n3+1?,\n")
    ended = trial.burnish("data", "profile", data, "--model", trial.model("chatml"))
    ended.succeeded("2 rows have an empty answer")


@case("L-neighbor-one-empty-turn")
def an_empty_turn_among_others(trial: Trial) -> None:
    """White space, an empty turn among others, a template that writes an empty thought, plain text."""
    trial.write("train.jsonl", talk("1+1?", "2", "", "2"), talk("1+1?", " \n"), talk("1+1?", "2"), talk("2+1?", "3"))
    run(trial, "sft", "sequences_per_step=4").succeeded("2 rows have an empty answer")
    trial.write("train.jsonl", talk("1+1?", ""), talk("1+1?", "2"))
    (trial.folder / "run").rename(trial.folder / "first")
    run(trial, "sft", "sequences_per_step=2", model="qwen3").succeeded("1 rows have an empty answer")
    trial.write("train.jsonl", {"prompt": "1+1=", "completion": ""}, {"prompt": "1+1=", "completion": "2"})
    (trial.folder / "run").rename(trial.folder / "second")
    run(trial, "sft", "sequences_per_step=2").succeeded("1 rows have an empty answer")


@case("L-neighbor-empty-references")
def empty_references_are_counted(trial: Trial) -> None:
    rows = [{**row, "answer": "" if n < 2 else row["answer"]} for n, row in enumerate(SUMS)]
    data = trial.write("train.jsonl", *rows)
    words = ["--model", trial.model("qwen25"), "--data", data, "--output", "out.jsonl", "max_new_tokens=2"]
    trial.burnish("generate", *words).succeeded("6 with a reference", "2 rows have an empty reference")


@case("L-neighbor-one-kind-of-label")
def one_kind_of_label(trial: Trial) -> None:
    trial.write("train.jsonl", *[{"question": f"Say {n}.", "completion": f"{n}", "label": True} for n in range(4)])
    run(trial, "prefer", "loss=kto").succeeded("all 4 rows have the label true")
