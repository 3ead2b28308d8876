"""What the tables of docs/results.md have in common: the files in docs/reports, heads of tables, names of runs."""

import csv
import json
import re
from pathlib import Path
from typing import Any

from spikelet.report import read_report

DOCS = Path(__file__).parents[1] / "docs"
Report = dict[str, Any]
HISTORY = ("train_loss", "train_accuracy", "constraint_failure")  # what is kept of each epoch


def table_head(*columns: str) -> str:
    return "| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|\n"


def read_all() -> dict[str, Report]:
    return {path.stem: json.loads(path.read_text()) for path in sorted((DOCS / "reports").glob("*.json"))}


def keep(runs: list[str]) -> None:
    for run in runs:
        report, folder = read_report(run), Path(run).resolve()
        whose = f"{folder.parents[1].name}," if folder.parent.name in ("evaluate", "calibrate") else ""
        report |= history(folder)
        (DOCS / "reports" / f"{whose}{folder.name}.json").write_text(json.dumps(report, indent=1) + "\n")


def history(folder: Path) -> dict[str, Any]:
    """Epoch by epoch, as far as a run has it: loss, accuracy, and the constraint failure score."""
    path = folder / "metrics.csv"
    rows = list(csv.DictReader(path.open(newline=""))) if path.is_file() else []
    columns = {name: [float(row[name]) for row in rows if row.get(name)] for name in HISTORY}
    return {"history": {name: values for name, values in columns.items() if values}}


def measured(benchmark: str) -> dict[str, Any] | None:
    """What ``benchmarks/BENCHMARK.py --json`` left in docs/reports, where it has been run."""
    path = DOCS / "reports" / "benchmarks" / f"{benchmark}.json"
    return json.loads(path.read_text()) if path.exists() else None


def was_converted(report: Report) -> bool:
    """Whether the network comes from an ANN that it was compared with."""
    return "snn_vs_integer_ann" in report.get("agreement", {})


def without_seed(name: str) -> str:
    return re.sub(r"-s\d+(?=,|$)", "", name)
