"""The loops over time. ``reference`` is the specification, in plain torch, that faster kernels are tested against."""

from spikelet.kernels.reference import lif, threshold_walk

__all__ = ["lif", "threshold_walk"]
