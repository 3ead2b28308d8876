"""What loading N-MNIST recordings adds to a training epoch, from the packed cache to augmented frames.

    python benchmarks/loading.py --json FILE

The network of recipe nmnist-csnn on the 8,000 recordings of 6 to 9 that protocol first-1000 leaves over. Loading
happens between the training steps, in the same process (data.num_workers=0), so its share is the time of an epoch of
loading alone over that of an epoch of training. Median of several rounds, of loading and training in turns.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from statistics import median

from _command import command, in_rounds, keep
from torch.utils.data import DataLoader

from spikelet import NetworkSettings, TrainSettings, build, doctor, fit
from spikelet.datasets import NMNIST, FrameSet, default_root, loader
from spikelet.events import Frames, Jitter

NETWORK = NetworkSettings("12C5-MP2-64C5-MP2-FC10", neuron="lif", weights="float", first="parity", last="parity")
BATCH, NUM_STEPS = 32, 10


def arguments() -> argparse.Namespace:
    parser = command(__doc__, rounds=3)
    parser.add_argument("--root", type=Path, default=default_root(), help="where the recordings are")
    return parser.parse_args()


def load(loader: DataLoader, epoch: int) -> float:
    """Seconds of an epoch of loading alone."""
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    start = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - start


def train(batches: DataLoader) -> float:
    """Seconds of an epoch of training, start and end of training left out."""
    times = []
    for epochs in (1, 2):
        settings = TrainSettings(num_epochs=epochs, lr=0.005, batch_size=BATCH, loss="ce_sum")
        network = build(NETWORK, (2, 34, 34))
        start = time.perf_counter()
        fit(network, batches, settings=settings, trainer={"enable_progress_bar": False})
        times.append(time.perf_counter() - start)
    return times[1] - times[0]


def main() -> None:
    given = arguments()
    doctor.prepare(given.threads)
    recordings = NMNIST(given.root, "other-6789", protocol="first-1000")
    batches = loader(FrameSet(recordings, Frames(NUM_STEPS), Jitter(10, 1), seed=1), BATCH, shuffle=True, seed=1)
    load(batches, 0)  # kernels are compiled, the cache is in memory
    rounds = [(load(batches, i), train(batches)) for i in in_rounds(given.rounds)]
    loading, training = (median(column) for column in zip(*rounds, strict=True))
    result = {"recordings": len(recordings), "loading": loading, "training": training, "share": loading / training}
    result |= {"num_steps": NUM_STEPS, "batch": BATCH, "threads": given.threads}
    result |= {"processor": doctor.processor(), "load": os.getloadavg()[0]}
    keep(result, given.json)
    print(f"{NETWORK.notation}, T = {NUM_STEPS}, batch {BATCH}, {given.threads} threads,")
    print(f"{result['processor']}, load {result['load']:.1f}\n")
    print(
        f"{len(recordings)} recordings, rotated and shifted: loaded in {loading:.2f} s, trained on in {training:.1f} s"
    )
    print(f"loading is {100 * result['share']:.1f} % of a training epoch")


if __name__ == "__main__":
    main()
