"""What the formats share: text headers, events collected piece by piece, and what a writer has to refuse.

A reader holds the file and the events that it makes of it, 13 bytes each, and nothing else of that size: it decodes
PIECE events at a time, so all else takes a few hundred kilobytes, whatever the file claims.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from spikelet.errors import SpikeletError
from spikelet.events.arrays import EVENT

PIECE = 1 << 12
HEADER_BYTES = 1 << 20  # jAER writes all its settings into a header: tens of kilobytes

Data = bytes | bytearray | memoryview
Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def pieces(count: int) -> Iterator[slice]:
    """``count`` elements as slices of at most PIECE.

    >>> list(pieces(10_000))
    [slice(0, 4096, None), slice(4096, 8192, None), slice(8192, 10000, None)]
    """
    return (slice(start, min(start + PIECE, count)) for start in range(0, count, PIECE))


def collect(parts: Iterable[Columns], capacity: int) -> np.ndarray:
    """The events of all parts, each (t, x, y, p), as one array; ``capacity``: there are no more than these.

    Raises ValueError where time runs back. Values must fit their fields, t must be int64.

    >>> column = np.array([1])
    >>> collect([(column + 5, column, column, column)] * 2, capacity=4).tolist()
    [(6, 1, 1, 1), (6, 1, 1, 1)]
    """
    events, used, last = np.empty(capacity, EVENT), 0, np.iinfo(np.int64).min
    for t, x, y, p in parts:
        if len(t) == 0:
            continue
        before = np.concatenate(([last], t[:-1]))
        back = t < before
        if back.any():
            i = int(back.argmax())
            raise ValueError(f"time runs back at event {used + i}, from {before[i]} to {t[i]} us")
        place = slice(used, used + len(t))
        events["t"][place], events["x"][place], events["y"][place], events["p"][place] = t, x, y, p
        used, last = place.stop, t[-1]
    events.resize(used, refcheck=False)  # in place: a copy would be the largest thing in memory
    return events


def header_lines(data: Data, mark: bytes) -> Iterator[tuple[bytes, int]]:
    """The lines of text that a file begins with, as long as they begin with ``mark``, and where each of them ends.

    >>> list(header_lines(b"% Version 2\\r\\n% Height 240\\n\\x0c\\x08", b"%"))
    [(b'% Version 2', 13), (b'% Height 240', 26)]
    """
    head, start = bytes(memoryview(data)[:HEADER_BYTES]), 0
    while head.startswith(mark, start):
        end = head.find(b"\n", start) + 1
        if end == 0:
            raise ValueError("truncated in its header, a line of it has no end")
        yield head[start:end].rstrip(b"\r\n"), end
        start = end


def check_room(events: np.ndarray, t: int, x: int, y: int, p: int = 1) -> None:
    """Raises SpikeletError where values are not in 0 to the highest that a format has room for, or time runs back."""
    for name, highest in (("t", t), ("x", x), ("y", y), ("p", p)):
        values = events[name]
        if len(values) and not 0 <= values.min() <= values.max() <= highest:
            raise SpikeletError(f"{name}: expected 0 to {highest}, got {values.min()} to {values.max()}")
    if (events["t"][1:] < events["t"][:-1]).any():
        raise SpikeletError("t: expected times that do not run back")
