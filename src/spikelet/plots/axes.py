"""The parts that figures are put together from: scales, ticks, labels at the ends of curves."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from spikelet.plots.style import OFFSET, tick_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def accuracy_axis(
    axes: "Axes", accuracies: np.ndarray, samples: Sequence[Any], gap: float = 0.1
) -> Callable[[Any], Any]:
    """Scale y by -log10(error), so that 90, 99 and 99.9 % are equally far apart; returns the map to that scale."""
    floor = least_error(samples)

    def to_axis(accuracy: Any) -> Any:
        return -np.log10(np.maximum(1 - np.asarray(accuracy, dtype=float), floor))

    low, high = float(to_axis(accuracies.min())), float(to_axis(accuracies.max()))
    margin = max(0.06 * (high - low), (0.4 - (high - low)) / 3)
    low, high = max(low - margin, -0.02), high + 2 * margin
    axes.set_yscale("function", functions=(to_axis, lambda y: 1 - 10.0 ** -np.asarray(y, dtype=float)))
    axes.set_ylim(1 - 10**-low, 1 - 10**-high)
    ticks = accuracy_ticks(low, high, gap)
    axes.set_yticks(ticks, [f"{100 * tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_ylabel("Accuracy (%), log scale of errors")
    return to_axis


def least_error(samples: Sequence[Any]) -> float:
    """Half of one sample of the largest data set, whose numbers are ``samples``: 0 errors have no logarithm."""
    return 0.5 / max([s for s in samples if s], default=1000)


def accuracy_ticks(low: float, high: float, gap: float) -> list[float]:
    """Round accuracies between -log10(error) ``low`` and ``high``, the roundest first, none closer than ``gap``."""
    chosen: list[float] = []
    for leading in (1, 5, 2, 3, 7, 4, 6, 8, 9):
        for decade in range(5):
            place = decade - math.log10(leading) + (1 if leading > 1 else 0)
            if low <= place <= high and all(abs(place - other) >= gap * (high - low) for other in chosen):
                chosen.append(place)
    return sorted(round(1 - 10**-place, 6) for place in chosen)


def from_zero(axes: "Axes", values: np.ndarray) -> Callable[[Any], Any]:
    """Let y reach from 0 to a little above the largest of ``values``; returns the map to that scale."""
    axes.set_ylim(0, 1.08 * values.max() or 1)
    axes.locator_params(axis="y", integer=bool((values % 1 == 0).all()))
    return lambda value: value


def decades_axis(axes: "Axes", values: np.ndarray) -> Callable[[Any], Any]:
    """Scale y by decades where values of 0 or more span more than one, else from 0; returns the map to that scale.

    By decades, a 0 has its place too: half a decade below the smallest other value.
    """
    positive = values[values > 0]
    low, high = positive.min(initial=math.inf), positive.max(initial=0.0)
    if high <= 10 * low:
        return from_zero(axes, values)
    axes.set_yscale("symlog", linthresh=low, linscale=0.5)  # log10 above linthresh
    zeros = [0.0] if values.min() == 0 else []
    axes.set_ylim(0 if zeros else low / 1.2, 1.2 * high)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    leading = (1,) if last - first > 2 else (1, 2, 5)
    ticks = [digit * 10.0**decade for decade in range(first, last + 1, 1 + (last - first) // 6) for digit in leading]
    ticks = zeros + [tick for tick in ticks if low / 1.2 <= tick <= 1.2 * high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    return axes.yaxis.get_transform().transform


def label_ends(
    figure: "Figure", axes: "Axes", ends: Sequence[tuple[float, str, str]], to_axis: Callable[[Any], Any]
) -> None:
    """Name every curve at its right end, moved apart where two would overlap."""
    low, high = (float(to_axis(limit)) for limit in axes.get_ylim())
    places = [(float(to_axis(value)) - low) / (high - low) for value, _, _ in ends]
    line = 0.126 / (figure.get_figheight() / len(figure.axes) - 0.25)  # 7 points, as a fraction of the axes
    tall = [line * (1 + text.count("\n")) + 0.25 * line for _, text, _ in ends]
    for place, (_, text, colour) in zip(spread(places, tall), ends, strict=True):
        axes.text(1.03, place, text, color=colour, transform=axes.transAxes, va="center", linespacing=1.1, fontsize=7)


def spread(places: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """The places in their order, pushed apart until things of these sizes do not overlap, within -0.05 and 1.05."""
    order = [int(i) for i in np.argsort(places, kind="stable")]
    moved = [float(place) for place in places]
    for _ in range(200):
        for lower, upper in pairwise(order):
            short = (sizes[lower] + sizes[upper]) / 2 - (moved[upper] - moved[lower])
            if short > 1e-9:
                moved[lower], moved[upper] = moved[lower] - short / 2, moved[upper] + short / 2
        moved[order[0]] = max(moved[order[0]], sizes[order[0]] / 2 - 0.05)
        moved[order[-1]] = min(moved[order[-1]], 1.05 - sizes[order[-1]] / 2)
    return moved


def beside_bar(axes: "Axes", row: float, end: float, text: str, colour: str, away: float = 3) -> None:
    axes.annotate(text, (end, row), (away, 0), **OFFSET, va="center", color=colour)


def beside_point(axes: "Axes", x: float, y: float, text: str, colour: str) -> None:
    axes.annotate(text, (x, y), (-4, 3), **OFFSET, ha="right", color=colour)


def bar_rows(axes: "Axes", names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def number_axis(axes: "Axes") -> None:
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.locator_params(axis="x", nbins=5)


def step_axis(axes: "Axes", last: int) -> None:
    axes.set_xlim(0.5, last + 0.3)
    if last == 1:
        axes.set_xticks([1])
    else:
        axes.locator_params(axis="x", integer=True, nbins=8)


def log_ticks(axes: "Axes", values: Sequence[float], room: float, unit: str = "") -> None:
    """1, 2, 5 of every decade (fewer where they are many); ``room`` is the share that stays free at each end."""
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = max(min(values), 1.0), max(*values, 1.0)
    free = max((high / low) ** room, 1 + 4 * room)
    axes.set_xlim(low / free, high * free)
    decades = math.log10(high / low * free**2)
    few = (1,) if decades > (1.2 if unit else 2) else (1, 3) if unit else (1, 2, 5)
    axes.xaxis.set_major_locator(LogLocator(subs=few))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: tick_text(value, unit))


def legend_above(figure: "Figure") -> None:
    entries = dict(zip(*reversed(figure.axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside upper left",
        ncols=3,
        columnspacing=1.2,
        handletextpad=0.5,
        borderaxespad=0.2,
    )
