"""Where networks stand: accuracy against what a sample takes, and which of them no other one beats."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from spikelet.errors import SpikeletError
from spikelet.plots.axes import accuracy_axis, least_error, legend_above, log_ticks
from spikelet.plots.style import colours, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Report = Mapping[str, Any]


class OperatingPoint(NamedTuple):
    """What one way to run a network takes per sample, and gives.

    operations  synaptic operations
    steps       mean time steps
    accuracy    0 to 1
    """

    operations: float
    steps: float
    accuracy: float


def operating_points(report: Report) -> list[OperatingPoint]:
    """The ways to run the network of a report that it tells of: stopped after each step, or by its exit rule.

    Steps behind ``settled_step`` are left out.
    """
    spent = accumulate(report["synaptic_operations_per_sample"]["per_step"])
    told = zip(spent, report["accuracy_per_step"], strict=True)
    found = [OperatingPoint(o, t, a) for t, (o, a) in enumerate(told, 1)][: report.get("settled_step")]
    if exit := report.get("exit"):
        found.append(OperatingPoint(exit["synaptic_operations_per_sample"], exit["mean_steps"], exit["accuracy"]))
    return found


def pareto_front(points: Sequence[OperatingPoint], axis: str) -> list[OperatingPoint]:
    """Those that no other one beats in accuracy at the same or less of ``axis``, "operations" or "steps", in its order.

    >>> points = [OperatingPoint(3e5, 2, 0.99), OperatingPoint(1e5, 1, 0.98), OperatingPoint(4e5, 2, 0.985)]
    >>> [point.accuracy for point in pareto_front(points, "operations")]
    [0.98, 0.99]
    """
    kept: list[OperatingPoint] = []
    for point in sorted(points, key=lambda point: (getattr(point, axis), -point.accuracy)):
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return kept


def plot_frontier(groups: Mapping[str, Sequence[Report]], path: str | Path | None = None) -> "Figure":
    """Accuracy against operations and against mean steps per sample, of groups of networks such as "converted".

    A mark is an operating point of a network; those that err more than ten times as often as the best, or cost no
    operation, are left out. The grey line is the Pareto front.

    groups  name: reports with ``accuracy_per_step`` and ``synaptic_operations_per_sample`` by steps
    """
    points = {name: [p for report in reports for p in operating_points(report)] for name, reports in groups.items()}
    samples = [report.get("num_samples") for reports in groups.values() for report in reports]
    if not samples:
        raise SpikeletError("groups: expected at least one report, got none")
    worst = 1 - 10 * max(least_error(samples), 1 - max(p.accuracy for group in points.values() for p in group))
    shown = {name: [p for p in group if p.accuracy >= worst and p.operations > 0] for name, group in points.items()}
    shown = {name: group for name, group in shown.items() if group}
    if not shown:
        raise SpikeletError("groups: expected reports of networks that send spikes, got none with an operation")
    with drawing(path, 3.0, columns=2, sharey=True) as (figure, panels):
        accuracy_axis(panels[0], np.array([p.accuracy for group in shown.values() for p in group]), samples)
        titles = {"operations": "Operations per sample", "steps": "Mean time steps"}
        for axes, (axis, title) in zip(panels, titles.items(), strict=True):
            _panel(axes, shown, axis)
            axes.set_xlabel(title)
        legend_above(figure)
    return figure


def _panel(axes: "Axes", groups: Mapping[str, Sequence[OperatingPoint]], axis: str) -> None:
    every = [point for group in groups.values() for point in group]
    front, along = pareto_front(every, axis), [getattr(point, axis) for point in every]
    ends = [*front, front[-1]._replace(**{axis: max(along)})]
    line = [getattr(point, axis) for point in ends], [point.accuracy for point in ends]
    axes.step(*line, where="post", color="0.7", linewidth=0.8, zorder=1)
    for (name, group), colour in zip(groups.items(), colours(len(groups)), strict=True):
        place = [getattr(point, axis) for point in group], [point.accuracy for point in group]
        axes.plot(*place, ".", color=colour, markersize=4, label=name, clip_on=False, zorder=3)
    axes.set_xscale("log")
    log_ticks(axes, along, 0.04)
