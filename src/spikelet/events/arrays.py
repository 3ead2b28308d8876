"""One recording as an array of events: what it must be, and what can be done to it.

An event is (t, x, y, p): time in microseconds, column, row, polarity in {0, 1}; a recording is a one-dimensional array
of them, time never running back. A sensor is (W, H, P): columns, rows, polarities. Nothing here changes its argument.
"""

from collections.abc import Sequence

import numpy as np

from spikelet.errors import DataError, SpikeletError

EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "i1")])
SensorSize = tuple[int, int, int]
Range = tuple[int, int]


def make_events(
    t: Sequence[int] | np.ndarray,
    x: Sequence[int] | np.ndarray,
    y: Sequence[int] | np.ndarray,
    p: Sequence[int] | np.ndarray,
) -> np.ndarray:
    """An array of EVENT from four sequences of one length, whole numbers: t in microseconds, x, y, and p in {0, 1}.

    Raises SpikeletError for values that an event has no room for.

    >>> make_events(t=[10, 25], x=[3, 4], y=[0, 0], p=[1, 0]).tolist()
    [(10, 3, 0, 1), (25, 4, 0, 0)]
    """
    lengths = {name: len(values) for name, values in (("t", t), ("x", x), ("y", y), ("p", p))}
    if len(set(lengths.values())) != 1:
        raise SpikeletError(f"t, x, y, p: expected one length, got {', '.join(f'{n} {k}' for k, n in lengths.items())}")
    events = np.empty(len(t), EVENT)
    for name, values in (("t", t), ("x", x), ("y", y), ("p", p)):
        events[name] = _whole(name, np.asarray(values))
    return events


def _whole(name: str, values: np.ndarray) -> np.ndarray:
    """``values`` if the field ``name`` has room for them, as they are."""
    room = np.iinfo(EVENT[name])
    whole = values.dtype.kind in "iub" or (values.dtype.kind == "f" and bool((values == np.rint(values)).all()))
    if not whole or not np.isfinite(values).all():
        hint = "; seconds times 1e6 are microseconds" if name == "t" else ""
        raise SpikeletError(f"{name}: expected whole numbers, got {values.ravel()[0]} and others{hint}")
    if values.size and not room.min <= values.min() <= values.max() <= room.max:
        raise SpikeletError(f"{name}: expected {room.min} to {room.max}, got {values.min()} to {values.max()}")
    return values


def check_sensor(sensor_size: SensorSize) -> SensorSize:
    """``sensor_size`` as (W, H, P); raises SpikeletError where it is none: three numbers, P at most 2."""
    size = tuple(int(n) for n in sensor_size)
    if len(size) != 3 or min(size) < 1 or size[2] > 2 or size[0] * size[1] * size[2] >= 2**31:
        raise SpikeletError(f"sensor_size: expected (W, H, P) with W, H >= 1 and P of 1 or 2, got {sensor_size}")
    return size[0], size[1], size[2]


def find_fault(events: np.ndarray, sensor_size: SensorSize) -> str | None:
    """What is wrong with a recording, in words; None where nothing is.

    >>> find_fault(make_events([10, 5], [1, 1], [2, 2], [0, 1]), (34, 34, 2))
    'time runs back at event 1, from 10 to 5 us'
    """
    if events.ndim != 1 or not set(EVENT.names or ()) <= set(events.dtype.names or ()):
        return f"expected a one-dimensional array with the fields t, x, y, p, got {events.dtype} of {events.shape}"
    if len(events) == 0:
        return "empty, it holds no event"
    width, height, polarities = check_sensor(sensor_size)
    x, y, p, t = (np.ascontiguousarray(events[name]) for name in ("x", "y", "p", "t"))
    if min(x.min(), y.min()) < 0 or x.max() >= width or y.max() >= height:
        i = int(((x < 0) | (x >= width) | (y < 0) | (y >= height)).argmax())
        return f"event {i} at x = {x[i]}, y = {y[i]} lies outside the sensor of {width} x {height} pixels"
    if p.min() < 0 or p.max() >= polarities:
        i = int(((p < 0) | (p >= polarities)).argmax())
        return f"event {i} has polarity {p[i]}, allowed are 0 to {polarities - 1}"
    back = t[1:] < t[:-1]
    if back.any():
        i = int(back.argmax()) + 1
        return f"time runs back at event {i}, from {t[i - 1]} to {t[i]} us"
    return None


def check_events(events: np.ndarray, sensor_size: SensorSize, name: str = "events") -> np.ndarray:
    """``events`` as they are; raises DataError where they are empty, outside the sensor, or their time runs back.

    ``name`` is what the error starts with: the argument, or the file that they come from.
    """
    fault = find_fault(events, sensor_size)
    if fault:
        raise DataError(f"{name}: {fault}")
    return events


def crop(events: np.ndarray, x: Range | None = None, y: Range | None = None, t: Range | None = None) -> np.ndarray:
    """The events with low <= value < high, seen from there: ``low`` is taken off x, y and t. None keeps all.

    >>> crop(make_events([10, 20, 30], [5, 6, 7], [0, 0, 0], [1, 1, 0]), x=(6, 8), t=(0, 30)).tolist()
    [(20, 0, 0, 1)]
    """
    ranges = {name: range_ for name, range_ in (("x", x), ("y", y), ("t", t)) if range_ is not None}
    keep = np.ones(len(events), bool)
    for name, (low, high) in ranges.items():
        if low >= high:
            raise SpikeletError(f"{name}: expected low < high, got ({low}, {high})")
        keep &= (events[name] >= low) & (events[name] < high)
    left = events[keep]
    for name, (low, _) in ranges.items():
        left[name] -= low
    return left


def denoise(events: np.ndarray, sensor_size: SensorSize, filter_us: int = 10_000) -> np.ndarray:
    """Only the events that have company: one of the 4 direct neighbours had an event less than ``filter_us`` ago.

    keep event (t, x, y)  where  t - last[neighbour] < filter_us  for a neighbour left, right, above or below

    ``last`` is the time of the latest event there, of any polarity, kept or not; at first it is 0 everywhere, as if all
    pixels had fired at t = 0, so nothing is dropped before t = ``filter_us``. Source: reference 5.3.

    >>> events = make_events(t=[20_000, 20_500, 40_000], x=[5, 6, 6], y=[5, 5, 5], p=[1, 0, 1])
    >>> denoise(events, (34, 34, 2), 10_000)["t"].tolist()  # the first had no neighbour, the last none lately
    [20500]
    """
    from spikelet.events import kernels

    if filter_us < 1:
        raise SpikeletError(f"filter_us: expected at least 1, got {filter_us}")
    width, height, _ = check_sensor(sensor_size)
    t, x, y = (np.ascontiguousarray(events[name], np.int64) for name in ("t", "x", "y"))
    return events[kernels.have_company(t, x, y, width, height, filter_us)]


def move(
    events: np.ndarray,
    sensor_size: SensorSize,
    degrees: float = 0.0,
    shift: tuple[int, int] = (0, 0),
    flip: tuple[bool, bool] = (False, False),
) -> np.ndarray:
    """Flip, then turn about the sensor's centre, then shift; what leaves the sensor is dropped. Polarity stays.

    x' = floor(cos a * (x - cx) - sin a * (y - cy) + cx + 1/2) + dx,  y' likewise;  cx = (W - 1) / 2

    degrees  a; positive turns clockwise on a screen whose y runs down
    shift    (dx, dy) in pixels
    flip     left-right, upside-down. A flip can make another class of a digit or a gesture: the caller decides

    >>> move(make_events([7], [0], [0], [1]), (34, 34, 2), degrees=90).tolist()
    [(7, 33, 0, 1)]
    >>> move(make_events([7, 8], [0, 33], [0, 0], [1, 0]), (34, 34, 2), shift=(1, 2)).tolist()
    [(7, 1, 2, 1)]
    """
    from spikelet.events import kernels

    width, height, _ = check_sensor(sensor_size)
    moves = np.array([[degrees, shift[0], shift[1], flip[0], flip[1]]], np.float64)
    targets = kernels.target_sites(width, height, 1, moves)[0]
    target = targets[events["y"].astype(np.int64) * width + events["x"]]
    moved = events[target >= 0]
    moved["y"], moved["x"] = np.divmod(target[target >= 0], width)
    return moved
