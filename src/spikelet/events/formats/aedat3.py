"""AEDAT 3.1, the format of DVS128 Gesture: packets of events, little-endian.

    lines of text  each begins with "#": "#!AER-DAT3.1", "#Format: RAW", others, "#!END-HEADER"
    packets        28 bytes each: type and source (16 bits), then, of 32 bits, size of an event, where in it the time
                   is, overflow of the time, capacity, number of events, how many of them are valid; then the events
    events         of type 1, 8 bytes: validity in bit 0, polarity in bit 1, y in bits 2 to 16, x in bits 17 to 31;
                   then 31 bits of time;  t = overflow * 2^31 + time, in us

Packets of other types are skipped, events that are not valid are dropped. Where the fields of a packet contradict each
other or its events, the file is damaged. Source: iniVation, "AEDAT 3.1", docs.inivation.com; reference section 7.
"""

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from spikelet.events.formats.base import Columns, Data, check_room, collect, header_lines, pieces

VERSION, FORMAT, END = b"#!AER-DAT3.1", b"#Format: RAW", b"#!END-HEADER"
HEADER = struct.Struct("<hhiiiiii")
RECORD = np.dtype([("word", "<u4"), ("t", "<u4")])
POLARITY = 1
TIME_AT = 4
TIME_BITS = 31
HIGHEST = (1 << 15) - 1
PACKET_EVENTS = 4096


class Packet(NamedTuple):
    """The header of a packet; all fields are signed, as they are in the file."""

    type: int
    source: int
    size: int
    time_at: int
    overflow: int
    capacity: int
    number: int
    valid: int


def parse(data: Data) -> np.ndarray:
    """The valid polarity events of a file; raises ValueError with the reason where it is damaged.

    Events of two sources do not mix: they are of two sensors, and the file is refused.

    >>> head = b"#!AER-DAT3.1\\r\\n#Format: RAW\\r\\n#!END-HEADER\\r\\n"
    >>> packet = Packet(POLARITY, source=0, size=8, time_at=4, overflow=1, capacity=2, number=2, valid=1)
    >>> parse(head + HEADER.pack(*packet) + bytes.fromhex("13000600 02010000 12000600 03010000")).tolist()
    [(2147483906, 3, 4, 1)]
    """
    start = _header(data)
    return collect(_columns(data, start), (len(data) - start) // RECORD.itemsize)


def _header(data: Data) -> int:
    """Where the header ends."""
    formats = 0
    for number, (line, end) in enumerate(header_lines(data, b"#")):
        if number == 0 and line != VERSION:
            break
        if line.startswith(b"#Format:") and line != FORMAT:
            raise ValueError(f"expected #Format: RAW, it states {line[:40].decode('ascii', 'replace')}")
        formats += line == FORMAT
        if line == END and formats:
            return end
    raise ValueError("expected #!AER-DAT3.1 as its first line, then #Format: RAW, and #!END-HEADER as the last")


def _columns(data: Data, start: int) -> Iterator[Columns]:
    source = None
    while start < len(data):
        packet = _packet(data, start)
        if packet.type == POLARITY:
            source = packet.source if source is None else source
            if packet.source != source:
                raise ValueError(f"it holds events of two sources, {source} and {packet.source}, expected one")
            yield from _decode(data, start, packet)
        start += HEADER.size + packet.size * packet.number


def _packet(data: Data, start: int) -> Packet:
    """The header of the packet at byte ``start``, checked."""
    if len(data) - start < HEADER.size:
        raise ValueError(f"truncated, at byte {start} it ends within the header of a packet")
    packet = Packet(*HEADER.unpack_from(data, start))
    if min(packet) < 0 or packet.capacity != packet.number or packet.valid > packet.number:
        raise ValueError(f"at byte {start} the fields of a packet contradict each other: {packet}")
    if packet.type == POLARITY and (packet.size, packet.time_at) != (RECORD.itemsize, TIME_AT):
        raise ValueError(f"at byte {start}: expected events of 8 bytes, time in byte 4, the packet states {packet}")
    room = len(data) - start - HEADER.size
    size = packet.size * packet.number
    if size > room:
        raise ValueError(f"truncated, at byte {start} a packet claims {size} bytes, {room} are left")
    return packet


def _decode(data: Data, start: int, packet: Packet) -> Iterator[Columns]:
    records, found = np.frombuffer(data, RECORD, packet.number, start + HEADER.size), 0
    for piece in pieces(packet.number):
        some = records[piece]
        some = some[some["word"] & 1 == 1]
        found += len(some)
        words, t = some["word"], some["t"].astype(np.int64)
        if (t >> TIME_BITS).any():
            raise ValueError(f"at byte {start} a packet has an event with a time of {t.max()}, allowed are 31 bits")
        yield t + (packet.overflow << TIME_BITS), words >> 17, words >> 2 & HIGHEST, words >> 1 & 1
    if found != packet.valid:
        raise ValueError(f"at byte {start} a packet states {packet.valid} valid events, it holds {found}")


def to_bytes(events: np.ndarray, source: int = 1) -> bytes:
    """A file of ``events``: the inverse of ``parse``, in packets of at most 4096 events.

    Raises SpikeletError where the format has no room: a time below 0, of 2^62 us or more, or one that runs back; a
    negative x or y.

    >>> from spikelet.events import make_events
    >>> to_bytes(make_events([258], [3], [4], [1]))[-8:].hex(" ", 4)
    '13000600 02010000'
    """
    check_room(events, t=2 ** (2 * TIME_BITS) - 1, x=HIGHEST, y=HIGHEST)
    records = np.empty(len(events), RECORD)
    x, y, p = (events[name].astype(np.uint32) for name in ("x", "y", "p"))
    records["word"], records["t"] = x << 17 | y << 2 | p << 1 | 1, events["t"] & (1 << TIME_BITS) - 1
    overflows = events["t"] >> TIME_BITS
    changes = np.flatnonzero(np.diff(overflows)) + 1
    cuts = np.unique(np.concatenate([np.arange(0, len(events), PACKET_EVENTS), changes, [len(events)]])).tolist()
    lines = (VERSION, FORMAT, b"#Source %d: DVS128" % source, b"#Start-Time: 1970-01-01 00:00:00 (TZ+0000)", END)
    parts = [line + b"\r\n" for line in lines]
    for first, last in pairwise(cuts):
        number = last - first
        packet = Packet(POLARITY, source, RECORD.itemsize, TIME_AT, int(overflows[first]), number, number, number)
        parts += [HEADER.pack(*packet), records[first:last].tobytes()]
    return b"".join(parts)
