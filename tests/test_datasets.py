"""The contract of every data set, on small files in the official formats; the readers, the download, the transforms."""

import gzip
import hashlib
import io
import pickle
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelet.datasets import (
    CIFAR10,
    CIFAR100,
    IMAGE_SETS,
    MNIST,
    SPLITS,
    Digits,
    FashionMNIST,
    ImageSet,
    default_root,
    loader,
)
from spikelet.datasets import transforms as tf
from spikelet.datasets.cifar import read_records, record_bytes
from spikelet.datasets.cifar10 import python_bytes, read_python
from spikelet.datasets.download import fetch
from spikelet.datasets.mnist import idx_bytes, read_idx
from spikelet.errors import DataError, SpikeletError

NUM_TRAIN, NUM_TEST = 600, 100
IN_FILES = [kind for kind in IMAGE_SETS.values() if kind.files]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of fake files for every member; tests must not change them."""
    roots = {name: tmp_path_factory.mktemp(name) for name in IMAGE_SETS}
    for name, kind in IMAGE_SETS.items():
        kind.write_fake(roots[name], NUM_TRAIN, NUM_TEST)
    return roots


@pytest.fixture(params=IMAGE_SETS.values(), ids=IMAGE_SETS.keys())
def kind(request: pytest.FixtureRequest) -> type[ImageSet]:
    return request.param


@pytest.fixture(params=IN_FILES, ids=lambda kind: kind.name)
def kind_in_files(request: pytest.FixtureRequest) -> type[ImageSet]:
    return request.param


def files_under(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def rows(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


# ---------------------------------------------------------------- every member


def test_a_member_describes_itself(kind: type[ImageSet]) -> None:
    assert IMAGE_SETS[kind.name] is kind and kind.__doc__
    assert len(set(kind.classes)) == len(kind.classes) >= 10 and set(kind.num) == set(SPLITS)
    assert kind.num["train"] + kind.num["val"] == kind.num["train+val"]
    assert kind.source.license and kind.source.citation and kind.source.homepage.startswith("http")
    assert all(address.startswith("http") and address.endswith("/") for address in kind.source.addresses)
    assert all(len(md5) == 32 and int(md5, 16) >= 0 for md5 in kind.source.checksums.values())
    held = [file for files in kind.source.downloads.values() for file in files]
    assert sorted(held) == sorted(file for part in kind.files.values() for file in part)
    assert set(kind.source.downloads) <= set(kind.source.checksums)
    read = {Path(place.format(file)).name for place in kind.places for file in held}
    assert read <= set(kind.source.checksums) | set(kind.source.sizes)


@pytest.mark.parametrize("split", SPLITS)
def test_types_shapes_and_classes(kind: type[ImageSet], roots: dict[str, Path], split: str) -> None:
    data = kind(roots[kind.name], split, verify=False)
    width, height, channels = kind.sensor_size
    assert data.images.dtype == torch.uint8 and data.labels.dtype == torch.int64
    assert data.images.shape == (len(data), channels, height, width) and data.images.is_contiguous()
    assert data.labels.shape == (len(data),) and set(data.labels.tolist()) <= set(range(len(kind.classes)))
    if split in ("train+val", "test"):
        assert len(data.labels.unique()) == len(kind.classes)
    image, label = data[3]
    assert torch.equal(image, data.images[3]) and int(label) == int(data.labels[3])
    images, labels = data.__getitems__([3, 0])
    assert torch.equal(images, data.images[[3, 0]]) and torch.equal(labels, data.labels[[3, 0]])
    again = kind(roots[kind.name], split, verify=False)
    assert torch.equal(data.images, again.images) and torch.equal(data.labels, again.labels)


def test_splits_have_their_sizes_and_share_nothing(kind: type[ImageSet], roots: dict[str, Path]) -> None:
    data = {split: kind(roots[kind.name], split, verify=False) for split in SPLITS}
    num_train = NUM_TRAIN if kind.files else kind.num["train+val"]
    sizes = {split: len(data[split]) for split in SPLITS}
    num_val = num_train * kind.num["val"] // kind.num["train+val"]
    expected = {"train": num_train - num_val, "val": num_val, "train+val": num_train}
    assert sizes == {**expected, "test": NUM_TEST if kind.files else kind.num["test"]}
    train, val, both, test = (rows(data[split].images) for split in SPLITS)
    assert train | val == both and not train & val and not both & test


def test_subset_keeps_the_first_of_every_split_but_test(kind: type[ImageSet], roots: dict[str, Path]) -> None:
    for split in SPLITS:
        whole = kind(roots[kind.name], split, verify=False)
        part = kind(roots[kind.name], split, subset=7, verify=False)
        assert len(part) == (len(whole) if split == "test" else len(whole) // 7)
        assert torch.equal(part.images, whole.images[: len(part)])


def test_a_fake_can_be_learned(kind: type[ImageSet], roots: dict[str, Path]) -> None:
    """A linear map by least squares, from the training images to one number per class, knows most test images."""

    def features(data: ImageSet) -> torch.Tensor:
        pixels = data.images.flatten(1)[:, :: max(1, data.images[0].numel() // 300)].double() / 255
        return torch.cat([pixels, torch.ones(len(pixels), 1, dtype=torch.float64)], dim=1)

    train, test = (kind(roots[kind.name], split, verify=False) for split in ("train+val", "test"))
    x, y = features(train), torch.nn.functional.one_hot(train.labels).double()
    weight = torch.linalg.solve(x.T @ x + 10 * torch.eye(x.shape[1], dtype=torch.float64), x.T @ y)
    assert float(((features(test) @ weight).argmax(1) == test.labels).double().mean()) > 0.9


def test_bad_arguments_are_named(kind: type[ImageSet], roots: dict[str, Path]) -> None:
    root = roots[kind.name]
    with pytest.raises(SpikeletError, match=r"split: .*train\+val.*'valid'"):
        kind(root, "valid", verify=False)
    with pytest.raises(SpikeletError, match=r"subset: .* got 0"):
        kind(root, subset=0, verify=False)
    with pytest.raises(SpikeletError, match="subset: 10000 leaves none"):
        kind(root, subset=10_000, verify=False)
    with pytest.raises(SpikeletError, match=r"batch_size: .* got 0"):
        loader(kind(root, verify=False), 0)
    with pytest.raises(SpikeletError, match=r"num_workers: .* got -1"):
        loader(kind(root, verify=False), 1, num_workers=-1)


def test_status_and_where(kind: type[ImageSet], roots: dict[str, Path], tmp_path: Path) -> None:
    assert kind.status(roots[kind.name], verify=False) == "complete"
    assert kind.where(roots[kind.name])
    if kind.files:
        assert (
            kind.status(tmp_path).startswith("missing: ")
            and kind.status(tmp_path).count(",") == len([file for part in kind.files.values() for file in part]) - 1
        )
        assert kind.where(tmp_path) == str(tmp_path / kind.folder)
    else:
        assert kind.status(tmp_path) == "complete"


# ---------------------------------------------------------------- files that are not as they should be


def test_missing_files_say_what_where_and_how(kind_in_files: type[ImageSet], tmp_path: Path) -> None:
    root = tmp_path / "nowhere"
    with pytest.raises(DataError) as caught:
        kind_in_files(root)
    message = str(caught.value)
    assert "\n" not in message and f"no folder {root}" in message
    assert all(str((root / place).parent) in message for place in kind_in_files.places)
    assert f"`spikelet datasets {kind_in_files.name} download=true data.root={root}`" in message
    assert kind_in_files.source.addresses[0] in message and "SPIKELET_DATA" in message
    root.mkdir()
    with pytest.raises(DataError, match="not found; looked in"):
        kind_in_files(root)


def publish(kind: type[ImageSet], root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fake files under ``root`` count as the official ones: their checksums, their sizes."""
    checksums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in files_under(root)}
    num = {split: len(kind(root, split, verify=False)) for split in SPLITS}
    monkeypatch.setattr(kind, "source", replace(kind.source, checksums=checksums, sizes={}))
    monkeypatch.setattr(kind, "num", num)


def split_of(path: Path) -> str:
    return "train" if path.name.startswith(("train", "data")) else "test"


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[:-5],
    "halved": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "foreign": lambda data: b"<html>404</html>",
    "flipped": flip,
    "longer": lambda data: data + bytes(9),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_each_damaged_file_is_named(
    kind_in_files: type[ImageSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    kind = kind_in_files
    kind.write_fake(tmp_path, 60, 20)
    publish(kind, tmp_path, monkeypatch)
    assert kind.status(tmp_path) == "complete"
    for path in files_under(tmp_path):
        data = path.read_bytes()
        path.write_bytes(damage(data))
        with pytest.raises(DataError) as caught:
            kind(tmp_path, split_of(path))
        message = str(caught.value)
        assert message.startswith(f"{path} is damaged: ") and "\n" not in message
        assert f"Get it again with `spikelet datasets {kind.name} download=true" in message
        assert kind.status(tmp_path) == f"damaged: {path.name}"
        path.write_bytes(data)
    assert kind.status(tmp_path) == "complete"


def test_each_missing_file_is_named(kind_in_files: type[ImageSet], tmp_path: Path) -> None:
    kind_in_files.write_fake(tmp_path, 60, 20)
    for path in files_under(tmp_path):
        data = path.read_bytes()
        path.unlink()
        path.mkdir()  # a folder is no file
        with pytest.raises(DataError, match=f"{path.name} not found; looked in {path.parent}, "):
            kind_in_files(tmp_path, split_of(path), verify=False)
        assert kind_in_files.status(tmp_path, verify=False) == f"missing: {path.name}"
        path.rmdir()
        path.write_bytes(data)


def test_fakes_are_not_taken_for_the_official_files(kind_in_files: type[ImageSet], roots: dict[str, Path]) -> None:
    with pytest.raises(DataError, match=r"its MD5 is [0-9a-f]{32}, published is|bytes, the official file"):
        kind_in_files(roots[kind_in_files.name])


# ---------------------------------------------------------------- readers


@settings(max_examples=30, deadline=None)
@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_idx_round_trip(shape: list[int], seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    data = idx_bytes(array)
    assert np.array_equal(read_idx(data, len(shape)), array)
    with pytest.raises(ValueError):
        read_idx(data[:-1], len(shape))
    with pytest.raises(ValueError, match="it starts with"):
        read_idx(data, len(shape) + 1)


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
@pytest.mark.parametrize("place", ["{folder}", "{folder}/..", "{name}", "."])
@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_are_found_in_every_place(kind: type[ImageSet], tmp_path: Path, place: str, packed: bool) -> None:
    kind.write_fake(tmp_path / "fake", 60, 20)
    target = (tmp_path / place.format(folder=kind.folder, name=kind.name)).resolve()
    target.mkdir(parents=True, exist_ok=True)
    for path in files_under(tmp_path / "fake"):
        data = path.read_bytes()
        (target / (path.name if packed else path.stem)).write_bytes(data if packed else gzip.decompress(data))
    expected = kind(tmp_path / "fake", verify=False)
    assert torch.equal(kind(tmp_path, verify=False).images, expected.images)
    assert kind.where(tmp_path) == str(target)


def test_unpacked_files_without_a_checksum_must_have_the_official_size(tmp_path: Path) -> None:
    FashionMNIST.write_fake(tmp_path, 60, 20)
    for path in files_under(tmp_path):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    with pytest.raises(DataError, match="it holds 47056 bytes, the official file 47040016"):
        FashionMNIST(tmp_path)


def test_idx_images_of_another_size_and_labels_out_of_range(tmp_path: Path) -> None:
    MNIST.write_fake(tmp_path, 60, 20)
    images, labels = (tmp_path / MNIST.folder / f"{file}.gz" for file in MNIST.files["test"])
    good = labels.read_bytes()
    labels.write_bytes(gzip.compress(idx_bytes(np.full(20, 10, np.uint8))))
    with pytest.raises(DataError, match="label 10 where 9 is the highest"):
        MNIST(tmp_path, "test", verify=False)
    labels.write_bytes(gzip.compress(idx_bytes(np.zeros(19, np.uint8))))
    with pytest.raises(DataError, match="20 images and 19 labels"):
        MNIST(tmp_path, "test", verify=False)
    labels.write_bytes(good)
    images.write_bytes(gzip.compress(idx_bytes(np.zeros((20, 8, 8), np.uint8))))
    with pytest.raises(DataError, match="images of 8x8 pixels, expected 28x28"):
        MNIST(tmp_path, "test", verify=False)


@settings(max_examples=20, deadline=None)
@given(num=st.integers(1, 4), num_labels=st.integers(1, 3), seed=st.integers(0, 99))
def test_records_round_trip(num: int, num_labels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (num, 3, 32, 32)).astype(np.uint8)
    labels = rng.integers(0, 256, (num_labels, num))
    data = record_bytes(images, *labels)
    arrays = read_records(data, num_labels)
    assert np.array_equal(arrays["images"], images) and np.array_equal(arrays["labels"], labels[-1])
    with pytest.raises(ValueError, match=f"truncated: .* no multiple of {num_labels + 3072}"):
        read_records(data[:-1], num_labels)


def test_cifar100_labels_are_the_fine_ones_below_100(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32)).astype(np.uint8)
    path = tmp_path / "cifar-100-binary" / "test.bin"
    path.parent.mkdir()
    path.write_bytes(record_bytes(images, np.array([11, 15, 255]), np.array([19, 29, 99])))
    test = CIFAR100(tmp_path, "test", verify=False)
    assert [CIFAR100.classes[label] for label in test.labels.tolist()] == ["cattle", "dinosaur", "worm"]
    assert np.array_equal(test.images.numpy(), images)
    path.write_bytes(record_bytes(images, np.array([11, 15, 0]), np.array([19, 29, 100])))
    with pytest.raises(DataError, match=r"test\.bin is damaged: label 100 where 99 is the highest"):
        CIFAR100(tmp_path, "test", verify=False)


def test_a_file_without_a_checksum_is_fetched_again_when_its_size_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CIFAR100.write_fake(tmp_path, 60, 20)
    sizes = {path.name: path.stat().st_size for path in files_under(tmp_path)}
    source = replace(CIFAR100.source, sizes=sizes, addresses=("http://127.0.0.1:9/",))
    monkeypatch.setattr(CIFAR100, "source", source)
    CIFAR100.fetch(tmp_path)  # nothing to fetch
    path = tmp_path / "cifar-100-binary" / "train.bin"
    path.write_bytes(path.read_bytes()[:-3074])  # a record less: no longer complete, though every record is
    with pytest.raises(DataError, match=f"it holds {59 * 3074} bytes, the official file {60 * 3074}"):
        CIFAR100(tmp_path)
    with pytest.raises(DataError, match=r"nothing delivered cifar-100-binary\.tar\.gz"):
        CIFAR100.fetch(tmp_path)


def test_cifar_python_batches_hold_the_same(tmp_path: Path) -> None:
    CIFAR10.write_fake(tmp_path / "bin", 60, 20)
    CIFAR10.write_fake(tmp_path / "py", 60, 20, layout="py")
    for split in SPLITS:
        binary, python = (CIFAR10(tmp_path / layout, split, verify=False) for layout in ("bin", "py"))
        assert torch.equal(binary.images, python.images) and torch.equal(binary.labels, python.labels)
    assert CIFAR10.where(tmp_path / "py").endswith("cifar-10-batches-py")
    path = tmp_path / "py" / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="test_batch is damaged: truncated"):
        CIFAR10(tmp_path / "py", "test", verify=False)
    with pytest.raises(SpikeletError, match="layout: expected bin or py, got 'mat'"):
        CIFAR10.write_fake(tmp_path, layout="mat")
    with pytest.raises(SpikeletError, match="num_train, num_test: expected at least 5"):
        CIFAR10.write_fake(tmp_path, num_train=4)


def test_cifar_python_batches_are_what_numpy_would_read() -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 3, 32, 32)).astype(np.uint8)
    labels = np.arange(7)
    batch = pickle.loads(python_bytes(images, labels).replace(b"K\x00K\x01\x87R", b"\x89\x88\x87R"), encoding="bytes")
    assert np.array_equal(batch[b"data"], images.reshape(7, -1)) and batch[b"labels"] == labels.tolist()


class _Evil:
    def __reduce__(self):
        return eval, ("1 / 0",)


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(_Evil(), protocol=2),
        pickle.dumps({b"data": _Evil(), b"labels": [1]}),
        pickle.dumps(np.zeros(3, np.uint8)),
        pickle.dumps([1, 2]),
        pickle.dumps({b"data": b"abc", b"labels": [1]}),
        python_bytes(np.zeros((2, 3, 32, 32), np.uint8), np.zeros(3, np.uint8)),
        b"cnumpy\nndarray\n)R.",
        b"cnumpy\nload\n.",
        b"cos\nsystem\n(S'true'\ntR.",
        b"no pickle",
        b"",
    ],
)
def test_a_python_batch_runs_no_code(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_python(data)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_readers_refuse_noise_with_a_reason(data: bytes) -> None:
    for read in (lambda data: read_records(data, 2), read_python, lambda data: read_idx(data, 3)):
        with pytest.raises(ValueError):
            read(data)


# ---------------------------------------------------------------- the loader


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_loader_drops_nothing(roots: dict[str, Path], num_workers: int) -> None:
    data = MNIST(roots["mnist"], verify=False)
    for shuffle in (False, True):
        batches = list(loader(data, 64, shuffle=shuffle, num_workers=num_workers))
        images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
        assert [len(labels) for _, labels in batches] == [64] * (len(data) // 64) + [len(data) % 64]
        assert images.dtype == torch.uint8 and labels.dtype == torch.int64
        assert torch.equal(labels, data.labels) != shuffle
        assert rows(images) == rows(data.images) and len(images) == len(data)


def test_the_order_depends_on_seed_and_epoch_only(roots: dict[str, Path]) -> None:
    data = MNIST(roots["mnist"], verify=False)

    def order(seed: int, epoch: int, batch_size: int = 64) -> list[int]:
        batches = loader(data, batch_size, shuffle=True, seed=seed)
        batches.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        return torch.cat([labels for _, labels in batches]).tolist()

    first = order(1, 0)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert order(1, 0) == order(1, 0, batch_size=7) == first
    assert torch.equal(torch.get_rng_state(), state)
    others = [order(1, 1), order(2, 0), order(0, 0), order(-1, 0)]
    assert first not in others and len({tuple(other) for other in others}) == 4
    assert all(sorted(other) == sorted(first) for other in others)


def test_the_default_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPIKELET_DATA", str(tmp_path))
    assert default_root() == tmp_path
    MNIST.write_fake(tmp_path, 60, 20)
    assert len(MNIST(split="test", verify=False)) == 20
    monkeypatch.delenv("SPIKELET_DATA")
    assert default_root() == Path.home() / ".cache" / "spikelet"


# ---------------------------------------------------------------- the download


class Server:
    """Files at /good/NAME, the same at /half/ (closes early), /plain/ (no ranges) and /wrong/ (other bytes)."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def address(self, kind: str) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/{kind}/"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        _, kind, name = handler.path.split("/")
        ranges = handler.headers.get("Range")
        self.requests.append((kind, ranges))
        if name not in self.content or kind == "gone":
            return handler.send_error(404)
        data = self.content[name] if kind != "wrong" else bytes(len(self.content[name]))
        start = int(ranges.removeprefix("bytes=").removesuffix("-")) if ranges and kind != "plain" else 0
        if start and start >= len(data):
            return handler.send_error(416)
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        stop = len(data) if kind != "half" else start + (len(data) - start + 1) // 2
        handler.wfile.write(data[start:stop])
        return None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


CONTENT = np.random.default_rng(0).bytes(50_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


def test_a_download_appears_whole(server: Server, tmp_path: Path) -> None:
    server.content["file"] = CONTENT
    path = tmp_path / "new" / "file"
    fetch(
        [server.address("gone") + "file", server.address("wrong") + "file", server.address("good") + "file"],
        path,
        MD5,
        "",
    )
    assert path.read_bytes() == CONTENT and files_under(tmp_path) == [path]
    asked = len(server.requests)
    fetch([server.address("good") + "file"], path, MD5, "")
    assert len(server.requests) == asked == 3


def test_a_broken_download_is_continued(server: Server, tmp_path: Path) -> None:
    server.content["file"] = CONTENT
    part = tmp_path / "file.part"
    part.write_bytes(CONTENT[:30_000])
    fetch([server.address("good") + "file"], tmp_path / "file", MD5, "")
    assert server.requests == [("good", "bytes=30000-")] and (tmp_path / "file").read_bytes() == CONTENT
    (tmp_path / "file").unlink()
    server.requests.clear()
    fetch([server.address("half") + "file", server.address("good") + "file"], tmp_path / "file", MD5, "")
    assert ("half", "bytes=25000-") in server.requests and server.requests[-1][0] == "good"
    assert (tmp_path / "file").read_bytes() == CONTENT and not part.exists()


@pytest.mark.parametrize("start", [b"x" * 30_000, b"x" * 50_000, b"x" * 60_000], ids=len)
@pytest.mark.parametrize("kind", ["good", "plain"])
def test_a_foreign_beginning_is_thrown_away(server: Server, tmp_path: Path, kind: str, start: bytes) -> None:
    server.content["file"] = CONTENT
    (tmp_path / "file.part").write_bytes(start)
    fetch([server.address(kind) + "file"], tmp_path / "file", MD5, "")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_when_nothing_answers_the_error_says_how_by_hand(server: Server, tmp_path: Path) -> None:
    addresses = [server.address("gone") + "file", "http://127.0.0.1:9/file", "no address"]
    with pytest.raises(DataError, match=r"nothing delivered file .*gone/file: HTTPError.*:9/file.*no address.*by hand"):
        fetch(addresses, tmp_path / "file", MD5, "Get it by hand.")
    assert not files_under(tmp_path)


def test_every_member_downloads_what_it_lacks(
    kind_in_files: type[ImageSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    kind = kind_in_files
    kind.write_fake(tmp_path / "server", 60, 20)
    publish(kind, tmp_path / "server", monkeypatch)
    names = files_under(tmp_path / "server")
    server.content = {path.name: path.read_bytes() for path in names}
    for name in kind.source.downloads:
        if name.endswith(".tar.gz"):
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w:gz") as tar:
                tar.add(tmp_path / "server" / kind.folder, kind.folder)
                tar.add(tmp_path / "server" / kind.folder, "../elsewhere")
            server.content[name] = packed.getvalue()
    checksums = {name: hashlib.md5(data).hexdigest() for name, data in server.content.items()}
    source = replace(kind.source, addresses=(server.address("gone"), server.address("good")), checksums=checksums)
    monkeypatch.setattr(kind, "source", source)
    root = tmp_path / "deep" / "root"
    data = kind(root, download=True)
    assert torch.equal(data.images, kind(tmp_path / "server").images)
    assert kind.status(root) == "complete" and [path.name for path in files_under(tmp_path / "deep")] == [
        path.name for path in names
    ]
    server.requests.clear()
    kind.fetch(root)
    assert not server.requests
    first = files_under(root)[0]
    first.write_bytes(b"damaged")
    kind.fetch(root)
    assert server.requests and kind.status(root) == "complete"


# ---------------------------------------------------------------- transforms


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(num: int = 16, side: int = 32, channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (num, channels, side, side), generator=generator(7)).float()


@pytest.mark.parametrize("name", tf.AUGMENTS)
def test_an_augmentation_gives_pixels(name: str) -> None:
    augment, images = tf.AUGMENTS[name], pictures()
    kept, state = images.clone(), torch.get_rng_state()
    out = augment(images, generator())
    assert out.dtype == torch.float32 and tuple(out.shape[2:]) == augment.output_size(32, 32)
    assert torch.equal(out, out.round()) and out.min() >= 0 and out.max() <= 255
    assert torch.equal(images, kept) and torch.equal(torch.get_rng_state(), state)
    assert torch.equal(out, augment(images, generator()))
    assert torch.equal(out, augment(images.to(torch.uint8), generator()))
    assert torch.equal(out, images) if name == "none" else not torch.equal(out, augment(images, generator(1)))
    assert torch.equal(out, tf.to_pixels(augment.raw(images, generator())))
    assert len(augment(images[:1], generator())) == 1
    with pytest.raises(SpikeletError, match=r"expected \[N, C, H, W\]"):
        augment(images[0], generator())


def test_images_too_small_to_crop_are_refused() -> None:
    for function in (lambda x: tf.AUGMENTS["crop24_color"](x, generator()), tf.EVAL_TRANSFORMS["center24"]):
        with pytest.raises(SpikeletError, match=r"expected at least 24x24 pixels .* got 20x20"):
            function(pictures(side=20))


def test_the_gentle_affine_is_gentler() -> None:
    """A dot beside the centre moves on average nowhere, under "digits" less than under "affine"."""
    images = torch.zeros(200, 1, 28, 28)
    images[:, :, 13:15, 20:22] = 255
    grid = torch.arange(28.0)
    moved = {}
    for name in ("affine", "digits"):
        out = tf.AUGMENTS[name](images, generator()).squeeze(1)
        mass = out.sum((1, 2))
        x, y = (out.sum(1) * grid).sum(1) / mass, (out.sum(2) * grid).sum(1) / mass
        moved[name] = torch.stack([x - 20.5, y - 13.5])
        assert moved[name].mean(1).abs().max() < 0.4
    # shift, then scale and rotation (and shear) about a centre 7 pixels away; half a pixel for the sampling
    assert moved["digits"].abs().max() < 0.6 / 8 * 28 + 7 * (0.05 + 0.11) + 0.5
    assert moved["digits"].abs().max() < moved["affine"].abs().max() < 2 + 7 * (0.12 + 0.21 + 0.15) + 0.5


def test_affine_by_hand() -> None:
    """Without any change it is the identity; on a picture that is not square, a rotation keeps lengths."""
    images = pictures(4)
    same = tf.random_affine(images, generator(), degrees=0, shift=0, scale=(1, 1), shear=0)
    assert torch.allclose(same, images, atol=1e-3)
    wide = torch.zeros(50, 1, 21, 41)
    wide[:, :, 10, 20:31] = 1  # a bar from the centre, 10 to the right
    out = tf.random_affine(wide, generator(), degrees=90, shift=0, scale=(1, 1), shear=0).squeeze(1)
    ys, xs = torch.meshgrid(torch.arange(21.0) - 10, torch.arange(41.0) - 20, indexing="ij")
    reach = ((ys**2 + xs**2).sqrt() * (out > 0.4)).flatten(1).amax(1)
    assert reach.min() > 8.5 and reach.max() < 11.5


def test_crops_and_flips_are_windows_of_the_image() -> None:
    images = pictures(64, side=8, channels=2)
    out = tf.random_crop(images, generator(), size=6)
    tops = [
        next((t, s) for t in range(3) for s in range(3) if torch.equal(out[i], images[i, :, t : t + 6, s : s + 6]))
        for i in range(64)
    ]
    assert len(set(tops)) == 9
    padded = tf.random_crop(images, generator(), size=8, pad=1)
    assert padded.shape == images.shape and (padded == 0).sum() > (images == 0).sum()
    flipped = tf.random_flip(images, generator())
    mirrored = sum(torch.equal(flipped[i], images[i].flip(2)) for i in range(64))
    assert 16 < mirrored < 48
    assert mirrored + sum(torch.equal(flipped[i], images[i]) for i in range(64)) == 64


def test_crop_flip_takes_windows_of_the_image_in_a_frame_of_4_zeros() -> None:
    images = pictures(64)
    out = tf.AUGMENTS["crop_flip"](images, generator())
    framed = torch.nn.functional.pad(images, (4, 4, 4, 4))
    windows = framed.unfold(2, 32, 1).unfold(3, 32, 1).permute(0, 2, 3, 1, 4, 5)  # [N, top, left, C, H, W]
    found = torch.stack([(windows == each[:, None, None]).flatten(3).all(3) for each in (out, out.flip(3))])
    mirrored, which, top, left = found.nonzero(as_tuple=True)
    assert sorted(which.tolist()) == list(range(64))
    assert len(mirrored.unique()) == 2 and len(top.unique()) == len(left.unique()) == 9


def test_colour_keeps_the_pattern_and_stays_in_its_range() -> None:
    images = pictures(100)
    out = tf.random_colour(images, generator(), brightness=63, contrast=(0.2, 1.8))
    shift = (out.mean((2, 3)) - images.mean((2, 3))).mean(1)
    gain = out.std((2, 3)) / images.std((2, 3))
    assert shift.abs().max() <= 63.01 and shift.abs().max() > 50
    assert gain.min() >= 0.199 and gain.max() <= 1.801 and gain.max() - gain.min() > 1.2


def test_center24_and_standardize() -> None:
    images = pictures(4).to(torch.uint8)
    out = tf.EVAL_TRANSFORMS["center24"](images)
    assert torch.equal(out, images[:, :, 4:28, 4:28]) and out.dtype == torch.uint8
    assert tf.EVAL_TRANSFORMS["center24"].output_size(32, 32) == (24, 24)
    assert tf.EVAL_TRANSFORMS["none"](images) is images and tf.EVAL_TRANSFORMS["none"].output_size(9, 8) == (9, 8)
    standard = tf.standardize(out)
    assert torch.allclose(standard.mean((1, 2, 3)), torch.zeros(4), atol=1e-5)
    assert torch.allclose(standard.std((1, 2, 3), correction=0), torch.ones(4), atol=1e-5)
    assert not tf.standardize(torch.full((2, 3, 24, 24), 9)).any()  # a flat image is not divided by 0


# ---------------------------------------------------------------- the official files


def real(kind: type[ImageSet], root: Path, split: str) -> ImageSet:
    if kind.status(root) != "complete":
        pytest.skip(f"{kind.name} is not under {root}")
    return kind(root, split)


@pytest.mark.real_data
def test_mnist_itself(data_root: Path) -> None:
    train, val = real(MNIST, data_root, "train"), MNIST(data_root, "val")
    both, test = MNIST(data_root, "train+val"), MNIST(data_root, "test")
    assert [len(x) for x in (train, val, both, test)] == [55_000, 5_000, 60_000, 10_000]
    assert both.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4] and test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert torch.equal(train.images, both.images[:55_000]) and torch.equal(val.labels, both.labels[55_000:])
    assert both.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert abs(float(both.images.double().mean()) / 255 - 0.1307) < 1e-4


@pytest.mark.real_data
def test_an_unpacked_mnist_has_its_checksums_too(data_root: Path, tmp_path: Path) -> None:
    test = real(MNIST, data_root, "test")
    for file in MNIST.files["test"]:
        packed = MNIST.find(data_root, file)
        assert packed is not None
        data = packed.read_bytes()
        (tmp_path / file).write_bytes(gzip.decompress(data) if packed.suffix == ".gz" else data)
    assert torch.equal(MNIST(tmp_path, "test").images, test.images)
    path = tmp_path / MNIST.files["test"][0]
    path.write_bytes(flip(path.read_bytes()))
    with pytest.raises(DataError, match="its MD5 is"):
        MNIST(tmp_path, "test")


@pytest.mark.real_data
def test_fashion_mnist_itself(data_root: Path) -> None:
    both = real(FashionMNIST, data_root, "train+val")
    assert both.labels.bincount().tolist() == [6000] * 10 and len(FashionMNIST(data_root, "test")) == 10_000


@pytest.mark.real_data
def test_cifar10_itself(data_root: Path) -> None:
    val, test = real(CIFAR10, data_root, "val"), CIFAR10(data_root, "test")
    assert len(val) == 5_000 and len(test) == 10_000
    assert test.labels.bincount().tolist() == [1000] * 10
    assert [CIFAR10.classes[i] for i in test.labels[:4].tolist()] == ["cat", "ship", "ship", "airplane"]
    assert test.images[0, :, 0, 0].tolist() == [158, 112, 49]  # the official first test image starts like this


@pytest.mark.real_data
def test_cifar100_itself(data_root: Path) -> None:
    both, test = real(CIFAR100, data_root, "train+val"), CIFAR100(data_root, "test")
    assert both.labels.bincount().tolist() == [500] * 100 and test.labels.bincount().tolist() == [100] * 100
    first = [CIFAR100.classes[label] for label in both.labels[:5].tolist()]
    assert first == ["cattle", "dinosaur", "apple", "boy", "aquarium_fish"]


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    test, both = Digits(split="test"), Digits(split="train+val")
    assert torch.equal(test.labels, torch.from_numpy(labels[::5])) and int(test.images.max()) == 255
    assert np.abs(test.images.flatten(1).numpy() / 255 * 16 - pixels[::5]).max() < 0.04
    assert torch.equal(Digits(split="val").images, both.images[::10])
