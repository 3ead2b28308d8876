"""Convolution and pooling event by event, against torch's: the same values and gradients."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from spikelet.kernels import conv
from spikelet.kernels.conv import Conv, conv_max_pool
from spikelet.networks import NetworkSettings, build

PLAIN = Conv((1, 1), (0, 0), (1, 1), 1)
LAYOUTS = {
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "contiguous": lambda x: x.contiguous(),
    "sliced": lambda x: torch.cat([x, x], 3)[..., : x.shape[3]],
    "held": lambda x: x[:1].expand_as(x),
}


def torch_s(x: Tensor, weight: Tensor, bias: Tensor | None, conv: Conv, size: int) -> Tensor:
    return functional.max_pool2d(functional.conv2d(x, weight, bias, *conv), size)


def passed(operation, x: Tensor, weight: Tensor, bias: Tensor | None, conv: Conv, size: int) -> list[Tensor]:
    """Output and gradients, for a gradient of the output that tells places apart."""
    leaves = [leaf.detach().requires_grad_() for leaf in (x, weight, bias) if leaf is not None]
    out = operation(*leaves, *([None] if bias is None else []), conv, size)
    weights = (torch.arange(out.numel()).view(out.shape) % 3).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, leaves, weights)]


def spikes(*shape: int, share: float, seed: int) -> Tensor:
    """Small whole numbers, so that sums are exact; ``share`` of them not 0."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 4, shape, generator=generator) * (torch.rand(shape, generator=generator) < share).float()


def whole(*shape: int, seed: int) -> Tensor:
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).float()


@pytest.fixture
def by_events(monkeypatch):
    """Whatever the input, events do the work; the passes that ran are in the list."""
    ran: list[str] = []
    compiled = conv._compiled
    monkeypatch.setattr(conv, "BUSY", 1.0)
    monkeypatch.setattr(conv, "_compiled", lambda name, *sizes: ran.append(name) or compiled(name, *sizes))
    return ran


@settings(max_examples=100, deadline=None)
@given(
    pictures=st.integers(1, 20),
    channels=st.sampled_from([(1, 1), (2, 12), (12, 64), (4, 20), (17, 3), (3, 72), (2, 130), (100, 12)]),
    kernel=st.sampled_from([(1, 1), (3, 3), (5, 5), (2, 3)]),
    padding=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    size=st.integers(1, 4),
    rest=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    layout=st.sampled_from(sorted(LAYOUTS)),
    biased=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_events_give_what_torch_gives(
    pictures, channels, kernel, padding, size, rest, share, layout, biased, seed
) -> None:
    fit = zip(kernel, padding, rest, strict=True)
    high, wide = (max(1, k + size - 1 - 2 * pad) + more for k, pad, more in fit)
    x = LAYOUTS[layout](spikes(pictures, channels[0], high, wide, share=share, seed=seed))
    weight = whole(channels[1], channels[0], *kernel, seed=seed + 1)
    bias = whole(channels[1], seed=seed + 2) if biased else None
    arguments = (x, weight, bias, PLAIN._replace(padding=padding), size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv, "BUSY", 1.0)
        found = passed(conv_max_pool, *arguments)
    for one, other in zip(found, passed(torch_s, *arguments), strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


def test_a_window_of_more_places_than_the_picture_has_numbers(by_events) -> None:
    arguments = (torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1), None, PLAIN._replace(padding=(7, 7)), 15)
    found, expected = (passed(operation, *arguments) for operation in (conv_max_pool, torch_s))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)) and "backward_input" in by_events


@pytest.mark.parametrize(("shape", "event"), [((1, 1, 1, 70_000), 66_000), ((1, 1, 40_000, 1), 35_000)])
def test_very_long_pictures(shape, event, by_events) -> None:
    x = torch.zeros(shape)
    x.view(-1)[event] = 1
    assert torch.equal(conv_max_pool(x, torch.ones(1, 1, 1, 1), None, PLAIN, 1), x)


def test_without_a_gradient_no_index_is_kept(by_events, monkeypatch) -> None:
    kept = []
    forward = conv._Layer.forward
    monkeypatch.setattr(
        conv._Layer,
        "forward",
        lambda *given, keep_index: kept.append(keep_index) or forward(*given, keep_index=keep_index),
    )
    weight = torch.randn(4, 2, 3, 3, requires_grad=True)
    with torch.no_grad():
        conv_max_pool(spikes(2, 2, 8, 8, share=0.1, seed=1), weight, None, PLAIN, 2)
    conv_max_pool(spikes(2, 2, 8, 8, share=0.1, seed=1), weight, None, PLAIN, 1)
    conv_max_pool(spikes(2, 2, 8, 8, share=0.1, seed=1), weight, None, PLAIN, 2)
    assert kept == [False, False, True]


@pytest.mark.parametrize("bias", [torch.ones(4, dtype=torch.float64), torch.ones(3)])
def test_a_bias_that_does_not_fit_is_torch_s_to_refuse(bias) -> None:
    with pytest.raises(RuntimeError):
        conv_max_pool(spikes(2, 2, 8, 8, share=0.1, seed=1), torch.randn(4, 2, 3, 3), bias, PLAIN, 2)


def test_compiled_once_then_read_from_disk(tmp_path) -> None:
    """Another process finds what this one compiled: the passes close over nothing that changes."""
    code = (
        "import torch; from spikelet.kernels import conv, pool; x = torch.eye(16)[None, None].requires_grad_();"
        "y = conv.conv_max_pool(x, torch.ones(3, 1, 3, 3), None, conv.Conv((1, 1), (0, 0), (1, 1), 1), 2);"
        "pool.max_pool(y, 2).sum().backward();"
        "print([conv._compiled('scatter', 3, 1).cache_hits, conv._compiled('backward_input', 3, 3).cache_hits,"
        " pool._compiled('forward', 1, torch.float32).cache_hits])"
    )
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    found = [subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True) for _ in range(2)]
    assert [run.stdout.split("\n")[-2] for run in found] == ["[0, 0, 0]", "[1, 1, 1]"], found[1].stderr


def test_a_processor_without_wide_registers(tmp_path) -> None:
    code = (
        "import torch; from spikelet.kernels import conv, vectors; assert not vectors.COMPRESSES;"
        "x = (torch.rand(3, 5, 9, 9) < 0.2).float().requires_grad_();"
        "w = torch.randint(-3, 4, (20, 5, 3, 3)).float().requires_grad_();"
        "plain = conv.Conv((1, 1), (1, 1), (1, 1), 1);"
        "ours = conv.conv_max_pool(x.contiguous(memory_format=torch.channels_last), w, None, plain, 2);"
        "theirs = torch.nn.functional.max_pool2d(torch.nn.functional.conv2d(x, w, padding=1), 2);"
        "grads = [torch.autograd.grad(y.sum(), (x, w)) for y in (ours, theirs)];"
        "print(torch.equal(ours, theirs), *map(torch.equal, *grads))"
    )
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "-sse4.2"}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert run.stdout.split() == ["True"] * 3, run.stderr


@pytest.mark.parametrize(("layout", "way"), [("channels_last", "slide"), ("contiguous", "scatter")])
def test_neither_batch_nor_threads_change_a_bit(layout, way, by_events) -> None:
    x, weight = LAYOUTS[layout](spikes(40, 12, 15, 15, share=0.2, seed=1)), torch.randn(64, 12, 5, 5)
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(passed(conv_max_pool, x, weight, None, PLAIN, 2))
    finally:
        torch.set_num_threads(before)
    assert by_events == 3 * [way, "backward_weight", "backward_input"]
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
    alone = torch.cat([conv_max_pool(picture[None], weight, None, PLAIN, 2) for picture in x])
    assert torch.equal(alone, found[0][0])


def test_gradients_of_the_bias_keep_their_digits(by_events) -> None:
    """Of thousands of equal gradients, a running sum would lose some."""
    for size in (1, 2):
        weight, bias = torch.randn(4, 1, 5, 5), torch.zeros(4, requires_grad=True)
        out = conv_max_pool(spikes(512, 1, 28, 28, share=0.1, seed=1), weight, bias, PLAIN, size)
        (found,) = torch.autograd.grad(out, bias, torch.full_like(out, 0.1))
        assert ((found / (0.1 * out[:, 0].numel()) - 1).abs() < 1e-5).all()


def test_equal_sums_are_equal_bit_for_bit(by_events) -> None:
    """A pattern and its shifted copy give the same sums, so that pooling finds the ties that there are."""
    x = torch.zeros(1, 4, 12, 24)
    x[..., 2:9, 2:9] = x[..., 2:9, 13:20] = spikes(4, 7, 7, share=0.4, seed=1)
    out = conv_max_pool(x, torch.randn(16, 4, 3, 3), torch.randn(16), PLAIN, 1)
    assert torch.equal(out[..., :, :9], out[..., :, 11:20])


def test_a_busy_input_is_left_to_torch(monkeypatch) -> None:
    monkeypatch.setattr(conv, "_compiled", None)
    x, weight = spikes(4, 2, 12, 12, share=0.8, seed=1), whole(12, 2, 5, 5, seed=2)
    assert torch.equal(conv_max_pool(x, weight, None, PLAIN, 2), torch_s(x, weight, None, PLAIN, 2))


@pytest.mark.parametrize(
    "settings",
    [
        PLAIN._replace(stride=(2, 2)),
        PLAIN._replace(dilation=(2, 2)),
        PLAIN._replace(groups=2),
        PLAIN._replace(padding=(3, 1)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_convolution_gives_what_torch_gives(settings, dtype) -> None:
    x = spikes(4, 2, 14, 15, share=0.2, seed=1).to(dtype)
    weight = whole(12, 2 // settings.groups, 5, 5, seed=2).to(dtype)
    found, expected = (passed(operation, x, weight, None, settings, 2) for operation in (conv_max_pool, torch_s))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_what_is_kept_for_the_backward(by_events) -> None:
    x = (torch.rand(9, 2, 12, 12) < 0.2).to(torch.uint8)
    weight = torch.randn(12, 2, 5, 5, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        out = conv_max_pool(x, weight, None, PLAIN, 2)
    assert {t.data_ptr() for t in saved if t.dtype == torch.uint8} >= {x.data_ptr()}
    assert sum(t.nbytes for t in saved) == x.nbytes + weight.nbytes + out.numel()
    torch.testing.assert_close(out, torch_s(x.float(), weight, None, PLAIN, 2))


def test_a_gradient_that_nobody_wants_is_not_computed(by_events) -> None:
    x, weight = spikes(4, 2, 12, 12, share=0.2, seed=1), torch.randn(12, 2, 5, 5, requires_grad=True)
    conv_max_pool(x, weight, None, PLAIN, 2).sum().backward()
    assert by_events == ["scatter", "backward_weight"]


def test_under_autocast_it_is_torch_s() -> None:
    x, weight = torch.rand(4, 2, 12, 12, requires_grad=True), torch.randn(12, 2, 5, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = conv_max_pool(x, weight, None, PLAIN, 2)
        expected = torch_s(x, weight, None, PLAIN, 2)
    assert out.dtype == torch.bfloat16 and torch.equal(out, expected)
    found, wanted = (torch.autograd.grad(y.sum(), [x, weight]) for y in (out, expected))
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=2**-6, atol=2**-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("notation", ["6C3-MP2-FC10", "6C3-AP2-FC10", "FC10"])
def test_frames_of_any_dtype_and_layout_give_the_same(notation, dtype) -> None:
    network = build(NetworkSettings(notation, neuron="lif", norm="none", weights="float"), (2, 8, 8))
    frames = torch.randint(0, 3, (4, 3, 2, 8, 8))
    expected = network(frames.float())
    assert torch.equal(network(frames.to(dtype)), expected)
    assert torch.equal(network(frames.transpose(0, 1).contiguous().transpose(0, 1).to(dtype)), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_spiking_network_pools_with_it(dtype) -> None:
    settings = NetworkSettings("12C5-MP2-6C3-MP2-FC10", neuron="lif", norm="none", weights="float")
    network = build(settings, (2, 20, 20)).to(dtype)
    frames = torch.randn(4, 3, 2, 20, 20, dtype=dtype)
    x = frames.flatten(0, 1)
    for name, block in network.blocks().items():
        if "C" in name and not name.startswith("FC"):
            x = block.neuron(functional.max_pool2d(block.op(x), 2).unflatten(0, (4, 3))).flatten(0, 1)
    last = network.blocks()["FC10"]
    expected = last.neuron(last.op(x.flatten(1)).unflatten(0, (4, 3)))
    assert torch.equal(network(frames), expected)
