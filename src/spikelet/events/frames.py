"""From events to frames: how many events of each polarity each pixel had in each step."""

from dataclasses import dataclass

import numpy as np

from spikelet.arguments import check_whole
from spikelet.errors import SpikeletError
from spikelet.events.arrays import SensorSize, check_events
from spikelet.events.packed import Packed, pack

BY = ("time", "count")


@dataclass(frozen=True)
class Frames:
    """How a recording is cut into steps.

    num_steps    T
    by           "time": steps of one duration; "count": steps of N // T events, the remainder in the last
    duration_us  of a step, by time only: what comes after T of them is left out, what is missing stays 0;
                 None: the whole recording, from the first event to the last, in T equal durations

    Step k holds the events with, t0 and t1 being the times of the first and the last event,

        duration   k * duration_us <= t - t0 < (k + 1) * duration_us
        equal      k = (t - t0) * T // (t1 - t0 + 1)

    >>> Frames(num_steps=0)
    Traceback (most recent call last):
        ...
    spikelet.errors.SpikeletError: num_steps: expected a whole number of at least 1, got 0
    """

    num_steps: int = 10
    by: str = "time"
    duration_us: int | None = None

    def __post_init__(self) -> None:
        check_whole("num_steps", self.num_steps)
        if self.by not in BY:
            raise SpikeletError(f"by: expected one of {', '.join(BY)}, got {self.by!r}")
        if self.duration_us is not None and self.by != "time":
            raise SpikeletError(f"duration_us: expected None where by is {self.by}, got {self.duration_us}")
        if self.duration_us is not None and self.duration_us < 1:
            raise SpikeletError(f"duration_us: expected at least 1, got {self.duration_us}")


def to_frames(events: np.ndarray, sensor_size: SensorSize, frames: Frames | None = None) -> np.ndarray:
    """One recording as frames uint8 [T, P, H, W]: counts, cut off at 255. ``frames`` None: ``Frames()``.

    Raises DataError where ``check_events`` does.

    >>> from spikelet.events import make_events
    >>> events = make_events(t=[100, 140, 150, 199], x=[0, 1, 1, 0], y=[0, 0, 0, 0], p=[1, 0, 0, 1])
    >>> to_frames(events, (2, 1, 2), Frames(2)).tolist()  # 50 us each
    [[[[0, 1]], [[1, 0]]], [[[0, 1]], [[1, 0]]]]
    >>> to_frames(events, (2, 1, 2), Frames(3, by="count")).sum((1, 2, 3)).tolist()
    [1, 1, 2]
    >>> to_frames(events, (2, 1, 2), Frames(2, duration_us=45)).sum((1, 2, 3)).tolist()  # up to t = 190
    [2, 1]
    """
    packed = pack([check_events(events, sensor_size)], sensor_size)
    return batch_frames(packed, np.array([0]), frames or Frames())[:, 0]


def batch_frames(packed: Packed, chosen: np.ndarray, frames: Frames, moves: np.ndarray | None = None) -> np.ndarray:
    """Recordings ``chosen`` (int64 [N]) as frames uint8 [T, N, P, H, W]: counts, cut off at 255; none for no events.

    ``moves`` float64 [N, 5], as ``Jitter.draw`` gives them, says how each recording is moved first.

    >>> from spikelet.events import make_events
    >>> packed = pack([make_events([5], [1], [0], [0]), make_events([6, 7], [0, 0], [0, 0], [1, 1])], (2, 1, 2))
    >>> batch_frames(packed, np.array([1, 0]), Frames(1)).tolist()
    [[[[[0, 0]], [[2, 0]]], [[[0, 1]], [[0, 0]]]]]
    """
    from spikelet.events import kernels

    width, height, polarities = packed.sensor_size
    duration = kernels.BY_COUNT if frames.by == "count" else (frames.duration_us or kernels.WHOLE)
    out = np.empty((frames.num_steps, len(chosen), polarities * height * width), np.uint8)
    places = packed.places(chosen)
    if moves is None:
        kernels.bin_events(packed.times, packed.sites, places, duration, out)
    else:
        targets = kernels.target_sites(width, height, polarities, moves)
        kernels.bin_moved(packed.times, packed.sites, places, duration, targets, out)
    return out.reshape(frames.num_steps, len(chosen), polarities, height, width)
