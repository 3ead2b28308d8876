"""Ternary weights by a threshold on their magnitude."""

import torch
from torch import Tensor

from spikelet.errors import SpikeletError
from spikelet.quantizers.base import WeightQuantizer


class Ternary(WeightQuantizer):
    """W > delta to +1, W < -delta to -1, else 0, with delta = ratio * mean|W| over the whole tensor; scale 1.

    For layers that a batch norm follows, which takes the place of a scale. The gradient is the identity (the published
    2 differs by a constant that Adam and the batch norm remove).
    Source: Li & Liu 2016 (TWN); Zou et al. 2024 without the scale (reference 4.2).

    >>> Ternary().codes(torch.tensor([-0.9, -0.4, -0.2, 0.0, 0.1, 0.3, 0.8])).tolist()
    [-1, -1, 0, 0, 0, 1, 1]
    """

    bits = 2

    def __init__(self, ratio: float = 0.7) -> None:
        super().__init__()
        self.ratio = ratio

    def codes(self, weight: Tensor) -> Tensor:
        delta = self.ratio * weight.abs().mean()
        return (weight > delta).to(torch.int8) - (weight < -delta).to(torch.int8)

    def scale(self, weight: Tensor) -> Tensor:
        return weight.new_ones(())


class TWN(Ternary):
    """``Ternary`` with the scale of the source: the mean of |W| over the weights whose code is not 0.

    Source: Li & Liu, Ternary Weight Networks, 2016.

    >>> twn, weight = TWN(), torch.tensor([-0.9, -0.4, -0.2, 0.0, 0.1, 0.3, 0.8])
    >>> twn.codes(weight).tolist(), round(twn.scale(weight).item(), 4)
    ([-1, -1, 0, 0, 0, 1, 1], 0.6)
    """

    def begin(self, weight: Tensor) -> None:
        if not weight.any():
            raise SpikeletError("weight: is all 0; the mean of its larger |weight| is the scale of its levels")

    def scale(self, weight: Tensor) -> Tensor:
        magnitude = weight.abs()
        large = magnitude > self.ratio * magnitude.mean()
        return ((magnitude * large).sum() / large.sum().clamp_min(1)).clamp_min(1e-12)
