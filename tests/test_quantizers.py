"""The contract of every weight quantizer, and the activation levels."""

import pytest
import torch
from torch import nn

from spikelet import SpikeletError
from spikelet.quantizers import QUANTIZERS, Levels, Ternary, quantize_weight, weight_quantizer


@pytest.mark.parametrize("name", sorted(QUANTIZERS))
def test_codes_times_scale_and_straight_through(name: str) -> None:
    quantizer = QUANTIZERS[name]()
    w = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    codes, scale = quantizer.codes(w), quantizer.scale(w)
    assert codes.dtype == torch.int8 and scale > 0
    assert int(codes.abs().max()) <= 2 ** (quantizer.bits - 1) - 1
    out = quantizer(w)
    assert torch.equal(out, codes * scale)
    grad = torch.randn_like(out)
    out.backward(grad)
    assert torch.equal(w.grad, grad)


@pytest.mark.parametrize("name", sorted(QUANTIZERS))
def test_idempotent(name: str) -> None:
    quantizer = QUANTIZERS[name]()
    w = torch.randn(50, 50, generator=torch.Generator().manual_seed(1))
    once = quantizer(w)
    assert torch.allclose(quantizer(once), once, rtol=1e-6)


def test_parametrization_is_found_again() -> None:
    op = quantize_weight(nn.Conv2d(2, 3, 3), Ternary())
    assert isinstance(weight_quantizer(op), Ternary)
    assert weight_quantizer(nn.Linear(2, 2)) is None


@pytest.mark.parametrize("k", [0, 1, 2])
def test_levels_are_what_a_threshold_computes(k: int) -> None:
    a = torch.arange(-40, 400, dtype=torch.float64) / 32
    counts = sum((a >= (m - 0.5) * 2.0**-k).double() for m in range(1, 8))
    assert torch.equal(Levels(k, max_count=7).double()(a), counts / 2**k)


def test_levels_gradient_stops_outside() -> None:
    a = torch.tensor([-0.1, 0.2, 1.9, 2.1], requires_grad=True)
    Levels(0, max_count=2)(a).sum().backward()
    assert a.grad.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(("k", "count"), [(-1, 4), (7, 4), (0, 0), (0, 128)])
def test_levels_refuse(k: int, count: int) -> None:
    with pytest.raises(SpikeletError, match="expected"):
        Levels(k, count)
