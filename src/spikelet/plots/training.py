"""Figures of a training run, epoch by epoch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikelet.errors import SpikeletError
from spikelet.plots.axes import accuracy_axis, label_ends, step_axis
from spikelet.plots.style import COLOURS, POSITIVE, drawing, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
        figure.align_ylabels()
        all_axes[-1].set_xlabel("Epoch")
        step_axis(all_axes[-1], len(rows))
    return figure


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
        for colour, (name, (epochs, rates)) in zip(_colours(len(curves)), curves.items(), strict=True):
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


def _colours(number: int) -> Sequence[Any]:
    """Few layers in colours that everyone can tell apart; many from dark to light, the first darkest."""
    if number <= len(COLOURS):
        return COLOURS[:number]
    from matplotlib import colormaps

    return [colormaps["viridis"](place) for place in np.linspace(0, 0.82, number)]


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs, counted from 1, and values of the rows that have ``name``."""
    pairs = [(float(row.get("epoch", i)) + 1, float(row[name])) for i, row in enumerate(rows) if row.get(name)]
    return tuple(np.array(pairs, dtype=float).reshape(-1, 2).T)  # type: ignore[return-value]


def _training_panel(figure: "Figure", axes: "Axes", rows: Sequence[Mapping[str, Any]], quantity: str) -> None:
    parts = [
        (part, colour, *_column(rows, f"{part}_{quantity}")) for part, colour in (("train", "0.55"), ("val", POSITIVE))
    ]
    parts = [part for part in parts if len(part[2])]
    to_axis: Callable[[Any], Any] = lambda value: value  # noqa: E731
    if quantity == "accuracy":
        to_axis = accuracy_axis(axes, np.concatenate([values for *_, values in parts]), [], gap=0.2)
    for _, colour, epochs, values in parts:
        axes.plot(epochs, values, "o-" if len(epochs) < 30 else "-", color=colour, clip_on=False)
    if quantity != "accuracy":
        axes.set_ylim(0, 1.08 * max(values.max() for *_, values in parts))
    words = {"train": "training", "val": "validation"}
    shown = {"accuracy": lambda v: percent(v), "loss": lambda v: f"{v:.3f}", "operations": lambda v: f"{v:.3g} M"}
    label_ends(figure, axes, [(v[-1], f"{words[p]}  {shown[quantity](v[-1])}", c) for p, c, _, v in parts], to_axis)
