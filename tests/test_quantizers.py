"""The contract of every weight quantizer, and the activation levels."""

import pytest
import torch
from torch import nn

from spikelet import SpikeletError
from spikelet.quantizers import (
    CBP,
    LSQ,
    QUANTIZERS,
    TWN,
    Levels,
    Ternary,
    WeightQuantizer,
    quantize_weight,
    weight_quantizer,
)


def begun(name: str, weight: torch.Tensor) -> WeightQuantizer:
    quantizer = QUANTIZERS[name]()
    quantizer.begin(weight)
    return quantizer


@pytest.mark.parametrize("name", sorted(QUANTIZERS))
def test_codes_times_scale_and_straight_through(name: str) -> None:
    w = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    quantizer = begun(name, w)
    codes, scale = quantizer.codes(w), quantizer.scale(w)
    assert codes.dtype == torch.int8 and scale > 0
    if quantizer.bits == 1:
        assert set(codes.unique().tolist()) == {-1, 1}
    else:
        assert -(2 ** (quantizer.bits - 1)) <= int(codes.min()) and int(codes.max()) < 2 ** (quantizer.bits - 1)
    out = quantizer(w)
    assert torch.equal(out, codes * scale)
    grad = torch.randn_like(out)
    out.backward(grad)
    within = torch.ones_like(w)
    if isinstance(quantizer, LSQ):
        within = (w / scale >= quantizer.lowest) & (w / scale <= quantizer.highest)
    assert torch.equal(w.grad, grad * within)


@pytest.mark.parametrize("name", sorted(QUANTIZERS))
def test_idempotent(name: str) -> None:
    w = torch.randn(50, 50, generator=torch.Generator().manual_seed(1))
    quantizer = begun(name, w)
    once = quantizer(w)
    assert torch.allclose(quantizer(once), once, rtol=1e-6)


@pytest.mark.parametrize("bits", [2, 4])
def test_the_gradient_of_a_learned_step(bits: int) -> None:
    """Its formula, from Esser et al., weight by weight."""
    w = torch.randn(200, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    lsq = LSQ(bits).double()
    lsq.begin(w)
    grad = torch.randn_like(w)
    lsq(w).backward(grad)
    expected = 0.0
    for weight, given in zip(w.tolist(), grad.tolist(), strict=True):
        x = weight / lsq.step.item()
        inside = lsq.lowest <= x <= lsq.highest
        slope = round(x) - x if inside else (lsq.lowest if x < 0 else lsq.highest)
        expected += given * slope / (200 * lsq.highest) ** 0.5
    assert lsq.step.grad.item() == pytest.approx(expected, rel=1e-9)


def test_learned_steps_refuse() -> None:
    with pytest.raises(SpikeletError, match="bits: expected 2 to 8, got 1"):
        LSQ(1)
    for quantizer in (LSQ(), TWN(), CBP()):
        with pytest.raises(SpikeletError, match="weight: is all 0"):
            quantizer.begin(torch.zeros(3))


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
