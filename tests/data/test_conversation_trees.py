"""Conversations whose earlier turns a template rewrites: one group, a tree of samples; and compared answers of several
texts."""

from __future__ import annotations

import re
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
from burnish.data.in_common import rows_in_common
from burnish.data.profile import profile
from burnish.data.read import read_rows
from burnish.data.rendering import render
from burnish.data.template import Template
from burnish.data.tokenize import tokenize
from burnish.data.view import view_rows
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
    format = FORMATS["preference"]
    [group] = prepared(write(pair(3)), byte_level, format=format, comparison="pairs", last_text_only=True)
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


def test_samples_left_out_at_the_end_of_a_set(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    """The last conversation loses its late turns, and the set its last row; what is left is shared as before."""
    path = write({"messages": talk(3)}, {"messages": talk(5)}, {"messages": talk(1, thought=900)})
    expected = samples_by_hand(talk(5), byte_level)
    limit = len(expected[2][0])
    data = prepared(path, byte_level, max_length=limit, overlong="drop")
    assert [sequences(group) for group in data] == [expected[:3], expected[:3]]
    assert data.lengths.tolist() == [group.num_tokens for group in data]
    assert data[0].num_tokens == distinct_beginnings([tokens for tokens, _ in expected[:3]])


def test_the_report_shows_each_sample_from_where_it_begins_to_differ(
    write: Write, byte_level: PreTrainedTokenizerBase
) -> None:
    data = prepared(write({"messages": talk(3)}), byte_level)
    text = "".join(part for part, _ in data.report.example)
    assert text.count("— and then —") == 2
    assert "and not" not in text
    assert text.count("0aaaa") == 1
    learned = "".join(part for part, is_learned in data.report.example if is_learned)
    assert learned == "".join(message["content"] + "<|endoftext|>" for message in talk(3)[1::2])


def test_the_learned_share_is_one_of_all_tokens(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    common = "z" * 300
    row = {"prompt": "q", "chosen": common + "good", "rejected": common + "bad"}
    data = prepared(write(row), byte_level, format=FORMATS["preference"], comparison="pairs")
    percent = int(re.search(r"(\d+)% of them learned", next(data.report.lines()))[1])
    assert 90 < percent <= 100


def test_the_profile_counts_as_the_groups_do(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    rows = [{"messages": talk(4)}, {"messages": talk(3, thought=5, answer=3, question=4)}]
    data = prepared(write(*rows), byte_level)
    found = profile(data_spec(write(*rows), byte_level).builder, data.samples, 4000)
    assert found.whole.tokens - found.whole.shared == data.report.tokens == sum(group.num_tokens for group in data)
    assert found.candidates[-1].computed == 1.0


def data_spec(path: str, tokenizer: PreTrainedTokenizerBase, **options: object) -> DatasetSpec:
    return DatasetSpec.of(read_rows(path), tokenizer, TEMPLATE, **{"max_length": 4000, **options})


def test_the_view_tells_shared_tokens(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    views = list(view_rows(data_spec(write({"messages": talk(3)}), byte_level), 0))
    assert [view.where for view in views[1:]] == ["sample 1", "sample 2", "sample 3"]
    assert "3 samples, since the template rewrites earlier turns" in views[0].note
    assert views[3].note.endswith("tokens of sample 2")
    options = {"format": FORMATS["preference"], "comparison": "pairs"}
    views = list(view_rows(data_spec(write(pair(2)), byte_level, **options), 0))
    assert [view.where for view in views[1:]] == ["chosen", "chosen, text 2", "rejected", "rejected, text 2"]
    common = "z" * 300
    row = {"prompt": "q", "chosen": common + "good", "rejected": common + "bad"}
    views = list(view_rows(data_spec(write(row), byte_level, **options), 0))
    assert "computed with the response before" in views[2].note


def test_a_cut_that_leaves_only_a_prompt_names_its_length(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    """Of the sample's own prompt, not of what the conversation begins with."""
    expected = samples_by_hand(talk(3), byte_level)
    prompt = expected[2][1].index(True)
    with pytest.raises(DataError, match=rf"it has {prompt:,}") as raised:
        prepared(write({"messages": talk(3)}), byte_level, max_length=prompt - 5, overlong="truncate")
    assert f"raise max_length to {prompt + 1:,}" in raised.value.remedy


def test_answers_that_are_equal_up_to_the_cut_are_refused(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    """Also answers of several texts."""
    chosen, rejected = talk(2), talk(2)
    rejected[-1] = {"role": "assistant", "content": rejected[-1]["content"] + "more"}
    row = {"prompt": chosen[:1], "chosen": chosen[1:], "rejected": rejected[1:]}
    options = {"format": FORMATS["preference"], "comparison": "pairs", "overlong": "truncate"}
    longest = len(samples_by_hand(talk(2), byte_level)[-1][0])
    with pytest.raises(DataError, match="differ only after"):
        prepared(write(row), byte_level, max_length=longest - 3, **options)


def test_prompts_in_common_are_found_in_conversations(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    """The first question of a conversation is a held-out prompt."""
    trained = prepared(write({"messages": talk(3)}, name="train.jsonl"), byte_level)
    held_out = prepared(write({"messages": talk(1, answer=33)}, name="test.jsonl"), byte_level)
    [line] = rows_in_common(trained, held_out)
    assert "1 of 1 held-out rows have a prompt that is trained with another answer" in line


def test_rankings_are_counted_as_they_are_computed(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    answers = ["z" * 150 + end for end in ("a", "b", "c")]
    row = {"prompt": "q", "responses": answers, "scores": [3, 2, 1]}
    data = prepared(write(row), byte_level, format=FORMATS["ranking"], comparison="any")
    assert data.lengths.tolist() == [data[0].num_tokens]
    assert data[0].num_tokens == distinct_beginnings([tokens for tokens, _ in sequences(data[0])])
