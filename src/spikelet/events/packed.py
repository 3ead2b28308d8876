"""Many recordings in one block of memory, the form that is cached on disk and that frames are made from.

A recording of n events is n times (int32, us), then n sites (uint16; uint32 for a sensor of more than 65,536 sites),
filled up to a multiple of 4 bytes; site = (p * H + y) * W + x.
"""

from dataclasses import dataclass

import numpy as np

from spikelet.errors import DataError, SpikeletError
from spikelet.events.arrays import EVENT, SensorSize, check_events, check_sensor

LAST_TIME = 2**31 - 1


def site_type(sensor_size: SensorSize) -> type[np.uint16] | type[np.uint32]:
    """The smallest type that holds every site."""
    return np.uint16 if np.prod(sensor_size, dtype=np.int64) <= 2**16 else np.uint32


def pack_one(events: np.ndarray, sensor_size: SensorSize) -> bytes:
    """The bytes of one recording, which ``check_events`` has passed; raises DataError for a time beyond int32.

    >>> from spikelet.events import make_events
    >>> pack_one(make_events(t=[258], x=[1], y=[0], p=[1]), (2, 1, 2)).hex(" ", 4)
    '02010000 03000000'
    """
    width, height, _ = sensor_size
    if len(events) and (events["t"][-1] > LAST_TIME or events["t"][0] < -LAST_TIME):
        raise DataError(f"events: times from {events['t'][0]} to {events['t'][-1]} us do not fit into 32 bits")
    sites = (events["p"].astype(np.int64) * height + events["y"]) * width + events["x"]
    data = events["t"].astype("<i4").tobytes() + sites.astype(site_type(sensor_size)).tobytes()
    return data + bytes(-len(data) % 4)


@dataclass(frozen=True)
class Packed:
    """Recordings one behind the other.

    data         uint8 [B], each recording's bytes; B a multiple of 4
    starts       int64 [R], where each recording begins, a multiple of 4
    counts       int64 [R], its events
    sensor_size  (W, H, P)
    """

    data: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    sensor_size: SensorSize

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def times(self) -> np.ndarray:
        """``data`` as int32; those of recording i begin at starts[i] / 4."""
        return self.data.view("<i4")

    @property
    def sites(self) -> np.ndarray:
        """``data`` as sites; those of recording i begin where its times end."""
        return self.data.view(site_type(self.sensor_size))

    def places(self, chosen: np.ndarray) -> np.ndarray:
        """First position in ``times``, first in ``sites``, and number of events, of some recordings: int64 [N, 3]."""
        starts, counts = self.starts[chosen], self.counts[chosen]
        return np.stack([starts // 4, (starts + 4 * counts) // self.sites.itemsize, counts], axis=1)

    def __getitem__(self, index: int) -> np.ndarray:
        """Recording ``index`` as an array of EVENT."""
        time, site, count = self.places(np.array([index]))[0]
        width, height, _ = self.sensor_size
        events = np.empty(count, EVENT)
        rows, events["x"] = np.divmod(self.sites[site : site + count].astype(np.int64), width)
        events["p"], events["y"] = np.divmod(rows, height)
        events["t"] = self.times[time : time + count]
        return events


def pack(recordings: list[np.ndarray], sensor_size: SensorSize) -> Packed:
    """Recordings in one block; raises DataError with a recording's number where it is no good.

    >>> from spikelet.events import make_events
    >>> packed = pack([make_events([5], [1], [2], [0]), make_events([6, 7], [3, 3], [4, 4], [1, 0])], (34, 34, 2))
    >>> len(packed), packed.counts.tolist(), packed[1].tolist()
    (2, [1, 2], [(6, 3, 4, 1), (7, 3, 4, 0)])
    """
    sensor_size = check_sensor(sensor_size)
    if not recordings:
        raise SpikeletError("recordings: expected at least one, got none")
    parts = [pack_one(check_events(r, sensor_size, f"recordings[{i}]"), sensor_size) for i, r in enumerate(recordings)]
    starts = np.cumsum([0] + [len(part) for part in parts[:-1]])
    counts = np.array([len(r) for r in recordings], np.int64)
    return Packed(np.frombuffer(b"".join(parts), np.uint8), starts, counts, sensor_size)
