"""Train a small network on the 8x8 digits, convert it, check that nothing was lost, and keep it in one file.

python examples/train_digits.py [FILE]
"""

import sys
from pathlib import Path

import spikelet
from spikelet.datasets import Digits, loader


def main(file: Path = Path("digits.safetensors"), num_epochs: int = 15) -> dict:
    """Returns what ``check_equivalence`` found; the integer network is in ``file``."""
    train, test = Digits(split="train+val"), Digits(split="test")
    network = spikelet.build("16C3p1-P2-32C3p1-P2-128-FC10", input_shape=(1, 8, 8))
    settings = spikelet.TrainSettings(num_epochs=num_epochs, lr=0.004, label_smoothing=0.1)
    spikelet.fit(network, loader(train, batch_size=64, shuffle=True), settings=settings)

    integer = spikelet.to_integer(network)
    agreement = spikelet.check_equivalence(network, integer, loader(test, batch_size=360))
    for name, of in (("snn_vs_integer_ann", "integer"), ("integer_vs_float_ann", "trained")):
        print(f"neurons that agree with the {of} network: {100 * agreement[name]:.2f} %")

    integer.save(file)
    again = spikelet.load(file)
    right = again.predict(test.images.numpy(), num_steps=8) == test.labels.numpy()
    print(f"{file}: {file.stat().st_size:,} bytes, {100 * right.mean():.2f} % of {len(test)} test images")
    return agreement


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
