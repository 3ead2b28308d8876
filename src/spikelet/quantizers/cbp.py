"""Weights on a few levels by constrained backpropagation: the quantizer, and the constraint that its weights fail."""

import math
from collections.abc import Collection
from itertools import pairwise

import torch
from torch import Tensor, nn

from spikelet.errors import SpikeletError
from spikelet.quantizers.base import WeightQuantizer, quantize_weight, weight_quantizer

WEIGHTED = nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d

LEVELS: dict[str, tuple[float, ...]] = {
    "binary": (-1, 1),
    "ternary": (-1, 0, 1),
    "shift3": (-1, -0.5, 0, 0.5, 1),
    "shift7": (-1, -0.5, -0.25, 0, 0.25, 0.5, 1),
}


class CBP(WeightQuantizer):
    """The nearest of a few levels times s; ties go up. s = mean|W| when it is fixed, and fixed from then on.

    The gradient is the identity. Codes count units of the smallest level, in two's complement; two levels need one bit.
    What pulls the weights to the levels is ``training.cbp``, with ``constraint``.
    Source: Kim & Jeong, CBP, NeurIPS 2021; Yoo & Jeong, CBP-QSNN, IEEE JETCAS 2023 (reference 2.2).

    >>> cbp, weight = CBP("ternary"), torch.tensor([-0.9, -0.4, -0.2, 0.0, 0.1, 0.3, 0.8])
    >>> cbp.codes(weight).tolist(), round(cbp.scale(weight).item(), 4)
    ([-1, -1, -1, 0, 0, 1, 1], 0.3857)
    """

    fixed: Tensor

    def __init__(self, levels: str = "ternary") -> None:
        super().__init__()
        if levels not in LEVELS:
            raise SpikeletError(f"levels: expected one of {', '.join(LEVELS)}, got {levels!r}")
        self.name, self.levels = levels, LEVELS[levels]
        self.unit = min(abs(level) for level in self.levels if level)
        self.bits = 1 if levels == "binary" else round(1 / self.unit).bit_length() + 1
        self.register_buffer("fixed", torch.zeros(()))  # s, once it is fixed

    def begin(self, weight: Tensor) -> None:
        """From now on s is the mean of |weight|. Raises SpikeletError where that is 0."""
        mean = weight.detach().abs().mean()
        if not 0 < mean < math.inf:
            what = "all 0" if mean == 0 else "not finite"
            raise SpikeletError(f"weight: is {what}; the mean of |weight| is the scale of its levels")
        self.fixed.copy_(mean)

    def spacing(self, weight: Tensor) -> Tensor:
        """s, the value of level 1."""
        return self.fixed if self.fixed > 0 else weight.detach().abs().mean()

    def codes(self, weight: Tensor) -> Tensor:
        s, codes = self.spacing(weight), [round(level / self.unit) for level in self.levels]
        found = torch.full_like(weight, codes[0], dtype=torch.int8)
        for (low, high), (below, above) in zip(pairwise(self.levels), pairwise(codes), strict=True):
            found.add_(weight >= (low + high) / 2 * s, alpha=above - below)
        return found

    def scale(self, weight: Tensor) -> Tensor:
        return self.spacing(weight) * self.unit

    def values(self, weight: Tensor) -> list[float]:
        """The levels as weights."""
        s = float(self.spacing(weight))
        return [level * s for level in self.levels]

    def extra_repr(self) -> str:
        return f"levels={self.name}"


def constraint(weight: Tensor, levels: list[float], g: float) -> tuple[Tensor, Tensor]:
    """How far each weight fails to be one of the ``levels``, and the derivative of that: (cs, dcs / dw), as ``weight``.

    cs is twice the distance to the nearest level, but 0 in a window of 1 / g of each gap, around its middle. At g = 1
    the windows are the gaps: only weights beyond the outermost levels fail. g = inf: no window; the mean of this is
    the constraint failure score. Source: reference 2.3.

    >>> cs, slope = constraint(torch.tensor([-0.3, -0.05, 0.03, 0.15]), [-0.1, 0.0, 0.1], g=2)
    >>> [round(x, 6) for x in cs.tolist()], slope.tolist()
    ([0.4, 0.0, 0.0, 0.1], [-2.0, 0.0, 0.0, 2.0])
    """
    weight = weight.detach()
    below, above = weight < levels[0], weight >= levels[-1]
    cs = torch.where(below, levels[0] - weight, torch.where(above, weight - levels[-1], 0.0))
    slope = torch.where(below, -2.0, torch.where(above, 2.0, torch.zeros_like(weight)))
    for low, high in pairwise(levels):
        half = (high - low) / 2
        reach = half * (1 - 1 / g)  # what is farther from both levels is in the window
        up, down = weight - low, high - weight
        for away, sign, near in ((up, 2.0, (up >= 0) & (up < half)), (down, -2.0, (down > 0) & (down <= half))):
            near &= away <= reach
            cs, slope = torch.where(near, away, cs), torch.where(near, sign, slope)
    return 2 * cs, slope


def quantize(network: nn.Module, levels: str = "ternary", layers: Collection[str] | None = None) -> nn.Module:
    """Give weighted layers of ``network`` a ``CBP`` quantizer; returns ``network``.

    ``layers``: their names in ``network.named_modules()``; left out, all linear and convolutional layers but the first
    and the last. Their scales are those of the weights at hand. Raises SpikeletError for a name that is no such layer,
    a network without one to quantize, a weight that is quantized already or all 0.

    >>> network = quantize(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 2)), "binary")
    >>> len(network[2].weight.unique()), len(network[0].weight.unique()) > 2
    (2, True)
    """
    weighted = {name: module for name, module in network.named_modules() if isinstance(module, WEIGHTED)}
    chosen = [*weighted][1:-1] if layers is None else [layers] if isinstance(layers, str) else [*layers]
    if unknown := [name for name in chosen if name not in weighted]:
        raise SpikeletError(
            f"layers: no weighted layer {unknown[0]!r}; the network's are {', '.join(weighted) or 'none'}"
        )
    if not chosen:
        raise SpikeletError(
            f"network: of its {len(weighted)} weighted layers none is left to quantize; name them in layers"
        )
    for name in chosen:
        if weight_quantizer(weighted[name]) is not None:
            raise SpikeletError(f"layers: {name} has a quantizer already; build networks with weights='float'")
        if not weighted[name].weight.any():
            raise SpikeletError(
                f"layers: the weight of {name} is all 0; the mean of |weight| is the scale of its levels"
            )
    for name in chosen:
        quantize_weight(weighted[name], CBP(levels))
    return network
