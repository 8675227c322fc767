"""Policies as they are trained: adapters, quantised bases and bfloat16 are sampled from as they are scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.load import load_policy
from burnish.model.policy import Model
from burnish.model.settings import Quantization
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.sampling.base import SampleRequest
from burnish.sampling.local import LocalSampler
from burnish.sampling.params import SamplingParams
from burnish.sampling.plain import PlainSampler
from burnish.train.step import Trainer
from burnish.types import Group, Score
from tests.adapters import write_base

LORA = AdapterSettings(rank=4, alpha=8.0)
KINDS = {
    "lora": {"adapter": LORA},
    "dora": {"adapter": AdapterSettings(rank=4, alpha=8.0, dora=True)},
    "qlora in 4 bits": {"adapter": LORA, "quantization": Quantization()},
    "qlora in 8 bits": {"adapter": LORA, "quantization": Quantization(bits=8)},
    "bfloat16": {"dtype": "bfloat16"},
    "lora on bfloat16": {"adapter": LORA, "dtype": "bfloat16"},
}
ROUNDED = {"bfloat16": 0.05, "lora on bfloat16": 0.05, "qlora in 8 bits": 0.02}
"""Largest mean difference of a log-probability, nats, where forwards of other shapes round differently."""
PARAMS = SamplingParams(max_new_tokens=16, temperature=0.9)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def policy(base: Path, kind: str) -> Model:
    """Its adapter, if it has one, matters."""
    torch.manual_seed(0)
    result = replace(load_policy(str(base), **KINDS[kind]), temperature=0.9)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in result.model.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return result


def prompts() -> list[SampleRequest]:
    generator = torch.Generator().manual_seed(0)
    return [SampleRequest(torch.randint(200, (n,), generator=generator), n) for n in (14, 3)]


def difference(policy: Model, groups: list[Group]) -> float:
    """Mean difference of the log-probabilities of the sampler and of scoring, nats."""
    result = []
    for microbatch in policy.pack(groups, 400):
        assert microbatch.sampler_logprobs is not None
        result.append(microbatch.sampler_logprobs - policy.score(microbatch, [Score.LOGPROB]).logprob.detach())
    return float(torch.cat(result).abs().mean())


def test_what_is_reported_is_what_training_computes(policy, kind):
    sampler = LocalSampler(policy, [7], 256)
    groups = sampler.sample(prompts(), 4, PARAMS)
    assert difference(policy, groups) <= ROUNDED.get(kind, 1e-5)
    assert all(response.sampler_logprobs.dtype == torch.float32 for group in groups for response in group.responses)


def test_the_adapter_writes_and_after_a_step_the_new_one(policy, kind):
    sampler = LocalSampler(policy, [7], 256)
    before = sampler.sample(prompts(), 4, PARAMS)
    optimizer = Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=0.2))
    Trainer(policy, optimizer).step(before, CrossEntropy(), 400, 1.0)
    assert difference(policy, before) > 0.1, "the step has changed the policy"
    assert difference(policy, sampler.sample(prompts(), 4, PARAMS)) <= ROUNDED.get(kind, 1e-5)


def test_the_plain_sampler_agrees(policy, kind):
    """Greedily, up to the first token at which rounding decides; in float32 there is none here."""
    params = SamplingParams(max_new_tokens=16, temperature=0.0)
    fast = LocalSampler(policy, [7], 256).sample(prompts(), 1, params)
    plain = PlainSampler(policy.model, None, [7], 256).sample(prompts(), 1, params)
    for one, two in zip(fast, plain, strict=True):
        mine, other = one.responses[0], two.responses[0]
        size = min(len(mine.tokens), len(other.tokens))
        same = int((mine.tokens[:size] == other.tokens[:size]).long().cumprod(0).sum())
        assert same == len(mine.tokens) == len(other.tokens) or kind in ROUNDED
        assert same > 0
        apart = (mine.sampler_logprobs[:same] - other.sampler_logprobs[:same]).abs().mean()
        assert apart <= 2 * ROUNDED.get(kind, 1e-5)
