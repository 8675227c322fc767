"""Early stopping of a stage, by evaluations and alerts, and its best weights.

The loop passes it the metrics of every evaluation, and every alert that ends the stage. Its state, the best weights
included, is part of every checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from burnish.errors import RunError
from burnish.train.stop_rule import StopRule


class EarlyStopping:
    """Rule of early stopping with its state: the best evaluation so far, and the evaluations since."""

    def __init__(self, rule: StopRule | None = None) -> None:
        """None: the stage runs to its last step and keeps its last weights."""
        self.rule = rule or StopRule()
        self.lowest, self.lowest_step = math.inf, 0
        """The best value of the metric so far, negated where higher is better, and its step."""
        self.weights: dict[str, Tensor] = {}
        """The best weights by name, in main memory; empty unless keep_best."""
        self._improved = math.inf
        """The value at the last improvement, negated likewise."""
        self._without = 0
        """Number of evaluations since the last improvement."""
        self._step = 0
        """Step of the last evaluation, or of the alert."""
        self._alert: str | None = None

    def evaluated(
        self, step: int, metrics: Mapping[str, Tensor | float], weights: Iterable[tuple[str, Tensor]]
    ) -> None:
        """Takes the metrics of an evaluation; see `observe`.

        Raises:
            RunError: the rule's metric is not among them.
        """
        name = self.rule.best_metric
        if name in metrics:
            self.observe(step, float(metrics[name]), weights)
        elif self.rule.keep_best or self.rule.patience is not None:
            raise RunError(
                given=f"the evaluation after step {step} has {', '.join(metrics)}, and no {name}",
                rule=f"checkpoints.keep_best and early_stopping use the held-out {name}",
                remedy="give held-out rows that can be graded (rewards with where: grade no others), or remove them",
            )

    def observe(self, step: int, value: float, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Takes the metric of an evaluation.

        Args:
            step: number of optimizer steps before it.
            value: the rule's metric, a finite number.
            weights: the evaluated weights, by name.
        """
        assert math.isfinite(value), "a metric that is not finite ends the run before"
        self._step = step
        cost = self._signed(value)
        if cost < self._improved - self.rule.min_delta:
            self._improved, self._without = cost, 0
        else:
            self._without += 1
        if cost < self.lowest:
            self.lowest, self.lowest_step = cost, step
            if self.rule.keep_best:
                self.weights = {name: weight.detach().to("cpu", copy=True) for name, weight in weights}

    def on_alert(self, step: int, alert: str) -> None:
        """Takes the text of an alert that ends the stage."""
        self._step, self._alert = step, alert

    @property
    def over(self) -> bool:
        """Whether the stage ends."""
        patience = self.rule.patience
        return self._alert is not None or (patience is not None and self._without >= patience)

    def reason(self) -> str | None:
        """Sentence that says why the stage ended early; None: it did not."""
        if not self.over:
            return None
        if self._alert is not None:
            return f"stopped after step {self._step} by an alert: {self._alert}"
        moved, best = ("rise", "highest") if self.rule.rises else ("fall", "lowest")
        delta = f" by more than {self.rule.min_delta:g}" if self.rule.min_delta else ""
        times = f"{self._without} evaluation{'s' if self._without > 1 else ''}"
        return (
            f"stopped after step {self._step}: the held-out {self.rule.best_metric} did not {moved}{delta} in {times}; "
            f"the {best} was {self._signed(self.lowest):.4f}, at step {self.lowest_step}"
        )

    def summary(self, num_steps: int) -> dict[str, Any]:
        """Summary of a finished stage: its ``steps``, the reason of an early end, and the step of its best weights."""
        steps = self._step if self.over else num_steps
        reason = {"stopped_early": self.reason()} if self.over else {}
        best = {"best_step": self.lowest_step} if self.weights else {}
        return {"steps": steps, **reason, **best}

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """State for a checkpoint: named tensors (not copies), and values."""
        losses = {"lowest": self.lowest, "improved": self._improved}
        finite = {name: value if math.isfinite(value) else None for name, value in losses.items()}
        steps = {"lowest_step": self.lowest_step, "without": self._without, "step": self._step}
        values = {**finite, **steps, "alert": self._alert}
        return {f"best/{name}": weight for name, weight in self.weights.items()}, values

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restores the state that `memory` returned."""
        self.lowest, self._improved = (math.inf if values[k] is None else values[k] for k in ("lowest", "improved"))
        self.lowest_step, self._without, self._step = values["lowest_step"], values["without"], values["step"]
        self._alert = values["alert"]
        self.weights = {name.removeprefix("best/"): tensor for name, tensor in tensors.items()}

    def _signed(self, value: float) -> float:
        """The value with the sign by which lower is better; its own inverse."""
        return -value if self.rule.rises else value


@torch.no_grad()
def put_in(weights: Mapping[str, Tensor], parameters: Iterable[tuple[str, Tensor]]) -> None:
    """Copies the weights into the parameters of the same names; other parameters stay."""
    for name, parameter in parameters:
        if name in weights:
            parameter.copy_(weights[name])
