"""Lightweight spiking neural networks: train in few bits, convert to signed spikes, run in integers, report the cost.

The public names, each imported from its room when it is first asked for, so that the command line answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikelet.convert import check_equivalence, to_integer, to_spiking
    from spikelet.errors import ConversionError, DataError, FormatError, SpikeletError
    from spikelet.events import read_events
    from spikelet.integer import IntegerNetwork
    from spikelet.networks import SNN, Network, NetworkSettings, build
    from spikelet.neurons import IF, LIF, PLIF, SRM, AdaptiveLIF, ThresholdWalk, TraceLIF
    from spikelet.quantizers import quantize
    from spikelet.runs import load
    from spikelet.training import TrainSettings, load_network
    from spikelet.training.fit import fit

_ROOMS = {
    "convert": ("check_equivalence", "to_integer", "to_spiking"),
    "errors": ("ConversionError", "DataError", "FormatError", "SpikeletError"),
    "events": ("read_events",),
    "integer": ("IntegerNetwork",),
    "networks": ("SNN", "Network", "NetworkSettings", "build"),
    "neurons": ("IF", "LIF", "PLIF", "SRM", "AdaptiveLIF", "ThresholdWalk", "TraceLIF"),
    "quantizers": ("quantize",),
    "runs": ("load",),
    "training": ("TrainSettings", "fit", "load_network"),
}

__all__ = [
    "IF",
    "LIF",
    "PLIF",
    "SNN",
    "SRM",
    "AdaptiveLIF",
    "ConversionError",
    "DataError",
    "FormatError",
    "IntegerNetwork",
    "Network",
    "NetworkSettings",
    "SpikeletError",
    "ThresholdWalk",
    "TraceLIF",
    "TrainSettings",
    "build",
    "check_equivalence",
    "fit",
    "load",
    "load_network",
    "quantize",
    "read_events",
    "to_integer",
    "to_spiking",
]


def __getattr__(name: str) -> Any:
    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(f"spikelet.{room}"), name)
    raise AttributeError(f"module 'spikelet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
