"""Figures from reports with realistic numbers (LeNet-D's published ones among them), from spikes and histories."""

import csv
import io
import json
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from spikelet import plots, report
from spikelet.errors import SpikeletError
from spikelet.plots.axes import accuracy_ticks, decades_axis, spread

LAYERS = {"20C5": 11520, "P2": 2880, "50C5": 3200, "P2_2": 800, "500C4": 500}
ROWS = [
    {"epoch": str(i), "train_loss": f"{1 / (i + 1)}", "train_accuracy": f"{0.99 - 0.1 / (i + 1)}", "val_loss": ""}
    for i in range(5)
]


def make_exit(accuracy, operations):
    steps = np.arange(1, len(accuracy) + 1)
    curve = {"threshold": [*map(float, steps)], "accuracy": list(accuracy), "mean_steps": [*map(float, steps)]}
    curve["synaptic_operations_per_sample"] = [float(operations * t / len(steps)) for t in steps]
    point = {name: values[-1] for name, values in curve.items() if name != "threshold"}
    return {"rule": "margin", "threshold": 9, "energy_per_sample_joule": 1e-7, "curve": curve, **point}


def make_report(accuracy=(0.85, 0.988, 0.9929, 0.9929), positive=7610.0, negative=751.0, operations=1.511e6, **more):
    share = {"positive": positive / 5, "negative": negative / 5}
    return {
        "recipe": "mnist-lenet",
        "accuracy": accuracy[-1],
        "accuracy_per_step": list(accuracy),
        "num_steps": len(accuracy),
        "settled_step": min(3, len(accuracy)),
        "ann_accuracy": accuracy[-1],
        "num_samples": 10_000,
        "spikes_per_sample": {
            "positive": positive,
            "negative": negative,
            "total": positive + negative,
            "per_layer": dict.fromkeys(LAYERS, share),
        },
        "neurons": {"total": 18_900, "per_layer": LAYERS},
        "synaptic_operations_per_sample": {
            "total": operations,
            "per_step": [operations / len(accuracy)] * len(accuracy),
        },
        "macs_per_sample": {"total": 2_683_400, "first_layer": 288_000},
        "energy_per_sample_joule": {"ann": 1.2e-5, "ann_int8": 6e-7, "snn": 2.2e-7, "table": {}},
        "weight_bytes": 132_000,
        "weight_bytes_float32": 2_000_000,
        "agreement": {"snn_vs_integer_ann": 1.0},
        "exit": make_exit(accuracy, operations),
        **more,
    }


ONE = make_report()
SEVERAL = [ONE, make_report((0.2, 0.9, 0.98, 0.9932), 16336.0, 2246.0, 3.256e6), make_report(ann_accuracy=0.99)]
OF_REPORTS = [
    plots.plot_accuracy,
    plots.plot_spikes,
    plots.plot_operations,
    plots.plot_layers,
    plots.plot_trade_off,
    plots.plot_cost,
    plots.plot_exit,
]


def is_png(path: Path) -> bool:
    content = path.read_bytes()
    return content.startswith(b"\x89PNG") and len(content) > 5000


def texts(figure) -> list[str]:
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    return found + [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]


@pytest.mark.parametrize("plot", OF_REPORTS)
@pytest.mark.parametrize("reports", [ONE, SEVERAL], ids=["one", "several"])
def test_every_figure_is_written(plot, reports, tmp_path):
    before = dict(matplotlib.rcParams)
    path = tmp_path / "new folder" / "figure.png"
    figure = plot(reports, path)
    assert is_png(path)
    assert [p.name for p in path.parent.iterdir()] == ["figure.png"]
    assert figure.get_figwidth() == plots.COLUMN
    assert dict(matplotlib.rcParams) == before


@pytest.mark.filterwarnings("error")
def test_the_frontier(tmp_path):
    slow = make_report((0.2, 0.9, 0.993), operations=3e6, settled_step=3)
    first, second, third, early = found = plots.operating_points(slow)
    assert [(p.operations, p.steps) for p in found] == [(1e6, 1), (2e6, 2), (3e6, 3), (3e6, 3)]  # the last: by its rule
    cheap = plots.OperatingPoint(1.5e6, 3.0, 0.95)
    assert plots.pareto_front([*found, cheap], "operations") == [first, cheap, third] and third == early
    assert plots.pareto_front([*found, cheap], "steps") == [first, second, third]
    perfect, poor, silent = make_report((0.9, 1.0)), make_report((0.1, 0.1)), make_report((0.99,), operations=0.0)
    figure = plots.plot_frontier({"a": [slow, silent], "b": [ONE, perfect], "c": [poor]}, tmp_path / "figure.png")
    assert is_png(tmp_path / "figure.png")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["b"]  # the others err too often
    with pytest.raises(SpikeletError, match="groups: expected at least one report, got none"):
        plots.plot_frontier({"a": []})
    with pytest.raises(SpikeletError, match="networks that send spikes"):
        plots.plot_frontier({"a": [silent]})


@pytest.mark.parametrize("plot", OF_REPORTS)
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "extreme",
    [
        make_report((0.0,), 0.0, 0.0, 0.0, energy_per_sample_joule={"ann": 0.0, "snn": 0.0}, weight_bytes=0),
        make_report((1.0, 1.0), 1e6, 1e6, 1e12),
        make_report((0.1,), macs_per_sample={"total": 10, "first_layer": 10}),
    ],
    ids=["dead", "perfect", "one layer"],
)
def test_extreme_reports_are_drawn_without_a_warning(plot, extreme, tmp_path):
    plot(extreme, tmp_path / "figure.png")
    assert is_png(tmp_path / "figure.png")


def test_figures_say_their_numbers():
    assert "7,610 + 751" in texts(plots.plot_spikes(ONE))
    assert "18,900" in texts(plots.plot_spikes(ONE))
    assert {"1.51 M", "7.19 M", "4.8 ×"} <= set(texts(plots.plot_operations(ONE)))
    assert "SNN  ○ T = 3\n99.29 %" in texts(plots.plot_accuracy(ONE))
    assert "ANN  99.29 %" in texts(plots.plot_accuracy(ONE))
    assert "k = 2  ○ T = 3\nSNN  99.29 %\nANN  99.00 %" in texts(
        plots.plot_accuracy(SEVERAL, labels=["a", "b", "k = 2"])
    )
    assert {"12.0 µJ  (55 ×)", "220 nJ", "132 kB"} <= set(texts(plots.plot_cost(ONE)))


def test_a_point_of_several_seeds_is_their_mean_with_a_bar(tmp_path):
    groups = [
        ("float", [make_report((0.99,), weight_bytes=2_000_000)]),
        ("cbp_binary", [make_report((accuracy,), weight_bytes=62_500) for accuracy in (0.96, 0.97, 0.98)]),
    ]
    figure = plots.plot_memory(groups, tmp_path / "memory.png", legend="weights")
    assert is_png(tmp_path / "memory.png")
    points = [line.get_xydata().tolist()[0] for line in figure.axes[0].lines]
    assert points == [[2_000_000, 0.99], [62_500, pytest.approx(0.97)]]
    bars = [bar.get_segments()[0].tolist() for bar in figure.axes[0].collections]
    assert bars == [[[2_000_000, 0.99]] * 2, [[62_500, 0.96], [62_500, 0.98]]]
    assert {"float  99.00 %", "cbp_binary  97.00 %"} <= set(texts(figure)) and titles(figure)[0] == "weights"
    figure.draw_without_rendering()
    assert {"100 kB", "1 MB"} <= {label.get_text() for label in figure.axes[0].get_xticklabels()}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("accuracy, stored", [((0.0,), 0), ((1.0, 1.0), 10**12)])
def test_extreme_memory_is_drawn_without_a_warning(accuracy, stored, tmp_path):
    plots.plot_memory([("a", [make_report(accuracy, weight_bytes=stored)])], tmp_path / "memory.png")
    assert is_png(tmp_path / "memory.png")


def test_published_points_and_labels_of_the_trade_off():
    figure = plots.plot_trade_off(SEVERAL, labels=["0", "0.1", "0.5"], published=[("LeNet-D", 1.5e6, 0.9929)])
    assert {"0", "0.1", "0.5", "LeNet-D"} <= set(texts(figure))


def test_accuracy_ticks_are_round_and_apart():
    assert accuracy_ticks(0.0, 3.0, 0.1) == [0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999]


def gap(moved: list[float]) -> float:
    return min(b - a for a, b in pairwise(sorted(moved)))


def test_labels_at_the_end_never_overlap():
    moved = spread([0.9, 0.91, 0.905, 0.2], [0.1] * 4)
    assert moved[3] == 0.2
    assert sorted(range(4), key=moved.__getitem__) == [3, 0, 2, 1]
    assert gap(moved) >= 0.0999
    low = spread([0.0, 0.01, 0.02, 0.03], [0.1] * 4)
    assert min(low) >= -1e-9 and gap(low) >= 0.0999


def test_training_figure_leaves_out_what_is_missing(tmp_path):
    figure = plots.plot_training(ROWS, tmp_path / "training.png")
    assert is_png(tmp_path / "training.png")
    assert len(figure.axes) == 2
    assert not any("validation" in text for text in texts(figure))
    validated = [{**row, "val_accuracy": "0.9", "train_operations": "0.4"} for row in ROWS]
    assert len(plots.plot_training(validated).axes) == 3


def constrained(failures: list[float]) -> list[dict[str, str]]:
    """Rows of metrics.csv as constrained backpropagation logs them."""
    return [
        {
            **ROWS[0],
            "epoch": str(i),
            "constraint_failure": f"{cfs:.6g}",
            "window": str(i + 1),
            "multiplier": f"{i / 1e4}",
        }
        for i, cfs in enumerate(failures)
    ]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("failures", "said"),
    [([0.1, 0.05], "0.05"), ([0.1, 0.01, 0.0012], "0.0012"), ([0.1, 0.001, 0], "0"), ([0, 0], "0"), ([0.1], "0.1")],
)
def test_constraints_over_the_epochs(failures, said, tmp_path):
    figure = plots.plot_constraints(constrained(failures), tmp_path / "constraints.png")
    assert is_png(tmp_path / "constraints.png")
    assert [axes.get_ylabel() for axes in figure.axes] == ["CFS", "Window g", "Mean |λ|"]
    assert [axes.texts[0].get_text() for axes in figure.axes[:2]] == [said, str(len(failures))]
    drawn = [axes.lines[0].get_xydata().tolist() for axes in figure.axes]
    assert drawn[0] == [[i + 1, cfs] for i, cfs in enumerate(failures)]


def test_histories_of_several_stages_share_an_axis(tmp_path):
    stages = [{"train_accuracy": [0.2, 0.4], "constraint_failure": [0.1, 0.01]}, {"train_accuracy": [0.5]}]
    figure = plots.plot_histories({"a": stages, "b": [{"train_accuracy": [0.3]}]}, tmp_path / "histories.png")
    accuracy, failure = figure.axes
    first, second = (line.get_xydata().tolist() for line in accuracy.get_lines())
    assert [x for x, y in first if y == y] == [1, 2, 3] and first[2][0] == 2.5 and second == [[1, 0.3]]
    assert [len(line.get_xydata()) for line in failure.get_lines()] == [2]
    with pytest.raises(SpikeletError, match="runs: expected train_accuracy"):
        plots.plot_histories({"a": []})


def test_constraints_leave_out_what_is_missing():
    rows = [{**row, "multiplier": "", "constraint_failure": "nan"} for row in constrained([0.1])] + constrained([0.1])
    figure = plots.plot_constraints([{k: v for k, v in row.items() if k != "window"} for row in rows])
    assert [axes.get_ylabel() for axes in figure.axes] == ["CFS", "Mean |λ|"]
    assert all(len(axes.lines[0].get_xdata()) == 1 for axes in figure.axes)
    for rows in ([], ROWS):
        with pytest.raises(SpikeletError, match="rows: expected columns such as constraint_failure, got"):
            plots.plot_constraints(rows)


@settings(max_examples=30)
@given(values=st.lists(st.one_of(st.just(0.0), st.floats(1e-12, 1e3)), min_size=1, max_size=6))
def test_an_axis_by_decades_has_room_for_everything(values):
    axes, values = Figure().subplots(), np.array(sorted(values))
    to_axis = decades_axis(axes, values)
    places, (low, high) = [float(to_axis(value)) for value in values], map(float, map(to_axis, axes.get_ylim()))
    assert places == sorted(places) and low <= places[0] and places[-1] < high
    positive = values[values > 0]
    wide = len(positive) > 0 and positive[-1] > 10 * positive[0]
    assert axes.get_yscale() == ("symlog" if wide else "linear")
    if wide:
        ticks = [float(to_axis(tick)) for tick in axes.get_yticks()]
        assert len(ticks) == len(set(axes.get_yticklabels())) <= 9 and all(low <= tick <= high for tick in ticks)
        tenfold = float(to_axis(10 * positive[0])) - float(to_axis(positive[0]))
        assert float(to_axis(positive[-1])) - float(to_axis(positive[-1] / 10)) == pytest.approx(tenfold, rel=1e-3)


def trains(num_steps: int = 20, neurons: int = 10, share: float = 0.2) -> np.ndarray:
    return (np.random.default_rng(1).random((num_steps, neurons)) < share).astype(np.float32)


def titles(figure) -> list[str]:
    return [axes.get_title(loc) for axes in figure.axes for loc in ("left", "right")]


def test_raster_says_what_it_leaves_out(tmp_path):
    big = trains(neurons=6912)
    figure = plots.raster({"12C5": big, "FC10": trains()}, tmp_path / "raster.png")
    assert is_png(tmp_path / "raster.png")
    assert titles(figure) == [
        "12C5",
        f"40 of 6,912 neurons, rate {100 * big.mean():.2g} %",
        "FC10",
        f"10 neurons, rate {100 * trains().mean():.2g} %",
    ]
    positive, negative = figure.axes[0].lines
    chosen = np.linspace(0, 6911, 40).round().astype(int)
    assert len(positive.get_xdata()) == big[:, chosen].sum() and len(negative.get_xdata()) == 0
    assert not figure.legends
    assert figure.axes[-1].get_xlabel() == "Time step"


def test_raster_of_signed_spikes_has_a_legend_and_milliseconds():
    figure = plots.raster({"a": torch.tensor([[1, -1], [0, 0], [0, -1]], dtype=torch.bfloat16)}, dt_ms=5.0)
    positive, negative = figure.axes[0].lines
    assert positive.get_xydata().tolist() == [[0, 0]]
    assert negative.get_xydata().tolist() == [[0, 1], [2, 1]]
    assert len(figure.legends) == 1
    assert figure.axes[0].get_xlabel() == "Time (ms)"
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert [float(tick) for tick in ticks] == [5 * place for place in figure.axes[0].get_xticks()]


@pytest.mark.parametrize("num_steps", [1, 12, 300])
def test_animation_has_a_frame_per_step_and_ends_with_the_counts(num_steps, tmp_path):
    spikes = trains(num_steps)
    spikes[0], spikes[:, 7] = 0, 1
    before = dict(matplotlib.rcParams)
    figure = plots.spike_bar_animation(torch.tensor(spikes), 7, tmp_path / "new" / "bars_7.gif", dt_ms=1.0)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["bars_7.gif", "bars_7.png"]
    assert is_png(tmp_path / "new" / "bars_7.png")
    assert dict(matplotlib.rcParams) == before
    with Image.open(tmp_path / "new" / "bars_7.gif") as gif:
        shown = getattr(gif, "n_frames", 1)
        assert gif.format == "GIF" and gif.size[0] == 700
        assert gif.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
        assert shown == min(num_steps, 100)
        assert gif.info.get("loop", 0) == 0
    assert [text.get_text() for text in figure.axes[1].texts] == [f"{count:.0f}" for count in spikes.sum(0)]
    assert titles(figure) == ["True class: 7", f"t = {num_steps - 1} ms", "Answer: 7", ""]


def test_animation_tells_silence_mistakes_and_names():
    spikes = np.zeros((5, 3))
    names = ["cat", "dog", "cow"]
    assert plots.spike_bar_animation(spikes, 0).axes[1].get_title("left") == "Answer: none yet"
    spikes[3, 1:] = 1
    figure = plots.spike_bar_animation(spikes, 2, classes=names)
    assert titles(figure) == ["True class: cow", "t = 4", "Answer: dog", ""]  # of equals the lowest
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == names
    assert to_hex(figure.axes[1].patches[1].get_facecolor()) != to_hex(figure.axes[1].patches[2].get_facecolor())


def test_animation_of_many_classes_keeps_the_true_one_and_says_so():
    spikes = trains(neurons=100)
    spikes[:, 42] = 0
    axes = plots.spike_bar_animation(spikes, 42).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) == 20 and "42" in names and axes.get_ylabel() == "20 of 100 classes"
    assert str(spikes.sum(0).argmax()) in names


def test_firing_rates_leave_out_what_is_missing(tmp_path):
    history = [{"conv": 0.2, "out": 0.1}, {"conv": 0.1, "out": float("nan")}, {"conv": 0.05}]
    figure = plots.firing_rates(history, tmp_path / "rates.png")
    assert is_png(tmp_path / "rates.png")
    conv, out = figure.axes[0].lines
    assert conv.get_xydata().tolist() == [[1, 20], [2, 10], [3, 5]]
    assert out.get_xydata().tolist() == [[1, 10]]
    assert {"conv  5 %", "out  10 %"} <= set(texts(figure))
    many = plots.firing_rates([{f"layer {i}": 0.0 for i in range(12)}])
    assert len({str(line.get_color()) for line in many.axes[0].lines}) == 12


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda p: plots.raster({}, p), "layers: expected at least one"),
        (lambda p: plots.raster({"a": np.zeros((2, 3, 4))}, p), r"layers\['a'\]: expected spikes \[T, neurons\]"),
        (lambda p: plots.raster({"a": np.zeros((0, 3))}, p), r"layers\['a'\].*\(0, 3\)"),
        (lambda p: plots.raster({"a": np.full((2, 3), 0.5)}, p), "whole numbers, got values such as 0.5"),
        (lambda p: plots.raster({"a": np.full((2, 3), np.nan)}, p), "whole numbers, got values such as nan"),
        (lambda p: plots.raster({"a": trains(3), "b": trains(4)}, p), "same T"),
        (lambda p: plots.raster({"a": trains()}, p, shown=1), "shown"),
        (lambda p: plots.raster({"a": trains()}, p, dt_ms=0.0), "dt_ms"),
        (lambda p: plots.spike_bar_animation(np.zeros((3, 1, 10)), 0, p), r"spikes: expected spikes \[T, C\]"),
        (lambda p: plots.spike_bar_animation(np.zeros((0, 10)), 0, p), r"spikes.*\(0, 10\)"),
        (lambda p: plots.spike_bar_animation(trains(), 10, p), "label: expected a class from 0 to 9, got 10"),
        (lambda p: plots.spike_bar_animation(trains(), 0, p, classes=["a"]), "classes: expected one name"),
        (lambda p: plots.spike_bar_animation(trains(), 0, p, dt_ms=-1.0), "dt_ms"),
        (lambda p: plots.spike_bar_animation(trains(), 0, p.with_suffix(".mp4")), "ends in .gif, got 'out.mp4'"),
        (lambda p: plots.firing_rates([], p), "history: expected at least one epoch"),
        (lambda p: plots.firing_rates([{}], p), "at least one layer"),
        (lambda p: plots.firing_rates([{"a": -0.1}], p), "'a'"),
    ],
)
def test_bad_spikes_and_histories_are_named(call, named, tmp_path):
    with pytest.raises(SpikeletError, match=named):
        call(tmp_path / "out.gif")
    assert not list(tmp_path.iterdir())


def test_other_formats_by_suffix(tmp_path):
    plots.plot_spikes(ONE, tmp_path / "figure.pdf")
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(SpikeletError, match=r"\.docx"):
        plots.plot_spikes(ONE, tmp_path / "figure.docx")
    assert [p.name for p in tmp_path.iterdir()] == ["figure.pdf"]


def test_bad_arguments_are_named():
    with pytest.raises(SpikeletError, match="reports"):
        plots.plot_accuracy([])
    with pytest.raises(SpikeletError, match="groups"):
        plots.plot_memory([])
    with pytest.raises(SpikeletError, match=r"report: weight_bytes is missing"):
        plots.plot_memory([("a", [{"accuracy": 0.5}])])
    with pytest.raises(SpikeletError, match="labels"):
        plots.plot_accuracy(SEVERAL, labels=["only one"])
    with pytest.raises(SpikeletError, match=r"spikes_per_sample\.positive"):
        plots.plot_spikes({"recipe": "x"})
    with pytest.raises(SpikeletError, match="rows"):
        plots.plot_training([])
    with pytest.raises(SpikeletError, match="train_loss"):
        plots.plot_training([{"epoch": "0"}])


def make_run(folder: Path, content: dict, rows: list | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(content))
    if rows:
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return folder


def test_run_folder_to_figures(tmp_path):
    paths = report.write_figures(make_run(tmp_path / "run", ONE, ROWS))
    assert {p.stem for p in paths} == {"accuracy", "spikes", "operations", "layers", "exit", "cost", "training"}
    assert all(is_png(p) and p.parent == tmp_path / "run" / "figures" for p in paths)


def test_a_run_with_constraints_has_their_figure(tmp_path):
    paths = report.write_figures(make_run(tmp_path / "run", {"accuracy": 0.9}, constrained([0.1, 0.001])))
    assert {p.stem for p in paths} == {"training", "constraints"} and all(map(is_png, paths))


def test_an_ann_alone_gets_the_figures_it_has_numbers_for(tmp_path):
    ann = {"accuracy": 0.99, "ann_accuracy": 0.99, "energy_per_sample_joule": {"ann": 1e-5}, "weight_bytes": 40}
    assert [p.stem for p in report.write_figures(make_run(tmp_path / "run", ann, ROWS))] == ["training"]


def test_runs_of_a_sweep_in_one_figure(tmp_path):
    runs = [
        make_run(tmp_path / f"lenet-s1,train.operation_cost={weight}", content)
        for weight, content in zip((0, 0.1, 0.5), SEVERAL, strict=True)
    ]
    paths = report.compare(runs, tmp_path / "together")
    assert {p.stem for p in paths} == {"accuracy", "spikes", "operations", "layers", "exit", "cost", "trade_off"}
    assert all(map(is_png, paths))
    with pytest.raises(SpikeletError, match="at least two"):
        report.compare(runs[:1], tmp_path / "alone")
    with pytest.raises(SpikeletError, match="at least two"):
        report.comparison_table(runs[:1])


def quantized(weights: str, seed: int, accuracy: float, stored: int) -> dict:
    cost = {
        "weight_bytes": stored,
        "weight_bytes_float32": 2_000_000,
        "synaptic_operations_per_sample": {"total": 1.511e6},
    }
    return {"accuracy": accuracy, "seed": seed, "config": {"model": {"weights": weights}}} | cost


def low_bit_runs(folder: Path) -> list[Path]:
    """Two kinds of weights, two seeds each."""
    return [
        make_run(folder / f"stbp-s{seed},model.weights={weights}", quantized(weights, seed, accuracy, stored))
        for weights, stored, accuracies in (("float", 2_000_000, (0.98, 0.982)), ("cbp_binary", 62_500, (0.96, 0.97)))
        for seed, accuracy in enumerate(accuracies, 1)
    ]


def cells(table) -> list[list[str]]:
    """Those of every line of a table, title and header included."""
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table)
    lines = [line.split("  ") for line in console.export_text().splitlines()]
    return [[cell.strip() for cell in line if cell.strip()] for line in lines]


def test_runs_that_differ_only_in_their_seed_are_one_row_and_one_point(tmp_path):
    runs = low_bit_runs(tmp_path)
    assert cells(report.comparison_table(runs)) == [
        ["4 runs"],
        ["weights", "seeds", "accuracy", "weight memory", "of float32", "operations"],
        ["float", "2", "98.10 ± 0.14 %", "2.00 MB", "100 %", "1.51 M add"],
        ["cbp_binary", "2", "96.50 ± 0.71 %", "62.5 kB", "3.12 %", "1.51 M add"],
    ]
    paths = report.compare(runs, tmp_path / "together")
    assert {path.stem for path in paths} == {"trade_off", "memory"} and all(map(is_png, paths))


def test_a_table_of_conversions_has_no_empty_column(tmp_path):
    runs = [make_run(tmp_path / f"lenet-d-k{k}-s1", quantized("ternary", 1, 0.99, 132_000)) for k in (0, 1)]
    runs.append(make_run(tmp_path / "relu-s1", {"accuracy": 0.995, "weight_bytes": 2_000_000, "seed": 1}))
    assert cells(report.comparison_table(runs)) == [
        ["3 runs"],
        ["run", "weights", "accuracy", "weight memory", "of float32", "operations"],
        ["lenet-d-k0", "ternary", "99.00 %", "132 kB", "6.6 %", "1.51 M add"],
        ["lenet-d-k1", "ternary", "99.00 %", "132 kB", "6.6 %", "1.51 M add"],
        ["relu", "-", "99.50 %", "2.00 MB", "-", "-"],
    ]


def test_equal_names_of_different_networks_are_not_averaged(tmp_path):
    """Evaluations are named after what was changed, whatever network they are of."""
    runs = [
        make_run(tmp_path / name / "num_steps=2", quantized(weights, seed, 0.9, 132_000))
        for name, weights, seed in (("a-s1", "ternary", 1), ("a-s2", "ternary", 2), ("b-s1", "uniform8", 1))
    ]
    assert [row[:3] for row in cells(report.comparison_table(runs))[2:]] == [
        ["num_steps=2", "ternary", "2"],
        ["num_steps=2", "uniform8", "-"],
    ]


@settings(max_examples=30)
@given(runs=st.permutations([(k, seed) for k in range(3) for seed in (1, 2, 10)]))
def test_the_order_of_the_runs_changes_no_group(runs):
    names = [f"lenet-s{seed},model.k={k}" for k, seed in runs]
    reports = [{"seed": seed, "config": {"model": {"k": k}, "seed": seed}} for k, seed in runs]
    swept, groups = report._groups(names, reports)
    found = {value: sorted(run["seed"] for run in together) for value, together in groups}
    assert swept == "k" and found == {str(k): [1, 2, 10] for k in range(3)}
    assert all(str(run["config"]["model"]["k"]) == value for value, together in groups for run in together)


@pytest.mark.parametrize(
    ("shape", "panels"),
    [((6, 2, 10, 12), 12), ((4, 2, 128, 96), 8), ((50, 1, 1, 700), 2), ((1, 1, 8, 8), 2), ((1, 3, 32, 32), 2)],
)
def test_frames_have_a_panel_each(shape, panels, tmp_path):
    frames = np.random.default_rng(0).integers(0, 3, (2, *shape)).astype(np.uint8)
    figure = plots.plot_frames({"left": frames[0], "right": torch.from_numpy(frames[1])}, tmp_path / "f.png")
    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == panels and (tmp_path / "f.png").stat().st_size > 1000
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["left", "right"]
    assert all(max(axes.images[0].get_array().shape[:2]) <= 64 for axes in drawn)


def test_frames_are_inked_by_polarity():
    frames = np.zeros((1, 2, 2, 3), np.uint8)
    frames[0, 1, 0, 2], frames[0, 0, 1, 0] = 9, 9
    picture = plots.plot_frames({"": frames}).axes[0].images[0].get_array()
    inks = {(y, x): to_hex(picture[y, x]).upper() for y in range(2) for x in range(3)}
    assert inks.pop((0, 2)) == plots.POSITIVE and inks.pop((1, 0)) == plots.NEGATIVE
    assert set(inks.values()) == {"#FFFFFF"}
    channel = np.zeros((5, 1, 1, 4), np.uint8)
    channel[3, 0, 0, 1] = 1  # time runs to the right, channels upwards
    line = plots.plot_frames({"": channel}).axes[0].images[0].get_array()
    assert line.shape == (4, 5, 3) and np.argwhere((line < 1).any(2)).tolist() == [[2, 3]]


@pytest.mark.parametrize(
    "samples", [{}, {"a": np.zeros((2, 3))}, {"a": np.zeros((1, 4, 2, 2))}, {"a": np.zeros((1, 2, 0, 2))}]
)
def test_what_is_no_frame_is_named(samples):
    with pytest.raises(SpikeletError, match="samples: expected"):
        plots.plot_frames(samples)
    both = {"a": np.zeros((1, 2, 2, 2)), "b": np.zeros((2, 2, 2, 2))}
    with pytest.raises(SpikeletError, match=r"samples: expected frames \[T, P, H, W\] of one shape"):
        plots.plot_frames(both)


def test_a_folder_without_a_report_says_what_to_run(tmp_path):
    with pytest.raises(SpikeletError, match="spikelet evaluate"):
        report.write_figures(tmp_path)
    for damaged in ("{", "[]"):
        (tmp_path / "report.json").write_text(damaged)
        with pytest.raises(SpikeletError, match="spikelet evaluate"):
            report.write_figures(tmp_path)
    assert not (tmp_path / "figures").exists()


def test_summary_table_puts_ann_and_snn_side_by_side():
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(report.summary_table(ONE))
    shown = console.export_text()
    for words in (
        "99.29 %",
        "3 (of 4)",
        "8,361 (751 negative)",
        "1.51 M add",
        "2.68 M MAC",
        "220 nJ",
        "132 kB",
        "100.00 %",
    ):
        assert words in shown
    console.print(report.summary_table({"accuracy": 0.9, "ann_accuracy": 0.9}))
    assert "90.00 %" in console.export_text()
    rested = {"agreement": {"snn_vs_integer_ann": 1.0, "answers": 1.0, "answers_float": 1.0}}
    console.print(report.summary_table(ONE | rested | {"ann_accuracy": 0.5}))  # it will answer otherwise
    assert "more than 4" in console.export_text()


def recording(num=2000):
    rng = np.random.default_rng(1)
    events = np.zeros(num, [("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", "i1")])
    events["t"] = np.sort(rng.integers(5_000, 305_000, num))
    events["x"], events["y"], events["p"] = rng.integers(0, 34, num), rng.integers(0, 20, num), rng.random(num) < 0.7
    return events


def test_a_recording_moves(tmp_path):
    events = recording()
    frames = plots.recording_animation(events, tmp_path / "r.gif", (34, 34, 2), frame_us=10_000)
    assert frames.shape == (30, 34, 34, 3) and frames.dtype == np.uint8
    coloured = (frames < 255).any(-1)
    seen = np.zeros_like(coloured)
    seen[(events["t"] - events["t"][0]) // 10_000, events["y"], events["x"]] = True
    assert np.array_equal(coloured, seen)
    with Image.open(tmp_path / "r.gif") as movie:
        assert movie.n_frames == 30 and movie.size == (272, 272)


def test_event_rates_add_up(tmp_path):
    events = recording()
    (axes,) = plots.event_rates(events, tmp_path / "rates.png", bin_us=1_000).axes
    totals = [patch.get_data().values.sum() / 1_000 for patch in axes.patches]
    assert totals == [(events["p"] == 1).sum(), (events["p"] == 0).sum()]


@pytest.mark.parametrize(
    ("events", "more", "said"),
    [
        (recording(0), {}, "events: expected at least one"),
        (recording()[::-1], {}, "events: expected times that never run back"),
        (recording(), {"sensor_size": (20, 34, 2)}, "outside the sensor of 20 x 34"),
        (recording(), {"frame_us": 0}, "expected at least 1, got 0"),
        (recording(), {"path": "r.png"}, "path: expected a name that ends in .gif"),
    ],
)
def test_what_is_no_recording_is_refused(events, more, said, tmp_path):
    with pytest.raises(SpikeletError, match=said):
        plots.recording_animation(events, **({"path": tmp_path / "r.gif"} | more))
    assert not [*tmp_path.iterdir()]
