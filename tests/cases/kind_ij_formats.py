"""Prompts that are messages (kind I), known forms of rows (kind J), and judged rows taken for ordinary ones (fault 7 of
the audit)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .trial import Ended, Row, Trial, case

RL = ["responses_per_prompt=2", "groups_per_step=2", "max_new_tokens=4", "max_steps=1"]


def asked(text: str, system: str = "Be brief.") -> list[Row]:
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def said(text: str) -> Row:
    return {"role": "assistant", "content": text}


def sums(**columns: Any) -> list[Row]:
    """Eight sums as messages; columns are made of the answer."""
    return [
        {"messages": asked(f"{n}+1?"), **{name: make(str(n + 1)) for name, make in columns.items()}} for n in range(8)
    ]


def stage(trial: Trial, kind: str, rows: Sequence[Row], *words: str, model: str = "qwen25") -> Ended:
    data = trial.write("rows.jsonl", *rows)
    return trial.burnish(kind, "--model", trial.model(model), "--data", data, "--output", "run", "max_steps=1", *words)


def generated(trial: Trial, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Lines of `burnish generate`."""
    data = trial.write("rows.jsonl", *rows)
    words = ["--model", trial.model("qwen25"), "--data", data, "--output", "out.jsonl", "max_new_tokens=4"]
    trial.burnish("generate", *words).succeeded()
    return trial.lines("out.jsonl")


def run_rl(trial: Trial, rows: Sequence[Row], reward: str = "number") -> list[dict[str, Any]]:
    stage(trial, "rl", rows, f"reward={reward}", *RL[:3]).succeeded()
    return trial.lines("run/samples.jsonl")


@case("I-14-rl-messages-prompt")
def messages_are_a_prompt(trial: Trial) -> None:
    samples = run_rl(trial, sums(solution=str))
    assert all(sample["reference"] in "12345678" for sample in samples), samples[0]


@case("I-14-generate-messages-prompt")
def messages_are_continued(trial: Trial) -> None:
    lines = generated(trial, sums(solution=str))
    assert [line["reference"] for line in lines] == [str(n + 1) for n in range(8)]
    assert [message["role"] for message in lines[0]["prompt"]] == ["system", "user"]


@case("I-14-one-token")
def one_token_is_a_prompt(trial: Trial) -> None:
    [line] = generated(trial, [{"prompt": "x"}])
    assert line["prompt"] == "x"
    assert len(line["responses"]) == 1


@case("I-neighbor-nested-references")
def nested_references(trial: Trial) -> None:
    """Rows of verl: messages in `prompt`, the reference in an object; and open-instruct's lists of one."""
    ground = sums(ground_truth=lambda answer: [answer], dataset=lambda _: ["gsm8k"])
    assert [line["reference"] for line in generated(trial, ground)] == [str(n + 1) for n in range(8)]
    verl = [
        {
            "data_source": "sums",
            "prompt": row["messages"],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": str(n + 1)},
            "extra_info": {"index": n, "answer": f"It is {n + 1}."},
        }
        for n, row in enumerate(sums())
    ]
    (trial.folder / "out.jsonl").unlink()
    assert [line["reference"] for line in generated(trial, verl)] == [str(n + 1) for n in range(8)]


@case("I-neighbor-few-shot-prompt")
def earlier_answers_are_no_reference(trial: Trial) -> None:
    """An earlier answer in a prompt that ends with the user; `weight` and `train` are rules of learning."""
    shot = [{"role": "user", "content": "7+7?"}, {**said("14"), "weight": 0}]
    lines = generated(trial, [{"messages": [*shot, {"role": "user", "content": "1+1?"}], "answer": "2"}])
    assert lines[0]["reference"] == "2"
    assert len(lines[0]["prompt"]) == 3
    (trial.folder / "out.jsonl").unlink()
    assert generated(trial, [{"messages": shot}])[0]["reference"] == "14"


@case("I-neighbor-two-references")
def two_references_are_not_guessed(trial: Trial) -> None:
    rows = sums(answer=str, ground_truth=lambda answer: answer + "0")
    stage(trial, "rl", rows, "reward=number", *RL[:3]).refused("line 1", "answer and ground_truth", "columns=")


@case("I-neighbor-solution-of-a-text-prompt")
def a_solution_is_the_reference(trial: Trial) -> None:
    rows = [{"prompt": f"{n}+1=", "solution": str(n + 1)} for n in range(4)]
    assert [line["reference"] for line in generated(trial, rows)] == ["1", "2", "3", "4"]


@case("I-neighbor-tools-of-a-prompt")
def tools_of_a_prompt_are_listed(trial: Trial) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    data = trial.write("rows.jsonl", *[{"prompt": row["messages"], "tools": [tool], "answer": "1"} for row in sums()])
    words = ["--model", trial.model("qwen25"), "--data", data, "--output", "run", "reward=number", *RL]
    trial.burnish("rl", *words).succeeded('"name": "weather"')


GPT_PAIRS = [
    {
        "conversations": [{"from": "human", "value": f"Say {n}."}],
        "chosen": {"from": "gpt", "value": f"Gladly: {n}."},
        "rejected": {"from": "gpt", "value": "No."},
    }
    for n in range(4)
]
VERDICTS = [
    {"messages": [{"role": "user", "content": f"Say {n}."}, said(f"Gladly: {n}.")], "label": bool(n % 2)}
    for n in range(4)
]
OPENAI = [
    {
        "input": {"messages": asked(f"Say {n}."), "tools": [], "parallel_tool_calls": True},
        "preferred_output": [said(f"Gladly: {n}.")],
        "non_preferred_output": [said("No.")],
    }
    for n in range(4)
]
PARTS = [
    {
        "messages": [
            {"role": "user", "content": [{"type": "text", "value": f"Say {n}."}], "loss_weight": 0.0},
            {
                "role": "assistant",
                "content": [{"type": "reasoning", "value": "Easy."}, {"type": "text", "value": f"Gladly: {n}."}],
                "loss_weight": 1.0,
            },
        ]
    }
    for n in range(4)
]


@case("J-15-one-object-pairs")
def pairs_beside_a_conversation(trial: Trial) -> None:
    stage(trial, "prefer", GPT_PAIRS).succeeded("Say 0.", "Gladly: 0.", "No.")


@case("J-15-judged-conversations")
def judged_conversations(trial: Trial) -> None:
    stage(trial, "prefer", VERDICTS, "loss=kto").succeeded("Say 0.", "⟦Gladly: 0.")


@case("J-15-openai-preferences")
def openai_preferences(trial: Trial) -> None:
    stage(trial, "prefer", OPENAI).succeeded("Be brief.", "Say 0.", "Gladly: 0.")


@case("J-neighbor-kto-tag")
def judged_by_kto_tag(trial: Trial) -> None:
    rows = [
        {
            "conversations": [{"from": "human", "value": f"Say {n}."}, {"from": "gpt", "value": "No."}],
            "kto_tag": n % 2 == 0,
        }
        for n in range(4)
    ]
    stage(trial, "prefer", rows, "loss=kto").succeeded("⟦No.")


@case("J-neighbor-chosen-messages")
def whole_dialogues(trial: Trial) -> None:
    rows = [
        {
            "chosen_messages": row["messages"],
            "rejected_messages": [
                row["messages"][0],
                {"role": "assistant", "content": [{"type": "text", "value": "No."}]},
            ],
        }
        for row in PARTS
    ]
    stage(trial, "prefer", rows, model="qwen3").succeeded("Gladly: 0.", "No.")


@case("J-neighbor-parts-with-values")
def parts_with_values(trial: Trial) -> None:
    stage(trial, "sft", PARTS, model="qwen3").succeeded("⟦<think> Easy. </think> Gladly: 0.")


@case("J-neighbor-parts-with-calls")
def parts_with_calls(trial: Trial) -> None:
    call = json.dumps({"name": "weather", "arguments": {"town": "Bonn"}})
    answer = {
        "role": "assistant",
        "content": [{"type": "text", "value": "A moment."}, {"type": "tool_call", "value": call}],
    }
    rows = [{"messages": [{"role": "user", "content": [{"type": "text", "value": "Weather?"}]}, answer]}] * 4
    stage(trial, "sft", rows).succeeded("⟦A moment.", '{"name": "weather", "arguments": {"town": "Bonn"}}')


@case("J-neighbor-roles")
def roles_are_called_roles(trial: Trial) -> None:
    rows = [{"prompt": asked("Say it."), "chosen": [{"role": "user", "content": "It."}], "rejected": [said("No.")]}] * 4
    stage(trial, "prefer", rows).refused(
        "chosen begins with a message of the role user", "an answer is the assistant's"
    )


@case("J-neighbor-alpaca-pairs")
def inputs_of_instructions(trial: Trial) -> None:
    rows = [
        {"instruction": "Add.", "input": f"{n}, 1", "chosen": f"{n + 1}", "rejected": f"{n}", "history": [["Hi", "Ho"]]}
        for n in range(4)
    ]
    stage(trial, "prefer", rows).succeeded("Hi", "Ho", "Add. 0, 1")


@case("J-neighbor-ultrafeedback")
def scores_within_responses(trial: Trial) -> None:
    rows = [
        {
            "source": "own",
            "instruction": f"Say {n}.",
            "models": ["a", "b"],
            "completions": [
                {"response": "No.", "overall_score": 2.0, "model": "a"},
                {"response": f"Gladly: {n}.", "overall_score": 8.5, "model": "b"},
            ],
        }
        for n in range(4)
    ]
    stage(trial, "prefer", rows).succeeded("Gladly: 0.")


@case("audit-07-judged-conversations")
def judged_conversations_are_not_learned(trial: Trial) -> None:
    stage(trial, "sft", VERDICTS).refused("messages, label", "prefer or reward, not for sft", "format=chat")


@case("audit-07-pairs-beside-a-conversation")
def context_is_not_learned(trial: Trial) -> None:
    turns = [{"from": "gpt", "value": "EARLIER"}, {"from": "human", "value": "And now?"}]
    rows = [{**row, "conversations": [*row["conversations"], *turns]} for row in GPT_PAIRS]  # type: ignore[misc]
    stage(trial, "sft", rows).refused("prefer or reward, not for sft", "format=chosen")
    stage(trial, "sft", rows, "format=chosen").succeeded("⟦Gladly: 0.")


@case("audit-07-neighbor-other-labels")
def other_labels(trial: Trial) -> None:
    rows = [{"instruction": "Add.", "input": f"{n}, 1", "output": "5", "kto_tag": n % 2 == 0} for n in range(4)]
    stage(trial, "sft", rows).refused("kto_tag", "prefer")
    stage(trial, "prefer", rows, "loss=kto").succeeded("Add. 0, 1")


@case("audit-07-neighbor-prompts-with-references")
def prompts_with_references_are_not_learned(trial: Trial) -> None:
    """Few-shot answers of a prompt would be learned, and the reference not."""
    shot = [{"role": "user", "content": "7+7?"}, said("14"), {"role": "user", "content": "1+1?"}]
    stage(trial, "sft", [{"messages": shot, "ground_truth": "2"}] * 4).refused("rl and generate", "line 1")


@case("audit-07-neighbor-history")
def earlier_turns_are_not_lost(trial: Trial) -> None:
    rows = [{"question": "And now?", "answer": "Yes.", "history": [["Was it?", "No."]]}] * 4
    stage(trial, "sft", rows).refused("history", "a part of the prompt", "alpaca")


@case("K-neighbor-which-column")
def which_column_has_it(trial: Trial) -> None:
    rows = [{"question": f"{n}+1?", "expected_answer": str(n + 1)} for n in range(4)]
    stage(trial, "sft", rows).refused("no column answer; expected_answer looks like it", "answer: expected_answer")
    stage(trial, "rl", rows, "reward=number", *RL[:3]).refused("columns={reference: expected_answer}")


@case("I-neighbor-history-beside-question")
def history_beside_a_question(trial: Trial) -> None:
    rows = [{"question": f"{n}+1?", "answer": str(n + 1), "history": [["Hello", "Good day."]]} for n in range(4)]
    assert [message["role"] for message in generated(trial, rows)[0]["prompt"]] == ["user", "assistant", "user"]


@case("I-neighbor-context-beside-question")
def context_beside_a_question(trial: Trial) -> None:
    rows = [{"question": f"{n}+1?", "answer": str(n + 1), "context": "Add."} for n in range(4)]
    stage(trial, "rl", rows, "reward=number", *RL[:3]).refused("context", "a part of the prompt", "format=task")


@case("J-neighbor-ultrachat")
def messages_beside_their_prompt(trial: Trial) -> None:
    rows = [{"prompt": f"{n}+1?", "prompt_id": str(n), "messages": [*asked(f"{n}+1?"), said("2")]} for n in range(4)]
    lines = generated(trial, rows)
    assert [message["role"] for message in lines[0]["prompt"]] == ["system", "user"]
    assert lines[0]["reference"] == "2"


@case("J-neighbor-flat-tools")
def tools_without_their_wrapping(trial: Trial) -> None:
    tool = {"name": "weather", "description": "d", "parameters": {"type": "object", "properties": {}}}
    rows = [{"messages": [*asked(f"Weather {n}?"), said("Fine.")], "tools": [tool]} for n in range(4)]
    stage(trial, "sft", rows).succeeded('{"type": "function", "function": {"name": "weather"')
