"""Laws of byte groups: over random texts, tokenizers of every kind, and tokenizations that no tokenizer would make."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from burnish.builtin.tiny import END, make_tokenizer
from burnish.data.byte_groups import NO_GROUP, ByteGroups, byte_groups, group_sums, starts, token_bytes
from burnish.errors import ModelError
from tests.conftest import SHARED

BUILTIN = Path(__file__).parents[2] / "burnish" / "builtin" / "tiny-base"
STORIES = SHARED / "models" / "stories260K"
CORPUS = [
    "the three thinkers said that this is the other thing  and there  it is",
    "日本語の文字 日本 日本語 中文字符 한국어 한국",
    "😀😀 👩‍👩‍👧 😀 é e\u0301 e\u0301e\u0301 naïve café 12 123 2024\n\n\tx\n",
]
SPECIAL = ["<unk>", "<s>", "</s>"]


def byte_bpe(size: int, *, prefix_space: bool = False) -> Tokenizer:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, special_tokens=["</s>"], show_progress=False
    )
    core.train_from_iterator(CORPUS * 9, trainer)
    core.add_tokens([AddedToken(text, normalized=False) for text in ("<think>", "思考")])  # text, unlike special tokens
    return core


def with_fallback(core: Tokenizer) -> Tokenizer:
    """Gives a trained tokenizer the 256 tokens of bytes."""
    settings = json.loads(core.to_str())
    model = settings["model"]
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    if model["type"] == "BPE":
        model["vocab"] |= {piece: len(model["vocab"]) + i for i, piece in enumerate(fallback)}
    else:
        model["vocab"] += [[piece, -30.0] for piece in fallback]
    return Tokenizer.from_str(json.dumps({**settings, "model": {**model, "byte_fallback": True}}))


def sentencepiece_bpe() -> Tokenizer:
    """As of Llama 2: "▁" before a text, by the normalizer; its decoder strips one space."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.train_from_iterator(
        CORPUS * 9, trainers.BpeTrainer(vocab_size=170, special_tokens=SPECIAL, show_progress=False)
    )
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return with_fallback(core)


def metaspace_bpe(scheme: str) -> Tokenizer:
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    core.train_from_iterator(
        CORPUS * 9, trainers.BpeTrainer(vocab_size=150, special_tokens=SPECIAL, show_progress=False)
    )
    core.decoder = decoders.Sequence([decoders.Metaspace(prepend_scheme=scheme), decoders.ByteFallback()])
    return with_fallback(core)


def unigram(*, fallback: bool) -> Tokenizer:
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    core.train_from_iterator(CORPUS * 9, trainer)
    core.decoder = decoders.Metaspace()
    if not fallback:
        return core
    core.decoder = decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback(), decoders.Fuse()])
    return with_fallback(core)


TRAINED = {
    "byte-level": lambda: byte_bpe(300),
    "larger byte-level": lambda: byte_bpe(420),
    "space before": lambda: byte_bpe(330, prefix_space=True),
    "sentencepiece": sentencepiece_bpe,
    "metaspace": lambda: metaspace_bpe("always"),
    "metaspace, nothing before": lambda: metaspace_bpe("never"),
    "unigram": lambda: unigram(fallback=True),
    "unigram without bytes": lambda: unigram(fallback=False),
}
NAMES = ["bytes", "builtin", *TRAINED, "stories"]
EXACT = ["bytes", "builtin", "byte-level", "larger byte-level", "sentencepiece", "metaspace, nothing before", "stories"]
"""Tokenizers that write every text exactly, but for the character "▁" and texts of special tokens."""
WITH_BYTES = [name for name in NAMES if name != "unigram without bytes"]


@cache
def loaded(name: str) -> PreTrainedTokenizerBase:
    if name == "bytes":
        return make_tokenizer()
    if name in TRAINED:
        return PreTrainedTokenizerFast(tokenizer_object=TRAINED[name](), eos_token="</s>")
    return AutoTokenizer.from_pretrained(BUILTIN if name == "builtin" else STORIES)


def tokenizer_of(name: str) -> PreTrainedTokenizerBase:
    if name == "stories" and not STORIES.is_dir():
        pytest.skip("the shared model is not here")
    return loaded(name)


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids


def joined(parts: Sequence[bytes | None]) -> bytes:
    return b"".join(part for part in parts if part is not None)


@cache
def vocabulary(name: str) -> list[tuple[int, bytes]]:
    """Tokens with text, in the middle of a text."""
    tokenizer = tokenizer_of(name)
    parts = ((token, token_bytes(tokenizer, [token], begins=False)[0]) for token in range(len(tokenizer)))
    return [(token, part) for token, part in parts if part]


def sampled(name: str, text: bytes, seed: int) -> list[int]:
    """Tokens that write the text as a model might sample them: at random among all that fit, long or short."""
    draw, tokens = random.Random(seed), list[int]()
    while text:
        token, part = draw.choice([(token, part) for token, part in vocabulary(name) if text.startswith(part)])
        tokens.append(token)
        text = text[len(part) :]
    return tokens


any_character = st.characters(exclude_categories=["Cs"])
words = st.lists(st.sampled_from(" ".join(CORPUS).split(" ")), max_size=12).map(" ".join)
strange = st.text("😀👩\u200dé\u0301日本 \t\n\x00\x7f12ab", max_size=20)
all_texts = st.text(any_character, max_size=20) | strange | words
texts = all_texts.map(lambda text: text.replace("▁", "_").replace("<", "("))
seeds = st.integers(0, 2**32)
few = settings(max_examples=60)


# token_bytes


@pytest.mark.parametrize("name", NAMES)
@given(text=all_texts)
def test_bytes_of_tokens_join_to_what_the_decoder_writes(name: str, text: str) -> None:
    tokenizer = tokenizer_of(name)
    tokens = encode(tokenizer, text)
    parts = token_bytes(tokenizer, tokens)
    assert len(parts) == len(tokens)
    assert joined(parts).decode() == tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("name", EXACT)
@given(text=texts)
def test_bytes_of_tokens_join_to_the_text(name: str, text: str) -> None:
    tokenizer = tokenizer_of(name)
    assert joined(token_bytes(tokenizer, encode(tokenizer, text))) == text.encode()


@pytest.mark.parametrize("name", ["metaspace", "unigram"])
@given(text=texts.map(lambda text: text.lstrip(" ")))
def test_where_the_first_space_is_lost_other_texts_are_exact(name: str, text: str) -> None:
    tokenizer = tokenizer_of(name)
    assert joined(token_bytes(tokenizer, encode(tokenizer, text))) == text.encode()


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_any_tokens_in_any_order_are_what_the_decoder_writes(name: str, data: st.DataObject) -> None:
    """Special tokens, ids that are no tokens, and incomplete characters among them."""
    tokenizer = tokenizer_of(name)
    size = len(tokenizer)
    special = [token for token, added in tokenizer.added_tokens_decoder.items() if added.special]
    ids = st.integers(0, size + 2) | st.sampled_from(special)
    tokens = data.draw(st.lists(ids, max_size=12))
    parts = token_bytes(tokenizer, tokens)
    assert [part is None for part in parts] == [token in special or token >= size for token in tokens]
    try:
        text = joined(parts).decode()
    except UnicodeDecodeError:
        return
    assert text == tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("name", NAMES)
@given(text=all_texts, seed=seeds)
def test_tokens_that_continue_a_text_have_the_bytes_that_they_have_in_it(name: str, text: str, seed: int) -> None:
    tokenizer = tokenizer_of(name)
    tokens = encode(tokenizer, "x" + text)
    cut = random.Random(seed).randint(2, len(tokens)) if len(tokens) > 1 else 1
    assert token_bytes(tokenizer, tokens)[cut:] == token_bytes(tokenizer, tokens[cut:], begins=False)


def test_example_of_fallback(llama_style: PreTrainedTokenizerBase) -> None:
    tokens = llama_style.convert_tokens_to_ids(["▁t", "<0xC3>", "<0xA9>", "</s>"])
    assert token_bytes(llama_style, tokens) == [b"t", b"\xc3", b"\xa9", None]
    assert token_bytes(llama_style, tokens, begins=False) == [b" t", b"\xc3", b"\xa9", None]
    assert token_bytes(llama_style, []) == []


def test_added_tokens_are_text_unless_they_are_special() -> None:
    tokenizer = tokenizer_of("byte-level")
    assert token_bytes(tokenizer, encode(tokenizer, "<think>a</s>")) == [b"<think>", b"a", None]
    assert token_bytes(tokenizer, encode(tokenizer, "a思考")) == [b"a", "思考".encode()]


@pytest.mark.parametrize("decoder", [decoders.Metaspace(), decoders.Fuse(), decoders.Replace("▁", " ")])
def test_without_byte_fallback_the_name_of_a_byte_is_text(decoder: decoders.Decoder) -> None:
    core = Tokenizer(models.BPE({"<0x41>": 0}, []))
    core.decoder = decoder
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    assert token_bytes(tokenizer, [0]) == [b"<0x41>"] == [tokenizer.decode([0]).encode()]


REFUSED = {
    "no decoder": None,
    "WordPiece": decoders.WordPiece(),
    "BPEDecoder": decoders.BPEDecoder(),
    "CTC": decoders.CTC(),
    "spaces after byte fallback": decoders.Sequence([decoders.ByteFallback(), decoders.Replace("▁", " ")]),
    "a pattern": decoders.Replace(Regex("_+"), " "),
    "strip of every token": decoders.Sequence([decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)]),
    "strip at the end": decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 0, 1)]),
    "byte-level and more": decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_decoder_that_does_not_tell_bytes_is_refused(kind: str) -> None:
    core = Tokenizer(models.BPE({"a": 0}, []))
    if (decoder := REFUSED[kind]) is not None:
        core.decoder = decoder
    with pytest.raises(ModelError, match="has the decoder"):
        token_bytes(PreTrainedTokenizerFast(tokenizer_object=core), [0])


def test_a_slow_tokenizer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_of("bytes")
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(ModelError, match="is a slow one"):
        token_bytes(tokenizer, [0])


# byte_groups


def runs(parts: Sequence[bytes | None], groups: Sequence[int], count: int) -> list[list[bytes]]:
    """Bytes of the tokens of each group."""
    members: list[list[bytes]] = [[] for _ in range(count)]
    for part, group in zip(parts, groups, strict=True):
        if group != NO_GROUP and part is not None:
            members[group].append(part)
    return members


def inner(run: Sequence[bytes]) -> set[bytes]:
    """Proper beginnings of a run, without the empty one."""
    whole = b"".join(run)
    return {*accumulate(run)} - {b"", whole}


def check(student: Sequence[bytes | None], teacher: Sequence[bytes | None], groups: ByteGroups) -> None:
    """All that holds for the groups of any two sides, without `ends`."""
    sides = ((student, groups.student), (teacher, groups.teacher))
    for parts, indices in sides:
        present = [index for index in indices if index != NO_GROUP]
        assert present == sorted(present)
        assert {*present} == {*range(groups.count)}
        assert all(indices[at] == NO_GROUP for at, part in enumerate(parts) if part is None)
    written, taught = (runs(parts, indices, groups.count) for parts, indices in sides)
    for ours, theirs in zip(written, taught, strict=True):
        assert b"".join(ours) == b"".join(theirs) != b"", "the same bytes"
        assert not inner(ours) & inner(theirs), "no smaller run has the same bytes"
    grouped = sum(len(b"".join(run)) for run in written)
    for parts, indices in sides:
        assert joined(parts)[:grouped] == b"".join(b"".join(run) for run in written), "from the beginning"
        sizes = accumulate(len(part or b"") for part in parts)
        for part, index, size in zip(parts, indices, sizes, strict=True):
            assert part is None or (index == NO_GROUP) == (size > grouped or size == 0), "without gaps"
    left = [[part for part in rest(parts, grouped) if part] for parts in (student, teacher)]
    assert not {*accumulate(left[0])} & {*accumulate(left[1])}, "no further run has the same bytes"


def rest(parts: Sequence[bytes | None], size: int) -> list[bytes]:
    """Parts after this many bytes."""
    stops = accumulate(len(part or b"") for part in parts)
    return [part for part, stop in zip(parts, stops, strict=True) if part is not None and stop > size]


@pytest.mark.parametrize("teacher", WITH_BYTES)
@pytest.mark.parametrize("student", EXACT)
@few
@given(text=texts.map(lambda text: text.lstrip(" ")))
def test_all_tokens_of_one_text_are_in_groups(student: str, teacher: str, text: str) -> None:
    both = [tokenizer_of(name) for name in (student, teacher)]
    sides = [token_bytes(tokenizer, encode(tokenizer, text)) for tokenizer in both]
    groups = byte_groups(*sides)
    check(*sides, groups)
    if teacher != "space before":  # it writes a space that the text does not have
        written = b"".join(b"".join(run) for run in runs(sides[0], groups.student, groups.count))
        assert written == text.encode()
    if student == teacher:
        assert groups.student == groups.teacher == one_by_one(sides[0])


def one_by_one(parts: Sequence[bytes | None]) -> list[int]:
    """A group for each token that has bytes."""
    number = accumulate(int(bool(part)) for part in parts)
    return [NO_GROUP if part is None else at - 1 for at, part in zip(number, parts, strict=True)]


@pytest.mark.parametrize("teacher", ["bytes", "larger byte-level", "sentencepiece", "stories"])
@pytest.mark.parametrize("student", WITH_BYTES)
@few
@given(text=texts, seed=seeds)
def test_sampled_tokens_are_in_groups_too(student: str, teacher: str, text: str, seed: int) -> None:
    """A model may sample "a" + "b" where "ab" is a token, and single bytes of any character."""
    tokens = sampled(student, text.encode(), seed)
    written = token_bytes(tokenizer_of(student), tokens, begins=False)
    taught = token_bytes(tokenizer_of(teacher), encode(tokenizer_of(teacher), text))
    groups = byte_groups(written, taught)
    check(written, taught, groups)
    assert joined(written) == joined(taught) == text.encode()
    assert b"".join(b"".join(run) for run in runs(written, groups.student, groups.count)) == text.encode()
    assert byte_groups(written, written).student == one_by_one(written)
    assert byte_groups(taught, written) == ByteGroups(groups.teacher, groups.student, groups.count)


parts = st.lists(st.sampled_from([b"a", b"b", b"ab", b"ba", b"aab", b"", None]), max_size=8)


@settings(max_examples=500)
@given(student=parts, teacher=parts, ends=st.booleans())
def test_groups_of_any_parts(student: list[bytes | None], teacher: list[bytes | None], ends: bool) -> None:
    groups = byte_groups(student, teacher)
    check(student, teacher, groups)
    ended = byte_groups(student, teacher, ends=True)
    both = student[-1:] == teacher[-1:] == [None]
    if both and joined(student) == joined(teacher):
        assert ended.student == [*groups.student[:-1], groups.count]
        assert ended.teacher == [*groups.teacher[:-1], groups.count]
        assert ended.count == groups.count + 1
    else:
        assert ended == groups


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ([b"he", b"llo", b"!"], [b"hello", b"!"], ByteGroups([0, 0, 1], [0, 1], 2)),
        ([b"\xf0\x9f", b"\x98\x80"], [b"\xf0", b"\x9f\x98", b"\x80"], ByteGroups([0, 0], [0, 0, 0], 1)),
        ([b"a", b"b", b"c"], [b"a", b"bd", b"c"], ByteGroups([0, -1, -1], [0, -1, -1], 1)),
        ([b"a", b"b"], [b"a", b"b", b"c"], ByteGroups([0, 1], [0, 1, -1], 2)),
        ([b"", b"a", b"", b"b"], [b"ab", b""], ByteGroups([-1, 0, 0, 0], [0, 0], 1)),
        ([None, b"a", None], [b"a", None], ByteGroups([-1, 0, -1], [0, -1], 1)),
        ([], [b"a"], ByteGroups([], [-1], 0)),
    ],
    ids=["example", "emoji", "differ", "longer", "empty-tokens", "special", "nothing"],
)
def test_groups_by_hand(student: list[bytes | None], teacher: list[bytes | None], expected: ByteGroups) -> None:
    assert byte_groups(student, teacher) == expected


def test_end_tokens_are_a_group_only_after_the_same_text() -> None:
    assert byte_groups([b"ab", None], [b"a", b"b", None], ends=True) == ByteGroups([0, 1], [0, 0, 1], 2)
    assert byte_groups([None], [None], ends=True) == ByteGroups([0], [0], 1)
    assert byte_groups([b"a", None], [b"b", None], ends=True) == ByteGroups([-1, -1], [-1, -1], 0)
    assert byte_groups([b"a", None], [b"a"], ends=True) == ByteGroups([0, -1], [0], 1)


def test_a_turn_of_two_tokenizers() -> None:
    """From ids to groups, with the end token of each."""
    student, teacher = tokenizer_of("bytes"), tokenizer_of("sentencepiece")
    text = "the 😀 é"
    ours = token_bytes(student, encode(student, text + END))
    theirs = token_bytes(teacher, encode(teacher, text + "</s>"))
    groups = byte_groups(ours, theirs, ends=True)
    assert groups.student[-1] == groups.teacher[-1] == groups.count - 1
    assert NO_GROUP not in groups.student + groups.teacher


# group_sums and starts


@given(student=parts, teacher=parts, ends=st.booleans(), seed=seeds)
def test_sums_keep_totals(student: list[bytes | None], teacher: list[bytes | None], ends: bool, seed: int) -> None:
    groups = byte_groups(student, teacher, ends=ends)
    for indices in (groups.student, groups.teacher):
        values = torch.randn(len(indices), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        sums = group_sums(values, indices, groups.count)
        inside = torch.tensor(indices, dtype=torch.int64) != NO_GROUP
        assert sums.shape == (groups.count,)
        assert sums.dtype == values.dtype
        assert torch.allclose(sums.sum(), values[inside].sum())
        expected = [values[torch.tensor(indices) == group].sum() for group in range(groups.count)]
        assert torch.allclose(sums, torch.tensor(expected, dtype=torch.float64))


def test_sums_of_equal_tokens_are_the_values() -> None:
    values = torch.tensor([-1.0, -2.0, -0.5])
    assert torch.equal(group_sums(values, [0, 1, 2], 3), values)
    assert group_sums(values, [0, 0, NO_GROUP], 1).tolist() == [-3.0]
    assert group_sums(values[:0], [], 0).tolist() == []
    assert group_sums(values, [NO_GROUP, 0, NO_GROUP], 2).tolist() == [-2.0, 0.0]


def test_a_value_outside_the_groups_changes_nothing() -> None:
    values = torch.tensor([-1.0, float("nan")])
    assert group_sums(values, [0, NO_GROUP], 1).tolist() == [-1.0]


@given(student=parts, teacher=parts, ends=st.booleans())
def test_before_the_start_of_a_group_both_sides_have_the_same_text(
    student: list[bytes | None], teacher: list[bytes | None], ends: bool
) -> None:
    groups = byte_groups(student, teacher, ends=ends)
    ours, theirs = starts(groups.student), starts(groups.teacher)
    assert len(ours) == len(theirs) == groups.count
    for group, (at, other) in enumerate(zip(ours, theirs, strict=True)):
        assert groups.student[at] == groups.teacher[other] == group
        assert group not in groups.student[:at] + groups.teacher[:other]
        assert joined(student[:at]) == joined(teacher[:other])
