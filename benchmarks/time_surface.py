"""The time-surface encoder beside its published, dense form: time and memory of a forward and a backward.

    python benchmarks/time_surface.py --json FILE
    python benchmarks/time_surface.py --epoch

Made-up gestures in the size of DVS128 Gesture's: 128 x 128 pixels, 100,000 events in 1.5 s, T = 300. The dense form is
the one that the tests compare with: a tensor [2, 49, 128, 128] per step, and a convolution. Both run in turns within
each round; the median over the rounds counts. Memory is the growth of the process's peak in a process of its own.
``--epoch`` trains 3136-400-11 for an epoch of 1,176 gestures, as many as DVS128 Gesture has for training, from binning
to Adam; 49 of them are distinct.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _command import command, in_rounds, keep, positive
from _device import growth
from torch import Tensor, nn

from spikelet import NetworkSettings, build, doctor
from spikelet.encoders import TimeSurface
from spikelet.events import Binned, Packed, bin_batch, make_events, pack

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import dense_surface

SENSOR, CELL, RADIUS, NUM_STEPS, DT_US, CLASSES = (128, 128, 2), 16, 3, 300, 5000, 11
OURS, DENSE = "spikelet, by events", "dense, as published"
DISTINCT = 49
Encode = Callable[[Binned], Tensor]


def arguments() -> argparse.Namespace:
    parser = command(__doc__, rounds=3)
    parser.add_argument("--events", type=positive, default=100_000, help="of a recording")
    parser.add_argument("--epoch", action="store_true", help="train an epoch as well")
    parser.add_argument("--recordings", type=positive, default=1176, help="of that epoch")
    parser.add_argument("--batch", type=positive, default=16, help="of that epoch")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    return parser.parse_args()


def gesture(seed: int, num: int) -> np.ndarray:
    """A cloud of events that goes round, once in 1.3 s, in one of two directions."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, NUM_STEPS * DT_US, num))
    angle = (1 if seed % 2 else -1) * t / 200_000 + rng.uniform(0, 2 * np.pi)
    x, y = (rng.normal(64 + 30 * turn(angle), 14).clip(0, 127).astype(int) for turn in (np.cos, np.sin))
    return make_events(t, x, y, rng.integers(0, 2, num))


def encoder() -> TimeSurface:
    torch.manual_seed(1)
    return TimeSurface(SENSOR, CELL, RADIUS, "ktzs", tau=50e-3, dt=5e-3)


def contenders() -> dict[str, tuple[Encode, nn.Parameter]]:
    """Ways to encode, and the weights that they learn: the same numbers."""
    ours, dense = encoder(), encoder()
    return {
        OURS: (ours, ours.weight),
        DENSE: (lambda events: dense_surface.encode(events, dense.weight, dense.surface), dense.weight),
    }


def stream(num: int, num_steps: int = NUM_STEPS) -> Binned:
    return bin_batch(pack([gesture(1, num)], SENSOR), np.array([0]), num_steps, DT_US)


def train(encode: Encode, weight: nn.Parameter, events: Binned, grad: Tensor | None = None) -> tuple[float, float]:
    """Seconds of a forward, and of it with its backward."""
    weight.grad = None
    start = time.perf_counter()
    out = encode(events)
    forward = time.perf_counter() - start
    out.backward(torch.ones_like(out) if grad is None else grad)
    return forward, time.perf_counter() - start


def race(given: argparse.Namespace) -> dict[str, dict[str, float]]:
    events, times = stream(given.events), {}
    for i in in_rounds(given.rounds + 1):
        for name, (encode, weight) in contenders().items():
            seconds = train(encode, weight, events)
            if i > 0:  # the first round warms up
                times.setdefault(name, []).append(seconds)
    return {
        name: {"forward": median(a for a, _ in pairs), "both": median(b for _, b in pairs)}
        for name, pairs in times.items()
    }


def differences(given: argparse.Namespace) -> dict[str, float]:
    """The largest, of currents and of gradients, as a share of the largest of these."""
    events, found = stream(given.events), {}
    for name, (encode, weight) in contenders().items():
        out = encode(events)
        generator = torch.Generator().manual_seed(2)
        out.backward(torch.randn(out.shape, generator=generator))
        found[name] = out.detach(), weight.grad
    pairs = zip(("currents", "gradients"), found[OURS], found[DENSE], strict=True)
    return {what: float((a - b).abs().max() / b.abs().max()) for what, a, b in pairs}


def memory(name: str, given: argparse.Namespace) -> float:
    """MiB by which the peak grows, in a process of its own."""
    words = [sys.executable, __file__, "--memory-of", name, f"--events={given.events}", f"--threads={given.threads}"]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def own_memory(name: str, given: argparse.Namespace) -> float:
    encode, weight = contenders()[name]
    train(encode, weight, stream(100, num_steps=2))
    events = stream(given.events)
    return growth(lambda: train(encode, weight, events))


# ---------------------------------------------------------------- an epoch: recipe dvs-gesture-dts

NETWORK = NetworkSettings(
    "TS16r3-FC400-FC11", neuron="srm", num_steps=NUM_STEPS, dt=5e-3, tau_1=50e-3, tau_2=0.1, tau_m=60e-3, tau_s=20e-3,
    v_threshold=0.05, detach_reset=False, surrogate="boxcar", slope=0.1, height=1.0, norm="none", bias=False,
    init_gain=2.3, weights="float", first="parity", last="parity",
)  # fmt: skip


def epoch(given: argparse.Namespace) -> dict[str, Any]:
    packed, model = pack([gesture(i, given.events) for i in range(DISTINCT)], SENSOR), build(NETWORK, (2, 128, 128))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    update(model, optimizer, packed, np.arange(2))  # compiles
    order = np.random.default_rng(1).permutation(given.recordings) % DISTINCT
    start, binning = time.perf_counter(), 0.0
    for i in range(0, given.recordings, given.batch):
        binning += update(model, optimizer, packed, order[i : i + given.batch])
        passed = time.perf_counter() - start
        print(f"\r{i:5} of {given.recordings} recordings, {passed:6.1f} s", end="", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - start
    print(file=sys.stderr)
    facts = {"recordings": given.recordings, "batch": given.batch, "network": NETWORK.notation}
    return facts | {"seconds": seconds, "binning": binning / seconds}


def update(model: nn.Module, optimizer: torch.optim.Optimizer, packed: Packed, chosen: np.ndarray) -> float:
    """One update; returns the seconds of binning."""
    start = time.perf_counter()
    events = bin_batch(packed, chosen, NUM_STEPS, DT_US)
    binning = time.perf_counter() - start
    wanted = nn.functional.one_hot(torch.from_numpy(chosen % 2), CLASSES).float()
    optimizer.zero_grad()
    nn.functional.mse_loss(model(events).mean(0), wanted).backward()
    optimizer.step()
    return binning


# ---------------------------------------------------------------- what is said of it


def show(result: dict[str, Any]) -> None:
    print(f"{result['stream']}; {result['threads']} threads,")
    print(f"{result['processor']}, load {result['load']:.1f}, median of {result['rounds']} rounds\n")
    print(f"{'':24}{'forward':>14}{'forward + backward':>22}{'memory':>12}")
    for name, f in result["figures"].items():
        print(f"{name:24}{1e3 * f['forward']:11.1f} ms{1e3 * f['both']:19.1f} ms{f['memory_mib']:8.0f} MiB")
    for kind, ratio in result["ratios"].items():
        print(f"{kind}: the dense form takes {ratio:.0f} x")
    print(", ".join(f"{what} differ by {share:.0e} of the largest" for what, share in result["differences"].items()))
    if result["epoch"]:
        e = result["epoch"]
        print(f"an epoch of {e['recordings']} through {e['network']}, batch {e['batch']}: {e['seconds']:.1f} s", end="")
        print(f", {100 * e['binning']:.1f} % of it binning")


def main() -> None:
    given = arguments()
    doctor.prepare(given.threads)
    if given.memory_of:
        print(own_memory(given.memory_of, given))
        return
    figures = race(given)
    for name, values in figures.items():
        values["memory_mib"] = memory(name, given)
    ratios = {kind: figures[DENSE][kind] / figures[OURS][kind] for kind in ("forward", "both", "memory_mib")}
    size = f"{SENSOR[0]} x {SENSOR[1]}, {given.events:,} events in {NUM_STEPS * DT_US / 1e6} s, T = {NUM_STEPS}"
    result = {"stream": size, "figures": figures, "ratios": ratios, "differences": differences(given)}
    result |= {"epoch": epoch(given) if given.epoch else None, "rounds": given.rounds, "threads": given.threads}
    result |= {"processor": doctor.processor(), "load": os.getloadavg()[0]}
    keep(result, given.json)
    show(result)


if __name__ == "__main__":
    main()
