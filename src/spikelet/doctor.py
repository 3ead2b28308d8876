"""What this machine offers, what spikelet found on it, and how a command sets it for its work."""

import ctypes
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("spikelet", "torch", "lightning", "hydra-core", "numba", "numpy", "safetensors")
TRIM_THRESHOLD, MMAP_MAX = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
EXTRAS = {"tensorboard": "tensorboard", "hydra-joblib-launcher": "joblib", "onnxruntime": "bench"}


def examine(root: Path | None = None) -> list[tuple[str, str]]:
    """Rows (what, finding): cores, vector units, GPU, threads, allocator, data sets, versions."""
    import torch

    rows = [
        ("machine", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"),
        ("cores", _cores()),
        (
            "vector units",
            f"{', '.join(vector_units()) or 'unknown'} (torch uses {torch.backends.cpu.get_cpu_capability()})",
        ),
        ("GPU", _gpu(torch)),
        ("threads", f"torch {torch.get_num_threads()}; num_threads=N sets them and the integer engine's"),
        ("allocator", allocator()),
    ]
    return rows + _data(root) + [("versions", ", ".join(_version(p) for p in PACKAGES)), ("extras", _extras())]


def _cores() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{usable} usable of {os.cpu_count()}{load}"


def vector_units() -> list[str]:
    """The processor's vector extensions that matter here, where the system tells (Linux)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    avx512 = ("avx512f", "avx512bw", "avx512_vpopcntdq", "avx512_vnni", "avx512_bf16")
    wanted = ("avx2", "fma", *avx512, "amx_int8", "amx_bf16", "asimd", "sve")
    return [flag for flag in wanted if flag in flags]


def processor() -> str:
    """The processor's name and its vector units."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown processor"
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
    return f"{name}, {', '.join(vector_units())}"


def _gpu(torch) -> str:
    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built for the CPU"
        return f"none found ({built})"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{', '.join(names)} (CUDA {torch.version.cuda})"


def _data(root: Path | None) -> list[tuple[str, str]]:
    from spikelet.datasets import DATASETS

    return [(f"data {name}", f"{kind.status(root)} ({kind.where(root)})") for name, kind in DATASETS.items()]


def _extras() -> str:
    found = {extra: _version(package) for package, extra in EXTRAS.items()}
    return ", ".join(f"{extra}: {what}" for extra, what in found.items())


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} missing"


def prepare(num_threads: int | None) -> None:
    """Set torch's threads (None: leave them) and keep freed memory for the next tensor."""
    import torch

    if num_threads is not None:
        torch.set_num_threads(num_threads)
    keep_memory()


def keep_memory() -> bool:
    """Tell glibc never to give memory back: no page faults for the next tensor of that size. False elsewhere."""
    if not has_glibc():
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(MMAP_MAX, 0)) and bool(libc.mallopt(TRIM_THRESHOLD, 2**31 - 1))


def has_glibc() -> bool:
    return sys.platform == "linux" and "CS_GNU_LIBC_VERSION" in os.confstr_names


def allocator() -> str:
    """Which allocator serves this process, and how it is set."""
    preloaded = [p for p in os.environ.get("LD_PRELOAD", "").split(":") if "malloc" in p]
    if preloaded:
        return f"{preloaded[0]} (LD_PRELOAD)"
    if not has_glibc():
        return "the system's, as it is"
    tuned = [f"{k}={v}" for k, v in os.environ.items() if k.startswith("MALLOC_") or k == "GLIBC_TUNABLES"]
    state = "defaults; train, convert and evaluate set: no trim, no mmap"
    return f"{os.confstr('CS_GNU_LIBC_VERSION')}, {', '.join([state, *tuned])}"
