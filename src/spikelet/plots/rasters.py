"""Spikes over time, neuron by neuron."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikelet.errors import SpikeletError
from spikelet.plots.axes import legend_above
from spikelet.plots.style import COLUMN, INK, NEGATIVE, POSITIVE, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 40  # neurons of a layer that a column's height has room for


def raster(
    layers: Mapping[str, Any], path: str | Path | None = None, dt_ms: float | None = None, shown: int = SHOWN
) -> "Figure":
    """Every spike of one sample, a panel per layer in the order given; negative spikes in another colour.

    layers  name to spikes [T, neurons] of values -1, 0, 1 (array or tensor); T is the same for all
    dt_ms   length of a step in milliseconds, for the time axis; None counts steps
    shown   of a layer with more neurons, as many, evenly spaced from the first to the last; its label says so
    """
    if not layers:
        raise SpikeletError("layers: expected at least one layer, got none")
    trains = {name: spike_array(spikes, f"layers[{name!r}]", "[T, neurons]") for name, spikes in layers.items()}
    lengths = {name: len(train) for name, train in trains.items()}
    if len(set(lengths.values())) > 1:
        raise SpikeletError(f"layers: expected the same T for all, got {lengths}")
    if shown < 2:
        raise SpikeletError(f"shown: expected at least 2, got {shown}")
    rows = [min(shown, train.shape[1]) for train in trains.values()]
    heights = [min(max(0.25, 0.055 * count), 1.05) for count in rows]
    with drawing(path, 0.5 + sum(heights) + 0.2 * len(rows), len(rows), sharex=True, height_ratios=heights) as (
        figure,
        panels,
    ):
        for axes, (name, train), height in zip(panels, trains.items(), heights, strict=True):
            _panel(axes, name, train, shown, 72 * height)
        time_axis(panels[-1], max(lengths.values()), dt_ms)
        if any((train < 0).any() for train in trains.values()):
            legend_above(figure)
    return figure


def _panel(axes: "Axes", name: str, train: np.ndarray, shown: int, points: float) -> None:
    neurons = train.shape[1]
    chosen = np.unique(np.linspace(0, neurons - 1, min(shown, neurons)).round().astype(int))
    draw_spikes(axes, train[:, chosen], min(5.0, 0.95 * points / len(chosen)))
    axes.set_ylim(len(chosen) - 0.2, -0.8)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_color("0.8")
    axes.tick_params(axis="x", length=0)
    rate = np.abs(train).sum() / train.size
    few = "" if len(chosen) == neurons else f"{len(chosen)} of "
    of = f"{few}{neurons:,} neuron{'s' * (neurons > 1)}"
    axes.set_title(name, loc="left", fontweight="bold", pad=2.5)
    axes.set_title(f"{of}, rate {100 * rate:.2g} %", loc="right", color="0.4", pad=2.5, fontsize=7)


# ---------------------------------------------------------------- shared with the animation


def spike_array(spikes: Any, name: str, axes: str) -> np.ndarray:
    """``spikes`` (array, nested lists or tensor of any device and dtype) as float32, once it is [T, something] of whole
    numbers with T >= 1; ``axes`` is how the error writes that shape."""
    array = np.asarray(spikes.detach().cpu().float() if hasattr(spikes, "detach") else spikes, dtype=np.float32)
    if array.ndim != 2 or 0 in array.shape:
        raise SpikeletError(f"{name}: expected spikes {axes}, neither of them 0, got shape {array.shape}")
    if not np.array_equal(array, array.round()):
        raise SpikeletError(
            f"{name}: expected spikes, whole numbers, got values such as {array[array != array.round()][0]:g}"
        )
    return array


def draw_spikes(
    axes: "Axes", train: np.ndarray, size: float, positive: str = POSITIVE, negative: str = NEGATIVE
) -> list[Any]:
    """A tick of ``size`` points in height for every spike of ``train`` [T, rows]; returns two lines, by sign."""
    room = 72 * COLUMN / len(train)  # points from one step to the next, about
    style: Any = {"linestyle": "", "marker": "|", "markersize": size, "markeredgewidth": min(max(0.4 * room, 0.7), 1.6)}
    drawn = []
    for sign, shade, name in ((1, positive, "positive spikes"), (-1, negative, "negative spikes")):
        steps, rows = np.nonzero(sign * train > 0)
        drawn += axes.plot(steps, rows, color=shade, label=name, **style)
    return drawn


def time_axis(axes: "Axes", num_steps: int, dt_ms: float | None) -> None:
    """Label the steps 0 .. T - 1 along x, as numbers or in milliseconds."""
    from matplotlib.ticker import MaxNLocator

    if dt_ms is not None and not dt_ms > 0:
        raise SpikeletError(f"dt_ms: expected a positive number of milliseconds, or None, got {dt_ms}")
    step = 1.0 if dt_ms is None else dt_ms
    ticks = MaxNLocator(8, steps=[1, 2, 5, 10], integer=dt_ms is None).tick_values(0, num_steps * step)
    shown = [tick for tick in ticks if 0 <= tick <= (num_steps - 0.5) * step]
    axes.set_xlim(-0.5, num_steps - 0.5)
    axes.set_xticks([tick / step for tick in shown], [f"{tick:g}" for tick in shown])
    axes.tick_params(axis="x", length=2.5)
    axes.spines["bottom"].set_color(INK)
    axes.set_xlabel("Time step" if dt_ms is None else "Time (ms)")
