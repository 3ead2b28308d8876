"""Encoders: pixels in [0, 1] to currents or spikes over time. To add one: a file here, and a line below."""

from collections.abc import Callable

from spikelet.encoders.once import once
from spikelet.encoders.unary import unary

ENCODERS: dict[str, Callable] = {"once": once, "unary": unary}

__all__ = ["ENCODERS", "once", "unary"]
