r"""Generalized advantage estimation (GAE) for sampled responses, with the KL penalty in the reward of every token.

A response is an episode: state s_t is the prompt with the tokens before y_t, the action is y_t. With a critic's values
V (Schulman et al. 2016, arXiv 1506.02438, equations 11 and 16):

    δ_t = r_t + γ V(s_{t+1}) − V(s_t)        A_t(λ) = Σ_k (γλ)^k δ_{t+k}        R_t(λ) = V(s_t) + A_t(λ)

The state after the last token is terminal: its value is 0, or, for a truncated response with `bootstrap_truncated`, the
critic's. Limits: λ = 1 is the discounted sum of rewards minus V(s_t); λ = 0 is δ_t.

The reward of a token is (Ziegler et al. 2019, arXiv 1909.08593, equation 2; Ouyang et al. 2022, arXiv 2203.02155)

    r_t = − β k(y_t) + (reward of the step that ends at y_t) + (at the last token) the rest of the response's reward

with d = log π_ref(y_t) − log π(y_t) and k an estimate of KL(π ‖ π_ref): k1 = − d, k2 = d² / 2, k3 = e^d − d − 1. As a
reward, the expected policy gradient of k1 is that of the KL of whole responses; that of k2 is ∇E[k2] − ∇KL, that of k3
∇KL(π ‖ π_ref) − ∇KL(π_ref ‖ π) where prefixes are held fixed: k2 and k3 are nonnegative and of smaller variance, and
pull towards the reference less than k1.

The policy's advantages and the critic's returns may have different λ (decoupled GAE: VC-PPO, Yuan et al. 2025, arXiv
2503.01491), and the policy's λ may depend on the length l of the response, λ = max(0, 1 − 1 / (α l)) (length-adaptive
GAE: VAPO, Yue et al. 2025, arXiv 2504.05118, equation 7), so that the reward at the end reaches the same share of any
response. Tokens that the policy did not write (a tool's output) are no actions: an episode consists of trained tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from burnish.credit.settings import GaeSettings, KlEstimator
from burnish.rounding import alike
from burnish.streams import spread
from burnish.types import Group, Response

EPSILON = 1e-8
"""Added to a standard deviation in whitening."""
CALIBRATION_BINS = 10
MAX_CHANGE = 0.2
"""Largest relative distance of the KL divergence from its target that counts in one update of β (Ziegler et al. 2019,
section 2.2)."""


def gae(rewards: Tensor, values: Tensor, bootstrap: float, gamma: float, lam: float) -> Tensor:
    """[T] float64, advantages A_t(λ) of one episode; see the module.

    Args:
        rewards: [T], r_t, at least one.
        values: [T], V(s_t).
        bootstrap: V of the state after the last action; 0: it is terminal.
        gamma: discount, in [0, 1].
        lam: λ, in [0, 1].
    """
    rewards, values = rewards.double(), values.double()
    following = torch.cat([values[1:], values.new_tensor([bootstrap])])
    advantage, advantages = 0.0, []
    for delta in reversed((rewards + gamma * following - values).tolist()):
        advantage = delta + gamma * lam * advantage
        advantages.append(advantage)
    return torch.tensor(advantages[::-1], dtype=torch.float64)


def kl_estimate(logprobs: Tensor, reference_logprobs: Tensor, estimator: KlEstimator) -> Tensor:
    """[T] float64 nats, an estimate of KL(π ‖ π_ref) at each token, see the module.

    Args:
        logprobs: [T] nats of the policy that sampled the tokens.
        reference_logprobs: [T] nats.
        estimator: k1, k2 or k3.
    """
    difference = reference_logprobs.double() - logprobs.double()
    if estimator == "k1":
        return -difference
    return difference.square() / 2 if estimator == "k2" else difference.exp() - difference - 1


def length_adaptive_lambda(length: int, alpha: float) -> float:
    """λ of a response of this many tokens: max(0, 1 − 1 / (α · length)) (VAPO, equation 7)."""
    return max(0.0, 1 - 1 / (alpha * length))


def whitened(values: Sequence[Tensor], *, center: bool = True) -> list[Tensor]:
    """The values of all responses of a batch together, with mean 0 (if `center`) and standard deviation 1 (n − 1 in its
    denominator). Values that are all equal become 0 if they are centered, and otherwise stay."""
    together = torch.cat(list(values))
    if len(together) < 2 or alike(together.tolist()):
        return [torch.zeros_like(each) if center else each for each in values]
    mean, deviation = float(together.mean()), float(together.std())
    return [((each - mean) if center else each) / (deviation + EPSILON) for each in values]


@dataclass(frozen=True, eq=False, slots=True)
class _Episode:
    """A graded response in the order of its actions, the trained tokens; [T] float64."""

    response: Response
    reward: float
    values: Tensor
    divergence: Tensor
    """k of each token; 0 without a reference."""
    step_rewards: Tensor

    def rewards(self, kl_coef: float) -> Tensor:
        """[T], r_t; see the module."""
        rewards = self.step_rewards - kl_coef * self.divergence
        rewards[-1] += self.reward - float(self.step_rewards.sum())
        return rewards


@dataclass(eq=False)
class Gae:
    """Credit rule of PPO: advantages and returns by GAE. With an adaptive KL coefficient it has a state."""

    settings: GaeSettings
    kl_coef: float = field(init=False)
    """β of the next batch."""
    metrics: Mapping[str, float] = field(init=False, default_factory=dict)
    """Metrics of the newest batch; docs/glossary.md defines them."""
    _batches: int = field(init=False, default=0)
    """Number of batches so far."""

    def __post_init__(self) -> None:
        self.kl_coef = self.settings.kl_coef

    @property
    def needs_reference(self) -> bool:
        """Whether responses must have `reference_logprobs`."""
        return self.settings.needs_reference

    @property
    def group_relative(self) -> bool:
        """False: each response is compared with its critic's values."""
        return False

    @property
    def reward_combination(self) -> Any:
        return "sum"

    def assign(self, groups: Sequence[Group], rewards: Sequence[Tensor]) -> list[tuple[Group, ...]]:
        """Each group's graded responses with `advantages` and `returns`; see `rule.CreditRule`. The coefficient of the
        KL penalty is then updated, if it is adaptive.

        Args:
            groups: responses with `values`, `bootstrap_value` and `sampler_logprobs`, and with `reference_logprobs` if
                the rule needs a reference.
            rewards: [n] for each group; nan: not graded.
        """
        graded = [
            [pair for pair in zip(group.responses, given.tolist(), strict=True) if not math.isnan(pair[1])]
            for group, given in zip(groups, rewards, strict=True)
        ]
        episodes = [self._episode(*pair) for pairs in graded for pair in pairs if bool(pair[0].trainable.any())]
        credited = iter(self._credited(episodes) if episodes else ())
        items: list[tuple[Group, ...]] = []
        for group, pairs in zip(groups, graded, strict=True):
            responses = tuple(next(credited) if bool(r.trainable.any()) else _untrained(r) for r, _ in pairs)
            items.append((replace(group, responses=responses),) if responses else ())
        return items

    def _episode(self, response: Response, reward: float) -> _Episode:
        at = response.trainable
        assert response.values is not None, "a critic gives values of every response"
        zeros = torch.zeros(int(at.sum()), dtype=torch.float64)
        divergence = zeros
        if self.needs_reference:
            policy, reference = response.sampler_logprobs, response.reference_logprobs
            assert policy is not None and reference is not None, "a divergence needs both log-probabilities"
            divergence = kl_estimate(policy[at], reference[at], self.settings.kl_estimator)
        steps = zeros if response.step_rewards is None else response.step_rewards[at].double()
        return _Episode(response, reward, response.values[at].double(), divergence, steps)

    def _credited(self, episodes: Sequence[_Episode]) -> Iterable[Response]:
        """The responses with advantages and returns."""
        rewards = [episode.rewards(self.kl_coef) for episode in episodes]
        if self.settings.whiten_rewards:
            rewards = whitened(rewards, center=False)
        pairs = list(zip(episodes, rewards, strict=True))
        returns = [e.values + self._advantages(e, r, self.settings.critic_lambda) for e, r in pairs]
        advantages = [self._advantages(e, r, self._policy_lambda(len(r))) for e, r in pairs]
        self.metrics = {**self._divergence(episodes), **self._value_metrics(pairs)}
        self._adapt()
        if self.settings.whiten_advantages:
            advantages = whitened(advantages)
        for episode, advantage, target in zip(episodes, advantages, returns, strict=True):
            at = episode.response.trainable
            own, learned = spread(advantage.float(), at), spread(target.float(), at)
            yield replace(episode.response, advantages=own, returns=learned)

    def _advantages(self, episode: _Episode, rewards: Tensor, lam: float) -> Tensor:
        return gae(rewards, episode.values, self._bootstrap(episode.response), self.settings.gamma, lam)

    def _bootstrap(self, response: Response) -> float:
        """Value of the state after the last token."""
        if not self.settings.bootstrap_truncated or response.finish != "length":
            return 0.0
        assert response.bootstrap_value is not None, "a critic gives the value after the last token"
        return response.bootstrap_value

    def _policy_lambda(self, length: int) -> float:
        alpha = self.settings.length_adaptive_alpha
        return self.settings.gae_lambda if alpha is None else length_adaptive_lambda(length, alpha)

    def _divergence(self, episodes: Sequence[_Episode]) -> dict[str, float]:
        """KL of whole responses, nats: the mean of Σ_t k; and the coefficient of this batch."""
        if not self.needs_reference:
            return {}
        total = sum(float(episode.divergence.sum()) for episode in episodes)
        return {"response_kl": total / len(episodes), "kl_coef": self.kl_coef}

    def _adapt(self) -> None:
        """β ← β (1 + K clip(KL / target − 1, −0.2, 0.2)) (Ziegler et al. 2019, section 2.2)."""
        self._batches += 1
        target = self.settings.kl_target
        if target is not None and self._batches > self.settings.kl_warmup_batches:
            error = self.metrics["response_kl"] / target - 1
            self.kl_coef *= 1 + self.settings.kl_coef_gain * min(max(error, -MAX_CHANGE), MAX_CHANGE)

    def _value_metrics(self, pairs: Sequence[tuple[_Episode, Tensor]]) -> dict[str, float]:
        """How well values predict the sums of rewards that followed (λ = 1)."""
        values = torch.cat([episode.values for episode, _ in pairs])
        sums = values + torch.cat([self._advantages(episode, rewards, 1.0) for episode, rewards in pairs])
        return value_metrics(values, sums)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint, which JSON can hold."""
        return {"kl_coef": self.kl_coef, "batches": self._batches}

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Restores the result of `state_dict`."""
        self.kl_coef, self._batches = values["kl_coef"], values["batches"]


def _untrained(response: Response) -> Response:
    """A response without trained tokens, in no loss, with streams of zeros."""
    zeros = torch.zeros(len(response.tokens))
    return replace(response, advantages=zeros, returns=zeros)


def value_metrics(values: Tensor, returns: Tensor) -> dict[str, float]:
    """How well values [N] predict the returns [N] that followed: explained_variance = 1 − Var(R − V) / Var(R) (1:
    exactly, 0: no better than a constant; left out if all returns are equal); value_bias = mean(V − R); and
    value_calibration_error, the mean over tenths of the tokens, by value, of |mean(V) − mean(R)|; unit of the
    reward."""
    metrics = {"value_bias": float((values - returns).mean())}
    if not alike(returns.tolist()):
        metrics["explained_variance"] = 1 - float((returns - values).var(correction=0) / returns.var(correction=0))
    order = values.argsort(stable=True)
    bins = [part for part in order.tensor_split(CALIBRATION_BINS) if len(part)]
    gaps = [len(part) * abs(float(values[part].mean() - returns[part].mean())) for part in bins]
    return metrics | {"value_calibration_error": sum(gaps) / len(values)}
