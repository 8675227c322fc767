"""The trainings that are compared: one short recipe for each kind, in the words of the working tree.

Every case runs in a few seconds on one core, on `builtin:tiny` and on built-in rows or those of `rows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Recipe = dict[str, Any]
STEPS = 4


@dataclass(frozen=True, slots=True)
class Case:
    """One training."""

    about: str
    """What is trained, a line."""
    recipe: Recipe
    """Plain data, as YAML gives them."""
    killed_after: int | None = None
    """The run is killed once the checkpoint of this step is there, and resumed. None: it runs undisturbed."""


def _recipe(*stages: Recipe, **rest: object) -> Recipe:
    return {"model": "builtin:tiny", **rest, "stages": list(stages)}


def _sft(**settings: object) -> Recipe:
    usual = {
        "data": "builtin:chat#200",
        "eval_data": "builtin:chat/test#12",
        "chat_template": "chatml",
        "sequences_per_step": 8,
        "learning_rate": 0.003,
        "max_steps": STEPS,
    }
    return {"sft": usual | settings}


def _written(**settings: object) -> Recipe:
    """SFT that evaluates along the way, and answers held-out questions."""
    return _sft(eval_every=2, evaluation={"generations": 4, "max_new_tokens": 8}, **settings)


def _prefer(**settings: object) -> Recipe:
    usual = {
        "data": "builtin:preferences#64",
        "eval_data": "builtin:preferences/test#8",
        "chat_template": "chatml",
        "sequences_per_step": 6,
        "learning_rate": 0.001,
        "max_steps": STEPS,
    }
    return {"prefer": usual | settings}


def _reward(**settings: object) -> Recipe:
    usual = {
        "data": "pairs.jsonl",
        "eval_data": "builtin:preferences/test#8",
        "chat_template": "chatml",
        "sequences_per_step": 6,
        "learning_rate": 0.001,
        "max_steps": STEPS,
    }
    return {"reward": usual | settings}


SHORT = {"name": "length", "target": 12, "tolerance": 24, "unit": "characters"}
"""A reward that differs between nearly all answers, so that every group teaches something."""


def _rl(**settings: object) -> Recipe:
    usual = {
        "data": "builtin:math#64",
        "eval_data": "builtin:math/test#8",
        "chat_template": "chatml",
        "reward": SHORT,
        "reward_workers": 1,
        "responses_per_prompt": 4,
        "groups_per_step": 4,
        "max_new_tokens": 10,
        "learning_rate": 0.001,
        "log_samples_every": 1,
        "max_steps": 3,
    }
    return {"rl": usual | settings}


def _ppo(**settings: object) -> Recipe:
    [usual] = _rl(max_steps=8, groups_per_step=2).values()
    return {"ppo": usual | settings}


def _distill(**settings: object) -> Recipe:
    """What two steps of SFT changed is learned back from the first weights."""
    [usual] = _rl().values()
    absent = {"reward", "reward_workers"} | ({"log_samples_every"} if "response_source" in settings else set())
    kept = {key: value for key, value in usual.items() if key not in absent}
    return {"distill": kept | {"teacher": "builtin:tiny"} | settings}


def _distilled(*, rewarded: bool = False, **settings: object) -> Recipe:
    more = {"reward": SHORT, "reward_workers": 1} if rewarded else {}
    return _recipe(_sft(max_steps=2), _distill(**more, **settings))


LORA = {"kind": "lora", "rank": 4}
SEVERAL = [
    "number",
    {"name": "regex", "pattern": "[0-9]", "match": "search", "metric": "digits", "weight": 0.5},
    SHORT | {"when": {"metric": "digits", "min": 1}},
    {"name": "repetition", "weight": 0},
]

SUPERVISED = {
    "sft": Case("all weights, with evaluations and answers", _recipe(_written())),
    "sft-lora": Case("an adapter with dropout", _recipe(_written(), adapter=LORA | {"dropout": 0.1})),
    "sft-qlora": Case("an adapter beside 4-bit weights", _recipe(_sft(), adapter=LORA | {"kind": "qlora"})),
    "sft-bf16": Case("bfloat16 weights with float32 masters", _recipe(_sft(), dtype="bfloat16")),
    "sft-long": Case(
        "rows near the budget: several microbatches a step",
        _recipe(_sft(data="long.jsonl", eval_data="long.jsonl#4", max_length=512, tokens_per_microbatch=512)),
    ),
    "sft-mixture": Case(
        "sources with weights and counts, for more than an epoch",
        _recipe(
            _sft(
                data=[
                    {"path": "builtin:chat", "count": 20, "weight": 0.5},
                    {"path": "builtin:math", "count": 6, "weight": 2.0, "name": "arithmetic"},
                ],
                max_steps=6,
            )
        ),
    ),
    "sft-overlong": Case("rows that are too long are dropped", _recipe(_sft(max_length=34, overlong="drop"))),
    "sft-terms": Case(
        "weight decay, noise on embeddings, smoothing, z-loss, an average of the weights",
        _recipe(
            _sft(
                optimizer={"weight_decay": 0.1, "ema_decay": 0.5, "max_grad_norm": 0.5},
                loss_options={"label_smoothing": 0.1, "z_loss": 0.001},
                neftune_alpha=5.0,
            )
        ),
    ),
}

PREFERENCES = {
    "dpo": Case("the reference's log-probabilities are computed once", _recipe(_prefer(reference="precomputed"))),
    "dpo-online": Case("they are computed for each step", _recipe(_prefer(reference="online"), adapter=LORA)),
    "kto": Case("single answers with labels", _recipe(_prefer(data="labelled.jsonl", loss="kto"))),
    "tr-dpo": Case("a reference that moves", _recipe(_prefer(reference_sync_steps=2, reference_sync_alpha=0.6))),
    "orpo": Case("without a reference", _recipe(_prefer(loss="orpo"))),
    "ranking": Case(
        "lists of two to four answers",
        _recipe(_prefer(data="rankings.jsonl", loss="plackett_luce", tokens_per_microbatch=128, max_length=128)),
    ),
    "sum": Case("a weighted sum of losses", _recipe(_prefer(loss={"dpo": 1.0, "sft": 0.3}, beta=0.2))),
}

REWARDS = {
    "reward-pairs": Case(
        "Bradley–Terry with margins", _recipe(_reward(loss_options={"margin": 0.5}, center_coef=0.01))
    ),
    "reward-scores": Case(
        "regression on two scores",
        _recipe(
            _reward(
                data="scores.jsonl",
                eval_data="scores.jsonl#8",
                loss="regression",
                scores=["correctness", "verbosity"],
            )
        ),
    ),
    "reward-steps": Case(
        "labels of the steps of an answer",
        _recipe(_reward(data="steps.jsonl", eval_data="steps.jsonl#8", loss="step_cross_entropy"), adapter=LORA),
    ),
}

REINFORCED = {
    "grpo": Case("one update per batch", _recipe(_rl(algorithm="grpo"))),
    "rl-updates": Case("several updates per batch", _recipe(_rl(algorithm="dapo", updates_per_batch=2, max_steps=4))),
    "rl-replay": Case("groups of earlier steps again", _recipe(_rl(replay={"groups": 16, "fraction": 0.5}))),
    "online-dpo": Case(
        "pairs of the policy's own responses",
        _recipe(_rl(algorithm="online_dpo", preference={"loss": "dpo", "beta": 0.1, "pairs": "all"})),
    ),
    "rl-curriculum": Case(
        "prompts that are solved half the time come oftener", _recipe(_rl(curriculum=True, success_threshold=0.3))
    ),
    "rl-kl": Case(
        "a divergence from the reference in the loss", _recipe(_rl(kl_coef=0.1, policy_gradient={"kl_estimator": "k2"}))
    ),
    "rl-kl-reward": Case(
        "the same in the reward of a response",
        _recipe(_rl(kl_coef=0.1, policy_gradient={"kl_in": "reward"}), adapter=LORA),
    ),
    "ppo": Case("a critic, and a divergence in the reward of every token", _recipe(_ppo())),
    "ppo-lora": Case("policy and critic as two adapters on one base", _recipe(_ppo(), adapter=LORA)),
    "rl-gdpo": Case("several rewards, each scaled for itself", _recipe(_rl(algorithm="gdpo", reward=SEVERAL))),
    "rl-correction": Case(
        "bfloat16, log-probabilities computed before the updates, and a correction for the sampler",
        _recipe(
            _rl(
                updates_per_batch=2,
                max_steps=2,
                policy_gradient={"old_logprobs": "recomputed", "importance_correction": "tis", "entropy_coef": 0.01},
            ),
            dtype="bfloat16",
        ),
    ),
}

DISTILLED = {
    "distill": Case("reverse KL on the teacher's most probable tokens", _distilled(rewarded=True)),
    "distill-full": Case(
        "Jensen-Shannon over the whole vocabulary, on responses of the student and of rows",
        _distilled(loss="full", divergence="jsd", on_policy_fraction=0.5),
    ),
    "distill-gradient": Case(
        "the teacher as an advantage beside a reward, with several updates per batch",
        _distilled(rewarded=True, loss="policy_gradient", reward_coef=0.5, updates_per_batch=2, max_steps=4),
    ),
    "distill-self": Case(
        "a moving average of the student that reads privileged context",
        _recipe(_distill(teacher={"model": "student", "ema_decay": 0.9, "context": "Be brief."}), adapter=LORA),
    ),
    "distill-table": Case(
        "responses of rows, and a table of the teacher's probabilities", _distilled(response_source="data")
    ),
    "distill-text": Case(
        "likelihood of responses that the teacher wrote", _distilled(response_source="teacher", loss="cross_entropy")
    ),
}

STAGES = (_sft(max_steps=2), _prefer(max_steps=2), _rl(max_steps=4, checkpoint_every=1))

WHOLE = {
    "stages": Case("SFT, preferences and reinforcement learning in one recipe", _recipe(*STAGES)),
    "resumed-sft": Case(
        "killed and resumed", _recipe(_written(max_steps=8, checkpoint_every=2, sequences_per_step=32)), killed_after=2
    ),
    "resumed-dpo": Case(
        "killed and resumed, with a reference that moves",
        _recipe(_prefer(reference_sync_steps=2, max_steps=8, checkpoint_every=3, sequences_per_step=16), adapter=LORA),
        killed_after=3,
    ),
    "resumed-rl": Case(
        "killed and resumed, with replay, a curriculum and several updates",
        _recipe(
            _rl(
                updates_per_batch=2,
                replay={"groups": 16, "fraction": 0.25},
                curriculum=True,
                max_steps=6,
                checkpoint_every=2,
            )
        ),
        killed_after=2,
    ),
    "resumed-stages": Case("killed in the last of several stages", _recipe(*STAGES), killed_after=3),
}

CASES: Mapping[str, Case] = MappingProxyType(
    {**SUPERVISED, **PREFERENCES, **REWARDS, **REINFORCED, **DISTILLED, **WHOLE}
)
"""Every kind, by its name on the command line."""
