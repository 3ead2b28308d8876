"""Prophesee's .dat format, version 2, that of N-Cars and of the automotive sets: 8 bytes per event, little-endian.

    lines of text  each begins with "% "; "% Version 2" is one of them, "% Width 304" and "% Height 240" may be
    2 bytes        type of the events, 0 or 12 (pixels that saw a change), and the bytes of each, 8
    events         time in us (32 bits); then x in bits 0 to 13, y in bits 14 to 27, polarity in bit 28

Source: Prophesee, "DAT File Format", docs.prophesee.ai; reference section 7.
"""

import re
from collections.abc import Iterator

import numpy as np

from spikelet.events.formats.base import Columns, Data, check_room, collect, header_lines, pieces

RECORD = np.dtype([("t", "<u4"), ("word", "<u4")])
CHANGES = {0: "Event2d", 12: "EventCD"}
HIGHEST = (1 << 14) - 1


def parse(data: Data) -> np.ndarray:
    """The events of a file; raises ValueError with the reason where it is damaged or of another kind.

    >>> parse(b"% Version 2\\n" + bytes.fromhex("0c08 02010000 03000110")).tolist()
    [(258, 3, 4, 1)]
    """
    settings, start = _header(data)
    if settings.get("Version", 2) != 2:
        raise ValueError(f"expected version 2, its header states {settings['Version']}")
    kind, size = bytes(data[start : start + 2]).ljust(2, b"\xff")
    if kind not in CHANGES or size != RECORD.itemsize:
        raise ValueError(f"expected events of type 0 or 12, 8 bytes each, it states type {kind}, {size} bytes")
    body = memoryview(data)[start + 2 :]
    if len(body) % RECORD.itemsize:
        raise ValueError(f"truncated, it holds {len(body)} bytes of events, no multiple of {RECORD.itemsize}")
    width, height = settings.get("Width", HIGHEST + 1), settings.get("Height", HIGHEST + 1)
    records = np.frombuffer(body, RECORD)
    return collect(_columns(records, width, height), len(records))


def _header(data: Data) -> tuple[dict[str, int], int]:
    """The numbers that the header states, and where it ends."""
    settings, end = {}, 0
    for line, end in header_lines(data, b"%"):  # noqa: B007 (the last one counts)
        found = re.fullmatch(rb"% *(Version|Width|Height) +(\d{1,9}) *", line)
        if found:
            settings[found[1].decode()] = int(found[2])
    return settings, end


def _columns(records: np.ndarray, width: int, height: int) -> Iterator[Columns]:
    for piece in pieces(len(records)):
        words = records["word"][piece]
        x, y, p = words & HIGHEST, words >> 14 & HIGHEST, words >> 28
        wrong = (x >= width) | (y >= height) | (p > 1)
        if wrong.any():
            i = int(wrong.argmax())
            raise ValueError(
                f"event {piece.start + i} has x = {x[i]}, y = {y[i]}, polarity {p[i]}, "
                f"allowed are x below {width}, y below {height}, polarity 0 or 1"
            )
        yield records["t"][piece].astype(np.int64), x, y, p


def to_bytes(events: np.ndarray) -> bytes:
    """A file of ``events``: the inverse of ``parse``.

    Raises SpikeletError where the format has no room: x or y above 16383, a time below 0, of 2^32 us or more, or one
    that runs back.

    >>> from spikelet.events import make_events
    >>> to_bytes(make_events([258], [3], [4], [1]))[-10:].hex(" ")
    '0c 08 02 01 00 00 03 00 01 10'
    """
    check_room(events, t=2**32 - 1, x=HIGHEST, y=HIGHEST)
    records = np.empty(len(events), RECORD)
    x, y, p = (events[name].astype(np.uint32) for name in ("x", "y", "p"))
    records["t"], records["word"] = events["t"], p << 28 | y << 14 | x
    header = b"% Data file containing CD events\n% Version 2\n"
    return header + bytes([12, RECORD.itemsize]) + records.tobytes()
