"""The .bin format of ATIS recordings, that of N-MNIST and N-Caltech101: 5 bytes per event.

    byte 0      x
    byte 1      y; 240 is no row but a mark: 2^13 us are added to all times behind it, and the mark itself is dropped
    byte 2      polarity in the highest bit, bits 22 to 16 of the time in us
    bytes 3, 4  bits 15 to 8, bits 7 to 0 of the time

Source: G. Orchard, readme of N-MNIST, 2015; reference section 7.
"""

from collections.abc import Iterator

import numpy as np

from spikelet.events.formats.base import Columns, Data, check_room, collect, pieces

BYTES = 5
MARK = 240
MARK_US = 1 << 13
LAST_US = (1 << 23) - 1


def parse(data: Data) -> np.ndarray:
    """The events of a file; raises ValueError with the reason where it is truncated or time runs back.

    >>> parse(bytes([3, 4, 0x80, 1, 2])).tolist()
    [(258, 3, 4, 1)]
    >>> parse(bytes([3, 4, 0, 0, 7, 0, 240, 0, 0, 0, 5, 6, 0, 0, 8])).tolist()
    [(7, 3, 4, 0), (8200, 5, 6, 0)]
    """
    if len(data) % BYTES:
        raise ValueError(f"truncated, it holds {len(data)} bytes, no multiple of {BYTES}")
    rows = np.frombuffer(data, np.uint8).reshape(-1, BYTES)
    return collect(_columns(rows), len(rows))


def _columns(rows: np.ndarray) -> Iterator[Columns]:
    seen = 0
    for piece in pieces(len(rows)):
        x, y, high, middle, low = rows[piece].T
        t = (high & 127).astype(np.int64)
        for byte in (middle, low):
            t <<= 8
            t |= byte
        kept = y != MARK
        marks = np.cumsum(~kept)
        marks += seen
        seen = int(marks[-1])
        marks *= MARK_US
        t += marks
        yield t[kept], x[kept], y[kept], high[kept] >> 7


def to_bytes(events: np.ndarray) -> bytes:
    """A file of ``events``: the inverse of ``parse``. Marks are written where a time does not fit into 23 bits.

    Raises SpikeletError where the format has no room: x above 255, y above 239, a time below 0 or one that runs back.

    >>> from spikelet.events import make_events
    >>> to_bytes(make_events([258], [3], [4], [1])).hex(" ")
    '03 04 80 01 02'
    """
    check_room(events, t=2**40, x=255, y=MARK - 1)
    t, x, y, p = (events[name].astype(np.int64) for name in ("t", "x", "y", "p"))
    marks = -(-np.maximum(t - LAST_US, 0) // MARK_US)  # how many stand in front of each event
    rest = t - marks * MARK_US
    rows = np.stack([x, y, p << 7 | rest >> 16, rest >> 8 & 255, rest & 255], axis=1).astype(np.uint8)
    mark = np.array([0, MARK, 0, 0, 0], np.uint8)
    more = np.diff(marks, prepend=0)
    return np.insert(rows, np.repeat(np.arange(len(t)), more), mark, axis=0).tobytes()
