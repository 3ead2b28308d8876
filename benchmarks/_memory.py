"""By how much a process's peak of memory grows while something runs."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

from spikelet import doctor


def growth(run: Callable[[], object]) -> float:
    """MiB. Everything is best loaded, compiled and warm before: what follows is then the work's own.

    Memory that loading left free goes back to the system first, or the work could hide in it.
    """
    gc.collect()
    if doctor.has_glibc():
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    run()
    return (_status("VmHWM") - before) / 1024


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{key}:")))
