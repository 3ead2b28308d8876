"""Uniform weights: codes are whole numbers, one scale per tensor."""

import math

import torch
from torch import Tensor, nn

from spikelet.errors import SpikeletError
from spikelet.quantizers.base import WeightQuantizer


class Uniform(WeightQuantizer):
    """codes = round(W / s) in [-127, 127], one scale s = max|W| / 127 per tensor; the gradient is the identity.

    >>> quantizer, w = Uniform(), torch.tensor([-1.27, 0.0, 0.014, 0.64])
    >>> quantizer.codes(w).tolist()
    [-127, 0, 1, 64]
    """

    bits = 8

    def codes(self, weight: Tensor) -> Tensor:
        return (weight / self.scale(weight)).round().clamp(-127, 127).to(torch.int8)

    def scale(self, weight: Tensor) -> Tensor:
        return weight.abs().max().clamp_min(1e-12) / 127


class LSQ(WeightQuantizer):
    """codes = round(W / s) in [-2^(bits - 1), 2^(bits - 1) - 1] with a step size s that is learned.

    Gradients, where the unrounded code x = W / s is inside these limits: 1 for W, codes - x for s; outside: 0 for W,
    the limit for s. That of s is divided by sqrt(number of weights * largest code). s begins as
    2 * mean|W| / sqrt(largest code). Source: Esser et al., Learned Step Size Quantization, ICLR 2020.

    >>> lsq, w = LSQ(bits=2), torch.tensor([-2.0, -0.4, 0.4, 1.2], requires_grad=True)
    >>> lsq.begin(w.detach()), lsq.step.item(), lsq.codes(w).tolist()
    (None, 2.0, [-1, 0, 0, 1])
    >>> lsq(w).sum().backward()
    >>> w.grad.tolist(), round(lsq.step.grad.item(), 4)  # (0 + 0.2 - 0.2 + 0.4) / sqrt(4)
    ([1.0, 1.0, 1.0, 1.0], 0.2)
    """

    def __init__(self, bits: int = 2) -> None:
        super().__init__()
        if not 2 <= bits <= 8:
            raise SpikeletError(f"bits: expected 2 to 8, got {bits}")
        self.bits, self.lowest, self.highest = bits, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        self.step = nn.Parameter(torch.ones(()))

    @torch.no_grad()
    def begin(self, weight: Tensor) -> None:
        mean = weight.abs().mean()
        if not mean > 0:
            raise SpikeletError("weight: is all 0; the mean of |weight| is where its step begins")
        self.step.fill_(2 * mean / math.sqrt(self.highest))

    def codes(self, weight: Tensor) -> Tensor:
        return (weight / self.scale(weight)).round().clamp(self.lowest, self.highest).to(torch.int8)

    def scale(self, weight: Tensor) -> Tensor:
        return self.step.clamp_min(1e-8)

    def forward(self, weight: Tensor) -> Tensor:
        return _LearnedStep.apply(weight, self.scale(weight), self.lowest, self.highest)

    def extra_repr(self) -> str:
        return f"bits={self.bits}"


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor, step: Tensor, lowest: int, highest: int) -> Tensor:
        ctx.save_for_backward(weight, step)
        ctx.limits = lowest, highest
        return (weight / step).round_().clamp_(lowest, highest).mul_(step)

    @staticmethod
    def backward(ctx, grad: Tensor):
        weight, step = ctx.saved_tensors
        lowest, highest = ctx.limits
        x = weight / step
        inside = (x >= lowest) & (x <= highest)
        slope = x.round().clamp_(lowest, highest) - x * inside
        return grad * inside, (grad * slope).sum() / math.sqrt(weight.numel() * highest), None, None
