"""A training step, an inference pass and the peak memory of a convolutional SNN, beside snnTorch and SpikingJelly.

    python benchmarks/training.py --json FILE

12C5-MP2-64C5-MP2-FC10 with LIF neurons on event frames [T, N, 2, 34, 34]. All take part in one process, in turns within
each round, so that a busy moment of the machine meets all of them; the median over the rounds counts, and of a peer's
memory formats the better one. Memory is the growth of the process's peak, with ``--device cuda`` of what torch takes on
the GPU, in a process of its own: the median of three. Before the race, the same weights and frames must give the peers'
spikes and loss curve. Peers need ``make bench``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from statistics import median
from typing import Any

import torch
from _command import command, in_rounds, keep, positive
from _device import check, described, growth, wait
from _networks import CONTENDERS, IN_FLOAT64, NOTATION, SAME, Missing, Trainer

from spikelet import doctor

PEERS = ("snnTorch", "SpikingJelly")
OURS = ("spikelet, float32", "spikelet, bfloat16")


def arguments() -> argparse.Namespace:
    parser = command(__doc__, rounds=15)
    parser.add_argument("--steps", type=positive, default=10, help="time steps T")
    parser.add_argument("--batch", type=positive, default=32)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--profile", action="store_true", help="show where the time of a training step goes as well")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    return parser.parse_args()


def data(given: argparse.Namespace, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames of event counts like N-MNIST's: one pixel in twelve holds an event; float32, and labels."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.poisson(torch.full((given.steps, given.batch, 2, 34, 34), 0.09), generator=generator)
    return frames.to(given.device), torch.randint(10, (given.batch,), generator=generator).to(given.device)


def contenders(device: str) -> tuple[dict[str, Trainer], list[str]]:
    built, missing = {}, []
    for name, build in CONTENDERS.items():
        try:
            built[name] = build(2, 34, device)
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
        pair = _pair(given.device, ours, peer)
        frames, labels = data(given)
        spikes = [trainer.infer(frames) for trainer in pair]
        curves = [[trainer.step(frames, labels) for _ in range(updates)] for trainer in pair]
        found[peer] = {
            "spikes_equal": float((spikes[0] == spikes[1]).float().mean()),
            "output_spikes": float(spikes[0].sum()),
            "gradients_differ": _gradients_differ(_pair(given.device, ours, peer), frames, labels),
            "loss": curves,
            "largest_gap": max(abs(a - b) for a, b in zip(*curves, strict=True)),
        }
        if peer in IN_FLOAT64:
            torch.set_default_dtype(torch.float64)
            pair, wide = _pair(given.device, ours, peer), frames.double()
            curves = [[trainer.step(wide, labels) for _ in range(updates)] for trainer in pair]
            torch.set_default_dtype(torch.float32)
            found[peer]["largest_gap_float64"] = max(abs(a - b) for a, b in zip(*curves, strict=True))
    return found


def loss_curves(given: argparse.Namespace, updates: int = 100) -> dict[str, list[float]]:
    """Of spikelet in float32, in bfloat16 and, which tells the noise, in float32 with the samples in another order."""
    frames, labels = data(given)
    order = torch.randperm(given.batch, generator=torch.Generator().manual_seed(2)).to(given.device)
    float32, again, bfloat16 = _pair(given.device, OURS[0], OURS[0], OURS[1])
    curves = {"float32": [float32.step(frames, labels) for _ in range(updates)]}
    curves["bfloat16"] = [bfloat16.step(frames, labels) for _ in range(updates)]
    curves["float32, another order"] = [again.step(frames[:, order], labels[order]) for _ in range(updates)]
    return curves


def profile(given: argparse.Namespace, steps: int = 10) -> str:
    """What torch's profiler says of some training steps: the operators that take most time."""
    trainer, (frames, labels) = CONTENDERS[OURS[0]](2, 34, given.device), data(given)
    trainer.step(frames, labels)
    with torch.profiler.profile() as found:
        for _ in range(steps):
            trainer.step(frames, labels)
        wait(given.device)
    return found.key_averages().table(sort_by=f"self_{given.device}_time_total", row_limit=15)


def _pair(device: str, *names: str) -> list[Trainer]:
    return [CONTENDERS[name](2, 34, device) for name in names]


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
    for _ in in_rounds(given.rounds + 2):
        for name, trainer in runs.items():
            for kind, call in (("step", lambda t: t.step(frames, labels)), ("inference", lambda t: t.infer(frames))):
                call(trainer)
                wait(given.device)
                start = time.perf_counter()
                call(trainer)
                wait(given.device)
                times[name][kind].append(time.perf_counter() - start)
    return {name: {kind: median(values[2:]) for kind, values in kinds.items()} for name, kinds in times.items()}


def memory(name: str, given: argparse.Namespace) -> float:
    """MiB by which the peak grows when training starts, in a process of its own."""
    words = [sys.executable, __file__, "--memory-of", name]
    words += [f"--{key}={getattr(given, key)}" for key in ("steps", "batch", "threads", "device")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(done.stdout)


def own_memory(name: str, given: argparse.Namespace) -> float:
    """Of three steps; one sample warms up first."""
    trainer = CONTENDERS[name](2, 34, given.device)
    frames, labels = data(given)
    trainer.step(frames[:, :1].contiguous(), labels[:1])
    return growth(lambda: [trainer.step(frames, labels) for _ in range(3)], given.device)


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
    curves = result["loss_curves"]
    ends = ", ".join(f"{curves[name][-1]:.4f} in {name}" for name in curves)
    print(f"loss after {len(curves['float32'])} updates, from {curves['float32'][0]:.4f}: {ends}")
    for line in result["missing"]:
        print(f"left out: {line}")


def main() -> None:
    given = arguments()
    check(given.device)
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32, for everybody
    doctor.prepare(given.threads)
    if given.memory_of:
        print(own_memory(given.memory_of, given))
        return
    load = os.getloadavg()[0]
    runs, missing = contenders(given.device)
    equal = same(runs, given)
    figures = race(runs, given)
    for name in runs:
        figures[name]["memory_mib"] = median(memory(name, given) for _ in range(3))
    result = {"notation": NOTATION, "steps": given.steps, "batch": given.batch, "threads": given.threads}
    result |= {"figures": figures, "ratios": ratios(figures), "ratios_contiguous": ratios(figures, " (contiguous)")}
    result |= {"same": equal, "loss_curves": loss_curves(given), "missing": missing, "load": load}
    result |= {
        "allocator": doctor.allocator(),
        "processor": described(given.device),
        "device": given.device,
        "torch": torch.__version__,
    }
    keep(result, given.json)
    show(result)
    if given.profile:
        print(profile(given))


if __name__ == "__main__":
    main()
