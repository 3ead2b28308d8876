"""Surrogate gradients: the forward is always the hard step, the backward a soft bump around the threshold."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Surrogate = Callable[[Tensor], Tensor]


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = slope
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x,) = ctx.saved_tensors
        return grad * ctx.slope(x), None


def atan(alpha: float = 2.0) -> Surrogate:
    """Arctangent surrogate: dS/dx = alpha / (2 * (1 + (pi/2 * alpha * x)^2)).

    The returned function maps ``x = v - v_threshold`` of any shape to spikes 0 or 1. Source: Fang et al., ICCV 2021.

    >>> x = torch.tensor([-1.0, 0.0], requires_grad=True)
    >>> atan()(x).sum().backward()
    >>> x.grad[1].item()
    1.0
    """
    return lambda x: _Spike.apply(x, lambda v: alpha / (2 * (1 + (math.pi / 2 * alpha * v) ** 2)))


def fast_sigmoid(alpha: float = 25.0) -> Surrogate:
    """Fast sigmoid surrogate: dS/dx = 1 / (1 + alpha * |x|)^2. Source: Zenke & Ganguli 2018; snnTorch's slope is 25.

    >>> fast_sigmoid()(torch.tensor([-0.1, 0.0, 0.1])).tolist()
    [0.0, 1.0, 1.0]
    """
    return lambda x: _Spike.apply(x, lambda v: 1 / (1 + alpha * v.abs()) ** 2)


def boxcar(width: float = 1.0) -> Surrogate:
    """Rectangular surrogate: dS/dx = 1 / width where |x| < width / 2, else 0. Source: Wu et al. 2018 (STBP).

    >>> boxcar(0.5)(torch.tensor([-0.1, 0.1])).tolist()
    [0.0, 1.0]
    """
    return lambda x: _Spike.apply(x, lambda v: (v.abs() < width / 2).to(v.dtype) / width)
