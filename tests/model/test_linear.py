"""Linear layers multiplied by oneDNN: the numbers of plain layers, their gradients, and nothing left behind."""

import copy
import os

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from burnish.model import linear
from burnish.model.linear import OneDnnLinear, has_onednn, packed, packed_matrix, product, use_onednn


@pytest.fixture(autouse=True)
def small_matrices_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "SMALLEST", 0)


needs_onednn = pytest.mark.skipif(not has_onednn(), reason="this torch has no oneDNN, or this processor no AVX")


def layers(*, bias: bool = True) -> tuple[nn.Linear, nn.Linear]:
    """A plain one, and the same one made quick."""
    torch.manual_seed(0)
    plain = nn.Linear(7, 5, bias=bias)
    quick = nn.Sequential(copy.deepcopy(plain))
    use_onednn(quick)
    return plain, quick[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7,), (1, 7), (3, 7), (2, 4, 7), (0, 7)])
def test_product_and_all_gradients_are_those_of_a_plain_layer(shape: tuple[int, ...], bias: bool) -> None:
    plain, quick = layers(bias=bias)
    rows = torch.randn(shape)
    ours, theirs = (rows.clone().requires_grad_() for _ in range(2))
    upstream = torch.randn(*shape[:-1], 5)
    (quick(ours) * upstream).sum().backward()
    (plain(theirs) * upstream).sum().backward()
    assert_close(quick(rows), plain(rows))
    assert_close(ours.grad, theirs.grad)
    for mine, other in zip(quick.parameters(), plain.parameters(), strict=True):
        assert_close(mine.grad, other.grad)


def test_what_comes_out_may_be_written_into() -> None:
    """As some models do."""
    plain, quick = layers()
    results = []
    for layer in (plain, quick):
        rows = torch.ones(2, 3, 7, requires_grad=True)
        output = layer(rows)
        output[:, 0] = 0.0
        (output**2).sum().backward()
        results.append(rows.grad)
    assert_close(*results)


def test_a_transposed_view_is_multiplied_as_it_is() -> None:
    plain, quick = layers()
    rows = torch.randn(7, 3).T
    assert_close(quick(rows), plain(rows))


def test_only_what_learns_gets_a_gradient() -> None:
    _, quick = layers()
    quick.weight.requires_grad_(False)
    rows = torch.randn(3, 7, requires_grad=True)
    quick(rows).sum().backward()
    assert rows.grad is not None
    assert quick.bias.grad is not None
    assert quick.weight.grad is None
    quick.bias.requires_grad_(False)
    assert not quick(torch.randn(3, 7)).requires_grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_give_torchs_own_numbers(dtype: torch.dtype) -> None:
    plain, quick = (layer.to(dtype) for layer in layers())
    rows = torch.randn(3, 7, dtype=dtype)
    assert torch.equal(quick(rows), plain(rows))
    packs = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    assert packed_matrix(quick.weight).is_mkldnn == (dtype == torch.bfloat16 and has_onednn() and packs)
    with packed(quick), torch.no_grad():
        assert torch.equal(quick(rows), plain(rows))


@needs_onednn
def test_a_processor_without_kernels_for_bfloat16_uses_torchs_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """With AVX2 alone torch raises an error instead of reordering the matrix."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    matrix, rows = torch.randn(512, 512, dtype=torch.bfloat16), torch.randn(8, 512, dtype=torch.bfloat16)
    assert packed_matrix(matrix) is matrix
    assert torch.equal(product(rows, packed_matrix(matrix)), rows @ matrix.T)


def test_gradients_in_float32_are_those_of_float64() -> None:
    """Against the definition, since float64 itself takes the other way."""
    _, quick = layers()
    rows, upstream = torch.randn(4, 7, requires_grad=True), torch.randn(4, 5)
    (quick(rows) * upstream).sum().backward()
    wide = upstream.double()
    assert_close(rows.grad.double(), wide @ quick.weight.detach().double(), rtol=1e-5, atol=1e-6)
    assert_close(quick.weight.grad.double(), wide.T @ rows.detach().double(), rtol=1e-5, atol=1e-6)
    assert_close(quick.bias.grad.double(), wide.sum(dim=0), rtol=1e-5, atol=1e-6)


@needs_onednn
def test_packed_matrices_serve_for_a_while_and_leave_nothing() -> None:
    plain, quick = layers()
    model, rows = nn.Sequential(quick), torch.randn(3, 7)
    with packed(model), torch.no_grad():
        assert_close(model(rows), plain(rows))
        quick.weight.zero_()  # what is packed stands for the weights as they were
        assert_close(model(rows), plain(rows))
    with torch.no_grad():
        assert_close(model(rows), quick.bias.expand(3, 5))


@needs_onednn
def test_nothing_is_left_where_writing_fails() -> None:
    _, quick = layers()
    with pytest.raises(RuntimeError), packed(quick):
        quick(torch.randn(3, 8))
    assert quick._packed is None


@needs_onednn
def test_a_large_model_keeps_only_its_first_matrices_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3), nn.Linear(3, 2))
    use_onednn(model)
    monkeypatch.setattr(linear, "PACKED_BYTES", 4 * (7 * 5 + 5 * 3))
    with packed(model):
        assert [layer._packed is not None for layer in model] == [True, True, False]


@needs_onednn
def test_packed_matrices_are_not_used_where_gradients_are() -> None:
    _, quick = layers()
    with packed(quick):
        rows = torch.randn(3, 7, requires_grad=True)
        quick(rows).sum().backward()
        assert_close(rows.grad, quick.weight.detach().sum(dim=0).expand(3, 7))


@needs_onednn
@pytest.mark.parametrize("count", [1, 8, 9, 64, 65, 130])
def test_any_number_of_rows_is_rounded_up_and_down_again(count: int) -> None:
    rows, matrix = torch.randn(count, 7), torch.randn(5, 7)
    assert_close(product(rows, packed_matrix(matrix)), rows @ matrix.T)


@needs_onednn
def test_small_matrices_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, quick = layers()
    monkeypatch.setattr(linear, "SMALLEST", 7 * 5 + 1)
    rows = torch.randn(3, 7)
    assert torch.equal(quick(rows), plain(rows))
    assert packed_matrix(quick.weight) is quick.weight


@needs_onednn
def test_a_packed_matrix_multiplies_no_rows() -> None:
    assert product(torch.randn(0, 7), packed_matrix(torch.randn(5, 7))).shape == (0, 5)


def test_a_layer_is_saved_and_copied_as_what_it_was() -> None:
    plain, quick = layers()
    assert isinstance(quick, nn.Linear)
    assert list(quick.state_dict()) == list(plain.state_dict())
    rows = torch.randn(2, 7)
    assert torch.equal(copy.deepcopy(quick)(rows), quick(rows))
    assert type(quick) is (OneDnnLinear if has_onednn() else nn.Linear)


@needs_onednn
def test_few_kernels_are_kept_unless_the_environment_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = linear.CAPACITIES
    monkeypatch.setenv(first, "7")
    monkeypatch.setenv(second, "unset afterwards")
    monkeypatch.delenv(second)
    use_onednn(nn.Sequential(nn.Linear(7, 5)))
    assert (os.environ[first], os.environ[second]) == ("7", linear.KEPT_KERNELS)


def test_subclasses_keep_their_own_product() -> None:
    class Doubling(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    model = nn.Sequential(Doubling(7, 5))
    use_onednn(model)
    assert type(model[0]) is Doubling
