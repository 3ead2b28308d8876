"""Quantizers. To add one: a file here with a class that keeps ``base.WeightQuantizer``, and a line below."""

from spikelet.quantizers.activation import Levels
from spikelet.quantizers.base import WeightQuantizer, quantize_weight, weight_quantizer
from spikelet.quantizers.cbp import CBP, LEVELS, quantize
from spikelet.quantizers.ternary import Ternary
from spikelet.quantizers.uniform import Uniform

QUANTIZERS: dict[str, type[WeightQuantizer]] = {"ternary": Ternary, "uniform8": Uniform}

__all__ = [
    "CBP",
    "LEVELS",
    "QUANTIZERS",
    "Levels",
    "Ternary",
    "Uniform",
    "WeightQuantizer",
    "quantize",
    "quantize_weight",
    "weight_quantizer",
]
