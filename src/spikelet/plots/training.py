"""Figures of a training run, epoch by epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikelet.errors import SpikeletError
from spikelet.plots.axes import accuracy_axis, decades_axis, from_zero, label_ends, step_axis
from spikelet.plots.style import POSITIVE, colours, drawing, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Mapping[str, Sequence[float]]

# Column: the title of its panel, and its scale.
_CONSTRAINTS = {
    "constraint_failure": ("CFS", decades_axis),
    "window": ("Window g", from_zero),
    "multiplier": ("Mean |λ|", from_zero),
}


def plot_training(rows: Sequence[Mapping[str, Any]], path: str | Path | None = None) -> "Figure":
    """Loss and accuracy of every epoch, and the synaptic operations where the loss counts them.

    rows  those of ``metrics.csv``: ``epoch``, ``train_loss``, ``train_accuracy``, ``val_loss``, ``val_accuracy``,
          ``train_operations`` (millions per sample); what is missing or empty is left out
    """
    if not rows:
        raise SpikeletError("rows: expected at least one epoch of metrics.csv, got none")
    panels = [
        (quantity, title)
        for quantity, title in (("loss", "Loss"), ("accuracy", "Accuracy (%)"), ("operations", "SOP per image (M)"))
        if any(len(_column(rows, f"{part}_{quantity}")[0]) for part in ("train", "val"))
    ]
    if not panels:
        raise SpikeletError(f"rows: expected columns such as train_loss and val_accuracy, got {[*rows[0]]}")
    with drawing(path, 0.5 + 1.15 * len(panels), rows=len(panels), sharex=True) as (figure, all_axes):
        for axes, (quantity, title) in zip(all_axes, panels, strict=True):
            _training_panel(figure, axes, rows, quantity)
            axes.set_ylabel(title)
        _epoch_axis(figure, len(rows))
    return figure


def plot_constraints(rows: Sequence[Mapping[str, Any]], path: str | Path | None = None) -> "Figure":
    """Constrained backpropagation, epoch by epoch: how far weights are from their levels, and what pulls them there.

    The constraint failure score (by decades where it falls by more than one), the window g, the mean of |multiplier|.

    rows  those of ``metrics.csv``: ``constraint_failure``, ``window``, ``multiplier``; a missing one has no panel
    """
    panels = [(title, scale, *_column(rows, name)) for name, (title, scale) in _CONSTRAINTS.items()]
    panels = [panel for panel in panels if len(panel[2])]
    if not panels:
        raise SpikeletError(f"rows: expected columns such as constraint_failure, got {[*rows[0]] if rows else 'none'}")
    with drawing(path, 0.5 + 1.15 * len(panels), rows=len(panels), sharex=True) as (figure, all_axes):
        for axes, (title, scale, epochs, values) in zip(all_axes, panels, strict=True):
            to_axis = scale(axes, values)
            axes.plot(epochs, values, "o-" if len(epochs) < 30 else "-", color=POSITIVE, clip_on=False)
            label_ends(figure, axes, [(values[-1], f"{values[-1]:.3g}", POSITIVE)], to_axis)
            axes.set_ylabel(title)
        _epoch_axis(figure, len(rows))
    return figure


def plot_histories(runs: Mapping[str, Sequence[History]], path: str | Path | None = None) -> "Figure":
    """Training accuracy of several runs, epoch by epoch, and the constraint failure score where one has it.

    runs  name to the stages of its training, one after the other (a gap parts them); a stage has the columns of
          ``metrics.csv``: ``train_accuracy`` and perhaps ``constraint_failure``, each [epochs]
    """
    if not any(stage.get("train_accuracy") for stages in runs.values() for stage in stages):
        raise SpikeletError("runs: expected train_accuracy in at least one of them, got none")
    kinds = {"train_accuracy": "Training accuracy (%)", "constraint_failure": "CFS"}
    curves = {kind: [_joined(stages, kind) for stages in runs.values()] for kind in kinds}
    curves = {kind: found for kind, found in curves.items() if any(len(values) for _, values in found)}
    shades = colours(len(runs))
    with drawing(path, 0.6 + 1.5 * len(curves), rows=len(curves), sharex=True) as (figure, all_axes):
        for axes, (kind, found) in zip(all_axes, curves.items(), strict=True):
            known = np.concatenate([values[np.isfinite(values)] for _, values in found])
            accuracy = kind == "train_accuracy"
            to_axis = accuracy_axis(axes, known, [], gap=0.15) if accuracy else decades_axis(axes, known)
            ends = []
            for name, (epochs, values), colour in zip(runs, found, shades, strict=True):
                if len(values):
                    axes.plot(epochs, values, "o-", markersize=2.5, color=colour, clip_on=False)
                    last = percent(values[-1]) if accuracy else f"{values[-1]:.2g}"
                    ends.append((float(values[-1]), f"{name}  {last}", colour))
            label_ends(figure, axes, ends, to_axis)
            axes.set_ylabel(kinds[kind])
        _epoch_axis(figure, max(int(epochs[-1]) for found in curves.values() for epochs, _ in found if len(epochs)))
    return figure


def _joined(stages: Sequence[History], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs, counted from 1 over all stages, and values; NaN between two stages, so that no line joins them."""
    epochs: list[float] = []
    values: list[float] = []
    done = 0
    for stage in stages:
        column = [float(value) for value in stage.get(name, ())]
        if column and values:
            epochs, values = [*epochs, done + 0.5], [*values, np.nan]
        epochs += [done + i + 1 for i in range(len(column))]
        values += column
        done += len(stage.get("train_accuracy", column))
    return np.array(epochs), np.array(values)


def firing_rates(history: Sequence[Mapping[str, float]], path: str | Path | None = None) -> "Figure":
    """The firing rate of every layer over the epochs: absolute spikes per neuron and step, in percent.

    history  one dictionary per epoch, layer name to rate as a fraction; a layer that an epoch does not name, or where
             the rate is None or NaN, has no point there
    """
    if not history:
        raise SpikeletError("history: expected at least one epoch, got none")
    names = list(dict.fromkeys(name for epoch in history for name in epoch))
    curves = {name: _curve(history, name) for name in names}
    curves = {name: (epochs, rates) for name, (epochs, rates) in curves.items() if len(epochs)}
    if not curves:
        raise SpikeletError("history: expected a rate of at least one layer, got none")
    with drawing(path, max(1.9, 0.5 + 0.16 * len(curves))) as (figure, (axes,)):
        ends = []
        for colour, (name, (epochs, rates)) in zip(colours(len(curves)), curves.items(), strict=True):
            axes.plot(epochs, rates, "o-" if len(history) < 30 else "-", color=colour, clip_on=False)
            ends.append((float(rates[-1]), f"{name}  {rates[-1]:.2g} %", colour))
        axes.set_ylim(0, 1.08 * max(rates.max() for _, rates in curves.values()) or 1)
        label_ends(figure, axes, ends, lambda value: value)
        axes.set_xlabel("Epoch")
        axes.set_ylabel("Firing rate (%)")
        step_axis(axes, len(history))
    return figure


def _curve(history: Sequence[Mapping[str, float]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs, counted from 1, and percent, of the epochs that know the layer."""
    rates = np.array([np.nan if epoch.get(name) is None else epoch[name] for epoch in history], dtype=float)
    if np.nanmin(rates, initial=0.0) < 0 or np.isinf(rates).any():
        raise SpikeletError(f"history: expected rates of 0 or more, got {rates.tolist()} for {name!r}")
    known = ~np.isnan(rates)
    return np.flatnonzero(known) + 1, 100 * rates[known]


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs, counted from 1, and values of the rows that have a finite ``name``."""
    given = [(row.get("epoch", i), row.get(name)) for i, row in enumerate(rows)]
    pairs = [(float(epoch) + 1, float(value)) for epoch, value in given if value not in (None, "")]
    epochs, values = np.array(pairs, dtype=float).reshape(-1, 2).T
    return epochs[np.isfinite(values)], values[np.isfinite(values)]


def _epoch_axis(figure: "Figure", last: int) -> None:
    """The common x of panels that stand one above the other."""
    figure.align_ylabels()
    figure.axes[-1].set_xlabel("Epoch")
    step_axis(figure.axes[-1], last)


def _training_panel(figure: "Figure", axes: "Axes", rows: Sequence[Mapping[str, Any]], quantity: str) -> None:
    parts = [
        (part, colour, *_column(rows, f"{part}_{quantity}")) for part, colour in (("train", "0.55"), ("val", POSITIVE))
    ]
    parts = [part for part in parts if len(part[2])]
    both = np.concatenate([values for *_, values in parts])
    to_axis = accuracy_axis(axes, both, [], gap=0.2) if quantity == "accuracy" else from_zero(axes, both)
    for _, colour, epochs, values in parts:
        axes.plot(epochs, values, "o-" if len(epochs) < 30 else "-", color=colour, clip_on=False)
    words = {"train": "training", "val": "validation"}
    shown = {"accuracy": lambda v: percent(v), "loss": lambda v: f"{v:.3f}", "operations": lambda v: f"{v:.3g} M"}
    label_ends(figure, axes, [(v[-1], f"{words[p]}  {shown[quantity](v[-1])}", c) for p, c, _, v in parts], to_axis)
