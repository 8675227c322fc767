"""The divergence from the start: exact in expectation, 0 to the bit at the start, and without a trace in training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from burnish.builtin.tiny import make_model, make_tokenizer
from burnish.data.prompts import TokenizedPrompt
from burnish.data.records import Task
from burnish.evaluate.evaluator import EvalResult
from burnish.evaluate.start_kl import StartKL, drawn_prompts, kl_terms
from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.parallel.world import ONE_PROCESS, World
from burnish.roles.scorer import LiveScorer
from burnish.runs.random_state import capture_random
from burnish.sampling.base import SampleRequest
from burnish.sampling.local import LocalSampler
from burnish.sampling.params import SamplingParams
from burnish.types import Group, Response, Score
from tests.parallel.threads import in_world

TOKENIZER = make_tokenizer()
PROMPTS = [
    TokenizedPrompt(row, torch.tensor(TOKENIZER.encode(text)), Task(text, "e"))
    for row, text in ((3, "one"), (5, "two, three"), (6, "four"), (8, "5"))
]
PARAMS = SamplingParams(max_new_tokens=9, temperature=0.8)


def policy_of(*, double: bool = True, adapter: bool = False, temperature: float = 0.8) -> Model:
    causal_lm = make_model(1, hidden_size=32, layers=1)
    causal_lm = causal_lm.double() if double else causal_lm
    install(causal_lm)
    model = add_adapter(causal_lm, AdapterSettings(rank=2), ()) if adapter else causal_lm
    return Model(model.train(), TOKENIZER, temperature=temperature)


def sampler_of(policy: Model) -> LocalSampler:
    return LocalSampler(policy, [256], 512)


def start_kl(
    policy: Model, *, budget: int = 1000, params: SamplingParams = PARAMS, world: World = ONE_PROCESS
) -> StartKL:
    return StartKL.of(policy, PROMPTS, sampler_of(policy), params, budget, world)


def move(policy: Model, scale: float = 0.05) -> None:
    """Other weights, as training gives them."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _, parameter in policy.trained_parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


def figures(result: EvalResult) -> tuple[float, float]:
    return float(result.figures["start_kl"]), float(result.figures["start_kl_per_response"])


END, VOCABULARY, LENGTH = 0, 3, 3


def complete(tokens: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """All responses: up to the end token, or of the largest length."""
    if len(tokens) == LENGTH or tokens[-1:] == (END,):
        yield tokens
        return
    for token in range(VOCABULARY):
        yield from complete((*tokens, token))


def logprob(causal_lm: LlamaForCausalLM, prompt: Tensor, tokens: tuple[int, ...], temperature: float) -> float:
    """Log-probability of a response by transformers' forward."""
    whole = torch.cat([prompt, torch.tensor(tokens)])
    with torch.no_grad():
        logits = causal_lm(input_ids=whole[None]).logits[0, len(prompt) - 1 :] / temperature
    return float(sum(logits[at].log_softmax(-1)[token] for at, token in enumerate(tokens)))


def response(tokens: tuple[int, ...]) -> Response:
    return Response(tokens=torch.tensor(tokens), trainable=torch.ones(len(tokens), dtype=torch.bool))


def test_its_expectation_is_the_exact_divergence_of_responses() -> None:
    """Over all responses of a tiny vocabulary, each with its probability at the start."""
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    start = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **sizes)).double()
    policy = Model(deepcopy(start), None, temperature=0.7)
    install(policy.causal_lm)
    prompt, responses = torch.tensor([1, 2]), list(complete())
    groups = [Group(prompt=prompt, responses=(response(tokens),)) for tokens in responses]
    scores = LiveScorer(policy).score(groups, Score.LOGPROB, 100)
    move(policy, 0.3)
    moved = deepcopy(start)
    moved.load_state_dict(policy.causal_lm.state_dict())
    expected = exact = 0.0
    for tokens, group, score in zip(responses, groups, scores, strict=True):
        before = logprob(start, prompt, tokens, 0.7)
        expected += math.exp(before) * figures(StartKL([group], [score], 100).evaluate(policy))[1]
        exact += math.exp(before) * (before - logprob(moved, prompt, tokens, 0.7))
    assert exact > 0.01
    assert expected == pytest.approx(exact, rel=1e-9)


def test_a_term_worked_out_by_hand() -> None:
    """r = 1/2 and 2: 1/2 − 1 + ln 2, and 2 − 1 − ln 2."""
    terms = kl_terms(torch.tensor([0.5, 2.0, 1.0]).log())
    assert terms.tolist() == pytest.approx([math.log(2) - 0.5, 1 - math.log(2), 0], abs=1e-7)
    assert float(kl_terms(torch.linspace(-1e-6, 1e-6, 1001, dtype=torch.float64)).min()) >= 0


def test_a_small_move_is_half_the_squared_log_ratio() -> None:
    log_ratio = torch.tensor([1e-4, -1e-4], dtype=torch.float64)
    assert kl_terms(log_ratio).tolist() == pytest.approx((log_ratio.square() / 2).tolist(), rel=1e-3)


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "adapter"])
@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
def test_it_is_0_to_the_bit_at_the_start_and_above_later(double: bool, adapter: bool) -> None:
    policy = policy_of(double=double, adapter=adapter)
    evaluator = start_kl(policy)
    assert figures(evaluator.evaluate(policy)) == (0.0, 0.0)
    move(policy)
    assert min(figures(evaluator.evaluate(policy))) > 0


def test_it_is_a_mean_over_tokens_and_one_over_responses() -> None:
    policy = policy_of()
    evaluator = start_kl(policy)
    move(policy)
    of_tokens, of_responses = figures(evaluator.evaluate(policy))
    lengths = [len(group.responses[0].tokens) for group in evaluator.groups]
    assert len(set(lengths)) > 1 or lengths[0] == PARAMS.max_new_tokens
    assert of_tokens * sum(lengths) == pytest.approx(of_responses * len(PROMPTS), rel=1e-12)


@pytest.mark.parametrize("budget", [1, 20, 50])
def test_microbatches_do_not_matter(budget: int) -> None:
    policy = policy_of()
    whole, cut = start_kl(policy), start_kl(policy, budget=budget)
    move(policy)
    assert figures(cut.evaluate(policy)) == pytest.approx(figures(whole.evaluate(policy)), rel=1e-9)


@pytest.mark.parametrize("size", [2, 5])
def test_every_rank_has_the_result_of_all_prompts(size: int) -> None:
    model = policy_of()

    def evaluated(world: World) -> tuple[float, float]:
        policy = replace(model, model=deepcopy(model.model))
        evaluator = start_kl(policy, world=world)
        move(policy)
        return figures(evaluator.evaluate(policy))

    expected = evaluated(ONE_PROCESS)
    for found in in_world(size, evaluated):
        assert found == pytest.approx(expected, rel=1e-9)


def test_training_is_left_as_it_was() -> None:
    """Modes, gradients, random generators, and the responses that training samples next."""
    policy = policy_of()
    sampler = sampler_of(policy)
    requests = [SampleRequest(prompt.tokens, key) for key, prompt in enumerate(PROMPTS)]

    def sampled() -> list[list[int]]:
        return [group.responses[0].tokens.tolist() for group in sampler.sample(requests, 1, PARAMS, step=0)]

    before, state = sampled(), repr(capture_random())
    evaluator = StartKL.of(policy, PROMPTS, sampler, PARAMS, 100)
    evaluator.evaluate(policy)
    assert repr(capture_random()) == state
    assert policy.model.training
    assert all(parameter.grad is None for _, parameter in policy.trained_parameters())
    assert sampled() == before


def test_its_responses_are_those_of_no_step_of_training() -> None:
    """With the same keys they differ, and they are the same again when the stage is built again."""
    policy = policy_of()
    again = [start_kl(policy), start_kl(policy)]
    one, other = ([group.responses[0].tokens.tolist() for group in evaluator.groups] for evaluator in again)
    assert one == other
    requests = [SampleRequest(prompt.tokens, prompt.row) for prompt in PROMPTS]
    trained = sampler_of(policy).sample(requests, 1, PARAMS, step=0)
    assert all(group.responses[0].tokens.tolist() != mine for group, mine in zip(trained, one, strict=True))


@pytest.mark.parametrize(
    "truncation",
    [{"top_k": 1}, {"top_p": 0.1}, {"min_p": 0.9}, {"repetition_penalty": 3.0}],
    ids=lambda value: min(value),
)
def test_the_whole_distribution_is_sampled(truncation: dict[str, Any]) -> None:
    """Truncated responses would not be samples of the distribution whose divergence is estimated."""
    policy = policy_of()
    whole, other = start_kl(policy), start_kl(policy, params=replace(PARAMS, **truncation))
    assert [group.responses[0].tokens.tolist() for group in whole.groups] == [
        group.responses[0].tokens.tolist() for group in other.groups
    ]


def test_prompts_are_drawn_by_the_seed() -> None:
    many = [replace(PROMPTS[0], row=row) for row in range(50)]
    drawn = [[prompt.row for prompt in drawn_prompts(many, 8, seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] == sorted(drawn[0]) != drawn[2]
    assert len(set(drawn[0])) == 8
    assert drawn_prompts(PROMPTS, 64, 0) == PROMPTS
