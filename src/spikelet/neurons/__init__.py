"""Spiking neurons. To add one: a file here with a class that keeps ``base.Neuron``, and a line below."""

from spikelet.neurons.adaptive import Adaptation, AdaptiveLIF
from spikelet.neurons.base import Neuron, beta_from_tau
from spikelet.neurons.lif import IF, LIF, PLIF
from spikelet.neurons.primed import Primed
from spikelet.neurons.srm import SRM
from spikelet.neurons.threshold_walk import ThresholdWalk
from spikelet.neurons.trace import TraceLIF

NEURONS: dict[str, type[Neuron]] = {
    "adaptive": AdaptiveLIF,
    "if": IF,
    "lif": LIF,
    "plif": PLIF,
    "primed": Primed,  # another one, which does not begin at rest
    "srm": SRM,
    "threshold_walk": ThresholdWalk,
    "trace": TraceLIF,  # sends no spikes, but tells them (``Neuron.spikes``): all else of the contract holds
}

__all__ = [
    "IF",
    "LIF",
    "NEURONS",
    "PLIF",
    "SRM",
    "Adaptation",
    "AdaptiveLIF",
    "Neuron",
    "Primed",
    "ThresholdWalk",
    "TraceLIF",
    "beta_from_tau",
]
