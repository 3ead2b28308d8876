"""Events: arrays of (t, x, y, p), their files, checks and changes, and frames and steps of them."""

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
from spikelet.events.formats import read_events
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
    "read_events",
    "to_frames",
]
