"""What a template drops, against a rendering of every row with every part changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.builtin.tiny import make_tokenizer
from burnish.data.dataset import DatasetSpec
from burnish.data.formats.known import FORMATS
from burnish.data.message_shape import merged_turns, shape_of_message
from burnish.data.read import read_rows
from burnish.data.records import Conversation, Message
from burnish.data.settings import TrainOn
from burnish.data.template import Template
from burnish.data.template_parts import TemplateParts, parts_of
from burnish.data.turn import REASONING_KEYS, render_turn
from burnish.data.writer import Writer
from burnish.errors import DataError
from tests.data import template_stock

NAMES = template_stock.names()
CALL = {"id": "call00000", "type": "function", "function": {"name": "look", "arguments": {"where": "up"}}}
OTHER_CALL = {"id": "call00000", "type": "function", "function": {"name": "peek", "arguments": {"where": "down"}}}
TOOL = {"name": "look", "description": "d", "parameters": {"type": "object", "properties": {}}}


def said(role: str, content: str | None, **extra: object) -> Message:
    return Message(role, content, extra, trained=role == "assistant")


USER, ANSWER = said("user", "a question"), said("assistant", "an answer")
THINKING = said("assistant", "an answer", reasoning_content="a thought")
CALLING = said("assistant", "", tool_calls=[CALL])
RESULT = said("tool", "a result", tool_call_id="call00000", name="look")
ROWS = {
    "plain": Conversation((USER, ANSWER)),
    "system": Conversation((said("system", "be short"), USER, ANSWER)),
    "developer": Conversation((said("developer", "be short"), USER, ANSWER)),
    "system later": Conversation((USER, ANSWER, said("system", "be short"), USER, ANSWER)),
    "reasoning": Conversation((USER, THINKING, said("user", "more"), THINKING)),
    "thought in content": Conversation((USER, said("assistant", "<think>\na thought\n</think>\n\nan answer"))),
    "calls": Conversation((USER, CALLING, RESULT, ANSWER), ({"type": "function", "function": TOOL},)),
    "calls without tools": Conversation((USER, CALLING, RESULT, ANSWER)),
    "text beside a call": Conversation((USER, replace(CALLING, content="I look"), RESULT, ANSWER)),
    "thought before a call": Conversation(
        (USER, replace(CALLING, extra={"tool_calls": [CALL], "reasoning_content": "a thought"}), RESULT, ANSWER)
    ),
    "keys": Conversation((replace(USER, extra={"id": "m1", "name": "Ann"}), ANSWER)),
    "many turns": Conversation((said("system", "be short"), *(USER, ANSWER) * 3, USER, THINKING, *(USER, ANSWER) * 2)),
}


def changes(conversation: Conversation) -> Iterator[tuple[str, int, Conversation]]:
    """(Kind of a part, index of its message, the conversation with another value of it)."""
    for at, message in enumerate(conversation.messages):
        for kind, other in message_changes(message):
            yield (
                kind,
                at,
                replace(conversation, messages=(*conversation.messages[:at], other, *conversation.messages[at + 1 :])),
            )
    if conversation.tools:
        yield (
            "tools",
            -1,
            replace(
                conversation, tools=({"type": "function", "function": {**TOOL, "name": "peek", "description": "e"}},)
            ),
        )


def message_changes(message: Message) -> Iterator[tuple[str, Message]]:
    thought, mark, answer = (message.text or "").rpartition("</think>")
    if mark:
        yield "thought", replace(message, content=f"<think>\nmusing\n</think>{answer}")
    if answer.strip():
        yield "content", replace(message, content=f"{thought}{mark}\n\nsomething else" if mark else "something else")
    for key, value in message.extra.items():
        other: object = [OTHER_CALL] if key == "tool_calls" else f"{str(value)[:-1]}1"
        kind = "calls" if key == "tool_calls" else "reasoning" if key in REASONING_KEYS else key
        yield kind, replace(message, extra={**message.extra, key: other})


def text_of(writer: Writer, conversation: Conversation, at: int) -> str | None:
    count = len(conversation.messages)
    turn = next((i for i in range(max(at, 0), count) if conversation.messages[i].role == "assistant"), count)
    try:
        if turn == count:
            return writer.write(conversation, count, add_generation_prompt=True)
        return render_turn(writer.script(conversation), turn)[1]
    except DataError:
        return None


def whole_text_of(writer: Writer, conversation: Conversation, *, is_prompt: bool) -> str | None:
    count = len(conversation.messages)
    return text_of(writer, conversation, count if is_prompt else count - 1)


@pytest.mark.skipif(not NAMES, reason="trl is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_what_is_dropped_is_what_changes_nothing(name: str) -> None:
    writer = Writer(template_stock.tokenizer(name), Template(template_stock.source(name)))
    parts = parts_of(writer)
    for kind_of_row, conversation in ROWS.items():
        require_what_changes(parts, writer, conversation, "assistant", kind_of_row)
        for count in range(1, len(conversation.messages) + 1):
            prompt = replace(conversation, messages=conversation.messages[:count])
            require_what_changes(parts, writer, prompt, None, f"prompt of {kind_of_row}")


def require_what_changes(
    parts: TemplateParts, writer: Writer, conversation: Conversation, train_on: TrainOn | None, kind_of_row: str
) -> None:
    is_prompt = train_on is None
    texts = {at: text_of(writer, conversation, at) for at in range(-1, len(conversation.messages))}
    whole = whole_text_of(writer, conversation, is_prompt=is_prompt)
    vanishing = {
        (kind, at)
        for kind, at, other in changes(conversation)
        if texts[at] is not None
        and text_of(writer, other, at) == texts[at]
        and whole_text_of(writer, other, is_prompt=is_prompt) == whole
    }
    meanings = ("content", "calls", "tools", *(() if is_prompt else ("thought", "reasoning")))
    said_something = {kind for kind, _ in vanishing if kind in meanings}
    if said_something:
        with pytest.raises(DataError, match="writes nothing of") as caught:
            parts.require_all(conversation, train_on)
        words = {"calls": "tool_calls", "thought": "content before", "reasoning": "reasoning_content"}
        assert any(words.get(kind, kind) in caught.value.given for kind in said_something), kind_of_row
    else:
        parts.require_all(conversation, train_on)
    assert set(parts.unused_keys(conversation, train_on)) == {
        kind for kind, _ in vanishing if kind in ("id", "name", "tool_call_id")
    }, kind_of_row


@pytest.mark.skipif(not NAMES, reason="trl is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_a_chat_that_begins_goes_on(name: str) -> None:
    """A system message, reasoning and thoughts in answers survive the second message, where the first was taken."""
    parts = parts_of(Writer(template_stock.tokenizer(name), Template(template_stock.source(name))))
    for begun in ((said("system", "be short"), USER), (USER,)):
        try:
            parts.require_all(Conversation(begun))
        except DataError:
            continue
        for answer in (ANSWER, THINKING, said("assistant", "<think>\na thought\n</think>\n\nan answer")):
            parts.require_all(Conversation((*begun, answer, USER)))
            parts.require_all(Conversation((*begun, answer, USER, answer, USER)))


LAST_USER = (
    "{% for m in messages %}{% if m.role == 'user' %}[Q]{% if loop.last and messages[0].role == 'system' %}"
    "{{ messages[0].content }}\n{% endif %}{{ m.content }}[/Q]{% elif m.role == 'assistant' %}"
    "{{ m.content.split('</think>')[-1] }}</s>{% endif %}{% endfor %}"
)
"""Mistral's way with system messages, and DeepSeek's with thoughts."""
LAST_CALL = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}"
    "{% if loop.last %}{{ c.function.arguments | tojson }}{% endif %}{% endfor %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
KEYLESS = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def parts_of_source(source: str) -> TemplateParts:
    return parts_of(Writer(make_tokenizer(), Template(source)))


def test_prompts_that_a_template_writes_whole_are_taken() -> None:
    parts = parts_of_source(LAST_USER)
    thinking = said("assistant", "<think>a thought</think>hello")
    system = said("system", "be short")
    for messages in ((system, USER), (system, USER, ANSWER, USER), (USER, thinking, USER), (USER, THINKING, USER)):
        parts.require_all(Conversation(messages))
    for conversation in (Conversation((system, USER, ANSWER)), Conversation((system, USER, ANSWER, USER))):
        with pytest.raises(DataError, match=r"messages\[0\]\.content \(system\) is written in the prompt") as caught:
            parts.require_all(conversation, "assistant")
        assert "into the first user message" in caught.value.remedy
    with pytest.raises(DataError, match="content before </think>"):
        parts.require_all(Conversation((USER, thinking)), "assistant")
    for train_on in ("answers", "tool_calls"):
        parts.require_all(Conversation((USER, thinking)), train_on)
        (remark,) = parts.remarks(Conversation((USER, thinking)), train_on)
        assert "thought" in remark


@pytest.mark.parametrize("key", ["thought", "calls", "content_", "reasoning_", "tools", "key"])
def test_keys_without_meaning_are_no_parts(key: str) -> None:
    parts = parts_of_source(KEYLESS)
    conversation = Conversation((replace(USER, extra={key: "x"}), ANSWER))
    parts.require_all(conversation, "assistant")
    assert parts.unused_keys(conversation, "assistant") == (key,)


def test_every_call_is_written_whole() -> None:
    parts = parts_of_source(LAST_CALL)
    parts.require_all(Conversation((USER, CALLING, RESULT, ANSWER)), "assistant")
    two = replace(CALLING, extra={"tool_calls": [CALL, OTHER_CALL]})
    with pytest.raises(DataError, match="tool_calls"):
        parts.require_all(Conversation((USER, two, RESULT, RESULT, ANSWER)), "assistant")


roles = st.sampled_from(["user", "assistant", "tool", "system"])


@given(st.lists(st.tuples(roles, st.booleans()), min_size=1, max_size=40), st.integers(2, 5))
def test_repeated_turns_have_the_shape_of_few(turns: list[tuple[str, bool]], times: int) -> None:
    """Every shape of a message stays; the last message stays; the number does not grow with repetitions."""
    messages = [said(role, "x", **({"name": "n"} if named else {})) for role, named in turns]
    shapes = [shape_of_message(message) for message in messages]
    kept = merged_turns(shapes)
    assert {shapes[index] for index in kept} == set(shapes)
    assert list(kept) == sorted(set(kept))
    assert kept[-1] == len(shapes) - 1
    turn = [shape_of_message(said("user", "q")), *shapes, shape_of_message(said("assistant", "a"))]
    assert len(merged_turns(turn * times * 10)) <= len(merged_turns(turn * 10))


def test_a_shape_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand turns are rendered as often as ten, and a second row of the same shape not at all."""
    name = "qwen3"
    renderings: list[int] = []
    original = Writer.rendered

    def counted(self: Writer, *given: object, **named: object) -> str:
        renderings.append(1)
        return original(self, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Writer, "rendered", counted)
    counts = []
    for turns in (10, 1000):
        writer = Writer(template_stock.tokenizer(name), Template(template_stock.source(name)))
        assert writer.forms.developer == "system"
        renderings.clear()
        parts_of(writer).require_all(Conversation((USER, ANSWER) * turns), "assistant")
        counts.append(len(renderings))
        parts_of(writer).require_all(
            Conversation((said("user", "other"), said("assistant", "words")) * turns), "assistant"
        )
        assert len(renderings) == counts[-1]
    assert counts[0] == counts[1] > 0


def test_choices_of_what_is_trained_allow_what_they_do_not_learn() -> None:
    writer = Writer(template_stock.tokenizer("qwen2_5"), Template(template_stock.source("qwen2_5")))
    parts = parts_of(writer)
    conversation = Conversation((USER, THINKING))
    for train_on in ("assistant", "last", "reasoning", "everything"):
        with pytest.raises(DataError, match=r"messages\[1\]\.reasoning_content \(assistant\)") as caught:
            parts.require_all(conversation, train_on)
        assert "train_on=answers" in caught.value.remedy
    for train_on in ("answers", "tool_calls"):
        parts.require_all(conversation, train_on)
        (remark,) = parts.remarks(conversation, train_on)
        assert "reasoning" in remark


@pytest.mark.skipif(not NAMES, reason="trl is not installed")
@pytest.mark.parametrize("name", ["qwen3", "qwen2_5", "glm4moe"])
def test_the_renderings_of_new_shapes_are_few(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of agents of another shape costs about one rendering, once its kinds of turns are known."""
    thought = replace(CALLING, extra={"tool_calls": [CALL], "reasoning_content": "a thought"})
    step, thinking = (replace(CALLING, extra={**CALLING.extra, "id": "m1"}), RESULT), (thought, RESULT)

    def agent(*steps: int) -> Conversation:
        turns = [(USER, *(step, thinking)[at % 2] * count, ANSWER) for at, count in enumerate(steps)]
        return Conversation(tuple(message for turn in turns for message in turn))

    writer = Writer(template_stock.tokenizer(name), Template(template_stock.source(name)))
    parts = parts_of(writer)
    parts.require_all(agent(1, 1, 2, 2, 1, 1), "answers")
    parts.require_all(agent(2, 2, 1, 2), "answers")
    renderings: list[int] = []
    original = Writer.rendered

    def counted(self: Writer, *given: object, **named: object) -> str:
        renderings.append(1)
        return original(self, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Writer, "rendered", counted)
    for steps in ((1, 2, 2, 1), (2, 1, 1, 1), (1, 2, 1, 1), (2, 1, 2, 2, 1, 2)):
        renderings.clear()
        parts.require_all(agent(*steps), "answers")
        assert len(renderings) <= 4


def test_remarks_count_rows(tmp_path: Path) -> None:
    """A pair of answers is one row."""
    pair = {
        "prompt": [{"role": "developer", "content": "be short"}, {"role": "user", "content": "q"}],
        "chosen": [{"role": "assistant", "content": "a"}],
        "rejected": [{"role": "assistant", "content": "b"}],
    }
    path = tmp_path / "pairs.jsonl"
    path.write_text(f"{json.dumps(pair)}\n" * 3)
    template = Template("{% for m in messages if m.role != 'developer' %}" + KEYLESS.partition("%}")[2])
    spec = DatasetSpec.of(
        read_rows(str(path)),
        make_tokenizer(),
        template,
        format=FORMATS["preference"],
        comparison="pairs",
        max_length=200,
    )
    ((said_of_rows, count),) = spec.whole().report.remarks
    assert "developer" in said_of_rows
    assert count == 3
