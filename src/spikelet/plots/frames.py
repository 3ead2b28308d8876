"""Recordings of an event camera as rows of frames, images as they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikelet.errors import SpikeletError
from spikelet.plots.style import COLUMN, drawing, inked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 6  # images beside each other
FINEST = 64  # pixels along the longer side of a frame; of a larger one, neighbours are taken together
TITLE = 0.2  # inches


def plot_frames(samples: Mapping[str, Any], path: str | Path | None = None) -> "Figure":
    """A row per recording, a panel per frame, time from left to right; the more events a pixel had, the darker.

    Of two polarities, 1 (brighter) is blue and 0 (darker) orange. A sensor of one row is one panel, time from left to
    right, channels upwards. Where T is 1, such as for images of one or three colours, the samples lie side by side.

    samples  what a recording is called, to its frames [T, P, H, W] (array or tensor); one shape for all
    """
    frames = _checked(samples)
    num_steps, _, height, width = next(iter(frames.values())).shape
    columns = 1 if height == 1 else min(COLUMNS, len(frames)) if num_steps == 1 else num_steps
    rows = -(-len(frames) // columns) if num_steps == 1 else len(frames)
    each = 1.0 if height == 1 else min(COLUMN / columns * height / width, 2.5)
    with drawing(path, rows * (each + TITLE), rows, columns) as (figure, panels):
        engine: Any = figure.get_layout_engine()
        engine.set(h_pad=TITLE / 2, w_pad=0.02)
        for axes in panels:
            axes.set_axis_off()
        for i, (name, array) in enumerate(frames.items()):
            first = i if num_steps == 1 else i * columns
            pictures = [_line(array)] if height == 1 else [_colour(_coarse(frame)) for frame in array]
            above: Any = {"xycoords": "axes fraction", "xytext": (0, 2), "textcoords": "offset points"}
            panels[first].annotate(name, (0, 1), **above).set_in_layout(False)
            for axes, picture in zip(panels[first:], pictures, strict=False):
                _show(axes, picture, "auto" if height == 1 else "equal")
    return figure


def _checked(samples: Mapping[str, Any]) -> dict[str, np.ndarray]:
    if not samples:
        raise SpikeletError("samples: expected at least one, got none")
    frames = {name: np.asarray(sample, np.float32) for name, sample in samples.items()}
    shapes = {array.shape for array in frames.values()}
    shape = next(iter(shapes))
    if len(shapes) > 1 or len(shape) != 4 or 0 in shape or shape[1] > 3:
        given = ", ".join(map(str, sorted(shapes)))
        raise SpikeletError(f"samples: expected frames [T, P, H, W] of one shape, P at most 3, got {given}")
    return frames


def _show(axes: "Axes", picture: np.ndarray, aspect: Any) -> None:
    axes.set_axis_on()
    axes.imshow(picture, interpolation="nearest", aspect=aspect)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color="0.85")


def _coarse(frame: np.ndarray) -> np.ndarray:
    """A frame [P, H, W] with its pixels summed by squares until no side is longer than FINEST."""
    return _summed(frame, *2 * (-(-max(frame.shape[1:]) // FINEST),))


def _summed(frame: np.ndarray, down: int, across: int) -> np.ndarray:
    """A frame [P, H, W] whose pixels are blocks of ``down`` x ``across`` pixels."""
    padded = np.pad(frame, ((0, 0), (0, -frame.shape[1] % down), (0, -frame.shape[2] % across)))
    polarities, height, width = padded.shape
    return padded.reshape(polarities, height // down, down, width // across, across).sum((2, 4))


def _colour(frame: np.ndarray) -> np.ndarray:
    """A frame [P, H, W] as a picture [H, W, 3], values 0 to 1: one ink per polarity, or three colours."""
    if len(frame) == 3:
        return frame.transpose(1, 2, 0) / 255
    full = np.quantile(frame[frame > 0], 0.9) if frame.any() else 1.0  # a pixel that never rests must not set it
    return inked(np.minimum(frame / full, 1))


def _line(frames: np.ndarray) -> np.ndarray:
    """Frames [T, P, 1, W] of a line of sensors as one picture, time along x, the first channel at the bottom."""
    picture = frames[:, :, 0].transpose(1, 2, 0)[:, ::-1]
    return _colour(_summed(picture, -(-picture.shape[1] // FINEST), 1))
