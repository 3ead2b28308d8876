"""The time-surface encoder: by events equal to the dense form, in value and gradient, and what it refuses."""

import math
from dataclasses import replace

import dense_surface
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spikelet import SpikeletError
from spikelet.encoders import TimeSurface
from spikelet.events import Binned, SensorSize
from spikelet.kernels import surface

SENSORS = st.tuples(st.integers(1, 13), st.sampled_from([1, 1, 2, 5, 9, 14]), st.integers(1, 2))
SETTINGS = {
    "sensor": SENSORS,
    "cell": st.tuples(st.integers(1, 5), st.integers(1, 6)),
    "radius": st.sampled_from([0, 1, 2, 3, 5, 9]),
    "kernel": st.sampled_from(["kt", "ktzs"]),
    "tau": st.sampled_from([0.01, 1.0, 20.0, 50.0, 1e4]),
    "dt": st.sampled_from([0.5, 1.0, 5.0]),
}
BATCHES = {
    "num_steps": st.integers(1, 70),
    "counts": st.lists(st.integers(0, 300), min_size=1, max_size=4),
    "seed": st.integers(0, 2**31),
}


def stream(sensor_size: SensorSize, num_steps: int, counts: list[int], seed: int) -> Binned:
    """Recordings with up to so many events at random, each in one step of one site at most once."""
    generator, sites, places = torch.Generator().manual_seed(seed), math.prod(sensor_size), []
    for count in counts:
        drawn = torch.randint(num_steps * sites, (count,), generator=generator).unique()
        order = torch.rand(len(drawn), generator=generator).argsort()  # within a step in any order
        drawn = drawn[order][(drawn[order] // sites).argsort(stable=True)]
        places.append(drawn)
    together, starts = torch.cat(places), torch.tensor([0, *(len(drawn) for drawn in places)]).cumsum(0)
    return Binned((together // sites).int(), (together % sites).int(), starts, num_steps, sensor_size)


def encoder(sensor, cell, radius, kernel, tau, dt, seed) -> TimeSurface:
    made = TimeSurface(sensor, (1, cell[1]) if sensor[1] == 1 else cell, radius, kernel, tau, dt)
    nn.init.normal_(made.weight, generator=torch.Generator().manual_seed(seed))
    return made


def both(encode, events: Binned, weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Currents, and the gradient of the weights for a gradient of the currents at random; in float64."""
    weight = weight.detach().to(dtype).requires_grad_()
    out = encode(events, weight)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    out.backward(grad.to(dtype))
    assert weight.grad is not None
    return out.detach().double(), weight.grad.double()


def assert_close(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], tolerance: float = 1e-5) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, rtol=0, atol=tolerance * max(1, other.abs().max().item()))


def by_events(made: TimeSurface):
    def encode(events: Binned, weight: Tensor) -> Tensor:
        given = surface.Events(events.steps, events.sites, events.starts, events.num_steps)
        return surface.encode(given, weight, made.surface)

    return encode


@settings(max_examples=120, deadline=None)
@given(**SETTINGS, **BATCHES)
def test_by_events_equals_the_dense_form(sensor, cell, radius, kernel, tau, dt, num_steps, counts, seed) -> None:
    events = stream(sensor, num_steps, counts, seed)
    made = encoder(sensor, cell, radius, kernel, tau, dt, seed)
    dense = both(lambda e, w: dense_surface.encode(e, w, made.surface), events, made.weight, torch.float64)
    assert dense[0].shape == (num_steps, len(counts), made.out_features)
    assert_close(both(by_events(made), events, made.weight, torch.float32), dense)
    assert_close(both(by_events(made), events, made.weight, torch.float64), dense, 1e-9)
    assert torch.equal(made(events).detach(), by_events(made)(events, made.weight.detach()))


def test_half_precision_is_that_of_single_rounded() -> None:
    events = stream((9, 9, 2), 20, [100, 200], 1)
    made = TimeSurface((9, 9, 2), 3, 2, tau=20.0, dt=1.0)
    expected = made(events)
    assert torch.allclose(made.bfloat16()(events).float(), expected, atol=2**-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_recording_alone_gives_the_same_bits(threads: int) -> None:
    before = torch.get_num_threads()
    sensor = (20, 20, 2)
    made = TimeSurface(sensor, 5, 3, tau=20.0, dt=1.0)
    events = stream(sensor, 40, [3000, 0, 700, 2000, 1], 2)
    together = both(by_events(made), events, made.weight, torch.float32)
    try:
        torch.set_num_threads(threads)
        again = both(by_events(made), events, made.weight, torch.float32)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(together, again, strict=True))
    for n in range(len(events)):
        own = slice(int(events.starts[n]), int(events.starts[n + 1]))
        alone = replace(
            events, steps=events.steps[own], sites=events.sites[own], starts=events.starts[n : n + 2] - own.start
        )
        assert torch.equal(made(alone)[:, 0].detach().double(), together[0][:, n])


def test_memory_for_the_backward_is_the_events_themselves() -> None:
    events = stream((30, 30, 2), 50, [500, 900], 3)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        TimeSurface((30, 30, 2), 5, 3)(events)
    assert set(kept) == {events.steps.data_ptr(), events.sites.data_ptr(), events.starts.data_ptr()}


# ---------------------------------------------------------------- fixtures (reference, sections 3.5 and 9)


def test_the_published_fixture() -> None:
    steps, sites = torch.tensor([0, 1, 1], dtype=torch.int32), torch.tensor([2, 1, 2], dtype=torch.int32)
    events = Binned(steps, sites, torch.tensor([0, 3]), 2, (5, 1, 1))
    made = TimeSurface((5, 1, 1), cell=1, radius=1, kernel="ktzs", tau=(20.0, 40.0), dt=1.0)
    nn.init.ones_(made.weight)
    values = dense_surface.traces(dense_surface.spikes(events, torch.float64), made.surface).flatten(1)
    assert values.tolist() == [[0, 0, 0.5, 0, 0], [0, 0.5, pytest.approx(0.96357, abs=1e-5), 0, 0]]
    found = made(events).detach().reshape(2, 3, 5).transpose(1, 2)
    assert found[0].tolist() == [[0] * 3, [0] * 3, [0, 1, 0], [0] * 3, [0] * 3]
    assert found[1, 1].tolist() == pytest.approx([0, 0.4606, 0.8876], abs=1e-4)
    assert found[1, 2].tolist() == pytest.approx([0.4606, 0.8876, 0], abs=1e-4)
    assert not found[1, [0, 3, 4]].any()


@pytest.mark.parametrize(
    ("sensor", "cell", "radius", "inputs", "weights"),
    [((128, 128, 2), 16, 3, 3136, 512), ((120, 100, 2), 10, 2, 3000, 200), ((700, 1, 1), 20, 1, 105, 20)],
)
def test_the_published_sizes(sensor: SensorSize, cell: int, radius: int, inputs: int, weights: int) -> None:
    torch.manual_seed(0)
    made = TimeSurface(sensor, cell, radius)
    assert made(stream(sensor, 3, [50, 50], 0)).shape == (3, 2, inputs) == (3, 2, made.out_features)
    assert made.weight.numel() == weights == sum(p.numel() for p in made.parameters())
    torch.manual_seed(0)
    convolution = torch.empty(1, sensor[2], 1, *made.weight.shape[1:])
    assert torch.equal(nn.init.xavier_uniform_(convolution).abs().flatten(), made.weight.detach().flatten())


def test_the_zero_sum_kernel() -> None:
    """+0.5 at the event, 0 at tau2 ln 2, negative behind it; the sum over time is about 0.25."""
    for tau1, dt, crossing in ((50.0, 5.0, 69.3), (10.0, 1.0, 13.9), (20.0, 1.0, 27.7)):
        made = TimeSurface((1, 1, 1), 1, 0, "ktzs", tau1, dt)
        e = torch.zeros(3000, 1, 1, 1, 1, dtype=torch.float64)
        e[0] = 1
        values = dense_surface.traces(e, made.surface).flatten()
        assert values[0] == 0.5 and values.sum() == pytest.approx(0.25, abs=0.01)
        assert dt * int((values < 0).int().argmax()) == pytest.approx(crossing, abs=dt)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TimeSurface((5, 5, 3), 1, 1), "sensor_size: expected"),
        (lambda: TimeSurface((5, 5, 2), 0, 1), "cell: expected rows and columns of at least 1, got 0"),
        (lambda: TimeSurface((5, 1, 2), (2, 2), 1), r"cell: expected \(1, columns\) of at least 1, got \(2, 2\)"),
        (lambda: TimeSurface((5, 5, 2), 1, -1), "radius: expected at least 0"),
        (lambda: TimeSurface((5, 5, 2), 1, 1, "exp"), "kernel: expected one of kt, ktzs, got 'exp'"),
        (lambda: TimeSurface((5, 5, 2), 1, 1, "kt", (1.0, 2.0)), "tau: expected one number for kt"),
        (lambda: TimeSurface((5, 5, 2), 1, 1, tau=(2.0, 2.0)), "tau, dt: expected 0 < tau1 < tau2 and dt > 0"),
        (lambda: TimeSurface((5, 5, 2), 1, 1, dt=0.0), "tau, dt: expected"),
        (lambda: TimeSurface((5, 5, 2), 1, 1, tau=math.nan), "tau, dt: expected"),
    ],
)
def test_bad_settings(call, message: str) -> None:
    with pytest.raises(SpikeletError, match=f"^{message}"):
        call()


WRONG = {
    "another sensor": {"sensor_size": (5, 6, 2)},
    "beyond the sensor": {"sites": torch.tensor([0, 50, 1], dtype=torch.int32)},
    "below the sensor": {"sites": torch.tensor([0, -1, 1], dtype=torch.int32)},
    "beyond T": {"steps": torch.tensor([0, 1, 2], dtype=torch.int32)},
    "out of order": {"steps": torch.tensor([1, 0, 1], dtype=torch.int32)},
    "before the start": {"steps": torch.tensor([-1, 0, 1], dtype=torch.int32)},
    "of another type": {"steps": torch.tensor([0, 0, 1])},
    "starts beyond the end": {"starts": torch.tensor([0, 2, 4])},
    "starts running back": {"starts": torch.tensor([0, 4, 3])},
    "too few sites": {"sites": torch.zeros(2, dtype=torch.int32)},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_events_out_of_place_are_refused(wrong: dict) -> None:
    steps = torch.tensor([0, 0, 1], dtype=torch.int32)
    events = Binned(steps, torch.arange(3, dtype=torch.int32), torch.tensor([0, 2, 3]), 2, (5, 5, 2))
    made = TimeSurface((5, 5, 2), 2, 1)
    assert made(events).any()
    with pytest.raises(SpikeletError, match=r"^events: expected"):
        made(replace(events, **wrong))
    assert made(events).any()


def test_an_empty_batch_and_a_silent_one() -> None:
    made = TimeSurface((5, 5, 2), 2, 1)
    none = Binned(*torch.zeros(2, 0, dtype=torch.int32), torch.zeros(1, dtype=torch.int64), 4, (5, 5, 2))
    assert made(none).shape == (4, 0, 81)
    silent = replace(none, starts=torch.zeros(3, dtype=torch.int64))
    out = made(silent)
    out.sum().backward()
    assert out.shape == (4, 2, 81) and not out.any() and made.weight.grad is not None and not made.weight.grad.any()


def test_learning_moves_the_weights() -> None:
    """Events of two kinds, told apart by which pixel of their cell they are on: the weights find it."""
    left, right = (np.arange(40) // 10 * 8 + side for side in (0, 3))
    sites = torch.from_numpy(np.concatenate([left, right])).int() % 32
    steps = torch.arange(40, dtype=torch.int32).repeat(2)
    events = Binned(steps, sites, torch.tensor([0, 40, 80]), 40, (32, 1, 1))
    made = TimeSurface((32, 1, 1), 4, 1, "kt", 5.0, 1.0)
    optimizer = torch.optim.Adam(made.parameters(), 0.05)
    for _ in range(60):
        optimizer.zero_grad()
        score = made(events).sum((0, 2))
        loss = nn.functional.soft_margin_loss(score, torch.tensor([1.0, -1.0]))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01 and made.weight[0, 0, 0] > 0 > made.weight[0, 0, 3]
