"""Your own training loop: plain torch, no Lightning. Everything that ``build`` makes can be converted afterwards.

The notation has a residual block in brackets and max pooling; the loss has a price on synaptic operations.
"""

import torch
from torch.nn.functional import cross_entropy

import spikelet
from spikelet.datasets import Digits, loader
from spikelet.networks import measure_operations

NOTATION = "16C3p1-MP2-[16C3p1]-32C3p1-MP2-FC10"


def train(network: spikelet.Network, num_epochs: int, price: float) -> None:
    """Cross entropy plus ``price`` times the synaptic operations per image, in millions."""
    batches = loader(Digits(split="train+val"), batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.004)
    for epoch in range(num_epochs):
        batches.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for images, labels in batches:
            with measure_operations(network) as meter:
                logits = network(images)
            loss = cross_entropy(logits, labels) + price * meter.total / len(labels) / 1e6
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def main(num_epochs: int = 15, price: float = 0.5) -> dict:
    """Returns what ``check_equivalence`` found on the test images."""
    torch.manual_seed(1)
    network = spikelet.build(NOTATION, input_shape=(1, 8, 8))
    train(network, num_epochs, price)
    network.eval()  # batch norm must stand still before it becomes thresholds

    integer = spikelet.to_integer(network)
    for row in integer.describe():
        print(f"{row['name']:16} {row['kind']:8} {row['neurons']:5} neurons {row['weight_bytes']:6} bytes of weights")
    agreement = spikelet.check_equivalence(network, integer, loader(Digits(split="test"), batch_size=360))
    for name in ("snn_vs_integer_ann", "integer_vs_float_ann", "answers"):
        print(f"{name}: {100 * agreement[name]:.2f} %")
    return agreement


if __name__ == "__main__":
    main()
