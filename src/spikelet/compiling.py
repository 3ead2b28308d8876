"""Compiling with numba: what all of its users share. The first compilation in a process is announced."""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

from numba import extending, njit
from numba.core import event


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` at its first call, to run without the interpreter's lock, and keep the result on disk."""
    _announce()
    return njit(cache=True, nogil=True, boundscheck=False)(function)


def intrinsic(build: Callable[..., Any]) -> Callable[..., Any]:
    """numba's, typed as what it is in compiled code: a function without the typing context."""
    _announce()
    return extending.intrinsic(build)


@cache
def _announce() -> None:
    """From now on the logger "spikelet" is told, and prints, when a kernel was not used on this machine before."""
    event.register("numba:compile", _Announcer())


class _Announcer(event.Listener):
    def on_start(self, event: event.Event) -> None:
        if event.data["dispatcher"].py_func.__module__.startswith("spikelet."):  # others may use numba as well
            _say()

    def on_end(self, event: event.Event) -> None:
        pass


@cache
def _say() -> None:
    logging.getLogger("spikelet").warning(
        "compiling kernels that were not used on this machine before; it takes up to a minute"
    )
