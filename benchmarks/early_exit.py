"""Images per second of the integer engine with early exit, beside itself without.

    python benchmarks/early_exit.py --network NETWORK.safetensors --data ROOT --json FILE

The margin is chosen on MNIST's validation images, for each --loss: the percentage points of them that may answer
otherwise than after all steps. Accuracy, mean steps and operations are those of the whole test set. All take turns
within each round on the same test images, as in integer_engine.py; the median over the rounds counts.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _command import command, keep, positive, seconds
from integer_engine import SHIPPED, allocator, race
from rich.console import Console
from rich.table import Table

from spikelet import doctor
from spikelet.datasets import MNIST, default_root
from spikelet.exits import Margin, Rule, choose
from spikelet.integer import IntegerNetwork, load

ALL = "all steps"


def arguments() -> argparse.Namespace:
    parser = command(__doc__, rounds=9)
    parser.add_argument("--network", type=Path, default=SHIPPED, help="a saved integer network for MNIST")
    parser.add_argument("--data", type=Path, default=default_root(), help="data root with the MNIST files")
    parser.add_argument("--loss", type=float, nargs="+", default=[0.05, 0.02, 0.0], help="percentage points")
    parser.add_argument("--steps", type=positive, default=8)
    parser.add_argument("--batch", type=positive, nargs="+", default=[1000, 100, 1])
    parser.add_argument("--seconds", type=seconds, default=0.25, help="of each turn")
    return parser.parse_args()


def choices(network: IntegerNetwork, images: np.ndarray, given: argparse.Namespace) -> dict[str, Rule | None]:
    """A rule for each loss, found on ``images``, and none."""
    logits = network.run(images, given.steps, num_threads=given.threads).logits
    rules = {f"loss {loss:g}": choose(logits, Margin(1), loss / 100) for loss in given.loss}
    return {ALL: None} | rules


def outcome(network: IntegerNetwork, data: MNIST, rule: Rule | None, given: argparse.Namespace) -> dict[str, Any]:
    """What the test set gives; with an exit that it is what the rule says of all steps' logits is checked as well."""
    images, labels = data.images.numpy(), data.labels.numpy()
    run = network.run(images, given.steps, num_threads=given.threads, samples=True, exit=rule)
    assert run.sample_operations is not None
    right = run.logits.sum(0, dtype=np.int64).argmax(1) == labels
    lean = network.predict(images, given.steps, given.threads, exit=rule)
    assert np.array_equal(lean == labels, right)
    steps = given.steps if run.exit_steps is None else float(run.exit_steps.mean())
    told = {"margin": None if rule is None else asdict(rule)["threshold"], "accuracy": float(right.mean())}
    return told | {"mean_steps": steps, "operations": float(run.sample_operations.sum()) / len(labels)}


def rows(
    network: IntegerNetwork, rules: dict[str, Rule | None], outcomes: dict[str, dict], images: np.ndarray, given: Any
) -> list[dict[str, Any]]:
    def runner(rule: Rule | None) -> Any:
        return lambda batch: network.run(batch, given.steps, num_threads=given.threads, exit=rule)

    table = []
    for batch in given.batch:
        results = race({n: runner(r) for n, r in rules.items()}, images, batch, given.rounds, given.seconds, [*rules])
        slowest = median(results[ALL])
        for name, rates in results.items():
            row = {"exit": name, "batch": batch, "threads": given.threads, "num_steps": given.steps, **outcomes[name]}
            row |= {"images_per_second": median(rates), "times": median(rates) / slowest}
            table.append(row | {"rounds": [round(rate, 1) for rate in rates]})
    return table


def show(table: list[dict], facts: dict[str, Any]) -> None:
    console = Console(width=max(110, Console().width))
    view = Table(title=f"{facts['model']}, T = {facts['num_steps']}, MNIST; margins from {facts['chosen_on']} images")
    view.caption = f"{facts['processor']}; {facts['allocator']}; median of {facts['rounds']} interleaved rounds"
    for column in ("exit", "margin", "accuracy", "mean T", "operations", "batch", "threads", "images/s", "without"):
        view.add_column(column, justify="left" if column == "exit" else "right")
    for row in table:
        cells = [row["exit"], str(row["margin"] or "-"), f"{100 * row['accuracy']:.2f} %", f"{row['mean_steps']:.3f}"]
        cells += [f"{row['operations']:,.0f}", str(row["batch"]), str(row["threads"])]
        view.add_row(*cells, f"{row['images_per_second']:,.0f}", f"{row['times']:.2f} x")
    console.print(view)


def main() -> None:
    given = arguments()
    doctor.prepare(given.threads)
    network, judged, test = load(given.network), MNIST(given.data, "val"), MNIST(given.data, "test")
    rules = choices(network, judged.images.numpy(), given)
    outcomes = {name: outcome(network, test, rule, given) for name, rule in rules.items()}
    facts: dict[str, Any] = {"model": given.network.name, "num_steps": given.steps, "rounds": given.rounds}
    facts |= {"chosen_on": len(judged), "processor": doctor.processor(), "allocator": allocator()}
    table = rows(network, rules, outcomes, test.images[:2000].numpy(), given)
    show(table, facts)
    keep(facts | {"rows": table}, given.json)


if __name__ == "__main__":
    main()
