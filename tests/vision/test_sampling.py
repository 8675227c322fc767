"""Responses to prompts with images: sampled as the policy scores them, and the tower runs once for a group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from burnish.model.policy import Model
from burnish.packing import whole_parts
from burnish.sampling.base import SampleRequest
from burnish.sampling.local import LocalSampler
from burnish.sampling.params import SamplingParams
from burnish.types import Score
from tests.vision.equality import ROWS, groups_of, scored
from tests.vision.groups import group_of, policy_of, prompt_of
from tests.vision.small import FAMILIES, SmallFamily
from tests.vision.test_equality import EACH_FAMILY

Count = Callable[[], int]


def counting(policy: Model, monkeypatch: pytest.MonkeyPatch) -> Count:
    """Counts the images that the vision tower computes."""
    assert policy.vision is not None
    computed: list[int] = []
    family = policy.vision.processing.family
    own = family.features

    def features(model: object, images: list[object]) -> object:
        computed.append(len(images))
        return own(model, images)  # type: ignore[arg-type]

    monkeypatch.setattr(family, "features", features)
    return lambda: sum(computed)


@EACH_FAMILY
def test_sampled_log_probabilities_are_those_of_the_policy(
    small: SmallFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(small, tmp_path, patch=monkeypatch)
    count = counting(policy, monkeypatch)
    prompts = [prompt_of(policy, text, pictures, tmp_path) for text, pictures, _ in ROWS]
    requests = [SampleRequest(tokens, key, media) for key, (tokens, media) in enumerate(prompts)]
    sampler = LocalSampler(policy, (policy.tokenizer.eos_token_id,), 2000)
    groups = sampler.sample(requests, 5, SamplingParams(max_new_tokens=6, seed=3))
    assert count() == sum(len({medium.digest for medium in media}) for _, media in prompts) - 1  # one is in two prompts
    assert [group.media for group in groups] == [media for _, media in prompts]
    ours = scored(policy, groups, 10_000)
    sampled = [response.sampler_logprobs for group in groups for response in group.responses]
    assert torch.allclose(torch.cat([each for each in sampled if each is not None]), ours, rtol=0, atol=1e-9)


def test_a_response_does_not_depend_on_the_images_of_other_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two prompts of equal tokens and other images share nothing, and each is answered as alone."""
    policy = policy_of(FAMILIES[0], tmp_path, patch=monkeypatch)
    prompts = [prompt_of(policy, "# what?", ((seed, 40, 24),), tmp_path) for seed in (1, 2)]
    assert torch.equal(prompts[0][0], prompts[1][0])
    requests = [SampleRequest(tokens, key, media) for key, (tokens, media) in enumerate(prompts)]
    sampler = LocalSampler(policy, (policy.tokenizer.eos_token_id,), 2000)
    params = SamplingParams(max_new_tokens=8, seed=1)
    together = sampler.sample(requests, 2, params)
    alone = [sampler.sample([request], 2, params)[0] for request in requests]
    for one, other in zip(together, alone, strict=True):
        for a, b in zip(one.responses, other.responses, strict=True):
            assert torch.equal(a.tokens, b.tokens)
    different = [group.responses[0].sampler_logprobs for group in together]
    assert different[0] is not None
    assert different[1] is not None
    assert abs(float(different[0][0] - different[1][0])) > 1e-6


@pytest.mark.parametrize("budget", [10_000, 1])
def test_the_tower_runs_once_for_a_group(budget: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of(FAMILIES[0], tmp_path, patch=monkeypatch)
    count = counting(policy, monkeypatch)
    group = group_of(policy, "# what?", ((1, 40, 24),), ["a", "bc", "d", "ef"], tmp_path)
    microbatches = policy.pack([group], max(budget, len(group.prompt) + 2))
    for microbatch in microbatches:
        policy.score(microbatch, [Score.LOGPROB])
    assert count() == len(microbatches) == (1 if budget > 1 else 4)


def test_text_and_images_go_in_one_microbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of(FAMILIES[0], tmp_path, patch=monkeypatch)
    groups = groups_of(policy, tmp_path)
    [microbatch] = policy.pack(groups, 10_000)
    assert len(microbatch.media) == 4
    assert len({image.start for image in microbatch.media}) == 3
    for image in microbatch.media:
        assert policy.tokenizer.decode(microbatch.tokens[image.positions].unique()) == "<|image_pad|>"


def test_the_cost_of_a_group_has_that_of_its_images_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two operations for each weight of tower and projector and each patch; three times as many where they learn."""
    policy = policy_of(FAMILIES[0], tmp_path, patch=monkeypatch)
    shown = group_of(policy, "# what?", ((1, 40, 24),), ["a", "bc"], tmp_path)
    text = replace(shown, media=())
    weights = sum(p.numel() for p in policy.causal_lm.model.visual.parameters())
    assert shown.media[0].num_patches == 60
    costs = [sum(part.cost(policy.cost) for part in whole_parts([group], True)) for group in (shown, text)]
    assert costs[0] - costs[1] == pytest.approx(2 * weights * 60)
    assert policy.num_flops([shown]) - policy.num_flops([text]) == pytest.approx(6 * weights * 60)
    frozen = policy_of(FAMILIES[0], tmp_path, patch=monkeypatch)
    frozen.causal_lm.model.visual.requires_grad_(False)
    assert frozen.num_flops([shown]) - frozen.num_flops([text]) == pytest.approx(2 * weights * 60)
