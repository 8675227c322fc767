"""Responses written on CUDA: their log-probabilities are training's, and the same call gives the same bits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from burnish.model.policy import Model
from burnish.sampling.base import SampleRequest
from burnish.sampling.local import LocalSampler
from burnish.sampling.params import SamplingParams
from burnish.sampling.plain import PlainSampler
from burnish.types import Group, Score
from tests.conftest import VOCABULARY
from tests.gpu.conftest import made

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

PARAMS = SamplingParams(max_new_tokens=24, temperature=0.9)
BOUNDS = {torch.float64: 1e-6, torch.float32: 2e-4, torch.bfloat16: 0.4}
"""Largest difference of a log-probability, nats. transformers' norms round to float32 also in a model of float64."""
CASES = [
    *((family, dtype) for family in ("llama", "gemma-2") for dtype in BOUNDS),
    *(("gpt-oss", dtype) for dtype in (torch.float64, torch.float32)),
]
"""Experts are chosen: in bfloat16, rounding chooses others, and nothing bounds the difference."""


def prompts(*lengths: int) -> list[SampleRequest]:
    generator = torch.Generator().manual_seed(0)
    return [SampleRequest(torch.randint(VOCABULARY, (n,), generator=generator), 100 + k) for k, n in enumerate(lengths)]


def sampler(family: str, device: torch.device, dtype: torch.dtype) -> LocalSampler:
    return LocalSampler(Model(made(family, device, dtype), tokenizer=None), [7], 256, max_sequences=5)


def written(groups: list[Group]) -> list[list[tuple[list[int], list[float]]]]:
    return [[(r.tokens.tolist(), r.sampler_logprobs.tolist()) for r in group.responses] for group in groups]


@pytest.fixture
def deterministic() -> object:
    """As in every run by default: what CUDA cannot repeat to the bit is refused."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(("family", "dtype"), CASES, ids=[f"{family}-{str(dtype)[6:]}" for family, dtype in CASES])
def test_logprobs_are_those_of_training(device, figures, family, dtype):
    mine = sampler(family, device, dtype)
    groups = mine.sample(prompts(90, 1, 70), 4, PARAMS, step=2)
    policy = replace(mine.policy, temperature=0.9)
    [microbatch] = policy.pack(groups, 10**6)
    with torch.no_grad():
        scores = policy.score(microbatch.to(device), [Score.LOGPROB]).of(Score.LOGPROB).cpu()
    worst = float((microbatch.sampler_logprobs - scores).abs().max())
    figures[f"sampling/{family}/{dtype}/logprob"] = worst
    assert worst < BOUNDS[dtype]


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(
    "params", [PARAMS, replace(PARAMS, top_p=0.8, top_k=20, min_p=0.01, repetition_penalty=1.2)], ids=["plain", "all"]
)
def test_the_same_call_gives_the_same_bits(device, params):
    mine = sampler("llama", device, torch.float32)
    one, other = (written(mine.sample(prompts(9, 30), 4, params)) for _ in range(2))
    assert one == other


@pytest.mark.usefixtures("deterministic")
def test_tokens_are_those_of_a_cpu(device):
    """In float64, where no rounding decides between two tokens."""
    here, there = (
        [
            [tokens for tokens, _ in group]
            for group in written(sampler("llama", where, torch.float64).sample(prompts(9, 30), 4, PARAMS))
        ]
        for where in (torch.device("cpu"), device)
    )
    assert here == there


@pytest.mark.usefixtures("deterministic")
def test_the_plain_sampler_writes_the_same(device):
    """By transformers' own `generate`."""
    model = made("llama", device, torch.float64)
    plain = PlainSampler(model, None, [7], 256).sample(prompts(9, 30), 2, PARAMS)
    local = LocalSampler(Model(model, tokenizer=None), [7], 256).sample(prompts(9, 30), 2, PARAMS)
    assert [[t for t, _ in group] for group in written(plain)] == [[t for t, _ in group] for group in written(local)]
