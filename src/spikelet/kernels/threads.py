"""Compiled functions on torch's own threads.

A second pool of threads would fight for the cores with torch's, whose threads spin for a while after each of its calls.
So a kernel asks the OpenMP runtime that torch has loaded to run it on the threads that torch already keeps (12 µs per
call). Where there is no such runtime (macOS, torch without OpenMP), threads of Python do it.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch

_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
Team = Callable[[int, int, int], None]


def recorded() -> bool:
    """Whether torch is compiling or tracing what is called. It would not see a compiled function, only its memory."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def run(entry: int, arguments: int, parallel: bool) -> None:
    """Call the C function at address ``entry`` with the address ``arguments``, on each of torch's threads at once."""
    threads = torch.get_num_threads() if parallel else 1
    if threads > 1:
        team()(entry, arguments, threads)
    else:
        _ENTRY(entry)(arguments)


@cache
def team() -> Team:
    """How several threads run one function here."""
    return _openmp() or _python


def _openmp() -> Team | None:
    try:
        start: Any = ctypes.CDLL(None).GOMP_parallel  # in libgomp and, for its sake, in LLVM's and Intel's runtimes
    except (AttributeError, OSError, TypeError):
        return None
    start.argtypes, start.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return lambda entry, arguments, threads: start(entry, arguments, threads, 0)


def _python(entry: int, arguments: int, threads: int) -> None:
    call = _ENTRY(entry)  # ctypes lets go of the interpreter's lock
    others = [_pool(os.getpid()).submit(call, arguments) for _ in range(threads - 1)]
    call(arguments)
    for other in others:
        other.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads of this process: after a fork there are none."""
    return ThreadPoolExecutor(thread_name_prefix="spikelet")
