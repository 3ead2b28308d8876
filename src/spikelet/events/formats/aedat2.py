"""AEDAT 2.0 of a DVS128, the format of CIFAR10-DVS: 8 bytes per event, big-endian.

    lines of text  each begins with "#", the first is "#!AER-DAT2.0"
    events         address (32 bits): polarity in bit 0, x in bits 1 to 7, y in bits 8 to 14; then time in us (32 bits)

Bit 15 or bit 31 of an address marks what is no pixel's event, such as a signal on a cable: it is dropped. CIFAR10-DVS
shows its pictures upright only after

    x' = 127 - y,  y' = 127 - x,  p' = 1 - p

Sources: iniVation, "AEDAT 2.0", docs.inivation.com; H. Li et al., CIFAR10-DVS, 2017; reference section 7.
"""

from collections.abc import Iterator

import numpy as np

from spikelet.errors import SpikeletError
from spikelet.events.formats.base import Columns, Data, check_room, collect, header_lines, pieces

VERSION = b"#!AER-DAT2.0"
RECORD = np.dtype([("address", ">u4"), ("t", ">u4")])
NO_PIXEL = 1 << 15 | 1 << 31
PIXEL = (1 << 15) - 1
LAST = 127
ORIENTATIONS = ("cifar10-dvs", "sensor")


def parse(data: Data, orientation: str = "cifar10-dvs") -> np.ndarray:
    """The events of a file; raises ValueError with the reason where it is damaged or of another sensor.

    ``orientation``: "cifar10-dvs" turns the picture upright as above, "sensor" leaves x, y and p as they are.

    >>> file = b"#!AER-DAT2.0\\r\\n" + bytes.fromhex("00000406 00000102")
    >>> parse(file, "sensor").tolist(), parse(file).tolist()
    ([(258, 3, 4, 0)], [(258, 123, 124, 1)])
    """
    _check(orientation)
    start = 0
    for number, (line, end) in enumerate(header_lines(data, b"#")):
        if number == 0 and line != VERSION:
            break
        start = end
    if start == 0:
        raise ValueError(f"expected {VERSION.decode()} as its first line")
    body = memoryview(data)[start:]
    if len(body) % RECORD.itemsize:
        raise ValueError(f"truncated, it holds {len(body)} bytes of events, no multiple of {RECORD.itemsize}")
    records = np.frombuffer(body, RECORD)
    return collect((_turn(columns, orientation) for columns in _columns(records)), len(records))


def _columns(records: np.ndarray) -> Iterator[Columns]:
    for piece in pieces(len(records)):
        address = records["address"][piece].astype(np.uint32)
        foreign = address & ~np.uint32(NO_PIXEL | PIXEL) != 0
        if foreign.any():
            i = int(foreign.argmax())
            raise ValueError(f"event {piece.start + i} has address {address[i]:#010x}, a DVS128 has 15 bits")
        kept = address & NO_PIXEL == 0
        address = address[kept].astype(np.int16)
        yield records["t"][piece][kept].astype(np.int64), address >> 1 & LAST, address >> 8, address & 1


def _turn(columns: Columns, orientation: str) -> Columns:
    """Its own inverse."""
    t, x, y, p = columns
    return columns if orientation == "sensor" else (t, LAST - y, LAST - x, 1 - p)


def _check(orientation: str) -> None:
    if orientation not in ORIENTATIONS:
        raise SpikeletError(f"orientation: expected one of {', '.join(ORIENTATIONS)}, got {orientation!r}")


def to_bytes(events: np.ndarray, orientation: str = "cifar10-dvs") -> bytes:
    """A file of ``events``: the inverse of ``parse``.

    Raises SpikeletError where the format has no room: x or y above 127, a time below 0, of 2^32 us or more, or one that
    runs back.

    >>> from spikelet.events import make_events
    >>> to_bytes(make_events([258], [3], [4], [1]), "sensor")[-8:].hex(" ", 4)
    '00000407 00000102'
    """
    _check(orientation)
    check_room(events, t=2**32 - 1, x=LAST, y=LAST)
    records = np.empty(len(events), RECORD)
    t, x, y, p = _turn((events["t"], events["x"], events["y"], events["p"]), orientation)
    records["address"], records["t"] = y << 8 | x << 1 | p, t
    return VERSION + b"\r\n# int32 address, int32 timestamp of 1 us, of a DVS128\r\n" + records.tobytes()
