"""How the files of recordings lie: which there are, what each of them holds, and reading them one after the other.

To add a form: a subclass of Layout. A folder per class with a file per recording is there already.
"""

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Row(NamedTuple):
    """What is known of a recording before its file is read.

    number, label  the official ones; numbers are the indices that splits go by
    group          recordings of one group come from one person, or are one and the same: a split takes all or none
    span           of a piece of a longer recording, from when to when in us, the end not included
    """

    number: int
    label: int
    group: int
    span: tuple[int, int] | None = None


class File(NamedTuple):
    """A file of one or many recordings: path, bytes, time of change in ns, and its recordings in the file's order."""

    path: str
    size: int
    changed: int
    rows: tuple[Row, ...]


class DamageError(ValueError):
    """A file that is not what it should be, and why; whoever knows how to get it again says so to the user."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(reason)
        self.path, self.reason = Path(path), reason


class Catalogue(NamedTuple):
    """The rows of many recordings as columns, int64 [R] each, in the order of their official indices."""

    indices: np.ndarray
    labels: np.ndarray
    groups: np.ndarray

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each recording, its place among those of its class, by index, and how many these are: int64 [R] each.

        >>> zeros = np.zeros(5, np.int64)
        >>> [column.tolist() for column in Catalogue(np.arange(5), np.array([0, 1, 0, 0, 1]), zeros).places()]
        [[0, 0, 1, 2, 1], [3, 2, 3, 3, 2]]
        """
        place, size = np.empty((2, len(self.labels)), np.int64)
        for label in np.unique(self.labels):
            of_class = np.flatnonzero(self.labels == label)
            place[of_class], size[of_class] = np.arange(len(of_class)), len(of_class)
        return place, size


@dataclass(frozen=True)
class Layout(ABC):
    """A form that the files of a data set come in.

    sizes    part of the data set to the number of its recordings, when all are there
    folders  part to where it may lie in the data set's folder, best first; "" is that folder itself
    """

    sizes: Mapping[str, int]
    folders: Mapping[str, tuple[str, ...]]

    @property
    def settings(self) -> str:
        """What the events depend on besides the files: where it changes, they are packed anew."""
        return ""

    @abstractmethod
    def files(self, folder: Path, part: str) -> list[File]:
        """What of ``part`` lies in ``folder``; other names are left alone, and a missing folder is an empty one.

        Raises DamageError, or OSError for what cannot be read.
        """

    @abstractmethod
    def read(self, file: File) -> Iterator[np.ndarray]:
        """The events of each of ``file.rows``; raises ValueError with the reason, and OSError, where that fails."""


@dataclass(frozen=True)
class Listing:
    """The files of one part, in the order of the official indices of what they hold, and how they are read.

    They lie under ``folder``, in the data set's folder ``home``.
    """

    layout: Layout
    part: str
    home: Path
    folder: Path
    files: list[File]

    @cached_property
    def catalogue(self) -> Catalogue:
        rows = [row[:3] for file in self.files for row in file.rows]
        return Catalogue(*np.array(rows, np.int64).reshape(-1, 3).T)

    @property
    def size(self) -> int:
        """How many recordings the part has, when all are there."""
        return self.layout.sizes[self.part]

    @property
    def is_whole(self) -> bool:
        return len(self.catalogue.indices) == self.size

    @property
    def fingerprint(self) -> str:
        """Of names, sizes and times of change, of what was read to know the rows, and of the layout's settings."""
        lines = [self.layout.settings] if self.layout.settings else []
        for file in self.files:
            lines.append(f"{file.path.removeprefix(f'{self.folder}/')} {file.size} {file.changed}")
            lines += map(str, file.rows if len(file.rows) > 1 else ())
        return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def list_files(layout: Layout, part: str, home: Path, folder: Path, num_classes: int) -> Listing:
    """What of ``part`` lies in ``folder``; raises DamageError where a label or an official index is impossible."""
    try:
        files = sorted(layout.files(folder, part), key=lambda file: file.rows[:1])
    except OSError as error:
        raise DamageError(error.filename or folder, error.strerror or str(error)) from error
    listing = Listing(layout, part, home, folder, files)
    paths = [file.path for file in files for _ in file.rows]
    indices, labels, _ = listing.catalogue
    for i in np.flatnonzero((labels < 0) | (labels >= num_classes))[:1]:
        raise DamageError(
            paths[i], f"recording {indices[i]} has label {labels[i]} where {num_classes - 1} is the highest"
        )
    for i in np.flatnonzero(np.diff(indices) == 0)[:1]:
        raise DamageError(paths[i + 1], f"it has the same official index as {paths[i]}")
    return listing


def entries(folder: Path, pattern: str) -> list[tuple[os.DirEntry[str], re.Match[str]]]:
    """The files in ``folder`` whose whole name fits ``pattern``, by name; none where there is no such folder."""
    fits = re.compile(pattern)
    try:
        with os.scandir(folder) as scan:
            found = [(entry, fit) for entry in scan if (fit := fits.fullmatch(entry.name)) and entry.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, key=lambda pair: pair[0].name)


def as_file(entry: os.DirEntry[str] | Path, *rows: Row) -> File:
    """A file that is there, with what it holds."""
    status = entry.stat()
    return File(os.fspath(entry), status.st_size, status.st_mtime_ns, rows)


@dataclass(frozen=True)
class ClassFolders(Layout):
    """A folder per class, and in it a file per recording.

    classes  the folders' names, in the order of the labels
    pattern  regular expression of a file's name, its group the recording's number; without a group, the recordings of
             a class are numbered in the order of their names
    parse    from a file's bytes to events; raises ValueError with the reason where it is damaged
    anew     whether every class numbers its recordings anew; the official index is then number * classes + label
    """

    classes: tuple[str, ...]
    pattern: str
    parse: Callable[[bytes], np.ndarray]
    anew: bool = True

    def files(self, folder: Path, part: str) -> list[File]:
        found = []
        for label, name in enumerate(self.classes):
            for place, (entry, fit) in enumerate(entries(folder / name, self.pattern)):
                number = int(fit[1]) if fit.re.groups else place
                index = number * len(self.classes) + label if self.anew else number
                found.append(as_file(entry, Row(index, label, index)))
        return found

    def read(self, file: File) -> Iterator[np.ndarray]:
        yield self.parse(Path(file.path).read_bytes())
