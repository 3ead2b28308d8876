"""Convolutions of spikes, event by event, and their pooling in one go: torch's computes all the zeros as well.

On a CPU, for float32, and for input most of which is 0: spikes, event frames, pictures of strokes. A picture at a time
is summed in a thread's own memory and leaves it pooled, with one byte per output for the backward: what is pooled, and
its gradient, never stand in memory. Everything else is torch's convolution and ``max_pool``.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import cfunc, types
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from spikelet.kernels import conv_loops, cpu_loops, threads
from spikelet.kernels import vectors as vectors_of
from spikelet.kernels.pool import LARGEST, empty, max_pool
from spikelet.kernels.vectors import LANES

BUSY = 0.25  # the share of the input that is not 0 from which on torch's convolution is faster
SAMPLE = 8  # pictures that are counted for that
CHUNKS = 16  # into which a batch is cut for the gradient of the weights; each is summed by one thread
MOST_WEIGHTS = 2**22  # of an output
MOST_SUMS = 2**22  # numbers that these sums may take: 16 MB
MOST_VECTORS = 25  # that a loop keeps in registers
MOST_OF_A_PART = 4  # vectors: weights and sums of so many channels stay in a near cache
LARGEST_PICTURE = 2**20, 2**15, 2**16  # numbers, rows, columns
LARGEST_IMAGE = 2**30  # numbers of a padded picture, of sums or gradients: places in it are int32


class Conv(NamedTuple):
    """A convolution without its weights."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


def conv_max_pool(x: Tensor, weight: Tensor, bias: Tensor | None, conv: Conv, size: int) -> Tensor:
    """``max_pool`` of the convolution of ``x`` [M, C, H, W] with ``weight`` [D, C // groups, h, w].

    ``x`` may have any layout and, where it needs no gradient, any dtype. Equal to
    ``max_pool(functional.conv2d(x, weight, bias, *conv), size)``, but for the order of the sums, and but for weights
    and input that are not finite: a 0 meets them or does not. By events, what one picture gives does not depend on the
    others; whether the batch is quiet enough for events does. There is no second derivative.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    if threads.recorded() or not (_fits(x, weight, bias, conv, size) and _quiet(x)):
        x = functional.conv2d(x.to(weight.dtype).contiguous(memory_format=torch.channels_last), weight, bias, *conv)
        return x if size == 1 else max_pool(x, size)
    layer = _Layer(conv.padding, size)
    if torch.is_grad_enabled():
        return _ConvMaxPool.apply(x.float() if x.requires_grad else x, weight, bias, layer)
    return layer.forward(x, weight, bias, keep_index=False)[0]


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None, conv: Conv, size: int) -> bool:
    if x.device.type != "cpu" or weight.device.type != "cpu" or weight.dtype != torch.float32 or x.dim() != 4:
        return False
    if bias is not None and (bias.dtype != torch.float32 or bias.shape != weight.shape[:1]):
        return False
    plain = isinstance(conv.padding, tuple) and set(conv.stride) == set(conv.dilation) == {1} and conv.groups == 1
    if weight.dim() != 4 or weight.shape[3] > MOST_VECTORS or weight.shape[1:].numel() > MOST_WEIGHTS:
        return False
    if not plain or x.shape[1] != weight.shape[1] or not 1 <= size <= LARGEST or not x.numel() or not weight.numel():
        return False
    picture = x.shape[1:].numel(), *x.shape[2:]
    if any(n > most for n, most in zip(picture, LARGEST_PICTURE, strict=True)):
        return False
    pixels = math.prod(n + 2 * pad for n, pad in zip(x.shape[2:], conv.padding, strict=True))
    if pixels * max(MOST_OF_A_PART * LANES, x.shape[1] + LANES) > LARGEST_IMAGE:
        return False
    return min(_convolved(x.shape, weight.shape, conv.padding)) >= size


def _quiet(x: Tensor) -> bool:
    """Whether few numbers are not 0, in a sample of the pictures."""
    sample = x[:: -(-x.shape[0] // SAMPLE)]
    return int(sample.count_nonzero()) <= BUSY * sample.numel()


class _ConvMaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, layer: _Layer) -> Tensor:
        out, index = layer.forward(x, weight, bias, keep_index=layer.size > 1)
        ctx.layer = layer
        ctx.save_for_backward(x, weight, index)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, weight, index = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_x, *of_parameters = ctx.needs_input_grad[:3]
        parameters = ctx.layer.backward_weight(x, weight.shape, grad, index) if any(of_parameters) else (None, None)
        given = (g if needed else None for g, needed in zip(parameters, of_parameters, strict=True))
        return ctx.layer.backward_input(x, weight, grad, index) if of_x else None, *given, None


class _Layer(NamedTuple):
    """What a convolution and its pooling are called with, beside tensors."""

    padding: tuple[int, ...]
    size: int

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None, keep_index: bool) -> tuple[Tensor, Tensor | None]:
        """The output, and the places of the maxima."""
        high, wide = _convolved(x.shape, weight.shape, self.padding)
        out = empty((x.shape[0], weight.shape[0], high // self.size, wide // self.size), torch.float32)
        index = empty(out.shape, torch.uint8) if keep_index else None
        part = LANES * _vectors(weight.shape)  # channels that are summed at a time
        biases = weight.new_zeros(weight.shape[0]) if bias is None else bias.detach()
        weights = _filled(weight.detach().flip(3).permute(1, 2, 3, 0), part).unflatten(-1, (-1, part))
        weights, biases, x = weights.permute(3, 0, 1, 2, 4).contiguous(), _filled(biases, part), _dense(x)
        by_column = not x.is_contiguous()  # as events can be listed without sorting them
        name = "slide" if by_column and weight.shape[0] > LANES else "scatter"
        self._start(name, x, weight.shape, weights, out, index, biases.contiguous())
        return out, index

    def backward_weight(
        self, x: Tensor, shape: torch.Size, grad: Tensor, index: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The gradients of weights and bias."""
        part = LANES * _vectors(shape)
        parts, rows = -(-shape[0] // part), shape[1:].numel() + 1
        chunks = max(1, min(CHUNKS, x.shape[0], MOST_SUMS // (parts * rows * part)))
        sums = torch.zeros(chunks, parts, rows, part)
        self._start("backward_weight", _dense(x), shape, sums, grad, index)
        sums = sums.sum(0).transpose(1, 2).reshape(parts * part, rows)[: shape[0]]
        return sums[:, :-1].unflatten(1, shape[1:]).flip(3), sums[:, -1].clone()

    def backward_input(self, x: Tensor, weight: Tensor, grad: Tensor, index: Tensor | None) -> Tensor:
        """Where nothing was pooled, every output has a gradient, and torch is faster."""
        if self.size == 1:
            settings = [1, 1], self.padding, [1, 1], False, [0, 0], 1, [True, False, False]
            return torch.ops.aten.convolution_backward(grad, x, weight, None, *settings)[0]
        out = empty(x.shape, torch.float32)
        weights = _filled(weight.detach().permute(0, 2, 3, 1), LANES).contiguous()
        self._start("backward_input", out, weight.shape, weights, grad, index)
        return out

    def _start(
        self,
        name: str,
        x: Tensor,
        shape: torch.Size,
        weight: Tensor,
        out: Tensor,
        index: Tensor | None,
        bias: Tensor | None = None,
    ) -> None:
        images, c, h, w = x.shape
        high, wide = (n // self.size * self.size for n in _convolved(x.shape, shape, self.padding))
        line, taps, vectors = w + 2 * self.padding[1], shape[3], _vectors(shape)
        numbers = (high * line + line - wide) * vectors * LANES
        if name == "backward_input":  # sums in a padded picture of the input
            numbers = (h + 2 * self.padding[0]) * line * weight.shape[-1]
            row = taps * weight.shape[-1] // LANES
            vectors = _divisor(row, MOST_VECTORS)
            taps = _divisor(shape[2], MOST_VECTORS // vectors) if vectors == row else 1
        sizes = conv_loops.sizes(c, h, w, numbers)
        slots = torch.get_num_threads() if images > 1 else 1
        floats, ints = torch.zeros(slots * sizes[0]), torch.empty(slots * sizes[1], dtype=torch.int32)
        chunk = -(-images // weight.shape[0]) if name == "backward_weight" else 1
        places = (0 if t is None else t.data_ptr() for t in (x, weight, bias, out, index, floats, ints))
        last = not x.is_contiguous()
        fields = 0, 0, images, chunk, last, c, h, w, shape[0], high, wide, *shape[2:], *self.padding, self.size
        arguments = np.array([*fields, *places, *sizes, vectors * LANES], np.int64)
        threads.run(_compiled(name, taps, vectors).address, arguments.ctypes.data, parallel=slots > 1)


def _vectors(shape: torch.Size) -> int:
    """Of channels that are summed at a time: as many as stay in registers, in as even parts as can be."""
    vectors, most = -(-shape[0] // LANES), min(MOST_VECTORS // shape[3], MOST_OF_A_PART)
    return -(-vectors // -(-vectors // most))


def _divisor(number: int, most: int) -> int:
    return max(n for n in range(1, most + 1) if number % n == 0)


def _convolved(x: torch.Size, weight: torch.Size, padding: tuple[int, ...]) -> tuple[int, ...]:
    """Height and width of the convolution's output."""
    return tuple(n + 2 * pad - k + 1 for n, pad, k in zip(x[2:], padding, weight[2:], strict=True))


def _dense(x: Tensor) -> Tensor:
    """``x`` as float32, contiguous or channels_last."""
    x = x.detach().float()
    return x if x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()


def _filled(weight: Tensor, part: int) -> Tensor:
    """``weight``, its last axis filled up with zeros to whole parts."""
    missing = -weight.shape[-1] % part
    return functional.pad(weight, (0, missing)) if missing else weight


@cache
def _compiled(name: str, taps: int, vectors: int) -> Any:
    """The pass ``name``; compiled when it is first used, then on disk."""
    body = conv_loops.entries(taps, vectors, cpu_loops.version_of(cpu_loops, vectors_of, conv_loops))[name]
    return cfunc(types.void(types.CPointer(types.int64)), cache=True, error_model="numpy")(body)
