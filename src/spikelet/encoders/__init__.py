"""Encoders: values to currents or spikes over time, [N, ...] to [T, N, ...]. To add one: a file here, a line below.

``delta`` alone takes a signal that has its time already, [T, N, ...]. ``TimeSurface``, which takes events, and
``DynamicCode``, a mix of the others, learn: they are modules with weights, not of ``ENCODERS``. Events become frames in
``spikelet.events``.
"""

from collections.abc import Callable

from torch import Tensor

from spikelet.encoders.delta import delta
from spikelet.encoders.direct import direct
from spikelet.encoders.dynamic import FRAME_CODES, IMAGE_CODES, DynamicCode, check_codes
from spikelet.encoders.latency import latency
from spikelet.encoders.once import once
from spikelet.encoders.rate import rate
from spikelet.encoders.stage import CodingStage
from spikelet.encoders.time_surface import TimeSurface
from spikelet.encoders.unary import unary

ENCODERS: dict[str, Callable[..., Tensor]] = {
    "delta": delta,
    "direct": direct,
    "latency": latency,
    "once": once,
    "rate": rate,
    "unary": unary,
}

__all__ = [
    "ENCODERS",
    "FRAME_CODES",
    "IMAGE_CODES",
    "CodingStage",
    "DynamicCode",
    "TimeSurface",
    "check_codes",
    "delta",
    "direct",
    "latency",
    "once",
    "rate",
    "unary",
]
