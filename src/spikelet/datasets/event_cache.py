"""Packed recordings on disk: one file, mapped into memory, made again whenever it is not exactly what it should be.

    bytes 0 to 15    "spikelet-events\\n"
    bytes 16 to 24   CRC-32 of the JSON and the blanks behind it, 8 hexadecimal digits, line feed
    to 4095          JSON, filled up with blanks: made_from, recordings, sensor_size, body_bytes, body_crc32
    then the body    the recordings as ``events.packed`` lays them out, filled up to a multiple of 8 bytes;
                     starts, counts, labels, official indices: int64 each, one number per recording

``made_from`` is a text: JSON of this format's version, a fingerprint of the source files, the settings. All numbers are
little-endian.
"""

import contextlib
import io
import json
import mmap
import os
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from spikelet.events import Packed, SensorSize
from spikelet.events.packed import pack_one

MAGIC = b"spikelet-events\n"
VERSION = 1
HEADER_BYTES = 4096
CHUNK_BYTES = 1 << 24
NUM_COLUMNS = 4  # starts, counts, labels, indices
FORGOTTEN_SECONDS = 3600.0  # a part file of that age belongs to no process any more

Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class Cached:
    """What a file holds: recordings, and for each its label and its official index, int64 [R]."""

    recordings: Packed
    labels: np.ndarray
    indices: np.ndarray


@dataclass(frozen=True)
class Contents:
    """What a file is made from.

    source      fingerprint and settings, in what JSON can say: a file with others is not this one
    recordings  gives the recordings one after the other, as arrays of EVENT
    labels, indices  int64 [R]
    """

    source: Mapping[str, Any]
    sensor_size: SensorSize
    recordings: Callable[[], Iterable[np.ndarray]]
    labels: np.ndarray
    indices: np.ndarray

    @property
    def made_from(self) -> str:
        return json.dumps({"version": VERSION, "sensor_size": self.sensor_size, **self.source}, sort_keys=True)


def open_cached(paths: Sequence[Path], contents: Contents) -> Cached:
    """The first of ``paths`` that is made of ``contents`` and whole; else it is made, at the first that can be written.

    A damaged file is made again with a warning. Where nothing can be written (no rights, no room), the recordings stay
    in memory, with a warning. Two processes at once may both make the file: each under a name of its own, renamed when
    it is whole and on the disk, so either result is valid.
    """
    for path in paths:
        found = _find(path, contents.made_from)
        if found is not None:
            return found
    answers = []
    for path in paths:
        try:
            _make(path, contents)
            found = _open(path, _stamp(path), contents.made_from)
            answers.append(f"{path}: replaced by another process")
        except OSError as error:
            answers.append(f"{path}: {error.strerror or error}")
        if found is not None:
            return found
    warnings.warn(f"recordings stay in memory, they could not be cached ({'; '.join(answers)})", stacklevel=2)
    buffer = io.BytesIO()
    _write(buffer, contents)
    return _parse(np.frombuffer(buffer.getbuffer(), np.uint8), _header(buffer.getvalue()[:HEADER_BYTES]))


def _find(path: Path, made_from: str) -> Cached | None:
    """The file if it is there, whole, and made of that."""
    try:
        return _open(path, _stamp(path), made_from)
    except OSError:
        return None
    except ValueError as error:
        warnings.warn(f"{path} is damaged ({error}); it is made again", stacklevel=3)
        return None


def _stamp(path: Path | int) -> Stamp:
    """What tells one state of a file from another; ``path`` or a file descriptor."""
    status = os.stat(path)  # noqa: PTH116 (a Path has no stat of descriptors)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=4)
def _open(path: Path, stamp: Stamp, made_from: str) -> Cached | None:
    """Map and check a file, once per process and state of the file, for all splits that need it; None for another."""
    with path.open("rb") as file:
        if _stamp(file.fileno()) != stamp:
            raise OSError("replaced by another process just now")
        header = _header(file.read(HEADER_BYTES))
        if header["made_from"] != made_from:
            return None
        return _parse(np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8), header)


def _header(data: bytes) -> dict[str, Any]:
    """The JSON of the first HEADER_BYTES; raises ValueError where they are damaged."""
    checksum, text = data[len(MAGIC) :][:9], data[len(MAGIC) + 9 :]
    if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
        raise ValueError("it is no file of packed recordings")
    if checksum != b"%08x\n" % zlib.crc32(text):
        raise ValueError("the checksum of its header is wrong")
    return json.loads(text)


def _parse(data: np.ndarray, header: Mapping[str, Any]) -> Cached:
    """The contents of a whole file; raises ValueError with the reason where its body is damaged."""
    body, num = data[HEADER_BYTES:], header["recordings"]
    raw = memoryview(body)  # type: ignore[arg-type]
    if len(body) != header["body_bytes"]:
        raise ValueError(f"its body has {len(body)} of {header['body_bytes']} bytes")
    found = 0
    for start in range(0, len(body), CHUNK_BYTES):
        found = zlib.crc32(raw[start : start + CHUNK_BYTES], found)
    if found != header["body_crc32"]:
        raise ValueError("the checksum of its body is wrong")
    end = len(body) - 8 * num * NUM_COLUMNS
    starts, counts, labels, indices = body[end:].view("<i8").reshape(NUM_COLUMNS, num)
    width, height, polarities = header["sensor_size"]
    return Cached(Packed(body[:end], starts, counts, (width, height, polarities)), labels, indices)


def _make(path: Path, contents: Contents) -> None:
    """Write the file under a name of its own, to the disk, then rename it; nothing is left behind where that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    part = path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(4).hex()}.part")
    try:
        with part.open("xb") as file:
            _write(file, contents)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Remove what a process that was killed left behind."""
    for part in path.parent.glob(f"{path.name}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > FORGOTTEN_SECONDS:
                part.unlink()


def _write(file: BinaryIO, contents: Contents) -> None:
    file.write(bytes(HEADER_BYTES))
    position, checksum = 0, 0
    starts, counts = [], []

    def add(data: bytes) -> None:
        nonlocal position, checksum
        file.write(data)
        position, checksum = position + len(data), zlib.crc32(data, checksum)

    for events in contents.recordings():
        starts.append(position)
        counts.append(len(events))
        add(pack_one(events, contents.sensor_size))
    add(bytes(-position % 8))
    for column in (starts, counts, contents.labels, contents.indices):
        add(np.asarray(column, "<i8").tobytes())
    header = {"made_from": contents.made_from, "sensor_size": contents.sensor_size, "recordings": len(starts)}
    text = json.dumps({**header, "body_bytes": position, "body_crc32": checksum}).encode()
    text = text.ljust(HEADER_BYTES - len(MAGIC) - 9)
    file.seek(0)
    file.write(MAGIC + b"%08x\n" % zlib.crc32(text) + text)
