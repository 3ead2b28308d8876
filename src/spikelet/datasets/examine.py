"""What is in the files of a data set: every one is read, counted, and compared with what is known of it."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from spikelet.datasets.base import OfficialSet, Sample
from spikelet.errors import DataError
from spikelet.events import Frames, to_frames

FRAMES, LINE_FRAMES = 6, 100  # of a drawn recording; of one from a sensor of a single row


@dataclass
class Findings:
    """What was found, all of it in the official order.

    counts    part to its samples per class, int64 [C]
    events    of all recordings of a class, int64 [C]; of images 0
    micros    how long they last together, in us, int64 [C]
    pictures  class to frames [T, P, H, W] of its first recording, or to its first image as [1, C, H, W]
    remarks   what is odd and was dealt with
    errors    what is missing or damaged
    """

    counts: dict[str, np.ndarray] = field(default_factory=dict)
    events: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    micros: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    errors: list[DataError] = field(default_factory=list)


def examine(kind: type[OfficialSet], root: str | Path | None = None, verify: bool = True, shown: int = 6) -> Findings:
    """Read all that ``kind`` has under ``root``; pictures of the first ``shown`` classes.

    ``verify`` compares numbers and checksums with the official ones, as far as these are known.

    >>> from spikelet.datasets import Digits
    >>> {part: int(counts.sum()) for part, counts in examine(Digits).counts.items()}
    {'train': 1437, 'test': 360}
    """
    zeros = np.zeros(len(kind.classes), np.int64)
    found = Findings(events=zeros.copy(), micros=zeros.copy())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for item in kind.contents(root, verify):
            if isinstance(item, DataError):
                found.errors.append(item)
            else:
                _count(found, item, kind, shown)
    found.remarks = [str(warning.message) for warning in caught if warning.category is UserWarning]
    return found


def _count(found: Findings, sample: Sample, kind: type[OfficialSet], shown: int) -> None:
    part, label, data = sample
    if len(data) == 0:  # a label without events
        return
    found.counts.setdefault(part, np.zeros(len(kind.classes), np.int64))[label] += 1
    is_recording = data.dtype.names is not None
    if is_recording:
        found.events[label] += len(data)
        found.micros[label] += data["t"][-1] - data["t"][0] + 1
    name = kind.classes[label]
    if name not in found.pictures and len(found.pictures) < shown:
        frames = Frames(LINE_FRAMES if kind.sensor_size[1] == 1 else FRAMES)
        found.pictures[name] = to_frames(data, kind.sensor_size, frames) if is_recording else data[None]
