"""What calibration changes in one layer, so that it sends on average what its teacher sends: bias, potential, weights.

A layer is a ``SpikingBlock``; its ``Inputs`` are what it receives from all calibration images; ``target`` [N, ...] is
what it should send per step and image, on average over the steps.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from spikelet.networks import SNN, SpikePool, SpikingBlock
from spikelet.neurons import LIF, Primed

BATCH = 32  # samples over all steps that are in memory at a time, beside the spikes, of which eight fit a byte
ROUNDS = 4
ITERATIONS = 400
LEARNING_RATE = 1e-3


class Inputs:
    """What one layer receives, batch by batch: pictures, each ``shown`` for so many steps, or spikes [T, n, ...]."""

    def __init__(self, batches: Sequence[Callable[[], Tensor]], shown: int | None = None) -> None:
        self.batches, self.shown = batches, shown

    def through(self, layer: SpikingBlock) -> Iterator[Tensor]:
        """What ``layer`` makes of every batch, [T, n, ...]."""
        for batch in self.batches:
            yield layer(batch()) if self.shown is None else layer(batch(), self.shown)

    def means(self) -> Tensor:
        """The mean over time, [N, ...]."""
        return torch.cat([batch().mean(0) if self.shown is None else batch() for batch in self.batches])

    def behind(self, layer: SpikingBlock) -> "Inputs":
        """The spikes that ``layer`` makes of them."""
        return Inputs([_packed(spikes) for spikes in self.through(layer)])

    def pooled(self, pool: SpikePool) -> "Inputs":
        def after(batch: Callable[[], Tensor]) -> Callable[[], Tensor]:
            return lambda: pool(batch())

        return Inputs([after(batch) for batch in self.batches])


def walk(network: SNN, images: Tensor, num_steps: int) -> Iterator[tuple[SpikingBlock, Inputs]]:
    """Every weighted layer and what it receives; a layer sends when the next is asked for, corrected or not."""
    parts = images.split(BATCH)
    inputs = Inputs([lambda part=part: network.pixels(part) for part in parts], shown=num_steps)  # type: ignore[misc]
    for layer in network.layers:
        if isinstance(layer, SpikePool):
            inputs = inputs.pooled(layer)
        elif isinstance(layer, SpikingBlock):
            yield layer, inputs
            if layer is not network.layers[-1]:
                inputs = inputs.behind(layer)


def _packed(spikes: Tensor) -> Callable[[], Tensor]:
    """Spikes of 0 and 1, kept in an eighth of a byte each, for whoever calls."""
    shape, bits = spikes.shape, np.packbits(spikes.bool().numpy())

    def unpacked() -> Tensor:
        return torch.from_numpy(np.unpackbits(bits, count=shape.numel()).reshape(shape)).float()

    return unpacked


@torch.no_grad()
def gap(layer: SpikingBlock, inputs: Inputs, target: Tensor) -> Tensor:
    """How much more ``layer`` sends per step than it should, the mean over the samples: [...], one per neuron."""
    total, begin = torch.zeros_like(target[0], dtype=torch.float64), 0
    for out in inputs.through(layer):
        mean = out.mean(0)
        total += (mean - target[begin : begin + len(mean)]).sum(0, dtype=torch.float64)
        begin += len(mean)
    return (total / begin).to(target.dtype)


@torch.no_grad()
def correct_bias(layer: SpikingBlock, inputs: Inputs, target: Tensor) -> None:
    """b_c = b_c - V * mean over samples and plane of (sent per step - target)        per channel c, threshold V.

    The bias of a layer with a batch norm is the norm's; a readout behind such layers has none and stays.
    """
    bias = layer.op.bias if layer.norm is None else layer.norm.bias
    if bias is None:
        return
    wrong = gap(layer, inputs, target)
    bias -= _threshold(layer) * wrong.flatten(1).mean(1) if wrong.dim() > 1 else _threshold(layer) * wrong  # type: ignore[operator]


@torch.no_grad()
def correct_potential(
    layer: SpikingBlock, inputs: Inputs, target: Tensor, num_steps: int, rounds: int = ROUNDS
) -> None:
    """v0 = v0 - V * T * mean over samples of (sent per step - target)        per neuron, threshold V.

    Spikes come one at a time, so once is not enough: ``rounds`` times, halving where that would lead beyond a value
    that was too large or too small: a higher v0 takes no spike away. The best of all is kept.
    """
    if layer.neuron is None:
        return
    if not isinstance(layer.neuron, Primed):
        layer.neuron = Primed(layer.neuron, torch.zeros(()))
    primed = layer.neuron
    start = primed.start = primed.start.expand_as(target[0])
    found = least = gap(layer, inputs, target)
    best, low, high = start, torch.full_like(start, -torch.inf), torch.full_like(start, torch.inf)
    for _ in range(rounds):
        low, high = torch.where(found < 0, start, low), torch.where(found > 0, start, high)
        further = start - _threshold(layer) * num_steps * found
        start = primed.start = torch.where((low < further) & (further < high), further, (low + high) / 2)
        found = gap(layer, inputs, target)
        closer = found.abs() < least.abs()
        best, least = torch.where(closer, start, best), torch.where(closer, found, least)
    primed.start = best.clone()


def correct_weights(
    layer: SpikingBlock, inputs: Inputs, target: Tensor, num_steps: int, generator: torch.Generator
) -> None:
    """Weight and bias of an IF layer by Adam on the mean square of

        clip(floor(T * (W . mean input + b) + v0), 0, T) / T - target        v0: initial potential

    where the floor passes gradients straight through. The readout has no staircase. A layer that sees the pictures
    stays: what it receives is exact.
    Source: Li et al., "A Free Lunch From ANN", ICML 2021 (reference 2.9), whose optimizer is SGD.
    """
    if inputs.shown is not None:
        return
    x, op = inputs.means(), layer.op
    start = layer.neuron.start if isinstance(layer.neuron, Primed) else 0.0
    optimizer = torch.optim.Adam(op.parameters(), LEARNING_RATE * float(op.weight.detach().std()))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ITERATIONS)
    for _ in range(ITERATIONS):
        chosen = torch.randint(len(x), (BATCH,), generator=generator)
        out = op(x[chosen].flatten(1) if isinstance(op, nn.Linear) else x[chosen])
        if layer.neuron is not None:
            steps = (out * num_steps + start).clamp(0, num_steps)
            out = (steps + (steps.floor() - steps).detach()) / num_steps
        loss = (out - target[chosen]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _threshold(layer: SpikingBlock) -> float:
    neuron = layer.neuron.neuron if isinstance(layer.neuron, Primed) else layer.neuron
    return float(neuron.threshold()) if isinstance(neuron, LIF) else 1.0
