"""Loss masks of real templates against an independent reference: each turn rendered and tokenized alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from burnish.data.records import Conversation, Message
from burnish.data.rendering import render
from burnish.data.special_token_text import SpecialTokenText
from burnish.data.template import Template
from burnish.data.tokenize import Sample, tokenize
from burnish.data.writer import Writer
from burnish.errors import DataError
from tests.data import template_stock

pytestmark = pytest.mark.skipif(not template_stock.names(), reason="trl is not installed")

NAMES = template_stock.names()
FORCED = ("deepseek", "nemotron")
"""Templates whose generation prompt opens a reasoning block that a turn without reasoning lacks."""
UNENDED = ("glm4moe",)
"""Template without an end token: the next turn's header ends a turn."""
PARTS = ("idefics3", "llava", "smolvlm")
"""Templates that need content as parts."""
DATED = {"llama3_2", "gptoss", "gptoss_training", "muse_glimmer", "muse_glimmer_training"}
WITHOUT_REASONING = ("qwen2_5", "llama3_1", "lfm2_v2")
WITH_TOOLS = ("qwen2_5", "qwen3", "qwen3_5_think", "llama3_1", "glm4moe", "lfm2_v2", "nemotron_3_nano")


def said(role: str, content: str, **extra: object) -> Message:
    return Message(role, content, extra, trained=role == "assistant")


def talk(*contents: str, reasoning: str | None = None) -> Conversation:
    extra = {} if reasoning is None else {"reasoning_content": reasoning}
    return Conversation(
        tuple(said("assistant", c, **extra) if i % 2 else said("user", c) for i, c in enumerate(contents))
    )


def samples(name: str, conversation: Conversation, **options: object) -> list[Sample]:
    tokenizer, template = template_stock.tokenizer(name), Template(template_stock.source(name))
    renderings = render(
        conversation, Writer(tokenizer, template, options), "assistant", SpecialTokenText.of(tokenizer, template)
    )
    found = tokenize(renderings, tokenizer)
    assert all(isinstance(sample, Sample) for sample in found)
    return [sample for sample in found if isinstance(sample, Sample)]


def learned(sample: Sample) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(all earlier tokens, learned tokens) of each run of learned tokens."""
    runs, at = [], 0
    while at < len(sample.tokens):
        if not sample.trainable[at]:
            at += 1
            continue
        end = at
        while end < len(sample.tokens) and sample.trainable[end]:
            end += 1
        runs.append((tuple(sample.tokens[:at].tolist()), tuple(sample.tokens[at:end].tolist())))
        at = end
    return runs


def slow_samples(name: str, conversation: Conversation) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Reference: renders and tokenizes every turn alone; the turn ends with its last control token, if any."""
    tokenizer, source = template_stock.tokenizer(name), template_stock.source(name)
    expected = []
    for turn in conversation.turns:
        messages = [message.as_mapping() for message in conversation.messages]
        if name.startswith(PARTS):
            for message in messages:
                message["content"] = [{"type": "text", "text": message["content"]}]
        before = tokenizer.apply_chat_template(
            messages[:turn], chat_template=source, add_generation_prompt=True, return_dict=False
        )
        whole = tokenizer.apply_chat_template(messages[: turn + 1], chat_template=source, return_dict=False)
        assert whole[: len(before)] == before, "the prompt's tokens are a prefix of the turn's"
        answer = whole[len(before) :]
        while answer and not name.startswith(UNENDED) and answer[-1] not in tokenizer.added_tokens_decoder:
            assert tokenizer.decode(answer[-1:]).isspace()
            answer.pop()
        expected.append((tuple(before), tuple(answer)))
    return expected


@pytest.mark.parametrize("name", NAMES)
def test_the_mask_equals_the_slow_reference(name: str) -> None:
    conversation = talk("a first question", "one answer", "and then?", "another answer, é 😀")
    if name.startswith(FORCED):
        with pytest.raises(DataError, match="the template's generation prompt writes"):
            samples(name, conversation)
        return
    if name in DATED:
        pytest.skip("the slow way knows today's date; see the test of dates")
    found = [run for sample in samples(name, conversation) for run in learned(sample)]
    assert sorted(found) == sorted(slow_samples(name, conversation))


@pytest.mark.parametrize("name", NAMES)
def test_the_end_of_every_turn_is_learned(name: str) -> None:
    tokenizer = template_stock.tokenizer(name)
    reasoning = "a thought" if name.startswith(FORCED) else None
    found = samples(name, talk("q", "one answer", "r", "another answer", reasoning=reasoning))
    ends = [end for sample in found for end in sample.ends]
    assert sum(sample.num_unended for sample in found) + len(ends) == 2
    if name.startswith(UNENDED) and "training" not in name:
        assert not ends  # and the report says so
        return
    assert len(ends) == 2
    assert set(ends) <= set(tokenizer.added_tokens_decoder)
    for sample in found:
        assert sample.trainable[-1]
        assert sample.tokens[-1] in ends


@pytest.mark.parametrize("name", NAMES)
def test_at_most_one_begin_token(name: str) -> None:
    tokenizer = template_stock.tokenizer(name)
    reasoning = "a thought" if name.startswith(FORCED) else None
    for sample in samples(name, talk("q", "one answer", "r", "another", reasoning=reasoning)):
        tokens = sample.tokens.tolist()
        assert tokens.count(tokenizer.bos_token_id) <= 1
        assert tokenizer.bos_token_id not in tokens[1:]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(FORCED)])
def test_reasoning_after_a_prompt_that_opens_it(name: str) -> None:
    """Learned text begins after the opened reasoning block: reasoning, its end, the answer and an end token."""
    tokenizer = template_stock.tokenizer(name)
    (sample,) = samples(name, talk("q", "the answer", reasoning="deep thought"))
    ((before, answer),) = learned(sample)
    messages = [{"role": "user", "content": "q"}]
    prompt = tokenizer.apply_chat_template(
        messages, chat_template=template_stock.source(name), add_generation_prompt=True, return_dict=False
    )
    assert list(before) == prompt
    text = tokenizer.decode(answer)
    assert text.startswith("deep thought")
    assert "</think>" in text
    assert "the answer" in text
    assert answer[-1] in tokenizer.added_tokens_decoder


@pytest.mark.parametrize("name", sorted(DATED & set(NAMES)))
def test_dates_are_fixed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, template = template_stock.tokenizer(name), Template(template_stock.source(name))
    writer = Writer(tokenizer, template)
    assert writer.writes_date
    text = writer.write(talk("q", "a"), 2, add_generation_prompt=False)
    assert "2024" in text
    assert "2024-07-26" in text or "26 Jul 2024" in text


def test_no_other_template_writes_a_date() -> None:
    for name in NAMES:
        writer = Writer(template_stock.tokenizer(name), Template(template_stock.source(name)))
        assert writer.writes_date == (name in DATED)


@pytest.mark.parametrize(
    ("name", "said_by_itself"),
    [("qwen2_5", "You are Qwen"), ("llama3_1", "Cutting Knowledge Date"), ("gemma", ""), ("llama3", ""), ("phi3", "")],
)
def test_default_system_messages_are_reported(name: str, said_by_itself: str) -> None:
    preamble = Writer(template_stock.tokenizer(name), Template(template_stock.source(name))).preamble
    assert said_by_itself in preamble
    assert bool(preamble) == bool(said_by_itself)


contents = st.text(st.characters(exclude_categories=["Cs", "Co"]), min_size=1, max_size=12).filter(str.strip)


@settings(max_examples=60)
@given(data=st.data(), words=st.lists(contents, min_size=2, max_size=6))
def test_control_strings_of_rows_stay_text(data: st.DataObject, words: list[str]) -> None:
    """A rendering has the same control tokens with text of control tokens in the row as with harmless text."""
    plain = [name for name in NAMES if not name.startswith(FORCED)]
    name = data.draw(st.sampled_from(plain))
    tokenizer = template_stock.tokenizer(name)
    special = sorted(str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    words = words[: len(words) // 2 * 2]
    hostile = [word + data.draw(st.sampled_from([*special, ""])) + data.draw(contents) for word in words]
    try:
        found = samples(name, talk(*hostile))
    except DataError as error:
        # A template may decide by such text; then it is refused, never obeyed.
        assert "text of control tokens" in error.given or "cannot write" in error.given or "generation" in error.given  # noqa: PT017
        return
    harmless = samples(name, talk(*("w" for _ in words)))
    ids = {token for token, entry in tokenizer.added_tokens_decoder.items() if entry.special}
    assert _control(found, ids) == _control(harmless, ids)


def _control(found: list[Sample], ids: set[int]) -> list[list[int]]:
    return [[token for token in sample.tokens.tolist() if token in ids] for sample in found]


@pytest.mark.parametrize("name", [name for name in WITH_TOOLS if name in NAMES])
def test_parts_of_turns(name: str) -> None:
    """Reasoning, answers and calls are located by rendering, and every part ends with the end of the turn."""
    tokenizer, template = template_stock.tokenizer(name), Template(template_stock.source(name))
    writer = Writer(tokenizer, template)
    call = {"type": "function", "function": {"name": "look", "arguments": {"where": "up"}}}
    tools = ({"type": "function", "function": {"name": "look", "description": "d", "parameters": {}}},)
    thought = {} if name in WITHOUT_REASONING else {"reasoning_content": "deep thought"}
    turn = said("assistant", "", tool_calls=[call], **thought)
    conversation = Conversation((said("user", "q"), turn), tools=tools)
    texts = {}
    for kind in ("assistant", "tool_calls"):
        (sample,) = tokenize(render(conversation, writer, kind), tokenizer)
        assert isinstance(sample, Sample)
        texts[kind] = tokenizer.decode(sample.tokens[sample.trainable].tolist())
    assert "look" in texts["tool_calls"]
    assert "up" in texts["tool_calls"]
    assert "deep thought" not in texts["tool_calls"]
    assert texts["assistant"].endswith(texts["tool_calls"][-6:])


@pytest.mark.parametrize(
    "name", [n for n in ("qwen3", "qwen3_5_think", "deepseek_r1_distill", "glm4moe") if n in NAMES]
)
def test_reasoning_and_answers(name: str) -> None:
    tokenizer: PreTrainedTokenizerBase = template_stock.tokenizer(name)
    writer = Writer(tokenizer, Template(template_stock.source(name)))
    conversation = talk("q", "the answer", reasoning="deep thought")
    texts = {}
    for kind in ("assistant", "reasoning", "answers"):
        (sample,) = tokenize(render(conversation, writer, kind), tokenizer)
        assert isinstance(sample, Sample)
        texts[kind] = tokenizer.decode(sample.tokens[sample.trainable].tolist())
        assert sample.trainable[-1]
    assert "deep thought" in texts["reasoning"]
    assert "</think>" in texts["reasoning"]
    assert "answer" not in texts["reasoning"]
    assert texts["answers"].startswith("the answer")
    assert texts["assistant"].endswith(texts["answers"])


def test_turns_without_the_learned_part() -> None:
    name = "qwen2_5"
    writer = Writer(template_stock.tokenizer(name), Template(template_stock.source(name)))
    for kind in ("reasoning", "tool_calls"):
        with pytest.raises(DataError, match=f"train_on={kind}"):
            render(talk("q", "b"), writer, kind)


@pytest.mark.parametrize("name", NAMES)
def test_texts_equal_apply_chat_template(name: str) -> None:
    """The writer runs the steps of apply_chat_template and gives the same text."""
    tokenizer, template = template_stock.tokenizer(name), Template(template_stock.source(name))
    writer = Writer(tokenizer, template, {"enable_thinking": True, "numbers": (1, 2)})
    call = {"type": "function", "function": {"name": "look", "arguments": {"where": "up"}}}
    turn = said("assistant", "an answer", tool_calls=[call], thinking="a thought", nothing=None)
    for conversation in (
        talk("q", "a", "r", "b", reasoning="deep"),
        Conversation((said("system", "s"), said("user", "q"), turn), tools=({"type": "function", "function": {}},)),
    ):
        for count in range(1, len(conversation.messages) + 1):
            for asked in (False, True):
                served = _served(writer, conversation, count, add_generation_prompt=asked)
                try:
                    text = writer.write(conversation, count, add_generation_prompt=asked)
                except DataError:
                    assert served is None
                else:
                    assert text == served


def _served(writer: Writer, conversation: Conversation, count: int, *, add_generation_prompt: bool) -> str | None:
    """Text of `apply_chat_template`; None: it fails."""
    messages = [message.as_mapping() for message in conversation.messages[:count]]
    for message in messages:
        if "tool_calls" in message:
            message["tool_calls"] = writer.forms.calls(message["tool_calls"])
    if writer.forms.content_as_parts:
        for message in messages:
            message["content"] = [{"type": "text", "text": message["content"]}]
    try:
        return writer.tokenizer.apply_chat_template(
            messages,
            tools=[dict(tool) for tool in conversation.tools] or None,
            chat_template=writer._pinned[bool(conversation.tools)],
            add_generation_prompt=add_generation_prompt,
            tokenize=False,
            **writer.options,
        )
    except (TemplateError, TypeError, ValueError, KeyError):
        return None
