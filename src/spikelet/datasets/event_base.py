"""What event data sets have in common: recordings in a folder per class, protocols, errors that help, packed files."""

import copy
import hashlib
import os
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch.utils.data import Dataset

from spikelet.datasets import download as network
from spikelet.datasets.base import DamagedError, OfficialSet, _folder
from spikelet.datasets.event_cache import Cached, Contents, open_cached
from spikelet.errors import DataError, SpikeletError
from spikelet.events import denoise, find_fault

CACHE = ".spikelet-cache"
QUIET_BYTES = 1 << 24  # less than this is packed before a progress bar could be read


@dataclass(frozen=True)
class Split:
    """Which recordings are in a split: those of folder ``part`` where ``choose(indices, labels)``, bool [R], is true.

    ``num`` is how many they are when all files are there. Indices are the official ones, ascending.
    """

    part: str
    num: int
    choose: Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Protocol:
    """A way to use a data set: the official labels that occur in it, in order, and its splits."""

    labels: tuple[int, ...]
    splits: Mapping[str, Split]


@dataclass(frozen=True)
class Listing:
    """The recordings under one folder with a sub-folder per class, in the order of their official indices.

    paths of the files; official indices and labels int64 [R]; sizes in bytes int64 [R]; a fingerprint of names, sizes
    and times of change.
    """

    folder: Path
    paths: list[str]
    indices: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    fingerprint: str


def list_recordings(folder: Path, num_classes: int) -> Listing:
    """What lies in ``folder``/<label>/<index>.bin; other names are left alone. A missing folder is an empty one."""
    found = []
    for label in range(num_classes):
        try:
            with os.scandir(folder / str(label)) as entries:
                for entry in entries:
                    if re.fullmatch(r"\d+\.bin", entry.name) and entry.is_file():
                        status = entry.stat()
                        found.append((int(entry.name[:-4]), label, status.st_size, status.st_mtime_ns, entry.name))
        except (FileNotFoundError, NotADirectoryError):
            continue
    found.sort()
    indices, labels, sizes = (np.array([row[i] for row in found], np.int64) for i in range(3))
    lines = "\n".join(f"{label}/{name} {size} {changed}" for _, label, size, changed, name in found)
    fingerprint = hashlib.blake2b(lines.encode(), digest_size=16).hexdigest()
    paths = [f"{folder}/{label}/{name}" for _, label, _, _, name in found]
    return Listing(folder, paths, indices, labels, sizes, fingerprint)


class EventSet(OfficialSet, Dataset[tuple[np.ndarray, int]]):
    """Event recordings with one label each, packed in a file that is mapped into memory.

    root      folder that holds the official files; None: ``default_root()``
    split     one of the protocol's, fixed in code: the same recordings for everybody
    subset    n keeps the first floor(N / n) recordings by official index, of the splits for training and validation
    protocol  one of ``protocols``: which of the official recordings are used, and for what
    download  fetch what is missing first
    verify    insist on as many recordings as the protocol has; False takes what is there, as ``write_fake`` wrote it

    ``labels`` is int64 [N], ``classes`` the names that they stand for in this protocol, ``indices`` the official ones,
    int64 [N]. The packed file is made at first use, in a folder beside the recordings or under $XDG_CACHE_HOME, and
    again when names, sizes or times of the recordings change. Raises DataError for files that are missing or damaged,
    SpikeletError for an argument out of range.
    """

    protocols: ClassVar[Mapping[str, Protocol]]
    places: ClassVar[tuple[str, ...]]  # under the root: where the parts may be, best first
    part_sizes: ClassVar[Mapping[str, int]]  # part to its number of recordings, when all are there

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "train",
        subset: int = 1,
        protocol: str = "full",
        download: bool = False,
        verify: bool = True,
    ) -> None:
        rule = self._split(protocol, split)
        if subset < 1:
            raise SpikeletError(f"subset: expected at least 1, got {subset}")
        self.root, self.split, self.protocol = _folder(root), split, protocol
        if download:
            self.fetch(self.root, verify)
        self.listing = self._list(self.root, rule.part)
        chosen = np.flatnonzero(rule.choose(self.listing.indices, self.listing.labels))
        if len(chosen) == 0 or (verify and len(chosen) != rule.num):
            raise self._missing_error(self.root, protocol, split, len(chosen))
        keep = len(chosen) // subset if split in ("train", "val", "train+val") else len(chosen)
        if keep == 0:
            raise SpikeletError(f"subset: {subset} leaves none of the {len(chosen)} samples of {self.name}'s {split}")
        self.chosen, self.denoise_us = chosen[:keep], 0
        self.cached = self._cached(self._read)
        official = self.protocols[protocol].labels
        self.classes = tuple(type(self).classes[label] for label in official)
        self.labels = torch.from_numpy(np.searchsorted(official, self.cached.labels[self.chosen]).astype(np.int64))
        self.indices = torch.from_numpy(self.cached.indices[self.chosen])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """One recording as an array of EVENT, and its label."""
        return self.cached.recordings[int(self.chosen[index])], int(self.labels[index])

    def denoised(self, filter_us: int = 10_000) -> Self:
        """The same recordings without the events that ``events.denoise`` drops, from a packed file of their own."""
        if self.denoise_us:
            raise SpikeletError(f"filter_us: these recordings are denoised already, with {self.denoise_us} us")
        if filter_us < 1:
            raise SpikeletError(f"filter_us: expected at least 1, got {filter_us}")
        quiet = copy.copy(self)
        quiet.denoise_us = filter_us
        recordings, size = self.cached.recordings, self.sensor_size
        quiet.cached = quiet._cached(lambda: (denoise(recordings[i], size, filter_us) for i in range(len(recordings))))
        return quiet

    @classmethod
    @abstractmethod
    def _parse(cls, data: bytes) -> np.ndarray:
        """The events of one file; raises ValueError with the reason where it is damaged."""

    @classmethod
    def _split(cls, protocol: str, split: str) -> Split:
        if protocol not in cls.protocols:
            raise SpikeletError(f"protocol: expected one of {', '.join(cls.protocols)}, got {protocol!r}")
        splits = cls.protocols[protocol].splits
        if split not in splits:
            raise SpikeletError(f"split: expected one of {', '.join(splits)} for protocol {protocol}, got {split!r}")
        return splits[split]

    def _cached(self, recordings: Callable[[], Iterable[np.ndarray]]) -> Cached:
        """The packed file of the whole part, whatever the protocol and the split."""
        part = self.listing.folder
        source = {"fingerprint": self.listing.fingerprint, "denoise_us": self.denoise_us}
        contents = Contents(source, self.sensor_size, recordings, self.listing.labels, self.listing.indices)
        name = f"{part.name}{f'-denoise{self.denoise_us}' if self.denoise_us else ''}.events"
        return open_cached([part.parent / CACHE / name, _own_folder(part.parent) / name], contents)

    def _read(self) -> Iterator[np.ndarray]:
        """All recordings of the part, checked."""
        listing, again = self.listing, self._again(self.root)
        total = int(listing.sizes.sum())
        with network.progress(f"{self.name} {listing.folder.name}", total, visible=total > QUIET_BYTES) as advance:
            for path, size in zip(listing.paths, listing.sizes.tolist(), strict=True):
                yield self._read_one(Path(path), again)
                advance(size)

    @classmethod
    def _read_one(cls, path: Path, again: str) -> np.ndarray:
        try:
            events = cls._parse(path.read_bytes())
        except (OSError, ValueError) as error:
            raise DamagedError(path, str(error), again) from error
        fault = find_fault(events, cls.sensor_size)
        if fault:
            raise DamagedError(path, fault, again)
        return events

    @classmethod
    def _list(cls, root: Path, part: str) -> Listing:
        folders = [root / place / part for place in cls.places]
        folder = next((folder for folder in folders if folder.is_dir()), folders[0])
        listing = list_recordings(folder, len(cls.classes))
        twice = np.flatnonzero(np.diff(listing.indices) == 0)
        if len(twice):
            paths = listing.paths[twice[0]], listing.paths[twice[0] + 1]
            raise DamagedError(Path(paths[1]), f"it has the same official index as {paths[0]}", cls._again(root))
        return listing

    @classmethod
    def status(cls, root: str | Path | None = None, verify: bool = True) -> str:
        """One of "complete", "missing: <downloads>", "partial: <what is there>" and "damaged: <file>".

        Counts files and looks at their sizes; what is in them is checked when they are packed.
        """
        root = _folder(root)
        try:
            listings = {part: cls._list(root, part) for part in cls.part_sizes}
        except DamagedError as error:
            return f"damaged: {error.path.name}"
        for listing in listings.values():
            empty = np.flatnonzero(listing.sizes == 0)
            if len(empty):
                return f"damaged: {Path(listing.paths[empty[0]]).name}"
        found = {part: len(listing.paths) for part, listing in listings.items()}
        if found == cls.part_sizes or (not verify and all(found.values())):
            return "complete"
        if not any(found.values()):
            return f"missing: {', '.join(cls.source.downloads)}"
        there = " + ".join(f"{num:,}" for num in found.values())
        return f"partial: {there} recordings, enough for {', '.join(cls.possible(root)) or 'no protocol'}"

    @classmethod
    def possible(cls, root: str | Path | None = None) -> list[str]:
        """The protocols for which all recordings are there."""
        listings = {part: cls._list(_folder(root), part) for part in cls.part_sizes}

        def full(split: Split) -> bool:
            listing = listings[split.part]
            return int(split.choose(listing.indices, listing.labels).sum()) == split.num

        return [name for name, protocol in cls.protocols.items() if all(full(s) for s in protocol.splits.values())]

    @classmethod
    def where(cls, root: str | Path | None = None) -> str:
        root = _folder(root)
        return str(next((f for f in (root / place for place in cls.places) if cls._holds(f)), root / cls.folder))

    @classmethod
    def fetch(cls, root: str | Path | None = None, verify: bool = True) -> None:
        """Download and unpack the parts that are not whole; raises DataError where no address delivers them."""
        root, source = _folder(root), cls.source
        folder = root / cls.folder
        for name, parts in source.downloads.items():
            if all(_is_whole(cls._list(root, part), cls.part_sizes[part] if verify else 1) for part in parts):
                continue
            addresses = [address + source.links.get(name, name) for address in source.addresses]
            by_hand = f"Get it by hand: {cls._by_hand(root)}; or {cls._elsewhere()}"
            network.fetch(addresses, folder / name, source.checksums[name], by_hand)
            network.unzip(folder / name, folder, rf"({'|'.join(parts)})/\d/\d+\.bin")
            (folder / name).unlink()

    @classmethod
    def _holds(cls, folder: Path) -> bool:
        return any((folder / part).is_dir() for part in cls.part_sizes)

    @classmethod
    def _missing_error(cls, root: Path, protocol: str, split: str, found: int) -> DataError:
        rule = cls.protocols[protocol].splits[split]
        folders = ", ".join(str(root / place / rule.part) for place in cls.places)
        there = "" if root.is_dir() else f"data.root: there is no folder {root}; "
        others = [name for name in cls.possible(root) if name != protocol]
        enough = f". What is there is enough for protocol {', '.join(others)}" if others else ""
        return DataError(
            f"{there}{cls.name}: split {split} of protocol {protocol} has {rule.num:,} recordings, {found:,} of them "
            f"found; looked in {folders}. Get it with `{cls._command(root)}`, or by hand: {cls._by_hand(root)}; "
            f"or {cls._elsewhere()}{enough}"
        )

    @classmethod
    def _by_hand(cls, root: Path) -> str:
        return f"{', '.join(cls.source.downloads)} from {cls.source.homepage}, unpacked in {root / cls.folder}"


def _own_folder(folder: Path) -> Path:
    """Where packed files go when ``folder`` cannot be written: under the user's own cache, one folder per source."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    name = hashlib.blake2b(str(folder.resolve()).encode(), digest_size=8).hexdigest()
    return home / "spikelet" / "events" / name


def _is_whole(listing: Listing, num: int) -> bool:
    return len(listing.paths) >= num and bool((listing.sizes > 0).all())
