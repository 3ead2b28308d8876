"""Events: arrays of (t, x, y, p), their checks and changes, and frames of them, one recording or a batch at a time."""

from spikelet.events.arrays import (
    EVENT,
    SensorSize,
    check_events,
    check_sensor,
    crop,
    denoise,
    find_fault,
    make_events,
    move,
)
from spikelet.events.binned import Binned, bin_batch
from spikelet.events.frames import Frames, batch_frames, to_frames
from spikelet.events.jitter import Jitter
from spikelet.events.packed import Packed, pack

__all__ = [
    "EVENT",
    "Binned",
    "Frames",
    "Jitter",
    "Packed",
    "SensorSize",
    "batch_frames",
    "bin_batch",
    "check_events",
    "check_sensor",
    "crop",
    "denoise",
    "find_fault",
    "make_events",
    "move",
    "pack",
    "to_frames",
]
