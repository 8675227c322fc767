"""Packed attention as torch's compiler takes it: on a CPU, forwards, what CUDA compiles too.

Tracing and lowering are the same for both devices, only the last step differs. (torch 2.13 compiles FlexAttention for
a CPU without gradients and without the log-sum-exp that sinks need: tests/gpu has these.)
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial

import pytest
import torch
import torch._dynamo.config
import torch._inductor.config
from torch import Tensor
from torch._dynamo.utils import counters

from burnish.layout import Layout
from burnish.model import flex
from burnish.model.attention_options import AttentionOptions
from burnish.model.segments import attend_segments
from burnish.packing import pack
from tests.conftest import make_groups

pytestmark = pytest.mark.filterwarnings("default")  # torch's compiler calls what torch deprecates

SEVERAL = [[(100, [30, 40]), (5, [6])], [(150, [30, 40]), (9, [6, 3])], [(1, [200]), (33, [1, 1, 70])]]
"""Groups of more than one block of 128 rows."""
EVERYTHING = AttentionOptions(scaling=0.3, softcap=2.0, window=50, chunk=64)
KEY_HEADS = 5
"""As many as no layout here has blocks: torch takes equal sizes for one, and would compile once more when they part."""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No compiled function of another test."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
    flex._masks.clear()


def layout_of(shapes: list[tuple[int, list[int]]]) -> Layout:
    [microbatch] = pack(make_groups(shapes), 10**6)
    return microbatch.layout


def inputs(rows: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn((1, heads, rows, 16), generator=generator) for heads in (2 * KEY_HEADS, KEY_HEADS, KEY_HEADS)]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled as for CUDA, but for the last step: the traced graph is run as it is; masks likewise."""
    functions = (flex._attend, flex.create_block_mask)
    attend, create = (torch.compile(function, backend="eager", **flex.COMPILING) for function in functions)
    monkeypatch.setattr(flex, "_compiled_flex", lambda: attend)
    monkeypatch.setattr(flex, "create_block_mask", create)


@torch._inductor.config.patch(cpp_cache_precompile_headers=False)  # slow for a single kernel
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler on this machine, which torch's compiler needs")
def test_the_compiler_takes_windows_chunks_and_caps(monkeypatch, tmp_path):
    """Numbers that a mask or a cap has are constants to it: as variables they cannot be lowered."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    compiled = torch.compile(flex._attend, **flex.COMPILING)
    monkeypatch.setattr(flex, "_compiled_flex", lambda: compiled)
    for shapes in SEVERAL:
        layout = layout_of(shapes)
        given = inputs(len(layout.positions))
        mine, other = (attend(*given, layout, EVERYTHING) for attend in (flex.attend_flex, attend_segments))
        assert torch.allclose(mine, other, rtol=0, atol=5e-6)
    assert compiled_graphs() == 1


def compiled_graphs() -> int:
    return counters["stats"]["unique_graphs"]


@pytest.mark.usefixtures("traced")
def test_a_new_layout_compiles_nothing():
    """One graph of the mask and one of the attention, whatever is packed; one block of rows has its own."""
    for shapes in SEVERAL:
        layout = layout_of(shapes)
        flex.attend_flex(*inputs(len(layout.positions)), layout, AttentionOptions(scaling=0.3))
    assert compiled_graphs() == 2
    small = layout_of([(3, [2])])
    flex.attend_flex(*inputs(len(small.positions)), small, AttentionOptions(scaling=0.3))
    assert compiled_graphs() <= 4


@torch._dynamo.config.patch(recompile_limit=1)
@pytest.mark.usefixtures("traced")
def test_more_kinds_than_the_compiler_keeps_by_itself():
    """torch has a bound of its own for compiled variants, and runs what comes after them uncompiled."""
    layout = layout_of(SEVERAL[0])
    attend = partial(flex.attend_flex, *inputs(len(layout.positions)), layout)
    for window in (10, 20, 30):
        attend(AttentionOptions(scaling=0.3, window=window))
    assert compiled_graphs() == 6


def test_what_triton_does_not_multiply_is_computed_by_segments():
    """float64, narrow heads, and every other device."""
    with torch.device("meta"):
        narrow, wide = torch.empty(1, 2, 3, 8), torch.empty(1, 2, 3, 16)
    assert not flex.supports_flex(wide, wide)

    class OnCuda:
        """The shape and the type of a tensor, said to be on CUDA."""

        def __init__(self, tensor: Tensor) -> None:
            self.shape, self.dtype, self.device = tensor.shape, tensor.dtype, torch.device("cuda")

    assert flex.supports_flex(OnCuda(wide), OnCuda(wide))
    assert not flex.supports_flex(OnCuda(wide), OnCuda(narrow))
    assert not flex.supports_flex(OnCuda(wide.double()), OnCuda(wide.double()))
