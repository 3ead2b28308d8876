"""Recordings of events: an animation of what the sensor saw, and how many events there were when."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spikelet.errors import SpikeletError
from spikelet.files import whole_file
from spikelet.plots.axes import from_zero, label_ends
from spikelet.plots.style import NEGATIVE, POSITIVE, drawing, inked, tick_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAMES = 100  # most frames of an animation
SIDE = 256  # pixels of an animation's longer side, at least
FULL = 3  # events of a pixel in a frame that give the full colour


def recording_animation(
    events: np.ndarray, path: str | Path, sensor_size: tuple[int, int, int] | None = None, frame_us: int | None = None
) -> np.ndarray:
    """A GIF of a recording: in each frame the events of ``frame_us``, polarity 1 blue, 0 orange, many of them darker.

    events       fields t (us), x, y, p, as of ``read_events``; times never run back
    path         ends in .gif
    sensor_size  (W, H, P); None: as large as the events need
    frame_us     microseconds of a frame; None: the recording in 50 frames. At most 100 frames are shown, the first ones
    returns      the frames before they are enlarged, uint8 [frames, H, W, 3]

    >>> events = np.array([(0, 0, 0, 1), (900, 1, 1, 0)], [("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", "i1")])
    >>> import tempfile
    >>> recording_animation(events, Path(tempfile.mkdtemp()) / "two.gif", frame_us=500).shape
    (2, 2, 2, 3)
    """
    from PIL import Image

    path = Path(path)
    if path.suffix != ".gif":
        raise SpikeletError(f"path: expected a name that ends in .gif, got {path.name!r}")
    width, height = _picture(events, sensor_size)
    if height == 1:
        raise SpikeletError("sensor_size: a sensor of one row makes no moving picture; see plots.event_rates")
    frames = np.stack([*_frames(events, width, height, _step(events, frame_us, 50))])
    scale = -(-SIDE // max(width, height))
    pictures = [Image.fromarray(f).resize((width * scale, height * scale), Image.Resampling.NEAREST) for f in frames]
    with whole_file(path) as temporary:
        pictures[0].save(temporary, "GIF", save_all=True, append_images=pictures[1:], duration=60, loop=0)
    return frames


def event_rates(events: np.ndarray, path: str | Path | None = None, bin_us: int | None = None) -> "Figure":
    """Events per second over the time of a recording, of each polarity.

    events  fields t (us) and p, as of ``read_events``; times never run back
    bin_us  microseconds over which events are counted; None: the recording in 100 parts
    """
    _check(events)
    step = _step(events, bin_us, 100)
    bins = (events["t"] - events["t"][0]) // step
    edges = np.arange(int(bins[-1]) + 2) * step / 1e3
    known = [p for p in (1, 0) if (events["p"] == p).any()]
    rates = {p: np.bincount(bins[events["p"] == p], minlength=len(edges) - 1) / (step / 1e6) for p in known}
    names, colours = {1: "polarity 1", 0: "polarity 0" if len(known) > 1 else "all"}, {1: POSITIVE, 0: NEGATIVE}
    with drawing(path, 1.6) as (figure, (axes,)):
        to_axis = from_zero(axes, np.concatenate([*rates.values()]))
        for p, rate in rates.items():
            axes.stairs(rate, edges, color=colours[p])
        ends = [(rate[-1], f"{names[p]}  {int((events['p'] == p).sum()):,}", colours[p]) for p, rate in rates.items()]
        label_ends(figure, axes, ends, to_axis)
        axes.set_xlim(0, edges[-1])
        axes.set_xlabel("Time (ms)")
        axes.set_ylabel("Events per second")
        axes.yaxis.set_major_formatter(lambda value, _: tick_text(value))
    return figure


def _check(events: np.ndarray) -> None:
    if len(events) == 0:
        raise SpikeletError("events: expected at least one, got none")
    if (np.diff(events["t"]) < 0).any():
        raise SpikeletError("events: expected times that never run back")


def _picture(events: np.ndarray, sensor_size: tuple[int, int, int] | None) -> tuple[int, int]:
    """Width and height of the sensor, which all events must be on."""
    _check(events)
    needed = int(events["x"].max()) + 1, int(events["y"].max()) + 1
    width, height = needed if sensor_size is None else sensor_size[:2]
    if needed[0] > width or needed[1] > height or min(events["x"].min(), events["y"].min()) < 0:
        raise SpikeletError(f"events: some lie outside the sensor of {width} x {height} pixels")
    return width, height


def _step(events: np.ndarray, step_us: int | None, parts: int) -> int:
    if step_us is not None and step_us < 1:
        raise SpikeletError(f"frame_us, bin_us: expected at least 1, got {step_us}")
    return step_us or max(1, -(-int(events["t"][-1] - events["t"][0] + 1) // parts))


def _frames(events: np.ndarray, width: int, height: int, frame_us: int) -> Iterator[np.ndarray]:
    """Frame by frame: white without events; towards a polarity's colour with them: uint8 [H, W, 3]."""
    last = min(int(events["t"][-1] - events["t"][0]) // frame_us + 1, FRAMES)
    cuts = np.searchsorted(events["t"], events["t"][0] + frame_us * np.arange(last + 1))
    for first, end in pairwise(cuts.tolist()):
        some = events[first:end]
        sites = ((some["p"] > 0).astype(np.int64) * height + some["y"]) * width + some["x"]
        counts = np.bincount(sites, minlength=2 * height * width).reshape(2, height, width)
        strength = np.where(counts > 0, 0.4 + 0.6 * np.minimum(counts, FULL) / FULL, 0)
        yield (255 * inked(strength)).round().astype(np.uint8)
