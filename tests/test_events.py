"""Events: checks, changes, frames and random motion, each against a plain loop or by hand."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelet.errors import DataError, SpikeletError
from spikelet.events import (
    EVENT,
    Frames,
    Jitter,
    Packed,
    batch_frames,
    check_events,
    crop,
    denoise,
    make_events,
    move,
    pack,
    to_frames,
)
from spikelet.events.packed import pack_one

SENSOR = (12, 9, 2)


def recording(seed: int, num: int = 400, sensor: tuple[int, int, int] = SENSOR, span: int = 60_000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    width, height, polarities = sensor
    t = np.sort(rng.integers(500, 500 + span, num))
    return make_events(t, rng.integers(0, width, num), rng.integers(0, height, num), rng.integers(0, polarities, num))


RECORDINGS = [recording(seed, num) for seed, num in enumerate((400, 1, 7, 3000))]
CUTS = [
    Frames(10),
    Frames(3, by="count"),
    Frames(10, by="count"),
    Frames(7, duration_us=5_000),
    Frames(90, duration_us=999),
    Frames(1),
]


# ---------------------------------------------------------------- checks


def test_the_type_of_an_event() -> None:
    assert EVENT.names == ("t", "x", "y", "p")
    assert [EVENT[name].str for name in EVENT.names] == ["<i8", "<i2", "<i2", "|i1"]


FAULTS = {
    "empty": (make_events([], [], [], []), "empty, it holds no event"),
    "right": (make_events([1, 2], [0, 12], [0, 0], [0, 0]), "event 1 at x = 12, y = 0 lies outside .* 12 x 9 pixels"),
    "left": (make_events([1], [-1], [0], [0]), "event 0 at x = -1, y = 0 lies outside"),
    "below": (make_events([1], [0], [9], [0]), "event 0 at x = 0, y = 9 lies outside"),
    "polarity": (make_events([1], [0], [0], [2]), "event 0 has polarity 2, allowed are 0 to 1"),
    "negative": (make_events([1], [0], [0], [-1]), "event 0 has polarity -1"),
    "back": (make_events([5, 9, 8], [0] * 3, [0] * 3, [0] * 3), "time runs back at event 2, from 9 to 8 us"),
    "type": (np.zeros((3, 4)), "expected a one-dimensional array with the fields t, x, y, p, got float64"),
}


@pytest.mark.parametrize(("events", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_has_one_clear_error(events: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=f"^events: {message}") as caught:
        check_events(events, SENSOR)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=f"^some/file.bin: {message}"):
        check_events(events, SENSOR, "some/file.bin")
    with pytest.raises(DataError, match=message):
        to_frames(events, SENSOR)
    with pytest.raises(DataError, match=rf"recordings\[1\]: {message}"):
        pack([RECORDINGS[0], events], SENSOR)


def test_good_events_pass_as_they_are() -> None:
    same_time = make_events([5, 5, 5], [0, 11, 0], [8, 0, 0], [0, 1, 0])
    assert check_events(same_time, SENSOR) is same_time
    assert check_events(recording(0, sensor=(12, 9, 1)), (12, 9, 1)) is not None


def test_fields_are_read_by_name() -> None:
    events = RECORDINGS[0]
    other = np.empty(len(events), [("p", "u1"), ("extra", "f4"), ("y", "<u2"), ("x", "<u2"), ("t", "<u4")])
    for name in ("t", "x", "y", "p"):
        other[name] = events[name]
    assert np.array_equal(to_frames(other, SENSOR), to_frames(events, SENSOR))
    assert np.array_equal(denoise(other, SENSOR, 3000)["t"], denoise(events, SENSOR, 3000)["t"])


def test_bad_arguments_are_named() -> None:
    events = RECORDINGS[0]
    for size in ((12, 9), (0, 9, 2), (12, 9, 3), (2**16, 2**16, 2)):
        with pytest.raises(SpikeletError, match=r"sensor_size: expected \(W, H, P\)"):
            check_events(events, size)  # type: ignore[arg-type]
    with pytest.raises(SpikeletError, match="t, x, y, p: expected one length, got 2 t, 1 x, 1 y, 1 p"):
        make_events([1, 2], [1], [1], [1])
    with pytest.raises(SpikeletError, match=r"x: expected low < high, got \(3, 3\)"):
        crop(events, x=(3, 3))
    with pytest.raises(SpikeletError, match="filter_us: expected at least 1, got 0"):
        denoise(events, SENSOR, 0)
    with pytest.raises(SpikeletError, match="recordings: expected at least one"):
        pack([], SENSOR)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_steps": 0}, "num_steps: expected a whole number of at least 1, got 0"),
        ({"by": "events"}, "by: expected one of time, count, got 'events'"),
        ({"duration_us": 0}, "duration_us: expected at least 1, got 0"),
        ({"by": "count", "duration_us": 5}, "duration_us: expected None where by is count, got 5"),
    ],
)
def test_bad_frames(arguments: dict, message: str) -> None:
    with pytest.raises(SpikeletError, match=message):
        Frames(**arguments)


def test_bad_jitter() -> None:
    with pytest.raises(SpikeletError, match="degrees: expected 0 to 180, got -1"):
        Jitter(degrees=-1)
    with pytest.raises(SpikeletError, match="shift: expected at least 0 pixels, got -2"):
        Jitter(shift=-2)


# ---------------------------------------------------------------- changes


def test_crop_keeps_half_open_ranges_and_moves_the_origin() -> None:
    events = RECORDINGS[0].copy()
    before = events.copy()
    left = crop(events, x=(2, 7), y=(1, 9), t=(1_000, 40_000))
    assert np.array_equal(events, before) and 0 < len(left) < len(events)
    kept = [e for e in events if 2 <= e["x"] < 7 and 1 <= e["y"] < 9 and 1_000 <= e["t"] < 40_000]
    assert left.tolist() == [(e["t"] - 1_000, e["x"] - 2, e["y"] - 1, e["p"]) for e in kept]
    check_events(left, (5, 8, 2))
    assert np.array_equal(crop(events), events)


def slow_denoise(events: np.ndarray, sensor: tuple[int, int, int], filter_us: int) -> list[int]:
    last = np.zeros(sensor[:2], np.int64)
    kept = []
    for i, (t, x, y, _) in enumerate(events.tolist()):
        near = [(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)]
        near = [(a, b) for a, b in near if 0 <= a < sensor[0] and 0 <= b < sensor[1]]
        if any(t - last[pixel] < filter_us for pixel in near):
            kept.append(i)
        last[x, y] = t
    return kept


@pytest.mark.parametrize("filter_us", [1, 300, 2_000, 10_000, 100_000])
def test_denoise_is_the_rule(filter_us: int) -> None:
    for events in RECORDINGS:
        assert np.array_equal(denoise(events, SENSOR, filter_us), events[slow_denoise(events, SENSOR, filter_us)])


def test_denoise_drops_nothing_before_the_filter_time() -> None:
    events = recording(3, span=9_000)
    assert np.array_equal(denoise(events, SENSOR, 10_000), events)
    assert len(denoise(recording(3, num=1), SENSOR, 10)) == 0
    line = make_events([50, 60], [0, 0], [0, 0], [0, 1])  # a pixel is no company for itself
    assert len(denoise(line, (1, 1, 2), 1000)) == 0


def test_moves_by_hand() -> None:
    events = RECORDINGS[0]
    square = (9, 9, 2)
    inner = events[events["x"] < 9]
    assert np.array_equal(move(events, SENSOR), events)
    flipped = move(events, SENSOR, flip=(True, False))
    assert np.array_equal(flipped["x"], 11 - events["x"]) and np.array_equal(flipped["y"], events["y"])
    upside = move(events, SENSOR, flip=(False, True))
    assert np.array_equal(upside["y"], 8 - events["y"]) and np.array_equal(upside["x"], events["x"])
    turned = move(inner, square, degrees=90)
    assert np.array_equal(turned["x"], 8 - inner["y"]) and np.array_equal(turned["y"], inner["x"])
    both = move(events, SENSOR, degrees=180)
    assert np.array_equal(both, move(events, SENSOR, flip=(True, True)))
    shifted = move(events, SENSOR, shift=(3, -2))
    stay = (events["x"] + 3 < 12) & (events["y"] >= 2)
    assert np.array_equal(shifted["x"], events["x"][stay] + 3) and np.array_equal(shifted["y"], events["y"][stay] - 2)
    for moved, source in ((flipped, events), (upside, events), (turned, inner), (both, events)):
        assert np.array_equal(moved["t"], source["t"]) and np.array_equal(moved["p"], source["p"])


@settings(max_examples=40, deadline=None)
@given(degrees=st.floats(-180, 180), dx=st.integers(-5, 5), dy=st.integers(-5, 5), fx=st.booleans(), fy=st.booleans())
def test_moves_follow_the_formula(degrees: float, dx: int, dy: int, fx: bool, fy: bool) -> None:
    events = RECORDINGS[3]
    a, cx, cy = math.radians(degrees), 5.5, 4.0
    u = (events["x"] - cx) * (-1 if fx else 1)
    v = (events["y"] - cy) * (-1 if fy else 1)
    x, y = math.cos(a) * u - math.sin(a) * v + cx + 0.5, math.sin(a) * u + math.cos(a) * v + cy + 0.5
    near = (np.abs(x - np.round(x)) < 1e-9) | (np.abs(y - np.round(y)) < 1e-9)  # may round either way
    x, y = np.floor(x) + dx, np.floor(y) + dy
    stay = (x >= 0) & (x < 12) & (y >= 0) & (y < 9)
    if near.any():
        return
    moved = move(events, SENSOR, degrees, (dx, dy), (fx, fy))
    assert np.array_equal(moved["x"], x[stay]) and np.array_equal(moved["y"], y[stay])
    assert np.array_equal(moved["t"], events["t"][stay]) and np.array_equal(moved["p"], events["p"][stay])


# ---------------------------------------------------------------- packed recordings


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    sensor=st.sampled_from([(12, 9, 2), (1, 1, 1), (304, 240, 2), (128, 128, 2), (256, 128, 2)]),
    seed=st.integers(0, 9),
)
def test_packed_recordings_come_out_again(counts: list[int], sensor: tuple[int, int, int], seed: int) -> None:
    recordings = [recording(seed + i, n, sensor) for i, n in enumerate(counts)]
    packed = pack(recordings, sensor)
    assert len(packed) == len(counts) and len(packed.data) % 4 == 0
    for i, events in enumerate(recordings):
        assert packed[i].dtype == EVENT and np.array_equal(packed[i], events)
    assert packed.sites.itemsize == (4 if sensor == (304, 240, 2) else 2)
    chosen = np.arange(len(counts))[::-1].copy()
    frames = batch_frames(packed, chosen, Frames(2))
    for n, i in enumerate(chosen):
        assert np.array_equal(frames[:, n], to_frames(recordings[i], sensor, Frames(2)))


def test_times_beyond_32_bits_are_refused() -> None:
    with pytest.raises(DataError, match="times from 0 to 2147483648 us do not fit into 32 bits"):
        pack_one(make_events([0, 2**31], [0, 0], [0, 0], [0, 0]), SENSOR)
    last = make_events([0, 2**31 - 1], [0, 1], [0, 0], [0, 0])
    assert np.array_equal(pack([last], SENSOR)[0], last)
    assert to_frames(last, SENSOR, Frames(2)).sum((1, 2, 3)).tolist() == [1, 1]


# ---------------------------------------------------------------- frames


def step_of(events: np.ndarray, frames: Frames) -> np.ndarray:
    """The step of each event, by the formulas of ``Frames``; T and more for none."""
    num, since = len(events), events["t"] - events["t"][0]
    if frames.by == "count":
        return np.minimum(np.arange(num) // max(num // frames.num_steps, 1), frames.num_steps - 1)
    if frames.duration_us:
        return since // frames.duration_us
    return since * frames.num_steps // (since[-1] + 1)


def slow_frames(events: np.ndarray, sensor: tuple[int, int, int], frames: Frames) -> np.ndarray:
    width, height, polarities = sensor
    counts = np.zeros((frames.num_steps, polarities, height, width), np.int64)
    for step, event in zip(step_of(events, frames), events, strict=True):
        if step < frames.num_steps:
            counts[step, event["p"], event["y"], event["x"]] += 1
    return np.minimum(counts, 255)


@pytest.mark.parametrize("frames", CUTS, ids=str)
def test_frames_are_counts(frames: Frames) -> None:
    long_enough = [r for r in RECORDINGS if frames.by == "time" or len(r) >= frames.num_steps]
    for events in long_enough:
        out = to_frames(events, SENSOR, frames)
        assert out.dtype == np.uint8 and out.shape == (frames.num_steps, 2, 9, 12)
        assert np.array_equal(out, slow_frames(events, SENSOR, frames))


def test_by_count_puts_the_remainder_in_the_last_step() -> None:
    sums = to_frames(RECORDINGS[0], SENSOR, Frames(7, by="count")).sum((1, 2, 3))
    assert sums.tolist() == [57] * 6 + [58]
    few = to_frames(RECORDINGS[1], SENSOR, Frames(7, by="count")).sum((1, 2, 3))
    assert few.tolist() == [0] * 6 + [1]


def test_nothing_is_lost_but_what_comes_after_the_last_step() -> None:
    for events in RECORDINGS:
        for frames in (Frames(10), Frames(10, by="count")):
            assert to_frames(events, SENSOR, frames).sum() == len(events)
        inside = events["t"] < events["t"][0] + 7 * 5_000
        assert to_frames(events, SENSOR, Frames(7, duration_us=5_000)).sum() == inside.sum()


def test_counts_stop_at_255() -> None:
    events = make_events(np.arange(600), np.zeros(600), np.zeros(600), np.ones(600))
    assert to_frames(events, (1, 1, 2), Frames(2)).tolist() == [[[[0]], [[255]]]] * 2


@pytest.mark.parametrize("frames", CUTS, ids=str)
def test_a_batch_is_its_recordings(frames: Frames) -> None:
    packed, chosen = pack(RECORDINGS, SENSOR), np.array([3, 0, 1, 3, 2])
    moves = Jitter(30, 2, True, True).draw(1, np.zeros(5, int), np.arange(5))
    still, moved = batch_frames(packed, chosen, frames), batch_frames(packed, chosen, frames, moves)
    for n, i in enumerate(chosen):
        assert np.array_equal(still[:, n], to_frames(RECORDINGS[i], SENSOR, frames))
        degrees, dx, dy, fx, fy = moves[n]
        whole = np.where(step_of(RECORDINGS[i], frames)[:, None] == np.arange(frames.num_steps), 1, 0)
        if frames.by == "count" and len(RECORDINGS[i]) < frames.num_steps:
            continue
        for step in range(frames.num_steps):  # cut first, then moved
            part = move(RECORDINGS[i][whole[:, step] == 1], SENSOR, degrees, (int(dx), int(dy)), (bool(fx), bool(fy)))
            counts = np.zeros((2, 9, 12), np.int64)
            np.add.at(counts, (part["p"], part["y"], part["x"]), 1)
            assert np.array_equal(moved[step, n], np.minimum(counts, 255))
    if frames.num_steps == 10:
        assert not np.array_equal(still, moved)


def test_a_recording_without_events_gives_empty_frames() -> None:
    packed = Packed(np.zeros(0, np.uint8), np.zeros(1, np.int64), np.zeros(1, np.int64), SENSOR)
    for frames in CUTS:
        for moves in (None, np.zeros((1, 5))):
            assert not batch_frames(packed, np.array([0]), frames, moves).any()
    assert len(packed[0]) == 0


# ---------------------------------------------------------------- random motion


def test_motion_is_a_function_of_seed_epoch_and_index() -> None:
    jitter = Jitter(10, 2, True, True)
    epochs, indices = np.repeat([0, 1, 2], 100), np.tile(np.arange(100), 3)
    moves = jitter.draw(5, epochs, indices)
    order = np.random.default_rng(0).permutation(300)
    assert np.array_equal(jitter.draw(5, epochs[order], indices[order]), moves[order])
    assert np.array_equal(jitter.draw(5, epochs[7:8], indices[7:8]), moves[7:8])
    assert len(np.unique(moves[:, 0])) == 300
    assert not np.isin(jitter.draw(6, epochs, indices)[:, 0], moves[:, 0]).any()
    assert np.isfinite(jitter.draw(-3, epochs, indices)).all()


def test_motion_stays_in_its_range_and_fills_it() -> None:
    num = 20_000
    moves = Jitter(10, 2, True, False).draw(1, np.zeros(num, int), np.arange(num))
    assert np.abs(moves[:, 0]).max() <= 10 and abs(moves[:, 0].mean()) < 0.2
    assert abs(moves[:, 0].std() - 10 / math.sqrt(3)) < 0.1
    for axis in (1, 2):
        shares = np.unique(moves[:, axis], return_counts=True)
        assert shares[0].tolist() == [-2, -1, 0, 1, 2] and np.abs(shares[1] / num - 0.2).max() < 0.02
    assert abs(moves[:, 3].mean() - 0.5) < 0.02 and not moves[:, 4].any()
    assert np.abs(np.corrcoef(moves[:, :4].T) - np.eye(4)).max() < 0.03
    still = Jitter().draw(1, np.zeros(3, int), np.arange(3))
    assert not still.any()


def test_numba_is_imported_only_when_it_is_used() -> None:
    code = "import sys; import spikelet.events, spikelet.datasets; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("field", "values", "said"),
    [
        ("t", np.array([0.1, 0.2]), "t: expected whole numbers, got 0.1 .* seconds times 1e6"),
        ("t", np.array([np.nan, 1.0]), "t: expected whole numbers, got nan"),
        ("x", [70_000, 1], "x: expected -32768 to 32767, got 1 to 70000"),
        ("p", np.array([257, 0]), "p: expected -128 to 127, got 0 to 257"),
    ],
)
def test_what_an_event_has_no_room_for_is_refused(field, values, said) -> None:
    given = {"t": [1, 2], "x": [0, 1], "y": [0, 1], "p": [0, 1]}
    with pytest.raises(SpikeletError, match=said):
        make_events(**(given | {field: values}))
    assert make_events(**given | {"t": np.array([1.0, 2.0])})["t"].tolist() == [1, 2]
