"""The all-integer machine: numpy, numba and safetensors, no float between pixels and classes."""

from spikelet.integer.network import LIF, SRM, Add, Conv, IntegerNetwork, MaxPool, Neuron, Record, SumPool, load

__all__ = ["LIF", "SRM", "Add", "Conv", "IntegerNetwork", "MaxPool", "Neuron", "Record", "SumPool", "load"]
