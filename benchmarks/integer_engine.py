"""Images per second of the integer engine, beside a float ANN, an int8 ANN and float SNNs of the same layers.

    python benchmarks/integer_engine.py --network NETWORK.safetensors --data ROOT --json FILE

All run on the same images, with the same number of threads, in turns within each round, so that a busy moment of the
machine meets all of them; the median over the rounds counts. Peers need ``make bench``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _command import command, in_rounds, keep, positive, seconds
from _peers import PEERS, Missing, Run

from spikelet import doctor
from spikelet.errors import SpikeletError
from spikelet.exits import Margin
from spikelet.integer import Conv, IntegerNetwork, Neuron, Record, load
from spikelet.integer.reference import conv, settled_count

SHIPPED = Path(__file__).parents[1] / "src" / "spikelet" / "models" / "mnist-lenet.safetensors"
LAYERS = [(32, 5, 1, 900), (32, 2, 2, 60), (64, 5, 1, 450), (64, 2, 2, 50), (1000, 4, 1, 200)]  # channels ... active
ENGINE = "integer engine, spikelet"
EARLY = "integer engine, early exit"


def arguments() -> argparse.Namespace:
    parser = command(__doc__, rounds=9)
    parser.add_argument(
        "--network", type=Path, help="a saved integer network (default: the shipped one, else a sketch)"
    )
    parser.add_argument("--data", type=Path, help="data root with the MNIST files (default: where spikelet finds them)")
    parser.add_argument("--steps", type=positive, default=4)
    parser.add_argument("--margin", type=int, help="the engine takes part once more, with early exit by this margin")
    parser.add_argument("--batch", type=positive, nargs="+", default=[100, 1])
    parser.add_argument("--seconds", type=seconds, default=0.25, help="of each turn")
    return parser.parse_args()


def find_images(root: Path | None, count: int = 2000) -> tuple[np.ndarray, str]:
    """uint8 [count, 1, 28, 28] and what they are: MNIST's test set, or blobs with as many zero pixels."""
    from spikelet.datasets import DATASETS

    try:
        return DATASETS["mnist"](root, split="test").images[:count].numpy(), "MNIST test images"
    except SpikeletError:
        generator = np.random.default_rng(1)
        y, x = np.ogrid[:28, :28]
        center = generator.uniform(9, 19, (2, 4, count, 1, 1))
        strokes = np.exp(-((y - center[0]) ** 2 + (x - center[1]) ** 2) / 8).max(axis=0)
        return np.where(strokes > 0.4, strokes * 255, 0).astype(np.uint8)[:, None], "synthetic images, 80 % zero pixels"


def sketch(images: np.ndarray) -> IntegerNetwork:
    """LeNet-E with random ternary weights whose thresholds let about as many neurons fire as in a trained one."""
    generator = np.random.default_rng(1)
    x, nodes = images[:64].astype(np.int64), []
    for i, (channels, kernel, stride, active) in enumerate(LAYERS):
        shape = (channels, x.shape[1], kernel, kernel)
        weight = generator.integers(-127, 128, shape) if i == 0 else generator.integers(-1, 2, shape)
        silent = Neuron(np.zeros(channels, np.int32), np.ones(channels, np.int32), 0, 4 if i == 0 else 127)
        node = Conv(f"layer{i}", i - 1, weight.astype(np.int8), (stride,) * 2, (0, 0), 1, 8 if i == 0 else 2, silent)
        v = conv(node, x, node.weight)
        share = 1 - active / np.prod(v.shape[1:])
        first = np.maximum(np.quantile(v, share, axis=(0, 2, 3)), 1).astype(np.int32)
        step = np.maximum(v.std(axis=(0, 2, 3)), 1).astype(np.int32)
        neuron = Neuron(first, step, 0, silent.max_count)
        nodes.append(Conv(node.name, i - 1, node.weight, node.stride, node.padding, 1, node.bits, neuron))
        x = settled_count(neuron, v)
    weight = generator.integers(-127, 128, (10, 1000, 1, 1)).astype(np.int8)
    nodes.append(Conv("readout", len(LAYERS) - 1, weight, (1, 1), (0, 0), 1, 8, None))
    return IntegerNetwork(nodes, (1, 28, 28))


def find_network(path: Path | None, images: np.ndarray) -> tuple[IntegerNetwork, str]:
    if path is None and SHIPPED.exists():
        path = SHIPPED
    return (load(path), path.name) if path is not None else (sketch(images), "LeNet-E, random weights")


def contenders(
    network: IntegerNetwork, steps: int, threads: int, margin: int | None = None
) -> tuple[dict[str, Run], list[str]]:
    """Everything that takes part, by name, and a line for each that cannot."""
    runs: dict[str, Run] = {ENGINE: lambda images: network.run(images, steps, num_threads=threads)}
    if margin is not None:
        runs[EARLY] = lambda images: network.run(images, steps, num_threads=threads, exit=Margin(margin))
    missing = []
    for name, build in PEERS.items():
        try:
            variants = build(network, steps, threads)
        except Missing as error:
            missing.append(f"{name}: {error}; make bench")
            continue
        runs |= {f"{name} ({variant})" if variant else name: run for variant, run in variants.items()}
    return runs, missing


def race(
    runs: dict[str, Run],
    images: np.ndarray,
    batch: int,
    rounds: int,
    seconds: float,
    integers: Sequence[str] = (ENGINE, EARLY),
) -> dict[str, list[float]]:
    """Images per second of each contender in each round; batch after batch of different images.

    ``integers`` are the contenders that take uint8 pixels; the others take float ones, 0 to 1.
    """
    batches = [images[i : i + batch] for i in range(0, min(len(images), 50 * batch) - batch + 1, batch)]
    ready = {name: batches if name in integers else [(b / 255).astype(np.float32) for b in batches] for name in runs}
    for name, run in runs.items():
        for given in ready[name][:3]:
            run(given)
    results: dict[str, list[float]] = {name: [] for name in runs}
    for _ in in_rounds(rounds):
        for name, run in runs.items():
            run(ready[name][0])
            done, start = 0, time.perf_counter()
            while (passed := time.perf_counter() - start) < seconds or done == 0:
                run(ready[name][done % len(batches)])
                done += 1
            results[name].append(done * batch / passed)
    return results


def best_variants(results: dict[str, list[float]]) -> dict[str, tuple[str, float]]:
    """Per contender the variant with the best median, and that median."""
    best: dict[str, tuple[str, float]] = {}
    for full, rates in results.items():
        name, _, variant = full.partition(" (")
        if name not in best or median(rates) > best[name][1]:
            best[name] = variant.rstrip(")"), median(rates)
    return best


def rows(
    network: IntegerNetwork, model: str, images: np.ndarray, given: argparse.Namespace
) -> tuple[list[dict], list[str]]:
    runs, missing = contenders(network, given.steps, given.threads, given.margin)
    table = []
    for batch in given.batch:
        results = race(runs, images, batch, given.rounds, given.seconds)
        best = best_variants(results)
        ours = best[ENGINE][1]
        for name, (variant, rate) in best.items():
            steps = given.steps if "SNN" in name or name in (ENGINE, EARLY) else None
            row = {"contender": name, "variant": variant, "model": model, "num_steps": steps, "batch": batch}
            row |= {
                "threads": given.threads,
                "allocator": allocator(),
                "images_per_second": rate,
                "engine_is": ours / rate,
            }
            full = f"{name} ({variant})" if variant else name
            table.append(row | {"rounds": [round(r, 1) for r in results[full]]})
    return table, missing


def allocator() -> str:
    return doctor.allocator().split(",")[0] + ", no trim, no mmap"


def show(table: list[dict], missing: list[str], facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(110, Console().width))
    for line in missing:
        console.print(f"[yellow]left out: {line}[/]")
    spent = f"{facts['spikes']:,.0f} spikes, {facts['operations'] / 1e6:.3f} M synaptic operations per image"
    view = Table(title=f"{facts['model']} on {facts['images']}: {spent}")
    view.caption = f"{facts['processor']}; {allocator()}; median of {facts['rounds']} interleaved rounds"
    for column in ("contender", "T", "batch", "threads", "images/s", "µs/image", "engine is"):
        view.add_column(column, justify="left" if column == "contender" else "right")
    for row in table:
        name = f"{row['contender']} [dim]{row['variant']}[/]" if row["variant"] else row["contender"]
        rate = row["images_per_second"]
        times = "" if row["contender"] == ENGINE else f"{row['engine_is']:.2f} x"
        cells = name, str(row["num_steps"] or "-"), str(row["batch"]), str(row["threads"]), f"{rate:,.0f}"
        view.add_row(*cells, f"{1e6 / rate:,.1f}", times, end_section=row["contender"] == list(PEERS)[-1])
    console.print(view)


def activity(run: Record, count: int) -> dict[str, float]:
    assert run.positive is not None and run.negative is not None and run.synaptic_operations is not None
    spikes = float((run.positive + run.negative).sum()) / count
    return {"spikes": spikes, "operations": float(run.synaptic_operations.sum()) / count}


def main() -> None:
    given = arguments()
    os.environ.setdefault("OMP_NUM_THREADS", str(given.threads))
    doctor.prepare(given.threads)
    images, kind = find_images(given.data)
    network, model = find_network(given.network, images)
    facts: dict[str, Any] = {"model": model, "images": kind, "rounds": given.rounds, "processor": doctor.processor()}
    facts["words"] = "" if given.network is None else f" --network {given.network} --steps {given.steps}"
    facts["words"] += "" if given.margin is None else f" --margin {given.margin}"
    facts |= activity(network.run(images[:1000], given.steps, record=True), min(1000, len(images)))
    table, missing = rows(network, model, images, given)
    show(table, missing, facts)
    keep(facts | {"rows": table, "left_out": missing}, given.json)


if __name__ == "__main__":
    main()
