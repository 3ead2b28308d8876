"""The contract of every encoder, and each one's values by hand."""

import inspect
import math

import pytest
import torch

from spikelet import SpikeletError
from spikelet.encoders import ENCODERS, delta, direct, latency, once, rate, unary

SIGNALS = {"delta"}  # these take a signal [T, N, ...]; all others [N, ...]
RANDOM = {"rate"}
CURRENTS = {"direct", "once"}  # these pass the values on; all others spike
SIGNED = {"delta"}
UNIT = {"latency", "rate"}  # these take [0, 1] alone
T = 6


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def values(name: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    shape = (T, 4, 3, 5) if name in SIGNALS else (4, 3, 5)
    return torch.rand(shape, generator=seeded(), dtype=torch.float64).to(dtype)


def encode(name: str, x: torch.Tensor, num_steps: int = T, seed: int = 1) -> torch.Tensor:
    return ENCODERS[name](x, num_steps, **({"generator": seeded(seed)} if name in RANDOM else {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ENCODERS)
def test_shape_dtype_and_range(name: str, dtype: torch.dtype) -> None:
    x = values(name, dtype)
    before = x.clone()
    out = encode(name, x)
    assert out.shape == (T, 4, 3, 5) and out.dtype == dtype and not out.requires_grad
    assert torch.equal(x, before)
    assert bool(((out >= (-1 if name in SIGNED else 0)) & (out <= 1)).all())
    if name not in CURRENTS:
        assert set(out.unique().tolist()) <= {-1.0, 0.0, 1.0}
        assert bool(out.any())


@pytest.mark.parametrize("name", sorted(set(ENCODERS) - RANDOM))
def test_batch_independence(name: str) -> None:
    x = values(name)
    part = x[:, 1:2] if name in SIGNALS else x[1:2]
    assert torch.equal(encode(name, x)[:, 1:2], encode(name, part))


@pytest.mark.parametrize("name", ENCODERS)
def test_repeats_itself(name: str) -> None:
    x = values(name)
    assert torch.equal(encode(name, x), encode(name, x))
    assert torch.equal(encode(name, x), encode(name, x, seed=2)) == (name not in RANDOM)
    assert (name in RANDOM) == ("generator" in inspect.signature(ENCODERS[name]).parameters)


@pytest.mark.parametrize("num_steps", [0, -1, 2.5, True])
@pytest.mark.parametrize("name", ENCODERS)
def test_no_steps_is_refused(name: str, num_steps: float) -> None:
    with pytest.raises(SpikeletError, match="num_steps"):
        encode(name, values(name), num_steps)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ENCODERS)
def test_one_step_and_flat_samples(name: str) -> None:
    x = values(name)[:1] if name in SIGNALS else values(name)
    assert encode(name, x, 1).shape == (1, 4, 3, 5)
    flat = torch.rand((T, 4) if name in SIGNALS else (4,))
    assert encode(name, flat).shape == (T, 4)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan, math.inf])
@pytest.mark.parametrize("name", sorted(UNIT))
def test_values_outside_0_1_are_refused(name: str, wrong: float) -> None:
    with pytest.raises(SpikeletError, match=r"x: expected values in \[0, 1\]"):
        encode(name, torch.tensor([[0.5, wrong]]))


@pytest.mark.parametrize("name", sorted(UNIT | SIGNALS))
def test_pixels_that_were_not_divided_are_refused(name: str) -> None:
    with pytest.raises(SpikeletError, match="255"):
        encode(name, torch.zeros(T, 4, dtype=torch.uint8))


def test_direct_takes_no_memory_and_lets_the_gradient_through() -> None:
    x = torch.rand(2, 3, requires_grad=True)
    out = direct(x, 7)
    assert out.data_ptr() == x.data_ptr() and out.stride(0) == 0
    out.sum().backward()
    assert torch.equal(x.grad, torch.full((2, 3), 7.0))


def test_once_sums_to_the_image() -> None:
    x = torch.rand(2, 3)
    assert torch.equal(once(x, 5).sum(0), x)


def test_unary_counts_halves_up_and_stops() -> None:
    x = torch.tensor([[0.49, 0.5, 1.5, 7.0]])
    out = unary(x, num_steps=6, levels=4)
    assert out.sum(0).tolist() == [[0, 1, 2, 4]]
    assert bool((out[1:] <= out[:-1]).all())
    with pytest.raises(SpikeletError, match="levels"):
        unary(x, 6, levels=0)


def test_rate_has_the_mean_and_variance_of_a_coin() -> None:
    chances = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
    counts = rate(chances.expand(20_000, 5), num_steps=8, generator=seeded()).sum(0)
    assert counts[:, 0].max() == 0 and counts[:, 4].min() == 8
    assert torch.allclose(counts.mean(0), 8 * chances, atol=0.05)
    assert torch.allclose(counts.var(0), 8 * chances * (1 - chances), atol=0.06)


def times(spikes: torch.Tensor) -> list[list[int]]:
    """Of every value, the step of its spike; -1 where there is none."""
    assert bool((spikes.sum(0) <= 1).all())
    return torch.where(spikes.any(0), spikes.argmax(0), -1).tolist()


def test_linear_latency() -> None:
    x = torch.tensor([[1.0, 0.9, 0.75, 0.5, 0.25, 0.01, 0.0]])
    assert times(latency(x, 5)) == [[0, 0, 1, 2, 3, 4, 4]]  # 4 (1 - x) = 0, 0.4, 1, 2, 3, 3.96, 3.96
    assert times(latency(x, 5, silent_below=True)) == [[0, 0, 1, 2, 3, 4, -1]]
    assert times(latency(x, 5, tau=8.0)) == [[0, 1, 2, 4, -1, -1, -1]]  # 8 (1 - x) = 0, 0.8, 2, 4, 6 ...
    assert times(latency(x, 5, v_threshold=0.6)) == [[0, 0, 1, 2, 2, 2, 2]]  # 4 (1 - 0.6) = 1.6
    assert times(latency(x, 5, v_threshold=0.0, silent_below=True))[0][-1] == 4
    assert times(latency(x, 1)) == [[0] * 7]


def test_log_latency_is_the_time_a_membrane_takes() -> None:
    x = torch.tensor([[1.0, 0.75, 0.6, 0.51, 0.5, 0.1]])
    # ln(x / (x - 1/2)) = 0.693, 1.099, 1.792, 3.932, then beyond all bounds: ln(1 + 0.5 / 1e-7) = 15.42
    assert times(latency(x, 8, "log", tau=1.0, v_threshold=0.5)) == [[1, 1, 2, 4, -1, -1]]
    assert times(latency(x, 8, "log", tau=2.0, v_threshold=0.5)) == [[1, 2, 4, -1, -1, -1]]
    # x 7 / 15.42: 0.31, 0.50, 0.81, 1.78, 7, 7
    assert times(latency(x, 8, "log", v_threshold=0.5)) == [[0, 0, 1, 2, 7, 7]]
    assert times(latency(x, 8, "log", v_threshold=0.5, silent_below=True)) == [[0, 0, 1, 2, 7, -1]]


@pytest.mark.parametrize("tau", [None, 3.0])
@pytest.mark.parametrize("code", ["linear", "log"])
def test_latency_is_that_of_snntorch(code: str, tau: float | None) -> None:
    spikegen = pytest.importorskip("snntorch.spikegen")
    x = torch.rand(2, 1000, generator=seeded(), dtype=torch.float64)
    x[0, 0] = 0.0  # snnTorch divides by the last spike in the batch; ours is then the same
    for num_steps in (2, 5, 40):
        settings = {"normalize": True} if tau is None else {"tau": tau, "bypass": True}
        for clip in (False, True):
            theirs = spikegen.latency(x, num_steps, threshold=0.05, linear=code == "linear", clip=clip, **settings)
            ours = latency(x, num_steps, code, tau, v_threshold=0.05, silent_below=clip)
            assert torch.equal(ours, theirs.double())


def test_delta() -> None:
    x = torch.tensor([1.0, 2.0, 0.0, 2.0, 2.5]).reshape(5, 1)
    assert delta(x, threshold=1.0).flatten().tolist() == [1, 1, -1, 1, 0]
    assert delta(x, threshold=1.0, off_spike=False).flatten().tolist() == [1, 1, 0, 1, 0]
    assert delta(x, threshold=1.0, from_zero=False).flatten().tolist() == [0, 1, -1, 1, 0]
    assert delta(x, threshold=2.0).flatten().tolist() == [0, 0, -1, 1, 0]


def test_delta_is_that_of_snntorch() -> None:
    spikegen = pytest.importorskip("snntorch.spikegen")
    x = torch.rand(9, 4, 5, generator=seeded())
    for padding in (False, True):
        for off_spike in (False, True):
            theirs = spikegen.delta(x, threshold=0.2, padding=padding, off_spike=off_spike)
            assert torch.equal(delta(x, threshold=0.2, off_spike=off_spike, from_zero=not padding), theirs)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: latency(torch.zeros(1, 1), 3, code="exp"), "code: expected one of linear, log, got 'exp'"),
        (lambda: latency(torch.zeros(1, 1), 3, tau=0.0), "tau"),
        (lambda: latency(torch.zeros(1, 1), 3, v_threshold=1.0), "v_threshold"),
        (lambda: latency(torch.zeros(1, 1), 3, code="log", v_threshold=0.0), "v_threshold"),
        (lambda: delta(torch.zeros(3, 1), threshold=0.0), "threshold"),
        (lambda: delta(torch.zeros(0, 1)), "T >= 1"),
        (lambda: delta(torch.zeros(3)), r"\[T, N, ...\]"),
        (lambda: delta(torch.zeros(3, 1), num_steps=4), "num_steps = 4"),
    ],
)
def test_bad_arguments_are_named(call, named: str) -> None:
    with pytest.raises(SpikeletError, match=named):
        call()
