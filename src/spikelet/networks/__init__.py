"""Networks from the papers' notation. ``build`` reads it; ``settings`` says what a network may be made of."""

from spikelet.networks.fixed_point import FixedPointBlock
from spikelet.networks.layers import Block, Residual, SpikingBlock
from spikelet.networks.network import Network, answers
from spikelet.networks.notation import build
from spikelet.networks.operations import OperationMeter, firing_rate, measure_operations, record_spikes
from spikelet.networks.settings import NetworkSettings
from spikelet.networks.snn import SNN

__all__ = [
    "SNN",
    "Block",
    "FixedPointBlock",
    "Network",
    "NetworkSettings",
    "OperationMeter",
    "Residual",
    "SpikingBlock",
    "answers",
    "build",
    "firing_rate",
    "measure_operations",
    "record_spikes",
]
