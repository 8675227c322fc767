"""PPO by TRL 1.10 in an environment of its own, and by Burnish from the same responses. Used by tests/parity.

TRL removed its PPOTrainer after 1.10. That version is installed from the package index into a folder, beside the torch
and transformers that are there, and runs in a process of its own (`trl_ppo_runs`).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from burnish.builtin.tiny import ROLES, make_tokenizer, write_untrained
from burnish.credit.gae import Gae
from burnish.credit.settings import GaeSettings
from burnish.losses.policy.gradient import PolicyGradient
from burnish.losses.policy.settings import PpoClip
from burnish.losses.value import ValueLoss
from burnish.model.load import load_policy
from burnish.model.policy import Model
from burnish.model.settings import ValueHeadConfig
from burnish.model.value_head import with_value_head
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.roles.filler import StreamFiller
from burnish.roles.scorer import LiveScorer
from burnish.train.step import Trainer
from burnish.types import Group, Response, Score

VERSION = "trl==1.10.0"
FOLDER = "TRL_1_10"
"""Environment variable: the folder where this version is, if it is not to be installed."""
SCRIPT = Path(__file__).with_name("trl_ppo_runs.py")
BUDGET = 40
"""Tokens of a microbatch: several for each minibatch."""
RATE, TEMPERATURE, KL_COEF, GAMMA, LAMBDA, CLIP = 3e-3, 0.9, 0.1, 0.98, 0.9, 0.2
BATCH, WRITTEN = 8, 12
SETTINGS: Mapping[str, Any] = {
    "per_device_train_batch_size": BATCH,
    "gradient_accumulation_steps": 1,
    "num_mini_batches": 2,
    "num_ppo_epochs": 2,
    "total_episodes": 2 * BATCH,
    "response_length": WRITTEN,
    "temperature": TEMPERATURE,
    "learning_rate": RATE,
    "lr_scheduler_type": "constant",
    "weight_decay": 0.0,
    "kl_coef": KL_COEF,
    "gamma": GAMMA,
    "lam": LAMBDA,
    "cliprange": CLIP,
    "cliprange_value": CLIP,
    "vf_coef": 1.0,
    "num_sample_generations": 0,
    "save_strategy": "no",
    "report_to": [],
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
}
"""Of PPOConfig: two batches, two epochs, two minibatches, and steps large enough for the clips to act."""


def installed(folder: Path) -> Path:
    """The folder of TRL 1.10; installs it there, unless the environment names one. Skips if it cannot be had."""
    if FOLDER in os.environ:
        return Path(os.environ[FOLDER])
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), VERSION]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{VERSION} cannot be installed (or name its folder in {FOLDER}): {done.stderr.strip()[-200:]}")
    return folder


def write_models(folder: Path) -> None:
    """Policy, reference, reward model and value model: different, near each other, with values of the order of 1."""
    write_untrained(folder / "base", hidden_size=64, layers=2)
    spread = {"policy": 0.05, "reference": 0.06, "reward": 0.05, "value": 0.05}
    for seed, (name, size) in enumerate(spread.items()):
        model = LlamaForCausalLM.from_pretrained(folder / "base")
        generator = torch.Generator().manual_seed(0 if name == "reference" else seed)  # as the policy, a little further
        for parameter in model.parameters():
            parameter.data += size * torch.randn(parameter.shape, generator=generator)
        if name in ("reward", "value"):
            model = with_value_head(model, ValueHeadConfig(seed=seed))
        model.save_pretrained(folder / name)
        make_tokenizer().save_pretrained(folder / name)


def prompts(count: int) -> list[list[int]]:
    """Token ids of prompts of different lengths."""
    draw = random.Random(0)
    return [[draw.randrange(200) for _ in range(draw.randrange(3, 9))] for _ in range(count)]


def case(
    responses: Sequence[Sequence[int]] | None = None, pad: str = ROLES[0], count: int = 2 * BATCH, **settings: Any
) -> dict[str, Any]:
    """A case of `trl_ppo_runs`.

    Args:
        responses: responses of a batch, which is the only one; None: the policy generates two batches, and padding is
            a token that it does not have.
        pad: the padding token, with given responses.
        count: number of prompts.
        settings: changes of SETTINGS.
    """
    if responses is None:
        return {"seed": 0, "prompts": prompts(count), "pad": "<|pad|>", "settings": {**SETTINGS, **settings}}
    alike = {**SETTINGS, "total_episodes": BATCH, "stop_token": "eos", **settings}
    return {"seed": 0, "prompts": prompts(count), "pad": pad, "settings": alike, "responses": responses}


def records_of(cases: Mapping[str, Any], models: Path, trl: Path, folder: Path) -> dict[str, Any]:
    """What TRL computes in each case."""
    given, found = folder / "cases.json", folder / "records.pt"
    given.write_text(json.dumps({"models": str(models), "cases": cases}), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(trl), "TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(SCRIPT), str(given), str(found)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(found)


def groups_of(batch: Mapping[str, Any], pad: int) -> list[Group]:
    """The responses of a batch of TRL, each with its prompt, without padding."""
    start, groups = batch["context_length"], []
    for row, last in zip(batch["query_responses"], batch["sequence_lengths"].tolist(), strict=True):
        prompt, tokens = row[:start], row[start : start + last + 1]
        response = Response(tokens=tokens, trainable=torch.ones(len(tokens), dtype=torch.bool))
        groups.append(Group(prompt=prompt[prompt != pad], responses=(response,)))
    return groups


def with_streams(groups: Sequence[Group], **streams: Tensor) -> list[Group]:
    """The groups with rows of padded tensors as streams."""
    return [
        replace(
            group, responses=(replace(own, **{name: rows[at, : len(own.tokens)] for name, rows in streams.items()}),)
        )
        for at, group in enumerate(groups)
        for own in group.responses
    ]


def rows(groups: Sequence[Group], stream: str) -> Tensor:
    """[B, T] a stream of responses of equal length."""
    return torch.stack([getattr(group.responses[0], stream) for group in groups])


@dataclass(eq=False)
class Ours:
    """PPO by Burnish's parts: only responses and minibatches are given."""

    models: Path
    credited: list[list[Group]] = field(default_factory=list)
    """The groups of each batch, with all streams."""
    scores: list[Tensor] = field(default_factory=list)
    """Scores of the reward model, of each batch."""
    losses: list[dict[str, float]] = field(default_factory=list)
    """Metrics of policy and critic in each minibatch."""

    def __post_init__(self) -> None:
        head = ValueHeadConfig()
        policy, reference = (load_policy(str(self.models / name)) for name in ("policy", "reference"))
        self.policy, self.reference = (replace(model, temperature=TEMPERATURE) for model in (policy, reference))
        self.value, self.judge = (
            load_policy(str(self.models / name), head_config=head) for name in ("value", "reward")
        )
        self._policy_trainer, self._critic = (_trainer(model) for model in (self.policy, self.value))

    def batch(self, groups: Sequence[Group], minibatches: Sequence[Sequence[int]], settings: GaeSettings) -> None:
        """Scores and credits the groups, and takes a step of both models on each of the minibatches."""
        scored = self.filled(groups)
        scores = self.judged(groups)
        credited = [item[0] for item in Gae(settings).assign(scored, list(scores[:, None]))]
        self.credited.append(credited)
        self.scores.append(scores)
        for chosen in minibatches:
            self.losses.append(self.step([credited[number] for number in chosen]))

    def filled(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with log-probabilities of policy and reference, and values."""
        for model, stream, kind in (
            (self.policy, "sampler_logprobs", Score.LOGPROB),
            (self.reference, "reference_logprobs", Score.LOGPROB),
            (self.value, "values", Score.STATE_VALUE),
        ):
            groups = StreamFiller(LiveScorer(model), stream, BUDGET, kind)(groups)
        return list(groups)

    def judged(self, groups: Sequence[Group]) -> Tensor:
        """[B] the reward model's score of each response, at its last token."""
        ends = []
        for group in groups:
            [own] = group.responses
            last = torch.arange(len(own.tokens)) == len(own.tokens) - 1
            ends.append(replace(group, responses=(replace(own, trainable=last),)))
        return torch.cat([value for [value] in LiveScorer(self.judge).score(ends, Score.VALUE, BUDGET)])

    def step(self, groups: Sequence[Group]) -> dict[str, float]:
        """A step of both models."""
        loss = PolicyGradient(clip=PpoClip(CLIP, CLIP), old_logprobs="sampler")
        own = self._policy_trainer.step(groups, loss, BUDGET, 1.0)
        critic = self._critic.step(groups, ValueLoss(CLIP), BUDGET, 1.0)
        metrics = {**own, **{f"value_{name}": value for name, value in critic.items()}}
        return {name: float(value) for name, value in metrics.items()}


def _trainer(model: Model) -> Trainer:
    return Trainer(model, Optimizer(model.trained_parameters(), OptimizerSettings(learning_rate=RATE)), None)


def distance(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """Norm of the difference relative to the norm of theirs."""
    assert set(mine) == set(theirs)
    gaps = torch.stack([(mine[name] - other).norm() for name, other in theirs.items()]).norm()
    return float(gaps / torch.stack([other.norm() for other in theirs.values()]).norm())
