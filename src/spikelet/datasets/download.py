"""One file from the network: several addresses, resumed where it broke off, its MD5 checked, whole or not at all."""

import hashlib
import http.client
import re
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO

from spikelet.errors import DataError

TIMEOUT_SECONDS = 20.0
CHUNK_BYTES = 1 << 18
RESUMES = 8


def md5_of(path: Path) -> str:
    """The MD5 of a file, as 32 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def fetch(addresses: Sequence[str], path: Path, md5: str, by_hand: str) -> None:
    """Get ``path`` from the first of ``addresses`` that has it, unless it is there already with the right ``md5``.

    Bytes gather in ``<path>.part``, which stays when the connection breaks and is continued by the next address or the
    next call; ``path`` itself appears only once the MD5 is right. Raises DataError where no address delivered: it
    says what each of them answered, then ``by_hand``, how the user gets the file without us.
    """
    try:
        if path.is_file() and md5_of(path) == md5:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"download: cannot write {path}: {error}") from error
    part = path.with_name(path.name + ".part")
    answers = []
    for address in addresses:
        answer = _from_one(address, part, md5)
        if answer is None:
            part.replace(path)
            return
        answers.append(f"{address}: {answer}")
    raise DataError(f"download: nothing delivered {path.name} ({'; '.join(answers)}). {by_hand}")


def _from_one(address: str, part: Path, md5: str) -> str | None:
    """Complete ``part`` from one address; None when its MD5 is right, otherwise what went wrong."""
    answer = "gave no data"
    for _ in range(RESUMES):
        before = _size(part)
        try:
            _continue(address, part)
        except (OSError, http.client.HTTPException, ValueError) as error:
            answer = f"{type(error).__name__}: {error}"
            if _size(part) <= before:
                return answer
            continue
        found = md5_of(part)
        if found == md5:
            return None
        part.unlink()
        answer = f"delivered a file with MD5 {found}, expected {md5}"
        if before == 0:
            return answer
    return answer


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _continue(address: str, part: Path) -> None:
    """Append what is missing; start over where the server does not do ranges. Raises OSError on a short answer."""
    have = _size(part)
    request = urllib.request.Request(address, headers={"User-Agent": "spikelet", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing after what we have: let the checksum decide
            return
        raise
    with response:
        resumed = getattr(response, "status", 200) == 206
        length = response.headers.get("Content-Length")
        total = (have if resumed else 0) + int(length) if length else None
        with part.open("ab" if resumed else "wb") as file, progress(part.stem, total) as advance:
            advance(file.tell())
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                advance(len(chunk))
            if total is not None and file.tell() < total:
                raise ConnectionError(f"connection closed after {file.tell()} of {total} bytes")


class progress:
    """A progress bar on standard error; ``with progress(name, total) as advance: advance(bytes)``."""

    def __init__(self, name: str, total: int | None, visible: bool = True) -> None:
        from rich import progress as rich
        from rich.console import Console

        columns: tuple[Any, ...] = (
            rich.TextColumn("{task.description}"),
            rich.BarColumn(),
            rich.DownloadColumn(),
            rich.TransferSpeedColumn(),
            rich.TimeRemainingColumn(),
        )
        self.bar = rich.Progress(*columns, console=Console(stderr=True), disable=not visible)
        self.task = self.bar.add_task(name, total=total)

    def __enter__(self):
        self.bar.start()
        return lambda count: self.bar.update(self.task, advance=count)

    def __exit__(self, *_: object) -> None:
        self.bar.stop()


def unpack(archive: Path, folder: Path, names: Collection[str]) -> None:
    """Write the members of a tar file that are called one of ``names`` (whatever their folder) into ``folder``.

    Nothing else in the archive is looked at, so no member can write elsewhere. Raises DataError where one is missing.
    """
    found = extract(archive, folder, "|".join(map(re.escape, names)))
    if left := {*names} - found:
        raise DataError(f"{archive}: has no {', '.join(sorted(left))}")


def extract(archive: Path, folder: Path, pattern: str) -> set[str]:
    """Write the members of a zip or tar file whose path ends with ``pattern``, a regular expression, under ``folder``.

    Returns what fits, paths under ``folder``. Nothing else in the archive is looked at. Raises DataError where it is
    damaged, or where nothing fits.
    """
    fits, done = re.compile(rf"(?:.*/)?({pattern})"), 0
    found: set[str] = set()
    try:
        with archive.open("rb") as file, progress(archive.name, archive.stat().st_size) as advance:
            for name, content in _members(file):
                if fit := fits.fullmatch(name):
                    _write(content(), folder / fit[1])
                    advance(file.tell() - done)
                    found.add(fit[1])
                    done = file.tell()
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{archive}: cannot be unpacked into {folder}: {error}") from error
    if not found:
        raise DataError(f"{archive}: has no member that looks like {pattern}")
    return found


def _members(file: BinaryIO) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    """The path of each regular member of a zip or tar file, and how to open it."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            yield from ((info.filename, partial(archive.open, info)) for info in archive.infolist())
        return
    file.seek(0)
    with tarfile.open(fileobj=file) as tar:
        yield from ((member.name, partial(_content, tar, member)) for member in tar if member.isreg())


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    assert content is not None, "only regular members are opened"
    return content


def _write(content: IO[bytes], path: Path) -> None:
    """Write a file under a temporary name, piece by piece, then rename it; the next try takes the same name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.part")
    with content, temporary.open("wb") as file:
        shutil.copyfileobj(content, file, CHUNK_BYTES)
    temporary.replace(path)
