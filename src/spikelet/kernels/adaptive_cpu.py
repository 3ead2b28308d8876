"""Fused kernels of adaptive neurons for the CPU: what ``cpu`` says of those of LIF and SRM holds here too.

Where the leak follows the mean membrane of a sample, a block is one sample.
"""

from __future__ import annotations

import struct
from ctypes import addressof, create_string_buffer
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import cfunc, types
from torch import Tensor

from spikelet.kernels import adaptive_loops, cpu_loops, threads
from spikelet.kernels.cpu import ALONE, BLOCK, SCRATCH, SLOPES, SMALLEST_BLOCK, fair_share, mode
from spikelet.kernels.fused import Layer, Numbers, Steps
from spikelet.kernels.reference import WINDOW, Adaptation

ARGUMENTS = struct.Struct("14q10f")  # as adaptive_loops names them


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
    size = min(BLOCK, max(SMALLEST_BLOCK, SCRATCH // (2 * num_steps)), fair_share(neurons))
    size = neurons // grad.tensor.shape[1] if _rule(layer).leak else size
    wanted = any(isinstance(number, Tensor) for number in numbers)
    sums = np.zeros((-(-neurons // size), 3)) if wanted else None
    _start("backward", layer, numbers, num_steps, size, (x, grad, out), sums)
    return (0.0, 0.0, 0.0) if sums is None else tuple(sums.sum(axis=0))


def _rule(layer: Layer) -> Adaptation:
    assert layer.rule is not None
    return layer.rule


def _start(
    name: str,
    layer: Layer,
    numbers: Numbers,
    num_steps: int,
    size: int,
    memory: tuple[Steps, Steps, Steps],
    sums: np.ndarray | None,
) -> None:
    x, given, out = memory
    neurons = given.tensor.numel() // num_steps
    places = x.tensor.data_ptr(), x.stride, given.tensor.data_ptr(), given.stride, out.tensor.data_ptr(), out.stride
    sums_at = 0 if sums is None else sums.ctypes.data
    code = SLOPES[layer.surrogate.name][0]
    fields = 0, neurons, num_steps, size, *places, mode(layer.reset), code, sums_at, _rule(layer).leak
    arguments = create_string_buffer(ARGUMENTS.pack(*fields, *_floats(layer, numbers)))
    entry = _entry(f"adaptive_{name}", x.tensor.dtype)
    threads.run(entry, addressof(arguments), parallel=neurons * num_steps >= ALONE and neurons > size)


def _floats(layer: Layer, numbers: Numbers) -> list[float]:
    reset = layer.reset
    scale, height = SLOPES[layer.surrogate.name][1](layer.surrogate)
    decay, growth = _rule(layer).pace()
    value = 0.0 if reset.value is None else reset.value
    pace = decay, 1 - decay, growth / WINDOW
    return [*map(float, numbers), value, scale, height, float(not reset.detached), *pace]


@cache
def _entry(name: str, dtype: torch.dtype) -> int:
    """Address of the compiled pass ``name`` for tensors of ``dtype``; compiled when it is first used, then on disk."""
    element = types.uint16 if dtype == torch.bfloat16 else types.float32
    return _compiled(name, types.void(types.CPointer(element))).address


@cache
def _compiled(name: str, signature: Any) -> Any:
    body = adaptive_loops.entries(cpu_loops.version_of(cpu_loops, adaptive_loops))[name]
    return cfunc(signature, cache=True, error_model="numpy")(body)
