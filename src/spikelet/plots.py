"""Figures from reports and arrays alone: one quiet style, column width, colours that everyone can tell apart.

A report is the dictionary of ``report.json``. Every function takes one report or several, returns a matplotlib Figure,
and where ``path`` is given writes it there (png at 200 dpi, or what the suffix says). Nothing touches pyplot, so no
display is needed and nothing is left open.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikelet.errors import SpikeletError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Report = Mapping[str, Any]
Reports = Report | Sequence[Report]

# Okabe and Ito's palette, in the order in which runs take the colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
POSITIVE, NEGATIVE, NEUTRAL, INK = "#0072B2", "#D55E00", "#B4B4B4", "#333333"
COLUMN = 3.5  # inches
_OFFSET: Any = {"textcoords": "offset points", "fontsize": 7}
_PREFIXES = {-5: "f", -4: "p", -3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T"}

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.0,
    "legend.handleheight": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.0,
    "savefig.dpi": 200,
}


# ---------------------------------------------------------------- figures


def plot_accuracy(reports: Reports, path: str | Path | None = None, labels: Sequence[str] | None = None) -> "Figure":
    """Accuracy at every step, on a scale on which every tenfold cut of the error is the same height.

    A ring marks T_conv, the step from which the accuracy changes no more; the ANN is a dashed line.
    """
    runs, names = _runs(reports, labels)
    curves = [np.asarray(_get(run, "accuracy_per_step"), dtype=float) for run in runs]
    anns = [run.get("ann_accuracy") for run in runs]
    with _figure(path, 2.5) as (figure, (axes,)):
        shown = np.concatenate([*curves, [a for a in anns if a is not None]])
        to_axis = _accuracy_axis(axes, shown, [run.get("num_samples") for run in runs])
        ends: list[tuple[float, str, str]] = []
        for run, name, curve, ann, colour in zip(runs, names, curves, anns, COLOURS * len(runs), strict=False):
            axes.plot(np.arange(len(curve)) + 1, curve, "o-", color=colour, clip_on=False, zorder=3)
            if ann is not None:
                axes.axhline(ann, color=colour if len(runs) > 1 else "0.45", linestyle=(0, (4, 3)), linewidth=0.8)
            settled = _ring(axes, run, curve, colour)
            ends += _end_labels(name + settled, curve[-1], ann, colour, alone=len(runs) == 1)
        _label_ends(figure, axes, ends, to_axis)
        axes.set_xlabel("Time steps")
        axes.set_ylabel("Accuracy (%)")
        _step_axis(axes, max(map(len, curves)))
    return figure


def plot_spikes(reports: Reports, path: str | Path | None = None, labels: Sequence[str] | None = None) -> "Figure":
    """Firing sparsity: positive and negative spikes per image, stacked, beside the number of neurons."""
    runs, names = _runs(reports, labels)
    positive, negative = (
        np.array([_get(run, "spikes_per_sample", sign) for run in runs], dtype=float)
        for sign in ("positive", "negative")
    )
    neurons = np.array([_get(run, "neurons", "total") for run in runs], dtype=float)
    with _figure(path, 0.75 + 0.45 * len(runs)) as (figure, (axes,)):
        rows = np.arange(len(runs))
        axes.barh(rows - 0.2, neurons, 0.36, color=NEUTRAL, label="neurons")
        axes.barh(rows + 0.2, positive, 0.36, color=POSITIVE, label="positive spikes")
        axes.barh(rows + 0.2, negative, 0.36, left=positive, color=NEGATIVE, label="negative spikes")
        for row, plus, minus, count in zip(rows, positive, negative, neurons, strict=True):
            _beside_bar(axes, row - 0.2, count, f"{count:,.0f}", "0.4")
            _beside_bar(axes, row + 0.2, plus + minus, f"{plus:,.0f} + {minus:,.0f}", INK)
        axes.set_xlim(0, 1.4 * max(neurons.max(), (positive + negative).max()))
        _bar_rows(axes, names)
        axes.set_xlabel("Per image")
        _number_axis(axes)
        _legend_above(figure)
    return figure


def plot_operations(reports: Reports, path: str | Path | None = None, labels: Sequence[str] | None = None) -> "Figure":
    """Synaptic operations beside three times the ANN's multiply-accumulates, both without the first layer.

    A multiplication is taken as two additions, plus the addition itself (reference 4.11).
    """
    runs, names = _runs(reports, labels)
    spiking = np.array([_get(run, "synaptic_operations_per_sample", "total") for run in runs], dtype=float)
    dense = np.array([_get(r, "macs_per_sample", "total") - _get(r, "macs_per_sample", "first_layer") for r in runs])
    dense = 3.0 * dense
    places = np.maximum(spiking, 1), np.maximum(dense, 1)
    with _figure(path, 0.85 + 0.36 * len(runs)) as (figure, (axes,)):
        rows = np.arange(len(runs))
        axes.hlines(rows, *places, color="0.75", linewidth=1.0, zorder=1)
        axes.plot(places[0], rows, "o", color=POSITIVE, markersize=5, label="SNN: synaptic operations")
        axes.plot(places[1], rows, "s", color="0.45", markersize=4.5, label="ANN: 3 × MAC")
        for row, few, many in zip(rows, spiking, dense, strict=True):
            left, right = sorted((few, many))
            at_left, at_right = max(left, 1), max(right, 1)
            _beside_bar(axes, float(row), at_right, short_number(right), INK, away=6)
            axes.annotate(short_number(left), (at_left, row), (-6, 0), **_OFFSET, ha="right", va="center")
            if few > 0 and many > 0:
                middle = math.sqrt(few * many), row
                axes.annotate(_times(many / few), middle, (0, 6), **_OFFSET, ha="center", color="0.4")
        axes.set_xscale("log")
        _log_ticks(axes, [*spiking, *dense], room=0.3)
        _bar_rows(axes, names)
        axes.set_xlabel("Operations per image, without the first layer")
        _legend_above(figure)
    return figure


def plot_layers(reports: Reports, path: str | Path | None = None, labels: Sequence[str] | None = None) -> "Figure":
    """Spikes per image of every layer, by sign, and how many that is per neuron; one panel per run."""
    runs, names = _runs(reports, labels)
    layers = [[*_get(run, "spikes_per_sample", "per_layer")] for run in runs]
    height = 0.75 + sum(0.2 * len(rows) + 0.3 * (len(runs) > 1) for rows in layers)
    with _figure(path, height, rows=len(runs), sharex=True, height_ratios=[*map(len, layers)]) as (figure, panels):
        widest = max(sum(_by_sign(run, layer)) for run, rows in zip(runs, layers, strict=True) for layer in rows)
        for axes, run, rows, name in zip(panels, runs, layers, names, strict=True):
            for row, layer in enumerate(rows):
                plus, minus = _by_sign(run, layer)
                first = axes is panels[0] and row == 0
                axes.barh(row, plus, 0.62, color=POSITIVE, label="positive spikes" if first else None)
                axes.barh(row, minus, 0.62, left=plus, color=NEGATIVE, label="negative spikes" if first else None)
                neurons = run.get("neurons", {}).get("per_layer", {}).get(layer)
                share = f"  ({(plus + minus) / neurons:.2f} per neuron)" if neurons else ""
                _beside_bar(axes, row, plus + minus, f"{_count(plus + minus)}{share}", INK)
            _bar_rows(axes, rows)
            if len(runs) > 1:
                axes.set_title(name, loc="left", fontweight="bold")
        panels[-1].set_xlim(0, 1.7 * widest or 1)
        panels[-1].set_xlabel("Spikes per image")
        _number_axis(panels[-1])
        _legend_above(figure)
    return figure


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
    with _figure(path, 0.5 + 1.15 * len(panels), rows=len(panels), sharex=True) as (figure, all_axes):
        for axes, (quantity, title) in zip(all_axes, panels, strict=True):
            _training_panel(figure, axes, rows, quantity)
            axes.set_ylabel(title)
        figure.align_ylabels()
        all_axes[-1].set_xlabel("Epoch")
        _step_axis(all_axes[-1], len(rows))
    return figure


def plot_trade_off(
    reports: Reports,
    path: str | Path | None = None,
    labels: Sequence[str] | None = None,
    published: Sequence[tuple[str, float, float]] = (),
    legend: str = "",
) -> "Figure":
    """Accuracy against synaptic operations per image, one point per run.

    labels     what made the runs differ, such as the weight of the operation cost; ``legend`` says so in the figure
    published  (name, operations per image, accuracy 0 to 1) of other people's networks, drawn hollow
    """
    runs, names = _runs(reports, labels)
    cost = [max(1.0, _get(run, "synaptic_operations_per_sample", "total")) for run in runs]
    accuracy = [100 * float(_get(run, "accuracy")) for run in runs]
    with _figure(path, 2.4) as (figure, (axes,)):
        order = np.argsort(cost)
        axes.plot(np.take(cost, order), np.take(accuracy, order), "o-", color=POSITIVE, markersize=4, zorder=3)
        for x, y, name in zip(cost, accuracy, names, strict=True):
            _beside_point(axes, x, y, name, POSITIVE)
        for name, x, y in published:
            axes.plot([x], [100 * y], "D", color="0.45", markerfacecolor="white", markersize=4)
            _beside_point(axes, x, 100 * y, name, "0.4")
        axes.set_xscale("log")
        _log_ticks(axes, [*cost, *(x for _, x, _ in published)], room=0.12)
        axes.margins(y=0.18)
        axes.locator_params(axis="y", nbins=6)
        axes.set_xlabel("Synaptic operations per image")
        axes.set_ylabel("Accuracy (%)")
        if legend:
            axes.set_title(legend, loc="left", color=POSITIVE)
    return figure


def plot_cost(reports: Reports, path: str | Path | None = None, labels: Sequence[str] | None = None) -> "Figure":
    """Energy per image and weight memory: the ANN in float32 and in int8 beside the spiking network.

    Beside an ANN's number: how many times the spiking network's that is.
    """
    runs, names = _runs(reports, labels)
    energy = [_get(run, "energy_per_sample_joule") for run in runs]
    memory = [(run.get("weight_bytes_float32"), _get(run, "weight_bytes")) for run in runs]
    panels = (
        ("Energy per image", "J", [(joule.get("ann"), joule.get("ann_int8"), joule["snn"]) for joule in energy]),
        ("Weight memory", "B", [(floats, floats and floats / 4, stored) for floats, stored in memory]),
    )
    with _figure(path, 1.1 + 0.9 * len(runs), rows=2) as (figure, all_axes):
        for axes, (title, unit, bars) in zip(all_axes, panels, strict=True):
            _cost_bars(axes, bars, unit)
            _bar_rows(axes, names if len(names) > 1 else [""])
            axes.set_title(title, loc="left", fontweight="bold")
        _legend_above(figure)
    return figure


# ---------------------------------------------------------------- what a report says


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


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs, counted from 1, and values of the rows that have ``name``."""
    pairs = [(float(row.get("epoch", i)) + 1, float(row[name])) for i, row in enumerate(rows) if row.get(name)]
    return tuple(np.array(pairs, dtype=float).reshape(-1, 2).T)  # type: ignore[return-value]


# ---------------------------------------------------------------- numbers as text


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.2g}"


def short_number(value: float, unit: str = "") -> str:
    """Three digits and a prefix.

    >>> short_number(1511000), short_number(6.3e-08, "J"), short_number(999_999, "B"), short_number(7)
    ('1.51 M', '63.0 nJ', '1.00 MB', '7')
    """
    power = math.floor(math.log10(abs(float(f"{value:.3g}"))) / 3) if value else 0
    power = min(max(power, min(_PREFIXES)), max(_PREFIXES))
    number = value / 1000.0**power
    places = 2 - math.floor(math.log10(abs(number))) if number else 0
    digits = f"{number:.{max(0, min(places, 2))}f}" if power or number != int(number) else f"{number:.0f}"
    return f"{digits} {_PREFIXES[power]}{unit}".rstrip()


def _tick(value: float, unit: str = "") -> str:
    """``short_number`` without zeros at the end, for an axis."""
    digits, _, rest = short_number(value, unit).partition(" ")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return f"{digits} {rest}".rstrip()


def _times(value: float) -> str:
    return f"{value:.2g} ×" if value < 1 else f"{value:.1f} ×" if value < 10 else f"{value:,.0f} ×"


# ---------------------------------------------------------------- the parts of a figure


@contextmanager
def _figure(
    path: str | Path | None, height: float, rows: int = 1, **options: Any
) -> Iterator[tuple["Figure", list["Axes"]]]:
    """A figure of column width in the common style; written to ``path`` at the end, under its name only when whole."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, height), layout="constrained")
        yield figure, list(figure.subplots(rows, 1, squeeze=False, **options)[:, 0])
        if path is not None:
            _save(figure, Path(path))


def _save(figure: "Figure", path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        figure.savefig(temporary, format=path.suffix[1:] or "png")
        temporary.replace(path)
    except ValueError as error:
        raise SpikeletError(f"path: cannot write a figure as {path.suffix!r}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _accuracy_axis(
    axes: "Axes", accuracies: np.ndarray, samples: Sequence[Any], gap: float = 0.1
) -> Callable[[Any], Any]:
    """Scale y by -log10(error), so that 90, 99 and 99.9 % are equally far apart; returns the map to that scale."""
    floor = 0.5 / max([s for s in samples if s], default=1000)

    def to_axis(accuracy: Any) -> Any:
        return -np.log10(np.maximum(1 - np.asarray(accuracy, dtype=float), floor))

    low, high = float(to_axis(accuracies.min())), float(to_axis(accuracies.max()))
    margin = max(0.06 * (high - low), (0.4 - (high - low)) / 3)
    low, high = max(low - margin, -0.02), high + 2 * margin
    axes.set_yscale("function", functions=(to_axis, lambda y: 1 - 10.0 ** -np.asarray(y, dtype=float)))
    axes.set_ylim(1 - 10**-low, 1 - 10**-high)
    ticks = _accuracy_ticks(low, high, gap)
    axes.set_yticks(ticks, [f"{100 * tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    return to_axis


def _accuracy_ticks(low: float, high: float, gap: float) -> list[float]:
    """Round accuracies between -log10(error) ``low`` and ``high``, the roundest first, none closer than ``gap``."""
    chosen: list[float] = []
    for leading in (1, 5, 2, 3, 7, 4, 6, 8, 9):
        for decade in range(5):
            place = decade - math.log10(leading) + (1 if leading > 1 else 0)
            if low <= place <= high and all(abs(place - other) >= gap * (high - low) for other in chosen):
                chosen.append(place)
    return sorted(round(1 - 10**-place, 6) for place in chosen)


def _ring(axes: "Axes", run: Report, curve: np.ndarray, colour: str) -> str:
    """Mark T_conv on the curve; returns the words that say so at its end."""
    step = run.get("settled_step")
    if not step:
        return ""
    axes.plot([step], [curve[step - 1]], "o", color=colour, markersize=6, mfc="none", zorder=4, clip_on=False)
    return f"  ○ T = {step}"


def _end_labels(title: str, final: float, ann: float | None, colour: str, alone: bool) -> list[tuple[float, str, str]]:
    if ann is None:
        return [(final, f"{title}\n{_percent(final)}", colour)]
    if alone:
        return [(final, f"{title}\n{_percent(final)}", colour), (ann, f"ANN  {_percent(ann)}", "0.35")]
    if ann == final:
        return [(final, f"{title}\nSNN = ANN  {_percent(final)}", colour)]
    return [(final, f"{title}\nSNN  {_percent(final)}\nANN  {_percent(ann)}", colour)]


def _label_ends(
    figure: "Figure", axes: "Axes", ends: Sequence[tuple[float, str, str]], to_axis: Callable[[Any], Any]
) -> None:
    """Name every curve at its right end, moved apart where two would overlap."""
    low, high = (float(to_axis(limit)) for limit in axes.get_ylim())
    places = [(float(to_axis(value)) - low) / (high - low) for value, _, _ in ends]
    line = 0.126 / (figure.get_figheight() / len(figure.axes) - 0.25)  # 7 points, as a fraction of the axes
    tall = [line * (1 + text.count("\n")) + 0.25 * line for _, text, _ in ends]
    for place, (_, text, colour) in zip(_spread(places, tall), ends, strict=True):
        axes.text(1.03, place, text, color=colour, transform=axes.transAxes, va="center", linespacing=1.1, fontsize=7)


def _spread(places: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """The places in their order, pushed apart until things of these sizes do not overlap, the highest below 1.05."""
    order = [int(i) for i in np.argsort(places, kind="stable")]
    moved = [float(place) for place in places]
    for _ in range(200):
        for lower, upper in pairwise(order):
            short = (sizes[lower] + sizes[upper]) / 2 - (moved[upper] - moved[lower])
            if short > 1e-9:
                moved[lower], moved[upper] = moved[lower] - short / 2, moved[upper] + short / 2
        moved[order[-1]] = min(moved[order[-1]], 1.05 - sizes[order[-1]] / 2)
    return moved


def _training_panel(figure: "Figure", axes: "Axes", rows: Sequence[Mapping[str, Any]], quantity: str) -> None:
    parts = [
        (part, colour, *_column(rows, f"{part}_{quantity}")) for part, colour in (("train", "0.55"), ("val", POSITIVE))
    ]
    parts = [part for part in parts if len(part[2])]
    to_axis: Callable[[Any], Any] = lambda value: value  # noqa: E731
    if quantity == "accuracy":
        to_axis = _accuracy_axis(axes, np.concatenate([values for *_, values in parts]), [], gap=0.2)
    for _, colour, epochs, values in parts:
        axes.plot(epochs, values, "o-" if len(epochs) < 30 else "-", color=colour, clip_on=False)
    if quantity != "accuracy":
        axes.set_ylim(0, 1.08 * max(values.max() for *_, values in parts))
    words = {"train": "training", "val": "validation"}
    shown = {"accuracy": lambda v: _percent(v), "loss": lambda v: f"{v:.3f}", "operations": lambda v: f"{v:.3g} M"}
    _label_ends(figure, axes, [(v[-1], f"{words[p]}  {shown[quantity](v[-1])}", c) for p, c, _, v in parts], to_axis)


def _cost_bars(axes: "Axes", rows: Sequence[tuple[float | None, ...]], unit: str) -> None:
    """Three bars for every run, with the numbers written, because the last is often too short to see."""
    kinds = (("ANN, float32", "#8C8C8C"), ("ANN, int8", "#C8C8C8"), ("SNN", POSITIVE))
    for i, (label, colour) in enumerate(kinds):
        drawn = [(row + 0.26 * (i - 1), values[i], values[-1]) for row, values in enumerate(rows)]
        known = [(row, value, snn) for row, value, snn in drawn if value is not None and snn is not None]
        axes.barh([row for row, _, _ in known], [value for _, value, _ in known], 0.24, color=colour, label=label)
        for row, value, snn in known:
            times = f"  ({_times(value / snn)})" if label != "SNN" and snn else ""
            _beside_bar(axes, row, value, short_number(value, unit) + times, INK if label == "SNN" else "0.4")
    axes.set_xlim(0, 1.35 * max(value for values in rows for value in values if value is not None) or 1)
    axes.xaxis.set_major_formatter(lambda value, _: _tick(value, unit))
    axes.locator_params(axis="x", nbins=4)


def _beside_bar(axes: "Axes", row: float, end: float, text: str, colour: str, away: float = 3) -> None:
    axes.annotate(text, (end, row), (away, 0), **_OFFSET, va="center", color=colour)


def _beside_point(axes: "Axes", x: float, y: float, text: str, colour: str) -> None:
    axes.annotate(text, (x, y), (-4, 3), **_OFFSET, ha="right", color=colour)


def _bar_rows(axes: "Axes", names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _number_axis(axes: "Axes") -> None:
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.locator_params(axis="x", nbins=5)


def _step_axis(axes: "Axes", last: int) -> None:
    axes.set_xlim(0.5, last + 0.3)
    axes.locator_params(axis="x", integer=True, nbins=8)


def _log_ticks(axes: "Axes", values: Sequence[float], room: float) -> None:
    """1, 2, 5 of every decade (1 alone where they are many); ``room`` is the share that stays free at each end."""
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = max(min(values), 1.0), max(*values, 1.0)
    free = max((high / low) ** room, 1 + 4 * room)
    axes.set_xlim(low / free, high * free)
    decades = math.log10(high / low * free**2)
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if decades > 2 else (1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: _tick(value))


def _legend_above(figure: "Figure") -> None:
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
