"""Moving bars: the same pixels equally often in every class, so that only the order of events tells them apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelet.datasets import DATASETS, FrameSet, MovingBars
from spikelet.datasets.moving_bars import MOTIONS, PASSES, Bar, Scene, record
from spikelet.errors import SpikeletError
from spikelet.events import Frames, Jitter, check_events

CLEAN = Scene(jitter_us=0, keep=1, noise=0)
BARS = st.builds(Bar, st.sampled_from(PASSES), st.floats(0, 1), st.floats(0.1, 0.3), st.booleans())
OPPOSITE = {"clockwise": "counter-clockwise", "counter-clockwise": "clockwise", "left": "right", "right": "left"}


def counts(events: np.ndarray, size: int = 32) -> np.ndarray:
    """Events per polarity, row and column."""
    found = np.zeros((2, size, size), np.int64)
    np.add.at(found, (events["p"], events["y"], events["x"]), 1)
    return found


# ---------------------------------------------------------------- one recording


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MOTIONS), BARS, st.integers(2, 40))
def test_every_pixel_sees_every_pass(motion: str, bar: Bar, size: int) -> None:
    """Front and back of the bar come over each pixel inside the circle once per pass, whatever the motion."""
    events = record(motion, bar, replace(CLEAN, size=size), np.random.default_rng(0))
    check_events(events, (size, size, 2))
    assert events["t"].min() >= 0 and events["t"].max() < CLEAN.duration_us
    across = np.arange(size) - (size - 1) / 2
    inside = across[:, None] ** 2 + across**2 < size**2 / 4
    assert np.array_equal(counts(events, size), np.broadcast_to(bar.passes * inside, (2, size, size)))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MOTIONS), BARS)
def test_backwards_is_the_opposite_motion(motion: str, bar: Bar) -> None:
    """Time from its end, front and back exchanged: a bar of the other brightness, in the opposite class."""
    events = record(motion, bar, CLEAN, np.random.default_rng(0))
    other = Bar(bar.passes, -bar.phase - bar.width, bar.width, not bar.bright)
    mirrored = record(OPPOSITE[motion], other, CLEAN, np.random.default_rng(0))
    period = CLEAN.duration_us / bar.passes
    distance = (
        _phases(CLEAN.duration_us - events["t"], events, period) - _phases(mirrored["t"], mirrored, period)
    ) % period
    assert np.minimum(distance, period - distance).max() <= 2  # rounded down to whole us, on a circle


def _phases(t: np.ndarray, events: np.ndarray, period: float) -> np.ndarray:
    """When in a pass each event comes, by pixel and polarity; of one pixel and polarity all passes have the same."""
    return t[np.lexsort((t, events["x"], events["y"], events["p"]))] % period


def test_the_motions_are_what_they_say() -> None:
    """The centre of the front's events moves right, left, clockwise (y runs down) or against it."""
    for motion in MOTIONS:
        events = record(motion, Bar(2, 0.0, 0.1, True), CLEAN, np.random.default_rng(0))
        front = events[(events["p"] == 1) & (events["t"] < CLEAN.duration_us // 2)]
        x, y = front["x"] - 15.5, front["y"] - 15.5
        if motion in ("left", "right"):
            assert np.corrcoef(front["t"], x)[0, 1] * (1 if motion == "right" else -1) > 0.99
        else:
            turned = np.arctan2(y, x) % np.pi * (1 if motion == "clockwise" else -1) % np.pi
            assert np.corrcoef(front["t"], turned)[0, 1] > 0.99


def test_jitter_thinning_and_noise() -> None:
    bar, rng = Bar(3, 0.4, 0.2, True), np.random.default_rng(1)
    clean = record("left", bar, CLEAN, rng)
    assert 0.57 < len(record("left", bar, replace(CLEAN, keep=0.6), rng)) / len(clean) < 0.63
    assert 1.07 < len(record("left", bar, replace(CLEAN, noise=0.1), rng)) / len(clean) < 1.13
    shaken = record("left", bar, replace(CLEAN, jitter_us=5_000), rng)
    assert np.array_equal(counts(shaken), counts(clean)) and not np.array_equal(shaken["t"], clean["t"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 1}, "size: expected at least 2, got 1"),
        ({"duration_us": 0}, "duration_us: expected at least 1, got 0"),
        ({"noise": -0.1}, "noise: expected at least 0, got -0.1"),
        ({"keep": 0}, "keep: expected above 0 and at most 1, got 0"),
    ],
)
def test_bad_scenes_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(SpikeletError, match=message):
        Scene(**arguments)


# ---------------------------------------------------------------- the data set


@pytest.fixture(scope="module")
def train() -> MovingBars:
    return MovingBars(split="train+val")


@pytest.fixture(scope="module")
def test() -> MovingBars:
    return MovingBars(split="test")


def test_it_is_an_event_set_without_files(train: MovingBars, test: MovingBars) -> None:
    assert DATASETS["moving-bars"] is MovingBars and MovingBars.status("/nowhere") == "complete"
    assert MovingBars.sensor_size == (32, 32, 2) and MovingBars.classes == MOTIONS
    assert (len(train), len(test)) == (MovingBars.num["train+val"], MovingBars.num["test"])
    MovingBars.fetch("/nowhere")
    events, label = test[5]
    assert label == 1 and len(check_events(events, MovingBars.sensor_size)) > 1_000
    frames, labels = FrameSet(test, Frames(10), Jitter(shift=1)).__getitems__([(0, 5), (1, 6)])
    assert frames.shape == (10, 2, 2, 32, 32) and labels.tolist() == [1, 2]
    assert 0 < len(test.denoised(5_000)[5][0]) < len(events)


def test_splits_share_nothing_and_never_change(train: MovingBars, test: MovingBars) -> None:
    def contents(data: MovingBars) -> set[bytes]:
        return {data[i][0].tobytes() for i in range(len(data))}

    val, again = MovingBars(split="val"), MovingBars(split="test", subset=10)
    assert len(val) == 200 and len(contents(train)) == 1_000 and contents(val) < contents(train)
    assert val.indices.tolist() == train.indices[800:].tolist() and not contents(train) & contents(test)
    assert all(len(set(data.labels.bincount().tolist())) == 1 for data in (train, val, test))
    assert np.array_equal(again.cached.recordings.data, test.cached.recordings.data) and len(again) == 400


def test_counts_per_pixel_are_those_of_the_other_classes(train: MovingBars) -> None:
    """Mean events per pixel and polarity, and per recording: no class differs by more than chance."""
    found = np.array([counts(train[i][0]) for i in range(len(train))], np.float64).reshape(len(train), -1)
    labels = train.labels.numpy()
    spread = found.std(0).clip(0.05) * np.sqrt(2 / (len(train) / 4))
    totals = found.sum(1)
    for a in range(4):
        for b in range(a):
            z = (found[labels == a].mean(0) - found[labels == b].mean(0)) / spread
            assert 0.8 < z.std() < 1.2 and np.abs(z).max() < 5.5
            assert abs(totals[labels == a].mean() - totals[labels == b].mean()) < 4 * totals.std() * np.sqrt(2 / 250)


def accuracy(train: torch.Tensor, y: torch.Tensor, test: torch.Tensor, y_test: torch.Tensor) -> float:
    """Of a linear map by regularised least squares on standardised features."""
    mean, std = train.mean(0), train.std(0) + 1e-9
    a, b = ((x - mean) / std for x in (train, test))
    hot = torch.nn.functional.one_hot(y).double() - 0.25
    weight = torch.linalg.solve(a.T @ a + 100 * torch.eye(a.shape[1], dtype=torch.float64), a.T @ hot)
    return float(((b @ weight).argmax(1) == y_test).double().mean())


def summed(data: MovingBars, num: int) -> torch.Tensor:
    """Counts of all pixels, over the whole recording."""
    frames, _ = FrameSet(data, Frames(1)).__getitems__(range(num))
    return frames[0].double().flatten(1)


def followed(data: MovingBars, num: int) -> torch.Tensor:
    """How often activity lies right of, or below, that of the frame before rather than the other way, by regions."""
    frames, _ = FrameSet(data, Frames(40)).__getitems__(range(num))
    active = frames.clamp(max=1).sum(2).float()
    now, before = active[1:], active[:-1]
    pairs = [now * (before.roll(step, axis) - before.roll(-step, axis)) for step in (1, 2) for axis in (2, 3)]
    return torch.cat([torch.nn.functional.avg_pool2d(pair.sum(0), 8).flatten(1) for pair in pairs], 1).double()


def test_only_dynamics_tell_the_classes(train: MovingBars, test: MovingBars) -> None:
    """Chance from the counts, nearly all right from which neighbour was active just before."""
    y, y_test = train.labels[:600], test.labels[:200]
    for features, low, high in ((summed, 0.15, 0.35), (followed, 0.95, 1.0)):
        assert low <= accuracy(features(train, 600), y, features(test, 200), y_test) <= high, features
