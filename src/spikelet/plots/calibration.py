"""What calibration gained: accuracy against T."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikelet.errors import SpikeletError
from spikelet.plots.axes import accuracy_axis, label_ends
from spikelet.plots.style import colours, drawing, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Report = Mapping[str, Any]


def plot_calibration(reports: Mapping[str, Report], path: str | Path | None = None) -> "Figure":
    """Accuracy after each step of the levels of one calibration, T by octaves; the teacher is a dashed line.

    reports  level: report, which has ``accuracy_per_step``, and the teacher's accuracy (``teacher_of``)
    """
    if not reports:
        raise SpikeletError("reports: expected at least one level, got none")
    curves = {level: np.asarray(report["accuracy_per_step"], dtype=float) for level, report in reports.items()}
    name, teacher = teacher_of(next(iter(reports.values())))
    with drawing(path, 2.5) as (figure, (axes,)):
        samples = [report.get("num_samples") for report in reports.values()]
        to_axis = accuracy_axis(axes, np.concatenate([*curves.values(), [teacher]]), samples)
        axes.axhline(teacher, color="0.45", linestyle=(0, (4, 3)), linewidth=0.8)
        ends = [(teacher, f"{name}  {percent(teacher)}", "0.35")]
        for (level, curve), colour in zip(curves.items(), colours(len(curves)), strict=True):
            axes.plot(np.arange(len(curve)) + 1, curve, "o-", color=colour, markersize=2.5, clip_on=False, zorder=3)
            ends.append((float(curve[-1]), f"{level}  {percent(curve[-1])}", colour))
        label_ends(figure, axes, ends, to_axis)
        last = max(map(len, curves.values()))
        ticks = sorted({2**i for i in range(last.bit_length())} | {last})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.set_xlabel("Time steps T")
    return figure


def teacher_of(report: Report) -> tuple[str, float]:
    """What the calibrated network was compared with, and its accuracy: the ANN, or itself in all of its steps.

    >>> teacher_of({"ann_accuracy": 0.9})
    ('ANN', 0.9)
    """
    if "ann_accuracy" in report:
        return "ANN", float(report["ann_accuracy"])
    if "teacher_accuracy" in report:
        return "all steps", float(report["teacher_accuracy"])
    raise SpikeletError("report: it has neither ann_accuracy nor teacher_accuracy; make one with 'spikelet calibrate'")
