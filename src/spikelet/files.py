"""Files that are there whole or not at all: written under a temporary name beside their place, then renamed."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, whose folder is made: renamed at the end, gone where something went wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, contents: bytes | str) -> Path:
    """Write a file that is whole or not there at all, and its folder; returns ``path``."""
    with whole_file(path) as temporary:
        temporary.write_bytes(contents.encode() if isinstance(contents, str) else contents)
    return path
