"""Every reader of event files on files damaged at random: an array or the one DataError, in bounded memory and time.

    python tests/fuzz_readers.py                                        100,000 files for each reader
    python tests/fuzz_readers.py --files 1000 --seed 7 --readers dat shd

Files are truncated, bits and bytes changed, counts made huge, records swapped so that time runs back, headers edited,
parts cut out, repeated, or taken from other files. File number i of a reader is a function of (seed, reader, i). A
fault is any exception but DataError, a warning, an array that is no recording, more memory than 4 x the file and
256 KiB, or more than ten seconds. The exit code is 1 where there was one.
"""

import argparse
import io
import random
import re
import signal
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from spikelet.datasets import poker_dvs
from spikelet.errors import DataError
from spikelet.events import EVENT, make_events, read_events, wav
from spikelet.events.formats import aedat2, aedat3, atis, dat, numpy_files, shd

TIMES_SIZE = 4
MARGIN = 1 << 18
SECONDS = 10
MEMORY = Path("/dev/shm")  # a disk takes longer to write the files than the readers to refuse them
FEW, MANY, RARELY = 60, 20_000, 32  # events in a small and in a large file; one file in so many is a large one


def recording(num: int, width: int = 128, last_us: int = 10**6, polarities: int = 2) -> np.ndarray:
    rng = np.random.default_rng(num)
    t, x, y = np.sort(rng.integers(0, last_us, num)), rng.integers(0, width, num), rng.integers(0, width, num)
    return make_events(t, x, y if polarities == 2 else 0 * y, rng.integers(0, polarities, num))


# ---------------------------------------------------------------- sound files


def aedat3_files(num: int) -> list[bytes]:
    """With packets of another type, and with events that are not valid."""
    late = recording(num, last_us=2**33)
    head, body = aedat3.to_bytes(recording(num)).split(aedat3.END + b"\r\n")
    other = aedat3.HEADER.pack(0, 1, 8, 4, 0, 2, 2, 1) + bytes(16)
    half = aedat3.HEADER.pack(1, 1, 8, 4, 0, 2, 2, 1) + bytes.fromhex("13000600 00000000 12000600 00000000")
    return [aedat3.to_bytes(late), head + aedat3.END + b"\r\n" + other + half + other + body + other]


def dat_files(num: int) -> list[bytes]:
    file = dat.to_bytes(recording(num, 240))
    return [file, b"% Height 240\n% Width 304\n" + file]


def numpy_arrays(num: int) -> list[bytes]:
    events = recording(num)
    rows = np.stack([events["x"], events["y"], events["p"], events["t"] // 1000], axis=1)
    files = [numpy_files.to_bytes(events)]
    for values in (rows.astype("<i2"), rows.astype(">i8"), rows.astype("<f4"), np.asfortranarray(rows.astype("<u4"))):
        file = io.BytesIO()
        np.save(file, values)
        files.append(file.getvalue())
    return files


def shd_files(num: int) -> list[bytes]:
    """As h5py writes them by default; with chunks; compressed; with the groups of newer files."""
    recordings = [recording(num, 700, polarities=1), recording(num // 2, 700, polarities=1), recording(0, 1, 1, 1)]
    options = [("earliest", {"chunks": (2,)}), ("v108", {"chunks": (3,), "compression": "gzip", "shuffle": True})]
    files = [shd.to_bytes(recordings, [1, 2, 3])]
    for libver, more in [*options, ("v108", {})]:
        file = io.BytesIO()
        with h5py.File(file, "w", libver=libver) as h5:
            times = h5.create_dataset("spikes/times", 3, h5py.vlen_dtype(np.float16), **more)
            units = h5.create_dataset("spikes/units", 3, h5py.vlen_dtype(np.uint16), **more)
            for i, events in enumerate(recordings):
                times[i], units[i] = (events["t"] / 1e6).astype(np.float16), events["x"].astype(np.uint16)
            h5.create_dataset("labels", data=np.arange(3, dtype=np.uint16), **more)
        files.append(file.getvalue())
    return files


def poker_files(num: int) -> list[bytes]:
    events = recording(num, 35)
    file = io.BytesIO()
    np.save(file, np.asfortranarray(np.stack([events[name] for name in "txyp"], axis=1).astype("<f8")))
    return [poker_dvs.to_bytes(events), file.getvalue()]


def wav_files(num: int) -> list[bytes]:
    samples = np.random.default_rng(num).integers(-128, 128, 16 * num)
    return [wav.wav_bytes(samples.astype(kind), 8000) for kind in (np.int8, np.int16, np.int32)]


# a reader's name to the suffix of its files, and to what makes sound ones of so many events
READERS: dict[str, tuple[str, Callable[[int], list[bytes]]]] = {
    "aedat3": (".aedat", aedat3_files),
    "aedat2": (".aedat", lambda num: [aedat2.to_bytes(recording(num)), aedat2.to_bytes(recording(num), "sensor")]),
    "dat": (".dat", dat_files),
    "atis": (".bin", lambda num: [atis.to_bytes(recording(num)), atis.to_bytes(recording(num, last_us=2**24))]),
    "numpy": (".npy", numpy_arrays),
    "shd": (".h5", shd_files),
    "poker": (".npy", poker_files),
    "wav": (".wav", wav_files),
}


def sound(data: bytes) -> np.ndarray:
    """Events in the place of samples, since these are what is checked: one for 64."""
    samples, rate = wav.parse_wav(data)
    assert samples.ndim == 1 and samples.dtype in (np.int8, np.int16, np.int32) and rate > 0
    return np.zeros(len(samples) // 64, EVENT)


# what reads the files that ``read_events`` does not know: data sets name the file in front of a ValueError's reason
PARSERS: dict[str, Callable[[bytes], np.ndarray]] = {"poker": poker_dvs.parse, "wav": sound}


def read(reader: str, path: Path) -> np.ndarray:
    if reader not in PARSERS:
        return read_events(path)
    try:
        return PARSERS[reader](path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


# ---------------------------------------------------------------- damage


def place(draw: random.Random, file: bytearray) -> int:
    """A byte: every other time one of the first 512, where headers are."""
    return draw.randrange(min(len(file), 512) if draw.random() < 0.5 else len(file))


def truncate(draw: random.Random, file: bytearray, _: list[bytes]) -> None:
    del file[draw.randrange(len(file)) :]


def flip_bit(draw: random.Random, file: bytearray, _: list[bytes]) -> None:
    file[place(draw, file)] ^= 1 << draw.randrange(8)


def change_byte(draw: random.Random, file: bytearray, _: list[bytes]) -> None:
    file[place(draw, file)] = draw.randrange(256)


def change_count(draw: random.Random, file: bytearray, _: list[bytes]) -> None:
    size, start = draw.choice((1, 2, 4, 8)), place(draw, file)
    full = 1 << 8 * size
    number = draw.choice((0, 1, full - 1, full // 2 - 1, full // 2, full // 16, len(file), 2 * len(file)))
    file[start : start + size] = (number % full).to_bytes(size, draw.choice(("little", "big")))


def edit_header(draw: random.Random, file: bytearray, _: list[bytes]) -> None:
    """Another number in the place of one that is written in digits, or another line in front."""
    digits = list(re.finditer(rb"\d+", file[:256]))
    if digits and draw.random() < 0.7:
        start, end = draw.choice(digits).span()
        file[start:end] = b"%d" % draw.choice((0, 1, 3, 10**9, 10**17, 10**30, draw.randrange(10**6)))
    else:
        lines = (b"#", b"%", b"% Version 1\n", b"% Width 5\n", b"#!END-HEADER\r\n", b"#\n" * 50, b"#Format: X\r\n")
        start = file.find(b"\n", 0, 256) + 1
        file[start:start] = draw.choice(lines)


def swap_records(draw: random.Random, file: bytearray, _: list[bytes]) -> None:
    """Two records in each other's place, as of events whose time then runs back."""
    size = draw.choice((5, 8, 16, 32))
    if len(file) >= 2 * size:
        first, second = sorted(draw.randrange(len(file) // size) * size for _ in range(2))
        a, b = len(file) - size - second, len(file) - size - first  # from the end: headers are of any length
        file[a : a + size], file[b : b + size] = file[b : b + size], file[a : a + size]


def cut_out(draw: random.Random, file: bytearray, _: list[bytes]) -> None:
    start = place(draw, file)
    del file[start : start + draw.choice((1, 4, 5, 8, draw.randrange(1, 64)))]


def repeat(draw: random.Random, file: bytearray, _: list[bytes]) -> None:
    start = place(draw, file)
    file[start:start] = file[start : start + draw.choice((1, 5, 8, 28, 512))] * draw.randrange(1, 4)


def splice(draw: random.Random, file: bytearray, others: list[bytes]) -> None:
    """A part of another file, or of this one, written over a part."""
    other = draw.choice(others)
    size, start, source = draw.randrange(1, 256), place(draw, file), draw.randrange(len(other))
    part = other[source : source + size]
    file[start : start + len(part)] = part


DAMAGES = (truncate, flip_bit, flip_bit, change_byte, change_count, change_count, edit_header, swap_records, cut_out)
DAMAGES += (repeat, splice)


def damaged(draw: random.Random, files: list[bytes]) -> bytes:
    file = bytearray(draw.choice(files))
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        if file:
            draw.choice(DAMAGES)(draw, file, files)
    return bytes(file)


# ---------------------------------------------------------------- what must hold


class Hang(BaseException):
    """Not an Exception: no reader may catch it."""


@dataclass
class Tally:
    """What became of the files of one reader; ``fullest``: the largest share of the allowed memory that one took."""

    files: int = 0
    arrays: int = 0
    fullest: float = 0.0
    slowest: float = 0.0
    faults: list[str] = field(default_factory=list)


@contextmanager
def watched() -> Iterator[None]:
    """Memory is traced, warnings are errors, and an alarm raises Hang."""

    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        tracemalloc.stop()
        signal.signal(signal.SIGALRM, before)


def find_fault(reader: str, path: Path) -> tuple[bool, str | None]:
    """Whether the file gave an array, and what is wrong with what it gave."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        events = read(reader, path)
    except DataError as error:
        named = str(error).startswith(f"{path}: ") and "\n" not in str(error)
        return False, None if named else f"a DataError that does not name the file in one line: {error}"
    except Hang:
        return False, f"more than {SECONDS} s"
    except BaseException as error:
        return False, f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if events.dtype != EVENT or events.ndim != 1:
        return True, f"an array of {events.dtype}, shape {events.shape}"
    x, y, p, back = events["x"], events["y"], events["p"], events["t"][1:] < events["t"][:-1]
    if len(events) and (min(x.min(), y.min(), p.min()) < 0 or p.max() > 1 or back.any()):
        return True, "events that are none"
    return True, None


def fuzz(reader: str, files: int, seed: int = 0) -> Tally:
    """``files`` damaged files for one reader."""
    suffix, make = READERS[reader]
    small, large, tally = make(FEW), make(MANY), Tally(files)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder, watched():
        path = Path(folder) / f"damaged{suffix}"
        for number in range(files):
            draw = random.Random(f"{seed} {reader} {number}")
            data = damaged(draw, large if draw.randrange(RARELY) == 0 else small)
            path.write_bytes(data)
            allowed = TIMES_SIZE * len(data) + MARGIN
            tracemalloc.reset_peak()
            held, start = tracemalloc.get_traced_memory()[0], time.perf_counter()
            is_array, fault = find_fault(reader, path)
            tally.slowest = max(tally.slowest, time.perf_counter() - start)
            share = (tracemalloc.get_traced_memory()[1] - held) / allowed
            tally.fullest = max(tally.fullest, share)
            tally.arrays += is_array
            if share > 1 and not fault:
                fault = f"{share * allowed:.0f} bytes of memory for a file of {len(data)}"
            if fault:
                tally.faults.append(f"file {number}: {fault}")
    return tally


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000, help="files for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    chosen = parser.parse_args(arguments)
    faults = 0
    for reader in chosen.readers:
        start, tally = time.perf_counter(), fuzz(reader, chosen.files, chosen.seed)
        faults += len(tally.faults)
        print(
            f"{reader}: {tally.files:,} files, {tally.arrays:,} arrays, {tally.files - tally.arrays:,} refused, "
            f"{len(tally.faults)} faults; at most {tally.fullest:.0%} of the allowed memory, "
            f"{1000 * tally.slowest:.0f} ms; {time.perf_counter() - start:.0f} s",
            *tally.faults[:20],
            sep="\n  ",
            flush=True,
        )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
