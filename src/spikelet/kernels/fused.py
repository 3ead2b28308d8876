"""What every fused kernel shares: one autograd node per layer and pass, and the memory that it works on.

A kernel sees flat memory: ``x`` as T steps of M neurons each, in whatever order the layout (contiguous, channels_last)
puts them; spikes and gradients get the same order. Saved for the backward is the input alone: membranes are recomputed.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikelet.kernels.reference import Adaptation, Decay, Number, Reset
from spikelet.surrogate import Surrogate


class Steps(NamedTuple):
    """A tensor as a kernel sees it: step t begins ``t * stride`` elements behind ``tensor``'s first."""

    tensor: Tensor
    stride: int


class Layer(NamedTuple):
    """One neuron layer without its learnable numbers: what a backend needs to choose its code."""

    surrogate: Surrogate
    reset: Reset
    decay: Decay | None = None  # of an SRM; None: LIF
    rule: Adaptation | None = None  # of adaptive neurons


Numbers = tuple[Number, ...]  # what a layer may learn: of LIF and SRM (beta, v_threshold), of adaptive neurons three


class Backend(Protocol):
    def forward(self, layer: Layer, numbers: Numbers, x: Steps, spikes: Tensor) -> None:
        """Fill ``spikes`` [T, ...]."""

    def backward(
        self, layer: Layer, numbers: Numbers, x: Steps, grad: Steps, out: Steps, num_steps: int
    ) -> tuple[Any, ...]:
        """Fill ``out``, summed over the steps where its stride is 0; returns the gradients of the numbers."""


def run(layer: Layer, backend: Backend, x: Tensor, num_steps: int | None, *numbers: Number) -> Tensor:
    """Spikes [T, N, ...] of ``x`` [T, N, ...], or of ``x`` [N, ...] held for ``num_steps``."""
    learned = any(isinstance(n, Tensor) and n.requires_grad for n in (x, *numbers))
    if learned and torch.is_grad_enabled():
        return _Fused.apply(x, num_steps, layer, backend, *numbers)
    return _forward(layer, backend, _dense(x, num_steps is not None), num_steps, numbers)


def _forward(layer: Layer, backend: Backend, x: Tensor, num_steps: int | None, numbers: Numbers) -> Tensor:
    spikes = _like(x, num_steps)
    if x.numel():
        backend.forward(layer, numbers, _steps(x, num_steps), spikes)
    return spikes


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, num_steps: int | None, layer: Layer, backend: Backend, *numbers: Number) -> Tensor:
        ctx.layer, ctx.backend, ctx.num_steps = layer, backend, num_steps
        x = _dense(x, held=num_steps is not None)
        ctx.save_for_backward(x, *(number for number in numbers if isinstance(number, Tensor)))
        ctx.numbers = tuple(None if isinstance(number, Tensor) else number for number in numbers)
        return _forward(layer, backend, x, num_steps, numbers)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, *saved = ctx.saved_tensors
        numbers = tuple(saved.pop(0) if number is None else number for number in ctx.numbers)
        held = ctx.num_steps is not None
        out = Steps(torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device), 0)
        if not held:
            out = _steps(_like(x, None), None)
        grads: tuple[Any, ...] = (0.0,) * len(numbers)
        if x.numel():
            given = _aligned(grad, x if held else x[0])
            memory = _steps(x, ctx.num_steps), _steps(given, None), out
            grads = ctx.backend.backward(ctx.layer, numbers, *memory, grad.shape[0])
        of_numbers = (_shaped(value, number) for value, number in zip(grads, numbers, strict=True))
        return out.tensor, None, None, None, *of_numbers


def _steps(x: Tensor, num_steps: int | None) -> Steps:
    return Steps(x, 0 if num_steps is not None else x.stride(0))


def _dense(x: Tensor, held: bool) -> Tensor:
    """``x`` itself where each of its steps fills one stretch of memory, else a copy."""
    if x.is_contiguous():
        return x
    shape, stride = (x.shape, x.stride()) if held else (x.shape[1:], x.stride()[1:])
    return x if _fills_memory(shape, stride) else x.contiguous()


def _fills_memory(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    expected = 1
    for step, size in sorted((step, size) for step, size in zip(stride, shape, strict=True) if size > 1):
        if step != expected:
            return False
        expected *= size
    return True


def _like(x: Tensor, num_steps: int | None) -> Tensor:
    """Fresh memory for T steps, each with the layout of a step of ``x``."""
    if num_steps is None and x.is_contiguous():
        return torch.empty_like(x)
    shape, stride = (x.shape, x.stride()) if num_steps is not None else (x.shape[1:], x.stride()[1:])
    size = num_steps if num_steps is not None else x.shape[0]
    strides = (shape.numel(), *stride)
    return torch.empty_strided((size, *shape), strides, dtype=x.dtype, device=x.device)


def _aligned(grad: Tensor, step: Tensor) -> Tensor:
    """``grad`` [T, ...] with the layout of ``step`` [...] in each step; copied only where it has another."""
    same = zip(grad.shape[1:], grad.stride()[1:], step.stride(), strict=True)
    if all(size <= 1 or given == wanted for size, given, wanted in same):
        return grad
    copy = _like(step, grad.shape[0]).to(grad.dtype)
    return copy.copy_(grad)


def _shaped(value: Any, number: Number) -> Tensor | None:
    """The gradient ``value`` in the shape of what it belongs to; None for a plain number."""
    if not isinstance(number, Tensor):
        return None
    return torch.as_tensor(value, dtype=number.dtype, device=number.device).reshape(number.shape)
