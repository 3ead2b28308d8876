"""What constrained backpropagation adds to a training epoch of the same network.

    python benchmarks/constrained.py --json FILE

The network of recipe mnist-stbp-fp32 on a tenth of MNIST, from the same weights, which were trained for two epochs
first: in full precision; with ternary and binary weights trained straight through (no multipliers); and with their
multipliers. All train in turns within each round; the first epoch of each turn is left out, and of the others the
median over the rounds counts.
"""

from __future__ import annotations

import argparse
import os
import time
from copy import deepcopy
from pathlib import Path
from statistics import median

from _command import command, in_rounds, keep
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from spikelet import NetworkSettings, TrainSettings, build, doctor, fit
from spikelet.datasets import MNIST, default_root, loader
from spikelet.networks import SNN
from spikelet.quantizers import quantize

NETWORK = NetworkSettings(
    "20C5-P2-50C5-P2-FC500-FC10", neuron="lif", num_steps=4, beta=0.25, v_threshold=0.5, reset="zero",
    detach_reset=False, surrogate="boxcar", slope=1.0, norm="none", weights="float", first="parity", last="parity",
)  # fmt: skip
BATCH, EPOCHS = 100, 3
CONTENDERS = {  # name: levels of the hidden layers, learning rate of the multipliers
    "full precision": (None, 0.0),
    "ternary, straight through": ("ternary", 0.0),
    "ternary, constrained": ("ternary", 5e-4),
    "binary, straight through": ("binary", 0.0),
    "binary, constrained": ("binary", 5e-4),
}


def arguments() -> argparse.Namespace:
    parser = command(__doc__, rounds=3)
    parser.add_argument("--root", type=Path, default=default_root(), help="where MNIST is")
    return parser.parse_args()


class Clock(Callback):
    """Seconds of every epoch, from its first batch to the end of its last callback."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if self.seconds:
            self.seconds[-1] = time.perf_counter() - self.seconds[-1]
        self.seconds.append(time.perf_counter())

    def on_train_end(self, trainer, pl_module) -> None:
        self.seconds[-1] = time.perf_counter() - self.seconds[-1]


def train(network: SNN, batches: DataLoader, lr_lambda: float, epochs: int = EPOCHS) -> list[float]:
    """Seconds of the epochs but the first."""
    clock, settings = Clock(), TrainSettings(num_epochs=epochs, batch_size=BATCH, loss="mse_rate", lr_lambda=lr_lambda)
    fit(network, batches, settings=settings, trainer={"enable_progress_bar": False, "callbacks": [clock]})
    return clock.seconds[1:]


def main() -> None:
    given = arguments()
    doctor.prepare(given.threads)
    batches = loader(MNIST(given.root, "train", subset=10), BATCH, shuffle=True, seed=1)
    trained = build(NETWORK, (1, 28, 28))
    train(trained, batches, 0.0, epochs=2)
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in in_rounds(given.rounds):
        for name, (levels, lr_lambda) in CONTENDERS.items():
            network = deepcopy(trained)
            network = quantize(network, levels) if levels else network
            seconds[name] += train(network, batches, lr_lambda)
    epochs = {name: median(times) for name, times in seconds.items()}
    more = {name: epoch / epochs["full precision"] - 1 for name, epoch in epochs.items()}
    result = {"seconds_per_epoch": epochs, "more_than_full_precision": more, "images": len(batches.dataset)}  # type: ignore[arg-type]
    result |= {"notation": NETWORK.notation, "num_steps": NETWORK.num_steps, "batch": BATCH, "threads": given.threads}
    result |= {"processor": doctor.processor(), "load": os.getloadavg()[0]}
    keep(result, given.json)
    print(f"{NETWORK.notation}, T = {NETWORK.num_steps}, batch {BATCH}, {len(batches.dataset)} images,")  # type: ignore[arg-type]
    print(f"{given.threads} threads, {result['processor']}, load {result['load']:.1f}\n")
    print(f"{'weights':28}{'s per epoch':>12}{'more':>9}")
    for name, epoch in epochs.items():
        print(f"{name:28}{epoch:12.2f}{100 * more[name]:8.1f} %")


if __name__ == "__main__":
    main()
