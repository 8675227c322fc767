"""Labels of outcomes in the metrics and samples of a batch, and on held-out prompts."""

from __future__ import annotations

import torch

from burnish.data.prompts import TokenizedPrompt
from burnish.data.records import Task
from burnish.rewards.code.reward import CodeReward
from burnish.rewards.reward import combine
from burnish.rewards.verdict import LabelledOutcome
from burnish.rollouts.metrics import rollout_metrics
from burnish.rollouts.samples import rollout_samples
from burnish.rollouts.worker import GradedGroup, Rollouts
from burnish.types import Group, Response


def graded(labels: list[str]) -> GradedGroup:
    tokens = torch.tensor([1, 2])
    rewards = [float(label == "passed") for label in labels]
    responses = [
        Response(
            tokens=tokens, trainable=torch.ones(2, dtype=torch.bool), reward=reward, sampler_logprobs=torch.zeros(2)
        )
        for reward in rewards
    ]
    outcomes = [LabelledOutcome(reward, label) for reward, label in zip(rewards, labels, strict=True)]
    return GradedGroup(
        TokenizedPrompt(0, tokens, Task("Add.")),
        Group(prompt=tokens, responses=tuple(responses)),
        tuple(f"answer {index}" for index in range(len(labels))),
        tuple(combine((CodeReward(),), {"code": outcome}) for outcome in outcomes),
    )


def test_a_batch_has_the_share_of_each_label() -> None:
    groups = [graded(["passed", "timeout"]), graded(["wrong_answer", "passed"])]
    metrics = rollout_metrics([Rollouts(groups, 0.0, 0.0)], 2, [], None)
    labels = {name.rpartition("/")[2]: value for name, value in metrics.items() if name.startswith("reward/code/")}
    assert labels.pop("passed") == metrics["reward/code"] == 0.5
    assert (labels.pop("timeout"), labels.pop("wrong_answer")) == (0.25, 0.25)
    assert labels
    assert not any(labels.values())


def test_a_sample_has_its_label() -> None:
    samples = rollout_samples([graded(["passed", "timeout"])], {}, {"code": 1.0})
    assert {sample.labels["code"] for sample in samples} == {"passed", "timeout"}
    assert all(sample.parts["code"] == (sample.labels["code"] == "passed") for sample in samples)
