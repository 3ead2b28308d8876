"""N-MNIST: the protocols, the packed cache, batches of frames; on fakes, then on the files at hand."""

import errno
import hashlib
import io
import multiprocessing
import os
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spikelet.datasets import DATASETS, MNIST, NMNIST, FrameSet, event_cache, loader
from spikelet.datasets.layouts import Listing, list_files
from spikelet.errors import DataError, SpikeletError
from spikelet.events import Frames, Jitter, Packed, denoise, to_frames
from spikelet.events.formats import atis

NUM_TRAIN, NUM_TEST, NUM_MORE = 300, 60, 12
SENSOR = NMNIST.sensor_size


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of fakes; tests must not change it."""
    root = tmp_path_factory.mktemp("nmnist")
    NMNIST.write_fake(root, NUM_TRAIN, NUM_TEST, num_more=NUM_MORE)
    return root


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few fakes, to be damaged, and a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    NMNIST.write_fake(tmp_path / "data", 30, 10, num_more=2)
    return tmp_path / "data"


def fake(root: Path, split: str = "train", protocol: str = "full", **more: Any) -> NMNIST:
    return NMNIST(root, split, protocol=protocol, verify=False, **more)


def same(a: Packed, b: Packed) -> bool:
    return len(a) == len(b) and all(np.array_equal(a[i], b[i]) for i in range(len(a)))


# ---------------------------------------------------------------- the data set


def test_it_describes_itself() -> None:
    assert DATASETS["nmnist"] is NMNIST and NMNIST.sensor_size == (34, 34, 2) and len(NMNIST.classes) == 10
    assert dict(NMNIST.num) == {"train": 55_000, "val": 5_000, "train+val": 60_000, "test": 10_000}
    source = NMNIST.source
    assert source.license == "CC BY-SA 4.0" and "Orchard" in source.citation and source.homepage.startswith("https")
    assert source.downloads.keys() == source.links.keys() == source.checksums.keys() == {"Train.zip", "Test.zip"}
    for protocol in NMNIST.protocols.values():
        num = {split: rule.num for split, rule in protocol.splits.items()}
        assert num["train+val"] == num["train"] + num["val"]


@pytest.mark.parametrize("protocol", NMNIST.protocols)
def test_splits_share_nothing(root: Path, protocol: str) -> None:
    rules = NMNIST.protocols[protocol].splits
    sets = {split: fake(root, split, protocol) for split in rules}
    indices = {split: {(rules[split].part, i) for i in data.indices.tolist()} for split, data in sets.items()}
    assert indices["train"] | indices["val"] == indices["train+val"] and not indices["train"] & indices["val"]
    assert not indices["train+val"] & indices["test"] and not indices["test"] & indices.get("other-6789", set())
    assert not indices["train+val"] & indices.get("other-6789", set())
    for data in sets.values():
        assert data.labels.dtype == torch.int64 and len(data) == len(data.labels) == len(data.indices)
        assert data.indices.tolist() == sorted(data.indices.tolist())


def test_protocols_are_what_they_say(root: Path) -> None:
    assert len(fake(root, "train+val", "first-1000")) == NUM_TRAIN and len(fake(root, "test", "first-1000")) == NUM_TEST
    val = fake(root, "val", "first-1000")
    assert val.indices.tolist() == list(range(10, NUM_TRAIN + 1, 10)) and val.labels.tolist() == [9] * 30
    assert fake(root, "val").indices.tolist() == list(range(55_001, 55_031))
    other = fake(root, "other-6789", "first-1000")
    assert other.labels.bincount().tolist() == [0] * 6 + [NUM_MORE] * 4 and int(other.indices.min()) > 1000
    four = {split: fake(root, split, "6789") for split in ("train", "val", "test")}
    per_digit = NUM_TRAIN // 10 + NUM_MORE
    turns = [range(0, per_digit, 10), range(1, per_digit, 10)]
    assert len(four["test"]) == 4 * len(turns[0]) and len(four["val"]) == 4 * len(turns[1])
    assert sum(len(data) for data in four.values()) == 4 * per_digit
    assert all(data.classes == ("6", "7", "8", "9") for data in four.values())
    assert four["train"].labels.unique().tolist() == [0, 1, 2, 3]
    first_six = int(four["test"].indices[four["test"].labels == 0][0])
    assert first_six == 7  # fakes: sample i shows the digit (i - 1) % 10


def test_recordings_are_those_of_the_files(root: Path) -> None:
    data = fake(root, "test", "6789")
    for i in (0, len(data) - 1):
        events, label = data[i]
        path = root / "NMNIST" / "Train" / data.classes[label] / f"{int(data.indices[i]):05d}.bin"
        assert np.array_equal(events, atis.parse(path.read_bytes()))


def test_subset_keeps_the_first_of_the_splits_that_train(root: Path) -> None:
    for protocol, rules in NMNIST.protocols.items():
        for split in rules.splits:
            whole, part = fake(root, split, protocol), fake(root, split, protocol, subset=3)
            trains = split in ("train", "val", "train+val")
            assert len(part) == (len(whole) // 3 if trains else len(whole))
            assert torch.equal(part.indices, whole.indices[: len(part)])


def test_a_fake_can_be_learned(root: Path) -> None:
    train, test = (FrameSet(fake(root, split, "first-1000"), Frames(1)) for split in ("train+val", "test"))

    def features(data: FrameSet) -> tuple[torch.Tensor, torch.Tensor]:
        frames, labels = data.__getitems__(range(len(data)))
        counts = torch.nn.functional.avg_pool2d(frames[0].double(), 4).flatten(1)
        return torch.cat([counts, torch.ones(len(counts), 1, dtype=torch.float64)], 1), labels

    (x, y), (x_test, y_test) = features(train), features(test)
    hot = torch.nn.functional.one_hot(y).double()
    weight = torch.linalg.solve(x.T @ x + 0.1 * torch.eye(x.shape[1], dtype=torch.float64), x.T @ hot)
    assert float(((x_test @ weight).argmax(1) == y_test).double().mean()) > 0.9


def test_bad_arguments_are_named(root: Path) -> None:
    with pytest.raises(SpikeletError, match="protocol: expected one of full, first-1000, 6789, got 'first1000'"):
        fake(root, protocol="first1000")
    with pytest.raises(
        SpikeletError, match=r"split: expected one of train, .*test for protocol full, got 'other-6789'"
    ):
        fake(root, "other-6789")
    with pytest.raises(SpikeletError, match="subset: expected at least 1, got 0"):
        fake(root, subset=0)
    with pytest.raises(SpikeletError, match="subset: 10000 leaves none of the"):
        fake(root, subset=10_000)
    with pytest.raises(SpikeletError, match="filter_us: expected at least 1, got 0"):
        fake(root).denoised(0)
    with pytest.raises(SpikeletError, match="filter_us: these recordings are denoised already, with 5 us"):
        fake(root).denoised(5).denoised(5)


def test_status_and_where(root: Path, tmp_path: Path) -> None:
    assert NMNIST.status(root, verify=False) == "complete" and NMNIST.where(root) == str(root / "NMNIST")
    assert NMNIST.status(root) == "partial: 378 + 60 recordings, enough for no protocol"
    assert NMNIST.status(tmp_path) == "missing: Train.zip, Test.zip"
    assert NMNIST.where(tmp_path) == str(tmp_path / "NMNIST")
    NMNIST.write_fake(tmp_path, 10, 10, num_more=0)
    (tmp_path / "NMNIST").rename(tmp_path / "N-MNIST")
    assert NMNIST.where(tmp_path) == str(tmp_path / "N-MNIST") and len(fake(tmp_path)) == 10
    for part in ("Train", "Test"):
        (tmp_path / "N-MNIST" / part).rename(tmp_path / part)
    assert NMNIST.where(tmp_path) == str(tmp_path) and len(fake(tmp_path, "test")) == 10


# ---------------------------------------------------------------- files that are not as they should be


def test_missing_recordings_say_what_where_and_how(root: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(DataError) as caught:
        NMNIST(nowhere)
    message = str(caught.value)
    assert "\n" not in message and f"no folder {nowhere}" in message and "has 55,000 recordings, 0 of them" in message
    assert all(str(nowhere / place / "Train") in message for place in NMNIST.places)
    assert f"`spikelet datasets nmnist download=true data.root={nowhere}`" in message
    assert NMNIST.source.homepage in message and "Train.zip, Test.zip" in message and "SPIKELET_DATA" in message
    with pytest.raises(DataError, match="split test of protocol full has 10,000 recordings, 60 of them found"):
        NMNIST(root, "test")
    with pytest.raises(DataError, match="split train of protocol first-1000 has 900 recordings, 270 of them found"):
        NMNIST(root, protocol="first-1000")
    with pytest.raises(DataError, match="split other-6789 of protocol first-1000 has 8,000 recordings, 0 of them"):
        NMNIST.write_fake(tmp_path / "few", 10, 10, num_more=0)
        fake(tmp_path / "few", "other-6789", "first-1000")  # nothing is refused whatever verify says


def far_away(path: Path) -> bytes:
    events = atis.parse(path.read_bytes())
    events["x"][3] = 34
    return atis.to_bytes(events)


def back_in_time(path: Path) -> bytes:
    data = path.read_bytes()
    return data[-5:] + data


DAMAGE = {
    "truncated": (lambda path: path.read_bytes()[:-2], "truncated, it holds 1498 bytes, no multiple of 5"),
    "empty": (lambda path: b"", "empty, it holds no event"),
    "only a mark": (lambda path: bytes([0, 240, 0, 0, 0]), "empty, it holds no event"),
    "outside": (far_away, r"event 3 at x = 34, y = \d+ lies outside the sensor of 34 x 34 pixels"),
    "back": (back_in_time, r"time runs back at event 1, from \d+ to \d+ us"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_each_damaged_recording_is_named(small: Path, damage: Any, message: str) -> None:
    path = small / "NMNIST" / "Train" / "4" / "00015.bin"
    path.write_bytes(damage(path))
    with pytest.raises(DataError, match=message) as caught:
        fake(small)
    said = str(caught.value)
    assert said.startswith(f"{path} is damaged: ") and "\n" not in said
    assert f"Get it again with `spikelet datasets nmnist download=true data.root={small}`, or by hand: " in said
    assert len(fake(small, "test")) == 10  # the other part is not concerned
    assert not list(small.rglob("*.part")) and len(list(small.rglob("*.events"))) == 1
    if path.stat().st_size == 0:
        assert NMNIST.status(small, verify=False) == "damaged: 00015.bin"


def test_an_index_that_occurs_twice_is_named(small: Path) -> None:
    path = small / "NMNIST" / "Train" / "9" / "7.bin"
    path.write_bytes((small / "NMNIST" / "Train" / "6" / "00007.bin").read_bytes())
    with pytest.raises(DataError, match=f"{path} is damaged: it has the same official index as .*/6/00007.bin"):
        fake(small)
    assert NMNIST.status(small) == "damaged: 7.bin"


def test_foreign_names_are_left_alone(small: Path) -> None:
    def listed() -> Listing:
        return list_files(NMNIST.layouts[0], "Train", small / "NMNIST", small / "NMNIST" / "Train", 10)

    before = listed()
    for name in (".DS_Store", "readme.txt", "00001.bin.part", "x.bin"):
        (small / "NMNIST" / "Train" / "0" / name).write_bytes(b"1")
    (small / "NMNIST" / "Train" / "0" / "99.bin").mkdir()
    after = listed()
    assert after.files == before.files and after.fingerprint == before.fingerprint


# ---------------------------------------------------------------- the cache


def cache_of(root: Path, name: str = "Train.events") -> Path:
    return root / "NMNIST" / ".spikelet-cache" / name


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the packed files that were made."""
    made: list[str] = []
    make = event_cache._make

    def spy(path: Path, *rest: Any) -> None:
        made.append(path.name)
        make(path, *rest)

    monkeypatch.setattr(event_cache, "_make", spy)
    return made


def test_the_cache_is_made_once(small: Path, writes: list[str]) -> None:
    first = fake(small)
    recordings = first.cached.recordings
    assert writes == ["Train.events"] and cache_of(small).is_file()
    assert fake(small, "train+val", "6789").cached.recordings is recordings  # one mapping for all splits
    event_cache._open.cache_clear()
    again = fake(small)
    assert writes == ["Train.events"] and same(again.cached.recordings, recordings)
    assert torch.equal(again.labels, first.labels) and torch.equal(again.indices, first.indices)
    assert not recordings.data.flags.writeable
    fake(small, "test")
    first.denoised(3_000)
    first.denoised(4_000)
    first.denoised(3_000)
    names = ["Train.events", "Test.events", "Train-denoise3000.events", "Train-denoise4000.events"]
    assert writes == names and sorted(p.name for p in cache_of(small).parent.iterdir()) == sorted(names)


def test_denoised_recordings_follow_the_rule(small: Path) -> None:
    data = fake(small)
    quiet = data.denoised(10_000)
    assert quiet.denoise_us == 10_000 and data.denoise_us == 0 and quiet[3][1] == data[3][1]
    for i in range(len(data)):
        assert np.array_equal(quiet[i][0], denoise(data[i][0], SENSOR, 10_000))
    assert 0 < len(quiet[0][0]) < len(data[0][0])


def test_another_source_makes_another_cache(small: Path, writes: list[str]) -> None:
    before = fake(small).cached.recordings
    path = small / "NMNIST" / "Train" / "0" / "00001.bin"
    events = atis.parse(path.read_bytes())
    events["p"] = 1 - events["p"]
    path.write_bytes(atis.to_bytes(events))  # the same name and size
    os.utime(path, ns=(1, 1))
    after = fake(small)
    assert np.array_equal(after[0][0], events) and not np.array_equal(before[0], events)
    path.unlink()
    assert len(fake(small)) == len(after) - 1
    assert writes == ["Train.events"] * 3


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :]


HARM = {
    "truncated": lambda data: data[:-100],
    "halved": lambda data: data[: len(data) // 2],
    "only a header": lambda data: data[:4096],
    "part of a header": lambda data: data[:100],
    "empty": lambda data: b"",
    "longer": lambda data: data + bytes(8),
    "foreign": lambda data: b"<html>" * 2000,
    "zeros": lambda data: bytes(len(data)),
    "header": lambda data: flipped(data, 60),
    "first event": lambda data: flipped(data, 4096),
    "middle": lambda data: flipped(data, len(data) // 2),
    "last": lambda data: flipped(data, len(data) - 1),
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM.keys())
def test_a_damaged_cache_is_made_again(small: Path, writes: list[str], harm: Any) -> None:
    data = fake(small)
    expected = [data[i][0] for i in range(len(data))]  # copies: what is mapped now is about to be cut off
    path = cache_of(small)
    good = path.read_bytes()
    path.write_bytes(harm(good))
    with pytest.warns(UserWarning, match=f"{path} is damaged .*; it is made again"):
        data = fake(small)
    assert all(np.array_equal(data[i][0], events) for i, events in enumerate(expected))
    assert path.read_bytes() == good
    assert writes == ["Train.events"] * 2


def test_a_cache_of_another_kind_is_made_again_without_a_word(
    small: Path, writes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(small)
    with monkeypatch.context() as patch:
        patch.setattr(event_cache, "VERSION", event_cache.VERSION + 1)
        fake(small)
    fake(small)
    assert writes == ["Train.events"] * 3
    cache_of(small).write_bytes(cache_of(small, "Train.events").read_bytes())
    fake(small, "test")
    cache_of(small).write_bytes(cache_of(small, "Test.events").read_bytes())  # sound, of another source
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(fake(small)) == 38


def test_a_folder_in_its_place_is_no_cache(small: Path) -> None:
    cache_of(small).mkdir(parents=True)
    assert len(fake(small)) == 38
    own = list((small.parent / "own").rglob("*.events"))
    assert len(own) == 1 and own[0].name == "Train.events"


def test_without_rights_it_goes_to_the_users_own_cache(small: Path, writes: list[str]) -> None:
    (small / "NMNIST" / ".spikelet-cache").write_text("in the way")
    first = fake(small)
    assert writes == ["Train.events"] * 2 and first.cached is fake(small).cached
    assert [path.name for path in (small.parent / "own" / "spikelet" / "events").rglob("*.events")] == ["Train.events"]
    assert writes == ["Train.events"] * 2


class _FullDisk(io.BufferedWriter):
    """A file on a disk with room for 20,000 bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 20_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_full_disk_leaves_no_half_file(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fake(small)
    cache_of(small).unlink()
    real_open = Path.open

    def full_open(self: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        return _FullDisk(io.FileIO(self, "xb")) if mode == "xb" else real_open(self, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", full_open)
    with pytest.warns(
        UserWarning, match="recordings stay in memory, they could not be cached .*No space left on device"
    ):
        data = fake(small)
    assert same(data.cached.recordings, expected.cached.recordings) and torch.equal(data.labels, expected.labels)
    assert not list(small.parent.rglob("*.events*")) and not list(small.parent.rglob("*.part"))
    frames, _ = FrameSet(data).__getitems__([0, 1])
    assert torch.equal(frames, FrameSet(expected).__getitems__([0, 1])[0])


def test_what_a_killed_process_left_is_swept_up(small: Path) -> None:
    folder = cache_of(small).parent
    folder.mkdir()
    old, new = folder / "Train.events.1-aa.part", folder / "Train.events.2-bb.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    fake(small)
    assert not old.exists() and new.exists()


def _open_at_once(root: Path, barrier: Any, results: Any) -> None:
    barrier.wait()
    data = fake(root)
    results.put(hashlib.md5(data.cached.recordings.data.tobytes()).hexdigest())


def test_two_processes_at_once_end_with_one_valid_file(small: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_open_at_once, args=(small, barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert [path.name for path in cache_of(small).parent.iterdir()] == ["Train.events"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        here = hashlib.md5(fake(small).cached.recordings.data.tobytes()).hexdigest()
    assert found == [here, here]


# ---------------------------------------------------------------- frames by batches


@pytest.mark.parametrize("frames", [Frames(10), Frames(4, by="count"), Frames(5, duration_us=20_000)], ids=str)
def test_batches_are_frames_with_time_first(root: Path, frames: Frames) -> None:
    data = fake(root, "train", "6789")
    batch, labels = FrameSet(data, frames).__getitems__([5, 0, 9])
    assert batch.shape == (frames.num_steps, 3, 2, 34, 34) and batch.dtype == torch.uint8 and batch.is_contiguous()
    assert labels.tolist() == data.labels[[5, 0, 9]].tolist() and labels.dtype == torch.int64
    for n, i in enumerate((5, 0, 9)):
        assert np.array_equal(batch[:, n].numpy(), to_frames(data[i][0], SENSOR, frames))
        one, label = FrameSet(data, frames)[i]
        assert torch.equal(one, batch[:, n]) and int(label) == int(data.labels[i])


def epochs(frames: FrameSet, num: int, since: int = 0, **options: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    batches = loader(frames, shuffle=True, seed=3, **{"batch_size": 32, **options})
    result = []
    for epoch in range(since, num):
        batches.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        parts = list(zip(*batches, strict=True))
        result.append((torch.cat(parts[0], 1), torch.cat(parts[1])))
    return result


@pytest.mark.parametrize("options", [{"num_workers": 1}, {"batch_size": 7}], ids=str)
def test_motion_is_the_same_whatever_the_batches_and_the_workers(root: Path, options: dict) -> None:
    frames = FrameSet(fake(root, "train", "6789"), Frames(3), Jitter(10, 2), seed=8)
    plain, other = epochs(frames, 2), epochs(frames, 2, **options)
    for (x, y), (a, b) in zip(plain, other, strict=True):
        assert torch.equal(x, a) and torch.equal(y, b)


def test_a_resumed_run_sees_what_it_would_have_seen(root: Path) -> None:
    frames = FrameSet(fake(root, "train", "6789"), Frames(3), Jitter(10, 2), seed=8)
    whole, rest = epochs(frames, 3), epochs(frames, 3, since=2)
    assert torch.equal(whole[2][0], rest[0][0]) and torch.equal(whole[2][1], rest[0][1])
    same_sample = [frames.__getitems__([(epoch, 4)])[0] for epoch in range(3)]
    assert not torch.equal(same_sample[0], same_sample[1]) and not torch.equal(same_sample[1], same_sample[2])
    other_seed = FrameSet(frames.data, Frames(3), Jitter(10, 2), seed=9)
    assert not torch.equal(other_seed.__getitems__([(0, 4)])[0], same_sample[0])
    still = FrameSet(frames.data, Frames(3))
    assert torch.equal(still[4][0], still.__getitems__([(7, 4)])[0][:, 0])


def test_an_epoch_drops_nothing(root: Path) -> None:
    frames = FrameSet(fake(root, "train", "6789"))
    ((_, labels),) = epochs(frames, 1)
    assert labels.bincount().tolist() == frames.labels.bincount().tolist() and len(frames) == len(labels)
    in_order = torch.cat([labels for _, labels in loader(frames, 50)])
    assert torch.equal(in_order, frames.labels)


# ---------------------------------------------------------------- the download


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Zip files of fakes at a file:// address count as the official ones."""
    NMNIST.write_fake(tmp_path / "made", 20, 10, num_more=0)
    server = tmp_path / "server"
    checksums = {}
    for part in ("Train", "Test"):
        path = server / "id" / part
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr(f"{part}/../../evil.bin", b"outside")
            file.writestr(f"{part}/readme.txt", b"hello")
            for source in sorted((tmp_path / "made" / "NMNIST" / part).rglob("*.bin")):
                file.write(source, source.relative_to(tmp_path / "made" / "NMNIST"))
        checksums[f"{part}.zip"] = hashlib.md5(path.read_bytes()).hexdigest()
    links = {"Train.zip": "id/Train", "Test.zip": "id/Test"}
    source = replace(NMNIST.source, addresses=(f"file://{server}/",), links=links, checksums=checksums)
    monkeypatch.setattr(NMNIST, "source", source)
    monkeypatch.setattr(NMNIST, "layouts", (replace(NMNIST.layouts[0], sizes={"Train": 22, "Test": 10}),))
    yield tmp_path / "data"


def test_a_download_is_unpacked_and_read(published: Path) -> None:
    NMNIST.fetch(published)
    made = published.parent / "made"
    there = sorted(path.relative_to(published) for path in published.rglob("*") if path.is_file())
    assert there == sorted(path.relative_to(made) for path in made.rglob("*.bin"))
    assert NMNIST.status(published) == "complete" and not (published.parent / "evil.bin").exists()
    assert same(fake(published).cached.recordings, fake(made).cached.recordings)
    (published / "NMNIST" / "Test" / "3" / "00004.bin").unlink()
    changed = (published / "NMNIST" / "Train" / "0" / "00001.bin").stat().st_mtime_ns
    assert len(fake(published, "test", download=True)) == 9  # without verify, what is there is taken
    NMNIST.fetch(published)
    assert len(fake(published, "test")) == 10
    assert (published / "NMNIST" / "Train" / "0" / "00001.bin").stat().st_mtime_ns == changed


def test_a_download_that_fails_says_how_to_get_it_by_hand(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dict.fromkeys(NMNIST.source.checksums, "0" * 32)
    monkeypatch.setattr(NMNIST, "source", replace(NMNIST.source, checksums=wrong))
    with pytest.raises(
        DataError, match=r"nothing delivered Train.zip .*Get it by hand: Train.zip, Test.zip from https"
    ):
        NMNIST.fetch(published)
    assert NMNIST.status(published) == "missing: Train.zip, Test.zip"


# ---------------------------------------------------------------- the files at hand


def real(data_root: Path, split: str, protocol: str) -> NMNIST:
    if protocol not in NMNIST.possible(data_root):
        pytest.skip(f"nmnist, protocol {protocol}, is not under {data_root}")
    return NMNIST(data_root, split, protocol=protocol)


@pytest.mark.real_data
def test_nmnist_shows_the_digits_of_mnist(data_root: Path) -> None:
    if MNIST.status(data_root) != "complete":
        pytest.skip(f"mnist is not under {data_root}")
    for split, protocol in (("train+val", "first-1000"), ("other-6789", "first-1000"), ("test", "first-1000")):
        data = real(data_root, split, protocol)
        mnist = MNIST(data_root, "test" if split == "test" else "train+val")
        assert torch.equal(data.labels, mnist.labels[data.indices - 1])


@pytest.mark.real_data
def test_every_split_has_its_size(data_root: Path) -> None:
    sizes = {split: len(real(data_root, split, "6789")) for split in NMNIST.protocols["6789"].splits}
    assert sizes == {"train": 6_716, "val": 841, "train+val": 7_557, "test": 841}
    assert real(data_root, "test", "6789").labels.bincount().tolist() == [210, 212, 209, 210]
    first = {split: len(real(data_root, split, "first-1000")) for split in NMNIST.protocols["first-1000"].splits}
    assert first == {"train": 900, "val": 100, "train+val": 1_000, "test": 100, "other-6789": 8_000}
    assert NMNIST.status(data_root).startswith(("complete", "partial"))


@pytest.mark.real_data
def test_a_recording_is_three_jerks_of_a_digit(data_root: Path) -> None:
    data = real(data_root, "test", "first-1000")
    counts = np.array([len(data[i][0]) for i in range(len(data))])
    lasts = np.array([data[i][0]["t"][-1] for i in range(len(data))])
    assert 3_000 < counts.mean() < 5_500 and (lasts > 290_000).all() and (lasts < 350_000).all()
    frames, _ = FrameSet(data, Frames(3)).__getitems__(range(len(data)))
    assert int(frames.sum(dtype=torch.int64)) == counts.sum()
    quiet = data.denoised()
    assert 0.85 < sum(len(quiet[i][0]) for i in range(len(data))) / counts.sum() < 0.97
