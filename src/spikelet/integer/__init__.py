"""The all-integer machine: numpy, numba and safetensors, no float between pixels and classes."""

from spikelet.integer.network import Add, Conv, IntegerNetwork, MaxPool, Neuron, Record, SumPool, load

__all__ = ["Add", "Conv", "IntegerNetwork", "MaxPool", "Neuron", "Record", "SumPool", "load"]
