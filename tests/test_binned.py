"""Recordings in steps, each site at most once: against a plain loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelet import SpikeletError
from spikelet.events import Binned, Jitter, bin_batch, make_events, move, pack


def recording(seed: int, num: int, sensor: tuple[int, int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(-300, 5000, num))
    return make_events(t, *(rng.integers(0, size, num) for size in sensor))


def one_by_one(events: np.ndarray, num_steps: int, dt_us: int, sensor, start: int) -> list[set[int]]:
    """The sites of each step."""
    found: list[set[int]] = [set() for _ in range(num_steps)]
    for t, x, y, p in events.tolist():
        step = (t - start) // dt_us
        if 0 <= step < num_steps:
            found[step].add((p * sensor[1] + y) * sensor[0] + x)
    return found


def sites_of(batch: Binned, n: int) -> list[set[int]]:
    own = slice(int(batch.starts[n]), int(batch.starts[n + 1]))
    steps, sites = batch.steps[own], batch.sites[own]
    assert bool((steps.diff() >= 0).all())
    found = [sites[steps == step].tolist() for step in range(batch.num_steps)]
    assert all(len(set(step)) == len(step) for step in found)
    return [set(step) for step in found]


@settings(max_examples=60, deadline=None)
@given(
    sensor=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 2)),
    counts=st.lists(st.integers(1, 200), min_size=1, max_size=4),
    num_steps=st.integers(1, 30),
    dt_us=st.integers(1, 900),
    downsample=st.integers(1, 4),
    jitter=st.sampled_from([None, Jitter(degrees=30, shift=2, flip_horizontal=True)]),
    seed=st.integers(0, 1000),
)
def test_each_step_has_the_sites_of_its_events(sensor, counts, num_steps, dt_us, downsample, jitter, seed) -> None:
    recordings = [recording(seed + i, count, sensor) for i, count in enumerate(counts)]
    chosen = np.random.default_rng(seed).permutation(len(counts))
    moves = jitter.draw(seed, np.zeros(len(counts)), chosen) if jitter else None
    batch = bin_batch(pack(recordings, sensor), chosen, num_steps, dt_us, downsample, moves)
    small = -(-sensor[0] // downsample), -(-sensor[1] // downsample), sensor[2]
    assert batch.sensor_size == small and len(batch) == len(counts) and batch.num_steps == num_steps
    for n, index in enumerate(chosen):
        events = recordings[index].copy()
        start = int(events["t"][0])
        if moves is not None:
            degrees, dx, dy, *flips = moves[n]
            events = move(events, sensor, degrees, (int(dx), int(dy)), (bool(flips[0]), bool(flips[1])))
        events["x"], events["y"] = events["x"] // downsample, events["y"] // downsample
        assert sites_of(batch, n) == one_by_one(events, num_steps, dt_us, small, start)


def test_a_batch_moves_as_one() -> None:
    batch = bin_batch(pack([recording(0, 50, (4, 4, 2))], (4, 4, 2)), np.array([0, 0]), 5, 1000)
    there = batch.to("meta")
    assert {t.device.type for t in (there.steps, there.sites, there.starts)} == {"meta"}
    assert there.num_steps == 5 and there.sensor_size == (4, 4, 2) and len(there) == 2
    assert (batch.steps.dtype, batch.sites.dtype, batch.starts.dtype) == (torch.int32, torch.int32, torch.int64)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_steps": 0}, "num_steps: expected at least 1"),
        ({"dt_us": 0}, "dt_us: expected at least 1"),
        ({"dt_us": 0.5}, "dt_us: expected at least 1"),
        ({"downsample": 0}, "downsample: expected at least 1"),
    ],
)
def test_bad_settings(wrong: dict, message: str) -> None:
    packed = pack([recording(0, 5, (4, 4, 2))], (4, 4, 2))
    with pytest.raises(SpikeletError, match=message):
        bin_batch(packed, np.array([0]), **{"num_steps": 5, "dt_us": 1000, **wrong})
