"""Figures and the table from reports with realistic numbers (LeNet-D's published ones among them)."""

import csv
import io
import json
from pathlib import Path

import matplotlib
import pytest
from rich.console import Console

from spikelet import plots, report
from spikelet.errors import SpikeletError

LAYERS = {"20C5": 11520, "P2": 2880, "50C5": 3200, "P2_2": 800, "500C4": 500}
ROWS = [
    {"epoch": str(i), "train_loss": f"{1 / (i + 1)}", "train_accuracy": f"{0.99 - 0.1 / (i + 1)}", "val_loss": ""}
    for i in range(5)
]


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
        "synaptic_operations_per_sample": {"total": operations},
        "macs_per_sample": {"total": 2_683_400, "first_layer": 288_000},
        "energy_per_sample_joule": {"ann": 1.2e-5, "ann_int8": 6e-7, "snn": 2.2e-7, "table": {}},
        "weight_bytes": 132_000,
        "weight_bytes_float32": 2_000_000,
        "agreement": {"snn_vs_integer_ann": 1.0},
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


def test_published_points_and_labels_of_the_trade_off():
    figure = plots.plot_trade_off(SEVERAL, labels=["0", "0.1", "0.5"], published=[("LeNet-D", 1.5e6, 0.9929)])
    assert {"0", "0.1", "0.5", "LeNet-D"} <= set(texts(figure))


def test_accuracy_ticks_are_round_and_apart():
    assert plots._accuracy_ticks(0.0, 3.0, 0.1) == [0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999]


def test_labels_at_the_end_never_overlap():
    moved = plots._spread([0.9, 0.91, 0.905, 0.2], [0.1] * 4)
    assert moved[3] == 0.2
    assert sorted(range(4), key=moved.__getitem__) == [3, 0, 2, 1]
    assert min(b - a for a, b in zip(sorted(moved), sorted(moved)[1:], strict=False)) >= 0.0999


def test_training_figure_leaves_out_what_is_missing(tmp_path):
    figure = plots.plot_training(ROWS, tmp_path / "training.png")
    assert is_png(tmp_path / "training.png")
    assert len(figure.axes) == 2
    assert not any("validation" in text for text in texts(figure))
    validated = [{**row, "val_accuracy": "0.9", "train_operations": "0.4"} for row in ROWS]
    assert len(plots.plot_training(validated).axes) == 3


def test_other_formats_by_suffix(tmp_path):
    plots.plot_spikes(ONE, tmp_path / "figure.pdf")
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(SpikeletError, match=r"\.docx"):
        plots.plot_spikes(ONE, tmp_path / "figure.docx")
    assert [p.name for p in tmp_path.iterdir()] == ["figure.pdf"]


def test_bad_arguments_are_named():
    with pytest.raises(SpikeletError, match="reports"):
        plots.plot_accuracy([])
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
    assert {p.stem for p in paths} == {"accuracy", "spikes", "operations", "layers", "cost", "training"}
    assert all(is_png(p) and p.parent == tmp_path / "run" / "figures" for p in paths)


def test_an_ann_alone_gets_the_figures_it_has_numbers_for(tmp_path):
    ann = {"accuracy": 0.99, "ann_accuracy": 0.99, "energy_per_sample_joule": {"ann": 1e-5}, "weight_bytes": 40}
    assert [p.stem for p in report.write_figures(make_run(tmp_path / "run", ann, ROWS))] == ["training"]


def test_runs_of_a_sweep_in_one_figure(tmp_path):
    runs = [
        make_run(tmp_path / f"lenet-s1,train.operation_cost={weight}", content)
        for weight, content in zip((0, 0.1, 0.5), SEVERAL, strict=True)
    ]
    paths = report.compare(runs, tmp_path / "together")
    assert {p.stem for p in paths} == {"accuracy", "spikes", "operations", "layers", "cost", "trade_off"}
    assert all(map(is_png, paths))
    with pytest.raises(SpikeletError, match="at least two"):
        report.compare(runs[:1], tmp_path / "alone")


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
