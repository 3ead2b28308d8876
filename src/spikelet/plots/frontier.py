"""Where networks stand: accuracy against what a sample takes, and which of them no other one beats."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from spikelet.errors import SpikeletError
from spikelet.plots.axes import accuracy_axis, legend_above, log_ticks
from spikelet.plots.style import colours, drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Report = Mapping[str, Any]


class Stand(NamedTuple):
    """What one way to run a network takes per sample, and gives.

    operations  synaptic operations
    steps       mean time steps
    accuracy    0 to 1
    """

    operations: float
    steps: float
    accuracy: float


def stands(report: Report) -> list[Stand]:
    """The ways to run the network of a report that it tells of: stopped after each step, or by its exit rule.

    Steps after which its accuracy changes no more are left out.
    """
    spent = accumulate(report["synaptic_operations_per_sample"]["per_step"])
    every = [Stand(o, t, a) for t, (o, a) in enumerate(zip(spent, report["accuracy_per_step"], strict=True), 1)]
    found = every[: report.get("settled_step")]
    if exit := report.get("exit"):
        found.append(Stand(exit["synaptic_operations_per_sample"], exit["mean_steps"], exit["accuracy"]))
    return found


def best(found: Sequence[Stand], axis: str) -> list[Stand]:
    """Those that no other one beats in accuracy at the same or less of ``axis``, "operations" or "steps", in its order.

    >>> best([Stand(3e5, 2, 0.99), Stand(1e5, 1, 0.98), Stand(4e5, 2, 0.985)], "operations")[-1].accuracy
    0.99
    """
    kept: list[Stand] = []
    for stand in sorted(found, key=lambda stand: (getattr(stand, axis), -stand.accuracy)):
        if not kept or stand.accuracy > kept[-1].accuracy:
            kept.append(stand)
    return kept


def plot_frontier(groups: Mapping[str, Sequence[Report]], path: str | Path | None = None) -> "Figure":
    """Accuracy against operations and against mean steps per sample, of groups of networks such as "converted".

    A mark is a network stopped after a step, or by its exit rule (``stands``); those that err ten times as often as the
    best are left out. The grey line joins the best.

    groups  name: reports with ``accuracy_per_step`` and ``synaptic_operations_per_sample`` by steps
    """
    every = {name: [stand for report in reports for stand in stands(report)] for name, reports in groups.items()}
    found = [stand for group in every.values() for stand in group]
    if not found:
        raise SpikeletError("groups: expected at least one report, got none")
    worst = 1 - 10 * (1 - max(stand.accuracy for stand in found))
    every = {name: [stand for stand in group if stand.accuracy >= worst] for name, group in every.items()}
    found = [stand for group in every.values() for stand in group]
    samples = [report.get("num_samples") for reports in groups.values() for report in reports]
    with drawing(path, 3.0, columns=2, sharey=True) as (figure, panels):
        accuracy_axis(panels[0], np.array([stand.accuracy for stand in found]), samples)
        for axes, axis in zip(panels, ("operations", "steps"), strict=True):
            line = best(found, axis)
            along = [*(getattr(stand, axis) for stand in line), max(getattr(stand, axis) for stand in found)]
            axes.step(
                along,
                [*(stand.accuracy for stand in line), line[-1].accuracy],
                where="post",
                color="0.7",
                linewidth=0.8,
                zorder=1,
            )
            for (name, group), colour in zip(every.items(), colours(len(every)), strict=True):
                place = [getattr(stand, axis) for stand in group], [stand.accuracy for stand in group]
                axes.plot(*place, ".", color=colour, markersize=4, label=name, clip_on=False, zorder=3)
            axes.set_xscale("log")
            log_ticks(axes, [getattr(stand, axis) for stand in found], 0.04)
        panels[0].set_ylabel("Accuracy (%)")
        panels[0].set_xlabel("Operations per sample")
        panels[1].set_xlabel("Mean time steps")
        legend_above(figure)
    return figure
