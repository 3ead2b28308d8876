"""Figures from reports, the dictionaries of ``report.json``."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikelet.errors import SpikeletError
from spikelet.plots.axes import (
    accuracy_axis,
    bar_rows,
    beside_bar,
    beside_point,
    label_ends,
    legend_above,
    log_ticks,
    number_axis,
    step_axis,
)
from spikelet.plots.style import (
    COLOURS,
    INK,
    NEGATIVE,
    NEUTRAL,
    OFFSET,
    POSITIVE,
    colours,
    count_text,
    drawing,
    percent,
    short_number,
    tick_text,
    times_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Report = Mapping[str, Any]
Reports = Report | Sequence[Report]


def plot_accuracy(reports: Reports, path: str | Path | None = None, labels: Sequence[str] | None = None) -> "Figure":
    """Accuracy at every step, on a scale on which every tenfold cut of the error is the same height.

    A ring marks T_conv, the step from which the accuracy changes no more; the ANN is a dashed line.
    """
    runs, names = _runs(reports, labels)
    curves = [np.asarray(_get(run, "accuracy_per_step"), dtype=float) for run in runs]
    anns = [run.get("ann_accuracy") for run in runs]
    with drawing(path, 2.5) as (figure, (axes,)):
        shown = np.concatenate([*curves, [a for a in anns if a is not None]])
        to_axis = accuracy_axis(axes, shown, [run.get("num_samples") for run in runs])
        ends: list[tuple[float, str, str]] = []
        for run, name, curve, ann, colour in zip(runs, names, curves, anns, COLOURS * len(runs), strict=False):
            axes.plot(np.arange(len(curve)) + 1, curve, "o-", color=colour, clip_on=False, zorder=3)
            if ann is not None:
                axes.axhline(ann, color=colour if len(runs) > 1 else "0.45", linestyle=(0, (4, 3)), linewidth=0.8)
            settled = _ring(axes, run, curve, colour)
            ends += _end_labels(name + settled, curve[-1], ann, colour, alone=len(runs) == 1)
        label_ends(figure, axes, ends, to_axis)
        axes.set_xlabel("Time steps")
        step_axis(axes, max(map(len, curves)))
    return figure


def plot_spikes(reports: Reports, path: str | Path | None = None, labels: Sequence[str] | None = None) -> "Figure":
    """Firing sparsity: positive and negative spikes per sample, stacked, beside the number of neurons."""
    runs, names = _runs(reports, labels)
    positive, negative = (
        np.array([_get(run, "spikes_per_sample", sign) for run in runs], dtype=float)
        for sign in ("positive", "negative")
    )
    neurons = np.array([_get(run, "neurons", "total") for run in runs], dtype=float)
    with drawing(path, 0.75 + 0.45 * len(runs)) as (figure, (axes,)):
        rows = np.arange(len(runs))
        axes.barh(rows - 0.2, neurons, 0.36, color=NEUTRAL, label="neurons")
        axes.barh(rows + 0.2, positive, 0.36, color=POSITIVE, label="positive spikes")
        axes.barh(rows + 0.2, negative, 0.36, left=positive, color=NEGATIVE, label="negative spikes")
        for row, plus, minus, count in zip(rows, positive, negative, neurons, strict=True):
            beside_bar(axes, row - 0.2, count, f"{count:,.0f}", "0.4")
            beside_bar(axes, row + 0.2, plus + minus, f"{plus:,.0f} + {minus:,.0f}", INK)
        axes.set_xlim(0, 1.4 * max(neurons.max(), (positive + negative).max()))
        bar_rows(axes, names)
        axes.set_xlabel("Per image")
        number_axis(axes)
        legend_above(figure)
    return figure


def plot_operations(reports: Reports, path: str | Path | None = None, labels: Sequence[str] | None = None) -> "Figure":
    """Synaptic operations beside three times the ANN's multiply-accumulates, both without the first layer.

    A multiplication is taken as two additions, plus the addition itself (reference 4.11).
    """
    runs, names = _runs(reports, labels)
    spiking = np.array([_without_input(run) for run in runs], dtype=float)
    dense = np.array([_get(r, "macs_per_sample", "total") - _get(r, "macs_per_sample", "first_layer") for r in runs])
    dense = 3.0 * dense
    places = np.maximum(spiking, 1), np.maximum(dense, 1)
    with drawing(path, 0.85 + 0.36 * len(runs)) as (figure, (axes,)):
        rows = np.arange(len(runs))
        axes.hlines(rows, *places, color="0.75", linewidth=1.0, zorder=1)
        axes.plot(places[0], rows, "o", color=POSITIVE, markersize=5, label="SNN: synaptic operations")
        axes.plot(places[1], rows, "s", color="0.45", markersize=4.5, label="ANN: 3 × MAC")
        for row, few, many in zip(rows, spiking, dense, strict=True):
            left, right = sorted((few, many))
            at_left, at_right = max(left, 1), max(right, 1)
            beside_bar(axes, float(row), at_right, short_number(right), INK, away=6)
            axes.annotate(short_number(left), (at_left, row), (-6, 0), **OFFSET, ha="right", va="center")
            if few > 0 and many > 0:
                middle = math.sqrt(few * many), row
                axes.annotate(times_text(many / few), middle, (0, 6), **OFFSET, ha="center", color="0.4")
        axes.set_xscale("log")
        log_ticks(axes, [*spiking, *dense], room=0.3)
        bar_rows(axes, names)
        axes.set_xlabel("Operations per sample, without the first layer")
        legend_above(figure)
    return figure


def plot_layers(reports: Reports, path: str | Path | None = None, labels: Sequence[str] | None = None) -> "Figure":
    """Spikes per sample of every layer, by sign, and how many that is per neuron; one panel per run."""
    runs, names = _runs(reports, labels)
    layers = [[*_get(run, "spikes_per_sample", "per_layer")] for run in runs]
    height = 0.75 + sum(0.2 * len(rows) + 0.3 * (len(runs) > 1) for rows in layers)
    with drawing(path, height, rows=len(runs), sharex=True, height_ratios=[*map(len, layers)]) as (figure, panels):
        widest = max(sum(_by_sign(run, layer)) for run, rows in zip(runs, layers, strict=True) for layer in rows)
        for axes, run, rows, name in zip(panels, runs, layers, names, strict=True):
            for row, layer in enumerate(rows):
                plus, minus = _by_sign(run, layer)
                first = axes is panels[0] and row == 0
                axes.barh(row, plus, 0.62, color=POSITIVE, label="positive spikes" if first else None)
                axes.barh(row, minus, 0.62, left=plus, color=NEGATIVE, label="negative spikes" if first else None)
                neurons = run.get("neurons", {}).get("per_layer", {}).get(layer)
                share = f"  ({(plus + minus) / neurons:.2f} per neuron)" if neurons else ""
                beside_bar(axes, row, plus + minus, f"{count_text(plus + minus)}{share}", INK)
            bar_rows(axes, rows)
            if len(runs) > 1:
                axes.set_title(name, loc="left", fontweight="bold")
        panels[-1].set_xlim(0, 1.7 * widest or 1)
        panels[-1].set_xlabel("Spikes per sample")
        number_axis(panels[-1])
        legend_above(figure)
    return figure


def plot_trade_off(
    reports: Reports,
    path: str | Path | None = None,
    labels: Sequence[str] | None = None,
    published: Sequence[tuple[str, float, float]] = (),
    legend: str = "",
) -> "Figure":
    """Accuracy against synaptic operations per sample, one point per run.

    labels     what made the runs differ, such as the weight of the operation cost; ``legend`` says so in the figure
    published  (name, operations per sample, accuracy 0 to 1) of other people's networks, drawn hollow
    """
    runs, names = _runs(reports, labels)
    cost = [max(1.0, _get(run, "synaptic_operations_per_sample", "total")) for run in runs]
    accuracy = [100 * float(_get(run, "accuracy")) for run in runs]
    with drawing(path, 2.4) as (figure, (axes,)):
        order = np.argsort(cost)
        axes.plot(np.take(cost, order), np.take(accuracy, order), "o-", color=POSITIVE, markersize=4, zorder=3)
        for x, y, name in zip(cost, accuracy, names, strict=True):
            beside_point(axes, x, y, name, POSITIVE)
        for name, x, y in published:
            axes.plot([x], [100 * y], "D", color="0.45", markerfacecolor="white", markersize=4)
            beside_point(axes, x, 100 * y, name, "0.4")
        axes.set_xscale("log")
        log_ticks(axes, [*cost, *(x for _, x, _ in published)], room=0.12)
        axes.margins(y=0.18)
        axes.locator_params(axis="y", nbins=6)
        axes.set_xlabel("Synaptic operations per sample")
        axes.set_ylabel("Accuracy (%)")
        if legend:
            axes.set_title(legend, loc="left", color=POSITIVE)
    return figure


def plot_memory(
    groups: Sequence[tuple[str, Sequence[Report]]], path: str | Path | None = None, legend: str = ""
) -> "Figure":
    """Accuracy against weight memory: one point per group, the mean of its runs, and a bar from the worst to the best.

    groups  (name, reports of runs that differ only in their seed); ``legend`` says what the names are values of
    """
    if not groups:
        raise SpikeletError("groups: expected at least one, got none")
    memory = [max(1.0, _get(runs[0], "weight_bytes")) for _, runs in groups]
    accuracy = [np.array([_get(run, "accuracy") for run in runs], dtype=float) for _, runs in groups]
    with drawing(path, max(2.4, 0.8 + 0.16 * len(groups))) as (figure, (axes,)):
        samples = [run.get("num_samples") for _, runs in groups for run in runs]
        to_axis = accuracy_axis(axes, np.concatenate(accuracy), samples)
        ends: list[tuple[float, str, str]] = []
        places = [
            x * (1 + 0.12 * memory[:i].count(x)) for i, x in enumerate(memory)
        ]  # equal ones would hide each other
        for (name, _), x, y, colour in zip(groups, places, accuracy, colours(len(groups)), strict=True):
            axes.vlines(x, y.min(), y.max(), color=colour, linewidth=1.0, clip_on=False)
            axes.plot([x], [y.mean()], "o", color=colour, markersize=4.5, clip_on=False, zorder=3)
            ends.append((float(y.mean()), f"{name}  {percent(y.mean())}", colour))
        label_ends(figure, axes, ends, to_axis)
        axes.set_xscale("log")
        log_ticks(axes, memory, room=0.12, unit="B")
        axes.set_xlabel("Weight memory")
        if legend:
            axes.set_title(legend, loc="left")
    return figure


def plot_cost(reports: Reports, path: str | Path | None = None, labels: Sequence[str] | None = None) -> "Figure":
    """Energy per sample and weight memory: the ANN in float32 and in int8 beside the spiking network.

    Beside an ANN's number: how many times the spiking network's that is.
    """
    runs, names = _runs(reports, labels)
    energy = [_get(run, "energy_per_sample_joule") for run in runs]
    memory = [(run.get("weight_bytes_float32"), _get(run, "weight_bytes")) for run in runs]
    panels = (
        ("Energy per sample", "J", [(joule.get("ann"), joule.get("ann_int8"), joule["snn"]) for joule in energy]),
        ("Weight memory", "B", [(floats, floats and floats / 4, stored) for floats, stored in memory]),
    )
    with drawing(path, 1.1 + 0.9 * len(runs), rows=2) as (figure, all_axes):
        for axes, (title, unit, bars) in zip(all_axes, panels, strict=True):
            _cost_bars(axes, bars, unit)
            bar_rows(axes, names if len(names) > 1 else [""])
            axes.set_title(title, loc="left", fontweight="bold")
        legend_above(figure)
    return figure


def plot_exit(reports: Reports, path: str | Path | None = None, labels: Sequence[str] | None = None) -> "Figure":
    """Early exit: accuracy against mean steps and against operations, over all thresholds of the rule.

    A ring marks the threshold that was asked for.
    """
    runs, names = _runs(reports, labels)
    told = [_get(run, "exit") for run in runs]
    with drawing(path, 2.4, columns=2, sharey=True) as (figure, panels):
        accuracy = np.concatenate([[*_get(exit, "curve", "accuracy"), exit["accuracy"]] for exit in told])
        accuracy_axis(panels[0], accuracy, [run.get("num_samples") for run in runs])
        for exit, name, colour in zip(told, names, colours(len(runs)), strict=True):
            for axes, key in zip(panels, ("mean_steps", "synaptic_operations_per_sample"), strict=True):
                curve = np.array([exit["curve"][key], exit["curve"]["accuracy"]])
                axes.plot(*curve[:, np.argsort(curve[0], kind="stable")], ".-", color=colour, label=name, clip_on=False)
                point = [exit[key]], [exit["accuracy"]]
                axes.plot(*point, "o", color=colour, markersize=6, mfc="none", clip_on=False, zorder=4)
        panels[0].set_xlabel("Mean time steps")
        panels[1].set_xlabel("Operations per sample")
        panels[1].xaxis.set_major_formatter(lambda value, _: tick_text(value))
        for axes in panels:
            axes.locator_params(axis="x", nbins=4)
        if len(runs) > 1:
            legend_above(figure)
        else:
            said = f"○ {told[0]['rule']} {told[0]['threshold']:.4g}: {percent(told[0]['accuracy'])}"
            panels[0].set_title(f"{said}, T = {told[0]['mean_steps']:.2f}", loc="left", color=COLOURS[0])
    return figure


def _without_input(run: Report) -> float:
    """Synaptic operations of a sample behind the first layer; what events cost there is no layer's."""
    operations = _get(run, "synaptic_operations_per_sample")
    return _get(operations, "total") - operations.get("per_layer", {}).get("input", 0)


def _runs(reports: Reports, labels: Sequence[str] | None) -> tuple[list[Report], list[str]]:
    runs = [reports] if isinstance(reports, Mapping) else list(reports)
    if not runs:
        raise SpikeletError("reports: expected at least one report, got none")
    names = [str(label) for label in labels] if labels is not None else [_name(run, len(runs)) for run in runs]
    if len(names) != len(runs):
        raise SpikeletError(f"labels: expected one per report ({len(runs)}), got {len(names)}")
    return runs, names


def _name(run: Report, num_runs: int) -> str:
    return str(run.get("label") or ("SNN" if num_runs == 1 else run.get("recipe", "SNN")))


def _get(run: Report, *keys: str) -> Any:
    value: Any = run
    for key in keys:
        if not isinstance(value, Mapping) or key not in value:
            raise SpikeletError(f"report: {'.'.join(keys)} is missing; write it anew with 'spikelet evaluate'")
        value = value[key]
    return value


def _by_sign(run: Report, layer: str) -> tuple[float, float]:
    spikes = _get(run, "spikes_per_sample", "per_layer")[layer]
    return float(spikes["positive"]), float(spikes["negative"])


def _ring(axes: "Axes", run: Report, curve: np.ndarray, colour: str) -> str:
    """Mark T_conv on the curve; returns the words that say so at its end."""
    step = run.get("settled_step")
    if not step:
        return ""
    axes.plot([step], [curve[step - 1]], "o", color=colour, markersize=6, mfc="none", zorder=4, clip_on=False)
    return f"  ○ T = {step}"


def _end_labels(title: str, final: float, ann: float | None, colour: str, alone: bool) -> list[tuple[float, str, str]]:
    if ann is None:
        return [(final, f"{title}\n{percent(final)}", colour)]
    if alone:
        return [(final, f"{title}\n{percent(final)}", colour), (ann, f"ANN  {percent(ann)}", "0.35")]
    if ann == final:
        return [(final, f"{title}\nSNN = ANN  {percent(final)}", colour)]
    return [(final, f"{title}\nSNN  {percent(final)}\nANN  {percent(ann)}", colour)]


def _cost_bars(axes: "Axes", rows: Sequence[tuple[float | None, ...]], unit: str) -> None:
    """Three bars for every run, with the numbers written, because the last is often too short to see."""
    kinds = (("ANN, float32", "#8C8C8C"), ("ANN, int8", "#C8C8C8"), ("SNN", POSITIVE))
    for i, (label, colour) in enumerate(kinds):
        drawn = [(row + 0.26 * (i - 1), values[i], values[-1]) for row, values in enumerate(rows)]
        known = [(row, value, snn) for row, value, snn in drawn if value is not None and snn is not None]
        axes.barh([row for row, _, _ in known], [value for _, value, _ in known], 0.24, color=colour, label=label)
        for row, value, snn in known:
            times = f"  ({times_text(value / snn)})" if label != "SNN" and snn else ""
            beside_bar(axes, row, value, short_number(value, unit) + times, INK if label == "SNN" else "0.4")
    axes.set_xlim(0, 1.35 * max(value for values in rows for value in values if value is not None) or 1)
    axes.xaxis.set_major_formatter(lambda value, _: tick_text(value, unit))
    axes.locator_params(axis="x", nbins=4)
