"""The compiled passes of time surfaces: a thread takes one recording after the other, step by step, event by event.

Traces do not decay here, events grow: in step t an event adds exp(rate * t) to its site, so that only sites with events
are touched, and the traces that a patch is made of are

    D[t] = a - b = exp(-rate1 * t) * (A - ratio * B),    ratio = exp((rate1 - rate2) * t)

whose first factor the norm takes away. Now and then both are brought down again. A patch is read a row at a time, in
vectors with room for it; what is beyond is masked out of the norm and left behind when sums leave the thread's memory.

Arguments come as an int64 array, whose fields are named below.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import carray, literally

from spikelet.kernels.cpu_loops import inlined, pointer, take
from spikelet.kernels.vectors import (
    load,
    minus_product,
    none_of,
    plus_product,
    spread,
    store,
    total,
)

(NEXT, FAULT, RECORDINGS, STEPS, WIDTH, SITES, LINES, LINE, TRACES, ROWS, COLUMNS, CELLS,
 EVENT_STEPS, EVENT_SITES, STARTS, LINE_TABLE, COLUMN_TABLE, NUMBERS, WEIGHT, WEIGHTS, OUT) = range(21)  # fmt: skip
FIELDS = 21
RATE1, RATE2, SECOND = range(3)
HIGHEST = 20.0  # exponent up to which events grow
NOTHING = np.float32(1e-15)  # what is brought down below this no longer counts beside a new event
LEAST = np.float32(1e-12)  # norm that a patch is divided by


class Work(NamedTuple):
    """A thread's own memory."""

    first: Any  # A of every site, with a margin
    second: Any  # B
    since: Any  # the step in which both were last brought down
    mask: Any  # 1 within a row of a patch, 0 beyond
    sums: Any  # of each cell, or its gradients: rows of a patch, filled up to whole vectors
    seen: Any  # of each cell, the last step in which it had an event, counted over all recordings
    touched: Any  # the cells of this step


class Events(NamedTuple):
    """What all threads read."""

    steps: Any  # of each event
    sites: Any
    lines: Any  # of each line of the sensor: its first place among the traces, its cells' first number, its weights'
    columns: Any  # of each column, what is added to these
    inverse: Any  # 1 / WIDTH


def entries(lanes: int, version: int) -> dict[str, Callable[[Any], None]]:
    """The passes for vectors of ``lanes``, by name, still to be compiled. ``version``: as in cpu_passes.

    They close over nothing but numbers, or numba's cache on disk would not know them again.
    """

    def forward(sample):
        if version >= 0:
            a = carray(sample, FIELDS)
            events, work = _events(a), _work(a, lanes)
            weight = carray(pointer(a[WEIGHT]), a[WEIGHTS], np.float32)
            recording = take(a)
            while recording < a[RECORDINGS]:
                _forward(a, recording, events, work, weight, lanes)
                recording = take(a)

    def backward(sample):
        if version >= 0:
            a = carray(sample, FIELDS)
            events, work = _events(a), _work(a, lanes)
            recording = take(a)
            while recording < a[RECORDINGS]:
                at = a[WEIGHT] + 8 * a[WEIGHTS] * recording
                _backward(a, recording, events, work, carray(pointer(at), a[WEIGHTS], np.float64), lanes)
                recording = take(a)

    return {f.__name__: f for f in (forward, backward)}


# ---------------------------------------------------------------- memory


@inlined
def _events(a):
    starts = carray(pointer(a[STARTS]), a[RECORDINGS] + 1, np.int64)
    steps = carray(pointer(a[EVENT_STEPS]), starts[a[RECORDINGS]], np.int32)
    sites = carray(pointer(a[EVENT_SITES]), starts[a[RECORDINGS]], np.int32)
    lines = carray(pointer(a[LINE_TABLE]), 3 * a[LINES], np.int64)
    columns = carray(pointer(a[COLUMN_TABLE]), 3 * a[WIDTH], np.int64)
    return Events(steps, sites, lines, columns, 1.0 / a[WIDTH])


@inlined
def _work(a, lanes):
    wide = _wide(a, lanes)
    mask = np.zeros(wide, np.float32)
    mask[: a[COLUMNS]] = 1
    first, second = np.zeros(a[TRACES] + wide, np.float32), np.zeros(a[TRACES] + wide, np.float32)
    sums = np.zeros(a[CELLS] * a[ROWS] * wide, np.float32)
    seen, touched = np.zeros(a[CELLS], np.int64), np.empty(a[CELLS], np.int64)
    return Work(first, second, np.zeros(1, np.int64), mask, sums, seen, touched)


@inlined
def _wide(a, lanes):
    """A row of a patch in whole vectors."""
    return -(-a[COLUMNS] // lanes) * lanes


@inlined
def _place(events, k, width):
    """Of event k: its place among the traces, its cell, its weight."""
    site = events.sites[k]
    line = np.int64((site + 0.5) * events.inverse)  # site // width, exact for all that fits 32 bits, and faster
    column = site - line * width
    lines, columns = events.lines, events.columns
    return (
        lines[3 * line] + columns[3 * column],
        lines[3 * line + 1] + columns[3 * column + 1],
        lines[3 * line + 2] + columns[3 * column + 2],
    )


# ---------------------------------------------------------------- traces


@inlined
def _span(a, recording):
    starts = carray(pointer(a[STARTS]), a[RECORDINGS] + 1, np.int64)
    return starts[recording], starts[recording + 1]


@inlined
def _end(a, events, k, stop, step):
    """Where the events of ``step`` end, of which event k is the first if there is one; a fault where they cannot be."""
    while k < stop and events.steps[k] == step:
        a[FAULT] |= events.sites[k] < 0 or events.sites[k] >= a[SITES]
        k += 1
    return k


@inlined
def _grow(a, events, work, start, stop, step):
    """The events of ``step`` into the traces. Returns (ratio of second to first, what an event added to the first)."""
    numbers = carray(pointer(a[NUMBERS]), 3, np.float64)
    rate1, rate2 = numbers[RATE1], numbers[RATE2]
    age = step - work.since[0]
    if age * rate1 > HIGHEST:
        _bring_down(work.first, np.float32(math.exp(-rate1 * age)))
        _bring_down(work.second, np.float32(math.exp(-rate2 * age)))
        work.since[0], age = step, 0
    grown = np.float32(math.exp(rate1 * age))
    second = np.float32(numbers[SECOND] * math.exp(rate2 * age))
    for k in range(start, stop):
        at = _place(events, k, a[WIDTH])[0] + a[ROWS] // 2 * a[LINE] + a[COLUMNS] // 2
        work.first[at] += grown
        work.second[at] += second
    return np.float32(math.exp((rate1 - rate2) * age)), grown


@inlined
def _bring_down(traces, factor):
    for i in range(len(traces)):
        value = traces[i] * factor
        traces[i] = value if value > NOTHING else np.float32(0)


@inlined
def _rest(a, events, work, start, stop):
    """Everything as it was before a recording."""
    work.since[0] = 0
    if 4 * (stop - start) > a[TRACES]:
        work.first[:], work.second[:] = 0, 0
    else:
        for k in range(start, stop):
            at = _place(events, k, a[WIDTH])[0] + a[ROWS] // 2 * a[LINE] + a[COLUMNS] // 2
            work.first[at], work.second[at] = 0, 0


@inlined
def _norm(a, work, at, ratio, lanes):
    """Of A - ratio * B over the patch whose first site is ``at``."""
    literally(lanes)
    squares = none_of(load(work.mask, 0, lanes))
    for row in range(a[ROWS]):
        for block in range(0, len(work.mask), lanes):
            here = at + row * a[LINE] + block
            value = minus_product(load(work.first, here, lanes), ratio, load(work.second, here, lanes))
            value = value * load(work.mask, block, lanes)
            squares = plus_product(squares, value, value)
    return math.sqrt(total(squares))


# ---------------------------------------------------------------- forward


@inlined
def _forward(a, recording, events, work, weight, lanes):
    """All currents of one recording."""
    literally(lanes)
    start, stop = _span(a, recording)
    size = a[ROWS] * a[COLUMNS] * a[CELLS]
    k = start
    for step in range(a[STEPS]):
        end = _end(a, events, k, stop, step)
        row = step * a[RECORDINGS] + recording
        out = carray(pointer(a[OUT] + 4 * row * size), size, np.float32)
        count = 0
        if end > k and not a[FAULT]:
            count = _add(a, events, work, weight, (k, end, step, recording * a[STEPS] + step + 1), lanes)
        _leave(a, work, count, out)
        k = end
    a[FAULT] |= k < stop
    if not a[FAULT]:
        _rest(a, events, work, start, stop)


@inlined
def _add(a, events, work, weight, span, lanes):
    """The patches of the events of a step into the sums of their cells; returns how many cells were touched."""
    literally(lanes)
    start, stop, step, tick = span
    found, grown = _grow(a, events, work, start, stop, step)
    ratio = spread(found, lanes)
    wide = len(work.mask)
    size, count = a[ROWS] * wide, 0
    for k in range(start, stop):
        at, cell, w = _place(events, k, a[WIDTH])
        if work.seen[cell] != tick:
            work.seen[cell], work.touched[count] = tick, cell
            work.sums[cell * size : (cell + 1) * size] = 0
            count += 1
        norm = np.float32(_norm(a, work, at, ratio, lanes))
        scale = spread(weight[w] / max(norm, LEAST * grown), lanes)
        for row in range(a[ROWS]):
            for block in range(0, wide, lanes):
                here, to = at + row * a[LINE] + block, cell * size + row * wide + block
                value = minus_product(load(work.first, here, lanes), ratio, load(work.second, here, lanes))
                store(work.sums, to, plus_product(load(work.sums, to, lanes), scale, value))
    return count


@inlined
def _leave(a, work, count, out):
    """The sums of the cells that were touched to ``out`` [ROWS * COLUMNS, CELLS], 0 for the others."""
    wide, cells = len(work.mask), a[CELLS]
    if count < cells:
        out[:] = 0
    for i in range(count):
        cell = work.touched[i]
        for row in range(a[ROWS]):
            given = (cell * a[ROWS] + row) * wide
            for column in range(a[COLUMNS]):
                out[(row * a[COLUMNS] + column) * cells + cell] = work.sums[given + column]


# ---------------------------------------------------------------- backward


@inlined
def _backward(a, recording, events, work, sums, lanes):
    """The gradient of the weights from one recording, into ``sums``, which are 0."""
    literally(lanes)
    start, stop = _span(a, recording)
    size = a[ROWS] * a[COLUMNS] * a[CELLS]
    k = start
    for step in range(a[STEPS]):
        end = _end(a, events, k, stop, step)
        if end > k and not a[FAULT]:
            row = step * a[RECORDINGS] + recording
            grad = carray(pointer(a[OUT] + 4 * row * size), size, np.float32)
            _meet(a, events, work, sums, grad, (k, end, step, recording * a[STEPS] + step + 1), lanes)
        k = end
    a[FAULT] |= k < stop
    if not a[FAULT]:
        _rest(a, events, work, start, stop)


@inlined
def _meet(a, events, work, sums, grad, span, lanes):
    """The patches of the events of a step times the gradients of their cells."""
    literally(lanes)
    start, stop, step, tick = span
    found, grown = _grow(a, events, work, start, stop, step)
    ratio = spread(found, lanes)
    wide = len(work.mask)
    size = a[ROWS] * wide
    for k in range(start, stop):
        at, cell, w = _place(events, k, a[WIDTH])
        if work.seen[cell] != tick:
            work.seen[cell] = tick
            _fetch(a, work, cell, grad)
        norm = np.float32(_norm(a, work, at, ratio, lanes))
        dot = none_of(ratio)
        for row in range(a[ROWS]):
            for block in range(0, wide, lanes):
                here, given = at + row * a[LINE] + block, cell * size + row * wide + block
                value = minus_product(load(work.first, here, lanes), ratio, load(work.second, here, lanes))
                dot = plus_product(dot, value, load(work.sums, given, lanes))
        sums[w] += np.float64(total(dot) / max(norm, LEAST * grown))


@inlined
def _fetch(a, work, cell, grad):
    """The gradients of a cell, from [ROWS * COLUMNS, CELLS]; beyond a row's end they stay 0."""
    wide = len(work.mask)
    for row in range(a[ROWS]):
        to = (cell * a[ROWS] + row) * wide
        for column in range(a[COLUMNS]):
            work.sums[to + column] = grad[(row * a[COLUMNS] + column) * a[CELLS] + cell]
