"""When a stage ends before its last step, and which of its weights were the best.

Beside the loop, which tells it every evaluation, and every alert that is to end the stage. Part of every checkpoint,
the best weights too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from burnish.errors import RunError
from burnish.stop_rule import StopRule


class EarlyStopping:
    """The rule, and what it remembers of the evaluations so far."""

    def __init__(self, rule: StopRule | None = None) -> None:
        """None: the stage goes to its end and hands on its last weights."""
        self.rule = rule or StopRule()
        self.lowest, self.lowest_step = math.inf, 0
        """The best figure so far, with its sign turned where more is better."""
        self.weights: dict[str, Tensor] = {}
        """Of the best figure, in main memory, by name; empty unless they are to be kept."""
        self._improved = math.inf
        """The figure of the last improvement, likewise."""
        self._without = 0
        """Evaluations since."""
        self._step = 0
        """Of the last evaluation, or of the alert."""
        self._alert: str | None = None

    def evaluated(
        self, step: int, figures: Mapping[str, Tensor | float], weights: Iterable[tuple[str, Tensor]]
    ) -> None:
        """An evaluation was done, and found these figures; see `observe`.

        Raises:
            RunError: the rule goes by a figure that is not among them.
        """
        name = self.rule.best_metric
        if name in figures:
            self.observe(step, float(figures[name]), weights)
        elif self.rule.keep_best or self.rule.patience is not None:
            raise RunError(
                given=f"the evaluation after step {step} has found {', '.join(figures)}, and no {name}",
                rule=f"checkpoints.keep_best and early_stopping go by the held-out {name}",
                remedy="give eval_data that can be judged (rewards with where: judge no other rows), or remove them",
            )

    def observe(self, step: int, figure: float, weights: Iterable[tuple[str, Tensor]]) -> None:
        """An evaluation was done.

        Args:
            step: optimiser steps before it.
            figure: what the rule goes by, a finite number.
            weights: what was evaluated, by name.
        """
        assert math.isfinite(figure), "a figure that is not finite ends the run before it is remembered"
        self._step = step
        cost = self._signed(figure)
        if cost < self._improved - self.rule.min_delta:
            self._improved, self._without = cost, 0
        else:
            self._without += 1
        if cost < self.lowest:
            self.lowest, self.lowest_step = cost, step
            if self.rule.keep_best:
                self.weights = {name: weight.detach().to("cpu", copy=True) for name, weight in weights}

    def on_alert(self, step: int, alert: str) -> None:
        """An alert that ends the stage was raised, in words."""
        self._step, self._alert = step, alert

    @property
    def over(self) -> bool:
        """The stage is to end."""
        patience = self.rule.patience
        return self._alert is not None or (patience is not None and self._without >= patience)

    def reason(self) -> str | None:
        """Why the stage ended early, in words; None: it did not."""
        if not self.over:
            return None
        if self._alert is not None:
            return f"stopped after step {self._step} by an alert: {self._alert}"
        moved, best = ("rise", "highest") if self.rule.rises else ("fall", "lowest")
        least = f" by more than {self.rule.min_delta:g}" if self.rule.min_delta else ""
        times = f"{self._without} evaluation{'s' if self._without > 1 else ''}"
        return (
            f"stopped after step {self._step}: the held-out {self.rule.best_metric} did not {moved}{least} in {times}; "
            f"the {best} was {self._signed(self.lowest):.4f}, at step {self.lowest_step}"
        )

    def summary(self, num_steps: int) -> dict[str, Any]:
        """Of a stage that ended: its ``steps``, why it ended early if it did, and the step of its best weights."""
        steps = self._step if self.over else num_steps
        why = {"stopped_early": self.reason()} if self.over else {}
        best = {"best_step": self.lowest_step} if self.weights else {}
        return {"steps": steps, **why, **best}

    def memory(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What the rest of the stage depends on: named tensors (not copies), and values."""
        losses = {"lowest": self.lowest, "improved": self._improved}
        finite = {name: value if math.isfinite(value) else None for name, value in losses.items()}
        steps = {"lowest_step": self.lowest_step, "without": self._without, "step": self._step}
        values = {**finite, **steps, "alert": self._alert}
        return {f"best/{name}": weight for name, weight in self.weights.items()}, values

    def remember(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Puts back what `memory` gave."""
        self.lowest, self._improved = (math.inf if values[k] is None else values[k] for k in ("lowest", "improved"))
        self.lowest_step, self._without, self._step = values["lowest_step"], values["without"], values["step"]
        self._alert = values["alert"]
        self.weights = {name.removeprefix("best/"): tensor for name, tensor in tensors.items()}

    def _signed(self, figure: float) -> float:
        """Lower is better; its own inverse."""
        return -figure if self.rule.rises else figure


@torch.no_grad()
def put_in(weights: Mapping[str, Tensor], parameters: Iterable[tuple[str, Tensor]]) -> None:
    """Copies kept weights into the parameters of the same names; those that have none stay."""
    for name, parameter in parameters:
        if name in weights:
            parameter.copy_(weights[name])
