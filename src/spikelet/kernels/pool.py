"""Max pooling that keeps one byte per output for the backward: torch's keeps its whole input and eight bytes.

On a CPU, for float32 and bfloat16; everything else is torch's. Values and gradients are torch's, bit for bit: the first
maximum of a window, counted row by row, takes the gradient, and what is not a number is handed on. The output lies in
memory as channels_last; input in another layout is copied first, which takes half the time of torch's pooling of it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import cfunc, types
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from spikelet.kernels import cpu_loops, pool_loops, threads, vectors

LARGEST = 15  # 15 * 15 places in a window fit a byte
LANES = (16, 8, 4, 1)
SHARE = 2**14  # inputs that a thread takes at a time
ALONE = 2**16  # inputs below which a second thread costs more than it saves
ELEMENTS = {torch.float32: types.float32, torch.bfloat16: types.uint16}


def max_pool(x: Tensor, size: int) -> Tensor:
    """The largest of each ``size`` x ``size`` window of ``x`` [M, C, H, W]: [M, C, H // size, W // size].

    Windows stand side by side; rows and columns that fill none are dropped.

    >>> max_pool(torch.tensor([[[[1.0, 2.0, 9.0], [4.0, 3.0, 9.0]]]]), 2).tolist()
    [[[[4.0]]]]
    """
    if not _fits(x, size):
        return functional.max_pool2d(x, size)
    x = x.contiguous(memory_format=torch.channels_last)
    if torch.is_grad_enabled() and x.requires_grad:
        return _MaxPool.apply(x, size)
    return _forward(x.detach(), size, None)


def _fits(x: Tensor, size: int) -> bool:
    if threads.recorded() or x.device.type != "cpu" or x.dtype not in ELEMENTS:
        return False
    return x.dim() == 4 and 1 <= size <= LARGEST and x.numel() > 0 and min(x.shape[2:]) >= size


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, size: int) -> Tensor:
        ctx.shape, ctx.size = x.shape, size
        index = empty(_pooled(x.shape, size), torch.uint8)
        ctx.save_for_backward(index)
        return _forward(x, size, index)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (index,) = ctx.saved_tensors
        x = empty(ctx.shape, grad.dtype)
        _start("backward", x, grad.contiguous(memory_format=torch.channels_last), index, ctx.size)
        return x, None


def _forward(x: Tensor, size: int, index: Tensor | None) -> Tensor:
    out = empty(_pooled(x.shape, size), x.dtype)
    _start("forward", x, out, index, size)
    return out


def _pooled(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    return *shape[:2], shape[2] // size, shape[3] // size


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Fresh memory, channels_last."""
    return torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)


def _start(name: str, x: Tensor, out: Tensor, index: Tensor | None, size: int) -> None:
    pictures, channels, height, width = x.shape
    rows = pictures * (height // size)
    share = max(1, SHARE // (size * width * channels))
    places = [x.data_ptr(), out.data_ptr(), 0 if index is None else index.data_ptr()]
    arguments = np.array([0, rows, share, channels, height, width, size, *places], np.int64)
    lanes = next(lanes for lanes in LANES if lanes <= channels)
    parallel = x.numel() >= ALONE and rows > share
    threads.run(_compiled(name, lanes, x.dtype).address, arguments.ctypes.data, parallel)


@cache
def _compiled(name: str, lanes: int, dtype: torch.dtype) -> Any:
    """The pass ``name`` for tensors of ``dtype``; compiled when it is first used, then on disk."""
    body = pool_loops.entries(lanes, cpu_loops.version_of(cpu_loops, vectors, pool_loops))[name]
    signature = types.void(types.CPointer(ELEMENTS[dtype]))
    return cfunc(signature, cache=True, error_model="numpy")(body)
