"""The plain sampler writes what the fast one writes, with any model, and leaves a policy in training as it was."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from burnish.builtin.tiny import make_model, make_tokenizer
from burnish.errors import ModelError
from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.attention import NAME, install, uninstall
from burnish.model.policy import Model
from burnish.model.route import Route
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.runs.random_state import capture_random
from burnish.sampling.base import Prompt
from burnish.sampling.local import LocalSampler
from burnish.sampling.open import sampler_of
from burnish.sampling.params import SamplingParams
from burnish.sampling.plain import PlainSampler
from burnish.train.step import Trainer
from burnish.types import Score
from tests.conftest import make_groups
from tests.families import ALONE, VOCABULARY

TOKENIZER = make_tokenizer()
END = 7
PARAMS = SamplingParams(max_new_tokens=20, temperature=0.9, seed=3)


def prompts(*lengths: int) -> list[Prompt]:
    generator = torch.Generator().manual_seed(0)
    return [Prompt(torch.randint(VOCABULARY, (n,), generator=generator), 100 + k) for k, n in enumerate(lengths)]


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


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("kind", ["local", "plain"])
def test_a_policy_in_training_is_left_as_it_was(lora, kind):
    """Two trainings, one of them sampled from between its steps: every weight and generator is bit for bit the same."""

    def train(looks: bool) -> tuple[list[torch.Tensor], object]:
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        model = make_model(0, hidden_size=32, layers=1)
        model.generation_config = GenerationConfig(temperature=0.3, do_sample=True, top_k=3, eos_token_id=9)
        install(model)
        policy = Model((add_adapter(model, AdapterSettings(rank=4)) if lora else model).train(), TOKENIZER)
        policy.model.get_submodule("model" if not lora else "base_model.model.model").eval()  # also odd modes stay
        modes = [module.training for module in policy.model.modules()]
        settings, attention = model.generation_config, model.config._attn_implementation
        trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=1e-2)))
        plain = PlainSampler(policy.model, TOKENIZER, [256], 512)
        sampler = plain if kind == "plain" else LocalSampler(policy, [256], 512)
        torch.use_deterministic_algorithms(True)
        try:
            for seed in range(3):
                trainer.step(make_groups([(3, [4]), (5, [6])], seed), CrossEntropy(), 100, 1.0)
                if looks:
                    sampler.sample(prompts(3, 5), 2, SamplingParams(max_new_tokens=5))
                    assert torch.are_deterministic_algorithms_enabled()
        finally:
            torch.use_deterministic_algorithms(False)
        assert [module.training for module in policy.model.modules()] == modes
        assert model.generation_config is settings
        assert model.config._attn_implementation == attention
        assert attention.startswith(NAME)
        tensors, values = capture_random()
        weights = [parameter.detach().clone() for parameter in policy.model.parameters()]
        return [*weights, *tensors.values()], values

    plain, looked = train(looks=False), train(looks=True)
    assert all(torch.equal(a, b) for a, b in zip(plain[0], looked[0], strict=True))
    assert plain[1] == looked[1]


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


def test_stop_texts_end_a_response():
    model = make_model(1, hidden_size=32, layers=1).eval()
    mine = PlainSampler(model, TOKENIZER, [2], 512)
    prompt = [Prompt(torch.tensor(TOKENIZER.encode("hello")), 0)]
    [free] = mine.sample(prompt, 1, SamplingParams(max_new_tokens=40))
    text = TOKENIZER.decode(free.responses[0].tokens.tolist())
    stop = text[10:12]
    [stopped] = mine.sample(prompt, 1, SamplingParams(max_new_tokens=40, stop=(stop,)))
    decoded = TOKENIZER.decode(stopped.responses[0].tokens.tolist())
    assert decoded == text[: text.index(stop) + len(stop)]
    assert stopped.responses[0].finish == "end"


def test_frequencies_are_those_of_the_distribution(float64_model):
    """A thousand first tokens of one prompt against softmax(z / T), within four standard errors."""
    model = float64_model("falcon").eval()
    [group] = PlainSampler(model, None, [], 256, max_sequences=500).sample(
        prompts(5), 1000, SamplingParams(max_new_tokens=1, temperature=2.0)
    )
    seen = Counter(int(response.tokens[0]) for response in group.responses)
    with torch.no_grad():
        expected = (model(input_ids=prompts(5)[0].tokens[None]).logits[0, -1] / 2.0).softmax(-1)
    for token, share in enumerate(expected.tolist()):
        assert abs(seen[token] / 1000 - share) <= 4 * (share * (1 - share) / 1000) ** 0.5 + 1e-9
