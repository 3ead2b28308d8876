"""Ternary weights without a scale, for layers that a batch norm follows."""

import torch
from torch import Tensor

from spikelet.quantizers.base import WeightQuantizer


class Ternary(WeightQuantizer):
    """W > delta to +1, W < -delta to -1, else 0, with delta = ratio * mean|W| over the whole tensor; scale 1.

    The gradient is the identity (the published 2 differs by a constant that Adam and the batch norm remove).
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
