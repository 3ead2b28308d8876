"""A training step, an inference pass and the peak memory of a convolutional SNN, beside snnTorch and SpikingJelly.

    python benchmarks/training.py --json FILE

12C5-MP2-64C5-MP2-FC10 with LIF neurons on event frames [T, N, 2, 34, 34]. All take part in one process, in turns within
each round, so that a busy moment of the machine meets all of them; the median over the rounds counts, and of a peer's
memory formats the better one. Memory is the growth of the process's peak in a process of its own. Before the race, the
same weights and frames must give the peers' spikes and loss curve. Peers need ``pip install spikelet[bench]``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _memory import growth
from _networks import CONTENDERS, IN_FLOAT64, NOTATION, SAME, Missing, Trainer

from spikelet import doctor

PEERS = ("snnTorch", "SpikingJelly")
OURS = ("spikelet, float32", "spikelet, bfloat16")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="time steps T")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    return parser.parse_args()


def data(given: argparse.Namespace, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames of event counts like N-MNIST's: one pixel in twelve holds an event; float32, and labels."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.poisson(torch.full((given.steps, given.batch, 2, 34, 34), 0.09), generator=generator)
    return frames, torch.randint(10, (given.batch,), generator=generator)


def contenders() -> tuple[dict[str, Trainer], list[str]]:
    built, missing = {}, []
    for name, build in CONTENDERS.items():
        try:
            built[name] = build(2, 34)
        except Missing as error:
            missing.append(f"{name}: {error}")
    return built, missing


def same(runs: dict[str, Trainer], given: argparse.Namespace, updates: int = 20) -> dict[str, dict[str, Any]]:
    """Per peer, against the spikelet with its neuron: output spikes and gradients before training, and loss curves.

    In float32 the curves part after some updates: sums are rounded in another order, and a rounding may be a spike more
    or less. In float64 (which snnTorch's spikes do not take part in) they do not.
    """
    found = {}
    for peer, ours in SAME.items():
        if peer not in runs:
            continue
        pair = _pair(ours, peer)
        frames, labels = data(given)
        spikes = [trainer.infer(frames) for trainer in pair]
        curves = [[trainer.step(frames, labels) for _ in range(updates)] for trainer in pair]
        found[peer] = {
            "spikes_equal": float((spikes[0] == spikes[1]).float().mean()),
            "output_spikes": float(spikes[0].sum()),
            "gradients_differ": _gradients_differ(_pair(ours, peer), frames, labels),
            "loss": curves,
            "largest_gap": max(abs(a - b) for a, b in zip(*curves, strict=True)),
        }
        if peer in IN_FLOAT64:
            torch.set_default_dtype(torch.float64)
            curves = [[t.step(frames.double(), labels) for _ in range(updates)] for t in _pair(ours, peer)]
            torch.set_default_dtype(torch.float32)
            found[peer]["largest_gap_float64"] = max(abs(a - b) for a, b in zip(*curves, strict=True))
    return found


def _pair(*names: str) -> list[Trainer]:
    return [CONTENDERS[name](2, 34) for name in names]


def _gradients_differ(pair: list[Trainer], frames: torch.Tensor, labels: torch.Tensor) -> float:
    """The largest difference, as a share of the largest gradient of that parameter."""
    for trainer in pair:
        trainer.step(frames, labels)
    grads = zip(*([p.grad for p in trainer.parameters] for trainer in pair), strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in grads)


def race(runs: dict[str, Trainer], given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Median seconds of a training step and of an inference pass, per contender."""
    frames, labels = data(given)
    times: dict[str, dict[str, list[float]]] = {name: {"step": [], "inference": []} for name in runs}
    for _ in range(given.rounds + 2):
        for name, trainer in runs.items():
            for kind, call in (("step", lambda t: t.step(frames, labels)), ("inference", lambda t: t.infer(frames))):
                call(trainer)
                start = time.perf_counter()
                call(trainer)
                times[name][kind].append(time.perf_counter() - start)
    return {name: {kind: median(values[2:]) for kind, values in kinds.items()} for name, kinds in times.items()}


def memory(name: str, given: argparse.Namespace) -> float:
    """MiB by which the peak grows when training starts, in a process of its own."""
    words = [sys.executable, __file__, "--memory-of", name]
    words += [f"--{key}={getattr(given, key)}" for key in ("steps", "batch", "threads")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(done.stdout)


def own_memory(name: str, given: argparse.Namespace) -> float:
    """Of three steps; one sample warms up first."""
    trainer = CONTENDERS[name](2, 34)
    frames, labels = data(given)
    trainer.step(frames[:, :1].contiguous(), labels[:1])
    return growth(lambda: [trainer.step(frames, labels) for _ in range(3)])


def best(figures: dict[str, dict[str, float]], library: str, kind: str) -> float:
    return min(values[kind] for name, values in figures.items() if name.startswith(library) and "next step" not in name)


def ratios(figures: dict[str, dict[str, float]], form: str = "") -> dict[str, float]:
    """The better of the peers, or of those in one memory format, over spikelet, all in float32, by kind of figure."""
    peers = [peer + form for peer in PEERS if any(name.startswith(peer + form) for name in figures)]
    kinds = ("step", "inference", "memory_mib")
    return {k: min(best(figures, p, k) for p in peers) / best(figures, OURS[0], k) for k in kinds} if peers else {}


def show(result: dict[str, Any]) -> None:
    print(f"{NOTATION}, frames [{result['steps']}, {result['batch']}, 2, 34, 34], {result['threads']} threads,")
    print(f"{result['processor']}, allocator: {result['allocator']}, load {result['load']:.1f}\n")
    for peer, found in result["same"].items():
        equal, gradients = 100 * found["spikes_equal"], found["gradients_differ"]
        print(f"{peer}: {equal:.2f} % of output counts equal, gradients to {gradients:.0e}")
        curve = f"loss curves ({found['loss'][0][0]:.4f} to {found['loss'][0][-1]:.4f})"
        in_float64 = f", in float64 by {found['largest_gap_float64']:.1e}" if "largest_gap_float64" in found else ""
        print(f"    {curve} differ by at most {found['largest_gap']:.1e}{in_float64}")
    print(f"\n{'':44}{'step':>10}{'inference':>12}{'memory':>12}")
    for name, values in result["figures"].items():
        step, inference = 1e3 * values["step"], 1e3 * values["inference"]
        print(f"{name:44}{step:7.1f} ms{inference:9.1f} ms{values['memory_mib']:8.0f} MiB")
    for kind, ratio in result["ratios"].items():
        plain = result["ratios_contiguous"][kind]
        print(f"{kind}: the better peer takes {ratio:.2f} x spikelet in float32, {plain:.2f} x without channels_last")
    for line in result["missing"]:
        print(f"left out: {line}")


def main() -> None:
    given = arguments()
    doctor.prepare(given.threads)
    if given.memory_of:
        print(own_memory(given.memory_of, given))
        return
    load = os.getloadavg()[0]
    runs, missing = contenders()
    equal = same(runs, given)
    figures = race(runs, given)
    for name in runs:
        figures[name]["memory_mib"] = memory(name, given)
    result = {"notation": NOTATION, "steps": given.steps, "batch": given.batch, "threads": given.threads}
    result |= {"figures": figures, "ratios": ratios(figures), "ratios_contiguous": ratios(figures, " (contiguous)")}
    result |= {"same": equal, "missing": missing, "load": load}
    result |= {"allocator": doctor.allocator(), "processor": doctor.processor()}
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")
    show(result)


if __name__ == "__main__":
    main()
