"""Activations as counts: the numbers that a spiking neuron can express."""

import torch
from torch import Tensor, nn

from spikelet.errors import SpikeletError


class Levels(nn.Module):
    """ReLU, then multiples of 2^-k: n = min(floor(2^k * a + 1/2), max_count), value n / 2^k.

    Halves go up, so that ``n >= m`` is exactly what ``v >= threshold`` computes. The gradient is 1 where
    0 < 2^k * a < max_count, else 0. Source: Zou et al. 2023 (reference 4.2).

    >>> Levels(k=1)(torch.tensor([-1.0, 0.2, 0.25, 0.7, 0.75])).tolist()
    [0.0, 0.0, 0.5, 0.5, 1.0]
    """

    def __init__(self, k: int = 0, max_count: int = 127) -> None:
        super().__init__()
        if not 0 <= k <= 6:
            raise SpikeletError(f"k: expected an activation level from 0 to 6, got {k}")
        if not 1 <= max_count <= 127:
            raise SpikeletError(f"max_count: expected 1 to 127 spikes, got {max_count}")
        self.k, self.max_count = k, max_count

    @property
    def unit(self) -> float:
        """The value of one spike."""
        return 2.0**-self.k

    def forward(self, x: Tensor) -> Tensor:
        return _Levels.apply(x, 2.0**self.k, self.max_count)

    def extra_repr(self) -> str:
        return f"k={self.k}, max_count={self.max_count}"


class _Levels(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, levels: float, max_count: int) -> Tensor:
        if x.requires_grad:
            ctx.save_for_backward((x > 0) & (x * levels < max_count))
        return x.mul(levels).add_(0.5).floor_().clamp_(0, max_count).div_(levels)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (inside,) = ctx.saved_tensors
        return grad * inside, None, None
