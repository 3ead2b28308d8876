"""Max pooling that keeps one byte per output for the backward: torch's keeps its whole input and eight bytes.

``conv_max_pool`` goes on from there: what a convolution hands to the pooling is needed by nobody else, so neither that
nor its gradient ever stands whole in memory.

On a CPU, for float32 and bfloat16; everything else is torch's. Values and gradients are torch's, bit for bit: the first
maximum of a window, counted row by row, takes the gradient, and what is not a number is handed on. The output lies in
memory as channels_last; input in another layout is copied first, which takes half the time of torch's pooling of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import cfunc, types
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from spikelet.kernels import cpu_loops, pool_loops, threads

LARGEST = 15  # 15 * 15 places in a window fit a byte
LANES = (16, 8, 4, 1)
SHARE = 2**14  # inputs that a thread takes at a time
ALONE = 2**16  # inputs below which a second thread costs more than it saves
PART = 2**18  # numbers that a convolution puts out before they are pooled: 1 MB
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
    if x.device.type != "cpu" or x.dtype not in ELEMENTS or x.dim() != 4 or not 1 <= size <= LARGEST:
        return False
    return x.numel() > 0 and min(x.shape[2:]) >= size


class Conv(NamedTuple):
    """A convolution without its weights."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


def conv_max_pool(x: Tensor, weight: Tensor, bias: Tensor | None, conv: Conv, size: int) -> Tensor:
    """``max_pool`` of the convolution of ``x`` [M, C, H, W] with ``weight`` [D, C // groups, h, w], part by part.

    ``x`` may have any layout and, where it needs no gradient, any dtype: a part of it at a time becomes what the
    convolution wants, so no copy is kept. Equal to ``max_pool(functional.conv2d(x, weight, bias, *conv), size)``, but
    for the order in which the gradients of weight and bias are summed over the pictures.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    x = x.to(weight.dtype) if x.requires_grad else x
    fits = weight.device.type == "cpu" and weight.dtype in ELEMENTS and 1 <= size <= LARGEST and x.numel() > 0
    if not fits or min(_convolved(x, weight, conv)[2:]) < size:
        return max_pool(functional.conv2d(_plain(x, weight), weight, bias, *conv), size)
    return _ConvMaxPool.apply(x, weight, bias, conv, size)


class _ConvMaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, conv: Conv, size: int) -> Tensor:
        ctx.conv, ctx.size, ctx.biased = conv, size, bias is not None
        whole = _convolved(x, weight, conv)
        out = _empty(_pooled(whole, size), weight.dtype)
        index = _empty(out.shape, torch.uint8) if any(ctx.needs_input_grad) else None
        ctx.save_for_backward(x, weight, index)
        for part in _parts(whole):
            y = functional.conv2d(_plain(x[part], weight), weight, bias, *conv)
            _start("forward", _plain(y, weight), out[part], None if index is None else index[part], size)
            del y  # before the next one is there
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, weight, index = ctx.saved_tensors
        grad, wanted = grad.contiguous(memory_format=torch.channels_last), [*ctx.needs_input_grad[:3]]
        of_x = _empty(x.shape, grad.dtype) if wanted[0] else None
        sums: list[Tensor | None] = [None, None]
        whole, biases = _convolved(x, weight, ctx.conv), [weight.shape[0]] if ctx.biased else None
        settings = biases, *ctx.conv[:3], False, [0, 0], ctx.conv.groups, wanted
        memory = _empty((next(_parts(whole)).stop, *whole[1:]), grad.dtype)
        for part in _parts(whole):
            y = memory[: part.stop - part.start]
            _start("backward", y, grad[part], index[part], ctx.size)
            found = torch.ops.aten.convolution_backward(y, _plain(x[part], weight), weight, *settings)
            if of_x is not None:
                of_x[part] = found[0]
            for i, new in enumerate(found[1:]):
                if new is not None:
                    total = sums[i]
                    sums[i] = new.float() if total is None else total.add_(new)
            del found, new
        return of_x, *(None if total is None else total.to(grad.dtype) for total in sums), None, None


def _plain(x: Tensor, weight: Tensor) -> Tensor:
    """``x`` as a convolution with ``weight`` wants it."""
    return x.to(weight.dtype).contiguous(memory_format=torch.channels_last)


def _convolved(x: Tensor, weight: Tensor, conv: Conv) -> tuple[int, ...]:
    """The shape of the convolution's output."""
    sizes = zip(x.shape[2:], weight.shape[2:], conv.stride, conv.padding, conv.dilation, strict=True)
    return x.shape[0], weight.shape[0], *((n + 2 * pad - d * (k - 1) - 1) // s + 1 for n, k, s, pad, d in sizes)


def _parts(shape: tuple[int, ...]) -> Iterator[slice]:
    """Pictures of ``shape`` [M, ...], as many at a time as PART allows; their number does not depend on the threads."""
    pictures = max(1, PART // (shape[1] * shape[2] * shape[3]))
    return (slice(i, min(i + pictures, shape[0])) for i in range(0, shape[0], pictures))


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, size: int) -> Tensor:
        ctx.shape, ctx.size = x.shape, size
        index = _empty(_pooled(x.shape, size), torch.uint8)
        ctx.save_for_backward(index)
        return _forward(x, size, index)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (index,) = ctx.saved_tensors
        x = _empty(ctx.shape, grad.dtype)
        _start("backward", x, grad.contiguous(memory_format=torch.channels_last), index, ctx.size)
        return x, None


def _forward(x: Tensor, size: int, index: Tensor | None) -> Tensor:
    out = _empty(_pooled(x.shape, size), x.dtype)
    _start("forward", x, out, index, size)
    return out


def _pooled(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    return *shape[:2], shape[2] // size, shape[3] // size


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
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
    sources = [Path(str(module.__file__)).read_bytes() for module in (cpu_loops, pool_loops)]
    body = pool_loops.entries(lanes, zlib.crc32(b"".join(sources)))[name]
    signature = types.void(types.CPointer(ELEMENTS[dtype]))
    return cfunc(signature, cache=True, error_model="numpy")(body)
