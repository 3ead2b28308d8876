"""Quantizers. To add one: a file here with a class that keeps ``base.WeightQuantizer``, and a line below."""

from collections.abc import Callable
from functools import partial

from spikelet.quantizers.activation import Levels
from spikelet.quantizers.base import WeightQuantizer, begin, latent_weight, quantize_weight, weight_quantizer
from spikelet.quantizers.cbp import CBP, LEVELS, quantize
from spikelet.quantizers.ternary import TWN, Ternary
from spikelet.quantizers.uniform import LSQ, Uniform

QUANTIZERS: dict[str, Callable[[], WeightQuantizer]] = {
    "ternary": Ternary,
    "twn": TWN,
    **{f"cbp_{levels}": partial(CBP, levels) for levels in LEVELS},
    **{f"uniform{bits}": partial(LSQ, bits) for bits in range(2, 9)},
}

__all__ = [
    "CBP",
    "LEVELS",
    "LSQ",
    "QUANTIZERS",
    "TWN",
    "Levels",
    "Ternary",
    "Uniform",
    "WeightQuantizer",
    "begin",
    "latent_weight",
    "quantize",
    "quantize_weight",
    "weight_quantizer",
]
