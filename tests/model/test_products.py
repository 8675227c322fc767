"""The head's products in narrow types: exact forwards, and a backward that rounds its operands once."""

import pytest
import torch
from torch import Tensor

from burnish.model import products
from burnish.model.products import HeadMatrix, OuterSum

VOCABULARY, HIDDEN = 23, 9


def random(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_logits_are_sums_of_exact_products(dtype):
    weight, source = random(VOCABULARY, HIDDEN, dtype=dtype), random(5, HIDDEN, dtype=dtype)
    logits = HeadMatrix.of(weight, source.dtype).logits(source)
    assert logits.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.allclose(logits.double(), source.double() @ weight.double().T, rtol=1e-6, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_logits_on_a_gpu_are_no_coarser():
    weight, source = random(VOCABULARY, HIDDEN).cuda(), random(5, HIDDEN).cuda()
    matrix = HeadMatrix.of(weight, source.dtype)
    assert matrix.forward is weight, "no wide copy of the head"
    assert torch.allclose(matrix.logits(source).double(), source.double() @ weight.double().T, rtol=1e-6, atol=1e-5)


def test_wide_states_are_not_rounded_to_a_narrow_head():
    weight, source = random(VOCABULARY, HIDDEN), random(5, HIDDEN, dtype=torch.float32)
    logits = HeadMatrix.of(weight, source.dtype).logits(source)
    assert torch.allclose(logits, source @ weight.float().T, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("together", [1, 8, 1000], ids=["at-once", "some-wait", "all-wait"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_gradients_are_those_of_operands_rounded_once(monkeypatch, dtype, together):
    """Chunks of 3, 3, 3 and 1 rows, whatever waits for whom."""
    monkeypatch.setattr(products, "ROWS_TOGETHER", together)
    weight, source = random(VOCABULARY, HIDDEN, dtype=dtype), random(10, HIDDEN, dtype=dtype)
    matrix = HeadMatrix.of(weight, source.dtype)
    gradient = random(10, VOCABULARY, dtype=matrix.dtype)
    outer, back = OuterSum(matrix), torch.empty(10, HIDDEN, dtype=matrix.dtype)
    for start in range(0, 10, 3):
        rows = slice(start, min(start + 3, 10))
        matrix.back(outer.add(gradient[rows].clone(), source[rows]), back[rows])
    rounded = gradient.to(dtype).double()
    narrow = 2**-8 if dtype == torch.bfloat16 else 1e-6  # the result of a narrow product is narrow
    for got, wanted in ((back, rounded @ weight.double()), (outer.total(), rounded.T @ source.double())):
        assert got.dtype == matrix.dtype
        assert (got.double() - wanted).abs().max() <= 2 * narrow * wanted.abs().max()


def test_nothing_added_is_zero():
    matrix = HeadMatrix.of(random(VOCABULARY, HIDDEN), torch.bfloat16)
    assert torch.equal(OuterSum(matrix).total(), torch.zeros(VOCABULARY, HIDDEN))
