"""The same numbers as TRL 1.16 on the same model and rows, by running TRL's own loss code, wherever conventions agree.

A trainer is made without its `__init__` (which wants data sets and files) and given what its loss reads. Compared are
the loss, the gradient of every weight, and the rewards. Where conventions differ, TRL's number is computed and shown to
be another one: docs/methods has the reasons.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel
from trl import DPOTrainer, KTOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.experimental.tpo import TPOTrainer
from trl.experimental.tpo.tpo_trainer import DataCollatorForTriplePreference
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference
from trl.trainer.utils import add_fused_lm_head

from burnish.losses.preference.build import Preference, preference_loss, weighted_losses
from burnish.sources.mismatched_pairs import mismatched
from burnish.types import Group
from tests.preferences import with_reference
from tests.trl_trainers import REL, assert_same_gradient, packed, plain, step_of, two_models, without_init

pytestmark = pytest.mark.slow

PAIRS = [(4, [5, 3]), (9, [2, 6]), (3, [4, 4]), (6, [7, 1]), (5, [3, 8])]


@pytest.fixture(scope="module")
def models() -> tuple[PreTrainedModel, PreTrainedModel]:
    return two_models()


def ours(
    model: PreTrainedModel, groups: list[Group], preference: Preference
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """What a step reports, and its gradient."""
    return step_of(packed(model), groups, preference.loss)


def dpo_batch(groups: list[Group]) -> dict[str, Tensor]:
    rows = [
        {
            "prompt_ids": group.prompt.tolist(),
            "chosen_ids": group.responses[0].tokens.tolist(),
            "rejected_ids": group.responses[1].tokens.tolist(),
        }
        for group in groups
    ]
    return DataCollatorForPreference(pad_token_id=0)(rows)


def theirs_dpo(models, groups, loss_types, weights=None, **facts) -> tuple[object, Tensor, dict[str, Tensor]]:
    """TRL's DPOTrainer: itself, its loss, its gradient."""
    model, reference = (copy.deepcopy(each) for each in models)
    outputs = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
    add_fused_lm_head(model, outputs=outputs)
    add_fused_lm_head(reference)
    defaults = {"beta": 0.1, "ld_alpha": None, "f_divergence_type": "reverse_kl", "f_alpha_divergence_coef": 0.5}
    others = {"use_weighting": False, "precompute_ref_logps": False, "ref_model": reference}
    arguments = SimpleNamespace(gradient_checkpointing_kwargs=None, gradient_checkpointing=False, discopop_tau=0.05)
    trainer = without_init(
        DPOTrainer,
        model,
        **{**defaults, **others, "args": arguments, **facts},
        loss_types=loss_types,
        loss_weights=weights or [1.0] * len(loss_types),
    )
    loss = trainer._compute_loss(model, dpo_batch(groups), return_outputs=False)
    loss.backward()
    return trainer, loss.detach(), {name: p.grad for name, p in model.named_parameters()}


SAME = [
    ("dpo", {}, "sigmoid", {}),
    ("dpo", {"beta": 0.5}, "sigmoid", {"beta": 0.5}),
    ("dpo_norm", {"beta": 2}, "sigmoid_norm", {"beta": 2.0}),
    ("hinge", {}, "hinge", {}),
    ("ipo", {}, "ipo", {}),
    ("exo", {"label_smoothing": 0.01}, "exo_pair", {"label_smoothing": 0.01}),
    ("nca", {}, "nca_pair", {}),
    ("robust_dpo", {"label_smoothing": 0.2}, "robust", {"label_smoothing": 0.2}),
    ("bco", {}, "bco_pair", {}),
    ("sppo", {}, "sppo_hard", {}),
    ("aot", {"label_smoothing": 0.1}, "aot", {"label_smoothing": 0.1}),
    ("aot_unpaired", {"label_smoothing": 0.1}, "aot_unpaired", {"label_smoothing": 0.1}),
    ("apo_zero", {}, "apo_zero", {}),
    ("apo_down", {}, "apo_down", {}),
    ("discopop", {}, "discopop", {}),
    ("sft", {}, "sft", {}),
    ("dpo", {"ld_alpha": 0.5}, "sigmoid", {"ld_alpha": 0.5}),
    ("dpo", {"wpo": True}, "sigmoid", {"use_weighting": True}),
    ("apo_zero", {"wpo": True}, "apo_zero", {"use_weighting": True}),
    ("dpo", {"divergence": "forward_kl"}, "sigmoid", {"f_divergence_type": "forward_kl"}),
    ("dpo", {"divergence": "js"}, "sigmoid", {"f_divergence_type": "js_divergence"}),
    (  # TRL's coefficient is 1 − α
        "ipo",
        {"divergence": "alpha", "divergence_alpha": 0.7},
        "ipo",
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3},
    ),
]


@pytest.mark.parametrize(("name", "options", "loss_type", "facts"), SAME)
def test_dpo_trainer(models, name, options, loss_type, facts):
    model, reference = models
    groups = plain(PAIRS)
    trainer, expected, gradients = theirs_dpo(models, groups, [loss_type], **facts)
    figures, mine = ours(model, with_reference(groups, packed(reference)), preference_loss(name, **options))
    assert figures["loss"] == pytest.approx(float(expected), rel=REL)
    assert_same_gradient(mine, gradients)
    if name in ("dpo", "nca") and not {"divergence", "ld_alpha"} & set(options):
        metrics = trainer._metrics["train"]
        assert figures["reward_chosen"] == pytest.approx(metrics["rewards/chosen"][0], rel=1e-4)
        assert figures["reward_margin"] == pytest.approx(metrics["rewards/margins"][0], rel=1e-4)
        assert figures["pair_accuracy"] == pytest.approx(metrics["rewards/accuracies"][0])
        assert figures["logprob_rejected"] == pytest.approx(metrics["logps/rejected"][0], rel=REL)


def test_sums_of_losses(models):
    """DPO, BCO and likelihood, as for MPO (arXiv 2411.10442)."""
    model, reference = models
    groups = plain(PAIRS)
    _, expected, gradients = theirs_dpo(models, groups, ["sigmoid", "bco_pair", "sft"], [0.8, 0.2, 1.0])
    preference = weighted_losses([("dpo", 0.8, {}), ("bco", 0.2, {}), ("sft", 1.0, {})])
    figures, mine = ours(model, with_reference(groups, packed(reference)), preference)
    assert figures["loss"] == pytest.approx(float(expected), rel=REL)
    assert_same_gradient(mine, gradients)


def test_label_smoothing_of_dpo_is_ignored_by_trl(models):
    """TRL's sigmoid loss takes `label_smoothing` and does nothing with it; cDPO is a sum of DPO both ways."""
    groups = plain(PAIRS)
    _, plain_loss, _ = theirs_dpo(models, groups, ["sigmoid"])
    _, smoothed, _ = theirs_dpo(models, groups, ["sigmoid"], label_smoothing=0.2)
    assert float(smoothed) == float(plain_loss)
    turned = [replace(group, responses=group.responses[::-1]) for group in groups]
    _, wrong, _ = theirs_dpo(models, turned, ["sigmoid"])
    mine = ours(models[0], with_reference(groups, packed(models[1])), preference_loss("cdpo", label_smoothing=0.2))[0]
    assert mine["loss"] == pytest.approx(0.8 * float(plain_loss) + 0.2 * float(wrong), rel=REL)


def test_a_sort_over_a_part_of_the_step_is_another_loss(models):
    """TRL sorts the rows of one microbatch on one rank; with two microbatches it minimises something else."""
    groups = plain(PAIRS[:4])
    _, whole, _ = theirs_dpo(models, groups, ["aot_unpaired"])
    halves = [float(theirs_dpo(models, part, ["aot_unpaired"])[1]) for part in (groups[:2], groups[2:])]
    assert sum(halves) / 2 != pytest.approx(float(whole), rel=1e-4)
    mine = ours(models[0], with_reference(groups, packed(models[1])), preference_loss("aot_unpaired"))[0]
    assert mine["loss"] == pytest.approx(float(whole), rel=REL)


def judged() -> list[Group]:
    groups = plain([(4, [5]), (9, [2]), (3, [4]), (6, [7]), (5, [8])])
    return [
        replace(group, responses=(replace(group.responses[0], reward=float(index % 2 == 0)),))
        for index, group in enumerate(groups)
    ]


def theirs_kto(models, groups, measured, loss_type, **facts) -> tuple[object, Tensor, dict[str, Tensor]]:
    model, reference = (copy.deepcopy(each) for each in models)
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "mean_logits"))
    add_fused_lm_head(reference)
    others = {"precompute_ref_logps": False, "ref_model": reference, "calculate_KL": bool(measured), "beta": 0.1}
    arguments = SimpleNamespace(gradient_checkpointing_kwargs=None, gradient_checkpointing=False)
    trainer = without_init(KTOTrainer, model, **{**others, "args": arguments, **facts}, loss_type=loss_type)
    rows = [
        {
            "prompt_ids": group.prompt.tolist(),
            "completion_ids": group.responses[0].tokens.tolist(),
            "label": group.responses[0].reward == 1,
        }
        for group in groups
    ]
    for row, group in zip(rows, measured, strict=False):
        row["KL_completion_ids"] = group.responses[0].tokens.tolist()
    loss = trainer._compute_loss(model, DataCollatorForUnpairedPreference(pad_token_id=0)(rows), return_outputs=False)
    loss.backward()
    return trainer, loss.detach(), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("swapped", [False, True], ids=["z", "z-clamped"])
def test_kto_trainer(models, swapped):
    """With the same mismatched pairs; and with policy and reference exchanged, where their mean has another sign."""
    models = models[::-1] if swapped else models
    groups = judged()
    measured = mismatched(groups, seed=0, step=0)
    facts = {"desirable_weight": 1.0, "undesirable_weight": 1.5}
    trainer, expected, gradients = theirs_kto(models, groups, measured, "kto", **facts)
    rows = with_reference([*groups, *measured], packed(models[1]))
    figures, mine = ours(models[0], rows, preference_loss("kto", undesirable_weight=1.5))
    assert figures["loss"] == pytest.approx(float(expected), rel=REL)
    assert figures["kl"] == pytest.approx(trainer._metrics["train"]["kl"][0], rel=1e-4)
    assert figures["reward_desirable"] == pytest.approx(trainer._metrics["train"]["rewards/chosen"][0], rel=1e-4)
    assert_same_gradient(mine, gradients)


def test_apo_zero_of_kto_trainer(models):
    groups = judged()
    facts = {"desirable_weight": 1.0, "undesirable_weight": 1.0}
    _, expected, gradients = theirs_kto(models, groups, [], "apo_zero_unpaired", **facts)
    figures, mine = ours(models[0], with_reference(groups, packed(models[1])), preference_loss("apo_zero_unpaired"))
    assert figures["loss"] == pytest.approx(float(expected), rel=REL)
    assert_same_gradient(mine, gradients)


def padded_side(groups: list[Group], index: int, name: str) -> dict[str, Tensor]:
    """One response of every group, as CPO's and ORPO's collator pads it."""
    rows = [torch.cat([group.prompt, group.responses[index].tokens]) for group in groups]
    labels = [row.clone() for row in rows]
    for row, group in zip(labels, groups, strict=True):
        row[: len(group.prompt)] = -100
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        f"{name}_input_ids": pad(rows, batch_first=True),
        f"{name}_labels": pad(labels, batch_first=True, padding_value=-100),
        f"{name}_attention_mask": pad([torch.ones_like(row) for row in rows], batch_first=True),
    }


def theirs_without_reference(kind, model, groups, **facts) -> tuple[float, dict[str, float], dict[str, Tensor]]:
    own = copy.deepcopy(model)
    known = {"is_encoder_decoder": False, "pad_token_id": 0, "padding_value": 0}
    trainer = without_init(kind, own, **{**known, **facts})
    batch = {**padded_side(groups, 0, "chosen"), **padded_side(groups, 1, "rejected")}
    loss, metrics = trainer.get_batch_loss_metrics(own, batch)
    loss.backward()
    return float(loss.detach()), metrics, {name: p.grad for name, p in own.named_parameters()}


CPO = [
    ("cpo", {}, {"loss_type": "sigmoid", "beta": 0.1, "cpo_alpha": 1.0}),
    ("cpo", {"label_smoothing": 0.1}, {"loss_type": "sigmoid", "beta": 0.1, "cpo_alpha": 1.0, "label_smoothing": 0.1}),
    ("simpo", {}, {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0}),
    ("alphapo", {}, {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0, "alpha": 0.25}),
]


@pytest.mark.parametrize(("name", "options", "facts"), CPO)
def test_cpo_trainer(models, name, options, facts):
    groups = plain(PAIRS)
    expected, _, gradients = theirs_without_reference(CPOTrainer, models[0], groups, **{"alpha": 0.0, **facts})
    figures, mine = ours(models[0], groups, preference_loss(name, **options))
    assert figures["loss"] == pytest.approx(expected, rel=REL)
    assert_same_gradient(mine, gradients)


def test_the_odds_of_orpo_trainer(models):
    """The contrast is the same; TRL's likelihood is over prompt and response, pooled by tokens, the paper's is not."""
    groups = plain(PAIRS)
    expected, metrics, _ = theirs_without_reference(ORPOTrainer, models[0], groups, beta=0.1)
    figures, _ = ours(models[0], groups, preference_loss("orpo"))
    assert figures["odds"] == pytest.approx(-0.1 * metrics["log_odds_ratio"], rel=REL)
    assert figures["likelihood"] != pytest.approx(metrics["nll_loss"], rel=1e-3)
    assert expected == pytest.approx(metrics["nll_loss"] + figures["odds"], rel=REL)


@pytest.mark.parametrize(
    ("name", "loss_type", "facts"),
    [("tpo", "sigmoid", {"beta": 0.01}), ("tpo_l", "tpo-l", {"beta": 2.0, "tpo_l_gamma": 1.0})],
)
def test_tpo_trainer(models, name, loss_type, facts):
    groups = plain([(prompt, [3, *lengths]) for prompt, lengths in PAIRS])
    keys = ("reference_ids", "chosen_ids", "rejected_ids")
    rows = [
        {"prompt_ids": group.prompt.tolist()}
        | {key: response.tokens.tolist() for key, response in zip(keys, group.responses, strict=True)}
        for group in groups
    ]
    model = copy.deepcopy(models[0])
    trainer = without_init(TPOTrainer, model, loss_type=loss_type, tpo_alpha=1.0, **facts)
    loss = trainer._compute_loss(model, DataCollatorForTriplePreference(pad_token_id=0)(rows), return_outputs=False)
    loss.backward()
    figures, mine = ours(models[0], groups, preference_loss(name))
    assert figures["loss"] == pytest.approx(float(loss.detach()), rel=REL)
    assert_same_gradient(mine, {key: p.grad for key, p in model.named_parameters()})
