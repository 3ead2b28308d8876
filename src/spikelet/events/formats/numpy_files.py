"""The .npy files of DVS Gesture that tonic distributes: one array [E, 4], columns x, y, polarity and time.

The time is in MILLISECONDS, whole or with a fraction; the numbers are integers of 2 to 8 bytes or floats of 4 or 8. The
header must be as numpy.save writes it, and is matched, not evaluated.

Sources: tonic's documentation of DVSGesture; NumPy Enhancement Proposal 1.
"""

import io
import re
from collections.abc import Iterator

import numpy as np

from spikelet.events.formats.base import Columns, Data, check_room, collect, pieces

MAGIC = b"\x93NUMPY"
HEADER_BYTES = 1 << 10
HEADER = re.compile(
    rb"\{'descr': '([<>](?:[iu][248]|f[48]))', 'fortran_order': (True|False), 'shape': \((\d+), 4\), \} *\n"
)
US = 1000
LAST_US = 1 << 50  # a thousandth of it has its nearest float to itself
HIGHEST = (1 << 15) - 1


def parse(data: Data) -> np.ndarray:
    """The events of a file; raises ValueError with the reason where it is damaged or holds something else.

    >>> file = io.BytesIO()
    >>> np.save(file, np.array([[3, 4, 1, 25]]))
    >>> parse(file.getvalue()).tolist()
    [(25000, 3, 4, 1)]
    """
    columns = columns_of(data)
    return collect(_columns(columns), columns.shape[1])


def columns_of(data: Data) -> np.ndarray:
    """The columns [4, E] of a file of an array [E, 4], in the file's memory; ValueError where it is none."""
    dtype, by_columns, count, start = _header(data)
    body = memoryview(data)[start:]
    if len(body) != 4 * count * dtype.itemsize:
        raise ValueError(f"its header claims {count} rows of 4 {dtype}, behind it are {len(body)} bytes")
    values = np.frombuffer(body, dtype)
    return values.reshape(4, count) if by_columns else values.reshape(count, 4).T


def _header(data: Data) -> tuple[np.dtype, bool, int, int]:
    """Type of the numbers, whether columns lie one behind the other, number of rows, where the header ends."""
    head = bytes(memoryview(data)[:HEADER_BYTES])
    start = 10 if head[6:7] == b"\1" else 12
    found = HEADER.match(head, start)
    if not head.startswith(MAGIC) or not found or start + int.from_bytes(head[8:start], "little") != found.end():
        raise ValueError(
            "expected a .npy file of an array [E, 4], four columns of integers of 2 to 8 bytes or floats of 4 or 8"
        )
    dtype, by_columns, count = (group.decode() for group in found.groups())
    return np.dtype(dtype), by_columns == "True", int(count), found.end()


def _columns(columns: np.ndarray) -> Iterator[Columns]:
    for piece in pieces(columns.shape[1]):
        x, y, p, t = columns[:, piece]
        for name, values, highest in (("x", x, HIGHEST), ("y", y, HIGHEST), ("p", p, 1), ("t", t, LAST_US // US)):
            good = (values >= 0) & (values <= highest)
            if name != "t" and good.all():  # in this order: rint warns of a signalling NaN
                good = values == np.rint(values)
            if not good.all():
                i = int(good.argmin())
                whole = "" if name == "t" else ", whole"
                raise ValueError(f"event {piece.start + i} has {name} = {values[i]}, expected 0 to {highest}{whole}")
        us = np.rint(t * float(US)) if t.dtype.kind == "f" else t.astype(np.int64) * US
        yield us.astype(np.int64), x, y, p


def to_bytes(events: np.ndarray) -> bytes:
    """A file of ``events``, floats of 8 bytes: the inverse of ``parse``, to the microsecond.

    Raises SpikeletError where the format has no room: a time below 0, above 2^50 us, or one that runs back; a negative
    x or y.

    >>> from spikelet.events import make_events
    >>> np.load(io.BytesIO(to_bytes(make_events([25_500], [3], [4], [1])))).tolist()
    [[3.0, 4.0, 1.0, 25.5]]
    """
    check_room(events, t=LAST_US // US * US, x=HIGHEST, y=HIGHEST)
    file = io.BytesIO()
    np.save(file, np.stack([events["x"], events["y"], events["p"], events["t"] / US], axis=1))
    return file.getvalue()
