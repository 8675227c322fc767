"""State values V(s_t): read where a token is predicted, equal to those of unpacked sequences, with exact gradients."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from burnish.errors import ModelError
from burnish.losses.base import LossDefaults
from burnish.model.attention import install, plain_attention
from burnish.model.policy import Model
from burnish.model.settings import ValueHeadConfig
from burnish.model.value_head import ValueHead, bootstrap_values, state_values, with_value_head
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.packing import count_denominators, pack, pack_singly
from burnish.train.step import Trainer, score_joined
from burnish.types import Denominator, Group, LossOutput, LossTerm, Microbatch, Scope, Score, TokenScores
from tests.conftest import make_groups
from tests.families import in_float64

SHAPES = [(4, [5, 3, 1, 6]), (9, [2]), (1, [4, 4]), (6, [1, 7, 2])]
PACKINGS = {
    "shared": lambda groups: pack(groups, 10**6),
    "split": lambda groups: pack(groups, 12),
    "repeated": lambda groups: pack(groups, 30, share=False),
    "one by one": pack_singly,
}


@pytest.fixture(params=["llama-tied", "qwen3-windowed", "gpt-2"])
def critic(request, monkeypatch) -> Model:
    model = in_float64(request.param, monkeypatch)
    install(model)
    return Model(with_value_head(model, ValueHeadConfig(seed=3)).train(), tokenizer=None)


def numbered() -> list[Group]:
    """Groups whose tokens are not all trained, nor the last of each response; the stream of values numbers the
    tokens, that of returns has targets."""
    generator, first, numbered_groups = torch.Generator().manual_seed(5), 0, []
    for group in make_groups(SHAPES, holes=True):
        responses = []
        for response in group.responses:
            size = len(response.tokens)
            trainable = response.trainable.clone()
            trainable[-1] = size % 2 == 1
            responses.append(
                replace(
                    response,
                    trainable=trainable,
                    values=torch.arange(first, first + size, dtype=torch.float32),
                    returns=torch.randn(size, generator=generator),
                )
            )
            first += size
        numbered_groups.append(replace(group, responses=tuple(responses)))
    return numbered_groups


def unpacked(critic: Model) -> tuple[Tensor, Tensor]:
    """Values of trained tokens and bootstrap values of responses by transformers' own model, one forward each."""
    model, values, ends = critic.causal_lm, [], []
    with plain_attention(model):
        for group in numbered():
            for response in group.responses:
                tokens = torch.cat([group.prompt, response.tokens])
                hidden = model.get_submodule(model.base_model_prefix)(input_ids=tokens[None], use_cache=False)
                outputs = model.score(hidden.last_hidden_state[0])[:, 0]
                before = outputs[len(group.prompt) - 1 : -1]
                values.append(before[response.trainable])
                ends.append(outputs[-1])
    return torch.cat(values), torch.stack(ends).detach()


def packed(critic: Model, microbatches: list[Microbatch]) -> tuple[Tensor, Tensor]:
    """The same from microbatches, in the order of the groups."""
    numbers, values, ends = [], [], {}
    for microbatch in microbatches:
        scores = critic.score(microbatch, [Score.STATE_VALUE])
        assert not scores.bootstrap_value.requires_grad
        numbers.append(microbatch.values)
        values.append(scores.of(Score.STATE_VALUE))
        owners = zip(microbatch.sequence_group.tolist(), microbatch.sequence_index.tolist(), strict=True)
        ends |= dict(zip(owners, scores.bootstrap_value, strict=True))
    return torch.cat(values)[torch.cat(numbers).argsort()], torch.stack([ends[owner] for owner in sorted(ends)])


def gradients(critic: Model, value: Tensor) -> dict[str, Tensor]:
    critic.model.zero_grad()
    value.backward()
    return {name: p.grad.clone() for name, p in critic.model.named_parameters() if p.grad is not None}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        assert float((found[name] - gradient).abs().max()) < 1e-12 * largest, name


@pytest.mark.parametrize("packing", PACKINGS)
def test_values_and_gradients_are_those_of_unpacked_sequences(critic, packing):
    theirs, their_ends = unpacked(critic)
    direction = torch.randn(len(theirs), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = gradients(critic, direction @ theirs)
    mine, ends = packed(critic, PACKINGS[packing](numbered()))
    assert float((mine - theirs).detach().abs().max()) < 1e-12
    assert float((ends - their_ends).abs().max()) < 1e-12
    assert_same(gradients(critic, direction @ mine), expected)
    assert float(theirs.detach().std()) > 0.02, "there is something to be equal"


def test_the_state_before_the_first_token_is_the_prompt_for_all_responses():
    """One number for all n, read at the prompt's last token; its gradient is the sum of theirs."""
    [microbatch] = pack(make_groups([(5, [3, 1, 4, 2])]), 100)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(len(microbatch.tokens), 6, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(1, 6, dtype=torch.float64, generator=generator)
    values = state_values(hidden, ValueHead(weight), microbatch)
    first = microbatch.response_positions == 0
    assert torch.equal(microbatch.predictor_positions[first], torch.full((4,), 4))
    assert torch.equal(values[first], (hidden[4] @ weight[0]).expand(4))
    upstream = torch.randn(len(values), dtype=torch.float64, generator=generator)
    (upstream @ values).backward()
    assert torch.allclose(hidden.grad[4], upstream[first].sum() * weight[0], rtol=1e-14)
    assert torch.equal(hidden.grad[:4], torch.zeros(4, 6, dtype=torch.float64))
    last = microbatch.sequence_end_positions
    assert torch.equal(hidden.grad[last], torch.zeros(4, 6, dtype=torch.float64)), "no token follows the last one"
    ends = bootstrap_values(hidden, ValueHead(weight), microbatch)
    assert torch.allclose(ends, hidden.detach()[last] @ weight[0], rtol=1e-14)


def test_the_state_before_a_token_is_after_the_one_before(critic):
    """V(s_{t+1}) is the value at token t, and the bootstrap value that at the last token."""
    [microbatch] = pack(make_groups([(3, [4, 6])]), 100)
    scores = critic.score(microbatch, [Score.VALUE, Score.STATE_VALUE])
    parts = zip(*(scores.of(kind).split([4, 6]) for kind in (Score.VALUE, Score.STATE_VALUE)), strict=True)
    for (at_token, before_token), end in zip(parts, scores.bootstrap_value, strict=True):
        assert torch.allclose(before_token[1:], at_token[:-1], rtol=1e-13)
        assert torch.allclose(end, at_token[-1], rtol=1e-13)


def test_nothing_of_it_is_computed_unless_needed(critic):
    [microbatch] = pack(make_groups([(3, [4])]), 100)
    scores = critic.score(microbatch, [Score.VALUE])
    assert (scores.state_value, scores.bootstrap_value) == (None, None)


@pytest.mark.parametrize("read", [state_values, bootstrap_values])
def test_a_state_has_one_value(read):
    [microbatch] = pack(make_groups([(3, [4])]), 100)
    with pytest.raises(ModelError, match="the value of a state is the expected return, which is one number"):
        read(torch.zeros(7, 6), ValueHead(nn.Linear(6, 2).weight), microbatch)


@dataclass(frozen=True, slots=True)
class WholeStep(LossDefaults):
    """A critic's loss that needs all values of the step at once: their variance, and errors scaled by the bootstrap
    values."""

    @property
    def needs(self) -> Collection[Score]:
        return [Score.STATE_VALUE]

    @property
    def scope(self) -> Scope:
        return Scope.STEP

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        values, ends = scores.of(Score.STATE_VALUE), scores.bootstrap_value
        assert not ends.requires_grad
        assert len(ends) == microbatch.num_sequences
        errors = (values - microbatch.returns.to(values.dtype)) ** 2 * ends[microbatch.sequence]
        return LossOutput({"value": LossTerm(errors.sum() + values.var(), Denominator.TOKENS)})


def test_a_loss_of_the_whole_step_learns_the_same_from_any_split(critic):
    groups = numbered()
    trainer = Trainer(critic, Optimizer(critic.trained_parameters(), OptimizerSettings()))
    found = {}
    for name, packing in PACKINGS.items():
        critic.model.zero_grad()
        sums = trainer.accumulate(packing(groups), WholeStep(), count_denominators(groups))
        found[name] = {n: p.grad.clone() for n, p in critic.trained_parameters()}, float(sums["loss"])
    expected, loss = found.pop("shared")
    for gradient, other in found.values():
        assert other == pytest.approx(loss, rel=1e-12)
        assert_same(gradient, expected)


def test_joined_scores_have_the_bootstrap_values_of_all_sequences(critic):
    parts = PACKINGS["split"](numbered())
    scores, joined = score_joined(critic, parts, [Score.STATE_VALUE])
    apart = [critic.score(part, [Score.STATE_VALUE]) for part in parts]
    assert len(parts) > 1
    assert len(scores.bootstrap_value) == joined.num_sequences
    assert torch.equal(scores.bootstrap_value, torch.cat([part.bootstrap_value for part in apart]))
    assert torch.equal(scores.state_value, torch.cat([part.state_value for part in apart]))
    assert torch.equal(
        joined.tokens[joined.sequence_end_positions],
        torch.cat([part.tokens[part.sequence_end_positions] for part in parts]),
    )
