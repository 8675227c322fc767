"""Divergences from a teacher on CUDA are those of a CPU: values, gradients, top tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from burnish.losses.distillation.settings import DivergenceOptions
from burnish.model.divergence import Comparison, FullVocabulary, OtherVocabulary, TopK
from burnish.model.head import Head
from burnish.model.scoring import score
from burnish.model.top_k import top_tokens
from burnish.packing import pack
from burnish.types import Microbatch, Score
from tests.conftest import VOCABULARY, make_groups
from tests.gpu.test_scoring import BOUNDS, WIDTH, inputs

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

SUPPORTS = ("full", "top_k", "other_vocabulary")


def with_teacher(microbatch: Microbatch, dtype: torch.dtype, device: torch.device) -> tuple[Microbatch, Head]:
    """The microbatch with the teacher's streams, computed on the device, and the teacher's head."""
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(len(microbatch.targets), WIDTH, generator=generator).to(dtype).to(device)
    head = Head((0.3 * torch.randn(VOCABULARY, WIDTH, generator=generator)).to(dtype).to(device))
    top = top_tokens(states, head, 5)
    streams = {
        "teacher_states": states,
        "teacher_topk_tokens": top.tokens,
        "teacher_topk_logprobs": top.logprobs,
        "teacher_tail_logprobs": top.tail,
    }
    return replace(microbatch.to(device), **streams), head


def compared(support: str, kind: str, dtype: torch.dtype, device: torch.device, route: str) -> list[Tensor]:
    """Divergences with the gradients of hidden states and head, on the host in float64."""
    [packed] = pack(make_groups([(9, [5]), (4, [7, 3])], holes=True), 100)
    microbatch, teacher_head = with_teacher(packed, dtype, device)
    options = DivergenceOptions(kind, support, 0.3)  # type: ignore[arg-type]
    comparison: Comparison = {
        "full": FullVocabulary(options, [lambda: teacher_head]),
        "top_k": TopK(options),
        "other_vocabulary": OtherVocabulary(lambda: teacher_head),
    }[support]
    hidden, head = inputs(packed, dtype)
    hidden = hidden.to(device).requires_grad_()
    weight = head.weight.to(device).requires_grad_(route != "frozen head")
    slopes = torch.linspace(-1, 1, len(microbatch.targets), device=device)
    known = {Score.DIVERGENCE: slopes.double()} if route == "known upstream" else None
    found = score(
        hidden,
        replace(head, weight=weight),
        microbatch,
        [Score.DIVERGENCE],
        coefficients=known,
        chunk_bytes=2000,
        comparison=comparison,
    ).divergence
    assert found is not None
    (found * slopes).sum().backward()
    grads = [tensor.grad for tensor in (hidden, weight) if tensor.grad is not None]
    return [tensor.detach().cpu().double() for tensor in (found, *grads)]


@pytest.mark.parametrize("route", ["frozen head", "known upstream", "recomputed"])
@pytest.mark.parametrize("kind", ["reverse_kl", "forward_kl", "jsd"])
@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=lambda dtype: str(dtype)[6:])
def test_divergences_are_those_of_a_cpu(device, figures, dtype, support, kind, route):
    here, there = (compared(support, kind, dtype, where, route) for where in (torch.device("cpu"), device))
    worst = max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(here, there, strict=True))
    figures[f"divergence/{dtype}/{support}/{kind}/{route}"] = worst
    assert worst < BOUNDS[dtype]
