"""The sampler in the trainer's process on all families and lengths. The suite of samplers has the laws of all."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from burnish.errors import ModelError
from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.attention import install, plain_attention
from burnish.model.decoding import Prefill
from burnish.model.policy import Model
from burnish.model.route import Route
from burnish.sampling import local
from burnish.sampling.base import SampleRequest
from burnish.sampling.local import LocalSampler
from burnish.sampling.params import SamplingParams
from burnish.types import Score
from tests.families import FAMILIES, VOCABULARY, route_of

END = 7
PARAMS = SamplingParams(max_new_tokens=24, temperature=0.9)


def prompts(*lengths: int, seed: int = 0) -> list[SampleRequest]:
    generator = torch.Generator().manual_seed(seed)
    return [SampleRequest(torch.randint(VOCABULARY, (n,), generator=generator), 100 + k) for k, n in enumerate(lengths)]


def sampler(model, **settings) -> LocalSampler:
    return LocalSampler(Model(model, tokenizer=None), [END], 256, **settings)


@pytest.mark.parametrize("family", [family for family in FAMILIES if route_of(family) is Route.SHARED])
def test_logprobs_are_those_of_training(float64_model, family):
    """Prompts and responses longer than windows and chunks; rows leave and others take their places."""
    model = float64_model(family)
    install(model)
    mine = sampler(model, max_sequences=5)
    groups = mine.sample(prompts(19, 1, 7), 4, PARAMS, step=2)
    policy = mine.policy
    for microbatch in policy.pack(groups, 400):
        scores = replace(policy, temperature=0.9).score(microbatch, [Score.LOGPROB])
        assert torch.allclose(microbatch.sampler_logprobs, scores.logprob.detach(), rtol=0, atol=1e-11)
    assert model.training, "the mode is as it was"


@pytest.mark.parametrize("family", ["llama", "mistral-windowed", "llama-4", "gemma-2", "gpt-oss"])
def test_prompts_of_all_lengths(float64_model, family):
    """On several shelves, whose slots are taken by others before the call is over."""
    model = float64_model(family)
    install(model)
    mine = sampler(model, max_sequences=4)
    groups = mine.sample(prompts(130, 60, 3, 100, 70, 64, 129), 2, replace(PARAMS, max_new_tokens=8))
    for microbatch in mine.policy.pack(groups, 2000):
        scores = replace(mine.policy, temperature=0.9).score(microbatch, [Score.LOGPROB])
        assert torch.allclose(microbatch.sampler_logprobs, scores.logprob.detach(), rtol=0, atol=1e-11)


def beginning_alike() -> list[SampleRequest]:
    """Two conversations, each asked after one, two and three turns, and twice the same prompt."""
    requests = []
    for seed in (1, 2):
        turns = [request.tokens for request in prompts(90, 70, 20, seed=seed)]
        requests += [torch.cat(turns[:count]) for count in (2, 1, 3)]
    return [SampleRequest(tokens, 100 + key) for key, tokens in enumerate([*requests, requests[0]])]


@pytest.mark.parametrize("family", ["llama", "mistral-windowed", "llama-4", "gemma-2", "gpt-oss", "deepseek-v3"])
def test_prompts_that_begin_alike_are_computed_once(float64_model, family):
    model = float64_model(family)
    install(model)
    mine, asked = sampler(model), beginning_alike()
    prefill = Prefill.of([request.tokens for request in asked], torch.device("cpu"))
    assert len(prefill.tokens) == 2 * (90 + 70 + 20)
    groups = mine.sample(asked, 2, replace(PARAMS, max_new_tokens=8))
    for microbatch in mine.policy.pack(groups, 4000):
        scores = replace(mine.policy, temperature=0.9).score(microbatch, [Score.LOGPROB])
        assert torch.allclose(microbatch.sampler_logprobs, scores.logprob.detach(), rtol=0, atol=1e-11)
    alone = [mine.sample([request], 2, replace(PARAMS, max_new_tokens=8))[0] for request in asked]
    for group, other in zip(groups, alone, strict=True):
        for mine_each, other_each in zip(group.responses, other.responses, strict=True):
            assert mine_each.tokens.tolist() == other_each.tokens.tolist()


def test_a_common_beginning_counts_once_against_the_size_of_a_prefill(float64_model, monkeypatch):
    model = float64_model("llama")
    install(model)
    monkeypatch.setattr(local, "PREFILL_TOKENS", 360)
    sizes = []
    true_of = Prefill.of
    monkeypatch.setattr(Prefill, "of", lambda *given: sizes.append(true_of(*given)) or sizes[-1])
    sampler(model).sample(beginning_alike(), 1, replace(PARAMS, max_new_tokens=2))
    assert [len(prefill.tokens) for prefill in sizes] == [360]


def test_frequencies_are_the_exact_probabilities(float64_model):
    """4 000 first and second tokens against the model's own probabilities, by chi-square at five deviations."""
    model = float64_model("qwen3")
    install(model)
    [prompt] = prompts(5)
    params = SamplingParams(max_new_tokens=2, temperature=2.0)
    [group] = LocalSampler(Model(model, tokenizer=None), [], 256).sample([prompt], 4000, params)
    pairs = np.array([response.tokens.tolist() for response in group.responses])
    with plain_attention(model), torch.no_grad():
        tails = torch.arange(VOCABULARY)[:, None]
        rows = torch.cat([prompt.tokens.expand(VOCABULARY, -1), tails], dim=1)
        logits = model.eval()(input_ids=rows, use_cache=False).logits / 2.0
    first = logits[0, -2].softmax(-1)
    joint = first[:, None] * logits[:, -1].softmax(-1)
    for place, expected in enumerate((first.numpy() * 4000, joint.sum(0).numpy() * 4000)):
        counts = np.bincount(pairs[:, place], minlength=VOCABULARY)
        chi_square = float(((counts - expected) ** 2 / expected).sum())
        assert abs(chi_square - (VOCABULARY - 1)) < 5 * np.sqrt(2 * (VOCABULARY - 1))


def test_an_adapter_in_training_writes(float64_model):
    model = float64_model("llama")
    install(model)
    wrapped = add_adapter(model, AdapterSettings(rank=4))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0.0, 0.5, generator=torch.Generator().manual_seed(1))
    policy = Model(wrapped.double(), tokenizer=None)
    groups = LocalSampler(policy, [END], 256).sample(prompts(8, 3), 4, PARAMS)
    [microbatch] = policy.pack(groups, 400)
    scores = replace(policy, temperature=0.9).score(microbatch, [Score.LOGPROB])
    assert torch.allclose(microbatch.sampler_logprobs, scores.logprob.detach(), rtol=0, atol=1e-11)


def test_what_cannot_share_a_prompt_is_refused(float64_model):
    model = float64_model("llama")
    with pytest.raises(ModelError, match="cannot share a prompt"):
        LocalSampler(Model(model, tokenizer=None, route=Route.UNPACKED), [END], 256).sample(prompts(3), 1, PARAMS)
