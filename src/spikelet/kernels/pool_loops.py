"""The compiled passes of max pooling: rows of windows, a vector of channels at a time.

Memory is channels_last: a pixel's channels lie side by side. Where their number is no multiple of the lanes, the last
vector overlaps the one before it and writes the same once more. Arguments come as the address of an int64 array, whose
fields are named below; the type of that pointer says what x and out hold: float32, or the bits of bfloat16.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, literally

from spikelet.kernels.cpu_loops import elements, inlined, pointer, take, untyped
from spikelet.kernels.vectors import all_of, beats, choose, equals, load, none_of, store

NEXT, ROWS, SIZE, CHANNELS, HEIGHT, WIDTH, WINDOW, X, OUT, INDEX = range(10)
FIELDS = 10


def entries(lanes: int, version: int) -> dict[str, Callable[[Any], None]]:
    """The passes for vectors of ``lanes`` <= channels, by name, still to be compiled. ``version``: as in cpu_passes.

    They close over nothing but numbers, or numba's cache on disk would not know them again.
    """

    def forward(sample):
        if version >= 0:
            a, x, out, index = _arguments(sample)
            start = take(a) * a[SIZE]
            while start < a[ROWS]:
                for row in range(start, min(start + a[SIZE], a[ROWS])):
                    _forward_row(a, row, x, out, index, lanes)
                start = take(a) * a[SIZE]

    def backward(sample):
        if version >= 0:
            a, x, out, index = _arguments(sample)
            start = take(a) * a[SIZE]
            while start < a[ROWS]:
                for row in range(start, min(start + a[SIZE], a[ROWS])):
                    _backward_row(a, row, x, out, index, lanes)
                    _clear_rest(a, row, x)
                start = take(a) * a[SIZE]

    return {f.__name__: f for f in (forward, backward)}


@inlined
def _arguments(sample):
    """(fields, x or its gradient, output or its gradient, index); the last three flat."""
    a = carray(untyped(sample), FIELDS, np.int64)
    pixels = a[ROWS] // (a[HEIGHT] // a[WINDOW]) * a[HEIGHT] * a[WIDTH]
    windows = a[ROWS] * (a[WIDTH] // a[WINDOW])
    x = carray(elements(a[X], sample), pixels * a[CHANNELS])
    out = carray(elements(a[OUT], sample), windows * a[CHANNELS])
    return a, x, out, carray(pointer(a[INDEX]), windows * a[CHANNELS], np.uint8)


@inlined
def _first(a, row):
    """Where in x the first pixel of the windows of output row ``row`` lies."""
    high = a[HEIGHT] // a[WINDOW]
    return (row // high * a[HEIGHT] + row % high * a[WINDOW]) * a[WIDTH] * a[CHANNELS]


@inlined
def _forward_row(a, row, x, out, index, lanes):
    """out = the largest of each window, index = which one that was, counted row by row; unless a[INDEX] is 0."""
    literally(lanes)
    channels, window, wide = a[CHANNELS], a[WINDOW], a[WIDTH] // a[WINDOW]
    keep, line = a[INDEX] != 0, a[WIDTH] * channels
    first = _first(a, row)
    for column in range(wide):
        for block in range(0, channels, lanes):
            shift = min(block, channels - lanes)
            at = first + column * window * channels + shift
            best, which = load(x, at, lanes), all_of(0, lanes)
            for k in range(1, window * window):
                value = load(x, at + k // window * line + k % window * channels, lanes)
                better = beats(value, best)
                best, which = choose(better, value, best), choose(better, all_of(k, lanes), which)
            to = (row * wide + column) * channels + shift
            store(out, to, best)
            if keep:
                store(index, to, which)


@inlined
def _backward_row(a, row, x, out, index, lanes):
    """x = out at the pixel of each window that index names, 0 at the others."""
    literally(lanes)
    channels, window, wide = a[CHANNELS], a[WINDOW], a[WIDTH] // a[WINDOW]
    line, first = a[WIDTH] * channels, _first(a, row)
    for column in range(wide):
        for block in range(0, channels, lanes):
            shift = min(block, channels - lanes)
            at = first + column * window * channels + shift
            given = (row * wide + column) * channels + shift
            grad, which = load(out, given, lanes), load(index, given, lanes)
            for k in range(window * window):
                chosen = choose(equals(which, all_of(k, lanes)), grad, none_of(grad))
                store(x, at + k // window * line + k % window * channels, chosen)


@inlined
def _clear_rest(a, row, x):
    """x = 0 in the columns right of this row's windows, and in the rows below the last windows of a picture."""
    window, line = a[WINDOW], a[WIDTH] * a[CHANNELS]
    used = a[WIDTH] // window * window * a[CHANNELS]
    first, high = _first(a, row), a[HEIGHT] // window
    for i in range(window):
        x[first + i * line + used : first + (i + 1) * line] = 0
    if row % high == high - 1:
        x[first + window * line : first + (window + a[HEIGHT] % window) * line] = 0
