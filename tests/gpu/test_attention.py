"""Packed attention on CUDA: shared prefixes are plain sequences, and a new layout compiles nothing."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from transformers import PreTrainedModel

from burnish.model.attention import plain_attention
from burnish.model.policy import Model
from burnish.model.probe import probe
from burnish.model.route import Route
from burnish.types import Group, Score
from tests.conftest import make_groups
from tests.gpu.conftest import made
from tests.trees import grown

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]  # torch's compiler calls what torch deprecates

SHAPES = [(90, [30, 12, 1]), (1, [8]), (15, [2, 2])]
"""More than one block of 128 rows, longer than any window."""
BOUNDS = {torch.float64: (1e-6, 1e-5), torch.float32: (2e-4, 2e-3), torch.bfloat16: (0.3, 0.15)}
"""Largest difference of a log-probability in nats, and of a gradient relative to the largest entry of its parameter (of
bfloat16: relative norm of the difference of all gradients together). transformers' norms round to float32 also in a
model of float64; test_scoring.py has the law without that."""
CASES = [
    ("llama", torch.float64),
    ("llama", torch.float32),
    ("llama", torch.bfloat16),
    ("gemma-2", torch.float32),
    ("gemma-2", torch.bfloat16),
    ("gpt-oss", torch.float32),
]


def plain(model: PreTrainedModel, groups: list[Group]) -> Tensor:
    """[tokens] one unpadded forward of transformers' own model per text of a response."""
    found = []
    with plain_attention(model):
        texts = (text for group in groups for response in group.responses for text in response.rows(group.prompt))
        for row, own in texts:
            tokens, size = row.to(model.device), own.stop - own.start
            logits = model(input_ids=tokens[None], use_cache=False).logits[0].to(torch.float64)
            logprobs = logits[-size - 1 : -1].log_softmax(-1)
            found.append(logprobs.gather(1, tokens[-size:, None])[:, 0])
    return torch.cat(found)


def packed(policy: Model, groups: list[Group]) -> Tensor:
    [microbatch] = policy.pack(groups, 10**6)
    return policy.score(microbatch.to(policy.device), [Score.LOGPROB]).of(Score.LOGPROB).to(torch.float64)


def gradients(model: PreTrainedModel, logprobs: Tensor) -> dict[str, Tensor]:
    direction = torch.randn(len(logprobs), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    model.zero_grad()
    (logprobs @ direction.to(logprobs.device)).backward()
    return {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None}


def gradient_difference(mine: dict[str, Tensor], theirs: dict[str, Tensor], dtype: torch.dtype) -> float:
    assert mine.keys() == theirs.keys(), "the same parameters have gradients"
    if dtype == torch.bfloat16:
        one, other = (torch.cat([each.flatten() for each in kind.values()]) for kind in (mine, theirs))
        return float((one - other).norm() / other.norm())
    sizes = {name: float(gradient.abs().max()) for name, gradient in theirs.items()}
    least = 1e-3 * max(sizes.values())
    return max(float((mine[n] - g).abs().max()) / max(sizes[n], least) for n, g in theirs.items())


@pytest.mark.parametrize("trees", [False, True], ids=["flat", "trees"])
@pytest.mark.parametrize(("family", "dtype"), CASES, ids=[f"{family}-{str(dtype)[6:]}" for family, dtype in CASES])
def test_shared_prefixes_are_plain_sequences(device, figures, family, dtype, trees):
    """Log-probabilities and all gradients, of shared prompts and of prefix trees; the probe at load says so too."""
    model = made(family, device, dtype)
    groups = grown(make_groups(SHAPES), forks=True) if trees else make_groups(SHAPES)
    assert probe(model).route is Route.SHARED, probe(model).reason
    mine, theirs = packed(Model(model, tokenizer=None), groups), plain(model, groups)
    logprob = float((mine - theirs).detach().abs().max())
    gradient = gradient_difference(gradients(model, mine), gradients(model, theirs), dtype)
    name = f"attention/{family}/{dtype}{', trees' if trees else ''}"
    figures[f"{name}/logprob"], figures[f"{name}/gradient"] = logprob, gradient
    assert logprob < BOUNDS[dtype][0]
    assert gradient < BOUNDS[dtype][1]


def test_a_new_layout_compiles_nothing(cuda, figures):
    """Forwards and backwards over layouts of every size: the first ones compile, later ones do not."""
    policy = Model(made("llama", cuda, torch.float32), tokenizer=None)
    layouts = [[(10 + 37 * k, [5 + 11 * k, 3, 40 + k]), (3 + k, [2] * (k + 1))] for k in range(12)]

    def compiled(some: list[list[tuple[int, list[int]]]]) -> int:
        before = counters["stats"]["unique_graphs"]
        for shapes in some:
            gradients(policy.causal_lm, packed(policy, make_groups(shapes)))
        return counters["stats"]["unique_graphs"] - before

    since = time.perf_counter()
    first, later = compiled(layouts[:6]), compiled(layouts[6:])
    figures["attention/graphs of six layouts"], figures["attention/graphs of six more"] = first, later
    figures["attention/seconds of twelve layouts"] = time.perf_counter() - since
    assert first <= 6, "the mask and the attention, of one block and of several, and one for equal sizes that part"
    assert later == 0
    assert not counters["graph_break"]
