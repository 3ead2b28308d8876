"""The HDF5 files of SHD and SSC: many recordings of spiking channels, each a list of times and a list of channels.

    spikes/times   lists of floats, in seconds; officially of 2 bytes, so half a millisecond apart from 0.5 s on
    spikes/units   lists of integers of 2 bytes or more: the channels, from 0
    labels         one integer per recording

An event of channel c is (t, x=c, y=0, p=0): the sensor is (channels, 1, 1). Times are rounded to the microsecond.
Source: B. Cramer et al., The Heidelberg Spiking Data Sets, 2020; reference section 7.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spikelet.errors import SpikeletError
from spikelet.events.arrays import make_events
from spikelet.events.formats import hdf5
from spikelet.events.formats.base import Columns, check_room, collect, pieces

HIGHEST = (1 << 15) - 1
LAST_US = 1 << 50
TIMES = ("f2", "f4", "f8")


def to_us(seconds: np.ndarray) -> np.ndarray:
    """Seconds as whole microseconds, int64; how the times of a file are read.

    >>> to_us(np.array([0.1, 0.5], np.float16)).tolist()  # the nearest that 2 bytes have room for
    [99976, 500000]
    """
    return np.rint(seconds.astype(np.float64) * 1e6).astype(np.int64)


class Lists:
    """The recordings of an open file: where their times and units are, and their labels, int64 [N].

    Raises ValueError with the reason where the file is damaged. What the lists hold is read by ``events``.
    """

    def __init__(self, source: hdf5.Source) -> None:
        times, units = (self._lists(source, name) for name in ("spikes/times", "spikes/units"))
        self.source, self.types = source, (times[1], units[1])
        self.counts = times[0]["length"].astype(np.int64)
        if not np.array_equal(times[0]["length"], units[0]["length"]):
            raise ValueError("spikes/times and spikes/units have lists of different lengths")
        if int(self.counts.sum()) * sum(dtype.itemsize for dtype in self.types) > source.size:
            raise ValueError(f"damaged, its lists claim {self.counts.sum()} spikes, more than it has room for")
        self.references = times[0], units[0]
        self.labels = self._labels(source)

    @staticmethod
    def _lists(source: hdf5.Source, name: str) -> tuple[np.ndarray, np.dtype]:
        lists, dtype = hdf5.load(source, name)
        if dtype is None or dtype.kind not in ("f" if name == "spikes/times" else "iu") or dtype.itemsize < 2:
            raise ValueError(f"{name}: expected lists of floats or, of units, integers, 2 bytes or more each")
        return lists, dtype

    def _labels(self, source: hdf5.Source) -> np.ndarray:
        labels, base = hdf5.load(source, "labels")
        if base is not None or labels.dtype.kind not in "iu" or len(labels) != len(self.counts):
            raise ValueError(f"labels: expected {len(self.counts)} integers, one per recording")
        return labels.astype(np.int64)

    def events(self, chosen: slice) -> Iterator[np.ndarray]:
        """Some recordings, one after the other."""
        places = [
            hdf5.places(self.source, references[chosen], dtype.itemsize)
            for references, dtype in zip(self.references, self.types, strict=True)
        ]
        silence = make_events([], [], [], [])  # one for all: in a list of many it would be most of the memory
        for i, (count, *starts) in enumerate(zip(self.counts[chosen].tolist(), *places, strict=True)):
            try:
                yield collect(self._columns(count, starts), count) if count else silence
            except ValueError as error:
                raise ValueError(f"recording {(chosen.start or 0) + i}: {error}") from error

    def _columns(self, count: int, starts: list[int]) -> Iterator[Columns]:
        for piece in pieces(count):
            seconds, units = (self._read(start, dtype, piece) for start, dtype in zip(starts, self.types, strict=True))
            if not (np.abs(seconds.astype(np.float64)) <= LAST_US / 1e6).all():
                raise ValueError("a time is no number of seconds")
            if len(units) and not 0 <= units.min() <= units.max() <= HIGHEST:
                raise ValueError(f"units from {units.min()} to {units.max()}, allowed are 0 to {HIGHEST}")
            none = np.zeros(len(units), np.int8)
            yield to_us(seconds), units, none, none

    def _read(self, start: int, dtype: np.dtype, piece: slice) -> np.ndarray:
        count = piece.stop - piece.start
        return np.frombuffer(self.source.read(start + piece.start * dtype.itemsize, count * dtype.itemsize), dtype)


def parse_all(path: str | Path) -> tuple[list[np.ndarray], np.ndarray]:
    """All recordings of a file, and their labels, int64 [N]; raises ValueError with the reason where it is damaged."""
    with Path(path).open("rb") as file:
        lists = Lists(hdf5.Source(file))
        return list(lists.events(slice(None))), lists.labels


def parse_one(path: str | Path, index: int) -> np.ndarray:
    """Recording ``index`` of a file; raises ValueError where there is none, or with the reason where it is damaged."""
    with Path(path).open("rb") as file:
        lists = Lists(hdf5.Source(file))
        if not 0 <= index < len(lists.counts):
            raise ValueError(f"it holds {len(lists.counts)} recordings, index {index} is none of them")
        return next(lists.events(slice(index, index + 1)))


def to_bytes(recordings: Sequence[np.ndarray], labels: Sequence[int] | np.ndarray, times: str = "f8") -> bytes:
    """A file of ``recordings``: the inverse of ``parse_all``. ``times``: the type of a time, "f2" as in the real files.

    Raises SpikeletError where the format has no room: a time that ``times`` cannot say to the microsecond, such as
    100,000 us in "f2", where 99,976 is the nearest (``to_us`` tells); a y or a polarity other than 0; time that runs
    back.
    """
    h5py = _h5py()
    if times not in TIMES:
        raise SpikeletError(f"times: expected one of {', '.join(TIMES)}, got {times!r}")
    if len(recordings) != len(labels):
        raise SpikeletError(f"labels: expected {len(recordings)}, one per recording, got {len(labels)}")
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        stored = [
            h5.create_dataset(f"spikes/{name}", len(recordings), h5py.vlen_dtype(np.dtype(dtype)))
            for name, dtype in (("times", times), ("units", "u2"))
        ]
        for i, events in enumerate(recordings):
            stored[0][i], stored[1][i] = _seconds(events, times), events["x"].astype(np.uint16)
        h5["labels"] = np.asarray(labels, np.uint16)
    return file.getvalue()


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise SpikeletError("h5py: it writes HDF5 and is not installed; pip install spikelet[hdf5]") from error
    return h5py


def _seconds(events: np.ndarray, dtype: str) -> np.ndarray:
    check_room(events, t=LAST_US, x=HIGHEST, y=0, p=0)
    seconds = (events["t"] / 1e6).astype(dtype)
    other = to_us(seconds) != events["t"]
    if other.any():
        i = int(other.argmax())
        raise SpikeletError(f"t: {events['t'][i]} us have no place in {dtype}, the nearest is {to_us(seconds)[i]}")
    return seconds
