"""Conversations whose earlier turns a template rewrites: one group, a tree of samples; and compared answers of several
texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from burnish.data.dataset import DatasetSpec, TokenizedDataset
from burnish.data.formats.known import FORMATS
from burnish.data.formats.recognize import recognize_scores
from burnish.data.read import read_rows
from burnish.data.rendering import render
from burnish.data.template import Template
from burnish.data.tokenize import tokenize
from burnish.data.writer import Writer
from burnish.errors import DataError
from burnish.packing import pack
from burnish.sources.value_targets import value_target_at_end
from burnish.types import Group
from tests.conversations import FORGETFUL, pair, talk, turn

Write = Callable[..., str]
TEMPLATE = Template(FORGETFUL)


def prepared(path: str, tokenizer: PreTrainedTokenizerBase, **options: object) -> TokenizedDataset:
    return DatasetSpec.of(read_rows(path), tokenizer, TEMPLATE, **{"max_length": 4000, **options}).whole()


def samples_by_hand(messages: Sequence[dict[str, str]], tokenizer: PreTrainedTokenizerBase) -> list[tuple]:
    """Tokens and mask of every rendering, tokenized alone."""
    conversation = FORMATS["chat"].convert({"messages": list(messages)})
    samples = tokenize(render(conversation, Writer(tokenizer, TEMPLATE)), tokenizer)
    return [(tuple(sample.tokens.tolist()), tuple(sample.trainable.tolist())) for sample in samples]


def sequences(group: Group) -> list[tuple]:
    """Tokens and mask of every sequence of a group of single texts."""
    prompt = len(group.prompt)
    return [
        (
            tuple(torch.cat([group.prompt, response.tokens]).tolist()),
            (False,) * prompt + tuple(response.trainable.tolist()),
        )
        for response in group.responses
    ]


def distinct_beginnings(rows: Sequence[tuple[int, ...]]) -> int:
    return len({row[:size] for row in rows for size in range(1, len(row) + 1)})


def test_the_turns_of_a_conversation_are_a_tree(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    """Every sample is as it was alone, and every common token is computed once."""
    messages = talk(6)
    data = prepared(write({"messages": messages}, {"messages": talk(1)}), byte_level)
    assert [len(group.responses) for group in data] == [6, 1]
    assert [group.tree is None for group in data] == [False, True]
    expected = samples_by_hand(messages, byte_level)
    assert sequences(data[0]) == expected
    assert data[0].num_tokens == distinct_beginnings([tokens for tokens, _ in expected])
    assert data.lengths.tolist() == [group.num_tokens for group in data]
    assert data.report.sequence_tokens == sum(len(tokens) for group in data for tokens, _ in sequences(group))
    assert data.report.tokens == data.lengths.sum() < data.report.sequence_tokens
    assert any("share their beginnings" in line for line in data.report.lines())


def test_all_others_branch_off_the_last_turn(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    """So their contexts are one piece each."""
    [group] = prepared(write({"messages": talk(6)}), byte_level)
    [microbatch] = pack([group], 10**6)
    assert len(microbatch.layout.segments) == 6
    assert all(len(segment.context) == 1 and segment.context[0][0] == 0 for segment in microbatch.layout.segments[1:])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(
        st.tuples(st.sampled_from([0, 0, 3, 90]), st.integers(0, 90), st.integers(1, 80)), min_size=1, max_size=6
    )
)
def test_any_conversation(write: Write, byte_level: PreTrainedTokenizerBase, sizes: list[tuple[int, int, int]]) -> None:
    """With and without thoughts, short and long turns; some share too little for a tree."""
    messages = [
        message
        for number, (thought, answer, question) in enumerate(sizes)
        for message in turn(number, thought, answer, question)
    ]
    [group] = prepared(write({"messages": messages}), byte_level)
    assert sequences(group) == samples_by_hand(messages, byte_level)
    pack([group], 10**6)


def test_samples_that_are_too_long_are_left_out_alone(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path, expected = write({"messages": talk(6)}), samples_by_hand(talk(6), byte_level)
    limit = sorted(len(tokens) for tokens, _ in expected)[3]
    data = prepared(path, byte_level, max_length=limit, overlong="drop")
    assert sequences(data[0]) == [sample for sample in expected if len(sample[0]) <= limit]
    assert data.report.dropped[0].count == 2
    assert data.lengths.tolist() == [data[0].num_tokens]


def test_samples_that_are_cut_share_what_is_left(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    messages, path = talk(3), write({"messages": talk(3)})
    expected = samples_by_hand(messages, byte_level)
    limit = len(expected[-1][0]) - 40
    data = prepared(path, byte_level, max_length=limit, overlong="truncate")
    assert [tokens for tokens, _ in sequences(data[0])] == [tokens[:limit] for tokens, _ in expected]
    assert data.lengths.tolist() == [data[0].num_tokens]
    pack([data[0]], 10**6)


def test_a_large_set_draws_the_same_groups(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    """Rows that are tokenized when they are drawn."""
    spec = DatasetSpec.of(read_rows(write({"messages": talk(4)})), byte_level, TEMPLATE, max_length=4000)
    [drawn], whole = spec.row(0), spec.whole()
    assert drawn.tree == whole[0].tree
    assert sequences(drawn) == sequences(whole[0])


def test_compared_answers_of_several_texts(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    """Each turn is compared in the context of serving; the sums of an answer are over all of its turns."""
    [group] = prepared(write(pair(3)), byte_level, format=FORMATS["preference"], comparison="pairs")
    assert [response.reward for response in group.responses] == [1.0, 0.0]
    for response, answer in zip(group.responses, (20, 30), strict=True):
        expected = samples_by_hand(talk(3, answer=answer), byte_level)
        assert len(response.texts) == 3
        found = [tuple(torch.cat([group.prompt, sequence]).tolist()) for sequence in response.sequences]
        assert found == [tokens for tokens, _ in expected]
        assert int(response.trainable.sum()) == sum(sum(mask) for _, mask in expected)
        learned = byte_level.decode(response.tokens[response.trainable])
        assert learned.count("</think>") == learned.count("<|endoftext|>") == 3
        for (_, end, _), (_, _, shared) in pairwise(response.texts):
            assert shared < end
    [microbatch] = pack([group], 10**6)
    assert microbatch.num_sequences == 2
    assert len(microbatch.tokens) == group.num_tokens


def test_a_reward_model_reads_the_last_text(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    [group] = prepared(write(pair(3)), byte_level, format=FORMATS["preference"], comparison="pairs")
    read = value_target_at_end(group)
    for response, answer in zip(read.responses, (20, 30), strict=True):
        last, _ = samples_by_hand(talk(3, answer=answer), byte_level)[-1]
        assert tuple(torch.cat([read.prompt, response.tokens]).tolist()) == last
        assert response.trainable.nonzero().tolist() == [[len(response.tokens) - 1]]
        assert not response.forks
    assert [response.reward for response in read.responses] == [1.0, 0.0]


def test_pairs_that_fork_late_share_their_answers(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    """A prompt ends before the first learned token; what answers have in common after it is computed once, too."""
    common = "z" * 80
    row = {"prompt": "q", "chosen": common + "good", "rejected": common + "bad"}
    [group] = prepared(write(row), byte_level, format=FORMATS["preference"], comparison="pairs")
    assert group.tree is not None
    assert group.num_tokens == distinct_beginnings([tokens for tokens, _ in sequences(group)])


def test_answers_with_several_scores_are_one_text(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    rows = read_rows(write({"prompt": talk(1)[:1], "response": talk(3)[1:], "helpful": 1.0, "honest": 0.5}))
    format = recognize_scores(rows.columns, ["helpful", "honest"])
    spec = DatasetSpec.of(rows, byte_level, TEMPLATE, format=format, max_length=999, comparison="scores")
    with pytest.raises(DataError, match="one text"):
        spec.whole()
