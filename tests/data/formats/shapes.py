"""Rows in the documented shapes of other tools and public data sets; all rows are written here."""

from __future__ import annotations

import json
from collections.abc import Mapping

from burnish.data.records import (
    AnyExample,
    Completion,
    Conversation,
    Document,
    Labelled,
    Message,
    Ranked,
    Stepped,
    Task,
)
from burnish.data.row import Row

user, right, wrong = (
    Message("user", "2+2?"),
    Message("assistant", "4", trained=True),
    Message("assistant", "5", trained=True),
)
U, A, B = (message.as_mapping() for message in (user, right, wrong))
HUMAN, GPT, OTHER = ({"from": name, "value": text} for name, text in (("human", "2+2?"), ("gpt", "4"), ("gpt", "5")))
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CALL = {"name": "add", "arguments": {"a": 2, "b": 2}}
CALLED = Message("assistant", None, {"tool_calls": [{"type": "function", "function": CALL}]}, trained=True)


def parts(role: str, *values: tuple[str, str], weight: float) -> Row:
    """A message in LLaMA-Factory's second form."""
    content = [{"type": name, "value": value} for name, value in values]
    return {"role": role, "content": content, "loss_weight": weight}


talk = Conversation((user, right))
pair = Ranked((user,), ((right,), (wrong,)), (1.0, 0.0))
rated = Ranked((user,), ((right,), (wrong,)), (8.5, 2.0))
judged = Labelled((user,), (wrong,), label=False)
asked = parts("user", ("text", "2+2?"), weight=0.0)
thought = parts("assistant", ("reasoning", "Easy."), ("text", "4"), weight=1.0)
calling = parts("assistant", ("text", "A moment."), ("tool_call", json.dumps(CALL)), weight=1.0)
earlier = parts("assistant", ("text", "4"), weight=0.0)
verl: Row = {
    "data_source": "sums",
    "prompt": [U],
    "ability": "math",
    "reward_model": {"style": "rule", "ground_truth": "4"},
    "extra_info": {"split": "train", "index": 0, "answer": "2+2 is 4."},
}

SHAPES: Mapping[str, tuple[Row, AnyExample]] = {
    "LLaMA-Factory `alpaca_en_demo`": (
        {"instruction": "Add.", "input": "2, 2", "output": "4"},
        Conversation((Message("user", "Add.\n\n2, 2"), right)),
    ),
    "LLaMA-Factory `c4_demo`": ({"text": "Sums."}, Document("Sums.")),
    "LLaMA-Factory `glaive_toolcall_en_demo`": (
        {
            "conversations": [
                HUMAN,
                {"from": "function_call", "value": json.dumps(CALL)},
                {"from": "observation", "value": "4"},
                GPT,
            ],
            "tools": json.dumps([TOOL]),
        },
        Conversation((user, CALLED, Message("tool", "4"), right), (TOOL,)),
    ),
    "LLaMA-Factory `dpo_en_demo`": ({"conversations": [HUMAN], "chosen": GPT, "rejected": OTHER}, pair),
    "LLaMA-Factory `kto_en_demo`": ({"messages": [U, B], "label": False}, judged),
    "LLaMA-Factory, alpaca pairs": (
        {"instruction": "Add.", "input": "2, 2", "chosen": "4", "rejected": "5"},
        Ranked((Message("user", "Add.\n\n2, 2"),), ((right,), (wrong,)), (1.0, 0.0)),
    ),
    "LLaMA-Factory, alpaca with a label": (
        {"instruction": "2+2?", "input": "", "output": "5", "kto_tag": False},
        judged,
    ),
    "LLaMA-Factory, ShareGPT with a label": ({"conversations": [HUMAN, OTHER], "kto_tag": False}, judged),
    "LLaMA-Factory, second form": (
        {"messages": [asked, earlier, asked, thought]},
        Conversation(
            (user, Message("assistant", "4"), user, Message("assistant", "4", {"reasoning_content": "Easy."}, True))
        ),
    ),
    "LLaMA-Factory, second form with calls": (
        {"messages": [asked, calling, parts("tool", ("text", "4"), weight=0.0), thought], "tools": json.dumps([TOOL])},
        Conversation(
            (
                user,
                Message("assistant", "A moment.", CALLED.extra, True),
                Message("tool", "4"),
                Message("assistant", "4", {"reasoning_content": "Easy."}, True),
            ),
            (TOOL,),
        ),
    ),
    "LLaMA-Factory, second form of pairs": (
        {
            "chosen_messages": [asked, parts("assistant", ("text", "4"), weight=1.0)],
            "rejected_messages": [asked, parts("assistant", ("text", "5"), weight=1.0)],
        },
        pair,
    ),
    "TRL language modeling": ({"text": "Sums."}, Document("Sums.")),
    "TRL language modeling, conversational": (
        {"messages": [U, A], "tools": [TOOL]},
        Conversation((user, right), (TOOL,)),
    ),
    "TRL prompt-only": ({"prompt": "2+2="}, Task("2+2=")),
    "TRL prompt-only, conversational": (
        {"prompt": [U], "tools": [TOOL]},
        Task((user,), None, {"tools": [TOOL]}, (TOOL,)),
    ),
    "TRL prompt-completion": ({"prompt": "2+2=", "completion": " 4"}, Completion("2+2=", " 4")),
    "TRL prompt-completion, conversational": ({"prompt": [U], "completion": [A]}, talk),
    "TRL preference": ({"prompt": "2+2=", "chosen": " 4", "rejected": " 5"}, Ranked("2+2=", (" 4", " 5"), (1.0, 0.0))),
    "TRL preference, implicit prompt": ({"chosen": [U, A], "rejected": [U, B]}, pair),
    "TRL unpaired preference": ({"prompt": [U], "completion": [B], "label": False}, judged),
    "TRL stepwise supervision": (
        {"prompt": "2+2=", "completions": ["2+2", "is 5"], "labels": [True, False]},
        Stepped("2+2=", ("2+2", "is 5"), (1.0, 0.0)),
    ),
    "TRL, GRPO with solutions": ({"prompt": [U], "solution": "4"}, Task((user,), "4", {"solution": "4"})),
    "OpenAI chat": ({"messages": [U, {**A, "weight": 1}]}, talk),
    "OpenAI tools": (
        {
            "messages": [
                U,
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": "1",
                            "type": "function",
                            "function": {**CALL, "arguments": json.dumps(CALL["arguments"])},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "1", "content": "4"},
                A,
            ],
            "tools": [TOOL],
            "parallel_tool_calls": False,
        },
        Conversation(
            (
                user,
                Message("assistant", None, {"tool_calls": [{"id": "1", "type": "function", "function": CALL}]}, True),
                Message("tool", "4", {"tool_call_id": "1"}),
                right,
            ),
            (TOOL,),
        ),
    ),
    "OpenAI DPO": (
        {
            "input": {"messages": [U], "tools": [TOOL], "parallel_tool_calls": True},
            "preferred_output": [A],
            "non_preferred_output": [B],
        },
        Ranked((user,), ((right,), (wrong,)), (1.0, 0.0), (TOOL,)),
    ),
    "OpenAI reinforcement": (
        {"messages": [U], "reference_answer": "4"},
        Task((user,), "4", {"reference_answer": "4"}),
    ),
    "UltraFeedback (openbmb)": (
        {
            "source": "own",
            "instruction": "2+2?",
            "models": ["a", "b"],
            "completions": [
                {"model": "a", "principle": "honesty", "response": "4", "overall_score": 8.5, "annotations": {}},
                {"model": "b", "principle": "honesty", "response": "5", "overall_score": 2.0, "annotations": {}},
            ],
            "correct_answers": ["4"],
            "incorrect_answers": ["5"],
        },
        rated,
    ),
    "UltraFeedback (HuggingFaceH4)": (
        {
            "prompt": "2+2?",
            "prompt_id": "0",
            "chosen": [U, A],
            "rejected": [U, B],
            "messages": [U, A],
            "score_chosen": 8.5,
            "score_rejected": 2.0,
        },
        rated,
    ),
    "UltraFeedback (trl-lib)": (
        {"chosen": [U, A], "rejected": [U, B], "score_chosen": 8.5, "score_rejected": 2.0},
        rated,
    ),
    "UltraFeedback (argilla)": (
        {"source": "own", "instruction": "2+2?", "chosen_response": "4", "rejected_response": "5", "chosen_model": "a"},
        pair,
    ),
    "verl": (verl, Task((user,), "4", {name: value for name, value in verl.items() if name != "prompt"})),
    "open-instruct RLVR": (
        {"messages": [U], "ground_truth": ["4"], "dataset": ["gsm8k"]},
        Task((user,), "4", {"ground_truth": ["4"], "dataset": ["gsm8k"]}),
    ),
    "open-instruct preferences": (
        {"id": "0", "source": "own", "prompt": "2+2?", "chosen": [U, A], "rejected": [U, B], "chosen_model": "a"},
        pair,
    ),
}
"""Name of the shape, as in docs/data.md → a row of it, and what it says."""
