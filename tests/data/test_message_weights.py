"""Weights of messages, from the row to the loss, against the formula; weight 1 everywhere equals no weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from burnish.data.convert import canonical
from burnish.data.dataset import DatasetSpec, TokenizedDataset
from burnish.data.formats.known import FORMATS
from burnish.data.formats.recognize import recognize
from burnish.data.read import read_rows
from burnish.data.records import Conversation, Message
from burnish.data.rendering import render
from burnish.data.sample_builder import SampleBuilder
from burnish.data.settings import Overlong
from burnish.data.template import Template
from burnish.data.token_store import TokenStore, join, open_joined, read_tokens, write_tokens
from burnish.data.tokenize import to_response, tokenize
from burnish.data.view import view_rows
from burnish.data.writer import Writer
from burnish.errors import DataError
from burnish.losses.cross_entropy import CrossEntropy
from burnish.packing import count_denominators, pack
from burnish.types import Denominator, Group, TokenScores

Write = Callable[..., str]
CHATML = Template(
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
weights = st.just(0) | st.integers(1, 1000) | st.floats(1e-6, 1000)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))


def row(*given: object) -> dict[str, object]:
    """A conversation whose answers have these weights; None: no key `weight`."""
    turns: list[dict[str, object]] = []
    for index, weight in enumerate(given):
        answer = {"role": "assistant", "content": f"four {index}"}
        turns += [
            {"role": "user", "content": "two and two"},
            answer if weight is None else {**answer, "weight": weight},
        ]
    return {"messages": turns}


def made(
    path: str, tokenizer: PreTrainedTokenizerBase, overlong: Overlong = "error", max_length: int = 999
) -> TokenizedDataset:
    preparation = DatasetSpec.of(read_rows(path), tokenizer, CHATML, max_length=max_length, overlong=overlong)
    return preparation.whole(workers=0)


def per_token(group: Group) -> list[float]:
    """Weight of each token of the response, 0 where it is not learned."""
    response = group.responses[0]
    counts = torch.ones(len(response.tokens)) if response.weights is None else response.weights
    return (counts * response.trainable).tolist()


def loss_and_gradient(groups: list[Group]) -> tuple[float, list[float]]:
    """Loss and gradient of one step, for log-probabilities that depend on token and position, in float64."""
    [packed] = pack(groups, 10_000)
    logprob = -(1 + packed.targets.double().sin() ** 2 + torch.arange(len(packed.targets)) / 7)
    logprob.requires_grad_()
    term = CrossEntropy()(TokenScores(logprob=logprob), packed).terms["cross_entropy"]
    loss = term.total / count_denominators(groups)[term.denominator]
    loss.backward()
    assert logprob.grad is not None
    return loss.item(), logprob.grad.tolist()


def test_a_weight_of_one_is_no_weight(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    plain, ones = (made(write(row(w, w), name=f"{w}.jsonl"), byte_level) for w in (None, 1.0))
    assert ones.samples.weights is None
    assert ones.samples.fingerprint == plain.samples.fingerprint
    assert ones[0].responses[0].weights is None
    mixed = made(write(row(1, 1), row(2, 1)), byte_level)
    assert mixed.samples.weights is not None
    assert mixed.samples.fingerprint != made(write(row(1, 1), row(1, 1)), byte_level).samples.fingerprint
    assert mixed[0].responses[0].weights is None
    assert mixed[0].responses[0].tokens.tolist() == plain[0].responses[0].tokens.tolist()


@pytest.mark.parametrize("weight", [0.25, 2, 300])
def test_only_the_ratios_of_weights_matter(write: Write, byte_level: PreTrainedTokenizerBase, weight: float) -> None:
    for ratio in (1, 3):
        one = loss_and_gradient(list(made(write(row(1, ratio)), byte_level)))
        all_of_it = loss_and_gradient(list(made(write(row(weight, weight * ratio)), byte_level)))
        assert all_of_it[0] == pytest.approx(one[0], rel=1e-12)
        assert all_of_it[1] == pytest.approx(one[1], rel=1e-12)


def test_the_loss_by_hand(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    """sum w_t (-log p_t) / sum w_t over the learned tokens of a step; the end token of a turn has its weight."""
    groups = list(made(write(row(2, 0.5, 0), row(None)), byte_level))
    counts = [weight for group in groups for weight in per_token(group)]
    size = len(byte_level("four 0<|im_end|>").input_ids)
    assert [counts.count(weight) for weight in (2, 0.5, 1)] == [size, size, size]
    [packed] = pack(groups, 10_000)
    logprob = -(1 + packed.targets.double().sin() ** 2)
    found = CrossEntropy()(TokenScores(logprob=logprob), packed).terms["cross_entropy"]
    learned = [
        (weight, -(1 + math.sin(token) ** 2))
        for group in groups
        for token, weight in zip(group.responses[0].tokens.tolist(), per_token(group), strict=True)
        if weight
    ]
    expected = math.fsum(-w * lp for w, lp in learned) / math.fsum(w for w, _ in learned)
    assert found.denominator is Denominator.WEIGHT
    assert float(found.total) / count_denominators(groups)[found.denominator] == pytest.approx(expected, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(given=st.lists(weights, min_size=1, max_size=5).filter(any))
def test_every_turn_has_its_weight(byte_level: PreTrainedTokenizerBase, given: list[float]) -> None:
    conversation = FORMATS["chat"].convert(row(*given))
    assert isinstance(conversation, Conversation)
    again = json.loads(json.dumps(canonical(conversation)))
    assert recognize(tuple(again)).convert(again) == conversation
    (sample,) = tokenize(render(conversation, Writer(byte_level, CHATML)), byte_level)
    assert not isinstance(sample, DataError)
    after = slice(sample.prompt_length, None)
    counts = None if sample.weights is None else sample.weights[after]
    response = to_response(sample.tokens[after], sample.trainable[after], counts)
    group = Group(
        prompt=torch.from_numpy(sample.tokens[: sample.prompt_length].astype(np.int64)), responses=(response,)
    )
    runs, before = [], 0.0
    for token, weight in zip(group.responses[0].tokens.tolist(), per_token(group), strict=True):
        runs += [(weight, [token])] if weight and not before else []
        runs[-1][1].extend([token] if weight and before else [])
        before = weight
    expected = [(float(np.float32(w)), f"four {index}<|im_end|>") for index, w in enumerate(given) if w]
    assert [(weight, byte_level.decode(tokens)) for weight, tokens in runs] == expected


@pytest.mark.parametrize(
    "weight",
    [-1, -1e-9, 1e-7, 1000.5, pytest.param(10**400, id="huge"), math.inf, -math.inf, math.nan, True, "2", [1], {}],
)
def test_numbers_that_are_no_weights(weight: object) -> None:
    with pytest.raises(DataError, match=r"(?s)messages\[3\] has as weight .*a number from 1e-06 to 1000") as raised:
        FORMATS["chat"].convert(row(1, weight))
    assert len(str(raised.value)) < 400


def test_train_is_true_or_false() -> None:
    turns = row(0.5, 2)["messages"]
    assert isinstance(turns, list)
    turns[1]["train"], turns[3]["train"] = False, True
    conversation = FORMATS["chat"].convert({"messages": turns})
    assert isinstance(conversation, Conversation)
    assert (conversation.turns, conversation.messages[3].weight) == ((3,), 2.0)
    turns[3]["train"] = 0.5
    with pytest.raises(DataError, match=r"messages\[3\] has the train 0\.5"):
        FORMATS["chat"].convert({"messages": turns})


def test_context_has_no_weight() -> None:
    said = row(0.5)["messages"]
    conversation = FORMATS["prompt_completion"].convert({"prompt": said, "completion": row(3)["messages"]})
    assert isinstance(conversation, Conversation)
    assert [message.weight for message in conversation.messages] == [1, 1, 1, 3]
    assert conversation.messages[0] == Message("user", "two and two")


def test_long_rows_keep_their_weights(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write(row(2, 3, 0.5))
    (whole,) = made(path, byte_level)
    size = whole.num_tokens
    (cut,) = made(path, byte_level, "truncate", size - 1)
    assert per_token(whole)[: len(per_token(cut))] == per_token(cut)
    assert set(per_token(cut)) == {0, 2, 3, 0.5}
    (shorter,) = made(path, byte_level, "drop_turns", size - 1)
    assert set(per_token(shorter)) == {0, 3, 0.5}


def test_text_outside_the_turns_has_weight_one(byte_level: PreTrainedTokenizerBase) -> None:
    conversation = FORMATS["chat"].convert(row(2))
    assert isinstance(conversation, Conversation)
    (sample,) = tokenize(render(conversation, Writer(byte_level, CHATML), "everything"), byte_level)
    assert not isinstance(sample, DataError)
    assert sample.weights is not None
    end = len(byte_level("four 0<|im_end|>\n").input_ids)
    assert sample.weights.tolist() == [1.0] * (len(sample.tokens) - end) + [2.0] * end


def token_store(path: str, tokenizer: PreTrainedTokenizerBase) -> TokenStore:
    return SampleBuilder(read_rows(path), FORMATS["chat"], Writer(tokenizer, CHATML)).make(0, 2)


def test_chunks_with_and_without_weights_are_joined(
    write: Write, byte_level: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    parts = [token_store(write(row(*given), row(1)), byte_level) for given in ((1, 1), (2, 1), (1,))]
    paths = [tmp_path / f"{number}.npz" for number in range(3)]
    for path, part in zip(paths, parts, strict=True):
        write_tokens(path, part)
        back = read_tokens(path)
        assert back is not None
        assert (back.weights is None) == (part.weights is None)
    (tmp_path / "joined").mkdir()
    join(paths, tmp_path / "joined")
    joined = open_joined(tmp_path / "joined")
    assert joined is not None
    assert joined.weights is not None
    assert parts[1].weights is not None
    before, size = len(parts[0].tokens), len(parts[1].tokens)
    assert joined.weights[before : before + size].tolist() == parts[1].weights.tolist()
    assert len(joined.weights) == len(joined.tokens)
    assert (np.delete(joined.weights, np.arange(before, before + size)) == 1).all()
    (tmp_path / "joined" / "weights.npy").unlink()
    assert open_joined(tmp_path / "joined") is None


def test_the_view_shows_weights_that_are_not_one(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    builder = SampleBuilder(read_rows(write(row(2, 1, 0))), FORMATS["chat"], Writer(byte_level, CHATML))
    (row_view,) = view_rows(DatasetSpec(builder, max_length=999), 0)
    assert "⟦four 0<|im_end|>⟧×2\n" in row_view.plain()
    assert "⟦four 1<|im_end|>⟧\n" in row_view.plain()
    assert "four 2" not in row_view.plain()
    assert "<|im_end|>×2\n" in row_view.text().plain
