"""Fused kernels of adaptive neurons for the CPU: as ``cpu``, but a block's membranes are in a near cache.

Where the leak follows the mean membrane of a sample, a block is one sample.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from spikelet.kernels import adaptive_loops
from spikelet.kernels.cpu import BLOCK, SLOPES, Memory, backward_block, fair_share, start
from spikelet.kernels.fused import Layer, Numbers, Steps
from spikelet.kernels.reference import WINDOW, Adaptation


def forward(layer: Layer, numbers: Numbers, x: Steps, spikes: Tensor) -> None:
    """Fill ``spikes`` [T, N, ...] with those of ``x``. ``numbers`` are those of ``reference.adaptive``."""
    num_steps = spikes.shape[0]
    neurons = spikes.numel() // num_steps
    size = neurons // spikes.shape[1] if _rule(layer).leak else min(BLOCK, fair_share(neurons))
    s = Steps(spikes, spikes.stride(0))
    _start("forward", layer, numbers, num_steps, size, (x, s, s), None)


def backward(
    layer: Layer, numbers: Numbers, x: Steps, grad: Steps, out: Steps, num_steps: int
) -> tuple[float, float, float]:
    """Fill ``out`` with the gradient of ``x``; returns those of the numbers."""
    neurons = grad.tensor.numel() // num_steps
    size = min(backward_block(2 * num_steps), fair_share(neurons))
    size = neurons // grad.tensor.shape[1] if _rule(layer).leak else size
    wanted = any(isinstance(number, Tensor) for number in numbers)
    sums = np.zeros((-(-neurons // size), 3)) if wanted else None
    _start("backward", layer, numbers, num_steps, size, (x, grad, out), sums)
    return (0.0, 0.0, 0.0) if sums is None else tuple(sums.sum(axis=0))


def _rule(layer: Layer) -> Adaptation:
    assert layer.rule is not None
    return layer.rule


def _start(
    name: str, layer: Layer, numbers: Numbers, num_steps: int, size: int, memory: Memory, sums: np.ndarray | None
) -> None:
    floats = _floats(layer, numbers)
    start(adaptive_loops, f"adaptive_{name}", layer, num_steps, size, memory, sums, _rule(layer).leak, floats)


def _floats(layer: Layer, numbers: Numbers) -> list[float]:
    reset = layer.reset
    scale, height = SLOPES[layer.surrogate.name][1](layer.surrogate)
    decay, growth = _rule(layer).pace()
    value = 0.0 if reset.value is None else reset.value
    pace = decay, 1 - decay, growth / WINDOW
    return [*map(float, numbers), value, scale, height, float(not reset.detached), *pace]
