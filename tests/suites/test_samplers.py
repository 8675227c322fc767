"""The suite that every sampler must pass: what it reports, what decides its tokens, and that it leaves no trace.

``pytest tests/suites/test_samplers.py -k NAME`` runs it for one sampler. A new sampler needs an entry in `SAMPLERS`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    MinPLogitsWarper,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

import burnish.sampling
from burnish.builtin.tiny import make_model, make_tokenizer
from burnish.errors import ModelError
from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.attention import install, plain_attention
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.runs.random_state import capture_random
from burnish.sampling.base import EVALUATED, Sampler, SampleRequest, StreamListener
from burnish.sampling.local import LocalSampler
from burnish.sampling.params import SamplingParams
from burnish.sampling.plain import PlainSampler
from burnish.train.step import Trainer
from burnish.types import Group, Response, Score
from tests.conftest import make_groups
from tests.families import VOCABULARY
from tests.sampling.remote import RemoteSampler

TOKENIZER = make_tokenizer()
END = 7
POSITIONS = 256
PARAMS = SamplingParams(max_new_tokens=12, temperature=0.9)


@dataclass(frozen=True)
class SamplerCase:
    """A sampler of the package, or one elsewhere in miniature."""

    kind: type[Sampler]
    make: Callable[[Model, Sequence[int], int, int], Sampler]
    """Policy, end tokens, maximum of positions, maximum of sequences at once → the sampler."""
    rounding: float
    """Largest difference of a reported log-probability from that of training, nats, in float64."""


SAMPLERS = {
    "local": SamplerCase(
        LocalSampler, lambda policy, ends, most, rows: LocalSampler(policy, ends, most, max_sequences=rows), 1e-11
    ),
    "plain": SamplerCase(
        PlainSampler,
        lambda policy, ends, most, rows: PlainSampler(policy.model, policy.tokenizer, ends, most, max_sequences=rows),
        1e-5,  # transformers' generate rounds logits to float32
    ),
    "remote": SamplerCase(
        RemoteSampler,
        lambda policy, ends, most, rows: RemoteSampler(
            policy, lambda replica: LocalSampler(replica, ends, most, max_sequences=rows)
        ),
        1e-11,
    ),
}

Policies = Callable[[str], PreTrainedModel]


@pytest.fixture(params=SAMPLERS)
def case(request: pytest.FixtureRequest) -> SamplerCase:
    return SAMPLERS[request.param]


@pytest.fixture
def policy(float64_model: Policies) -> Model:
    """Prompts and responses are longer than its windows."""
    model = float64_model("mistral-windowed")
    install(model)
    return Model(model, TOKENIZER)


def sampler_of(case: SamplerCase, policy: Model, *, rows: int = 5, ends: Sequence[int] = (END,)) -> Sampler:
    return case.make(policy, ends, POSITIONS, rows)


def prompts(*lengths: int) -> list[SampleRequest]:
    generator = torch.Generator().manual_seed(0)
    return [SampleRequest(torch.randint(VOCABULARY, (n,), generator=generator), 100 + k) for k, n in enumerate(lengths)]


def responses(groups: Sequence[Group]) -> list[Response]:
    return [response for group in groups for response in group.responses]


def written(groups: Sequence[Group]) -> list[list[list[int]]]:
    return [[response.tokens.tolist() for response in group.responses] for group in groups]


def logits(policy: Model, prompt: Tensor, tokens: Tensor) -> Tensor:
    """[R, V] those from which each token was chosen, by one plain forward."""
    with plain_attention(policy.causal_lm), torch.no_grad():
        output = policy.causal_lm(input_ids=torch.cat([prompt, tokens])[None], use_cache=False)
    found: Tensor = output.logits[0, len(prompt) - 1 : -1]
    return found


def test_every_sampler_of_the_package_is_here() -> None:
    modules = pkgutil.walk_packages(burnish.sampling.__path__, "burnish.sampling.")
    found = [kind for module in modules for _, kind in inspect.getmembers(importlib.import_module(module.name))]
    samplers = {kind for kind in found if inspect.isclass(kind) and "sample" in vars(kind)} - {Sampler}
    missing = samplers - {case.kind for case in SAMPLERS.values()}
    assert not missing, f"add to SAMPLERS of {__file__}: {', '.join(kind.__name__ for kind in missing)}"


def test_responses_are_as_many_and_as_long_as_asked_and_end_with_an_end(case: SamplerCase, policy: Model) -> None:
    asked, sampler = prompts(9, 4, 9), sampler_of(case, policy)
    assert sampler.publish(policy, 2) == 2
    groups = sampler.sample(asked, 12, replace(PARAMS, temperature=1.5), step=3)
    assert [group.prompt.tolist() for group in groups] == [prompt.tokens.tolist() for prompt in asked]
    assert [len(group.responses) for group in groups] == [12, 12, 12]
    for response in responses(groups):
        ends = (response.tokens == END).nonzero()[:, 0].tolist()
        assert ends == ([len(response.tokens) - 1] if response.finish == "end" else [])
        assert response.finish == "end" or len(response.tokens) == PARAMS.max_new_tokens
        assert bool(((response.tokens >= 0) & (response.tokens < VOCABULARY)).all())
        assert bool(response.trainable.all())
        assert response.policy_version is not None
        assert response.policy_version.tolist() == [2] * len(response.tokens)
        assert response.reward is None
    assert {response.finish for response in responses(groups)} == {"end", "length"}


@pytest.mark.parametrize(
    "params",
    [
        PARAMS,
        replace(PARAMS, temperature=1.0),
        replace(PARAMS, temperature=2.0),
        replace(PARAMS, temperature=0.0),
        replace(PARAMS, top_k=3, top_p=0.9, min_p=0.05, repetition_penalty=1.2),
    ],
    ids=["0.9", "1", "2", "greedy", "truncated"],
)
def test_reported_logprobs_are_those_of_training(case: SamplerCase, policy: Model, params: SamplingParams) -> None:
    """Over the whole vocabulary at the temperature, whatever was drawn from; of greedy decoding at temperature 1."""
    groups = sampler_of(case, policy).sample(prompts(19, 1, 7), 4, params)
    scoring = replace(policy, temperature=params.scored_temperature)
    for microbatch in scoring.pack(groups, 200):
        assert microbatch.sampler_logprobs is not None
        scores = scoring.score(microbatch, [Score.LOGPROB]).of(Score.LOGPROB).detach()
        assert float((microbatch.sampler_logprobs - scores).abs().max()) < case.rounding


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_a_response_depends_neither_on_its_neighbors_nor_on_their_number(
    case: SamplerCase, policy: Model, rows: int
) -> None:
    three = prompts(12, 3, 12)
    together = written(sampler_of(case, policy, rows=100).sample(three, 4, PARAMS))
    shuffled = sampler_of(case, policy, rows=rows).sample([three[2], three[0]], 4, PARAMS)
    assert written(shuffled) == [together[2], together[0]]
    fewer = sampler_of(case, policy, rows=rows).sample(three[1:2], 2, PARAMS)
    assert written(fewer) == [together[1][:2]]


def test_seed_step_and_key_decide_and_nothing_else(case: SamplerCase, policy: Model) -> None:
    [one] = prompts(6)
    sampler = sampler_of(case, policy)
    first = written(sampler.sample([one], 3, PARAMS, step=1))
    torch.manual_seed(5)
    assert written(sampler.sample([one], 3, PARAMS, step=1)) == first
    others = [
        sampler.sample([one], 3, PARAMS, step=2),
        sampler.sample([SampleRequest(one.tokens, 5)], 3, PARAMS, step=1),
        sampler.sample([one], 3, replace(PARAMS, seed=1), step=1),
    ]
    assert len({str(each) for each in (first, *map(written, others))}) == 4


def test_greedy_is_greedy_in_transformers(case: SamplerCase, policy: Model) -> None:
    three = prompts(4, 9, 15)
    mine = sampler_of(case, policy).sample(three, 1, replace(PARAMS, temperature=0.0))
    settings = GenerationConfig(max_new_tokens=12, do_sample=False, eos_token_id=END, pad_token_id=0)
    for prompt, response in zip(three, responses(mine), strict=True):
        with plain_attention(policy.causal_lm), torch.no_grad():
            theirs = policy.causal_lm.eval().generate(
                prompt.tokens[None], attention_mask=torch.ones(1, len(prompt.tokens)), generation_config=settings
            )
        assert response.tokens.equal(theirs[0, len(prompt.tokens) :])


TRUNCATIONS: dict[str, tuple[SamplingParams, Any]] = {
    "top-k": (replace(PARAMS, temperature=2.0, top_k=4), TopKLogitsWarper(4)),
    "top-p": (replace(PARAMS, temperature=2.0, top_p=0.4), TopPLogitsWarper(0.4)),
    "min-p": (replace(PARAMS, temperature=2.0, min_p=0.3), MinPLogitsWarper(0.3)),
}


@pytest.mark.parametrize("kind", TRUNCATIONS)
def test_a_truncation_keeps_only_what_transformers_keeps(case: SamplerCase, policy: Model, kind: str) -> None:
    params, warper = TRUNCATIONS[kind]
    excluded = 0
    for group in sampler_of(case, policy).sample(prompts(9, 4), 6, params):
        for response in group.responses:
            allowed = warper(None, logits(policy, group.prompt, response.tokens) / 2.0).isfinite()
            assert bool(allowed.gather(1, response.tokens[:, None]).all())
            excluded += int((~allowed).sum())
    assert excluded > 0, "something is truncated"


def test_a_repetition_penalty_is_that_of_transformers(case: SamplerCase, policy: Model) -> None:
    """Greedily, so that the penalized logits decide alone."""
    params = replace(PARAMS, temperature=0.0, repetition_penalty=3.0)
    penalty = RepetitionPenaltyLogitsProcessor(3.0)
    for group in sampler_of(case, policy).sample(prompts(9, 4), 1, params):
        [response] = group.responses
        steps = logits(policy, group.prompt, response.tokens)
        for place, token in enumerate(response.tokens.tolist()):
            seen = torch.cat([group.prompt, response.tokens[:place]])
            assert token == int(penalty(seen[None], steps[place : place + 1]).argmax())


def test_frequencies_are_the_probabilities(case: SamplerCase, policy: Model) -> None:
    """A thousand first tokens of one prompt against softmax(z / T), each within four standard errors."""
    [prompt] = prompts(5)
    params = SamplingParams(max_new_tokens=1, temperature=2.0)
    [group] = sampler_of(case, policy, rows=500, ends=()).sample([prompt], 1000, params)
    seen = Counter(int(response.tokens[0]) for response in group.responses)
    expected = (logits(policy, prompt.tokens, prompt.tokens[:1])[0] / 2.0).softmax(-1).tolist()
    for token, share in enumerate(expected):
        assert abs(seen[token] / 1000 - share) <= 4 * (share * (1 - share) / 1000) ** 0.5 + 1e-9


def test_stop_ids_and_texts_end_a_response(case: SamplerCase) -> None:
    model = make_model(1, hidden_size=32, layers=1)
    install(model)
    sampler = case.make(Model(model, TOKENIZER), [2], 512, 5)
    prompt = [SampleRequest(torch.tensor(TOKENIZER.encode("hello")), 0)]
    [free] = sampler.sample(prompt, 1, SamplingParams(max_new_tokens=40))
    tokens = free.responses[0].tokens.tolist()
    text = TOKENIZER.decode(tokens)
    stop = text[10:12]
    [by_text] = sampler.sample(prompt, 1, SamplingParams(max_new_tokens=40, stop=(stop,)))
    assert TOKENIZER.decode(by_text.responses[0].tokens.tolist()) == text[: text.index(stop) + len(stop)]
    [by_token] = sampler.sample(prompt, 1, SamplingParams(max_new_tokens=40, stop_ids=(tokens[6],)))
    assert by_token.responses[0].tokens.tolist() == tokens[: tokens.index(tokens[6]) + 1]
    assert by_text.responses[0].finish == by_token.responses[0].finish == "end"


def test_positions_end_a_response_and_a_prompt_leaves_room_for_one(case: SamplerCase, policy: Model) -> None:
    sampler = case.make(policy, [], 20, 5)
    groups = sampler.sample(prompts(19, 5), 2, replace(PARAMS, max_new_tokens=30))
    assert [len(response.tokens) for response in responses(groups)] == [1, 1, 15, 15]
    assert {response.finish for response in responses(groups)} == {"length"}
    for wrong, words in (prompts(20), "20 positions"), (prompts(0), "without a token"):
        with pytest.raises(ModelError, match=words):
            sampler.sample(wrong, 1, PARAMS)


def test_after_a_step_it_samples_from_the_new_weights(case: SamplerCase, policy: Model) -> None:
    sampler = sampler_of(case, policy)
    before = sampler.sample(prompts(8), 6, PARAMS)
    optimizer = Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=0.05))
    Trainer(policy, optimizer).step(before, CrossEntropy(), 400, 1.0)
    sampler.publish(policy, 1)
    [microbatch] = policy.pack(sampler.sample(prompts(8), 6, PARAMS, step=1), 400)
    scores = replace(policy, temperature=0.9).score(microbatch, [Score.LOGPROB]).of(Score.LOGPROB).detach()
    assert microbatch.sampler_logprobs is not None
    assert float((microbatch.sampler_logprobs - scores).abs().max()) < case.rounding


def test_evaluated_weights_are_exactly_those_published(case: SamplerCase, policy: Model) -> None:
    """Weights of an evaluation are used at once, whatever lag a sampler has, and the next training weights after."""
    sampler = sampler_of(case, policy)
    for version in (4, EVALUATED, 5):
        used = sampler.publish(policy, version)
        assert version - sampler.max_staleness <= used <= version or used == version == EVALUATED
        versions = [r.policy_version for r in responses(sampler.sample(prompts(8), 2, PARAMS))]
        assert all(stream is not None and bool((stream == used).all()) for stream in versions)


class Notes(StreamListener):
    """What a listener is told."""

    def __init__(self) -> None:
        self.tokens: dict[tuple[int, int], list[int]] = {}
        self.groups: dict[int, Group] = {}

    def token(self, place: int, index: int, token: int) -> None:
        assert place not in self.groups, "a group is reported when it is complete"
        self.tokens.setdefault((place, index), []).append(token)

    def group(self, place: int, group: Group) -> None:
        self.groups[place] = group


def test_a_listener_is_told_every_token_and_every_group(case: SamplerCase, policy: Model) -> None:
    notes = Notes()
    groups = sampler_of(case, policy, rows=3).sample(prompts(2, 1, 2), 3, PARAMS, listener=notes)
    assert [notes.groups[place] for place in range(3)] == groups
    reported = [[notes.tokens[place, index] for index in range(3)] for place in range(3)]
    assert reported == written(groups)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_a_policy_in_training_is_left_as_it_was(case: SamplerCase, lora: bool) -> None:
    """Two trainings, one of them sampled from between its steps: every weight and generator is equal bit for bit."""
    plain, looked = _trained(None, lora), _trained(case, lora)
    assert all(torch.equal(a, b) for a, b in zip(plain[0], looked[0], strict=True))
    assert plain[1] == looked[1]


def _trained(looking: SamplerCase | None, lora: bool) -> tuple[list[Tensor], object]:
    """Weights and generators after three steps; with a sampler, which looks between them."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model = make_model(0, hidden_size=32, layers=1)
    model.generation_config = GenerationConfig(temperature=0.3, do_sample=True, top_k=3, eos_token_id=9)
    install(model)
    policy = Model((add_adapter(model, AdapterSettings(rank=4)) if lora else model).train(), TOKENIZER)
    next(islice(policy.model.modules(), 3, None)).eval()  # also odd modes stay
    modes = [module.training for module in policy.model.modules()]
    settings, attention = model.generation_config, model.config._attn_implementation
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=1e-2)))
    torch.use_deterministic_algorithms(True)
    try:
        for seed in range(3):
            trainer.step(make_groups([(3, [4]), (5, [6])], seed), CrossEntropy(), 100, 1.0)
            if looking is not None:
                looking.make(policy, [256], 512, 5).sample(prompts(3, 5), 2, SamplingParams(max_new_tokens=5))
            assert torch.are_deterministic_algorithms_enabled()
            assert all(parameter.grad is None for parameter in policy.model.parameters())
    finally:
        torch.use_deterministic_algorithms(False)
    assert [module.training for module in policy.model.modules()] == modes
    assert model.generation_config is settings
    assert model.config._attn_implementation == attention
    tensors, values = capture_random()
    weights = [parameter.detach().clone() for parameter in policy.model.parameters()]
    return [*weights, *tensors.values()], values
