"""The contract of every set of recordings, on small files in the official formats; then what is special in each."""

import hashlib
import io
import tarfile
import warnings
import weakref
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from spikelet.datasets import (
    CIFAR10DVS,
    DATASETS,
    EVENT_SETS,
    NCARS,
    SHD,
    SPLITS,
    DVSGesture,
    EventSet,
    FrameSet,
    event_cache,
    examine,
    loader,
    poker_dvs,
)
from spikelet.datasets.cifar10_dvs import CLASSES, PART, seeded_split
from spikelet.datasets.download import extract
from spikelet.datasets.dvs_gesture import TEST, TRAIN, read_labels
from spikelet.datasets.event_base import Split
from spikelet.datasets.layouts import Catalogue, Listing
from spikelet.errors import DataError, SpikeletError
from spikelet.events import EVENT, Frames, find_fault, to_frames
from spikelet.events.formats import aedat3

NUM_TRAIN, NUM_TEST = 240, 60
IN_FILES = {name: kind for name, kind in EVENT_SETS.items() if kind.source.downloads or kind.source.by_hand}
PAIRS = [(kind, protocol) for kind in IN_FILES.values() for protocol in kind.protocols]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of fakes for every member; tests must not change them."""
    roots = {name: tmp_path_factory.mktemp(name) for name in IN_FILES}
    for name, kind in IN_FILES.items():
        kind.write_fake(roots[name], NUM_TRAIN, NUM_TEST)
    return roots


@pytest.fixture(params=IN_FILES.values(), ids=IN_FILES.keys())
def kind(request: pytest.FixtureRequest) -> type[EventSet]:
    return request.param


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0].name}, {pair[1]}")
def pair(request: pytest.FixtureRequest) -> tuple[type[EventSet], str]:
    return request.param


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))


def fake(kind: type[EventSet], root: Path, split: str = "train", **more: Any) -> EventSet:
    return kind(root, split, verify=False, **more)


def listings(kind: type[EventSet], root: Path) -> list[Listing]:
    return [kind._list(root, part) for part in kind.parts()]


def files_of(kind: type[EventSet], root: Path) -> list[Path]:
    return [Path(file.path) for listing in listings(kind, root) for file in listing.files]


def published(kind: type[EventSet], root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fakes under ``root`` count as all that there is: their numbers, and checksums where any are known."""
    sizes = {listing.part: len(listing.catalogue.indices) for listing in listings(kind, root)}
    monkeypatch.setattr(kind, "layouts", tuple(replace(layout, sizes=sizes) for layout in kind.layouts))
    known = {path.name: path for path in files_of(kind, root) if path.name in kind.source.checksums}
    checksums = {name: hashlib.md5(path.read_bytes()).hexdigest() for name, path in known.items()}
    monkeypatch.setattr(kind, "source", replace(kind.source, checksums={**kind.source.checksums, **checksums}))


# ---------------------------------------------------------------- every member


def test_a_member_describes_itself(kind: type[EventSet]) -> None:
    assert DATASETS[kind.name] is kind and kind.__doc__
    assert len(set(kind.classes)) == len(kind.classes) >= 2 and kind.num["train+val"] and kind.num["test"]
    source = kind.source
    assert source.license and source.citation and source.homepage.startswith("http")
    assert all(address.startswith("https://") and address.endswith("/") for address in source.addresses)
    archives = {**source.downloads, **source.by_hand}
    assert archives and source.downloads.keys() <= source.checksums.keys()
    assert source.links.keys() <= source.downloads.keys()
    assert all(len(md5) == 32 and int(md5, 16) >= 0 for md5 in source.checksums.values())
    held = {each.partition("/")[0] for each in (each for parts in archives.values() for each in parts)}
    assert held == set(kind.parts())
    for layout in kind.layouts:
        assert set(layout.sizes) == set(layout.folders) == set(kind.parts())


def test_every_protocol_says_what_is_what(pair: tuple[type[EventSet], str]) -> None:
    kind, name = pair
    protocol = kind.protocols[name]
    assert "full" in kind.protocols and set(SPLITS) <= set(protocol.splits)
    assert {split.part for split in protocol.splits.values()} <= set(kind.parts())
    assert set(protocol.labels) <= set(range(len(kind.classes))) and list(protocol.labels) == sorted(protocol.labels)
    numbers = {split: rule.num for split, rule in protocol.splits.items()}
    if None not in numbers.values():
        assert numbers["train"] + numbers["val"] == numbers["train+val"]
    if name == "full":
        sizes = kind.layouts[0].sizes
        assert sum(sizes.values()) == kind.num["train+val"] + kind.num["test"]


def test_types_shapes_and_classes(pair: tuple[type[EventSet], str], roots: dict[str, Path]) -> None:
    kind, protocol = pair
    for split in kind.protocols[protocol].splits:
        data, again = (fake(kind, roots[kind.name], split, protocol=protocol) for _ in range(2))
        assert data.labels.dtype == data.indices.dtype == torch.int64 and data.labels.shape == (len(data),)
        assert data.indices.tolist() == sorted(set(data.indices.tolist()))
        assert set(data.labels.tolist()) <= set(range(len(data.classes)))
        if split == "train+val":
            assert set(data.labels.tolist()) == set(range(len(data.classes)))
        events, label = data[len(data) - 1]
        assert events.dtype == EVENT and find_fault(events, kind.sensor_size) is None
        assert label == int(data.labels[-1]) and torch.equal(data.labels, again.labels)


def hashes(data: EventSet) -> set[bytes]:
    return {hashlib.sha256(data[i][0].tobytes()).digest() for i in range(len(data))}


def test_no_recording_is_in_two_splits(pair: tuple[type[EventSet], str], roots: dict[str, Path]) -> None:
    kind, protocol = pair
    rules = kind.protocols[protocol].splits
    sets = {split: fake(kind, roots[kind.name], split, protocol=protocol) for split in rules}
    events = {split: hashes(data) for split, data in sets.items()}
    numbers = {split: {(rules[split].part, i) for i in data.indices.tolist()} for split, data in sets.items()}
    for of in (events, numbers):
        assert all(len(of[split]) == len(sets[split]) for split in rules)
        assert of["train"] | of["val"] == of["train+val"] and not of["train"] & of["val"]
        assert all(not of[other] & of[split] for other in set(rules) - set(SPLITS) for split in SPLITS)
        assert not of["train+val"] & of["test"]
    groups = {split: set(data.listing.catalogue.groups[data.chosen].tolist()) for split, data in sets.items()}
    assert not groups["train"] & groups["val"]


def test_subset_keeps_the_first_of_the_splits_that_train(kind: type[EventSet], roots: dict[str, Path]) -> None:
    for split in SPLITS:
        whole, part = (fake(kind, roots[kind.name], split, subset=n) for n in (1, 3))
        assert len(part) == (len(whole) if split == "test" else len(whole) // 3)
        assert torch.equal(part.indices, whole.indices[: len(part)])


def test_the_whole_test_set_is_evaluated(kind: type[EventSet], roots: dict[str, Path]) -> None:
    data = fake(kind, roots[kind.name], "test")
    batches = list(loader(FrameSet(data, Frames(3)), 7))
    assert torch.equal(torch.cat([labels for _, labels in batches]), data.labels)
    width, height, polarities = kind.sensor_size
    frames = torch.cat([frames for frames, _ in batches], 1)
    assert frames.shape == (3, len(data), polarities, height, width) and frames.dtype == torch.uint8
    assert np.array_equal(frames[:, -1], to_frames(data[len(data) - 1][0], kind.sensor_size, Frames(3)))


def test_a_fake_can_be_learned(kind: type[EventSet], roots: dict[str, Path]) -> None:
    width, height, _ = kind.sensor_size
    pool = (1, width // 16) if height == 1 else (height // 8, width // 8)

    def features(split: str) -> tuple[torch.Tensor, torch.Tensor]:
        frames, labels = FrameSet(data := fake(kind, roots[kind.name], split), Frames(1)).__getitems__(range(len(data)))
        counts = torch.nn.functional.avg_pool2d(frames[0].sum(1, keepdim=True).double(), pool).flatten(1)
        counts = counts / counts.norm(dim=1, keepdim=True)
        return torch.cat([counts, torch.ones(len(counts), 1, dtype=torch.float64)], 1), labels

    (x, y), (x_test, y_test) = features("train+val"), features("test")
    hot = torch.nn.functional.one_hot(y).double()
    weight = torch.linalg.solve(x.T @ x + 0.01 * torch.eye(x.shape[1], dtype=torch.float64), x.T @ hot)
    assert float(((x_test @ weight).argmax(1) == y_test).double().mean()) > 0.9


def test_packing_holds_few_recordings_at_a_time(
    kind: type[EventSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind.write_fake(tmp_path, 48, 24)
    seen: list[weakref.ref[np.ndarray]] = []
    pack_one, most = event_cache.pack_one, 0

    def spy(events: np.ndarray, sensor_size: Any) -> bytes:
        nonlocal most
        seen.append(weakref.ref(events))
        most = max(most, sum(ref() is not None for ref in seen))
        return pack_one(events, sensor_size)

    monkeypatch.setattr(event_cache, "pack_one", spy)
    fake(kind, tmp_path)
    assert len(seen) >= 48 and most <= 2


def test_bad_arguments_are_named(kind: type[EventSet], roots: dict[str, Path], tmp_path: Path) -> None:
    root = roots[kind.name]
    with pytest.raises(SpikeletError, match=r"protocol: expected one of full.* got 'fully'"):
        fake(kind, root, protocol="fully")
    with pytest.raises(SpikeletError, match=r"split: expected one of train, .*test for protocol full.* got 'valid'"):
        fake(kind, root, "valid")
    with pytest.raises(SpikeletError, match="subset: 10000 leaves none of the"):
        fake(kind, root, subset=10_000)


# ---------------------------------------------------------------- files that are not as they should be


def test_status_where_and_missing_files(kind: type[EventSet], roots: dict[str, Path], tmp_path: Path) -> None:
    root = roots[kind.name]
    assert kind.status(root, verify=False) == "complete" and kind.where(root) == str(root / kind.folder)
    assert kind.status(root).startswith("partial: ") and kind.status(root).endswith("enough for no protocol")
    assert kind.status(tmp_path).startswith("missing: ") and kind.where(tmp_path) == str(tmp_path / kind.folder)
    with pytest.raises(DataError) as caught:
        kind(tmp_path / "nowhere", "test")
    message = str(caught.value)
    assert "\n" not in message and f"no folder {tmp_path / 'nowhere'}" in message and "0 of them found" in message
    assert kind.source.homepage in message and "SPIKELET_DATA" in message
    assert all(str(tmp_path / "nowhere" / place) in message for place in kind.places)
    assert (f"spikelet datasets {kind.name} download=true" in message) == bool(kind.source.downloads)
    with pytest.raises(DataError, match=r"split val of protocol full (has|needs all) .* of them found; looked in"):
        kind(root, "val")


def test_all_that_was_published_is_asked_for(
    kind: type[EventSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind.write_fake(tmp_path, 60, 30)
    published(kind, tmp_path, monkeypatch)
    assert kind.status(tmp_path) == "complete"
    found = examine(kind, tmp_path)
    assert not found.errors and not found.remarks
    assert sum(int(counts.sum()) for counts in found.counts.values()) == sum(kind.layouts[0].sizes.values())
    assert found.events.sum() > 0 and (found.micros[found.events > 0] > 0).all()
    width, height, polarities = kind.sensor_size
    assert all(frames.shape[1:] == (polarities, height, width) for frames in found.pictures.values())
    files_of(kind, tmp_path)[-1].unlink()
    assert kind.status(tmp_path).startswith("partial: ")
    assert len(found := examine(kind, tmp_path).errors) == 1 and "of them found" in str(found[0])
    assert not examine(kind, tmp_path, verify=False).errors or kind is SHD  # the whole part is one file


DAMAGE = {
    "truncated": lambda data: data[: len(data) // 2 - 3],
    "foreign": lambda data: b"<html>404</html>",
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_each_damaged_file_is_named(kind: type[EventSet], tmp_path: Path, damage: Any) -> None:
    kind.write_fake(tmp_path, 60, 30)
    path = files_of(kind, tmp_path)[-1]
    path.write_bytes(damage(path.read_bytes()))
    split = next(s for s, rule in kind.protocols["full"].splits.items() if rule.part == kind.parts()[-1])
    with pytest.raises(DataError) as caught:
        fake(kind, tmp_path, split)
    message = str(caught.value)
    assert message.startswith(f"{path} is damaged: ") and "\n" not in message and "Get it again " in message
    assert [str(error) for error in examine(kind, tmp_path, verify=False).errors] == [message]
    if path.stat().st_size == 0:
        assert kind.status(tmp_path, verify=False) == f"damaged: {path.name}"
    assert not list(tmp_path.rglob("*.part"))


# ---------------------------------------------------------------- downloads


def held_by(kind: type[EventSet], root: Path, held: tuple[str, ...]) -> list[Path]:
    """The files of parts, or of one class of a part, with what lies beside them."""
    found = []
    for each in held:
        part, _, name = each.partition("/")
        files = [Path(file.path) for file in kind._list(root, part).files]
        found += [path for path in files if name in ("", path.parent.name)]
    tables = [path.with_name(f"{path.stem}_labels.csv") for path in found]
    return found + [path for path in tables if path.is_file()]


def pack(path: Path, name: str, files: list[Path], home: Path) -> str:
    """An archive of that name with the official paths, and with one that would lead outside; returns its MD5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("../evil.npy", b"outside")
            for file in files:
                archive.write(file, file.relative_to(home))
    else:
        with tarfile.open(path, "w:gz", compresslevel=1) as tar:
            tar.addfile(tarfile.TarInfo("../evil.npy"), io.BytesIO())
            for file in files:
                tar.add(file, file.relative_to(home))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def server(kind: type[EventSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Archives of fakes: the downloads, at a file:// address, and those for people, to be carried by hand."""
    folder, source, checksums = tmp_path / "server", kind.source, {}
    how = (132, 66, 0, "npy") if kind is DVSGesture else (140, 60)
    kind.write_fake(tmp_path / "made", *how)
    made = dict.fromkeys((*source.by_hand, *source.downloads), tmp_path / "made")
    if kind is DVSGesture:
        made["DvsGesture.tar.gz"] = tmp_path / "by hand"
        kind.write_fake(tmp_path / "by hand", 132, 66)
    for name, held in {**source.by_hand, **source.downloads}.items():
        files, path = held_by(kind, made[name], held), folder / source.links.get(name, name)
        checksums[name] = pack(path, name, files, made[name] / kind.folder)
    monkeypatch.setattr(kind, "source", replace(source, addresses=(f"file://{folder}/",), checksums=checksums))
    sizes = {listing.part: len(listing.catalogue.indices) for listing in listings(kind, tmp_path / "made")}
    monkeypatch.setattr(kind, "layouts", tuple(replace(layout, sizes=sizes) for layout in kind.layouts))
    yield folder


def test_a_download_is_checked_unpacked_and_read(kind: type[EventSet], server: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    if not kind.source.downloads:
        with pytest.raises(DataError, match=f"no program may fetch {kind.name}. Get it by hand: "):
            kind.fetch(root)
        for name in kind.source.by_hand:
            (root / kind.folder).mkdir(parents=True, exist_ok=True)
            (root / kind.folder / name).write_bytes((server / name).read_bytes())
    kind.fetch(root)
    assert kind.status(root) == "complete" and not list(tmp_path.rglob("evil*"))
    kept = {path.name for path in (root / kind.folder).iterdir()} & set(kind.source.checksums)
    assert kept == (set() if kind.source.downloads else set(kind.source.by_hand))
    assert hashes(fake(kind, root, "test")) == hashes(fake(kind, tmp_path / "made", "test"))
    path = files_of(kind, root)[0]
    path.unlink()
    assert kind.status(root).startswith(("partial", "missing"))
    others = {other: other.stat().st_mtime_ns for other in files_of(kind, root) if other.parent != path.parent}
    kind.fetch(root)
    assert kind.status(root) == "complete"
    if kind is CIFAR10DVS:  # an archive per class: only that one came again
        assert all(other.stat().st_mtime_ns == changed for other, changed in others.items())


def test_a_download_that_is_not_what_was_published_is_refused(
    kind: type[EventSet], server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = dict.fromkeys(kind.source.checksums, "0" * 32)
    monkeypatch.setattr(kind, "source", replace(kind.source, checksums=wrong))
    for name in kind.source.by_hand:
        path = tmp_path / "data" / kind.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((server / name).read_bytes())
        with pytest.raises(DataError, match=f"{name} is damaged: its MD5 is .*, published is 000.*by hand"):
            kind.fetch(tmp_path / "data")
        path.unlink()
    if kind.source.downloads:
        with pytest.raises(DataError, match=r"nothing delivered .*expected 000.*Get it by hand: "):
            kind.fetch(tmp_path / "data")
    assert not files_of(kind, tmp_path / "data")


@pytest.mark.parametrize("name", ["all.zip", "all.tar.gz"])
@pytest.mark.parametrize("damage", [*DAMAGE.values(), None], ids=[*DAMAGE, "without what is wanted"])
def test_an_archive_that_is_none_is_named(name: str, damage: Any, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(np.random.default_rng(0).bytes(10_000))
    path = tmp_path / name
    pack(path, name, [tmp_path / "x.npy"], tmp_path)
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"^{path}: (cannot be unpacked into|has no member that looks like)"):
        extract(path, tmp_path / "out", r"\w+\.npy" if damage else r"\w+\.dat")
    assert not (tmp_path / "out" / "x.npy").exists()


def test_an_archive_got_by_hand_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "data" / DVSGesture.folder
    DVSGesture.write_fake(tmp_path / "made", 24, 12)
    files = held_by(DVSGesture, tmp_path / "made", (TRAIN, TEST))
    md5 = pack(home / "DvsGesture.tar.gz", "DvsGesture.tar.gz", files, tmp_path / "made" / DVSGesture.folder)
    monkeypatch.setattr(DVSGesture, "source", replace(DVSGesture.source, checksums={"DvsGesture.tar.gz": md5}))
    sizes = {TRAIN: 24, TEST: 12}
    monkeypatch.setattr(DVSGesture, "layouts", tuple(replace(each, sizes=sizes) for each in DVSGesture.layouts))
    DVSGesture.fetch(tmp_path / "data")
    assert DVSGesture.status(tmp_path / "data") == "complete" and (home / "DvsGesture.tar.gz").is_file()
    assert len(DVSGesture(tmp_path / "data", "train+val")) == 24


# ---------------------------------------------------------------- DVS128 Gesture


@pytest.fixture
def gestures(tmp_path: Path) -> Path:
    """Two trials, to be changed: user01_fluorescent for training, user24_fluorescent for testing."""
    DVSGesture.write_fake(tmp_path, 12, 12)
    return tmp_path / "DVSGesture" / "DvsGesture"


def test_gestures_are_what_lies_in_their_row_s_time(gestures: Path) -> None:
    data = fake(DVSGesture, gestures.parent.parent, "train+val")
    events = aedat3.parse((gestures / "user01_fluorescent.aedat").read_bytes())
    rows = read_labels((gestures / "user01_fluorescent_labels.csv").read_text())
    assert len(rows) == len(data) == 12 and data.labels.tolist() == [label for label, _ in rows]
    for i, (_, (start, end)) in enumerate(rows):
        piece = events[(events["t"] >= start) & (events["t"] < end)]
        piece["t"] -= piece["t"][0]
        assert len(piece) == 300 and np.array_equal(data[i][0], piece)


def test_odd_rows_are_reported_and_empty_ones_left_out(gestures: Path) -> None:
    table = gestures / "user01_fluorescent_labels.csv"
    lines = table.read_text().splitlines()
    before = fake(DVSGesture, gestures.parent.parent, "train+val")
    expected = {int(before.indices[i]): before[i][0] for i in range(12) if i not in (1, 3, 4)}
    starts = [int(line.split(",")[1]) for line in lines[1:]]
    lines[2] = f"2,{starts[1]},{starts[2] + 1000}"  # runs into the next
    lines[4] = f"4,{starts[3]},{starts[3]}"  # ends where it starts
    lines[5] = "5,900000000,900100000"  # nothing was recorded then
    table.write_text("\n".join(lines))
    with pytest.warns(UserWarning) as caught:
        data = fake(DVSGesture, gestures.parent.parent, "train+val")
    said = [str(warning.message) for warning in caught]
    assert said == [
        f"{table}: rows 2 and 3 overlap by 1,000 us",
        f"{table}: row 4 ends at {starts[3]} us, where it starts or before",
        f"{table}: row 4 has no event and is left out",
        f"{table}: row 5 has no event and is left out",
    ]
    assert len(data) == 10 and data.labels.tolist() == [0, 1, 2, 5, 6, 7, 7, 8, 9, 10]
    for i, number in enumerate(data.indices.tolist()):
        assert number not in expected or np.array_equal(data[i][0], expected[number])
    found = examine(DVSGesture, gestures.parent.parent, verify=False)
    assert found.remarks == said and not found.errors and int(found.counts[TRAIN].sum()) == 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(fake(DVSGesture, gestures.parent.parent, "train+val")) == 10  # said once, when they are packed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class,startTime_usec,endTime_usec\n1,2\n", "row 1 is '1,2', expected class,startTime_usec,endTime_usec"),
        ("class,startTime_usec,endTime_usec\n1,2,3\n12,2,3\n", "row 2 is '12,2,3', expected .* with classes 1 to 11"),
        ("class,startTime_usec,endTime_usec\n1,-2,3\n", "row 1 is '1,-2,3'"),
        (None, "it is not there, and without it nobody knows the gestures"),
    ],
)
def test_a_table_that_is_none_is_named(gestures: Path, text: str | None, message: str) -> None:
    table = gestures / "user01_fluorescent_labels.csv"
    table.unlink() if text is None else table.write_text(text)
    with pytest.raises(DataError, match=f"^{table} is damaged: {message}"):
        fake(DVSGesture, gestures.parent.parent)
    assert DVSGesture.status(gestures.parent.parent) == f"damaged: {table.name}"
    assert DVSGesture.where(gestures.parent.parent) == str(gestures)


def test_a_changed_table_is_read_again(gestures: Path) -> None:
    table = gestures / "user01_fluorescent_labels.csv"
    assert len(fake(DVSGesture, gestures.parent.parent, "train+val")) == 12
    table.write_text("\n".join(table.read_text().splitlines()[:6]))
    assert len(fake(DVSGesture, gestures.parent.parent, "train+val")) == 5


def test_the_lists_of_trials_say_which_is_which(gestures: Path) -> None:
    root = gestures.parent.parent
    (gestures / "trials_to_train.txt").write_text("user24_fluorescent.aedat\n")
    (gestures / "trials_to_test.txt").write_text("user01_fluorescent.aedat\nuser02_led.aedat\n")
    assert set(fake(DVSGesture, root, "train+val").listing.catalogue.groups.tolist()) == {24}
    assert set(fake(DVSGesture, root, "test").listing.catalogue.groups.tolist()) == {1}
    (gestures / "trials_to_test.txt").write_text("user24_fluorescent.aedat\n")
    with pytest.raises(DataError, match=r"trials_to_test.txt is damaged: user24_fluorescent.aedat is listed for tr"):
        fake(DVSGesture, root)


def test_nobody_is_in_two_splits(roots: dict[str, Path], tmp_path: Path) -> None:
    DVSGesture.write_fake(tmp_path, 132, 66, form="npy")
    for root in (roots["dvs-gesture"], tmp_path):
        sets = {split: fake(DVSGesture, root, split) for split in SPLITS}
        users = {s: set(data.listing.catalogue.groups[data.chosen].tolist()) for s, data in sets.items()}
        assert users["val"] <= {21, 22, 23} and max(users["train"]) <= 20 and min(users["test"]) >= 24
        assert users["val"] and users["train"] and users["test"]


def test_official_checksums_are_those_of_122_recordings() -> None:
    names = [name for name in DVSGesture.source.checksums if name.endswith(".aedat")]
    users = [int(name[4:6]) for name in names]
    assert sum(user <= 23 for user in users) == 98 and sum(user > 23 for user in users) == 24
    assert len({DVSGesture.source.checksums[name] for name in names}) == 122


def test_a_recording_that_is_not_the_published_one_is_named(gestures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, sizes = gestures.parent.parent, {TRAIN: 12, TEST: 12}
    monkeypatch.setattr(DVSGesture, "layouts", tuple(replace(each, sizes=sizes) for each in DVSGesture.layouts))
    errors = examine(DVSGesture, root).errors
    assert len(errors) == 2 and all("its MD5 is" in str(error) and "published is" in str(error) for error in errors)
    with pytest.raises(DataError, match=r"user01_fluorescent.aedat is damaged: its MD5 is .*, published is e113517a64"):
        DVSGesture(root)


# ---------------------------------------------------------------- the others


def catalogue(sizes: list[int], per_class: int) -> Catalogue:
    """As many recordings of each class as ``sizes`` says, numbered anew in each."""
    rows = [(number * per_class + label, label) for label, size in enumerate(sizes) for number in range(size)]
    numbers, labels = np.array(sorted(rows), np.int64).T
    return Catalogue(numbers, labels, numbers)


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [(CIFAR10DVS, {PART: [1000] * 10}), (NCARS, {"n-cars_train": [7482, 7940], "n-cars_test": [4211, 4396]})],
    ids=["cifar10-dvs", "n-cars"],
)
def test_official_splits_have_their_sizes(kind: type[EventSet], sizes: dict[str, list[int]]) -> None:
    whole = {part: catalogue(each, len(each)) for part, each in sizes.items()}
    for protocol in kind.protocols.values():
        chosen = {split: rule.choose(whole[rule.part]) for split, rule in protocol.splits.items()}
        assert {split: int(of.sum()) for split, of in chosen.items()} == {
            split: rule.num for split, rule in protocol.splits.items()
        }
        assert not (chosen["train"] & chosen["val"]).any()
        assert np.array_equal(chosen["train"] | chosen["val"], chosen["train+val"])
        if kind is CIFAR10DVS:
            for split, each in {"test": 100, "val": 100, "train": 800}.items():
                assert np.bincount(whole[PART].labels[chosen[split]]).tolist() == [each] * 10
            assert np.array_equal(chosen["test"], ~chosen["train+val"])


def test_cifar10_dvs_is_split_by_its_file_names_as_words() -> None:
    rule: Split = CIFAR10DVS.protocols["full"].splits["test"]
    rows = catalogue([1000] * 10, 10)
    of_cats = rows.indices[rule.choose(rows) & (rows.labels == CLASSES.index("cat"))] // 10
    names = sorted(f"cifar10_cat_{number}.aedat" for number in range(1000))
    assert {f"cifar10_cat_{number}.aedat" for number in of_cats.tolist()} == set(names[900:])


def test_the_shipped_split_follows_its_rule() -> None:
    for name in CLASSES:

        def draw(number: int, name: str = name) -> str:
            return hashlib.sha256(f"cifar10-dvs {name} {number}".encode()).hexdigest()

        order = sorted(range(1000), key=draw)
        assert seeded_split()[name, "test"] == set(order[:100])
        assert seeded_split()[name, "val"] == set(order[100:200])
    assert len(seeded_split()) == 20


def test_times_beyond_32_bits_are_counted_from_the_first_event(tmp_path: Path) -> None:
    CIFAR10DVS.write_fake(tmp_path, 20, 0)
    path = tmp_path / "CIFAR10DVS" / "airplane" / "cifar10_airplane_0.aedat"
    before = fake(CIFAR10DVS, tmp_path, "train+val")[0][0]
    data = path.read_bytes()
    start = len(data) - 8 * 300
    records = np.frombuffer(data, ">u4", offset=start).reshape(-1, 2).copy()
    records[:, 1] += 3_000_000_000
    path.write_bytes(data[:start] + records.tobytes())
    assert np.array_equal(fake(CIFAR10DVS, tmp_path, "train+val")[0][0], before)


def test_shd_holds_back_whole_speakers(roots: dict[str, Path], tmp_path: Path) -> None:
    data = fake(SHD, roots["shd"], "val")
    assert set(data.listing.catalogue.groups[data.chosen].tolist()) == {3, 9}
    SHD.write_fake(tmp_path, 60, 20)
    path = tmp_path / "SHD" / "shd_train.h5"
    with h5py.File(path, "r+") as file:
        del file["extra"]
    assert fake(SHD, tmp_path, "val").indices.tolist() == [0, 10, 20, 30, 40, 50]
    with h5py.File(path, "r+") as file:
        file["extra/speaker"] = np.zeros(59, np.uint16)
    with pytest.raises(DataError, match=r"shd_train.h5 is damaged: extra/speaker: expected 60 integers, one per rec"):
        fake(SHD, tmp_path, "val")


def test_cards_are_read_from_any_array_of_four_columns() -> None:
    rows = np.array([[5, 3, 4, 1], [9, 0, 34, 0]])
    for array in (rows, np.asfortranarray(rows), rows.astype(np.float32), rows.astype(">u2")):
        file = io.BytesIO()
        np.save(file, array)
        assert poker_dvs.parse(file.getvalue()).tolist() == [(5, 3, 4, 1), (9, 0, 34, 0)]
    for wrong in (
        rows.T,
        rows[0],
        rows + 0.5,
        rows - 1,
        rows + np.array([0, 0, 0, 256]),
        np.full((2, 4), np.nan),
        rows > 1,
    ):
        np.save(file := io.BytesIO(), wrong)
        with pytest.raises(ValueError, match=r"expected a .npy file|its header claims|numbers that are no times"):
            poker_dvs.parse(file.getvalue())


def test_a_label_that_no_class_has_is_named(tmp_path: Path) -> None:
    SHD.write_fake(tmp_path, 40, 20)
    with h5py.File(tmp_path / "SHD" / "shd_train.h5", "r+") as file:
        file["labels"][7] = 20
    with pytest.raises(DataError, match=r"shd_train.h5 is damaged: recording 7 has label 20 where 19 is the highest"):
        fake(SHD, tmp_path)


def test_recipes_load_frames_of_every_set(kind: type[EventSet], roots: dict[str, Path]) -> None:
    from spikelet.recipes import build
    from spikelet.recipes.schema import Config

    config = Config()
    config.data.name, config.data.root, config.data.verify = kind.name, str(roots[kind.name]), False
    config.model.neuron, config.model.num_steps = "lif", 4
    build.check(config)
    frames, labels = next(iter(build.loader(config, "test")))
    width, height, polarities = kind.sensor_size
    assert build.input_shape(config.data) == (polarities, height, width) == tuple(frames.shape[2:])
    assert len(frames) == 4 and len(labels) == frames.shape[1] and int(frames.sum()) > 0


# ---------------------------------------------------------------- against other readers


def tonic(name: str) -> Any:
    return getattr(pytest.importorskip("tonic", reason="tonic is not installed: no comparison").datasets, name)


def agree(ours: EventSet, theirs: Any, within_us: int = 0) -> None:
    """The same recordings with the same labels, whatever their order."""

    def is_same(a: np.ndarray, b: np.ndarray) -> bool:
        fields = ("x", "y", "p") if "y" in b.dtype.names else ("x",)  # tonic gives sounds a polarity of 1
        same = len(a) == len(b) and all(np.array_equal(a[name], b[name]) for name in fields)
        return same and np.abs(a["t"] - b["t"].astype(np.int64)).max() <= within_us

    left = [theirs[i] for i in range(len(theirs))]
    for i in range(len(ours)):
        events, label = ours[i]
        fits = [k for k, (other, its_label) in enumerate(left) if int(its_label) == label and is_same(events, other)]
        assert len(fits) == 1, i
        del left[fits[0]]
    assert not left


def test_tonic_reads_the_same_gestures(tmp_path: Path) -> None:
    theirs = tonic("DVSGesture")
    DVSGesture.write_fake(tmp_path, 110, 110, form="npy")
    for part, split in (("Train", "train+val"), ("Test", "test")):
        (tmp_path / "DVSGesture" / f"ibmGesture{part}.tar.gz").touch()
        agree(fake(DVSGesture, tmp_path, split), theirs(str(tmp_path), train=part == "Train"))


def test_tonic_reads_the_same_digits(tmp_path: Path) -> None:
    theirs = tonic("SHD")
    SHD.write_fake(tmp_path, 40, 20)
    for part, split in (("train", "train+val"), ("test", "test")):
        (tmp_path / "SHD" / f"shd_{part}.h5.zip").touch()
        both = fake(SHD, tmp_path, split), theirs(str(tmp_path), train=part == "train")
        agree(*both, within_us=1)  # we round to the microsecond, tonic cuts off


def test_tonic_reads_the_same_cards(tmp_path: Path) -> None:
    theirs = tonic("POKERDVS")
    poker_dvs.PokerDVS.write_fake(tmp_path, 40, 24)
    for part, split in (("train", "train+val"), ("test", "test")):
        (tmp_path / "POKERDVS" / f"pips_{part}.tar.gz").touch()
        agree(fake(poker_dvs.PokerDVS, tmp_path, split), theirs(str(tmp_path), train=part == "train"))


def test_tonic_decodes_the_same_trials(gestures: Path) -> None:
    io_of_tonic = pytest.importorskip("tonic.io", reason="tonic is not installed: no comparison")
    path = gestures / "user01_fluorescent.aedat"
    version, start, _ = io_of_tonic.read_aedat_header_from_file(str(path))
    raw = io_of_tonic.get_aer_events_from_file(str(path), version, start)
    ours = aedat3.parse(path.read_bytes())
    assert np.array_equal(raw["address"] >> 17, ours["x"]) and np.array_equal(raw["address"] >> 2 & 0x1FFF, ours["y"])
    assert np.array_equal(raw["address"] >> 1 & 1, ours["p"]) and np.array_equal(raw["timeStamp"], ours["t"])


def test_expelliarmus_reads_the_same_cars(roots: dict[str, Path]) -> None:
    expelliarmus = pytest.importorskip("expelliarmus", reason="expelliarmus is not installed: no comparison")
    data = fake(NCARS, roots["n-cars"], "test")
    wizard = expelliarmus.Wizard(encoding="dat")
    for i, file in enumerate(data.listing.files[:10]):
        theirs, ours = wizard.read(file.path), data[i][0]
        assert all(np.array_equal(theirs[name], ours[name]) for name in ("t", "x", "y", "p"))
        assert set(ours["p"].tolist()) == {0, 1}
