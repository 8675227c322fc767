"""One training step of any method: forward_backward for every microbatch, then optim_step.

Invariant: the same groups give the same update under any split into microbatches. So losses return sums, the
denominators are counted over the whole step before its first forward pass, and each sum is divided once. Where a split
separates what a loss must see at once (`Loss.scope`), all of it is scored first, the loss is evaluated on the joined
scores, and the backward pass of each microbatch uses the resulting gradient per token.

The same holds for any number of processes (`parallel.world`): all of them pack all groups, each computes its share of
the microbatches, and metrics, gradients and joined scores are those of the whole step on every process.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from burnish.losses.base import AdaptiveLoss, Loss, has_signal
from burnish.microbatch import join
from burnish.model.noise import Neftune
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.packing import count_denominators
from burnish.parallel.world import ONE_PROCESS, World
from burnish.types import Denominator, Denominators, Group, LossOutput, LossTerm, Microbatch, Scope, Score, TokenScores

Sums = dict[str, Tensor]
"""Name → scalar on the device, already divided by its denominator; reading one waits for the device."""


@dataclass(frozen=True, slots=True)
class AuxiliaryGroups:
    """Groups with a loss of their own, which is added to that of a step's groups."""

    name: str
    """Name of the term in metrics."""
    groups: Sequence[Group]
    loss: Loss
    at_one: bool = True
    """Whether their logits are divided by 1: text that nothing sampled. False: by the policy's temperature."""


@dataclass(frozen=True, eq=False, slots=True)
class Trainer:
    """The policy with its optimizer: forward_backward, optim_step, and the step that is made of them."""

    policy: Model
    optimizer: Optimizer
    max_grad_norm: float | None = 1.0
    """Maximum norm of all gradients together; None: no clipping."""
    neftune: Neftune | None = None
    """Noise on the embeddings in training; None: none."""
    world: World = ONE_PROCESS
    """Processes that share the microbatches of a step."""

    def forward_backward(self, microbatch: Microbatch, loss: Loss, denominators: Denominators) -> Sums:
        """Adds the microbatch's share of the step's gradient. The microbatch contains the whole scope of the loss.

        Returns:
            Its share of the loss, of each term if there are several, and of the loss's metrics; detached.
        """
        output = evaluate_loss(self.policy, microbatch, loss, denominators)
        total = sum_terms(output, denominators)
        self._backward(total)
        return reported(output, total, denominators)

    def _keep_up(self, microbatch: Microbatch, loss: Loss, denominators: Denominators) -> None:
        """Computes a microbatch of another process and adds nothing, see `World.share_evenly`."""
        scores = self.policy.score(microbatch, loss.needs)
        self._backward(0.0 * sum_terms(loss(scores, microbatch), denominators))

    def _backward(self, total: Tensor) -> None:
        total.backward()
        self.optimizer.masters.collect()

    def forward_backward_joined(
        self, microbatches: Sequence[Microbatch], loss: Loss, denominators: Denominators
    ) -> Sums:
        """As `forward_backward`, for microbatches that contain the scope of the loss only together. Adds the gradient
        of this process's share of them, and returns the metrics of all.

        One more forward pass of each: all are scored, then the loss is evaluated on the joined scores, then each has a
        backward pass with its coefficients. (Scores with dropout would differ between the two forward passes.)
        """
        scores, joined = score_joined(self.policy, microbatches, loss.needs, self.world)
        sums, coefficients = differentiate(scores, joined, loss, denominators)
        sizes = [len(microbatch.predictor_positions) for microbatch in microbatches]
        pieces = {kind: coefficient.split(sizes) for kind, coefficient in coefficients.items()}
        indices, others = self.world.share_evenly(range(len(microbatches)))
        for index in indices:
            own = {kind: piece[index] for kind, piece in pieces.items()}
            self._backward_fixed(microbatches[index].to(self.policy.device), own)
        for index in others:
            none = {kind: torch.zeros_like(piece[index]) for kind, piece in pieces.items()}
            self._backward_fixed(microbatches[index].to(self.policy.device), none)
        return sums

    def _backward_fixed(self, microbatch: Microbatch, coefficients: Mapping[Score, Tensor]) -> None:
        scores = self.policy.score(microbatch, coefficients.keys(), coefficients=coefficients)
        terms = [(coefficient * scores.of(kind)).sum() for kind, coefficient in coefficients.items()]
        self._backward(torch.stack(terms).sum())

    def accumulate(self, microbatches: Sequence[Microbatch], loss: Loss, denominators: Denominators) -> Sums:
        """Computes the gradient of a whole step from its microbatches, however they are split and on however many
        processes: all of them give all microbatches, and get the gradient and the metrics of the step."""
        sums = self._add_gradients(microbatches, loss, denominators)
        self.optimizer.sum_gradients(self.world)
        return sums

    def _add_gradients(self, microbatches: Sequence[Microbatch], loss: Loss, denominators: Denominators) -> Sums:
        """Adds this process's share of the gradient of a loss; returns the metrics of all processes."""
        sums: Sums = {}
        complete, split = divide(microbatches, loss.scope)
        own, others = self.world.share_evenly(complete)
        for microbatch in own:
            add(sums, self.forward_backward(microbatch.to(self.policy.device), loss, denominators))
        for microbatch in others:
            self._keep_up(microbatch.to(self.policy.device), loss, denominators)
        sums = self.world.sum(sums)
        if split:
            add(sums, self.forward_backward_joined(split, loss, denominators))
        return sums

    def optim_step(self, factor: float) -> Tensor:
        """Updates the weights at `factor` times the learning rate; returns the gradient's norm before clipping."""
        return self.optimizer.step(factor, self.max_grad_norm, self.world)

    def leave_weights(self) -> Sums:
        """Ends a step without signal, instead of optim_step: weight decay and momentum would change the weights. Drops
        the gradients, which are 0; weights and optimizer stay equal bit for bit.

        Returns:
            The metrics grad_norm (0) and skipped (1).
        """
        self.optimizer.clear()
        device = self.policy.device
        return {"grad_norm": torch.zeros((), device=device), "skipped": torch.ones((), device=device)}

    def step(
        self,
        groups: Sequence[Group],
        loss: Loss,
        budget: int,
        factor: float,
        auxiliary: Sequence[AuxiliaryGroups] = (),
    ) -> Sums:
        """One optimizer step on the groups: measure, count, pack, forward_backward for each microbatch, optim_step; or
        leave_weights, if no token of the step has a signal. An adaptive loss observes the metrics.

        Args:
            groups: all groups of the step; denominators are counted over them.
            loss: the loss that is minimized.
            budget: maximum number of tokens of a microbatch (`tokens_per_microbatch`); it does not change the result.
            factor: factor of the optimizer's learning rate in this step, from the schedule; 1: the peak.
            auxiliary: losses of other groups that are added to the loss, each divided by its own denominators.

        Returns:
            The loss, its terms and metrics, and ``grad_norm``: the norm before clipping; detached scalars.
        """
        trained = [group for group in groups if not group.scored_only]
        measured = measure(self.policy, loss, (group for group in groups if group.scored_only), budget, self.world)
        sums = self._add_gradients(self._pack(trained, budget), measured, count_denominators(trained))
        for part in auxiliary:
            trainer = self._plain if part.at_one else self
            share = trainer._add_gradients(self._pack(part.groups, budget), part.loss, count_denominators(part.groups))
            sums |= {part.name: share["loss"], "loss": sums["loss"] + share["loss"]}
        self.optimizer.sum_gradients(self.world)
        has_gradient = has_signal(measured, trained) or any(has_signal(part.loss, part.groups) for part in auxiliary)
        sums |= {"grad_norm": self.optim_step(factor)} if has_gradient else self.leave_weights()
        if isinstance(loss, AdaptiveLoss):
            reports = loss.observe(sums).items()
            sums |= {name: torch.tensor(value, device=self.policy.device) for name, value in reports}
        return sums

    @property
    def _plain(self) -> Trainer:
        """The same trainer at the temperature 1: that of rows, which nothing sampled."""
        at_one = self.policy.temperature == 1.0
        return self if at_one else replace(self, policy=replace(self.policy, temperature=1.0))

    def _pack(self, groups: Sequence[Group], budget: int) -> list[Microbatch]:
        microbatches = self.policy.pack(groups, budget, ranks=self.world.shares)
        return microbatches if self.neftune is None else self.neftune.on(microbatches, self.optimizer.updates)


def divide(microbatches: Sequence[Microbatch], scope: Scope) -> tuple[list[Microbatch], list[Microbatch]]:
    """Splits microbatches into those that contain a whole scope of the loss, and those that contain it only
    together."""
    if scope is Scope.SEQUENCE or (len(microbatches) == 1 and microbatches[0].groups_complete):
        return list(microbatches), []
    if scope is Scope.STEP:
        return [], list(microbatches)
    return [m for m in microbatches if m.groups_complete], [m for m in microbatches if not m.groups_complete]


def measure(policy: Model, loss: Loss, scored_only: Iterable[Group], budget: int, world: World = ONE_PROCESS) -> Loss:
    """The loss with the constants that it takes from groups that are only scored, here, without gradient."""
    groups = list(scored_only)
    if not groups:
        return loss
    return loss.with_measurements(*score_joined(policy, policy.pack(groups, budget), loss.needs, world))


@torch.no_grad()
def score_joined(
    policy: Model, microbatches: Sequence[Microbatch], needs: Collection[Score], world: World = ONE_PROCESS
) -> tuple[TokenScores, Microbatch]:
    """Scores of all microbatches, joined as one microbatch on the policy's device. Every process gives all of them,
    scores its share, and gets all scores."""
    here, others = world.share_evenly(microbatches)
    own = [policy.score(microbatch.to(policy.device), needs) for microbatch in here]
    for microbatch in others:
        policy.score(microbatch.to(policy.device), needs)
    parts = [part for shard in world.gather_shares(own) for part in shard]
    return _join_scores(parts), join(microbatches).to(policy.device)


def _join_scores(parts: Sequence[TokenScores]) -> TokenScores:
    """All that was computed of consecutive microbatches, by concatenation."""
    by_name = {entry.name: [getattr(part, entry.name) for part in parts] for entry in fields(TokenScores)}
    return TokenScores(**{name: torch.cat(tensors) for name, tensors in by_name.items() if tensors[0] is not None})


def differentiate(
    scores: TokenScores, microbatch: Microbatch, loss: Loss, denominators: Denominators
) -> tuple[Sums, dict[Score, Tensor]]:
    """The loss's metrics, and [S] per needed score the gradient of the step's loss with respect to it."""
    leaves = {kind: scores.of(kind).detach().requires_grad_() for kind in loss.needs}
    with torch.enable_grad():
        given = TokenScores(
            **{kind.value: leaf for kind, leaf in leaves.items()}, bootstrap_value=scores.bootstrap_value
        )
        output = loss(given, microbatch)
        total = sum_terms(output, denominators)
        # A score that the loss uses detached (a weight) has no gradient: it needs no backward pass.
        gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    used = {kind: gradient for kind, gradient in zip(leaves, gradients, strict=True) if gradient is not None}
    return reported(output, total, denominators), used


def evaluate_loss(policy: Model, microbatch: Microbatch, loss: Loss, denominators: Denominators) -> LossOutput:
    """Computes the scores that the loss needs and applies the loss; with gradients if they are enabled."""
    scores = policy.score(microbatch, loss.needs, coefficients=loss.score_gradients(microbatch, denominators))
    return loss(scores, microbatch)


def sum_terms(output: LossOutput, denominators: Denominators) -> Tensor:
    """The microbatch's share of the step's loss: every sum divided by its count over the step."""
    return torch.stack([_share(component, denominators) for component in output.terms.values()]).sum()


def reported(output: LossOutput, total: Tensor, denominators: Denominators) -> Sums:
    """Metrics of a microbatch, as shares that add up to those of the step. A single term is the loss itself."""
    terms = output.terms if len(output.terms) > 1 else {}
    shares = {name: _share(component, denominators) for name, component in {**terms, **output.metrics}.items()}
    return {name: value.detach() for name, value in {**shares, "loss": total}.items()}


def add(sums: Sums, more: Mapping[str, Tensor]) -> None:
    """Adds the metrics of a further microbatch in place, without waiting for the device."""
    for name, value in more.items():
        sums[name] = sums[name] + value if name in sums else value


def _share(component: LossTerm, denominators: Mapping[Denominator, float]) -> Tensor:
    """Sum divided by its denominator; an empty denominator gives 0 and keeps the graph."""
    count = denominators[component.denominator]
    return component.total / count if count else component.total * 0.0
