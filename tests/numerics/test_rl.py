"""The whole path of learning by trying against the exact expected reward, which a small vocabulary lets one add up.

Prompts are answered with two tokens, so all 61² responses are known, and so is J = Σ_prompts Σ_y π(y) R(y) with its
gradient. Sampler, credit, packing, scoring, loss and optimiser are those of a run.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from burnish.credit.credit import credit
from burnish.losses.policy.gradient import PolicyGradient
from burnish.model.attention import install, plain_attention
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.packing import count_denominators
from burnish.sampling.base import SampleRequest
from burnish.sampling.local import LocalSampler
from burnish.sampling.params import SamplingParams
from burnish.stages.rl.algorithms import ALGORITHMS, algorithm
from burnish.train.step import Trainer
from burnish.types import Group, Response
from tests.families import FAMILIES, VOCABULARY

PARAMS = SamplingParams(max_new_tokens=2)
_EVEN = torch.arange(VOCABULARY) % 2 == 0
REWARDS = (_EVEN[:, None].double() + (_EVEN[:, None] == _EVEN)) / 2
"""[61, 61] of each pair of tokens: one half for an even first one, one half for a second one that is like it."""
PROMPTS = [torch.randint(VOCABULARY, (n,), generator=torch.Generator().manual_seed(n)) for n in (3, 6, 4, 9)]


@pytest.fixture
def policy() -> Model:
    torch.manual_seed(0)
    model = FAMILIES["llama"]().double()
    install(model)
    return Model(model, tokenizer=None)


def expected_reward(policy: Model) -> Tensor:
    """J, the mean over prompts, by transformers' own attention."""
    total = torch.zeros((), dtype=torch.float64)
    with plain_attention(policy.causal_lm):
        for prompt in PROMPTS:
            rows = torch.cat([prompt.expand(VOCABULARY, -1), torch.arange(VOCABULARY)[:, None]], dim=1)
            logits = policy.causal_lm.eval()(input_ids=rows, use_cache=False).logits
            joint = logits[0, -2].softmax(-1)[:, None] * logits[:, -1].softmax(-1)
            total = total + (joint * REWARDS).sum()
    return total / len(PROMPTS)


def tried(policy: Model, name: str, step: int, copies: int, responses: int, *, by_step: bool = False) -> list[Group]:
    """Groups with advantages, each prompt several times; by_step: each token is a step with its part of the reward."""
    asked = [SampleRequest(prompt, key) for key, prompt in enumerate(PROMPTS * copies)]
    groups = LocalSampler(policy, [], 256).sample(asked, responses, PARAMS, step=step)
    rewarded = [replace(group, responses=tuple(judged(each, by_step) for each in group.responses)) for group in groups]
    return list(credit(rewarded, algorithm(name, max_new_tokens=2).credit).groups)


def judged(response: Response, by_step: bool) -> Response:
    first, second = response.tokens.tolist()
    if not by_step:
        return replace(response, reward=float(REWARDS[first, second]))
    of_first = float(_EVEN[first]) / 2
    # 1 more for each: a constant has no gradient, and a reward of 0 would be no step.
    steps = torch.tensor([1 + of_first, 1 + float(REWARDS[first, second]) - of_first], dtype=torch.float64)
    return replace(response, reward=float(steps.sum()), step_rewards=steps)


def flat_gradient(policy: Model) -> Tensor:
    return torch.cat([parameter.grad.flatten() for _, parameter in policy.trained_parameters()])


@pytest.mark.parametrize("by_step", [False, True], ids=["response", "step"])
def test_in_the_mean_it_is_the_gradient_of_the_expected_reward(policy, by_step):
    """By leave-one-out, which is unbiased: 30 estimates along the exact gradient, and across it to a fixed other
    direction, within five standard errors. Credit of steps has the same mean: a token does not change earlier ones."""
    (-expected_reward(policy)).backward()
    exact = flat_gradient(policy)
    across = torch.randn(len(exact), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    across -= exact * (across @ exact) / (exact @ exact)
    policy.causal_lm.zero_grad()
    along, aside = [], []
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=1.0)))
    for step in range(30):
        groups = tried(policy, "rloo", step, copies=8, responses=4, by_step=by_step)
        loss = PolicyGradient.of(algorithm("rloo", max_new_tokens=2).loss)
        trainer.accumulate(policy.pack(groups, 512), loss, count_denominators(groups))
        estimate = flat_gradient(policy)
        policy.causal_lm.zero_grad()
        along.append(float(estimate @ exact / (exact @ exact)))
        aside.append(float(estimate @ across / (across @ across)))
    for values, mean in ((along, 1.0), (aside, 0.0)):
        found = torch.tensor(values)
        assert abs(float(found.mean()) - mean) < 5 * float(found.std()) / len(values) ** 0.5
    assert float(torch.tensor(along).std()) / len(along) ** 0.5 < 0.1, "the estimate says something"


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_the_expected_reward_rises(policy, name):
    """Twenty steps of every algorithm take it from chance, one half, a good way to 1."""
    loss = PolicyGradient.of(algorithm(name, max_new_tokens=2).loss)
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=0.01)))
    with torch.no_grad():
        before = float(expected_reward(policy))
    for step in range(20):
        trainer.step(tried(policy, name, step, copies=2, responses=8), loss, 4096, 1.0)
    with torch.no_grad():
        after = float(expected_reward(policy))
    assert 0.4 < before < 0.6
    assert after > 0.75
