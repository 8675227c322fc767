"""All losses of the package, each with steps of groups that it can learn from: what `test_losses` runs on.

A registered loss (`losses.preference.registry`, `losses.reward.registry`, `stages.rl.algorithms`) is in `CASES` without
a line here. A line is needed for a loss that no registry has (`others`), for options that take another path through the
code (`OPTIONS`), and for a loss whose gradient holds something constant by definition (`HELD`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch

from burnish.losses.base import Loss
from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.distillation.divergence import TeacherDivergence
from burnish.losses.policy.entropy import EntropyControl
from burnish.losses.policy.gradient import PolicyGradient
from burnish.losses.policy.settings import Cispo, ImportanceCorrection, NoClip, PpoClip
from burnish.losses.policy.success_nll import WithSuccessNll
from burnish.losses.preference.build import Preference, preference_loss, weighted_losses
from burnish.losses.preference.options import DataNeeds
from burnish.losses.preference.registry import PREFERENCE_LOSSES
from burnish.losses.reward.bradley_terry import BradleyTerry
from burnish.losses.reward.registry import REWARD_LOSSES
from burnish.losses.reward.regression import Regression
from burnish.losses.scaled import Scaled
from burnish.losses.value import ValueLoss
from burnish.losses.weighted_sum import Weighted, WeightedSum
from burnish.sources.mismatched_pairs import mismatched
from burnish.sources.value_targets import value_target_at_end, value_targets_at_steps
from burnish.stages.reward.settings import COMPARISONS
from burnish.stages.rl.algorithms import ALGORITHMS, algorithm
from burnish.types import Group, Response
from tests.conftest import VOCABULARY, make_groups
from tests.preferences import annotated, compared

SHAPES = [(4, [5, 3]), (9, [2]), (3, [4, 4, 2]), (6, [1, 7])]
"""(prompt length, response lengths) of a step whose responses are not compared."""


@dataclass(frozen=True, slots=True)
class LossCase:
    """A loss with its data."""

    make: Callable[[], Loss]
    """Makes it, new on each call."""
    step: Callable[[int], list[Group]]
    """Seed → groups of a step with all that the loss reads; some may be only scored."""
    held: str = ""
    """What its gradient holds constant by definition, although the value depends on it; "": nothing."""


OPTIONS: Mapping[str, tuple[Mapping[str, object], ...]] = {
    "dpo": ({"divergence": "forward_kl"}, {"divergence": "js", "ld_alpha": 0.4, "wpo": True}),
    "ipo": ({"divergence": "js", "ld_alpha": 0.2},),
    "dpo_norm": ({"divergence": "alpha", "divergence_alpha": 0.4, "ld_alpha": 0.3},),
    "cpo": ({"nll_coef": 0.0},),
    "sft": ({"per": "response"},),
}
"""Name of a preference loss → options that take another path through the code."""

HELD: Mapping[str, str] = {
    "beta_dpo": "the mean margin of the step",
    "bco_shifted": "the mean reward of the step",
    "dpo(divergence=js, ld_alpha=0.4, wpo=True)": "the weights of pairs",
    "cispo, several updates": "the ratio of each token",
}
"""Name of a case → what its gradient holds constant by definition."""

POLICY_GRADIENTS: Mapping[str, PolicyGradient] = {
    "kl k2": PolicyGradient(old_logprobs="sampler", kl_coef=0.3, kl_estimator="k2"),
    "kl k3 and entropy": PolicyGradient(old_logprobs="sampler", kl_coef=0.3, entropy_coef=0.1),
    "no clip": PolicyGradient(old_logprobs="sampler", clip=NoClip()),
    "dual clip": PolicyGradient(old_logprobs="sampler", clip=PpoClip(0.2, 0.28, dual_clip=3.0)),
    "tis by token": PolicyGradient(
        old_logprobs="recomputed", importance_correction=ImportanceCorrection("token", "tis", 1.8)
    ),
    "mis by sequence": PolicyGradient(
        old_logprobs="recomputed", importance_correction=ImportanceCorrection("sequence", "mis", 9.0, 0.1)
    ),
    "tis by mean": PolicyGradient(
        ratio_level="sequence", old_logprobs="recomputed", importance_correction=ImportanceCorrection("mean", "tis")
    ),
}
"""Settings of the policy gradient that no algorithm has by itself."""


def rollouts(seed: int) -> list[Group]:
    """Sampled and credited groups, with all streams of log-probabilities."""
    generator = torch.Generator().manual_seed(seed + 1)
    return [
        replace(group, responses=tuple(_credited(response, generator) for response in group.responses))
        for group in make_groups(SHAPES, seed, holes=True)
    ]


def _credited(response: Response, generator: torch.Generator) -> Response:
    size = len(response.tokens)
    sampler, old, reference = (-3 * torch.rand(size, dtype=torch.float64, generator=generator) for _ in range(3))
    return replace(
        response,
        weights=None,
        advantages=torch.randn(size, dtype=torch.float64, generator=generator),
        sampler_logprobs=sampler,
        old_logprobs=old,
        reference_logprobs=reference,
        reward=float(torch.rand((), generator=generator)),
    )


def comparisons(data: DataNeeds, measured: bool, seed: int) -> list[Group]:
    """Compared groups, with mismatched pairs if the loss measures them."""
    groups = compared(data, seed)
    if not measured:
        return groups
    generator = torch.Generator().manual_seed(seed + 8)
    return groups + [annotated(group, generator, data, -20.0) for group in mismatched(groups, seed=seed, step=2)]


def values_at_end(data: DataNeeds, seed: int) -> list[Group]:
    """Compared groups with a value target at the end of each response."""
    return [value_target_at_end(group) for group in compared(data, seed)]


def values_of_scores(seed: int) -> list[Group]:
    """Responses with two scores each, and a value target at the end."""
    generator = torch.Generator().manual_seed(seed + 2)
    return [
        replace(group, responses=tuple(replace(r, scores=_two(generator)) for r in group.responses))
        for group in values_at_end(DataNeeds.ANY, seed)
    ]


def _two(generator: torch.Generator) -> tuple[float, float]:
    first, second = torch.randn(2, generator=generator).tolist()
    return first, second


def values_at_steps(seed: int) -> list[Group]:
    """Responses of several steps, with a value target at the end of each: at every other token, the last included."""
    generator = torch.Generator().manual_seed(seed + 3)
    return [
        value_targets_at_steps(
            replace(group, responses=tuple(_labeled(response, generator) for response in group.responses))
        )
        for group in make_groups(SHAPES, seed)
    ]


def _labeled(response: Response, generator: torch.Generator) -> Response:
    size = len(response.tokens)
    labels = torch.rand(size, generator=generator)
    labels[torch.arange(size) % 2 == size % 2] = float("nan")
    return replace(response, step_labels=labels)


OF_COMPARISON: Mapping[str, Callable[[int], list[Group]]] = {
    "pairs": partial(values_at_end, DataNeeds.PAIR),
    "rankings": partial(values_at_end, DataNeeds.RANKING),
    "any": partial(values_at_end, DataNeeds.ANY),
    "steps": values_at_steps,
}
"""Comparison that a reward loss needs (`stages.reward.settings.COMPARISONS`) → its groups."""


def documents(seed: int) -> list[Group]:
    """Responses whose tokens are learned."""
    return make_groups(SHAPES, seed, holes=True)


def valued(seed: int) -> list[Group]:
    """Sampled groups with the values of a critic, and returns."""
    generator = torch.Generator().manual_seed(seed + 4)
    return [
        replace(group, responses=tuple(_valued(response, generator) for response in group.responses))
        for group in rollouts(seed)
    ]


def _valued(response: Response, generator: torch.Generator) -> Response:
    values, returns = torch.randn(2, len(response.tokens), dtype=torch.float64, generator=generator)
    return replace(response, values=values, returns=returns)


def right_and_wrong(seed: int) -> list[Group]:
    """Sampled groups in which every other response is right: its tokens have the weight 1, others 0."""
    return [
        replace(
            group,
            responses=tuple(
                replace(response, weights=torch.full((len(response.tokens),), float(index % 2 == 0)))
                for index, response in enumerate(group.responses)
            ),
        )
        for group in rollouts(seed)
    ]


def taught(seed: int) -> list[Group]:
    """Rollouts with a teacher's four most probable tokens in the place of each token, and the mass of the others."""
    generator = torch.Generator().manual_seed(seed + 100)

    def with_teacher(response: Response) -> Response:
        logits = torch.randn(len(response.tokens), VOCABULARY, dtype=torch.float64, generator=generator)
        ordered = torch.log_softmax(2 * logits, dim=1).sort(dim=1, descending=True)
        return replace(
            response,
            teacher_topk_tokens=ordered.indices[:, :4],
            teacher_topk_logprobs=ordered.values[:, :4],
            teacher_tail_logprobs=ordered.values[:, 4:].logsumexp(dim=1),
        )

    return [replace(group, responses=tuple(map(with_teacher, group.responses))) for group in rollouts(seed)]


def preferences() -> dict[str, LossCase]:
    """Every registered preference loss, with its defaults and with the options of `OPTIONS`."""
    chosen: dict[str, Callable[[], Preference]] = {}
    for name in PREFERENCE_LOSSES:
        for options in ({}, *OPTIONS.get(name, ())):
            chosen[named(name, options)] = partial(preference_loss, name, **options)
    parts = [("dpo", 0.5, {"beta": 0.3}), ("aot", 1.0, {}), ("sft", 0.2, {})]
    chosen["a sum of dpo, aot and sft"] = partial(weighted_losses, parts)
    return {name: _preference(make) for name, make in chosen.items()}


def _preference(make: Callable[[], Preference]) -> LossCase:
    made = make()
    return LossCase(lambda: make().loss, partial(comparisons, made.data, made.measured))


def named(name: str, options: Mapping[str, object]) -> str:
    """``dpo(wpo=True)``."""
    return f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})" if options else name


def reward_models() -> dict[str, LossCase]:
    """Every registered loss of reward models."""
    unknown = {COMPARISONS[name] for name in REWARD_LOSSES} - set(OF_COMPARISON)
    assert not unknown, f"add groups of {', '.join(unknown)} to OF_COMPARISON of tests/suites/loss_cases.py"
    registered = {
        f"reward: {name}": LossCase(kind, OF_COMPARISON[COMPARISONS[name]]) for name, kind in REWARD_LOSSES.items()
    }
    margins = partial(BradleyTerry, margin=0.7, center_coef=0.2)
    return {
        **registered,
        "reward: bradley_terry(margin=0.7, center_coef=0.2)": LossCase(margins, OF_COMPARISON["pairs"]),
        "reward: regression of two scores": LossCase(Regression, values_of_scores),
    }


def algorithms() -> dict[str, LossCase]:
    """Every registered algorithm, with one update of a batch of rollouts and with several; and further settings."""
    found = {}
    for name in ALGORITHMS:
        for updates, words in ((1, "one update"), (2, "several updates")):
            options = algorithm(name, max_new_tokens=7, updates_per_batch=updates).loss
            exact = updates == 1 and not isinstance(options.clip, Cispo)  # of CISPO the value is that of log π
            held = "the policy in the denominator of its ratio, which is 1" if exact else ""
            found[f"{name}, {words}"] = LossCase(partial(PolicyGradient.of, options), rollouts, held)
    for name, loss in POLICY_GRADIENTS.items():
        found[f"policy gradient, {name}"] = LossCase(partial(PolicyGradient.of, loss), rollouts)
    return found


def others() -> dict[str, LossCase]:
    """Losses that no registry has."""
    return {
        "cross_entropy": LossCase(CrossEntropy, documents),
        "cross_entropy(label_smoothing=0.2)": LossCase(partial(CrossEntropy, label_smoothing=0.2), documents),
        "cross_entropy(label_smoothing=0.1, z_loss=0.3)": LossCase(partial(CrossEntropy, 0.1, 0.3), documents),
        "value": LossCase(ValueLoss, valued),
        "value(value_clip=0.2)": LossCase(partial(ValueLoss, 0.2), valued),
        "policy gradient and likelihood of right responses": LossCase(
            lambda: WithSuccessNll(PolicyGradient(old_logprobs="sampler"), 0.3), right_and_wrong
        ),
        "divergence from a teacher": LossCase(TeacherDivergence, taught),
        "divergence from a teacher and rewards": LossCase(
            lambda: WeightedSum(
                (
                    Weighted("divergence", TeacherDivergence(), 0.7),
                    Weighted("policy", PolicyGradient(old_logprobs="sampler"), 1.0),
                )
            ),
            taught,
        ),
        "cross_entropy times 0.7": LossCase(lambda: Scaled(CrossEntropy(), 0.7), documents),
        "a held entropy": LossCase(
            lambda: EntropyControl(PolicyGradient(old_logprobs="sampler", entropy_coef=0.1), 1.0, 0.1, 0.5), rollouts
        ),
    }


def _cases() -> dict[str, LossCase]:
    found = {**others(), **preferences(), **reward_models(), **algorithms()}
    assert set(HELD) <= set(found), "what is held constant belongs to a case"
    return {name: replace(case, held=case.held or HELD.get(name, "")) for name, case in found.items()}


CASES = _cases()
"""Name → case."""
