"""Fused neuron kernels for the CPU: one forward and one backward per layer and pass, float32 and bfloat16.

A block of neurons goes through all steps before the next one begins, so that its membranes stay in registers and near
caches and every number is read and written once. The backward computes the membranes of a block again, in its own
scratch memory. Blocks are handed out to torch's threads one by one; what they sum over neurons is added up in their
order, so that results do not depend on the number of threads.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from ctypes import addressof, create_string_buffer
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numba import cfunc, types
from torch import Tensor

from spikelet.kernels import cpu_loops, cpu_passes, threads, vectors
from spikelet.kernels.cpu_loops import (
    ATAN,
    BOXCAR,
    FAST_SIGMOID,
    SET,
    SIGMOID,
    SUBTRACT,
    SUBTRACT_LATER,
    TRIANGLE,
)
from spikelet.kernels.fused import Layer, Numbers, Steps
from spikelet.kernels.reference import Number, Reset
from spikelet.surrogate import Surrogate

BLOCK = 4096  # neurons: what a step of them touches stays in the first-level cache
SMALLEST_BLOCK = 512
SCRATCH = 2**16  # floats that a block's membranes of all steps may take in the backward: 256 kB
STREAM = 2**22  # bytes of spikes from which on they go past the caches
ALONE = 2**15  # neuron steps below which a second thread costs more than it saves

Memory = tuple[Steps, Steps, Steps]

SLOPES: dict[str, tuple[int, Callable[[Surrogate], tuple[float, float]]]] = {
    "atan": (ATAN, lambda s: (math.pi / 2 * s.scale, s.height)),
    "fast_sigmoid": (FAST_SIGMOID, lambda s: (s.scale, s.height)),
    "sigmoid": (SIGMOID, lambda s: (s.scale, s.height)),
    "triangle": (TRIANGLE, lambda s: (2 / s.scale, s.height)),
    "boxcar": (BOXCAR, lambda s: (s.scale / 2, s.height)),
    "straight_through": (-1, lambda s: (s.scale, s.height)),
}


def forward(layer: Layer, numbers: Numbers, x: Steps, spikes: Tensor) -> None:
    """Fill ``spikes`` [T, ...] with those of ``x``."""
    num_steps = spikes.shape[0]
    size = min(BLOCK, fair_share(spikes.numel() // num_steps))
    s = Steps(spikes, spikes.stride(0))
    _start("forward", layer, numbers, num_steps, size, (x, s, s), None)


def backward(layer: Layer, numbers: Numbers, x: Steps, grad: Steps, out: Steps, num_steps: int) -> tuple[float, float]:
    """Fill ``out`` with the gradient of ``x``; returns those of beta and v_threshold."""
    neurons = grad.tensor.numel() // num_steps
    rows = num_steps if layer.decay is None else 2 * num_steps  # of the SRM two membranes are kept
    size = min(backward_block(rows), fair_share(neurons))
    wanted = any(isinstance(number, Tensor) for number in numbers)
    sums = np.zeros((-(-neurons // size), 2)) if wanted else None
    _start("backward", layer, numbers, num_steps, size, (x, grad, out), sums)
    return (0.0, 0.0) if sums is None else tuple(sums.sum(axis=0))


def backward_block(rows: int) -> int:
    """Neurons per block of which SCRATCH holds that many rows, in whole lines of the cache."""
    return min(BLOCK, max(SMALLEST_BLOCK, SCRATCH // rows // 64 * 64))


def fair_share(neurons: int) -> int:
    """Neurons per block with which a small layer still makes several blocks; it does not depend on the threads."""
    return max(SMALLEST_BLOCK, -(-neurons // 4 // 64) * 64)


def _start(
    name: str,
    layer: Layer,
    numbers: Numbers,
    num_steps: int,
    size: int,
    memory: Memory,
    sums: np.ndarray | None,
) -> None:
    kind = "lif" if layer.decay is None else "srm"
    streams = kind == "lif" and name == "forward" and _streams(memory[1])
    start(cpu_passes, f"{kind}_{name}", layer, num_steps, size, memory, sums, streams, _floats(layer, *numbers))


def start(
    passes: ModuleType,
    name: str,
    layer: Layer,
    num_steps: int,
    size: int,
    memory: Memory,
    sums: np.ndarray | None,
    more: bool,
    floats: list[float],
) -> None:
    """Run the pass ``name`` of a module over ``memory``, in blocks of ``size`` neurons; ``cpu_loops`` tells the rest.

    ``memory`` is (x, spikes or their gradient, out), ``sums`` has a row per block, ``more`` is the field MORE.
    """
    x, given, out = memory
    neurons = given.tensor.numel() // num_steps
    places = x.tensor.data_ptr(), x.stride, given.tensor.data_ptr(), given.stride, out.tensor.data_ptr(), out.stride
    code = SLOPES[layer.surrogate.name][0]
    fields = (
        0,
        neurons,
        num_steps,
        size,
        *places,
        mode(layer.reset),
        code,
        0 if sums is None else sums.ctypes.data,
        more,
    )
    arguments = create_string_buffer(struct.pack(f"14q{len(floats)}f", *fields, *floats))
    parallel = neurons * num_steps >= ALONE and neurons > size
    threads.run(_entry(passes, name, x.tensor.dtype), addressof(arguments), parallel=parallel)


def _streams(spikes: Steps) -> bool:
    """Whether spikes had better go past the caches, which they would flood."""
    size = spikes.tensor.element_size()
    return spikes.tensor.nbytes >= STREAM and spikes.tensor.data_ptr() % 64 == spikes.stride * size % 64 == 0


def mode(reset: Reset) -> int:
    """A delayed reset to a value is the same as one in its own step: only what is done in between differs."""
    if reset.value is not None:
        return SET
    return SUBTRACT_LATER if reset.delayed else SUBTRACT


def _floats(layer: Layer, beta: Number, v_threshold: Number) -> list[float]:
    reset, decay = layer.reset, layer.decay
    scale, height = SLOPES[layer.surrogate.name][1](layer.surrogate)
    value = 0.0 if reset.value is None else reset.value
    leak = float(beta) if decay is None else decay.membrane
    rest = (0.0, 0.0) if decay is None else (decay.synapse, decay.gain)
    return [leak, float(v_threshold), value, scale, height, float(not reset.detached), *rest]


@cache
def _entry(passes: ModuleType, name: str, dtype: torch.dtype) -> int:
    """Address of the compiled pass ``name`` for tensors of ``dtype``; compiled when it is first used, then on disk."""
    element = types.uint16 if dtype == torch.bfloat16 else types.float32
    return _compiled(passes, name, types.void(types.CPointer(element))).address


@cache
def _compiled(passes: ModuleType, name: str, signature: Any) -> Any:
    body = passes.entries(cpu_loops.version_of(cpu_loops, vectors, passes))[name]
    return cfunc(signature, cache=True, error_model="numpy")(body)
