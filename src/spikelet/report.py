"""A run folder to figures, and a report to the table that the command line shows."""

import csv
import json
import math
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from spikelet import plots
from spikelet.errors import SpikeletError

# Figure name: what draws it, and the keys of the report that it cannot do without.
_FIGURES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "accuracy": (plots.plot_accuracy, ("accuracy_per_step",)),
    "spikes": (plots.plot_spikes, ("spikes_per_sample", "neurons")),
    "operations": (plots.plot_operations, ("synaptic_operations_per_sample", "macs_per_sample")),
    "layers": (plots.plot_layers, ("spikes_per_sample",)),
    "exit": (plots.plot_exit, ("exit",)),
    "cost": (plots.plot_cost, ("spikes_per_sample", "energy_per_sample_joule", "weight_bytes")),
}


def read_report(run_dir: str | Path) -> dict[str, Any]:
    """The run's ``report.json``. Raises SpikeletError where there is none (it says what to run) or it is damaged."""
    path = Path(run_dir) / "report.json"
    if not path.is_file():
        raise SpikeletError(f"run: there is no report in {run_dir}; make one with 'spikelet evaluate {run_dir}'")
    try:
        report = json.loads(path.read_text())
    except ValueError as error:
        raise SpikeletError(f"run: {path} is damaged ({error}); write it anew: spikelet evaluate {run_dir}") from error
    if not isinstance(report, dict):
        raise SpikeletError(f"run: {path} is no report; write it anew with 'spikelet evaluate {run_dir}'")
    return report


def write_figures(run_dir: str | Path) -> list[Path]:
    """Write the run's ``figures/*.png`` from its ``report.json`` and ``metrics.csv`` alone; returns their paths.

    A figure whose numbers the report does not have (an ANN alone has no spikes) is left out.
    """
    run_dir = Path(run_dir)
    report = read_report(run_dir)
    paths = _write([report], None, run_dir / "figures")
    rows = _read_metrics(run_dir / "metrics.csv")
    if rows:
        path = run_dir / "figures" / "training.png"
        plots.plot_training(rows, path)
        paths.append(path)
        if any(row.get("constraint_failure") for row in rows):
            paths.append(run_dir / "figures" / "constraints.png")
            plots.plot_constraints(rows, paths[-1])
        rates = [{key[5:]: float(v) for key, v in row.items() if key.startswith("rate/") and v} for row in rows]
        if any(rates):
            paths.append(run_dir / "figures" / "firing_rates.png")
            plots.firing_rates(rates, paths[-1])
    return paths


def compare(run_dirs: Sequence[str | Path], path: str | Path, labels: Sequence[str] | None = None) -> list[Path]:
    """Write one set of figures with all the runs in each into the folder ``path``; returns the figures' paths.

    ``labels`` name the runs; by default their folders' names, or, for the runs of one sweep, what was swept. Where the
    runs' weights take different memory, there is a figure of accuracy against it, in which runs that differ only in
    their seed are one point.
    """
    folders, reports = _read_several(run_dirs)
    swept, values = _swept(folders)
    names = list(labels) if labels is not None else [f"{swept} = {v}" if swept else v for v in values]
    paths = _write(reports, names, Path(path))
    if all("synaptic_operations_per_sample" in report for report in reports):
        trade_off = Path(path) / "trade_off.png"
        on_points, legend = (names, "") if labels is not None else (values, swept.replace("_", " "))
        plots.plot_trade_off(reports, trade_off, on_points, legend=legend)
        paths.append(trade_off)
    memory = {report.get("weight_bytes") for report in reports}
    if len(memory) > 1 and None not in memory:
        swept, groups = _groups(folders if labels is None else labels, reports)
        paths.append(Path(path) / "memory.png")
        plots.plot_memory(groups, paths[-1], legend=swept.replace("_", " "))
    return paths


def comparison_table(run_dirs: Sequence[str | Path]) -> Table:
    """At least two runs: a row for each, or one for all those that differ only in their seed.

    Their accuracy is the mean ± the standard deviation of a sample (n - 1). What no row has is no column.
    """
    return _table(run_dirs, _row)


def ablation_table(run_dirs: Sequence[str | Path]) -> Table:
    """As ``comparison_table``, of the variants of a recipe: means over the seeds of what a sample takes.

    Where answers are given early, accuracy, steps T, spikes, synaptic operations (SOP) and energy are theirs.
    """
    return _table(run_dirs, _ablation_row)


def evaluations_table(names: Sequence[str], reports: Sequence[dict[str, Any]]) -> Table:
    """Evaluations of several networks: a row for each, with early exit of the answers given early."""
    rows = [{"run": name} | _evaluation_row(report) for name, report in zip(names, reports, strict=True)]
    return _built(f"{len(rows)} evaluations", rows)


def _table(run_dirs: Sequence[str | Path], describe: Callable[[list[dict[str, Any]]], dict[str, str]]) -> Table:
    folders, reports = _read_several(run_dirs)
    swept, groups = _groups(folders, reports)
    what = swept.replace("_", " ") or "run"
    rows = [{what: name} | describe(runs) | {what: name} for name, runs in groups]  # it may be a column anyway
    return _built(f"{len(reports)} runs", rows)


def _built(title: str, rows: list[dict[str, str]]) -> Table:
    """The first column is the rows' name; what no row has is no column."""
    what, *said = [column for column in rows[0] if any(row[column] for row in rows)]
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column(what, overflow="fold", style="bold")
    for column in said:
        table.add_column(column, justify="left" if column in ("weights", "data") else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[column] or "-" for column in (what, *said)))
    return table


def _evaluation_row(report: dict[str, Any]) -> dict[str, str]:
    given = as_answered(report)
    steps, seconds = given["steps"], report.get("seconds")
    return {
        "data": report.get("data", ""),
        "accuracy": _percent(given["accuracy"]),
        "seconds": f"{seconds:.1f}" if seconds is not None else "",
        "T": f"{steps:.3g}" if steps is not None else "",
        "spikes": _number(given["spikes"]),
        "SOP": _number(given["operations"]),
        "energy": _number(given["energy"], unit="J"),
    }


def _ablation_row(runs: list[dict[str, Any]]) -> dict[str, str]:
    given = [as_answered(run) for run in runs]
    mean = {key: statistics.mean(run[key] or 0.0 for run in given) for key in given[0]}
    return {
        "accuracy": spread([100 * run["accuracy"] for run in given]),  # type: ignore[operator]
        "epochs": str(runs[0]["config"]["train"]["num_epochs"]),
        "T": f"{mean['steps']:.2f}",
        "spikes": _number(mean["spikes"]),
        "SOP": _number(mean["operations"]),
        "energy": _number(mean["energy"], unit="J"),
        "weights": _number(runs[0]["weight_bytes"], unit="B"),
    }


def as_answered(report: dict[str, Any]) -> dict[str, float | None]:
    """Accuracy, steps, spikes, operations and energy of a sample, up to where it is answered; None: there are none."""
    early = report.get("exit", {})
    whole = {
        "accuracy": report["accuracy"],
        "mean_steps": report.get("num_steps"),
        "spikes_per_sample": report.get("spikes_per_sample", {}).get("total"),
        "synaptic_operations_per_sample": report.get("synaptic_operations_per_sample", {}).get("total"),
        "energy_per_sample_joule": report["energy_per_sample_joule"].get("snn"),
    }
    names = ("accuracy", "steps", "spikes", "operations", "energy")
    return {name: early.get(key, value) for name, (key, value) in zip(names, whole.items(), strict=True)}


def spread(values: list[float]) -> str:
    """Percent: the mean, ± the standard deviation where there are several."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread} %"


def _row(runs: list[dict[str, Any]]) -> dict[str, str]:
    """What ``comparison_table`` says of runs that differ only in their seed; "" is what they do not know."""
    accuracy = [100 * run.get("accuracy", math.nan) for run in runs]
    operations = [run.get("synaptic_operations_per_sample", {}).get("total") for run in runs]
    memory, floats = runs[0].get("weight_bytes"), runs[0].get("weight_bytes_float32")
    return {
        "weights": runs[0].get("config", {}).get("model", {}).get("weights", ""),
        "seeds": str(len(runs)) if len(runs) > 1 else "",
        "accuracy": spread(accuracy),
        "weight memory": _number(memory, unit="B"),
        "of float32": f"{100 * memory / floats:.3g} %" if memory and floats else "",
        "operations": _number(statistics.mean(operations), " add") if None not in operations else "",
    }


def calibrations(folder: Path, num_steps: int) -> dict[str, dict[str, Any]]:
    """The reports of a run's ``calibrate`` folder for ``num_steps`` steps, by level, the least first.

    Those that were made with the same settings as without correction, which every calibration makes anew.
    """
    places = {level: folder / f"{level},{num_steps}" for level in ("none", "light", "advanced")}
    found = {level: read_report(place) for level, place in places.items() if (place / "report.json").is_file()}
    settings = {level: report["calibration"] | {"level": ""} for level, report in found.items()}
    return {level: report for level, report in found.items() if settings[level] == settings.get("none")}


def calibration_table(folder: Path, num_steps: int) -> Table:
    """Accuracy of each level after 1, 2, 4 ... and ``num_steps`` steps, and that of the teacher."""
    reports = calibrations(folder, num_steps)
    table = Table(title=f"accuracy, calibrated for T = {num_steps}", title_justify="left", box=None, pad_edge=False)
    for title in ("T", *reports):
        table.add_column(title, justify="right", no_wrap=True)
    for t in sorted({2**i for i in range(num_steps.bit_length())} | {num_steps}):
        table.add_row(str(t), *(_percent(report["accuracy_per_step"][t - 1]) for report in reports.values()))
    name, teacher = plots.teacher_of([*reports.values()][-1])
    table.add_row(name, _percent(teacher), *[""] * (len(reports) - 1))
    return table


def write_calibration(folder: Path, num_steps: int) -> Path:
    """Draw accuracy against T, all levels in one figure; returns its path."""
    path = folder / f"accuracy,{num_steps}.png"
    plots.plot_calibration(calibrations(folder, num_steps), path)
    return path


def summary_table(report: dict[str, Any], spiking: str = "integer SNN", ann: str = "quantized ANN") -> Table:
    """The spiking network, beside the quantized ANN that it was made from or a dense one of its layers."""
    table = Table(
        title=f"{report.get('recipe', 'Report')}: {report.get('num_samples', 0):,} test samples", title_justify="left"
    )
    table.add_column("per sample")
    table.add_column(ann, justify="right")
    table.add_column(spiking, justify="right", style="bold")
    for name, ann, snn in _summary(report):
        table.add_row(name, ann or "-", snn or "-")
    return table


def _steps(report: dict[str, Any]) -> str:
    """After how many steps the accuracy changes no more, as far as it was run."""
    if "settled_step" not in report:
        return ""
    agreement, run = report.get("agreement", {}), report["num_steps"]
    at_rest = agreement.get("answers") == agreement.get("answers_float") == 1 and not report.get("input_noise")
    if at_rest and report["accuracy"] != report.get("ann_accuracy"):  # which every answer equals in the end
        return f"more than {run}"
    return f"{report['settled_step']} (of {run})"


def _summary(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    macs, energy = report.get("macs_per_sample", {}), report.get("energy_per_sample_joule", {})
    spikes, operations = report.get("spikes_per_sample", {}), report.get("synaptic_operations_per_sample", {})
    of_spikes = f"{spikes['total']:,.0f} ({spikes['negative']:,.0f} negative)" if spikes else ""
    first, added = _number(macs.get("first_layer"), " MAC"), operations.get("total")
    of_first = first
    if "multiplied" in macs:  # events or codes, each added; those of time surfaces are multiplied
        entered, added = operations.get("per_layer", {}).get("input"), macs["added"]
        of_first = _number(macs["multiplied"] or entered, " MAC" if macs["multiplied"] else " add")
    rows = [
        ("accuracy", _percent(report.get("ann_accuracy")), _percent(report.get("accuracy")) if operations else ""),
        ("time steps T", "", _steps(report)),
        ("spikes", "", of_spikes),
        ("operations", _number(macs.get("total"), " MAC"), _number(added, " add")),
        ("  first layer", first, of_first if operations else ""),
        ("energy, 45 nm; ANN in float32", _number(energy.get("ann"), unit="J"), _number(energy.get("snn"), unit="J")),
        (
            "weight memory; ANN in float32",
            _number(report.get("weight_bytes_float32"), unit="B"),
            _number(report.get("weight_bytes"), unit="B"),
        ),
    ]
    if "exit" in report:
        rows += _early(report["exit"])
    agreement = report.get("agreement", {}).get("snn_vs_integer_ann")
    return rows + ([("neurons that agree", "", _percent(agreement))] if agreement is not None else [])


def _early(told: dict[str, Any]) -> list[tuple[str, str, str]]:
    """With early exit, its rule by name."""
    return [
        (f"exit: {told['rule']} {told['threshold']:.4g}", "", _percent(told["accuracy"])),
        ("  mean steps", "", f"{told['mean_steps']:.2f}"),
        ("  operations", "", _number(told["synaptic_operations_per_sample"])),
        ("  energy, 45 nm", "", _number(told["energy_per_sample_joule"], unit="J")),
    ]


def _percent(fraction: float | None) -> str:
    return f"{100 * fraction:.2f} %" if fraction is not None else ""


def _number(value: float | None, word: str = "", unit: str = "") -> str:
    return plots.short_number(value, unit) + word if value is not None else ""


def _write(reports: list[dict[str, Any]], labels: list[str] | None, folder: Path) -> list[Path]:
    paths = []
    for name, (plot, needed) in _FIGURES.items():
        if all(key in report for report in reports for key in needed):
            paths.append(folder / f"{name}.png")
            plot(reports, paths[-1], labels)
    return paths


def _read_metrics(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _read_several(run_dirs: Sequence[str | Path]) -> tuple[list[str], list[dict[str, Any]]]:
    """The folders' names, and their reports; raises SpikeletError for fewer than two."""
    if len(run_dirs) < 2:
        raise SpikeletError(f"run_dirs: expected at least two runs to compare, got {len(run_dirs)}")
    return [Path(run_dir).resolve().name for run_dir in run_dirs], [read_report(run_dir) for run_dir in run_dirs]


def _groups(names: Sequence[str], reports: list[dict[str, Any]]) -> tuple[str, list[tuple[str, list[dict[str, Any]]]]]:
    """Runs that differ only in their seed, together: what sets the groups apart (see ``_swept``), each with its name.

    The seed, as in a run folder's name, is all that their names may differ in; what was run must be the same.

    >>> names = ["net-s1,model.k=0", "net-s2,model.k=0", "net-s1,model.k=1"]
    >>> swept, groups = _groups(names, [{"seed": 1}, {"seed": 2}, {"seed": 1}])
    >>> swept, [(name, len(runs)) for name, runs in groups]
    ('k', [('0', 2), ('1', 1)])
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, report in zip(names, reports, strict=True):
        seedless = re.sub(rf"-s{report.get('seed')}(?=,|$)", "", name)
        settings = [report.get("config", {}).get(part) for part in ("model", "train", "evaluate")]
        groups.setdefault((seedless, json.dumps(settings)), []).append(report)
    swept, values = _swept([name for name, _ in groups])
    return swept, list(zip(values, groups.values(), strict=True))


def _swept(names: Sequence[str]) -> tuple[str, list[str]]:
    """What sets the runs of one sweep apart, and its values; "" and the names where they are of no single sweep.

    >>> _swept(["lenet-s1,train.operation_cost=0.1", "lenet-s1,train.operation_cost=0.3"])
    ('operation_cost', ['0.1', '0.3'])
    >>> _swept(["lenet-s1", "lenet-s2"])
    ('', ['lenet-s1', 'lenet-s2'])
    """
    parts = [name.partition(",") for name in names]
    overrides = [rest.rpartition("=") for _, _, rest in parts]
    keys = {(base, key) for (base, _, _), (key, _, _) in zip(parts, overrides, strict=True)}
    key = overrides[0][0]
    if len(keys) > 1 or not key or "," in key or "=" in key:
        return "", list(names)
    return key.rpartition(".")[2], [value for _, _, value in overrides]
