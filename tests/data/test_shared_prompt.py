"""Comparisons become groups: one shared prompt, the best response first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from burnish.data.dataset import DatasetSpec, TokenizedDataset
from burnish.data.formats.known import FORMATS
from burnish.data.read import read_rows
from burnish.data.shared_prompt import share_prompt
from burnish.data.template import choose_template
from burnish.data.tokenize import Sample
from burnish.data.view import view_rows
from burnish.errors import DataError

Write = Callable[..., str]


def preparation(
    path: str, tokenizer: PreTrainedTokenizerBase, comparison: str = "pairs", max_length: int = 1000, **options: object
) -> DatasetSpec:
    rows = read_rows(path)
    name = next(name for name in ("preference", "ranking", "labelled") if FORMATS[name].fitting(rows.columns))
    template = choose_template(tokenizer)
    return DatasetSpec.of(
        rows, tokenizer, template, format=FORMATS[name], max_length=max_length, comparison=comparison, **options
    )


def ready(
    path: str, tokenizer: PreTrainedTokenizerBase, comparison: str = "pairs", **options: object
) -> TokenizedDataset:
    return preparation(path, tokenizer, comparison, **options).whole()


def pair(chosen: str, rejected: str, prompt: str = "what is two and two", **more: object) -> dict[str, object]:
    return {"question": prompt, "chosen": chosen, "rejected": rejected, **more}


def texts(prepared: TokenizedDataset, tokenizer: PreTrainedTokenizerBase) -> list[list[str]]:
    return [
        [tokenizer.decode(group.prompt), *(tokenizer.decode(response.tokens) for response in group.responses)]
        for group in prepared
    ]


def test_a_pair_is_one_prompt_and_two_responses(write: Write, tokenizer: PreTrainedTokenizerBase) -> None:
    path = write(pair("the answer is four", "spaces"), pair("four", "the answer", "hello"))
    prepared = ready(path, tokenizer)
    end = tokenizer.eos_token
    for group, row in zip(prepared, read_rows(path), strict=True):
        chosen, rejected = group.responses
        assert tokenizer.decode(chosen.tokens).lstrip() == f"{row['chosen']}{end}"
        assert tokenizer.decode(rejected.tokens).lstrip() == f"{row['rejected']}{end}"
        assert (chosen.reward, rejected.reward) == (1.0, 0.0)
        assert chosen.trainable[-1], "the end of the turn is learned"
        assert rejected.trainable[-1]
    assert len(prepared) == 2
    assert prepared.report.groups == 2
    assert prepared.report.tokens == sum(group.num_tokens for group in prepared)
    assert prepared.lengths.tolist() == [group.num_tokens for group in prepared]


def test_every_sequence_equals_its_own_rendering(write: Write, tokenizer: PreTrainedTokenizerBase) -> None:
    """Tokens and mask of prompt and response equal those of the conversation that ends with the response."""
    row = pair("the answer is four", "the answer is spaces")
    [group] = ready(write(row), tokenizer)
    for number, name in enumerate(("chosen", "rejected")):
        alone = write({"question": row["question"], "answer": row[name]}, name="alone.jsonl")
        [expected] = DatasetSpec.of(read_rows(alone), tokenizer, choose_template(tokenizer), max_length=1000).whole()
        response = group.responses[number]
        whole = torch.cat([expected.prompt, expected.responses[0].tokens])
        assert torch.equal(torch.cat([group.prompt, response.tokens]), whole)
        learned = torch.cat([torch.zeros(len(expected.prompt), dtype=torch.bool), expected.responses[0].trainable])
        assert torch.equal(learned[len(group.prompt) :], response.trainable)
        assert not learned[: len(group.prompt)].any()


def sample(tokens: list[int], prompt: int) -> Sample:
    trainable = np.arange(len(tokens)) >= prompt
    return Sample(np.array(tokens, np.int32), trainable, prompt, (2,), 0, 0)


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        (([9, 4, 5, 2], 2), ([9, 4, 6, 2], 2), 2),  # they part where the responses begin
        (([9, 4, 5, 7, 2], 2), ([9, 4, 5, 8, 2], 2), 2),  # responses that begin alike keep their beginnings
        (([9, 4, 5, 2], 2), ([9, 3, 6, 2], 2), 1),  # a token of the prompt went together with the response
        (([9, 4, 5, 2], 2), ([9, 4, 5, 6, 2], 3), 2),  # what is learned in one is not shared
        (([9, 4, 5], 2), ([9, 4, 5, 6], 2), 2),  # one is the beginning of the other
    ],
)
def test_the_shared_prompt(first: tuple[list[int], int], second: tuple[list[int], int], shared: int) -> None:
    shared_samples = share_prompt([[sample(*first)], [sample(*second)]], [1.0, 0.0])
    assert [response.prompt_length for response in shared_samples] == [shared, shared]
    assert [(response.response_index, response.reward) for response in shared_samples] == [(0, 1.0), (1, 0.0)]


def test_texts_without_a_common_token_have_no_prompt() -> None:
    with pytest.raises(DataError, match="different tokens"):
        share_prompt([[sample([9, 4, 2], 1)], [sample([8, 4, 2], 1)]], [1.0, 0.0])


def test_rankings_are_best_first_and_ties_keep_their_order(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write({"question": "x", "responses": ["a", "b", "c", "d"], "scores": [1, 3, 1, 2.5]})
    [group] = ready(path, byte_level, "rankings")
    assert [byte_level.decode(response.tokens)[0] for response in group.responses] == ["b", "d", "a", "c"]
    assert [response.reward for response in group.responses] == [3, 2.5, 1, 1]


def test_ranks_are_scores_upside_down(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    [group] = ready(write({"question": "x", "responses": ["a", "b"], "ranks": [2, 1]}), byte_level)
    assert [byte_level.decode(response.tokens)[0] for response in group.responses] == ["b", "a"]


def test_scores_and_margins_become_rewards(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    scored = [group.responses for group in ready(write(pair("a", "b", score_chosen=7, score_rejected=2)), byte_level)]
    assert [[response.reward for response in responses] for responses in scored] == [[7, 2]]
    [group] = ready(write(pair("a", "b", margin=0.5)), byte_level)
    assert [response.reward for response in group.responses] == [0.5, 0]


def test_labels_become_rewards(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write(*({"question": "x", "completion": said, "label": said == "a"} for said in "ab"))
    prepared = ready(path, byte_level, "verdicts")
    assert [[response.reward for response in group.responses] for group in prepared] == [[1.0], [0.0]]
    [group] = ready(write(pair("a", "b", margin=3)), byte_level, "verdicts")
    assert [response.reward for response in group.responses] == [1.0, 0.0], "a pair is two verdicts"


@pytest.mark.parametrize(
    ("row", "comparison", "words"),
    [
        ({"question": "x", "completion": "a", "label": True}, "pairs", "one response with a label"),
        ({"question": "x", "responses": ["a", "b", "c"], "scores": [1, 2, 3]}, "pairs", "3 responses"),
        ({"question": "x", "responses": ["a", "b", "c"], "scores": [1, 2, 3]}, "verdicts", "3 responses"),
        ({"question": "x", "chosen": "a", "rejected": "b"}, "triples", "2 responses"),
        ({"question": "x", "chosen": "a", "rejected": "b", "margin": -1}, "pairs", "margin is -1"),
        ({"question": "x", "chosen": "a", "rejected": "b", "margin": "much"}, "pairs", "margin is 'much'"),
        (
            {"question": "x", "chosen": "a", "rejected": "b", "score_chosen": 1, "score_rejected": 2},
            "pairs",
            "chosen is the better answer",
        ),
        ({"question": "x", "chosen": "a", "rejected": "a"}, "pairs", "the same"),
        ({"question": "x", "responses": ["a", "b"], "scores": [1, None]}, "pairs", r"scores\[1\] is None"),
        ({"question": "x", "completion": "a", "label": "perhaps"}, "verdicts", "label is 'perhaps'"),
    ],
)
def test_rows_that_do_not_fit_the_comparison(
    write: Write, byte_level: PreTrainedTokenizerBase, row: dict[str, object], comparison: str, words: str
) -> None:
    with pytest.raises(DataError, match=words) as error:
        ready(write(row), byte_level, comparison)
    assert "line 1" in str(error.value)


LONG = pair("z" * 60, "y", "x")


def test_a_long_pair_is_dropped_as_a_whole(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write(LONG, pair("a", "b", "x"))
    prepared = ready(path, byte_level, max_length=60, overlong="drop")
    assert [group.metadata["row"] for group in prepared] == [1]
    [dropped] = prepared.report.dropped
    assert dropped.count == 1
    with pytest.raises(DataError, match="longer than 60"):
        ready(path, byte_level, max_length=60)


def test_both_answers_are_cut_at_the_same_place(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    prepared = ready(write(pair("z" * 60, "y" * 50, "x")), byte_level, max_length=40, overlong="truncate")
    [group] = prepared
    assert [len(group.prompt) + len(response.tokens) for response in group.responses] == [40, 40]
    assert prepared.report.cut == 2


def test_answers_that_differ_only_after_the_cut_cannot_be_used(
    write: Write, byte_level: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(DataError, match="differ only after 40 tokens"):
        ready(write(pair("z" * 60 + "a", "z" * 60 + "b", "x")), byte_level, max_length=40, overlong="truncate")


def test_a_prompt_that_fills_the_limit_cannot_be_cut(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write(pair("a", "b", "x" * 80), pair("a", "b", "x"))
    with pytest.raises(DataError, match="prompt alone fills"):
        ready(path, byte_level, max_length=40, overlong="truncate")
    assert len(ready(path, byte_level, max_length=40, overlong="truncate", max_invalid_fraction=0.5)) == 1


def test_earliest_turns_are_taken_from_both_alike(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    def said(role: str, content: str) -> dict[str, str]:
        return {"role": role, "content": content}

    prompt = [said("user", "q" * 40), said("assistant", "w" * 40), said("user", "short")]
    row = {"prompt": prompt, "chosen": [said("assistant", "z" * 30)], "rejected": [said("assistant", "y")]}
    whole, shorter = (
        next(iter(ready(write(row), byte_level, **options)))
        for options in ({}, {"max_length": 90, "overlong": "drop_turns"})
    )
    assert "w" not in byte_level.decode(shorter.prompt)
    assert "short" in byte_level.decode(shorter.prompt)
    for one, other in zip(whole.responses, shorter.responses, strict=True):
        assert torch.equal(one.tokens, other.tokens)


def test_a_single_row_gives_the_groups_of_the_whole_set(write: Write, tokenizer: PreTrainedTokenizerBase) -> None:
    """A draw before all rows are tokenized equals the cached group."""
    path = write(pair("four", "spaces"), pair("four", "four four"), pair("z" * 200, "a"))
    made = preparation(path, tokenizer, max_length=150, overlong="drop")
    for prepared in (made.whole(), preparation(path, tokenizer, max_length=150, overlong="drop").whole()):
        for groups, drawn in zip(filter(None, map(made.row, range(3))), prepared.draws, strict=True):
            for one, other in zip(groups, drawn, strict=True):
                assert torch.equal(one.prompt, other.prompt)
                for a, b in zip(one.responses, other.responses, strict=True):
                    assert torch.equal(a.tokens, b.tokens)
                    assert torch.equal(a.trainable, b.trainable)
                    assert a.reward == b.reward


def test_the_view_shows_both_responses(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    made = preparation(write(pair("the answer", "spaces")), byte_level)
    prompt, chosen, rejected = (row_view.plain() for row_view in view_rows(made, 0))
    assert "2 responses to a prompt of" in prompt
    assert "what is two and two" in prompt
    assert "⟦" not in prompt
    assert chosen.startswith("chosen: ")
    assert "⟦the answer<|endoftext|>⟧" in chosen
    assert rejected.startswith("rejected: ")
    assert "⟦spaces<|endoftext|>⟧" in rejected
    assert "what is two" not in chosen + rejected
    example = "".join(text for text, _ in made.whole().report.example)
    assert "the answer" in example
    assert "— and not —" in example
