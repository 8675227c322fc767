"""Loss masks of gpt-oss (harmony format), word for word, by its own template from trl.

A turn is several messages in channels, the last of which ends with <|return|> or <|call|>. Thoughts of earlier turns
are not shown again.
"""

from __future__ import annotations

import pytest

from burnish.data.records import Conversation, Message
from tests.data import template_stock
from tests.data.test_real_templates import learned, said, samples

pytestmark = pytest.mark.skipif("gptoss" not in template_stock.names(), reason="trl is not installed")


def texts(*messages: Message) -> list[tuple[str, str]]:
    """(context, learned text) of every sample, without the system message, which has the date."""
    tokenizer = template_stock.tokenizer("gptoss")
    pairs = []
    for sample in samples("gptoss", Conversation(messages)):
        [(before, answer)] = learned(sample)
        _, first_user, rest = tokenizer.decode(before).partition("<|start|>user")
        pairs.append((first_user + rest, tokenizer.decode(answer)))
    return pairs


def test_a_turn_with_reasoning_is_learned_with_its_channels_and_end():
    [(before, answer)] = texts(said("user", "q"), said("assistant", "yes", thinking="well"))
    assert before == "<|start|>user<|message|>q<|end|><|start|>assistant"
    assert answer == (
        "<|channel|>analysis<|message|>well<|end|><|start|>assistant<|channel|>final<|message|>yes<|return|>"
    )


@pytest.mark.parametrize("key", ["thinking", "reasoning_content"])
def test_every_turn_is_learned_as_serving_would_see_it(key):
    """The context of the second turn has the first answer without its reasoning."""
    turns = [said("user", "q"), said("assistant", "yes", **{key: "well"})]
    turns += [said("user", "r"), said("assistant", "no", **{key: "hm"})]
    (_, first), (before, second) = texts(*turns)
    assert first.endswith("<|channel|>final<|message|>yes<|return|>")
    assert "well" not in before
    assert before.endswith(
        "<|start|>assistant<|channel|>final<|message|>yes<|end|><|start|>user<|message|>r<|end|><|start|>assistant"
    )
    assert second == (
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>no<|return|>"
    )


def test_a_call_of_a_tool_ends_a_turn():
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    [(_, answer)] = texts(said("user", "q"), Message("assistant", "", {"tool_calls": [call]}, trained=True))
    assert answer == ' to=functions.add<|channel|>commentary json<|message|>{"a": 1}<|call|>'
