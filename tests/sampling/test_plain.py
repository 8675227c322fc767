"""The plain sampler writes what the fast one writes, with any model. The suite of samplers has the laws of all."""

from dataclasses import replace

import pytest
import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from burnish.builtin.tiny import make_tokenizer
from burnish.errors import ModelError
from burnish.model.attention import install, uninstall
from burnish.model.policy import Model
from burnish.model.route import Route
from burnish.sampling.base import SampleRequest
from burnish.sampling.local import LocalSampler
from burnish.sampling.open import sampler_of
from burnish.sampling.params import SamplingParams
from burnish.sampling.plain import PlainSampler
from burnish.types import Score
from tests.families import ALONE, VOCABULARY

TOKENIZER = make_tokenizer()
END = 7
PARAMS = SamplingParams(max_new_tokens=20, temperature=0.9, seed=3)


def prompts(*lengths: int) -> list[SampleRequest]:
    generator = torch.Generator().manual_seed(0)
    return [SampleRequest(torch.randint(VOCABULARY, (n,), generator=generator), 100 + k) for k, n in enumerate(lengths)]


def written(groups) -> list[list[list[int]]]:
    return [[response.tokens.tolist() for response in group.responses] for group in groups]


@pytest.mark.parametrize(
    "params",
    [
        PARAMS,
        SamplingParams(max_new_tokens=12, temperature=0.0),
        SamplingParams(max_new_tokens=12, top_k=9, top_p=0.8, min_p=0.05, repetition_penalty=1.4, stop_ids=(3,)),
    ],
    ids=["drawn", "greedy", "truncated"],
)
def test_both_samplers_write_the_same(float64_model, params):
    """Tokens, log-probabilities (generate rounds logits to float32), and how responses ended."""
    model = float64_model("mistral-windowed")
    install(model)
    fast = LocalSampler(Model(model, TOKENIZER), [END], 256).sample(prompts(9, 4, 9), 5, params, step=4)
    slow = PlainSampler(model, TOKENIZER, [END], 256, max_sequences=4).sample(prompts(9, 4, 9), 5, params, step=4)
    assert written(slow) == written(fast)
    for mine, other in zip(slow, fast, strict=True):
        for one, two in zip(mine.responses, other.responses, strict=True):
            assert torch.allclose(one.sampler_logprobs.double(), two.sampler_logprobs, rtol=0, atol=1e-5)
            assert one.finish == two.finish
            assert one.policy_version.equal(two.policy_version)
    finishes = {response.finish for group in slow for response in group.responses}
    assert params is not PARAMS or finishes == {"end", "length"}


TIED = {"deepseek-v3.2"}
"""Tiny, its sparse attention has keys of equal score, and which of them it takes depends on the length of the forward:
transformers' own forward of a row and of the row's beginning differ by tenths of a nat."""


@pytest.mark.parametrize("family", sorted(ALONE - TIED))
def test_logprobs_are_those_of_training_of_every_family(float64_model, family):
    """Also of states and convolutions: rows of a forward have prompts of one length, so nothing is padded."""
    model = float64_model(family)
    install(model)
    uninstall(model)
    policy = Model(model, TOKENIZER, route=Route.UNPACKED, temperature=0.9)
    mine = sampler_of(policy, [END])
    assert isinstance(mine, PlainSampler)
    groups = mine.sample(prompts(9, 4), 3, replace(PARAMS, max_new_tokens=8))
    for microbatch in policy.pack(groups, 400):
        scores = policy.score(microbatch, [Score.LOGPROB]).logprob.detach()
        assert torch.allclose(microbatch.sampler_logprobs.double(), scores, rtol=0, atol=2e-5)


def test_the_fast_sampler_is_taken_where_packed_rows_are_exact(float64_model):
    model = float64_model("phi-4-mini")  # its long rotary scaling begins at 128 of 256 positions
    policy = Model(model, TOKENIZER)
    assert isinstance(sampler_of(policy, [END]), PlainSampler)
    assert isinstance(sampler_of(policy, [END], 128), LocalSampler)


def test_the_checkpoints_own_sampling_settings_do_not_interfere(float64_model):
    model = float64_model("llama")
    mine = PlainSampler(model, TOKENIZER, [END], 256)
    expected = written(mine.sample(prompts(5), 2, PARAMS))
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=3.0, repetition_penalty=9.0, eos_token_id=list(range(40)), min_p=0.3
    )
    assert written(mine.sample(prompts(5), 2, PARAMS)) == expected


def test_positions_are_an_end_too():
    """Learned positions: one more token and the model would fail."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=61, n_positions=16, n_embd=16, n_layer=1, n_head=2)).eval()
    mine = PlainSampler(model, None, [], 16)
    groups = mine.sample(prompts(15, 4, 9), 1, SamplingParams(max_new_tokens=8))
    assert [len(group.responses[0].tokens) for group in groups] == [1, 8, 7]
    for wrong, words in (prompts(16), "16 positions"), (prompts(0), "without a token"):
        with pytest.raises(ModelError, match=words):
            mine.sample(wrong, 1, PARAMS)
