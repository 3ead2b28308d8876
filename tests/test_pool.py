"""Max pooling that saves a byte per output, against torch's: the same values and gradients, bit for bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from spikelet.kernels import pool
from spikelet.kernels.pool import max_pool

LAYOUTS = {
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "contiguous": lambda x: x.contiguous(),
    "sliced": lambda x: torch.cat([x, x], 3).contiguous(memory_format=torch.channels_last)[..., : x.shape[3]],
    "held": lambda x: x[:1].expand_as(x),
}
VALUES = {
    "normal": lambda x: x,
    "ties": lambda x: x.round(),
    "zeros of both signs": lambda x: torch.copysign(torch.zeros_like(x), x),
    "not numbers": lambda x: torch.where(x > 1, torch.nan, torch.where(x < -1, -torch.inf, x)),
}
CHANNELS = st.one_of(st.integers(1, 20), st.sampled_from([31, 32, 33, 64]))


def pooled(pooling, x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Output, and the gradient of ``x`` for a gradient that tells all places apart."""
    x = x.detach().requires_grad_()
    out = pooling(x, size)
    weight = torch.arange(1, out.numel() + 1).view(out.shape).to(out.dtype)
    return out.detach(), torch.autograd.grad(out, x, weight)[0]


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert torch.equal(found.isnan(), expected.isnan())
    found, expected = found.nan_to_num(7.0), expected.nan_to_num(7.0)
    assert torch.equal(found, expected) and torch.equal(found.signbit(), expected.signbit())


@settings(max_examples=200, deadline=None)
@given(
    pictures=st.integers(1, 4),
    channels=CHANNELS,
    size=st.one_of(st.integers(1, 3), st.integers(4, 16)),
    rest=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    layout=st.sampled_from(sorted(LAYOUTS)),
    values=st.sampled_from(sorted(VALUES)),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    seed=st.integers(0, 2**31),
)
def test_equals_torch(pictures, channels, size, rest, layout, values, dtype, seed) -> None:
    x = torch.randn(pictures, channels, size + rest[0], size + rest[1], generator=torch.Generator().manual_seed(seed))
    x = LAYOUTS[layout](VALUES[values](x).to(dtype))
    expected = pooled(functional.max_pool2d, x.contiguous(memory_format=torch.channels_last), size)
    for found, wanted in zip(pooled(max_pool, x, size), expected, strict=True):
        assert_same(found, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(40, 12, 30, 31), (1, 64, 90, 91)])
def test_threads_do_not_change_a_bit(dtype, shape) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(pooled(max_pool, x, 2))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_saves_one_byte_per_output() -> None:
    x = torch.randn(4, 12, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        out = max_pool(x, 2)
    assert [(t.dtype, t.numel()) for t in saved] == [(torch.uint8, out.numel())]
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("wanted", [True, False])
def test_without_a_gradient_no_index_is_written(wanted, monkeypatch) -> None:
    given_index = []
    monkeypatch.setattr(pool, "_start", lambda name, x, out, index, size: given_index.append(index))
    with torch.set_grad_enabled(wanted):
        out = max_pool(torch.randn(1, 4, 4, 4, requires_grad=wanted), 2)
    assert out.requires_grad == wanted and (given_index[0] is not None) == wanted


@pytest.mark.parametrize("x", [torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 4)])
def test_what_torch_refuses_or_takes_is_torch_s(x) -> None:
    def outcome(pooling):
        try:
            return pooling(x, 2).tolist()
        except RuntimeError as error:
            return str(error)

    assert outcome(max_pool) == outcome(functional.max_pool2d)


def test_an_empty_batch() -> None:
    assert max_pool(torch.zeros(0, 3, 4, 4), 2).shape == (0, 3, 2, 2)
