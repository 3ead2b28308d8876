"""The device that a benchmark runs on: its name, waiting for it, and by how much its memory grows."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

from spikelet import doctor


def check(device: str) -> None:
    """End the program with a message where there is no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device: torch finds no GPU here; expected cpu, got cuda")


def described(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else doctor.processor()


def wait(device: str) -> None:
    """Until a GPU has done what it was given; a CPU always has."""
    if device == "cuda":
        torch.cuda.synchronize()


def growth(run: Callable[[], object], device: str = "cpu") -> float:
    """MiB by which the peak of memory grows while ``run`` runs: the process's, or what torch takes on a GPU.

    Everything is best loaded, compiled and warm before: what follows is then the work's own. Memory that loading left
    free goes back to the system first, or the work could hide in it.
    """
    gc.collect()
    if device == "cuda":
        return _growth_on_gpu(run)
    if doctor.has_glibc():
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    run()
    return (_status("VmHWM") - before) / 1024


def _growth_on_gpu(run: Callable[[], object]) -> float:
    wait("cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    wait("cuda")
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{key}:")))
