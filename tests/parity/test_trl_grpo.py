"""The same numbers as TRL 1.16's GRPOTrainer, by running its own loss and advantages, wherever conventions agree.

As in `test_trl`. The old log-probabilities are given, as with several updates; where conventions differ, TRL's number
is computed and shown to be another one: docs/methods/grpo.md has the reasons.
"""

from __future__ import annotations

import copy
from collections import defaultdict, deque
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel
from trl import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head, pad

from burnish.credit.combine import combined
from burnish.credit.credit import Credit, credit
from burnish.credit.scale import scaled
from burnish.losses.policy.gradient import PolicyGradient
from burnish.losses.policy.settings import Cispo, PpoClip, Sapo
from burnish.stages.rl.algorithms import algorithm
from burnish.types import Group
from tests.preferences import with_reference
from tests.trl_trainers import REL, assert_same_gradient, packed, plain, step_of, two_models, without_init

pytestmark = pytest.mark.slow

SHAPES = [(4, [5, 3, 2]), (9, [2, 6, 4]), (3, [4, 4, 1])]
MOST = 8
"""TRL's max_completion_length."""
ABS = 1e-6
"""Agreement of losses that are near 0: sums of terms of both signs, each of the order of 1, in float32."""


@pytest.fixture(scope="module")
def models() -> tuple[PreTrainedModel, PreTrainedModel]:
    return two_models()


def written(models: tuple[PreTrainedModel, PreTrainedModel]) -> list[Group]:
    """Groups with advantages of both signs, old log-probabilities about 0.4 nats away, and the reference's."""
    generator = torch.Generator().manual_seed(2)
    own, reference = (with_reference(plain(SHAPES), packed(model)) for model in models)
    return [
        replace(
            group,
            responses=tuple(
                replace(
                    response,
                    advantages=torch.randn(1, generator=generator).expand(len(response.tokens)),
                    sampler_logprobs=old.reference_logprobs
                    + 0.4 * torch.randn(len(response.tokens), generator=generator),
                )
                for response, old in zip(group.responses, before.responses, strict=True)
            ),
        )
        for group, before in zip(reference, own, strict=True)
    ]


def batch(groups: list[Group], *, known: bool) -> dict[str, Tensor]:
    """As TRL's loss takes it: prompts padded on the left, responses on the right."""
    rows = [(group.prompt, response) for group in groups for response in group.responses]
    masks = [response.trainable.long() for _, response in rows]
    inputs = {
        "prompt_ids": pad([prompt for prompt, _ in rows], padding_side="left"),
        "prompt_mask": pad([torch.ones_like(prompt) for prompt, _ in rows], padding_side="left"),
        "completion_ids": pad([response.tokens for _, response in rows]),
        "completion_mask": pad(masks),
        "advantages": torch.stack([response.advantages[0] for _, response in rows]),
        "num_items_in_batch": torch.stack([mask.sum() for mask in masks]).sum(),
        "ref_per_token_logps": pad([response.reference_logprobs for _, response in rows]),
    }
    if known:
        inputs["old_per_token_logps"] = pad([response.sampler_logprobs for _, response in rows])
    return inputs


def grpo_trainer(model: PreTrainedModel, **facts: object) -> GRPOTrainer:
    """What its loss reads, with its defaults but for the loss type and the divergence."""
    arguments = {"delta": None, "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05, "steps_per_generation": 1}
    arguments |= {"use_bias_correction_kl": False, "report_to": []}
    arguments |= {name: facts.pop(name) for name in list(facts) if name in arguments}
    accelerator = SimpleNamespace(
        device=torch.device("cpu"),
        num_processes=1,
        is_main_process=True,
        autocast=nullcontext,
        gather=lambda x: x,
        reduce=lambda x, reduction: x,
        sync_gradients=True,
    )
    known = {"accelerator": accelerator, "args": SimpleNamespace(**arguments), "loss_type": "grpo", "beta": 0.0}
    known |= {"importance_sampling_level": "token", "epsilon_low": 0.2, "epsilon_high": 0.2, "use_vllm": False}
    known |= {"top_entropy_quantile": 1.0, "off_policy_mask_threshold": None, "max_completion_length": MOST}
    known |= {"state": SimpleNamespace(global_step=0)}
    known |= {"_entropy_bonus_enabled": "entropy_coef" in facts, "use_adaptive_entropy": False}
    return without_init(GRPOTrainer, model, **{"current_gradient_accumulation_steps": 1, **known, **facts})


def theirs(
    model: PreTrainedModel, groups: list[Group], *, known: bool = True, **facts: object
) -> tuple[float, dict[str, Tensor], GRPOTrainer]:
    """TRL's loss, its gradient, itself."""
    model = copy.deepcopy(model).train()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    trainer = grpo_trainer(model, **facts)
    loss = trainer._compute_loss(model, batch(groups, known=known))
    loss.backward()
    return float(loss.detach()), {name: p.grad for name, p in model.named_parameters()}, trainer


def old(name: str, **changes: object) -> PolicyGradient:
    """The loss of an algorithm for several updates."""
    return PolicyGradient.of(replace(algorithm(name, max_new_tokens=MOST, updates_per_batch=2).loss, **changes))


SAME = {
    "grpo": (old("grpo"), {"loss_type": "grpo"}),
    "grpo, other bounds": (old("grpo", clip=PpoClip(0.1, 0.3)), {"epsilon_low": 0.1, "epsilon_high": 0.3}),
    "dual clip": (old("grpo", clip=PpoClip(0.2, 0.2, dual_clip=1.3)), {"delta": 1.3}),
    "dr_grpo": (old("dr_grpo"), {"loss_type": "dr_grpo"}),
    "dapo": (old("dapo"), {"loss_type": "dapo", "epsilon_high": 0.28}),
    "bnpo": (old("dapo"), {"loss_type": "bnpo", "epsilon_high": 0.28}),
    "cispo": (old("cispo", clip=Cispo(1.5)), {"loss_type": "cispo", "epsilon_high": 1.5}),
    "sapo": (old("sapo"), {"loss_type": "sapo"}),
    "sapo, sharper": (
        old("sapo", clip=Sapo(3.0, 4.0)),
        {"loss_type": "sapo", "sapo_temperature_pos": 3.0, "sapo_temperature_neg": 4.0},
    ),
    "gspo": (old("gspo"), {"importance_sampling_level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4}),
    "gspo, wide": (
        old("gspo", clip=PpoClip(0.2, 0.2)),
        {"importance_sampling_level": "sequence"},
    ),
    "beta": (old("grpo", kl_coef=0.3), {"beta": 0.3}),
    "beta, by tokens": (old("dapo", kl_coef=0.3), {"loss_type": "dapo", "epsilon_high": 0.28, "beta": 0.3}),
    "entropy, by tokens": (
        old("dapo", entropy_coef=0.2),
        {"loss_type": "dapo", "epsilon_high": 0.28, "entropy_coef": 0.2},
    ),
}


@pytest.mark.parametrize(("loss", "facts"), SAME.values(), ids=SAME)
def test_the_loss_of_grpo_trainer(models, loss, facts):
    groups = written(models)
    expected, gradients, trainer = theirs(models[0], groups, **facts)
    figures, mine = step_of(packed(models[0]), groups, loss)
    assert figures["loss"] == pytest.approx(expected, rel=REL, abs=ABS)
    assert_same_gradient(mine, gradients)
    if facts.get("loss_type") == "dapo":
        assert figures["clip_fraction"] == pytest.approx(
            trainer._metrics["train"]["clip_ratio/region_mean"][0], abs=1e-6
        )
        assert figures["clip_fraction"] > 0.1


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("grpo", {}),
        ("dr_grpo", {"loss_type": "dr_grpo"}),
        ("dapo", {"loss_type": "dapo"}),
        ("cispo", {"loss_type": "cispo", "epsilon_high": 5.0}),
        ("sapo", {"loss_type": "sapo"}),
        ("gspo", {"importance_sampling_level": "sequence"}),
    ],
)
def test_one_update(models, name, facts):
    """The ratio is 1; our gradient is then known before the forward."""
    groups = written(models)
    expected, gradients, _ = theirs(models[0], groups, known=False, **facts)
    figures, mine = step_of(packed(models[0]), groups, PolicyGradient.of(algorithm(name, max_new_tokens=MOST).loss))
    assert figures["loss"] == pytest.approx(expected, rel=REL, abs=ABS)
    assert_same_gradient(mine, gradients)


def test_the_divergence_of_trl_is_weighted_by_the_ratio(models):
    """TRL's default multiplies k3 by the ratio: with one update its value is k3's, its gradient that of our k2."""
    groups = written(models)
    facts = {"known": False, "beta": 0.3}
    weighted, gradients, _ = theirs(models[0], groups, **facts, use_bias_correction_kl=True)
    unweighted, others, _ = theirs(models[0], groups, **facts)
    loss = PolicyGradient.of(algorithm("grpo", max_new_tokens=MOST).loss)
    _, by_k2 = step_of(packed(models[0]), groups, replace(loss, kl_coef=0.3, kl_estimator="k2"))
    figures, by_k3 = step_of(packed(models[0]), groups, replace(loss, kl_coef=0.3))
    assert figures["loss"] == pytest.approx(weighted, rel=REL)
    assert figures["loss"] == pytest.approx(unweighted, rel=REL)
    assert_same_gradient(by_k2, gradients)
    assert_same_gradient(by_k3, others)


def test_the_entropy_of_trl_is_a_mean_of_tokens(models):
    """Whatever the loss is aggregated by; ours is aggregated as the loss is."""
    groups = written(models)
    expected, _, _ = theirs(models[0], groups, entropy_coef=0.2)
    without, _, trainer = theirs(models[0], groups)
    figures, _ = step_of(packed(models[0]), groups, old("grpo", entropy_coef=0.2))
    assert expected - without == pytest.approx(-0.2 * trainer._metrics["train"]["entropy"][0], rel=1e-4)
    assert figures["loss"] - figures["entropy"] == pytest.approx(without, rel=REL)
    assert figures["entropy"] != pytest.approx(expected - without, rel=1e-3)


def test_bnpo_is_another_loss_in_other_microbatches(models):
    """TRL divides by the tokens of each microbatch, so what it minimises depends on how a step is cut."""
    groups = written(models)
    facts = {"loss_type": "bnpo", "epsilon_high": 0.28}
    whole, _, _ = theirs(models[0], groups, **facts)
    parts = [theirs(models[0], [group], **facts, current_gradient_accumulation_steps=3)[0] for group in groups]
    assert sum(parts) != pytest.approx(whole, rel=1e-2)


def test_a_cap_that_is_not_given_is_small_in_trl(models):
    """cispo caps at epsilon_high itself, and where nobody gives it, that is epsilon, 0.2: below a ratio of 1."""
    groups = written(models)
    expected, _, _ = theirs(models[0], groups, known=False, loss_type="cispo")
    figures, _ = step_of(packed(models[0]), groups, PolicyGradient.of(algorithm("cispo", max_new_tokens=MOST).loss))
    assert expected == pytest.approx(0.2 * figures["loss"], rel=REL)


RULES = {
    "group": (Credit(), {}),
    "none": (Credit(advantage_scale="none"), {"scale_rewards": "none"}),
    "batch": (Credit(advantage_scale="batch"), {"scale_rewards": "batch"}),
}


def advantages_of_trl(groups: list[Group], rewards: Tensor, **facts: object) -> Tensor:
    """[B] by TRL's own code, of rewards [B, K], with writing and judging replaced."""
    rows = [(group.prompt.tolist(), response.tokens.tolist()) for group in groups for response in group.responses]
    prompts, responses = ([row[k] for row in rows] for k in (0, 1))
    size = len(groups[0].responses)
    arguments = {"per_device_train_batch_size": len(rows), "steps_per_generation": 1, "gradient_accumulation_steps": 1}
    known = {"scale_rewards": "group", "multi_objective_aggregation": "sum_then_normalize", "beta": 0.0}
    known |= {"num_generations": size, "reward_weights": torch.ones(rewards.shape[1]), "num_iterations": 1}
    names = [f"reward {k}" for k in range(rewards.shape[1])]
    known |= {"reward_funcs": [None for _ in names], "reward_func_names": names}
    known |= {"environment_factories": None, "environments": None, "tools": None, "pad_to_multiple_of": None}
    known |= {"mask_truncated_completions": False, "use_vllm": False, "log_multimodal": False, "_is_vlm": False}
    known |= {"_pending_extra_logs": {}, "_pending_metrics": {}, "_tokenizer": SimpleNamespace(pad_token_id=0)}
    logs = defaultdict(deque, rewards=defaultdict(deque), extra=defaultdict(deque))
    arguments = SimpleNamespace(**arguments, gradient_checkpointing_kwargs=None)
    model = SimpleNamespace(training=True, is_gradient_checkpointing=False)
    trainer = without_init(GRPOTrainer, model, **{**known, **facts}, args=arguments, _logs=logs)
    trainer.accelerator.process_index = 0
    trainer._generate = lambda _: (prompts, responses, None, [""] * len(rows), None, {}, None, [])
    trainer._calculate_rewards = lambda *_: rewards
    return trainer._generate_and_score_completions([{"prompt": ""} for _ in rows])["advantages"]


def judged(groups: list[Group], rewards: Tensor) -> list[Group]:
    values = iter(rewards.tolist())
    return [
        replace(group, responses=tuple(replace(response, reward=next(values)) for response in group.responses))
        for group in groups
    ]


def random_rewards(count: int) -> Tensor:
    return torch.rand((9, count), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("rule", "facts"), RULES.values(), ids=RULES)
def test_advantages_of_grpo_trainer(rule, facts):
    groups, rewards = plain(SHAPES), random_rewards(1)
    expected = advantages_of_trl(groups, rewards, **facts)
    credited = credit(judged(groups, rewards[:, 0]), rule).groups
    mine = torch.stack([response.advantages[0] for group in credited for response in group.responses])
    assert torch.allclose(mine, expected, rtol=1e-5, atol=1e-6)


def test_several_rewards_of_grpo_trainer():
    """Each normalised, summed, and whitened over the batch (GDPO)."""
    groups, rewards = plain(SHAPES), random_rewards(2)
    weights = torch.tensor([1.0, 0.3])
    facts = {"multi_objective_aggregation": "normalize_then_sum", "reward_weights": weights}
    expected = advantages_of_trl(groups, rewards, **facts)
    parts = combined(list(rewards.double().split(3)), weights.double(), "normalized_sum")
    assert torch.allclose(torch.cat(scaled(parts, parts, "whiten")).float(), expected, rtol=1e-5, atol=1e-6)


def test_what_nobody_judged_still_counts_in_trl():
    """TRL gives it an advantage of 0 and keeps it in every denominator; we leave it out."""
    groups, rewards = plain(SHAPES), random_rewards(1)
    rewards[4] = torch.nan
    expected = advantages_of_trl(groups, rewards)
    assert expected[4] == 0
    values = [None if reward != reward else reward for reward in rewards[:, 0].tolist()]
    answered = [
        replace(group, responses=tuple(replace(r, reward=values[3 * g + k]) for k, r in enumerate(group.responses)))
        for g, group in enumerate(groups)
    ]
    credited = credit(answered, Credit()).groups
    mine = torch.stack([response.advantages[0] for group in credited for response in group.responses])
    assert torch.allclose(mine, torch.cat([expected[:4], expected[5:]]), rtol=1e-5, atol=1e-6)
