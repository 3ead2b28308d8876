"""What data sets have in common: where they come from, files found and checked, errors that help, and the loader."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from spikelet.datasets import download as network
from spikelet.errors import DataError, SpikeletError

SPLITS = ("train", "val", "train+val", "test")
Batch = tuple[Tensor, Tensor]
Arrays = dict[str, np.ndarray]


def default_root() -> Path:
    """Where data sets are looked for when nobody says otherwise: $SPIKELET_DATA, else ~/.cache/spikelet."""
    return Path(os.environ.get("SPIKELET_DATA") or "~/.cache/spikelet").expanduser()


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    homepage   who made it, and how
    license    as its authors state it
    citation   what to cite
    addresses  servers, tried in turn; an address ends with "/" and a file's name follows
    downloads  what to fetch from there, and which of the data set's files (or parts) each download holds
    by_hand    the same of archives that only a person can get, from the homepage
    links      what follows the address instead of the name, for downloads that have another one there
    checksums  file name to published MD5, of downloads and of the files that are read
    sizes      file name to bytes, of files that are read and have no published checksum
    megabytes  size of all downloads together
    """

    homepage: str
    license: str
    citation: str
    addresses: tuple[str, ...] = ()
    downloads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    by_hand: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    megabytes: float = 0.0

    def check(self, name: str, data: bytes) -> None:
        """Raise ValueError where ``data`` is not the official content of the file ``name``, as far as that is known."""
        size = self.sizes.get(name)
        if size is not None and len(data) != size:
            raise ValueError(f"it holds {len(data)} bytes, the official file {size}")
        self._compare(name, lambda: hashlib.md5(data, usedforsecurity=False).hexdigest())

    def check_file(self, path: Path) -> None:
        """Raise ValueError where the file's MD5 is not the published one, as far as that is known."""
        self._compare(path.name, lambda: network.md5_of(path))

    def _compare(self, name: str, md5: Callable[[], str]) -> None:
        published = self.checksums.get(name)
        if published is not None and (found := md5()) != published:
            raise ValueError(f"its MD5 is {found}, published is {published}")

    def urls(self, name: str) -> list[str]:
        """Where a download is, server by server."""
        return [address + self.links.get(name, name) for address in self.addresses]


def published_checksums(name: str) -> dict[str, str]:
    """File name to MD5, from the list of that name in the package, as md5sum writes it; lines with # are remarks."""
    lines = (Path(__file__).parent / "official" / f"{name}.md5").read_text().splitlines()
    return {file: md5 for md5, file in (line.split() for line in lines if not line.startswith("#"))}


class Sample(NamedTuple):
    """What a file of a data set holds: the part it is in, its official label, an image [C, H, W] or a recording."""

    part: str
    label: int
    data: np.ndarray


class DamagedError(DataError):
    """A file that is there and is not what it should be."""

    def __init__(self, path: Path, reason: str, again: str) -> None:
        super().__init__(f"{path} is damaged: {reason}. {again}")
        self.path = path


class OfficialSet(ABC):
    """What a table of data sets shows: who made it, whether it is there, how to get it. The members are classes."""

    name: ClassVar[str]
    classes: tuple[str, ...]
    sensor_size: ClassVar[tuple[int, int, int]]  # W, H, P
    source: ClassVar[Source]
    num: ClassVar[Mapping[str, int]]
    folder: ClassVar[str] = ""  # under the root: where downloads go

    @classmethod
    @abstractmethod
    def status(cls, root: str | Path | None = None, verify: bool = True) -> str:
        """In a few words: "complete", or what is missing or damaged."""

    @classmethod
    @abstractmethod
    def where(cls, root: str | Path | None = None) -> str:
        """The folder that holds the files, or that they would be downloaded to."""

    @classmethod
    @abstractmethod
    def fetch(cls, root: str | Path | None = None, verify: bool = True) -> None:
        """Download what is missing or damaged; raises DataError where no address delivers it."""

    @classmethod
    @abstractmethod
    def contents(cls, root: str | Path | None = None, verify: bool = True) -> Iterator[Sample | DataError]:
        """Every sample of every part, read from the files one after the other; what is wrong, where it was met."""

    @classmethod
    @abstractmethod
    def write_fake(cls, root: str | Path, num_train: int = 600, num_test: int = 100, seed: int = 0) -> None:
        """Write small official-format files that a tiny network can learn; read them with ``verify=False``."""

    @classmethod
    @abstractmethod
    def _by_hand(cls, root: Path) -> str:
        """What to get from where, and where to put it."""

    @classmethod
    def _again(cls, root: Path) -> str:
        return f"Get it again {cls.how(root)}"

    @classmethod
    def how(cls, root: Path) -> str:
        """With which command its files come, where a program may fetch them, and what to do by hand."""
        command = f"with `{cls._command(root)}`, or " if cls.source.downloads else ""
        return f"{command}by hand: {cls._by_hand(root)}"

    @classmethod
    def _command(cls, root: Path) -> str:
        rest = "" if root == default_root() else f" data.root={root}"
        return f"spikelet datasets {cls.name} download=true{rest}"

    @classmethod
    def _elsewhere(cls) -> str:
        return "set data.root (or SPIKELET_DATA) to a folder that has it"


class EpochSampler(Sampler[int]):
    """Indices 0 .. num - 1, in an order that is a function of (seed, epoch) alone, or in order without ``shuffle``.

    >>> sampler = EpochSampler(5, shuffle=True, seed=1)
    >>> first = list(sampler)
    >>> sampler.set_epoch(1)
    >>> first == list(sampler), sorted(sampler)
    (False, [0, 1, 2, 3, 4])
    """

    def __init__(self, num: int, shuffle: bool = False, seed: int = 0) -> None:
        self.num, self.shuffle, self.seed, self.epoch = num, shuffle, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass. Lightning calls this at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num

    def __iter__(self) -> Iterator[int]:
        if not self.shuffle:
            return iter(range(self.num))
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
        return iter(torch.randperm(self.num, generator=generator).tolist())


class BatchSet(Dataset[Batch], ABC):
    """What ``loader`` needs: samples that come as whole batches, and the sampler that says which."""

    sampler: ClassVar[type[EpochSampler]] = EpochSampler

    @abstractmethod
    def __len__(self) -> int:
        """How many samples."""

    @abstractmethod
    def __getitems__(self, indices: Any) -> Batch:
        """A batch in one go, for what the sampler gives; torch's DataLoader asks for it when it is there."""


class ImageSet(OfficialSet, BatchSet):
    """Images with one label each, in memory as they are in the files.

    root      folder that holds the official files; None: ``default_root()``
    split     "train", "val", "train+val" or "test", fixed in code: the same samples for everybody
    subset    n keeps the first floor(N / n) samples, of every split but "test"
    download  fetch what is missing or damaged first
    verify    compare files with their published checksums, else their sizes; False for what ``write_fake`` wrote

    ``images`` is uint8 [N, C, H, W], ``labels`` is int64 [N]. Raises DataError for files that are missing or damaged,
    SpikeletError for an argument out of range.
    """

    files: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # "train" and "test" to the files that hold them
    places: ClassVar[tuple[str, ...]] = ()  # under the root: where a file "{}" may be, best first

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "train",
        subset: int = 1,
        download: bool = False,
        verify: bool = True,
    ) -> None:
        if split not in SPLITS:
            raise SpikeletError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
        if subset < 1:
            raise SpikeletError(f"subset: expected at least 1, got {subset}")
        self.root, self.split = _folder(root), split
        if download:
            self.fetch(self.root, verify)
        images, labels = self._official(self.root, "test" if split == "test" else "train", verify)
        if split in ("train", "val"):
            chosen = self._is_val(len(labels)) == (split == "val")
            images, labels = images[chosen], labels[chosen]
        keep = len(labels) if split == "test" else len(labels) // subset
        if keep == 0:
            raise SpikeletError(f"subset: {subset} leaves none of the {len(labels)} samples of {self.name}'s {split}")
        self.images = torch.from_numpy(np.array(images[:keep]))
        self.labels = torch.from_numpy(labels[:keep].astype(np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        """One image [C, H, W] and its label []."""
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A batch [N, C, H, W], [N]."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        return self.images[index], self.labels[index]

    @classmethod
    @abstractmethod
    def _parse(cls, path: Path, data: bytes) -> Arrays:
        """The file's "images" uint8 [N, C, H, W], "labels" [N], or both; raises ValueError with the reason."""

    @classmethod
    def _is_val(cls, num: int) -> np.ndarray:
        """Which of the ``num`` official training samples are for validation: the last ones, bool [num]."""
        return np.arange(num) >= num - num * cls.num["val"] // cls.num["train+val"]

    @classmethod
    def find(cls, root: str | Path | None, file: str) -> Path | None:
        """The first of the places where ``file`` is, or None."""
        return next((path for path in cls._candidates(_folder(root), file) if _is_file(path)), None)

    @classmethod
    def status(cls, root: str | Path | None = None, verify: bool = True) -> str:
        """One of "complete", "missing: <files>" and "damaged: <file>"; reads everything."""
        root = _folder(root)
        missing = cls._missing(root, [file for part in cls.files.values() for file in part])
        if missing:
            return f"missing: {', '.join(missing)}"
        try:
            for part in cls.files:
                cls._official(root, part, verify)
        except DamagedError as error:
            return f"damaged: {error.path.name}"
        return "complete"

    @classmethod
    def where(cls, root: str | Path | None = None) -> str:
        """The folder that holds the files, or that they would be downloaded to."""
        root = _folder(root)
        found = (cls.find(root, file) for part in cls.files.values() for file in part)
        return str(next((path.parent for path in found if path), root / cls.folder))

    @classmethod
    def fetch(cls, root: str | Path | None = None, verify: bool = True) -> None:
        """Download what is missing or damaged; raises DataError where no address delivers it."""
        root = _folder(root)
        for name, files in cls.source.downloads.items():
            if all(cls._is_good(root, file, verify) for file in files):
                continue
            packed = name.endswith(".tar.gz")
            path = (root if packed else root / cls.folder) / name
            by_hand = f"Get it by hand from one of these addresses as {path}, or {cls._elsewhere()}"
            network.fetch(cls.source.urls(name), path, cls.source.checksums[name], by_hand)
            if packed:
                network.unpack(path, root / cls.folder, [Path(cls.places[0].format(file)).name for file in files])
                path.unlink()

    @classmethod
    def contents(cls, root: str | Path | None = None, verify: bool = True) -> Iterator[Sample | DataError]:
        for part in ("train", "test"):
            try:
                images, labels = cls._official(_folder(root), part, verify)
            except DataError as error:
                yield error
                continue
            yield from (Sample(part, int(label), image) for image, label in zip(images, labels, strict=True))

    @classmethod
    def _is_good(cls, root: Path, file: str, verify: bool) -> bool:
        path = cls.find(root, file)
        try:
            return path is not None and bool(cls._load(root, path, verify))
        except DamagedError:
            return False

    @classmethod
    def _official(cls, root: Path, part: str, verify: bool) -> tuple[np.ndarray, np.ndarray]:
        """All images and labels of the official "train" or "test" part, in the official order."""
        missing = cls._missing(root, cls.files[part])
        if missing:
            raise cls._missing_error(root, part, missing)
        paths = [cls.find(root, file) or root for file in cls.files[part]]
        loaded = [cls._load(root, path, verify) for path in paths]
        images = _join([arrays["images"] for arrays in loaded if "images" in arrays])
        labels = _join([arrays["labels"] for arrays in loaded if "labels" in arrays])
        expected = cls.num["test" if part == "test" else "train+val"] if verify else len(images)
        if not len(images) == len(labels) == expected:
            reason = f"{len(images)} images and {len(labels)} labels, expected {expected} of both"
            raise DamagedError(paths[0], reason, cls._again(root))
        return images, labels

    @classmethod
    def _load(cls, root: Path, path: Path, verify: bool) -> Arrays:
        """Read, parse and check one file. Parsing comes first: "truncated" says more than a wrong checksum."""
        try:
            data = path.read_bytes()
            arrays = cls._parse(path, data)
            labels = arrays.get("labels")
            if labels is not None and len(labels) and labels.max() >= len(cls.classes):
                raise ValueError(f"label {labels.max()} where {len(cls.classes) - 1} is the highest")
            if verify:
                cls.source.check(path.name, data)
        except (OSError, ValueError) as error:
            raise DamagedError(path, str(error), cls._again(root)) from error
        return arrays

    @classmethod
    def _candidates(cls, root: Path, file: str) -> list[Path]:
        return [root / place.format(file) for place in cls.places]

    @classmethod
    def _missing(cls, root: Path, files: Sequence[str]) -> list[str]:
        """The official names of those ``files`` that are nowhere."""
        return [Path(cls.places[0].format(file)).name for file in files if cls.find(root, file) is None]

    @classmethod
    def _missing_error(cls, root: Path, part: str, missing: Sequence[str]) -> DataError:
        folders = dict.fromkeys(str(path.parent) for path in cls._candidates(root, cls.files[part][0]))
        there = "" if root.is_dir() else f"data.root: there is no folder {root}; "
        return DataError(
            f"{there}{cls.name}: {', '.join(missing)} not found; looked in {', '.join(folders)}. "
            f"Get it {cls.how(root)}; or {cls._elsewhere()}"
        )

    @classmethod
    def _by_hand(cls, root: Path) -> str:
        names = ", ".join(cls.source.downloads)
        target = f"unpacked in {root}" if names.endswith(".tar.gz") else f"into {root / cls.folder}"
        return f"{names} from {cls.source.addresses[0]} {target}"


def _folder(root: str | Path | None) -> Path:
    return default_root() if root is None else Path(root).expanduser()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that we may not enter
        return False


def _join(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def fake_images(
    num: int, shape: tuple[int, int, int], seed: int, num_classes: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures that tell their class: a coarse pattern per class, of varying contrast, under noise.

    Returns images uint8 [num, C, H, W] for ``shape`` (C, H, W) and labels uint8 [num], classes in equal shares. The
    patterns do not depend on ``seed``, so that two calls make a training and a test part of one data set.

    >>> images, labels = fake_images(20, (1, 8, 8), seed=0)
    >>> images.shape, images.dtype.name, sorted(labels.tolist())[:4]
    ((20, 1, 8, 8), 'uint8', [0, 0, 1, 1])
    """
    channels, height, width = shape
    coarse = np.random.default_rng(20).integers(0, 2, (num_classes, channels, 4, 4))
    patterns = coarse[:, :, np.arange(height) * 4 // height][:, :, :, np.arange(width) * 4 // width]
    rng = np.random.default_rng([seed, num])
    labels = rng.permutation(np.arange(num) % num_classes).astype(np.uint8)
    contrast = rng.uniform(120, 200, (num, 1, 1, 1))
    images = patterns[labels] * contrast + rng.normal(25, 20, (num, channels, height, width))
    return images.clip(0, 255).astype(np.uint8), labels


def _as_it_is(batch: Any) -> Any:
    return batch


def loader(
    dataset: BatchSet, batch_size: int, shuffle: bool = False, seed: int = 0, num_workers: int = 0
) -> DataLoader[Batch]:
    """Batches of ``dataset``, images or frames with their labels; no sample is dropped, the last batch may be smaller.

    The order depends on ``seed`` and ``loader.sampler.set_epoch(epoch)`` only; torch's global generator is not touched.

    >>> from spikelet.datasets import Digits
    >>> [len(labels) for images, labels in loader(Digits(split="test"), batch_size=150)]
    [150, 150, 60]
    """
    if not hasattr(dataset, "sampler"):
        made = f"expected one of spikelet.datasets, got a {type(dataset).__name__}"
        raise SpikeletError(f"dataset: {made}; for others, torch.utils.data.DataLoader does")
    if batch_size < 1:
        raise SpikeletError(f"batch_size: expected at least 1, got {batch_size}")
    if num_workers < 0:
        raise SpikeletError(f"num_workers: expected 0 or more, got {num_workers}")
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=dataset.sampler(len(dataset), shuffle, seed),
        num_workers=num_workers,
        collate_fn=_as_it_is,
        generator=torch.Generator().manual_seed(seed % 2**63),
        persistent_workers=num_workers > 0,
    )
