"""What event data sets have in common: protocols and their splits, errors that help, packed files, downloads."""

import copy
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch.utils.data import Dataset

from spikelet.datasets import download as network
from spikelet.datasets.base import DamagedError, OfficialSet, Sample, _folder
from spikelet.datasets.event_cache import Cached, Contents, open_cached
from spikelet.datasets.layouts import Catalogue, DamageError, File, Layout, Listing, list_files
from spikelet.errors import DataError, SpikeletError
from spikelet.events import denoise, find_fault

CACHE = ".spikelet-cache"
QUIET_BYTES = 1 << 24  # less than this is packed before a progress bar could be read


@dataclass(frozen=True)
class Split:
    """Which recordings are in a split: those of ``part`` where ``choose(catalogue)``, bool [R], is true.

    ``num`` is how many they are when all files are there; None where nobody has published it, and then the whole part
    must be there. The catalogue has the official indices, ascending.
    """

    part: str
    num: int | None
    choose: Callable[[Catalogue], np.ndarray]


@dataclass(frozen=True)
class Protocol:
    """A way to use a data set: the official labels that occur in it, in order, and its splits."""

    labels: tuple[int, ...]
    splits: Mapping[str, Split]


def everything(catalogue: Catalogue) -> np.ndarray:
    """The rule of a split that is a whole part.

    >>> everything(Catalogue(np.arange(2), np.zeros(2), np.zeros(2))).tolist()
    [True, True]
    """
    return np.ones(len(catalogue.indices), bool)


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
    places: ClassVar[tuple[str, ...]]  # under the root: the folders that the data set may lie in, best first
    layouts: ClassVar[tuple[Layout, ...]]  # the forms that its files may have, best first; all have the same parts
    members: ClassVar[str]  # regular expression of the paths, in a downloaded archive, of what is unpacked

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
        self.listing, self.denoise_us = self._list(self.root, rule.part), 0
        chosen = np.flatnonzero(rule.choose(self.listing.catalogue))
        if len(chosen) == 0 or (verify and not _is_full(rule, self.listing)):
            raise self._missing_error(self.root, protocol, split)
        self.cached = self._cached(lambda: self._read(verify))
        chosen = chosen[self.cached.recordings.counts[chosen] > 0]
        keep = len(chosen) // subset if split in ("train", "val", "train+val") else len(chosen)
        if keep == 0:
            raise SpikeletError(f"subset: {subset} leaves none of the {len(chosen)} samples of {self.name}'s {split}")
        self.chosen = chosen[:keep]
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
    def _split(cls, protocol: str, split: str) -> Split:
        if protocol not in cls.protocols:
            raise SpikeletError(f"protocol: expected one of {', '.join(cls.protocols)}, got {protocol!r}")
        splits = cls.protocols[protocol].splits
        if split not in splits:
            raise SpikeletError(f"split: expected one of {', '.join(splits)} for protocol {protocol}, got {split!r}")
        return splits[split]

    def _cached(self, recordings: Callable[[], Iterable[np.ndarray]]) -> Cached:
        """The packed file of the whole part, whatever the protocol and the split."""
        listing = self.listing
        source = {"fingerprint": listing.fingerprint, "denoise_us": self.denoise_us}
        indices, labels, _ = listing.catalogue
        contents = Contents(source, self.sensor_size, recordings, labels, indices)
        name = f"{listing.part}{f'-denoise{self.denoise_us}' if self.denoise_us else ''}.events"
        return open_cached([listing.home / CACHE / name, _own_folder(listing.home) / name], contents)

    def _read(self, verify: bool) -> Iterator[np.ndarray]:
        """All recordings of the part, checked; empty ones where a label names a time without events."""
        for file in _walk(self.listing):
            try:
                yield from self._read_file(self.listing.layout, file, verify)
            except (OSError, ValueError) as error:
                raise self._damaged(self.root, DamageError(file.path, str(error))) from error

    @classmethod
    def _read_file(cls, layout: Layout, file: File, verify: bool) -> Iterator[np.ndarray]:
        """The recordings of one file; raises ValueError with the reason where it is damaged."""
        if verify:
            cls.source.check_file(Path(file.path))
        for row, events in zip(file.rows, layout.read(file), strict=True):
            fault = find_fault(events, cls.sensor_size) if len(events) or row.span is None else None
            if fault:
                raise ValueError(fault if len(file.rows) == 1 else f"recording {row.number}: {fault}")
            yield events

    @classmethod
    def contents(cls, root: str | Path | None = None, verify: bool = True) -> Iterator[Sample | DataError]:
        root = _folder(root)
        for part in cls.parts():
            try:
                listing = cls._list(root, part)
            except DamagedError as error:
                yield error
                continue
            if not listing.files or (verify and not listing.is_whole):
                found = len(listing.catalogue.indices)
                what = f"{part} has {listing.size:,} recordings, {found:,} of them found"
                yield DataError(cls._lacks(root, part, what))
            for file in _walk(listing):
                try:
                    for row, events in zip(file.rows, cls._read_file(listing.layout, file, verify), strict=True):
                        yield Sample(part, row.label, events)
                except (OSError, ValueError) as fault:
                    yield cls._damaged(root, DamageError(file.path, str(fault)))

    @classmethod
    def parts(cls) -> tuple[str, ...]:
        """What the official files are divided into."""
        return tuple(cls.layouts[0].sizes)

    @classmethod
    def _candidates(cls, root: Path, part: str) -> Iterator[tuple[Layout, Path, Path]]:
        """Where the part may lie, and how: the form, the data set's folder, the part's folder; best first."""
        for place in cls.places:
            for layout in cls.layouts:
                for folder in layout.folders[part]:
                    yield layout, root / place, root / place / folder

    @classmethod
    def _list(cls, root: Path, part: str) -> Listing:
        """The part where it lies whole, else where some of it lies, else nothing where it should lie."""
        some: Listing | None = None
        try:
            for layout, home, folder in cls._candidates(root, part):
                listing = list_files(layout, part, home, folder, len(cls.classes))
                if listing.is_whole:
                    return listing
                some = listing if some is None or (listing.files and not some.files) else some
        except DamageError as error:
            raise cls._damaged(root, error) from error
        assert some is not None
        return some

    @classmethod
    def _damaged(cls, root: Path, error: DamageError) -> DamagedError:
        return DamagedError(error.path, error.reason, f"Remove it. {cls._again(root)}")

    @classmethod
    def status(cls, root: str | Path | None = None, verify: bool = True) -> str:
        """One of "complete", "missing: <downloads>", "partial: <what is there>" and "damaged: <file>".

        Counts recordings and looks at the sizes of files; what is in them is checked when they are packed.
        """
        root = _folder(root)
        try:
            listings = [cls._list(root, part) for part in cls.parts()]
        except DamagedError as error:
            return f"damaged: {error.path.name}"
        empty = [file.path for listing in listings for file in listing.files if file.size == 0]
        if empty:
            return f"damaged: {Path(empty[0]).name}"
        if all(listing.is_whole or (not verify and listing.files) for listing in listings):
            return "complete"
        if not any(listing.files for listing in listings):
            return f"missing: {', '.join(cls.source.downloads or cls.source.by_hand)}"
        there = " + ".join(f"{len(listing.catalogue.indices):,}" for listing in listings)
        return f"partial: {there} recordings, enough for {', '.join(cls.possible(root)) or 'no protocol'}"

    @classmethod
    def possible(cls, root: str | Path | None = None) -> list[str]:
        """The protocols for which all recordings are there."""
        listings = {part: cls._list(_folder(root), part) for part in cls.parts()}

        def is_full(protocol: Protocol) -> bool:
            return all(_is_full(split, listings[split.part]) for split in protocol.splits.values())

        return [name for name, protocol in cls.protocols.items() if is_full(protocol)]

    @classmethod
    def where(cls, root: str | Path | None = None) -> str:
        root = _folder(root)
        try:
            listings = (cls._list(root, part) for part in cls.parts())
            return str(next((listing.home for listing in listings if listing.files), root / cls.folder))
        except DamagedError as error:
            return str(error.path.parent)

    @classmethod
    def fetch(cls, root: str | Path | None = None, verify: bool = True) -> None:
        """Unpack archives got by hand, then download what is not whole; raises DataError where no address delivers."""
        root, source = _folder(root), cls.source
        folder = root / cls.folder
        by_hand = f"Get it by hand: {cls._by_hand(root)}; or {cls._elsewhere()}"
        for name, held in {**source.by_hand, **source.downloads}.items():
            path, is_download = folder / name, name in source.downloads
            if cls._has(root, held, verify) or not (is_download or path.is_file()):
                continue
            if is_download:
                network.fetch(source.urls(name), path, source.checksums[name], by_hand)
            else:
                cls._check_archive(root, path)
            network.extract(path, folder, cls.members)
            if is_download:
                path.unlink()
        if not source.downloads and not cls._has(root, cls.parts(), verify):
            raise DataError(f"download: no program may fetch {cls.name}. {by_hand}")

    @classmethod
    def _check_archive(cls, root: Path, path: Path) -> None:
        try:
            cls.source.check_file(path)
        except ValueError as error:
            raise cls._damaged(root, DamageError(path, str(error))) from error

    @classmethod
    def _has(cls, root: Path, held: Sequence[str], verify: bool) -> bool:
        """Whether all that an archive holds is there: parts, or classes of a part, as "part/class"."""
        for each in held:
            part, _, name = each.partition("/")
            try:
                listing = cls._list(root, part)
            except DamagedError:
                return False
            labels, size = listing.catalogue.labels, listing.size
            if name:
                labels, size = labels[labels == cls.classes.index(name)], size // len(cls.classes)
            if len(labels) < (size if verify else 1) or any(file.size == 0 for file in listing.files):
                return False
        return True

    @classmethod
    def _missing_error(cls, root: Path, protocol: str, split: str) -> DataError:
        rule = cls.protocols[protocol].splits[split]
        listing = cls._list(root, rule.part)
        found = len(listing.catalogue.indices) if rule.num is None else int(rule.choose(listing.catalogue).sum())
        needs = f"needs all {listing.size:,}" if rule.num is None else f"has {rule.num:,}"
        others = [name for name in cls.possible(root) if name != protocol]
        enough = f". What is there is enough for protocol {', '.join(others)}" if others else ""
        what = f"split {split} of protocol {protocol} {needs} recordings, {found:,} of them found"
        return DataError(f"{cls._lacks(root, rule.part, what)}{enough}")

    @classmethod
    def _lacks(cls, root: Path, part: str, what: str) -> str:
        """What is missing, where it was looked for, and how to get it."""
        folders = ", ".join(dict.fromkeys(str(folder) for _, _, folder in cls._candidates(root, part)))
        there = "" if root.is_dir() else f"data.root: there is no folder {root}; "
        return f"{there}{cls.name}: {what}; looked in {folders}. Get it {cls.how(root)}; or {cls._elsewhere()}"

    @classmethod
    def _by_hand(cls, root: Path) -> str:
        names = ", ".join(cls.source.by_hand or cls.source.downloads)
        return f"{names} from {cls.source.homepage}, unpacked in {root / cls.folder}"


def _walk(listing: Listing) -> Iterator[File]:
    """The part's files one after the other, with a progress bar."""
    total = sum(file.size for file in listing.files)
    with network.progress(listing.part, total, visible=total > QUIET_BYTES) as advance:
        for file in listing.files:
            yield file
            advance(file.size)


def _is_full(split: Split, listing: Listing) -> bool:
    """Whether all recordings of the split are there."""
    return listing.is_whole if split.num is None else int(split.choose(listing.catalogue).sum()) == split.num


def _own_folder(folder: Path) -> Path:
    """Where packed files go when ``folder`` cannot be written: under the user's own cache, one folder per source."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    name = hashlib.blake2b(str(folder.resolve()).encode(), digest_size=8).hexdigest()
    return home / "spikelet" / "events" / name
