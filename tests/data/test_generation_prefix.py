"""Generation prefix: determined by rendering, part of the prompt's tokens, stored in the task."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.builtin.tiny import make_tokenizer
from burnish.data.generation_prefix import joined, opened_by_template, opened_by_text, without_beginning
from burnish.data.prompts import Prompts
from burnish.data.records import Conversation, Message, Task
from burnish.data.template import Template
from burnish.data.writer import Writer
from burnish.model.open import open_model
from burnish.verbs.evaluate import read_settings
from burnish.verbs.generate import GenerateSettings
from tests.adapters import write_base, write_rows_of

TURNS = "{% for m in messages %}<|{{ m.role }}|>\n{{ CONTENT }}<|end|>\n{% endfor %}"
PLAIN = TURNS.replace("CONTENT", "m.content")
STRIPPED = TURNS.replace("CONTENT", "m.content.split('</think>')[-1]")
EMPTY = "<think>\n\n</think>\n\n"
LAST = "{% if loop.last and m.role == 'assistant' %}" + EMPTY + "{% endif %}"
FILLED = TURNS.replace("{{ CONTENT", LAST + "{{ m.content")
THOUGHT = "{% if m.role == 'assistant' %}<think>{{ m.thought }}</think>{% endif %}"
ALWAYS = TURNS.replace("{{ CONTENT", THOUGHT + "{{ m.content")
TAGS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
REFUSING = "{% if messages[-1].role == 'assistant' %}{{ raise_exception('no') }}{% endif %}" + PLAIN
REWRITING = "{% if messages[-1].role == 'assistant' %}Rewritten. {% endif %}" + PLAIN


def generation_prompt_of(said: str) -> str:
    return "{% if add_generation_prompt %}" + said + "{% endif %}"


HEADER = "<|assistant|>\n"
TEMPLATES = {
    "none is opened": (PLAIN + generation_prompt_of(HEADER), ""),
    "no generation prompt": (PLAIN, ""),
    "opened, and not rendered": (PLAIN + generation_prompt_of(HEADER + "<think>\n"), "<think>\n"),
    "opened, and stripped from messages": (STRIPPED + generation_prompt_of(HEADER + "<think>\n"), "<think>\n"),
    "opened, and closed in messages without a thought": (
        FILLED + generation_prompt_of(HEADER + "<think>\n"),
        "<think>\n",
    ),
    "opened in all messages": (ALWAYS + generation_prompt_of(HEADER + "<think>"), "<think>"),
    "an empty thought, as in messages": (FILLED + generation_prompt_of(HEADER + EMPTY), ""),
    "an empty thought, of the prompt alone": (PLAIN + generation_prompt_of(HEADER + EMPTY), EMPTY),
    "another tag": (PLAIN + generation_prompt_of(HEADER + "<reasoning>"), "<reasoning>"),
    "words": (PLAIN + generation_prompt_of(HEADER + "Let me see. "), "Let me see. "),
    "a role that is a tag": (TAGS + generation_prompt_of("<assistant>"), ""),
    "space alone": (PLAIN + generation_prompt_of(HEADER + " "), ""),
    "answers are refused": (REFUSING + generation_prompt_of(HEADER + "<think>\n"), "<think>\n"),
    "answers are refused, and none is opened": (REFUSING + generation_prompt_of(HEADER), ""),
    "messages are rewritten": (REWRITING + generation_prompt_of(HEADER + "<think>\n"), "<think>\n"),
}


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("roles", [["user"], ["system", "user", "assistant", "user"]], ids=len)
def test_the_prefix_that_a_template_opens(name: str, roles: list[str]) -> None:
    source, expected = TEMPLATES[name]
    writer = Writer(make_tokenizer(), Template(source))
    said = tuple(Message(role, f"Is <think> a tag? {place}") for place, role in enumerate(roles))
    conversation = Conversation(said)
    text = writer.write(conversation, len(said), add_generation_prompt=True)
    assert opened_by_template(conversation, writer, text) == expected
    assert text.endswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2+2? <think>\n", "<think>\n"),
        ("<reasoning>", "<reasoning>"),
        ("Put thoughts after <think>. 2+2?", ""),
        ("<think>a</think>", ""),
        ("A page: <div>", ""),
        ("", ""),
    ],
    ids=str,
)
def test_the_prefix_that_plain_text_opens(text: str, expected: str) -> None:
    assert opened_by_text(text) == expected
    task = without_beginning(Task(text))
    assert (task.prompt, task.generation_prefix) == (text.removesuffix(expected), expected)


def test_a_reasoning_block_is_opened_once() -> None:
    assert joined("<think>\n", "<think>Hm") == "<think>Hm"
    assert joined("<think>\n", "Hm") == "<think>\nHm"
    assert joined("", "Hm") == "Hm"
    assert joined("<think>\n", "") == "<think>\n"


ASKED, BEGUN = Message("user", "2+2?"), Message("assistant", "It is")
CALLING = Message("assistant", None, {"tool_calls": [{"function": {"name": "f", "arguments": {}}}]})


@pytest.mark.parametrize(
    ("said", "count", "expected"),
    [
        ((ASKED, BEGUN), 1, "It is"),
        ((ASKED,), 1, ""),
        ((BEGUN,), 1, ""),
        ((ASKED, CALLING), 2, ""),
        ((ASKED, Message("assistant", "It", {"reasoning_content": "Hm"})), 1, "<think>\nHm\n</think>\n\nIt"),
    ],
)
def test_a_begun_turn_is_no_part_of_the_prompt(said: tuple[Message, ...], count: int, expected: str) -> None:
    task = without_beginning(Task(said))
    assert (len(task.prompt), task.generation_prefix) == (count, expected)


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_base(tmp_path_factory.mktemp("prefix") / "base")
    tokenizer = make_tokenizer()
    tokenizer.chat_template = PLAIN + generation_prompt_of(HEADER + "<think>\n")
    tokenizer.save_pretrained(folder)
    return folder


def prompts_of(model: Path, folder: Path, row: dict[str, object], prefix: str = "") -> Prompts:
    settings = read_settings(GenerateSettings, {"data": str(write_rows_of(folder, row))}, [])
    return settings.prompts(settings.reader(open_model(str(model))), prefix=prefix)


def begun(said: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": said}]


ROWS = {
    "a question": ({"question": "2+2?", "answer": "4"}, "", "<think>\n"),
    "a prefix": ({"question": "2+2?", "answer": "4"}, "Well", "<think>\nWell"),
    "a begun turn": ({"prompt": begun("Hm")}, "", "<think>\nHm"),
    "a begun turn and a prefix": ({"prompt": begun("Hm")}, ", so", "<think>\nHm, so"),
    "a begun thought": ({"prompt": begun("<think>Hm")}, "", "<think>Hm"),
    "plain text": ({"prompt": "2+2="}, "", ""),
    "plain text that opens a thought": ({"prompt": "2+2= <think>", "reference": "4"}, "", "<think>"),
    "plain text and a prefix": ({"prompt": "2+2= <think>"}, " It", "<think> It"),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_prefix_ends_the_tokens_of_the_prompt(thinking: Path, tmp_path: Path, name: str) -> None:
    row, prefix, expected = ROWS[name]
    found = prompts_of(thinking, tmp_path, row, prefix)
    [prompt] = found.tokenized
    text = found.preparation.builder.writer.tokenizer.decode(prompt.tokens.tolist())
    assert prompt.task.generation_prefix == expected
    if isinstance(prompt.task.prompt, str):
        assert text == prompt.task.prompt + expected
    else:
        assert text == f"<|user|>\n2+2?<|end|>\n{HEADER}{expected}", "one turn, which is continued"
        assert [message.role for message in prompt.task.prompt] == ["user"]
