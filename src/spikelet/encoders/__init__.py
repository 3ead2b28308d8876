"""Encoders: values to currents or spikes over time, [N, ...] to [T, N, ...]. To add one: a file here, a line below.

``delta`` alone takes a signal that has its time already, [T, N, ...]. Events become frames in ``spikelet.events``.
"""

from collections.abc import Callable

from torch import Tensor

from spikelet.encoders.delta import delta
from spikelet.encoders.direct import direct
from spikelet.encoders.latency import latency
from spikelet.encoders.once import once
from spikelet.encoders.rate import rate
from spikelet.encoders.unary import unary

ENCODERS: dict[str, Callable[..., Tensor]] = {
    "delta": delta,
    "direct": direct,
    "latency": latency,
    "once": once,
    "rate": rate,
    "unary": unary,
}

__all__ = ["ENCODERS", "delta", "direct", "latency", "once", "rate", "unary"]
