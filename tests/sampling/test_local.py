"""The sampler in the trainer's process: what it says is what training computes, and nothing depends on company."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from burnish.errors import ModelError
from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.attention import install, plain_attention
from burnish.model.policy import Model
from burnish.model.route import Route
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.sampling.base import Prompt
from burnish.sampling.local import LocalSampler
from burnish.sampling.params import SamplingParams
from burnish.train.step import Trainer
from burnish.types import Score
from tests.families import FAMILIES, VOCABULARY, route_of

END = 7
PARAMS = SamplingParams(max_new_tokens=24, temperature=0.9)


def prompts(*lengths: int, seed: int = 0) -> list[Prompt]:
    generator = torch.Generator().manual_seed(seed)
    return [Prompt(torch.randint(VOCABULARY, (n,), generator=generator), 100 + k) for k, n in enumerate(lengths)]


def sampler(model, **settings) -> LocalSampler:
    return LocalSampler(Model(model, tokenizer=None), [END], 256, **settings)


def written(groups) -> list[list[list[int]]]:
    return [[response.tokens.tolist() for response in group.responses] for group in groups]


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


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_a_response_does_not_depend_on_its_neighbours(float64_model, rows):
    model = float64_model("mistral-windowed")
    install(model)
    three = prompts(12, 3, 30)
    together = written(sampler(model, max_sequences=100).sample(three, 4, PARAMS))
    shuffled = sampler(model, max_sequences=rows).sample([three[2], three[0]], 4, PARAMS)
    assert written(shuffled) == [together[2], together[0]]
    fewer = sampler(model, max_sequences=rows).sample(three[1:2], 2, PARAMS)
    assert written(fewer) == [together[1][:2]]


def test_seed_step_and_key_give_other_responses(float64_model):
    model = float64_model("llama")
    install(model)
    [one] = prompts(6)
    first = written(sampler(model).sample([one], 3, PARAMS, step=1))
    assert written(sampler(model).sample([one], 3, PARAMS, step=1)) == first
    others = [
        sampler(model).sample([one], 3, PARAMS, step=2),
        sampler(model).sample([Prompt(one.tokens, 5)], 3, PARAMS, step=1),
        sampler(model).sample([one], 3, SamplingParams(max_new_tokens=24, temperature=0.9, seed=1), step=1),
    ]
    assert first not in [written(other) for other in others]


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


def test_greedy_is_greedy_in_transformers(float64_model):
    model = float64_model("llama-tied")
    install(model)
    three = prompts(4, 9, 15)
    mine = sampler(model).sample(three, 1, SamplingParams(max_new_tokens=20, temperature=0.0))
    with plain_attention(model), torch.no_grad():
        for prompt, group in zip(three, mine, strict=True):
            settings = GenerationConfig(max_new_tokens=20, do_sample=False, eos_token_id=END, pad_token_id=0)
            theirs = model.eval().generate(prompt.tokens[None], generation_config=settings)[0, len(prompt.tokens) :]
            assert group.responses[0].tokens.equal(theirs)


def test_a_response_ends_with_the_end_token_or_at_the_limit(float64_model):
    model = float64_model("llama")
    install(model)
    groups = sampler(model).sample(prompts(4, 9), 40, SamplingParams(max_new_tokens=30, temperature=1.5))
    finishes = set()
    for response in (response for group in groups for response in group.responses):
        ends = (response.tokens == END).nonzero()[:, 0].tolist()
        assert ends == ([len(response.tokens) - 1] if response.finish == "end" else [])
        assert response.finish == "end" or len(response.tokens) == 30
        assert bool(response.trainable.all())
        finishes.add(response.finish)
    assert finishes == {"end", "length"}


def test_the_models_positions_limit_a_response(float64_model):
    model = float64_model("llama")
    install(model)
    mine = LocalSampler(Model(model, tokenizer=None), [], 20)
    groups = mine.sample(prompts(19, 5), 2, PARAMS)
    assert [len(group.responses[0].tokens) for group in groups] == [1, 15]
    with pytest.raises(ModelError, match="20 positions"):
        mine.sample(prompts(20), 2, PARAMS)


def test_after_a_step_the_next_rollout_uses_the_new_weights(float64_model):
    model = float64_model("llama")
    install(model)
    mine = sampler(model)
    before = mine.sample(prompts(8), 6, PARAMS)
    optimizer = Optimizer(mine.policy.trained_parameters(), OptimizerSettings(learning_rate=0.05))
    Trainer(mine.policy, optimizer).step(before, CrossEntropy(), 400, 1.0)
    after = mine.sample(prompts(8), 6, PARAMS, step=1)
    [microbatch] = mine.policy.pack(after, 400)
    new = replace(mine.policy, temperature=0.9).score(microbatch, [Score.LOGPROB]).logprob
    assert torch.allclose(microbatch.sampler_logprobs, new.detach(), rtol=0, atol=1e-11)
    assert all(bool((response.policy_version == 1).all()) for response in after[0].responses)


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


def test_truncation_does_not_change_what_is_reported(float64_model):
    """Log-probabilities are of the whole vocabulary: what training computes, not what was drawn from."""
    model = float64_model("llama")
    install(model)
    params = SamplingParams(max_new_tokens=10, top_k=3, top_p=0.9, min_p=0.05, repetition_penalty=1.2)
    mine = sampler(model)
    [group] = mine.sample(prompts(6), 8, params)
    [microbatch] = mine.policy.pack([group], 400)
    scores = mine.policy.score(microbatch, [Score.LOGPROB]).logprob
    assert torch.allclose(microbatch.sampler_logprobs, scores.detach(), rtol=0, atol=1e-11)
