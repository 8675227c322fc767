"""Text from outside that is no text (kind H)."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .trial import Trial, case

HALF = "\\ud800"


@contextmanager
def piped(data: bytes, encoding: str = "utf-8") -> Iterator[None]:
    """Standard input with these bytes."""
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(data), encoding=encoding)
    try:
        yield
    finally:
        sys.stdin = before


@case("H-chat-pipe")
def a_line_that_is_no_text_is_refused(trial: Trial) -> None:
    model = trial.model("chatml")
    with piped("Gr\u00fc\u00dfe\n".encode("latin-1") + b"Hello\n"):
        ended = trial.burnish("chat", model, "max_new_tokens=3")
    ended.succeeded("line 1", "UTF-8", "truncated after 3 tokens")


@case("H-half-surrogate-nested")
def half_a_surrogate_in_arguments(trial: Trial) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": f'{{"a": "{HALF}"}}'}}
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    good = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    data = trial.write("rows.jsonl", good, {"messages": turns})
    model = trial.model("qwen25")
    ended = trial.burnish("sft", "--model", model, "--data", data, "--output", "run", "max_steps=1")
    ended.refused("rows.jsonl line 2", "surrogate")


@case("H-half-surrogate-left-out")
def half_a_surrogate_is_an_invalid_row(trial: Trial) -> None:
    good = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    data = trial.write("rows.jsonl", good, f'{{"messages": "{HALF}"}}\n')
    model = trial.model("qwen25")
    trial.burnish(
        "sft", "--model", model, "--data", data, "--output", "run", "max_steps=1", "max_invalid_fraction=0.5"
    ).succeeded("1 rows cannot be used")


@case("H-reward-model")
def a_reward_model_scores_no_half_surrogate(trial: Trial) -> None:
    tokenize = trial.named("tokenize", "burnish.data.tokenize")
    complete = trial.named("complete", "burnish.data.rendering")
    completion = trial.named("Completion", "burnish.data.records")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trial.model("chatml"))
    rendering = complete(completion("2+2=", " \ud800"), tokenizer, None)
    (found,) = tokenize([rendering], tokenizer)
    assert isinstance(found, Exception)
    assert "surrogate" in str(found)
