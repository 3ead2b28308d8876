"""A network and a data set to a report: one dictionary, one JSON file, from which tables and figures are made."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikelet import metrics
from spikelet.arguments import check_number, check_whole
from spikelet.convert import run_images, settled_counts
from spikelet.errors import SpikeletError
from spikelet.events import Binned
from spikelet.exits import RULES, Rule, Softmax, Trial, choose, fit_temperature
from spikelet.files import write_whole
from spikelet.integer import IntegerNetwork, Record
from spikelet.metrics import HOROWITZ_45NM, EnergyTable
from spikelet.networks import SNN, Network, SurfaceNetwork, answers
from spikelet.quantizers import weight_quantizer
from spikelet.spiking import SpikingNetwork

Loader = Iterable[tuple[Any, Tensor]]
Spiking = IntegerNetwork | SurfaceNetwork | SpikingNetwork | SNN
ENERGY = {IntegerNetwork: metrics.integer_energy, SurfaceNetwork: metrics.surface_energy}


def evaluate(
    converted: Spiking,
    loader: Loader,
    num_steps: int = 8,
    *,
    network: Network | None = None,
    input_noise: float = 0.0,
    seed: int = 1,
    logs_dir: str | Path | None = None,
    first_weight: int | None = None,
    num_threads: int | None = None,
    energy: EnergyTable = HOROWITZ_45NM,
    exit: Rule | None = None,
) -> dict[str, Any]:
    """Run a spiking network over a whole data set and report what it achieved and what that cost.

    ``loader`` yields (x, labels [N]), x what the network takes: images [N, C, H, W], frames [T, N, C, H, W] or
    ``events.Binned``. ``network`` is the ANN that a converted network comes from; without one, the ANN's accuracy is
    that of the closed form.
    ``input_noise`` r multiplies each pixel by 1 + r * (U - 1/2), U uniform in [0, 1), drawn from ``seed`` (work E).
    ``logs_dir`` gets the six published text files, by work D's rule, or, with a ``first_weight`` of 2^k, by work E's:
    the first layer's spikes are not counted, and weigh 2^k operations each.
    ``exit`` adds what early exit by that rule and by all its thresholds gives, counted sample by sample; the other
    numbers are those of all steps. Energy in joule per sample. The keys are those of ``report.json``
    (docs/conventions.md).
    """
    check_whole("num_steps", num_steps)
    check_number("input_noise", input_noise, "a number, 0 or more", lambda x: x >= 0)
    generator, tally, right, seconds = np.random.default_rng(seed), _Tally(exit), 0, 0.0
    for images, labels in loader:
        images = add_noise(images, input_noise, generator)
        start = time.perf_counter()
        run = run_images(converted, images, num_steps, record=True, num_threads=num_threads, samples=exit is not None)
        seconds += time.perf_counter() - start
        tally.add(run, labels)
        if _was_converted(converted):
            logits = answers(network, images) if network is not None else settled_counts(converted, images)[1]  # type: ignore[arg-type]
            right += int((logits.argmax(1) == labels).sum())
    if not tally.samples:
        raise SpikeletError("loader: it yields no images to evaluate on")
    if logs_dir is not None and _was_converted(converted):
        rest = len(run.layers) - 1
        counted = [first_weight is None] + [True] * rest
        metrics.published_logs(logs_dir, tally.batches, counted, [first_weight or 1] + [1] * rest)
    report: dict[str, Any] = _accuracy(tally.curve()) | {"num_samples": tally.samples, "input_noise": input_noise}
    report |= {"seconds": seconds, "accuracy_per_class": _per_class(torch.cat(tally.answered, dim=1))}
    if _was_converted(converted):
        report["ann_accuracy"] = right / tally.samples
    activity = _activity(run, tally.spent, tally.samples)
    operations = activity["synaptic_operations_per_sample"]["total"]
    entered = activity["synaptic_operations_per_sample"]["per_layer"].get("input")
    multiplied, added = _parts(converted, operations, entered)
    passes = 1 if entered is None or _mixed(converted) else report["num_steps"]
    if exit is not None:
        report["exit"] = _early(Trial.join(tally.trials), exit, converted, "input" in activity, energy)
    return report | activity | _cost(converted, multiplied, added, energy, passes)


@dataclass
class _Tally:
    """What the batches so far have shown; ``spent``: spikes and operations, in the order of ``_activity``."""

    exit: Rule | None
    samples: int = 0
    batches: list[metrics.BatchCounts] = field(default_factory=list)
    answered: list[Tensor] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    spent: list[np.ndarray] = field(default_factory=list)

    def add(self, run: Record, labels: Tensor) -> None:
        assert run.positive is not None and run.negative is not None
        assert run.synaptic_operations is not None and run.effective_operations is not None
        self.samples += len(labels)
        correct = metrics.correct_per_step(run.logits, labels).numpy()
        self.batches.append(metrics.BatchCounts(correct, run.positive, run.negative, run.synaptic_operations))
        self.answered.append(torch.stack([labels, metrics.predictions_per_step(run.logits)[-1]]))
        if self.exit is not None:
            self.trials.append(_trial(run, labels, self.exit))
        spent = [run.positive, run.negative, run.synaptic_operations, run.effective_operations, *_entered(run)]
        self.spent = [a + b for a, b in zip(self.spent, spent, strict=True)] if self.spent else spent

    def curve(self) -> np.ndarray:
        """Accuracy after each step."""
        return np.sum([np.asarray(batch.correct) for batch in self.batches], axis=0) / self.samples


def fit_exit(
    rule: Rule,
    converted: Spiking,
    loader: Loader,
    num_steps: int = 8,
    *,
    temperature: bool = True,
    loss: float | None = None,
    num_threads: int | None = None,
) -> Rule:
    """``rule`` made for a network, on samples that it will not be judged on.

    temperature  fit that of a confidence or an entropy (``exits.fit_temperature``), so that it means what it says
    loss         replace the threshold by the smallest one with which at most this fraction of the samples answers
                 otherwise than after all steps (``exits.choose``)
    """
    told = [(run_images(converted, x, num_steps, num_threads=num_threads).logits, y.numpy()) for x, y in loader]
    if not told:
        raise SpikeletError("loader: it yields no images to fit an exit on")
    logits, labels = np.concatenate([a for a, _ in told], axis=1), np.concatenate([y for _, y in told])
    if temperature and isinstance(rule, Softmax):
        rule = replace(rule, temperature=fit_temperature(logits, labels))
    return rule if loss is None else choose(logits, rule, loss)


def _trial(run: Record, labels: Tensor, rule: Rule) -> Trial:
    assert run.sample_spikes is not None and run.sample_operations is not None
    entered = np.zeros_like(run.sample_operations) if run.sample_input is None else run.sample_input
    spent = {"spikes": run.sample_spikes, "operations": run.sample_operations + entered, "entered": entered}
    return Trial.of(run.logits, labels.numpy(), rule, spent)


def _early(trial: Trial, rule: Rule, converted: Spiking, events: bool, energy: EnergyTable) -> dict[str, Any]:
    """The report's part on early exit; ``events``: whether the input is counted in operations."""
    told, curve = trial.outcome(rule), trial.curve(rule)
    entered = told["entered"] if events else None
    multiplied, added = _parts(converted, told["operations"], entered)
    named = {"accuracy": "accuracy", "mean_steps": "mean_steps", "operations": "synaptic_operations_per_sample"}
    return {
        "rule": next(name for name, kind in RULES.items() if isinstance(rule, kind)),
        "threshold": rule.threshold,
        "temperature": rule.temperature if isinstance(rule, Softmax) else None,
        **{name: told[key] for key, name in named.items()},
        "spikes_per_sample": told["spikes"],
        "energy_per_sample_joule": _spend(converted, multiplied, added, energy),
        "histogram": trial.histogram(rule),
        "curve": {"threshold": [p["threshold"] for p in curve]}
        | {name: [point[key] for point in curve] for key, name in named.items()},
    }


def _was_converted(network: Spiking) -> bool:
    """Whether the network comes from an ANN, which was not trained through time."""
    trained = isinstance(network, SNN | SurfaceNetwork) or (isinstance(network, IntegerNetwork) and network.leaky)
    return not trained


def _has_surface(network: Spiking) -> bool:
    return isinstance(network, SurfaceNetwork) or (isinstance(network, SNN) and network.surface is not None)


def _parts(converted: Spiking, operations: float, entered: float | None) -> tuple[float | None, float]:
    """Multiplications of a sample, None: those of the first layer on all pixels, and additions.

    ``entered`` of the ``operations`` are caused by the input's events, or by the spikes that an image became. They are
    added like the others, but those of time surfaces are multiplied. None: the input is an image.
    """
    if entered is None:
        return None, operations
    if codes := _mixed(converted):
        return _first_macs(converted) if "direct" in codes else 0, operations
    multiplied = entered if _has_surface(converted) else 0
    return multiplied, operations - multiplied


def _mixed(network: Spiking) -> tuple[str, ...]:
    """The codes whose mix it makes of images, none where it takes these as they are."""
    coding = network.coding if isinstance(network, SNN) else None
    return () if coding is None or coding.of_frames else coding.codes


def _first_macs(converted: Spiking) -> int:
    return next(int(row["macs"]) for row in converted.describe() if row["weights"])


def _per_class(answered: Tensor) -> list[float | None]:
    """Fraction of right answers of each class, None where it has no sample; labels and answers are [2, N]."""
    labels, told = answered
    classes = [told[labels == c] == c for c in range(int(answered.max()) + 1)]
    return [float(right.double().mean()) if len(right) else None for right in classes]


def _entered(run: Record) -> list[np.ndarray]:
    """Events of the input's frames, and the operations they cause, all and effective, where the input was frames."""
    return [] if run.input_events is None or run.input_operations is None else [run.input_events, *run.input_operations]


def evaluate_ann(network: Network, loader: Loader, energy: EnergyTable = HOROWITZ_45NM) -> dict[str, Any]:
    """The report of a network that stays an ANN (full precision): accuracy, MACs, energy, memory."""
    right = samples = 0
    for images, labels in loader:
        right += int((answers(network, images).argmax(1) == labels).sum())
        samples += len(labels)
    if not samples:
        raise SpikeletError("loader: it yields no images to evaluate on")
    macs = [metrics.macs(block.op, block.input_shape) for block in network.blocks().values()]
    return {
        "accuracy": right / samples,
        "ann_accuracy": right / samples,
        "num_samples": samples,
        "macs_per_sample": {"total": sum(macs), "first_layer": macs[0]},
        "energy_per_sample_joule": {"ann": metrics.ann_energy(sum(macs), energy), "table": asdict(energy)},
        "weight_bytes": sum(_stored(block.op) for block in network.blocks().values()),
    }


def _stored(op: torch.nn.Module) -> int:
    quantizer = weight_quantizer(op)
    return metrics.footprint(quantizer.bits if quantizer else 32, op.weight.numel())  # type: ignore[operator,union-attr,arg-type]


def add_noise(images: Any, ratio: float, generator: np.random.Generator) -> Any:
    """Each pixel times 1 + ratio * (U - 1/2); uint8 pixels are rounded and clipped to 0..255 again.

    >>> add_noise(torch.full((1, 1, 2, 2), 200, dtype=torch.uint8), 0.0, np.random.default_rng(1)).unique().tolist()
    [200]
    """
    if ratio == 0:
        return images
    if isinstance(images, Binned):
        raise SpikeletError(f"input_noise: events in front of time surfaces have no pixels; expected 0, got {ratio}")
    noise = torch.from_numpy(generator.random(tuple(images.shape)))
    noisy = images * (1 + ratio * (noise - 0.5))
    return noisy.round().clamp(0, 255).to(torch.uint8) if images.dtype == torch.uint8 else noisy.to(images.dtype)


def _accuracy(curve: np.ndarray) -> dict[str, Any]:
    return {
        "accuracy": float(curve[-1]),
        "accuracy_per_step": [float(a) for a in curve],
        "num_steps": len(curve),
        "settled_step": metrics.settled_step(curve),
        "first_final_step": metrics.first_final_step(curve),
    }


def _activity(run: Record, total: list[np.ndarray], samples: int) -> dict[str, Any]:
    positive, negative, operations, effective, *entered = (a / samples for a in total)
    layers = {
        name: {"positive": float(p), "negative": float(n)}
        for name, p, n in zip(run.layers, positive.sum(1), negative.sum(1), strict=True)
    }
    spikes, neurons, steps = float((positive + negative).sum()), int(run.neurons.sum()), positive.shape[1]
    by_layer, per_step = dict(zip(run.layers, operations.sum(1).tolist(), strict=True)), operations.sum(0)
    if entered:
        by_layer = {"input": float(entered[1].sum())} | by_layer
        per_step = per_step + entered[1]
    activity: dict[str, Any] = {"input": {"events_per_sample": float(entered[0].sum())}} if entered else {}
    return activity | {
        "spikes_per_sample": {
            "positive": float(positive.sum()),
            "negative": float(negative.sum()),
            "total": spikes,
            "net": float((positive - negative).sum()),
            "per_layer": layers,
        },
        "neurons": {"total": neurons, "per_layer": dict(zip(run.layers, run.neurons.tolist(), strict=True))},
        "firing_rate": metrics.firing_rate(spikes, neurons, steps),
        "sparsity": metrics.activation_sparsity(spikes, neurons, steps),
        "synaptic_operations_per_sample": {
            "total": float(per_step.sum()),
            "effective": float(effective.sum() + (entered[2].sum() if entered else 0)),
            "per_layer": by_layer,
            "per_step": per_step.tolist(),
        },
    }


def _cost(
    converted: Spiking, multiplied: float | None, added: float, energy: EnergyTable, passes: int
) -> dict[str, Any]:
    """Of ``multiplied`` and ``added`` synaptic operations of a sample; None multiplied: the first layer, all pixels.

    The ANN beside it reads the sample in so many dense ``passes``.
    """
    described = [row for row in converted.describe() if row["weights"]]
    total = passes * int(sum(row["macs"] for row in described))
    first = passes * int(described[0]["macs"])
    return {
        "macs_per_sample": {"total": total, "first_layer": first}
        | ({} if multiplied is None else {"multiplied": multiplied, "added": added}),
        "energy_per_sample_joule": {
            "snn": _spend(converted, multiplied, added, energy),
            "ann": metrics.ann_energy(total, energy),
            "ann_int8": total * energy.int8_mac,
            "table": asdict(energy),
        },
        "weight_bytes": int(sum(row["weight_bytes"] for row in described)),
        "weight_bytes_float32": int(sum(row["weights"] for row in described)) * 4,
    }


def _spend(converted: Spiking, multiplied: float | None, added: float, energy: EnergyTable) -> float:
    """Joule of a sample: of so many multiplications, None: those of the first layer on all pixels, and additions."""
    if multiplied is None:
        multiplied = _first_macs(converted)
    spend = next((spend for kind, spend in ENERGY.items() if isinstance(converted, kind)), metrics.spiking_energy)
    return spend(multiplied, added, energy)


def provenance() -> dict[str, Any]:
    """What a report needs to be repeated: commit, versions, machine."""
    packages = {}
    for name in ("spikelet", "torch", "lightning", "numba", "numpy"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    packages["python"] = platform.python_version()
    machine = {"system": platform.system(), "processor": _processor(), "cores": os.cpu_count()}
    return {"commit": _commit(), "versions": packages, "machine": machine}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str | None:
    """The commit of the working copy that this file is tracked in, "-dirty" where it was changed; None outside one."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], capture_output=True, timeout=10, check=True)
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"]
        return subprocess.run(describe, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def save_report(report: dict[str, Any], path: str | Path) -> Path:
    """Write ``report`` as JSON, to a temporary name first."""
    return write_whole(Path(path), json.dumps(report, indent=2) + "\n")
