r"""Credit from a teacher: the divergence of sampled tokens from it, as an advantage, beside that of rewards.

    A_t = r A^reward_i − c (log π_S(y_t) − log π_T(y_t))

Detached, discount 0: on-policy its policy gradient is that of −c Σ_t KL(π_S ‖ π_T) of the next-token distributions,
where prefixes are held fixed, since E[(log π_S − log π_T) ∇ log π_S] = ∇ KL. (Differentiating log π_S − log π_T itself
gives E[∇ log π_S] = 0: nothing would be learned from the teacher.) Rewards add the reward minus the mean of its group
(Dr. GRPO, arXiv 2503.20783).

Where the teacher has another tokenizer, tokens are compared in runs that span the same bytes, and every token of a run
has the run's log-ratio Σ log π_S − Σ log π_T. With equal tokenizers every run is one token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from burnish.credit.baseline import BASELINES
from burnish.credit.settings import Combination
from burnish.types import Group, Response


@dataclass(frozen=True, slots=True)
class TeacherCredit:
    """Credit rule of distillation. A response without a reward keeps the teacher's part."""

    teacher_coef: float = 1.0
    """c, reward per nat; 0: the teacher is in the loss, and no token gets an advantage from it."""
    reward_coef: float = 0.0
    """r; 0: rewards are measured only."""

    @property
    def needs_reference(self) -> bool:
        return False

    @property
    def group_relative(self) -> bool:
        return False

    @property
    def reward_combination(self) -> Combination:
        return "sum"

    def assign(self, groups: Sequence[Group], rewards: Sequence[Tensor]) -> list[tuple[Group, ...]]:
        """See `rule.CreditRule.assign`; all responses are kept, graded or not."""
        return [(self._credited(group, values.double()),) for group, values in zip(groups, rewards, strict=True)]

    def _credited(self, group: Group, rewards: Tensor) -> Group:
        if not (self.teacher_coef or self.reward_coef):
            return group
        compared = BASELINES["group"](rewards) if self.reward_coef else torch.zeros_like(rewards)
        of_rewards = (self.reward_coef * compared).nan_to_num(nan=0.0).tolist()  # ungraded: the mean of its group
        responses = [self._with_advantages(*pair) for pair in zip(group.responses, of_rewards, strict=True)]
        return replace(group, responses=tuple(responses))

    def _with_advantages(self, response: Response, of_reward: float) -> Response:
        advantages = torch.full((len(response.tokens),), of_reward, dtype=torch.float64)
        if self.teacher_coef:
            advantages -= self.teacher_coef * teacher_log_ratios(response)
        return replace(response, advantages=advantages.float())


def teacher_log_ratios(response: Response) -> Tensor:
    """[R] float64 nats, log π_S − log π_T of each token, or of the run of tokens that it is in; 0 at tokens that are
    not trained, or in no run."""
    student, teacher = response.sampler_logprobs, response.teacher_logprobs
    assert student is not None and teacher is not None, "sampled responses have both log-probabilities"
    ratios = torch.where(response.trainable, student.double() - teacher.double(), 0.0)
    if response.byte_groups is None:
        return ratios
    runs = response.byte_groups
    sums = torch.zeros(int(runs.max()) + 1, dtype=torch.float64).index_add_(0, runs, ratios)
    sums[0] = 0.0
    return sums[runs]


def sampled_kl(responses: Sequence[Response]) -> tuple[float, int]:
    """The estimate of Σ_t KL(π_S ‖ π_T) from sampled tokens, nats, each run of tokens once; and the number of trained
    tokens."""
    total, tokens = 0.0, 0
    for response in responses:
        ratios, runs = teacher_log_ratios(response), response.byte_groups
        if runs is not None:
            last = torch.ones_like(runs, dtype=torch.bool)
            last[:-1] = runs[:-1] != runs[1:]
            ratios = torch.where(last, ratios, 0.0)
        total += float(ratios.sum())
        tokens += int(response.trainable.sum())
    return total, tokens
