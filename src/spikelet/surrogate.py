"""Surrogate gradients: the forward is always the hard step, the backward a soft bump around the threshold.

To add one: a factory and its slope here, a line in ``SURROGATES``, and its line in the fused kernels (``kernels/``).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikelet.arguments import check_number
from spikelet.errors import SpikeletError


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = slope
        return (x >= 0).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (x,) = ctx.saved_tensors
        return grad * ctx.slope(x), None


@dataclass(frozen=True)
class Surrogate:
    """A surrogate gradient: call it on ``x = v - v_threshold`` of any shape to get spikes, 1 where x >= 0, else 0.

    ``name`` and the two numbers are all it is, so that compiled kernels can switch on them: ``scale`` is alpha or
    width, ``height`` the slope at the threshold. Made by ``atan(alpha)`` and the others of ``SURROGATES``.

    >>> spike = atan(alpha=2.0)
    >>> spike(torch.tensor([-0.1, 0.0, 0.1])).tolist(), spike.slope(torch.tensor([0.0])).item()
    ([0.0, 1.0, 1.0], 1.0)
    """

    name: str
    scale: float
    height: float

    def __call__(self, x: Tensor) -> Tensor:
        if torch.jit.is_tracing():  # a traced module is saved without Python, and has no gradient
            return (x >= 0).to(x.dtype)
        return _Spike.apply(x, self.slope)

    def slope(self, x: Tensor) -> Tensor:
        """dS/dx at ``x``, what the backward multiplies with."""
        return _SLOPES[self.name](x, self)


def atan(alpha: float = 2.0) -> Surrogate:
    """Arctangent: dS/dx = alpha / (2 * (1 + (pi/2 * alpha * x)^2)). Source: Fang et al., ICCV 2021 (PLIF).

    >>> atan(2.0).slope(torch.tensor([0.0, 1 / math.pi])).tolist()
    [1.0, 0.5]
    """
    return Surrogate("atan", _positive("alpha", alpha), alpha / 2)


def fast_sigmoid(alpha: float = 25.0) -> Surrogate:
    """Fast sigmoid: dS/dx = 1 / (1 + alpha * |x|)^2. Source: Zenke & Ganguli 2018; snnTorch's ``slope`` is alpha.

    >>> fast_sigmoid(25.0).slope(torch.tensor([0.0, 0.04])).tolist()
    [1.0, 0.25]
    """
    return Surrogate("fast_sigmoid", _positive("alpha", alpha), 1.0)


def sigmoid(alpha: float = 4.0) -> Surrogate:
    """Logistic: dS/dx = alpha * y * (1 - y), y = 1 / (1 + exp(-alpha * x)). SpikingJelly's default, alpha = 4.

    >>> sigmoid(4.0).slope(torch.tensor([0.0])).item()
    1.0
    """
    return Surrogate("sigmoid", _positive("alpha", alpha), alpha / 4)


def triangle(width: float = 2.0, height: float | None = None) -> Surrogate:
    """Triangle: dS/dx = height * max(0, 1 - 2 * |x| / width); height 2 / width unless given, so that its area is 1.

    ``width`` is the whole base. Source: Esser et al. 2016; Bellec et al. 2018 have width 2, height 0.3.

    >>> triangle(2.0).slope(torch.tensor([-1.0, -0.5, 0.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return Surrogate(
        "triangle", _positive("width", width), _positive("height", 2 / width if height is None else height)
    )


def boxcar(width: float = 1.0, height: float | None = None) -> Surrogate:
    """Rectangle: dS/dx = height where |x| < width / 2, else 0; height 1 / width unless given, so that its area is 1.

    Source: Wu et al. 2018 (STBP), whose ``lens`` is width / 2. DTS-SNN: width 2 * v_threshold, height 1.

    >>> boxcar(0.5).slope(torch.tensor([-0.25, -0.2, 0.0])).tolist()
    [0.0, 2.0, 2.0]
    """
    return Surrogate("boxcar", _positive("width", width), _positive("height", 1 / width if height is None else height))


def straight_through() -> Surrogate:
    """Straight through: dS/dx = 1 everywhere. Source: Bengio et al. 2013.

    >>> straight_through().slope(torch.tensor([-9.0, 9.0])).tolist()
    [1.0, 1.0]
    """
    return Surrogate("straight_through", 1.0, 1.0)


SURROGATES: dict[str, Callable[..., Surrogate]] = {
    "atan": atan,
    "fast_sigmoid": fast_sigmoid,
    "sigmoid": sigmoid,
    "triangle": triangle,
    "boxcar": boxcar,
    "straight_through": straight_through,
}


def surrogate(name: str, **settings: float) -> Surrogate:
    """The surrogate called ``name``, as a recipe says it: ``surrogate("atan", alpha=2.0)``.

    >>> surrogate("boxcar", width=0.5) == boxcar(0.5)
    True
    """
    if name not in SURROGATES:
        raise SpikeletError(f"surrogate: expected one of {', '.join(SURROGATES)}, got {name!r}")
    try:
        return SURROGATES[name](**settings)
    except TypeError as error:
        raise SpikeletError(f"surrogate {name}: {error}") from None


def _atan(x: Tensor, of: Surrogate) -> Tensor:
    return of.height / (1 + (math.pi / 2 * of.scale * x) ** 2)


def _fast_sigmoid(x: Tensor, of: Surrogate) -> Tensor:
    return 1 / (1 + of.scale * x.abs()) ** 2


def _sigmoid(x: Tensor, of: Surrogate) -> Tensor:
    y = torch.sigmoid(-of.scale * x.abs())  # the smaller of y and 1 - y: no cancellation
    return of.scale * y * (1 - y)


def _triangle(x: Tensor, of: Surrogate) -> Tensor:
    return of.height * (1 - 2 / of.scale * x.abs()).clamp_min(0)


def _boxcar(x: Tensor, of: Surrogate) -> Tensor:
    return of.height * (x.abs() < of.scale / 2).to(x.dtype)


def _straight_through(x: Tensor, of: Surrogate) -> Tensor:
    return torch.ones_like(x)


_SLOPES: dict[str, Callable[[Tensor, Surrogate], Tensor]] = {
    "atan": _atan,
    "fast_sigmoid": _fast_sigmoid,
    "sigmoid": _sigmoid,
    "triangle": _triangle,
    "boxcar": _boxcar,
    "straight_through": _straight_through,
}


def _positive(name: str, value: float) -> float:
    check_number(name, value, "a positive number", lambda x: 0 < x < math.inf)
    return float(value)
