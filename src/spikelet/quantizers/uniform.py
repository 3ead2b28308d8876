"""Uniform symmetric 8-bit weights."""

import torch
from torch import Tensor

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
