"""Steps with given scores: random ones, or those of a model by transformers' own forward of every response alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from burnish.losses.base import Loss
from burnish.model.attention import plain_attention
from burnish.model.policy import Model
from burnish.packing import count_denominators
from burnish.train.step import sum_terms
from burnish.types import Denominator, Group, LossOutput, Microbatch, Response, Score, TokenScores
from tests.preferences import in_one


@dataclass(frozen=True, slots=True)
class Scored:
    """A group with scores of its trained tokens."""

    group: Group
    scores: TokenScores


@dataclass(frozen=True, slots=True)
class Step:
    """A step in one microbatch, with its scores."""

    scores: TokenScores
    microbatch: Microbatch
    denominators: dict[Denominator, float]

    @classmethod
    def of(cls, parts: Sequence[Scored]) -> Step:
        """The groups in their order; scores of the groups are not copied where there is one."""
        groups = [part.group for part in parts]
        names = [entry.name for entry in fields(TokenScores) if vars_of(parts[0].scores)[entry.name] is not None]
        joined = {name: torch.cat([vars_of(part.scores)[name] for part in parts]) for name in names}
        return cls(TokenScores(**joined), in_one(groups), count_denominators(groups))

    def output(self, loss: Loss) -> LossOutput:
        return loss(self.scores, self.microbatch)

    def value(self, loss: Loss) -> Tensor:
        """The step's loss, with gradient."""
        return sum_terms(self.output(loss), self.denominators)

    def gradients(self, loss: Loss) -> dict[Score, Tensor]:
        """[S] of the step's loss with respect to each score; 0 where it does not depend on it."""
        leaves = {kind: self.scores.of(kind) for kind in loss.needs}
        found = torch.autograd.grad(self.value(loss), list(leaves.values()), allow_unused=True)
        pairs = zip(leaves.items(), found, strict=True)
        return {kind: torch.zeros_like(leaf) if gradient is None else gradient for (kind, leaf), gradient in pairs}


def vars_of(scores: TokenScores) -> dict[str, Tensor]:
    """Name → score, None if it was not computed."""
    return {entry.name: getattr(scores, entry.name) for entry in fields(TokenScores)}


def with_random_scores(loss: Loss, groups: Sequence[Group], seed: int = 0) -> list[Scored]:
    """The groups with random scores in float64, those that the loss needs, as leaves of a graph."""
    generator = torch.Generator().manual_seed(seed)
    return [Scored(group, _random(loss.needs, in_one([group]), generator)) for group in groups]


def _random(needs: Collection[Score], microbatch: Microbatch, generator: torch.Generator) -> TokenScores:
    size, several = len(microbatch.targets), microbatch.sequence_scores.shape[1]
    found = {}
    for kind in Score:  # all are drawn, so that a score does not depend on which others are needed
        shape = (size, several) if kind is Score.VALUE and several > 1 else (size,)
        found[kind] = _drawn(kind, shape, generator)
    ends = torch.randn(microbatch.num_sequences, dtype=torch.float64, generator=generator)
    given = {kind.value: found[kind].requires_grad_() for kind in needs}
    return TokenScores(**given, bootstrap_value=ends if Score.STATE_VALUE in needs else None)


def _drawn(kind: Score, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Nats are negative, entropies positive, values have any sign."""
    uniform = torch.rand(shape, dtype=torch.float64, generator=generator)
    if kind in (Score.LOGPROB, Score.MEAN_LOGPROB, Score.LOG_COLLISION):
        return -2 * uniform - 0.1
    return uniform if kind is Score.ENTROPY else 4 * uniform - 2


def with_plain_scores(policy: Model, needs: Collection[Score], groups: Sequence[Group]) -> list[Scored]:
    """The groups with the scores of a float64 model, by one unpadded forward of every response, with their graph."""
    with plain_attention(policy.causal_lm):
        return [Scored(group, _plain(policy, needs, group)) for group in groups]


def _plain(policy: Model, needs: Collection[Score], group: Group) -> TokenScores:
    parts: list[dict[str, Tensor]] = []
    for response in group.responses:
        logits, before, states = _plain_response(policy, group.prompt, response)
        logprobs = logits[response.trainable]
        scores = _of_logits(logprobs, response.tokens[response.trainable])
        if response.teacher_topk_tokens is not None:
            scores[Score.DIVERGENCE] = _from_teacher(logprobs, response)
        if policy.critic_head is not None:
            scores[Score.VALUE] = _one(policy.critic_head(states)[response.trainable])
            scores[Score.STATE_VALUE] = _one(policy.critic_head(before)[response.trainable])
            scores["bootstrap_value"] = _one(policy.critic_head(states[-1:])).detach()
        parts.append(scores)
    names = [*needs, *(["bootstrap_value"] if Score.STATE_VALUE in needs else [])]
    return TokenScores(**{str(name): torch.cat([part[name] for part in parts]) for name in names})


def _plain_response(policy: Model, prompt: Tensor, response: Response) -> tuple[Tensor, Tensor, Tensor]:
    """[R, V] logits that predict each token, [R, H] hidden states of the token before it, and of itself; every text of
    the response is computed alone."""
    parts = []
    for sequence, (start, end, _) in zip(response.sequences, response.texts, strict=True):
        tokens = torch.cat([prompt, sequence])
        output = policy.causal_lm(input_ids=tokens[None], use_cache=False, output_hidden_states=True)
        first, states = len(tokens) - (end - start), output.hidden_states[-1][0]
        parts.append((output.logits[0, first - 1 : -1], states[first - 1 : -1], states[first:]))
    logits, before, own = (torch.cat(each) for each in zip(*parts, strict=True))
    return logits, before, own


def _of_logits(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Scores of logits [S, V] by their definitions."""
    logprobs = logits.log_softmax(-1)
    return {
        Score.LOGPROB: logprobs.gather(1, targets[:, None])[:, 0],
        Score.ENTROPY: -(logprobs.exp() * logprobs).sum(-1),
        Score.LOG_PARTITION: logits.logsumexp(-1),
        Score.MEAN_LOGPROB: logprobs.mean(-1),
        Score.LOG_COLLISION: (2 * logprobs).logsumexp(-1),
    }


def _from_teacher(logits: Tensor, response: Response) -> Tensor:
    """[S] KL(student ‖ teacher) over the teacher's top k and the rest, by its definition."""
    assert response.teacher_topk_logprobs is not None
    assert response.teacher_tail_logprobs is not None
    tokens = response.teacher_topk_tokens[response.trainable]
    top, tail = response.teacher_topk_logprobs[response.trainable], response.teacher_tail_logprobs[response.trainable]
    teacher = torch.cat([top, tail[:, None]], dim=1).exp()
    chosen = logits.softmax(-1).gather(1, tokens)
    student = torch.cat([chosen, 1 - chosen.sum(dim=1, keepdim=True)], dim=1)
    return (student * (student / teacher).log()).sum(dim=1)


def _one(values: Tensor) -> Tensor:
    """[S] of a head with one output, [S, K] of one with several."""
    return values[:, 0] if values.shape[1] == 1 else values
