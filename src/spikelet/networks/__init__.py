"""Networks from the papers' notation. ``build`` reads it; ``settings`` says what a network may be made of."""

from spikelet.networks.fixed_point import FixedPointBlock, in_integer_arithmetic
from spikelet.networks.gain import RateGain
from spikelet.networks.layers import Block, Residual, SpikePool, SpikingBlock
from spikelet.networks.network import Network, answers
from spikelet.networks.notation import build
from spikelet.networks.operations import OperationMeter, firing_rate, measure_operations, record_spikes
from spikelet.networks.published import PUBLISHED, Published
from spikelet.networks.settings import NetworkSettings
from spikelet.networks.snn import SNN
from spikelet.networks.stored import load, save
from spikelet.networks.surface_network import SurfaceNetwork

__all__ = [
    "PUBLISHED",
    "SNN",
    "Block",
    "FixedPointBlock",
    "Network",
    "NetworkSettings",
    "OperationMeter",
    "Published",
    "RateGain",
    "Residual",
    "SpikePool",
    "SpikingBlock",
    "SurfaceNetwork",
    "answers",
    "build",
    "firing_rate",
    "in_integer_arithmetic",
    "load",
    "measure_operations",
    "record_spikes",
    "save",
]
