"""Events: arrays of (t, x, y, p), their files, checks and changes, frames and steps; ears make them of sound."""

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
from spikelet.events.ears import Ears, Firing, hear
from spikelet.events.formats import read_events
from spikelet.events.frames import Frames, batch_frames, to_frames
from spikelet.events.jitter import Jitter
from spikelet.events.packed import Packed, pack
from spikelet.events.wav import parse_wav, wav_bytes

__all__ = [
    "EVENT",
    "Binned",
    "Ears",
    "Firing",
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
    "hear",
    "make_events",
    "move",
    "pack",
    "parse_wav",
    "read_events",
    "to_frames",
    "wav_bytes",
]
