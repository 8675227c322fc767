from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from burnish.data.records import Completion, Conversation, Message
from burnish.data.rendering import Rendering, complete
from burnish.data.rendering import render as render_with
from burnish.data.template import Template, choose_template
from burnish.data.writer import Writer
from burnish.errors import DataError, ModelError

# Writes thinking only in what follows the last user message, as many templates of reasoning models do.
FORGETFUL = """
{%- set last = namespace(user=-1) -%}
{%- for m in messages %}{% if m.role == "user" %}{% set last.user = loop.index0 %}{% endif %}{% endfor -%}
{%- for m in messages -%}
    {{- "<|im_start|>" + m.role + "\n" -}}
    {{- m.content.split("</think>")[-1] if loop.index0 < last.user else m.content -}}
    {{- "<|im_end|>\n" -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ "<|im_start|>assistant\n" }}{% endif -%}
"""
# Its generation prompt opens a thought, which its rendered turns do not have.
FORCING = """
{%- for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor -%}
{%- if add_generation_prompt %}[assistant]<think>{% endif -%}
"""


def render(
    conversation: Conversation, tokenizer: PreTrainedTokenizerBase, template: Template | str
) -> tuple[Rendering, ...]:
    chosen = Template(template) if isinstance(template, str) else template
    return render_with(conversation, Writer(tokenizer, chosen))


def user(content: str) -> Message:
    return Message("user", content)


def assistant(content: str) -> Message:
    return Message("assistant", content, trained=True)


def serve(conversation: Conversation, turn: int, tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """Prompt of a server before message ``turn``."""
    messages = [message.as_mapping() for message in conversation.messages[:turn]]
    return tokenizer.apply_chat_template(messages, chat_template=template, add_generation_prompt=True, tokenize=False)


def test_plain_is_readable(llama_style: PreTrainedTokenizerBase) -> None:
    conversation = Conversation(
        (Message("system", "Be brief."), user("2+2?"), assistant("4"), user("?"), assistant(""))
    )
    (rendering,) = render(conversation, llama_style, choose_template(llama_style))
    expected = "<s>### System:\nBe brief.\n\n### User:\n2+2?\n\n### Assistant:\n4</s>"
    assert rendering.text == expected + "\n\n### User:\n?\n\n### Assistant:\n</s>"
    assert [rendering.text[a:b] for a, b in rendering.spans] == ["4</s>", "</s>"]


def test_plain_writes_no_begin_token_where_there_is_none(byte_level: PreTrainedTokenizerBase) -> None:
    (rendering,) = render(Conversation((user("a"), assistant("b"))), byte_level, choose_template(byte_level))
    assert rendering.text == "### User:\na\n\n### Assistant:\nb<|endoftext|>"


def test_chatml(byte_level: PreTrainedTokenizerBase) -> None:
    (rendering,) = render(Conversation((user("a"), assistant("b"))), byte_level, choose_template(byte_level, "chatml"))
    assert rendering.text == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"


@settings(deadline=None, max_examples=60)
@given(
    contents=st.lists(st.text(max_size=12), min_size=2, max_size=7),
    roles=st.data(),
    template=st.sampled_from(["plain", "chatml", FORGETFUL]),
)
def test_every_turn_is_learned_once_in_the_context_of_serving(
    byte_level: PreTrainedTokenizerBase, contents: list[str], roles: st.DataObject, template: str
) -> None:
    speakers = [roles.draw(st.sampled_from([user, assistant])) for _ in contents]
    conversation = Conversation((user("start"), *(speak(text) for speak, text in zip(speakers, contents, strict=True))))
    source = template if template == FORGETFUL else choose_template(byte_level, template).source
    renderings = render(conversation, byte_level, source)
    learned = [
        (rendering.text[:start], rendering.text[start:stop])
        for rendering in renderings
        for start, stop in rendering.spans
    ]
    expected = []
    for turn in conversation.turns:
        before = serve(conversation, turn, byte_level, source)
        messages = [message.as_mapping() for message in conversation.messages[: turn + 1]]
        whole = byte_level.apply_chat_template(messages, chat_template=source, tokenize=False)
        expected.append((before, whole.removeprefix(before)))
    assert sorted(learned) == sorted(expected)
    for rendering in renderings:
        assert list(rendering.spans) == sorted(rendering.spans)


def test_a_template_that_strips_reasoning_gives_a_rendering_for_each_turn(byte_level: PreTrainedTokenizerBase) -> None:
    thoughtful = Conversation((user("a"), assistant("<think>x</think>b"), user("c"), assistant("<think>y</think>d")))
    first, second = render(thoughtful, byte_level, FORGETFUL)
    assert [first.text[a:b] for a, b in first.spans] == ["<think>x</think>b<|im_end|>\n"]
    assert [second.text[a:b] for a, b in second.spans] == ["<think>y</think>d<|im_end|>\n"]
    assert "<think>x" not in second.text
    thoughtless = Conversation((user("a"), assistant("b"), user("c"), assistant("d")))
    assert len(render(thoughtless, byte_level, FORGETFUL)) == 1


def test_turns_that_overlap_do_not_share(byte_level: PreTrainedTokenizerBase) -> None:
    template = "{% for m in messages %}{{ m.content if loop.last and m.role == 'assistant' }}{% endfor %}"
    renderings = render(Conversation((user(""), assistant("b"), user(""), assistant("bd"))), byte_level, template)
    assert [(rendering.text, rendering.spans) for rendering in renderings] == [("b", ((0, 1),)), ("bd", ((0, 2),))]


def test_one_turn_takes_two_renders(byte_level: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = jinja2.Template.new_context

    def counted(self: jinja2.Template, *args: Any, **kwargs: Any) -> jinja2.runtime.Context:
        calls.append(1)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(jinja2.Template, "new_context", counted)
    writer = Writer(byte_level, choose_template(byte_level))
    render_with(Conversation((user("a"), assistant("b"))), writer)
    calls.clear()  # the first render has asked once how the template wants its content
    render_with(Conversation((user("a"), assistant("b"))), writer)
    assert len(calls) == 2


def test_options_are_variables_of_the_template(byte_level: PreTrainedTokenizerBase) -> None:
    template = Template("{{ documents[0].title if documents }}{{ mood }}{{ messages[0].content }}{{ eos_token }}")
    talk = Conversation((user("a"), assistant("b")))
    assert Writer(byte_level, template).write(talk, 1, add_generation_prompt=False) == "a<|endoftext|>"
    options = {"documents": [{"title": "t"}], "mood": "m", "eos_token": "e"}
    assert Writer(byte_level, template, options).write(talk, 1, add_generation_prompt=False) == "tmae"
    with pytest.raises(DataError, match="multiple values for keyword argument 'tools'"):
        Writer(byte_level, template, {"tools": []}).write(talk, 1, add_generation_prompt=False)


def test_a_generation_prompt_that_forces_something_else_is_refused(byte_level: PreTrainedTokenizerBase) -> None:
    with pytest.raises(DataError, match=r"before messages\[1\] .* writes '<think>', but .* has 'b' there"):
        render(Conversation((user("a"), assistant("b"))), byte_level, FORCING)
    (rendering,) = render(Conversation((user("a"), assistant("<think>b"))), byte_level, FORCING)
    assert rendering.spans == ((len("[user]a[assistant]<think>"), len(rendering.text)),)


def test_reasoning_in_the_content_after_a_prompt_that_opens_it(byte_level: PreTrainedTokenizerBase) -> None:
    """The template strips reasoning from every message; the learned text is the model's own output."""
    template = FORCING.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}.")
    (rendering,) = render(Conversation((user("a"), assistant("<think>x</think> b"))), byte_level, template)
    assert rendering.text == "[user]a.[assistant]<think>x</think> b."
    assert [rendering.text[a:b] for a, b in rendering.spans] == ["x</think> b."]
    reasoned = Message("assistant", "b", {"reasoning_content": "x"}, trained=True)
    (rendering,) = render(Conversation((user("a"), reasoned)), byte_level, template)
    assert rendering.text == "[user]a.[assistant]<think>\nx\n</think>\n\nb."


def test_the_template_for_tools(byte_level: PreTrainedTokenizerBase) -> None:
    template = Template("plain:{{ messages | map(attribute='content') | join }}.", "tools:.")
    talk = Conversation((user("a"), assistant("b")))
    writer = Writer(byte_level, template)
    assert writer.write(talk, 2, add_generation_prompt=False) == "plain:ab."
    with_tools = Conversation(talk.messages, tools=({"name": "f"},))
    assert writer.write(with_tools, 2, add_generation_prompt=False) == "tools:."


def test_tools_reach_the_template(byte_level: PreTrainedTokenizerBase) -> None:
    template = "{{ tools | map(attribute='name') | join }}{% for m in messages %}:{{ m.content }}{% endfor %}"
    conversation = Conversation((user("a"), assistant("b")), tools=({"name": "f"},))
    (rendering,) = render(conversation, byte_level, template)
    assert rendering.text == "f:a:b"


@pytest.mark.parametrize("name", ["plain", "chatml", "llama2", "llama3", "gemma", "mistral"])
@pytest.mark.parametrize(
    "conversation",
    [
        Conversation((user("a"), assistant("b")), tools=({"name": "f"},)),
        Conversation((user("a"), Message("tool", "b"), assistant("c"))),
        Conversation((user("a"), Message("assistant", None, {"tool_calls": [{"function": {}}]}, trained=True))),
        Conversation((user("a"), Message("assistant", "b", {"reasoning_content": "c"}, trained=True))),
    ],
)
def test_builtin_templates_refuse_unsupported_content(
    marked: PreTrainedTokenizerBase, name: str, conversation: Conversation
) -> None:
    with pytest.raises(DataError, match="has no place for"):
        render(conversation, marked, choose_template(marked, name))


@pytest.mark.parametrize(
    ("name", "text", "learned"),
    [
        (
            "llama2",
            "<|endoftext|>[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST] b <|endoftext|>"
            "<|endoftext|>[INST] c [/INST] d <|endoftext|>",
            [" b <|endoftext|>", " d <|endoftext|>"],
        ),
        (
            "llama3",
            "<|endoftext|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\na<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nb<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nc<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nd<|eot_id|>",
            ["b<|eot_id|>", "d<|eot_id|>"],
        ),
        (
            "gemma",
            "<|endoftext|><start_of_turn>user\nS\n\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n"
            "<start_of_turn>user\nc<end_of_turn>\n<start_of_turn>model\nd<end_of_turn>\n",
            ["b<end_of_turn>\n", "d<end_of_turn>\n"],
        ),
        (
            "mistral",
            "<|endoftext|>[INST] S\n\na[/INST] b<|endoftext|>[INST] c[/INST] d<|endoftext|>",
            [" b<|endoftext|>", " d<|endoftext|>"],
        ),
    ],
)
def test_well_known_layouts(marked: PreTrainedTokenizerBase, name: str, text: str, learned: list[str]) -> None:
    talk = Conversation((Message("system", "S"), user("a"), assistant("b"), user("c"), assistant("d")))
    (rendering,) = render(talk, marked, choose_template(marked, name))
    assert rendering.text == text
    assert [rendering.text[a:b] for a, b in rendering.spans] == learned


@pytest.mark.parametrize("name", ["llama2", "gemma", "mistral"])
def test_a_system_message_is_never_lost(marked: PreTrainedTokenizerBase, name: str) -> None:
    for messages in (
        (user("a"), Message("system", "S"), user("b"), assistant("c")),
        (Message("system", "S"), assistant("c")),
    ):
        with pytest.raises(DataError, match="the system"):
            render(Conversation(messages), marked, choose_template(marked, name))


@pytest.fixture(scope="module")
def marked(byte_level: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Tokenizer with the tokens of all built-in templates, and a begin token."""
    copy = deepcopy(byte_level)
    copy.bos_token = "<|endoftext|>"
    tokens = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>"]
    copy.add_special_tokens({"additional_special_tokens": tokens})
    return copy


def test_choice_of_the_template(
    byte_level: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.jinja").write_text(FORGETFUL)
    plain = choose_template(byte_level)
    assert plain == choose_template(byte_level, "plain")
    assert choose_template(byte_level, str(tmp_path / "own.jinja")) == Template(FORGETFUL)
    monkeypatch.setattr(byte_level, "chat_template", "its own")
    assert choose_template(byte_level) == Template("its own")
    assert choose_template(byte_level, "plain") == plain
    monkeypatch.setattr(byte_level, "chat_template", {"default": "one", "rag": "two"})
    assert (choose_template(byte_level), choose_template(byte_level, "rag")) == (Template("one"), Template("two"))
    both = {"default": "one", "tool_use": "with tools"}
    monkeypatch.setattr(byte_level, "chat_template", both)
    assert choose_template(byte_level).saved == both
    assert choose_template(byte_level, "tool_use").saved == "with tools"
    monkeypatch.setattr(byte_level, "chat_template", {"rag": "two"})
    with pytest.raises(ModelError, match=r"several templates \(rag\) and no default"):
        choose_template(byte_level)


def test_templates_that_cannot_be_chosen(llama_style: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no token <\|im_start\|> and no token <\|im_end\|>") as error:
        choose_template(llama_style, "chatml")
    assert "add_tokens=template" in error.value.remedy
    with pytest.raises(ModelError, match="did you mean chatml"):
        choose_template(llama_style, "chatlm")
    (tmp_path / "mine.jinja").write_text("x")
    with pytest.raises(ModelError, match=r"did you mean mine\.jinja"):
        choose_template(llama_style, str(tmp_path / "mime.jinja"))
    (tmp_path / "bad.jinja").write_bytes(b"\xff")
    with pytest.raises(ModelError, match="cannot be read"):
        choose_template(llama_style, str(tmp_path / "bad.jinja"))


def test_a_tokenizer_without_an_end_token_is_refused(llama_style: PreTrainedTokenizerBase) -> None:
    endless = deepcopy(llama_style)
    endless.eos_token = None
    with pytest.raises(ModelError, match="no end token"):
        choose_template(endless)
    with pytest.raises(ModelError, match="no end token"):
        complete(Completion("a", "b"), endless, None)


@pytest.mark.parametrize(
    ("template", "error", "message"),
    [
        ("{% for %}", ModelError, "not valid Jinja.*line 1"),
        ("{{ raise_exception('roles must alternate') }}", DataError, "roles must alternate"),
        ("{{ nothing.at.all }}", DataError, "'nothing' is undefined"),
        ("{{ messages[0].content + 1 }}", DataError, "cannot write the conversation up to messages.0."),
    ],
)
def test_templates_that_fail(
    byte_level: PreTrainedTokenizerBase, template: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        render(Conversation((user("a"), assistant("b"))), byte_level, template)


def test_completions_have_the_tokens_that_the_tokenizer_adds(
    llama_style: PreTrainedTokenizerBase, byte_level: PreTrainedTokenizerBase
) -> None:
    with_begin = complete(Completion("a", " b"), llama_style, None)
    assert (with_begin.text, with_begin.spans) == ("<s>a b</s>", ((4, 10),))
    assert complete(Completion("<s>a", " b</s>"), llama_style, None).text == "<s>a b</s>"
    assert complete(Completion("a", " b"), byte_level, None).text == "a b<|endoftext|>"
