"""Files of events: each format there and back, by hand, against others' readers, contradictory, damaged, and huge."""

import hashlib
import importlib.util
import io
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import fuzz_readers
import h5py
import numpy as np
import pytest
from fuzz_readers import MARGIN, READERS, fuzz, recording
from hypothesis import given, settings
from hypothesis import strategies as st

import spikelet
from spikelet.errors import DataError, SpikeletError
from spikelet.events import make_events, read_events
from spikelet.events.formats import aedat2, aedat3, atis, dat, hdf5, numpy_files, shd


class Format(NamedTuple):
    """A module, the suffix of its files, and the highest time, x and y that it has room for."""

    module: ModuleType
    suffix: str
    t: int
    x: int
    y: int


WIDE = (1 << 15) - 1
FORMATS = {
    "aedat3": Format(aedat3, ".aedat", 2**62 - 1, WIDE, WIDE),
    "aedat2": Format(aedat2, ".aedat", 2**32 - 1, 127, 127),
    "dat": Format(dat, ".dat", 2**32 - 1, 16_383, 16_383),
    "atis": Format(atis, ".bin", 3 * atis.LAST_US, 255, 239),
    "numpy": Format(numpy_files, ".npy", numpy_files.LAST_US // 1000 * 1000, WIDE, WIDE),
}


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def rows_of(form: Format, max_size: int = 30) -> st.SearchStrategy[list[tuple[int, int, int, int]]]:
    last = form.t
    t = st.one_of(st.integers(0, last), st.integers(0, 50), st.integers(last - 50, last))
    return st.lists(st.tuples(t, st.integers(0, form.x), st.integers(0, form.y), st.integers(0, 1)), max_size=max_size)


def events_of(rows: list[tuple[int, int, int, int]]) -> np.ndarray:
    return make_events(*([row[i] for row in sorted(rows)] for i in range(4)))


# ---------------------------------------------------------------- there and back


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_round_trip(form: Format, data: st.DataObject) -> None:
    events = events_of(data.draw(rows_of(form)))
    file = form.module.to_bytes(events)
    for kind in (bytes, bytearray, memoryview):
        assert np.array_equal(form.module.parse(kind(file)), events)
    assert form.module.to_bytes(form.module.parse(file)) == file


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_many_events_are_read_as_few_are(form: Format) -> None:
    """More than one piece, one packet, one mark; columns that are not contiguous."""
    rng = np.random.default_rng(1)
    num, last = 10_001, min(form.t, 2**33)
    t = np.sort(rng.integers(0, last, num))
    events = make_events(t, rng.integers(0, form.x, num), rng.integers(0, form.y, num), rng.integers(0, 2, num))
    for some in (events, events[::7]):
        assert np.array_equal(form.module.parse(form.module.to_bytes(some)), some)


@settings(max_examples=25, deadline=None)
@given(
    lists=st.lists(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, WIDE)), max_size=12), max_size=5),
    labels=st.data(),
)
def test_round_trip_of_many_recordings(
    lists: list[list[tuple[int, int]]], labels: st.DataObject, tmp_path_factory
) -> None:
    recordings = [events_of([(t, x, 0, 0) for t, x in rows]) for rows in lists]
    wanted = labels.draw(st.lists(st.integers(0, 2**16 - 1), min_size=len(lists), max_size=len(lists)))
    path = write(tmp_path_factory.getbasetemp(), "round.h5", shd.to_bytes(recordings, wanted))
    found, found_labels = shd.parse_all(path)
    assert found_labels.tolist() == wanted and len(found) == len(recordings)
    for i, events in enumerate(recordings):
        assert np.array_equal(found[i], events) and np.array_equal(read_events(path, i), events)
    with pytest.raises(DataError, match=f"it holds {len(lists)} recordings, index {len(lists)} is none of them"):
        read_events(path, len(lists))


def test_short_floats_of_the_real_files(tmp_path: Path) -> None:
    exact = shd.to_us(np.sort(np.random.default_rng(0).random(500)).astype(np.float16))
    events = make_events(exact, np.arange(500) % 700, np.zeros(500), np.zeros(500))
    path = write(tmp_path, "a.h5", shd.to_bytes([events], [7], times="f2"))
    assert np.array_equal(read_events(path), events)
    with h5py.File(path) as h5:
        assert h5["spikes/times"][0].dtype == np.float16 and h5["spikes/units"][0].dtype == np.uint16
    with pytest.raises(SpikeletError, match="t: 100000 us have no place in f2, the nearest is 99976"):
        shd.to_bytes([make_events([100_000], [0], [0], [0])], [0], times="f2")


@pytest.mark.parametrize(
    ("recordings", "labels", "times", "message"),
    [
        ([], [1], "f8", "labels: expected 0, one per recording, got 1"),
        ([], [], "f3", "times: expected one of f2, f4, f8, got 'f3'"),
        ([make_events([0], [0], [1], [0])], [0], "f8", "y: expected 0 to 0, got 1 to 1"),
        ([make_events([0], [0], [0], [1])], [0], "f8", "p: expected 0 to 0, got 1 to 1"),
    ],
)
def test_what_shd_has_no_room_for(recordings: list[np.ndarray], labels: list[int], times: str, message: str) -> None:
    with pytest.raises(SpikeletError, match=message):
        shd.to_bytes(recordings, labels, times)


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("field", ["t", "x", "y", "p"])
def test_what_a_format_has_no_room_for(form: Format, field: str) -> None:
    highest = {"t": 2**40 if form.module is atis else form.t, "x": form.x, "y": form.y, "p": 1}[field]
    for value in (-1, highest + 1):
        events = make_events([0], [0], [0], [0]).astype([(name, "<i8") for name in ("t", "x", "y", "p")])
        events[field] = value
        with pytest.raises(SpikeletError, match=f"{field}: expected 0 to {highest}, got {value} to {value}"):
            form.module.to_bytes(events)
    with pytest.raises(SpikeletError, match="t: expected times that do not run back"):
        form.module.to_bytes(make_events([5, 4], [0, 0], [0, 0], [0, 0]))


# ---------------------------------------------------------------- by hand


def test_atis_marks_move_all_later_times_and_are_dropped() -> None:
    def event(t: int) -> bytes:
        return bytes([1, 2, 0, t >> 8, t & 255])

    mark = bytes([77, 240, 255, 255, 255])
    events = atis.parse(event(10) + mark + event(20) + event(30) + mark + mark + event(5))
    assert events["t"].tolist() == [10, 20 + 8192, 30 + 8192, 5 + 3 * 8192]
    assert events["x"].tolist() == [1] * 4 and events["y"].tolist() == [2] * 4
    assert len(atis.parse(b"")) == len(atis.parse(mark)) == 0
    data = bytes([33, 12, 0b1000_0001, 0b0000_0010, 0b0000_0011])
    assert atis.parse(data).tolist() == [((1 << 16) + (2 << 8) + 3, 33, 12, 1)]


@settings(max_examples=40, deadline=None)
@given(rows=rows_of(FORMATS["atis"]))
def test_atis_has_no_more_marks_than_it_needs(rows: list[tuple[int, int, int, int]]) -> None:
    late = max((t - atis.LAST_US for t, *_ in rows), default=0)
    assert len(atis.to_bytes(events_of(rows))) == 5 * (len(rows) + max(0, -(-late // atis.MARK_US)))


def test_aedat2_drops_what_is_no_pixels_event() -> None:
    words = [(0x8000, 1), (3 << 8 | 4 << 1, 2), (0x80000000, 3), (0x7FFF, 4)]
    file = b"#!AER-DAT2.0\r\n# created by hand\r\n" + b"".join(struct.pack(">II", *word) for word in words)
    assert aedat2.parse(file, "sensor").tolist() == [(2, 4, 3, 0), (4, 127, 127, 1)]
    assert aedat2.parse(file).tolist() == [(2, 124, 123, 1), (4, 0, 0, 0)]
    with pytest.raises(ValueError, match="event 4 has address 0x00010000, a DVS128 has 15 bits"):
        aedat2.parse(file + struct.pack(">II", 1 << 16, 5))
    for call in (aedat2.parse, aedat2.to_bytes):
        with pytest.raises(SpikeletError, match="orientation: expected one of cifar10-dvs, sensor, got 'up'"):
            call(file, "up")  # type: ignore[operator]


HEAD = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
SOUND = aedat3.Packet(1, source=1, size=8, time_at=4, overflow=0, capacity=2, number=2, valid=2)


def packet(events: list[tuple[int, ...]] = [(3, 4, 1, 1, 10), (5, 6, 0, 1, 20)], **fields: int) -> bytes:  # noqa: B006
    """A packet of events (x, y, p, valid, time), and a header with some fields changed."""
    words = [(x << 17 | y << 2 | p << 1 | valid, t) for x, y, p, valid, t in events]
    return aedat3.HEADER.pack(*SOUND._replace(**fields)) + b"".join(struct.pack("<II", *word) for word in words)


def test_aedat3_honours_every_field() -> None:
    other = packet([(0, 0, 0, 1, 2**31)] * 2, type=0, valid=1)  # of special events; their bits mean something else
    frame = packet([(0, 0, 0, 0, 0)] * 5, type=2, size=40, capacity=1, number=1, valid=0)
    invalid = packet([(3, 4, 1, 0, 2**31), (7, 8, 1, 1, 30)], overflow=3, valid=1)
    none = packet([], capacity=0, number=0, valid=0)
    events = aedat3.parse(HEAD + packet() + other + none + frame + invalid)
    assert events.tolist() == [(10, 3, 4, 1), (20, 5, 6, 0), (3 * 2**31 + 30, 7, 8, 1)]
    assert len(aedat3.parse(HEAD)) == len(aedat3.parse(HEAD + other)) == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (packet(capacity=3), "the fields of a packet contradict each other: .*capacity=3, number=2"),
        (packet(number=1, capacity=1), "contradict each other: .*number=1, valid=2"),
        (packet(valid=3), "contradict each other: .*valid=3"),
        (packet(valid=1), "a packet states 1 valid events, it holds 2"),
        (packet([(3, 4, 1, 0, 10), (5, 6, 0, 1, 20)]), "a packet states 2 valid events, it holds 1"),
        (packet(number=-2), "contradict each other: .*number=-2"),
        (packet(overflow=-1), "contradict each other: .*overflow=-1"),
        (packet(size=16), "expected events of 8 bytes, time in byte 4, the packet states .*size=16"),
        (packet(time_at=0), "expected events of 8 bytes, time in byte 4, the packet states .*time_at=0"),
        (
            packet(number=1 << 30, capacity=1 << 30),
            "truncated, at byte 61 a packet claims 8589934592 bytes, 16 are left",
        ),
        (packet(type=2, size=1 << 30), "truncated, at byte 61 a packet claims 2147483648 bytes, 16 are left"),
        (packet()[:-1], "truncated, at byte 61 a packet claims 16 bytes, 15 are left"),
        (packet() + packet()[:27], "truncated, at byte 105 it ends within the header of a packet"),
        (packet() + packet(source=2), "it holds events of two sources, 1 and 2"),
        (packet([(3, 4, 1, 1, 10), (5, 6, 0, 1, 2**31)]), "an event with a time of 2147483648, allowed are 31 bits"),
        (packet(overflow=1) + packet(), "time runs back at event 2, from 2147483668 to 10 us"),
    ],
)
def test_aedat3_refuses_contradictions(body: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        aedat3.parse(HEAD + body)


@pytest.mark.parametrize(
    ("parse", "data", "message"),
    [
        (aedat3.parse, b"", "expected #!AER-DAT3.1 as its first line"),
        (aedat3.parse, HEAD.replace(b"#Format: RAW\r\n", b""), "then #Format: RAW"),
        (aedat3.parse, HEAD.replace(b"RAW", b"PNG"), "expected #Format: RAW, it states #Format: PNG"),
        (aedat3.parse, HEAD[:40], "truncated in its header"),
        (aedat2.parse, b"#!AER-DAT1.0\r\n", "expected #!AER-DAT2.0 as its first line"),
        (aedat2.parse, b"#!AER-DAT2.0\r\n1234567", "truncated, it holds 7 bytes of events, no multiple of 8"),
        (dat.parse, b"", "it states type 255, 255 bytes"),
        (dat.parse, b"% Version 1\n\0\x08", "expected version 2, its header states 1"),
        (dat.parse, b"% Version 2\n", "it states type 255, 255 bytes"),
        (
            dat.parse,
            b"% Version 2\n\x0e\x08",
            "expected events of type 0 or 12, 8 bytes each, it states type 14, 8 bytes",
        ),
        (dat.parse, b"% Version 2\n\0\x081234567", "truncated, it holds 7 bytes of events, no multiple of 8"),
        (dat.parse, b"% Version 2\n% Width 3\n\0\x08\0\0\0\0\3\0\0\0", "event 0 has x = 3, .* allowed are x below 3"),
        (dat.parse, b"% Version 2\n\0\x08\0\0\0\0\3\0\0\x20", "event 0 has x = 3, y = 0, polarity 2"),
        (atis.parse, bytes(7), "truncated, it holds 7 bytes, no multiple of 5"),
    ],
)
def test_damage_has_its_reason(parse: Callable[[bytes], np.ndarray], data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(data)


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_time_that_runs_back_is_damage(form: Format) -> None:
    events = make_events([10, 20], [1, 2], [3, 4], [0, 1])
    file = form.module.to_bytes(events)
    size = 32 if form.module is numpy_files else 5 if form.module is atis else 8
    swapped = file[: -2 * size] + file[-size:] + file[-2 * size : -size]
    with pytest.raises(ValueError, match="time runs back at event 1, from 20 to 10 us"):
        form.module.parse(swapped)


def saved(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


@pytest.mark.parametrize("dtype", ["<i2", ">i4", "<u4", "<i8", "<u8", "<f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_files_of_every_type(dtype: str, order: str) -> None:
    rows = np.array([[3, 4, 1, 25], [5, 6, 0, 25], [127, 0, 1, 32_767]])
    file = saved(np.array(rows, dtype, order=order))  # type: ignore[call-overload]
    assert numpy_files.parse(file).tolist() == [(25_000, 3, 4, 1), (25_000, 5, 6, 0), (32_767_000, 127, 0, 1)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (saved(np.zeros((2, 3))), "expected a .npy file of an array"),
        (saved(np.zeros((2, 4), np.int8)), "expected a .npy file of an array"),
        (saved(np.zeros((2, 4), object)), "expected a .npy file of an array"),
        (b"", "expected a .npy file of an array"),
        (saved(np.zeros((2, 4)))[:-1], "its header claims 2 rows of 4 float64, behind it are 63 bytes"),
        (saved(np.zeros((2, 4))).replace(b"(2, 4)", b"(9, 4)"), "its header claims 9 rows"),
        (saved(np.array([[0.5, 0, 0, 0]])), r"event 0 has x = 0.5, expected 0 to 32767, whole"),
        (saved(np.array([[0, np.nan, 0, 0]])), "event 0 has y = nan"),
        (saved(np.array([[0x7FF4 << 48] * 4]).view(float)), "event 0 has x = nan"),
        (saved(np.array([[0, 0, 2, 0]])), "event 0 has p = 2, expected 0 to 1, whole"),
        (saved(np.array([[0, 0, 1, np.inf]])), "event 0 has t = inf, expected 0 to"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_numpy_files_that_are_none(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        numpy_files.parse(data)


# ---------------------------------------------------------------- HDF5


def written(path: Path, libver: str = "earliest", lengths: tuple[int, ...] = (3, 0, 700), **options: object) -> Path:
    """A file by h5py, with what else the real ones hold."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w", libver=libver) as h5:
        times = h5.create_dataset("spikes/times", len(lengths), h5py.vlen_dtype(np.float32), **options)
        units = h5.create_dataset("spikes/units", len(lengths), h5py.vlen_dtype(np.int32), **options)
        for i, length in enumerate(lengths):
            times[i] = np.sort(rng.random(length, np.float32))
            units[i] = rng.integers(0, 700, length)
        h5.create_dataset("labels", data=np.arange(len(lengths)), **options)
        h5["extra/speaker"], h5["extra/keys"] = np.arange(len(lengths)), np.array([b"zero", b"one"])
        h5["spikes"].attrs["TITLE"] = "spikes " * 100
    return path


@pytest.mark.parametrize("libver", ["earliest", "v108"])
@pytest.mark.parametrize(
    "options",
    [{}, {"chunks": (2,)}, {"chunks": (5,), "maxshape": (None,)}, {"chunks": (1,), "compression": 9, "shuffle": True}],
    ids=str,
)
def test_hdf5_is_read_as_h5py_reads_it(libver: str, options: dict[str, object], tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", libver, **options)
    recordings, labels = shd.parse_all(path)
    with h5py.File(path) as h5:
        assert np.array_equal(labels, h5["labels"][:])
        for i, events in enumerate(recordings):
            assert np.array_equal(events["t"], shd.to_us(h5["spikes/times"][i]))
            assert (
                np.array_equal(events["x"], h5["spikes/units"][i]) and not events["y"].any() and not events["p"].any()
            )


def test_many_members_many_recordings(tmp_path: Path) -> None:
    """More than one node in every tree of the file."""
    path = written(tmp_path / "a.h5", lengths=tuple(range(300)), chunks=(2,))
    with h5py.File(path, "a") as h5:
        for i in range(200):
            h5[f"spikes/more-{i}"] = i
    recordings, _ = shd.parse_all(path)
    assert [len(events) for events in recordings] == list(range(300))


def change(path: Path, name: str, values: object) -> None:
    with h5py.File(path, "a") as h5:
        del h5[name]
        if values is not None:
            h5[name] = values


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("labels", None, "it holds no labels"),
        ("labels", np.arange(4), "labels: expected 3 integers"),
        ("labels", np.zeros(3), "labels: expected 3 integers"),
        ("labels", np.zeros((3, 1), int), "labels: expected one dimension, it has 2"),
        ("labels", np.array([b"a", b"b", b"c"]), "labels: expected integers, floats, or lists"),
        ("spikes/units", np.zeros(3), "spikes/units: expected lists of floats or, of units, integers"),
        ("spikes", None, "it holds no spikes/times"),
        ("spikes", 3, "it holds no spikes/times"),
    ],
)
def test_hdf5_of_another_kind(name: str, values: object, message: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5")
    change(path, name, values)
    with pytest.raises(DataError, match=f"a.h5: {message}"):
        read_events(path)


def test_hdf5_that_claims_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    for length, message in ((10**12, "claims 1000000000000 elements"), (30, "damaged")):
        with h5py.File(path, "w") as h5:
            for name in ("times", "units"):
                dtype = h5py.vlen_dtype(np.dtype("f2" if name == "times" else "u2"))
                h5.create_dataset(f"spikes/{name}", (length,), dtype, chunks=(10,))
            h5.create_dataset("labels", (length,), "u1", chunks=(10,), compression=9)
        with pytest.raises(DataError, match=message):
            read_events(path)
    with h5py.File(path, "w", libver="latest") as h5:
        h5.create_dataset("spikes/times", (3,), h5py.vlen_dtype(np.float16), chunks=(2,))
    with pytest.raises(DataError, match="spikes/times: HDF5 layout 2 of version 4 is not read"):
        read_events(path)


def test_hdf5_that_shares_its_lists_or_goes_in_circles(tmp_path: Path) -> None:
    data = written(tmp_path / "a.h5", lengths=(500,) * 40).read_bytes()
    with (tmp_path / "a.h5").open("rb") as file:
        source = hdf5.Source(file)
        lists, _ = hdf5.load(source, "spikes/times")
    at = data.index(lists.tobytes())
    shared = write(tmp_path, "shared.h5", data[:at] + lists[:1].tobytes() * 40 + data[at + lists.nbytes :])
    with pytest.raises(ValueError, match="two lists are one in the heap"):
        shd.parse_all(shared)
    longer = lists.copy()
    longer["length"] *= 3
    with pytest.raises(DataError, match="lists of different lengths"):
        read_events(write(tmp_path, "longer.h5", data[:at] + longer.tobytes() + data[at + lists.nbytes :]))
    tree = data.index(b"TREE")
    circle = bytearray(data)
    circle[tree + 5] = 3  # a leaf becomes a branch that leads to itself
    circle[tree + 32 : tree + 40] = tree.to_bytes(8, "little")
    with pytest.raises(DataError, match="is no node of a tree"):
        read_events(write(tmp_path, "circle.h5", bytes(circle)))
    source = hdf5.Source(io.BytesIO(data))
    with pytest.raises(ValueError, match="goes in circles"):
        for _ in range(10_000_000):
            source.read(0, 100)


# ---------------------------------------------------------------- read_events


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_known_by_its_name_and_first_line(name: str, tmp_path: Path) -> None:
    form, events = FORMATS[name], recording(50)
    data = form.module.to_bytes(events)
    for suffix in (form.suffix, form.suffix.upper()):
        path = write(tmp_path, f"a{suffix}", data)
        assert np.array_equal(read_events(path), events) and np.array_equal(spikelet.read_events(str(path)), events)
    with pytest.raises(DataError, match="it holds one recording, index 1 is none"):
        read_events(path, 1)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.aedat4", b"#!AER-DAT4.0\r\n", "AEDAT 4 is not read, only AEDAT 2.0 and 3.1"),
        (
            "a.aedat",
            b"#!AER-DAT4.0\r\n",
            "expected #!AER-DAT2.0 or #!AER-DAT3.1 as its first line, got b'#!AER-DAT4.0'",
        ),
        ("a.aedat", b"\0" * 100, "expected #!AER-DAT2.0 or #!AER-DAT3.1"),
        ("a.raw", b"", "expected a name that ends with .aedat, .bin, .dat, .npy, .h5, .hdf5"),
        ("a", b"", "expected a name that ends with"),
        ("a.hdf5", b"", "damaged, it points to byte 9 of 0"),
        ("a.h5", bytes(100), "it is no HDF5 file"),
        ("a.npy", b"", "expected a .npy file"),
        ("a.bin", b"abc", "truncated, it holds 3 bytes"),
    ],
)
def test_what_cannot_be_read_is_one_error_with_the_path(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, data)
    with pytest.raises(DataError, match=message) as caught:
        read_events(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.dat").mkdir()
    for name, message in (
        ("folder.dat", "it is no file"),
        ("none.dat", "there is no such file"),
        ("\0.dat", "no such"),
    ):
        with pytest.raises(DataError, match=message):
            read_events(tmp_path / name)


# ---------------------------------------------------------------- others' readers


@pytest.fixture(scope="module")
def tonic_io() -> ModuleType:
    """tonic's readers without the rest of it, which asks for packages that nothing here uses."""
    spec = importlib.util.find_spec("tonic")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("tonic is not installed: the comparison with it was NOT made")
    place = Path(spec.submodule_search_locations[0]) / "io.py"
    spec = importlib.util.spec_from_file_location("tonic_io", place)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    header = module.read_aedat_header_from_file
    module.read_aedat_header_from_file = lambda file: header(file)[:2]  # its readers of 1.7.0 expect two of the three
    return module


def agree(ours: np.ndarray, theirs: np.ndarray, **renamed: str) -> bool:
    return len(ours) == len(theirs) > 0 and all(
        np.array_equal(ours[name].astype(np.int64), theirs[renamed.get(name, name)].astype(np.int64)) for name in "txyp"
    )


def test_aedat_is_read_as_tonic_reads_it(tonic_io: ModuleType, tmp_path: Path) -> None:
    events = recording(9_000)
    path = write(tmp_path, "a.aedat", aedat3.to_bytes(events))
    assert agree(read_events(path), tonic_io.read_dvs_ibm(str(path))[1])
    path = write(tmp_path, "b.aedat", aedat2.to_bytes(events))
    raw = aedat2.parse(path.read_bytes(), "sensor")
    assert agree(raw, tonic_io.read_dvs_128(str(path))[1], x="y", y="x")  # it has columns and rows the other way round
    upright = read_events(path)
    assert np.array_equal(upright["x"], 127 - raw["y"]) and np.array_equal(upright["p"], 1 - raw["p"])


def test_atis_is_read_as_tonic_reads_it(tonic_io: ModuleType, tmp_path: Path) -> None:
    path = write(tmp_path, "a.bin", atis.to_bytes(recording(9_000, last_us=atis.LAST_US + 20 * atis.MARK_US)))
    assert agree(read_events(path), tonic_io.read_mnist_file(str(path), tonic_io.events_struct))


def test_dat_is_read_as_expelliarmus_reads_and_writes_it(tmp_path: Path) -> None:
    expelliarmus = pytest.importorskip("expelliarmus", reason="the comparison with expelliarmus was NOT made")
    wizard, events = expelliarmus.Wizard(encoding="dat"), recording(9_000, width=1280)
    path = write(tmp_path, "a.dat", dat.to_bytes(events))
    theirs = wizard.read(str(path))
    assert agree(events, theirs)
    wizard.save(str(tmp_path / "b.dat"), theirs)
    assert np.array_equal(read_events(tmp_path / "b.dat"), events)


GEN4 = {  # SHA3-224 of the columns, as faery 0.7.1 publishes them beside the file
    "t": ("<u8", "78517458e03478cbd6830659dcb09393ba8e013793f2177f18840fc6"),
    "x": ("<u2", "436762030fbc50f12caaf9fff1fa3a55d3aaff574e8d84159f9eabe6"),
    "y": ("<u2", "e7793490007f5b8ad1aa61f3c5adb6af5471af1c40164cd44b17f961"),
    "p": ("?", "7829ba15f633174ffae397128ce7b2c97bb39bcb7f0042060007c65a"),
}


@pytest.mark.real_data
def test_a_recording_of_a_real_camera(data_root: Path) -> None:
    """tests/data/gen4.dat of the source archive of faery 0.7.1 on PyPI: 10.8 s of a Prophesee Gen4, 1280 x 720."""
    path = data_root / "gen4.dat"
    if not path.is_file():
        pytest.skip(f"gen4.dat, of the source archive of faery 0.7.1, is not in {data_root}")
    events = read_events(path)
    assert len(events) == 1_218_618 and events["x"].max() == 1279 and events["y"].max() == 719
    for name, (dtype, digest) in GEN4.items():
        assert hashlib.sha3_224(events[name].astype(dtype).tobytes()).hexdigest() == digest, name


# ---------------------------------------------------------------- damaged and huge files


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_give_an_array_or_the_one_error(reader: str) -> None:
    tally = fuzz(reader, 400, seed=1)
    assert tally.faults == [] and tally.files == 400
    assert 10 < tally.arrays < 390 and tally.fullest <= 1


@pytest.mark.parametrize("reader", READERS)
def test_what_is_damaged_was_sound(reader: str, tmp_path: Path) -> None:
    suffix, make = READERS[reader]
    for num in (fuzz_readers.FEW, fuzz_readers.MANY):
        for data in make(num):
            path = write(tmp_path, f"a{suffix}", data)
            assert len(fuzz_readers.read(reader, path)) >= (num // 4 if reader == "wav" else num)


def test_the_fuzz_sees_faults(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def hang(_: Path) -> np.ndarray:
        while True:
            pass

    monkeypatch.setattr(fuzz_readers, "SECONDS", 0.3)
    back = make_events([5, 4], [0, 0], [0, 0], [0, 0])
    answers = {
        "KeyError: 3": lambda _: {}[3],
        "a DataError that does not name": lambda _: (_ for _ in ()).throw(DataError("damaged")),
        "bytes of memory": lambda _: np.ones(2**22, np.int8)[:0].astype(fuzz_readers.EVENT),
        "an array of float64": lambda _: np.zeros(3),
        "events that are none": lambda _: back,
        "more than 0.3 s": hang,
    }
    for message, answer in answers.items():
        monkeypatch.setattr(fuzz_readers, "read_events", answer)
        assert fuzz_readers.main(["--files", "2", "--readers", "dat"]) == 1
        out = capsys.readouterr().out
        assert "dat: 2 files" in out and "2 faults" in out and "\n  file 1: " in out and message in out
    monkeypatch.setattr(fuzz_readers, "read_events", read_events)
    monkeypatch.setattr(fuzz_readers, "SECONDS", 10)
    assert fuzz_readers.main(["--files", "20", "--readers", "dat", "atis"]) == 0


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_memory_is_four_times_the_file_at_most(form: Format, tmp_path: Path) -> None:
    path = write(tmp_path, f"a{form.suffix}", form.module.to_bytes(recording(300_000)))
    peak = peak_of(path)
    assert peak <= 4 * path.stat().st_size + MARGIN


@pytest.mark.parametrize("lengths", [(200_000,), (4_000,) * 50])
def test_memory_of_shd_is_too(lengths: tuple[int, ...], tmp_path: Path) -> None:
    recordings = [recording(length, 700, polarities=1) for length in lengths]
    for events in recordings:
        events["t"] = shd.to_us((events["t"] / 1e6).astype(np.float16))
    path = write(tmp_path, "a.h5", shd.to_bytes(recordings, [0] * len(lengths), times="f2"))
    tracemalloc.start()
    try:
        found, _ = shd.parse_all(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(len(events) for events in found) == sum(lengths) and peak <= 4 * path.stat().st_size + MARGIN


def peak_of(path: Path) -> int:
    tracemalloc.start()
    try:
        read_events(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
