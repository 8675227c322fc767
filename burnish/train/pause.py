"""Pauses of a learner: steps of the stage in which its model is not trained. Two reasons, both of PPO:

- *value warm-up*: in the first steps of a stage the critic trains alone, on responses of a policy that stays as it is
  (VC-PPO, Yuan et al. 2025, arXiv 2503.01491, section 4.1);
- *early stop of a batch*: once the policy is further than a bound from the policy that sampled the batch, the other
  steps of the batch leave it as it is. The critic goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from burnish.types import Group

MEASURED = "approx_kl"
"""Metric of the loss that the bound is compared with: nats per token."""


@dataclass(eq=False, slots=True)
class Pause:
    """Steps in which a learner is not trained. The state is part of the checkpoint."""

    first_steps: int = 0
    """Number of steps at the beginning of the stage without training."""
    kl_limit: float | None = None
    """Largest KL divergence from the policy that sampled the batch, nats per token, after which the rest of the batch
    is not trained on; None: no bound."""
    _stopped: int = -1
    """Version of the policy that sampled the newest batch that was stopped."""

    def applies(self, step: int, groups: Sequence[Group]) -> bool:
        """Whether the learner is not trained on these groups in the stage's step `step`, counted from 1."""
        return step <= self.first_steps or (self.kl_limit is not None and _version(groups) <= self._stopped)

    def observe(self, groups: Sequence[Group], sums: Mapping[str, Tensor]) -> None:
        """Takes the metrics of a step; waits for the device if there is a bound."""
        if self.kl_limit is not None and float(sums[MEASURED]) > self.kl_limit:
            self._stopped = _version(groups)

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """State for a checkpoint."""
        return {}, {"stopped": self._stopped}

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restores the result of `state_dict`."""
        self._stopped = values["stopped"]


def _version(groups: Sequence[Group]) -> int:
    """Version of the policy that sampled the groups: of all groups of a batch the same."""
    versions = (response.policy_version for group in groups for response in group.responses)
    return max(int(version.max()) for version in versions if version is not None)
