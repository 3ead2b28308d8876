"""What the command line of every benchmark has: threads, rounds, and the file that its figures go to."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spikelet.files import write_whole


def command(doc: str | None, rounds: int) -> argparse.ArgumentParser:
    """A parser with ``--threads``, ``--rounds`` and ``--json``, whose help is the benchmark's docstring."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--rounds", type=positive, default=rounds, help=f"default: {rounds}")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    return parser


def positive(text: str) -> int:
    """A whole number of at least 1; argparse says it where it is none."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """A time above 0."""
    try:
        if 0 < float(text) < float("inf"):
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected seconds, more than 0, got {text!r}")


def in_rounds(number: int) -> Iterator[int]:
    """0 .. number - 1; on a terminal it shows how far they are."""
    shown = sys.stderr.isatty()
    for i in range(number):
        if shown:
            print(f"\rround {i + 1} of {number}", end="", file=sys.stderr, flush=True)
        yield i
    if shown:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def keep(result: dict[str, Any], path: Path | None) -> None:
    """Write the figures, where a file for them was named."""
    if path is not None:
        write_whole(path, json.dumps(result, indent=2) + "\n")
