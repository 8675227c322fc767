"""Loss masks against an independent reference: decoded learned tokens equal the assistant messages."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from burnish.data.encoding import encode_with_offsets
from burnish.data.records import Completion, Conversation, Message
from burnish.data.rendering import Rendering, complete
from burnish.data.rendering import render as render_with
from burnish.data.template import Template, choose_template
from burnish.data.tokenize import Encoder, Sample, to_response, tokenize
from burnish.data.writer import Writer
from burnish.errors import DataError, ModelError

# The tokenizers write this character for a space, so no decoding can tell the two apart.
characters = st.characters(exclude_categories=["Cs"], exclude_characters="▁<")
texts = st.text(characters, max_size=10) | st.text("😀é\n ab日\t", max_size=10)
slow = settings(deadline=None, max_examples=80)


def render(conversation: Conversation, tokenizer: PreTrainedTokenizerBase, template: Template) -> tuple[Rendering, ...]:
    return render_with(conversation, Writer(tokenizer, template))


def only(samples: list[Sample | DataError]) -> Sample:
    (sample,) = samples
    assert isinstance(sample, Sample)
    return sample


def learned_texts(sample: Sample, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Text of each run of learned tokens, as it extends the text before."""
    runs, start = [], None
    for at in range(len(sample.tokens) + 1):
        learned = at < len(sample.tokens) and sample.trainable[at]
        if learned and start is None:
            start = at
        if not learned and start is not None:
            before, after = (tokenizer.decode(sample.tokens[:end].tolist()) for end in (start, at))
            assert after.startswith(before)
            runs.append(after.removeprefix(before))
            start = None
    return runs


def converse(contents: list[tuple[str, str]]) -> Conversation:
    pairs = ((Message("user", ask), Message("assistant", answer, trained=True)) for ask, answer in contents)
    return Conversation(tuple(message for pair in pairs for message in pair))


@slow
@given(contents=st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_learned_tokens_are_the_answers(tokenizer: PreTrainedTokenizerBase, contents: list[tuple[str, str]]) -> None:
    template = choose_template(tokenizer)
    (rendering,) = render(converse(contents), tokenizer, template)
    sample = only(tokenize([rendering], tokenizer))
    assert learned_texts(sample, tokenizer) == [answer + tokenizer.eos_token for _, answer in contents]
    assert sample.ends == (tokenizer.eos_token_id,) * len(contents)
    assert (sample.num_unended, sample.num_straddling) == (0, 0)


@slow
@given(contents=st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_chatml_learns_its_end_token_and_not_the_newline_after_it(
    byte_level: PreTrainedTokenizerBase, contents: list[tuple[str, str]]
) -> None:
    (rendering,) = render(converse(contents), byte_level, choose_template(byte_level, "chatml"))
    sample = only(tokenize([rendering], byte_level))
    assert learned_texts(sample, byte_level) == [answer + "<|im_end|>" for _, answer in contents]
    assert set(sample.ends) == {byte_level.convert_tokens_to_ids("<|im_end|>")}


@slow
@given(ask=texts, answer=texts)
def test_the_prompt_equals_that_of_serving(tokenizer: PreTrainedTokenizerBase, ask: str, answer: str) -> None:
    template = choose_template(tokenizer)
    served = tokenizer.apply_chat_template(
        [{"role": "user", "content": ask}], chat_template=template.source, add_generation_prompt=True, return_dict=False
    )
    (rendering,) = render(converse([(ask, answer)]), tokenizer, template)
    sample = only(tokenize([rendering], tokenizer))
    prompt, after = sample.tokens[: sample.prompt_length].tolist(), slice(sample.prompt_length, None)
    assert prompt == served
    response = to_response(sample.tokens[after], sample.trainable[after])
    assert [*prompt, *response.tokens.tolist()] == tokenizer(rendering.text, add_special_tokens=False).input_ids
    assert response.trainable.all()


def test_one_begin_token(tokenizer: PreTrainedTokenizerBase) -> None:
    begin = tokenizer.bos_token_id
    (chat,) = render(converse([("a", "b"), ("c", "d")]), tokenizer, choose_template(tokenizer))
    for rendering in (chat, complete(Completion("a", "b"), tokenizer, None)):
        tokens = only(tokenize([rendering], tokenizer)).tokens.tolist()
        assert tokens.count(begin) == (begin is not None)
        assert begin is None or tokens[0] == begin


@slow
@given(prompt=texts, completion=texts)
def test_completions(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> None:
    (sample,) = tokenize([complete(Completion(prompt, completion), tokenizer, None)], tokenizer)
    whole = [*tokenizer(prompt + completion).input_ids, tokenizer.eos_token_id]
    if isinstance(sample, DataError):
        assert len(whole) == 1  # an end token alone, which nothing predicts
        return
    assert sample.tokens.tolist() == whole
    assert sample.ends == (tokenizer.eos_token_id,)
    assert not sample.trainable[: sample.prompt_length].any()
    assert sample.trainable[sample.prompt_length :].all()
    learned = tokenizer.decode(sample.tokens[sample.prompt_length :].tolist())
    assert learned.endswith(tokenizer.eos_token)
    if sample.num_straddling == 0 and sample.prompt_length > 1:
        before = tokenizer.decode(sample.tokens[: sample.prompt_length].tolist())
        assert tokenizer.decode(sample.tokens.tolist()).removeprefix(before) == completion + tokenizer.eos_token


@pytest.mark.parametrize(
    ("text", "learned", "end"),
    [
        ("A: b<|im_end|>\n", "b<|im_end|>", "<|im_end|>"),
        ("A: b<|im_end|>", "b<|im_end|>", "<|im_end|>"),
        ("A: b<|im_end|> \n<|endoftext|>\n", "b<|im_end|> \n<|endoftext|>", "<|endoftext|>"),
        ("A: b<|endoftext|>\n<|im_end|>", "b<|endoftext|>", "<|endoftext|>"),
        ("A: b<|im_end|>c<|im_end|>\n", "b<|im_end|>c<|im_end|>", "<|im_end|>"),
        ("A: <|im_start|>b c", "<|im_start|>b c", None),
        ("A: b \n", "b \n", None),
        ("A: <|im_end|>\n", "<|im_end|>", "<|im_end|>"),
    ],
)
def test_where_a_turn_ends(byte_level: PreTrainedTokenizerBase, text: str, learned: str, end: str | None) -> None:
    sample = only(tokenize([Rendering(text, ((3, len(text)),))], byte_level))
    assert learned_texts(sample, byte_level) == [learned]
    assert sample.ends == (() if end is None else (byte_level.convert_tokens_to_ids(end),))
    assert sample.num_unended == (end is None)


def test_the_first_token_is_never_learned(byte_level: PreTrainedTokenizerBase) -> None:
    sample = only(tokenize([Rendering("b<|im_end|>", ((0, 11),))], byte_level))
    assert (sample.trainable.tolist(), sample.prompt_length) == ([False, True], 1)
    none = tokenize([Rendering("b", ((0, 1),)), Rendering("b", ((1, 1),)), Rendering("", ())], byte_level)
    assert all(isinstance(error, DataError) for error in none)


def test_an_empty_answer_inside_a_token_learns_nothing(byte_level: PreTrainedTokenizerBase) -> None:
    (none,) = tokenize([Rendering("a four", ((3, 3),))], byte_level)
    assert isinstance(none, DataError)


def test_pieces_of_one_character_are_learned_together(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "x日本y"
    before, inside = (len(tokenizer(part, add_special_tokens=False).input_ids) for part in ("x", "x日"))
    sample = only(tokenize([Rendering(text, ((1, 2),))], tokenizer))
    assert inside - before >= 3
    assert sample.trainable.tolist() == [False] * before + [True] * (inside - before)


@slow
@given(text=st.text("ab \n😀", min_size=1, max_size=12), border=st.data())
def test_trimmed_offsets_change_nothing(
    byte_level: PreTrainedTokenizerBase, trimmed: PreTrainedTokenizerBase, text: str, border: st.DataObject
) -> None:
    offsets = byte_level(text, return_offsets_mapping=True).offset_mapping
    start = border.draw(st.sampled_from([start for start, _ in offsets]))
    stop = border.draw(st.sampled_from([stop for _, stop in offsets if stop > start]))
    masks = []
    for tokenizer in (byte_level, trimmed):
        (sample,) = tokenize([Rendering(text, ((start, stop),))], tokenizer)
        masks.append(None if isinstance(sample, DataError) else sample.trainable.tolist())
    assert masks[0] == masks[1]


def test_a_leading_space_belongs_to_the_first_character(tokenizer: PreTrainedTokenizerBase) -> None:
    size = len(tokenizer("a", add_special_tokens=False).input_ids)
    (sample,) = tokenize([Rendering("a", ((0, 1),))], tokenizer)
    assert (size > 1) == isinstance(sample, Sample)
    if isinstance(sample, Sample):
        assert sample.trainable.tolist() == [False] + [True] * (size - 1)
    (after,) = tokenize([Rendering("abb", ((1, 3),))], tokenizer)
    assert isinstance(after, Sample)
    assert not after.trainable[:size].any()


def test_a_token_across_the_border_is_learned_and_counted(newline_merging: PreTrainedTokenizerBase) -> None:
    template = choose_template(newline_merging)
    clean, straddling = (
        only(tokenize(render(converse([("a", answer)]), newline_merging, template), newline_merging))
        for answer in ("b", "\n\n\nb")
    )
    assert (clean.num_straddling, straddling.num_straddling) == (0, 1)
    assert learned_texts(straddling, newline_merging)[0].endswith("\n\n\nb<|endoftext|>")


def test_a_prompt_that_ends_in_a_space_is_counted(
    byte_level: PreTrainedTokenizerBase, trimmed: PreTrainedTokenizerBase
) -> None:
    """The space joins the first word of the answer, with and without offsets of spaces."""
    for tokenizer in (byte_level, trimmed):
        assert "Ġfour" in tokenizer.get_vocab()
        straddling, clean = tokenize(
            [complete(Completion(*pair), tokenizer, None) for pair in (("a ", "four"), ("a", " four"))], tokenizer
        )
        assert isinstance(straddling, Sample)
        assert isinstance(clean, Sample)
        assert (straddling.num_straddling, clean.num_straddling) == (1, 0)
        assert straddling.tokens.tolist() == clean.tokens.tolist()
        assert straddling.trainable.tolist() == clean.trainable.tolist()


def test_slow_tokenizers_are_refused(byte_level: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(byte_level), "is_fast", False)
    with pytest.raises(ModelError, match="is a slow one"):
        tokenize([Rendering("ab", ((1, 2),))], byte_level)


@given(
    text=st.text("ab \n<|>im_end", max_size=20) | st.text(max_size=9),
    special=st.lists(st.sampled_from(["<|im_end|>", " the", "é"])),
)
def test_token_widths_give_the_offsets_of_the_tokenizer(
    byte_level: PreTrainedTokenizerBase, text: str, special: list[str]
) -> None:
    """Byte-level tokens have a known width; offsets from the tokenizer cost as much as tokenization."""
    encoder, core, whole = Encoder(byte_level), byte_level.backend_tokenizer, text + "".join(special)
    assert encoder._widths is not None
    (quick,) = encoder._encodings([whole])
    (slow,) = encode_with_offsets([whole], core)
    for name in ("tokens", "starts", "stops"):
        assert getattr(quick, name).tolist() == getattr(slow, name).tolist()
    assert quick.reached.tolist()[1:] == slow.reached.tolist()[1:]


def test_other_vocabularies_have_no_widths(llama_style: PreTrainedTokenizerBase) -> None:
    assert Encoder(llama_style)._widths is None
