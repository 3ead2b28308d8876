"""The compiled passes of a convolution of spikes and its pooling: one picture at a time, event by event.

An event is a number of the input that is not 0. It adds its rows of weights to the rows of outputs that it reaches, so
time grows with the events, not with the neurons. Sums go into a picture of the thread's own, in which a pixel's
channels take up whole vectors; what leaves it is pooled already. Events are sorted by channel, then column, then row:
every output is summed in this order, whatever else is in the batch, so equal sums are equal bit for bit.

Arguments come as an int64 array, whose fields are named below. Weights: [C, h, w, D] with w counted from the right for
``forward`` and ``backward_weight``, [D, h, w, C] for ``backward_input``; the last axis filled up with zeros to whole
vectors.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import carray, literally

from spikelet.kernels.cpu_loops import compiled, pointer, take
from spikelet.kernels.vectors import (
    LANES,
    add_product,
    all_of,
    beats,
    choose,
    equals,
    load,
    lowest,
    none_of,
    nonzero,
    store,
)

PLACES = 15 * 15  # in the largest window
SHIFT = 40  # k // d is k * (2 ** 40 // d + 1) >> 40 for k * d < 2 ** 40 and k < 2 ** 22

(NEXT, SLOT, IMAGES, CHUNK, CHANNELS_LAST, C, H, W, D, ROWS, COLUMNS, KERNEL_H, KERNEL_W, PAD_H, PAD_W, WINDOW,
 X, WEIGHT, BIAS, OUT, INDEX, FLOATS, INTS, FLOATS_SIZE, INTS_SIZE) = range(25)  # fmt: skip
FIELDS = 25


class Work(NamedTuple):
    """A thread's own memory."""

    image: Any  # sums, or gradients, of one picture
    places: Any  # of the events, and once more sorted
    sorted_places: Any
    values: Any
    sorted_values: Any
    first: Any  # where the events of each channel and column start


def sizes(c: int, h: int, w: int, image: int) -> tuple[int, int]:
    """How many float32 and int32 a thread needs; ``image``: of the picture it sums in, whole vectors.

    Pictures start where vectors do not cross lines of the cache.
    """
    events = max(c * h * w, PLACES)
    return image + -(-2 * events // LANES) * LANES, 2 * events + c * w + 2


def entries(lanes: int, vectors: int, version: int) -> dict[str, Callable[[Any], None]]:
    """The passes, by name, still to be compiled.

    Pooling takes ``lanes`` <= D channels at a time. Sums take ``vectors`` at a time: a divisor of the vectors of D in
    ``forward`` and ``backward_weight``, of those of a row of weights in ``backward_input``. ``version``: as in
    cpu_passes. They close over nothing but numbers, or numba's cache on disk would not know them again.
    """

    def forward(sample):
        if version >= 0:
            a, work = _begin(sample)
            x, weight = _floats(a[X], a[IMAGES] * a[C] * a[H] * a[W]), _weights(a, a[C], a[D])
            image = take(a)
            while image < a[IMAGES]:
                _gather(a, x, image, work)
                _fill(a, work)
                _meet(a, work, weight, vectors, 0)
                _pool(a, image, work, lanes)
                image = take(a)

    def backward_weight(sample):
        if version >= 0:
            a, work = _begin(sample)
            x = _floats(a[X], a[IMAGES] * a[C] * a[H] * a[W])
            size = a[C] * a[KERNEL_H] * a[KERNEL_W] * _whole(a[D])
            chunk = take(a)
            while chunk * a[CHUNK] < a[IMAGES]:
                total = _floats(a[WEIGHT] + 4 * chunk * size, size)
                for image in range(chunk * a[CHUNK], min((chunk + 1) * a[CHUNK], a[IMAGES])):
                    _gather(a, x, image, work)
                    _unpool(a, image, work, lanes)
                    _meet(a, work, total, vectors, 1)
                chunk = take(a)

    def backward_input(sample):
        if version >= 0:
            a, work = _begin(sample)
            x, weight = _floats(a[X], a[IMAGES] * a[C] * a[H] * a[W]), _weights(a, a[D], a[C])
            image = take(a)
            while image < a[IMAGES]:
                _give_back(a, image, work, weight, vectors)
                _cut(a, image, work, x)
                image = take(a)

    return {f.__name__: f for f in (forward, backward_weight, backward_input)}


# ---------------------------------------------------------------- memory


@compiled
def _floats(address, size):
    return carray(pointer(address), size, np.float32)


@compiled
def _bytes(address, size):
    return carray(pointer(address), size, np.uint8)


@compiled
def _whole(channels):
    """The next multiple of the lanes."""
    return (channels + LANES - 1) // LANES * LANES


@compiled
def _weights(a, outer, inner):
    return _floats(a[WEIGHT], outer * a[KERNEL_H] * a[KERNEL_W] * _whole(inner))


@compiled
def _begin(sample):
    """The fields, and a part of the scratch memory that no other thread gets."""
    a = carray(sample, FIELDS)
    slot, events = take(a[SLOT:]), max(a[C] * a[H] * a[W], PLACES)
    floats = _floats(a[FLOATS] + 4 * slot * a[FLOATS_SIZE], a[FLOATS_SIZE])
    ints = carray(pointer(a[INTS] + 4 * slot * a[INTS_SIZE]), a[INTS_SIZE], np.int32)
    places, sorted_places, first = ints[:events], ints[events : 2 * events], ints[2 * events :]
    image, values = floats[: len(floats) - 2 * events], floats[len(floats) - 2 * events :]
    values, sorted_values = values[:events], values[events:]
    return a, Work(image, places, sorted_places, values, sorted_values, first)


# ---------------------------------------------------------------- events


@compiled
def _gather(a, x, image, work):
    """List the events of a picture of ``x`` by channel, column and row: neighbours reach as many outputs of a row."""
    first, places, values = work.first, work.places, work.values
    size = a[C] * a[H] * a[W]
    inner = a[C] if a[CHANNELS_LAST] else a[H] * a[W]
    share, share_of_lines = (1 << SHIFT) // inner + 1, (1 << SHIFT) // a[W] + 1
    base, n = image * size, 0
    for start in range(0, size - LANES + 1, LANES):
        bits = nonzero(x, base + start, LANES)
        while bits:
            k = start + lowest(bits)
            places[n], values[n] = k, x[base + k]
            n, bits = n + 1, bits & (bits - 1)
    for k in range(size // LANES * LANES, size):
        if x[base + k] != 0:
            places[n], values[n] = k, x[base + k]
            n += 1
    first[:] = 0
    for i in range(n):
        c, _, column = _split(a, places[i], share, share_of_lines)
        first[c * a[W] + column + 2] += 1
    for i in range(1, len(first)):
        first[i] += first[i - 1]
    for i in range(n):
        c, row, column = _split(a, places[i], share, share_of_lines)
        to = first[c * a[W] + column + 1]
        work.sorted_places[to], work.sorted_values[to] = row << 16 | column, values[i]
        first[c * a[W] + column + 1] = to + 1


@compiled
def _split(a, place, share, share_of_lines):
    """(channel, row, column) of a place in memory."""
    inner = a[C] if a[CHANNELS_LAST] else a[H] * a[W]
    quotient = place * share >> SHIFT
    rest = place - quotient * inner
    c, pixel = (rest, quotient) if a[CHANNELS_LAST] else (quotient, rest)
    row = pixel * share_of_lines >> SHIFT
    return c, row, pixel - row * a[W]


@compiled
def _meet(a, work, weight, vectors, learning):
    """image += what each event sends by its weights; or, where ``learning``, weight += what each event says of them.

    Then the image holds the gradients of the outputs.
    """
    literally(vectors)
    literally(learning)
    depth, kernel_h, kernel_w, rows, columns = _whole(a[D]), a[KERNEL_H], a[KERNEL_W], a[ROWS], a[COLUMNS]
    image, places, values = work.image, work.sorted_places, work.sorted_values
    for c in range(a[C]):
        for i in range(work.first[c * a[W]], work.first[(c + 1) * a[W]]):
            y, left = (places[i] >> 16) + a[PAD_H], (places[i] & 0xFFFF) + a[PAD_W] - kernel_w + 1
            low, high, value = max(0, -left), min(kernel_w, columns - left), values[i]
            for k in range(max(0, y - rows + 1), min(kernel_h, y + 1)):
                output = ((y - k) * columns + left + low) * depth
                tap = ((c * kernel_h + k) * kernel_w + low) * depth
                for j in range(0, (high - low) * depth, LANES * vectors):
                    if learning:
                        add_product(weight, tap + j, image, output + j, value, vectors)
                    else:
                        add_product(image, output + j, weight, tap + j, value, vectors)


@compiled
def _give_back(a, image, work, weight, vectors):
    """The work's image = the gradient of the padded input: each gradient of the output sends its weights."""
    literally(vectors)
    depth, window, high, wide = _whole(a[C]), a[WINDOW], a[ROWS] // a[WINDOW], a[COLUMNS] // a[WINDOW]
    count, kernel_h, row_of_weights, line = a[D], a[KERNEL_H], a[KERNEL_W] * depth, (a[W] + 2 * a[PAD_W]) * depth
    grad, index = (
        _floats(a[OUT], a[IMAGES] * high * wide * count),
        _bytes(a[INDEX], a[IMAGES] * high * wide * count),
    )
    pixels, offsets = work.image, work.places
    for k in range(window * window):
        offsets[k] = k // window * line + k % window * depth
    pixels[:] = 0
    for d in range(count):
        given = image * high * wide * count + d
        for row in range(high):
            for column in range(wide):
                value = grad[given]
                if value != 0:
                    to = (row * line + column * depth) * window + offsets[index[given]]
                    start = d * kernel_h * row_of_weights
                    for _ in range(kernel_h):
                        for j in range(0, row_of_weights, LANES * vectors):
                            add_product(pixels, to + j, weight, start + j, value, vectors)
                        to, start = to + line, start + row_of_weights
                given += count


@compiled
def _cut(a, image, work, x):
    """x = the image without its padding."""
    depth, wide = _whole(a[C]), a[W] + 2 * a[PAD_W]
    for row in range(a[H]):
        for column in range(a[W]):
            to = ((image * a[H] + row) * a[W] + column) * a[C]
            start = ((row + a[PAD_H]) * wide + column + a[PAD_W]) * depth
            for c in range(a[C]):
                x[to + c] = work.image[start + c]


# ---------------------------------------------------------------- pooling


@compiled
def _fill(a, work):
    """image = the bias, which is filled up with zeros, everywhere."""
    depth = _whole(a[D])
    bias = _floats(a[BIAS], depth)
    for pixel in range(a[ROWS] * a[COLUMNS]):
        for j in range(0, depth, LANES):
            store(work.image, pixel * depth + j, load(bias, j, LANES))


@compiled
def _pool(a, image, work, lanes):
    """out = the largest of each window of the image, index = which one that was, unless a[INDEX] is 0."""
    literally(lanes)
    depth, window, wide = _whole(a[D]), a[WINDOW], a[COLUMNS] // a[WINDOW]
    windows = a[ROWS] // window * wide
    out, index = _floats(a[OUT], a[IMAGES] * windows * a[D]), _bytes(a[INDEX], a[IMAGES] * windows * a[D])
    for place in range(windows):
        first = (place // wide * window * a[COLUMNS] + place % wide * window) * depth
        for block in range(0, a[D], lanes):
            shift = min(block, a[D] - lanes)
            best, which = load(work.image, first + shift, lanes), all_of(0, lanes)
            for k in range(1, window * window):
                at = first + (k // window * a[COLUMNS] + k % window) * depth + shift
                value = load(work.image, at, lanes)
                better = beats(value, best)
                best, which = choose(better, value, best), choose(better, all_of(k, lanes), which)
            to = (image * windows + place) * a[D] + shift
            store(out, to, best)
            if a[INDEX] != 0:
                store(index, to, which)


@compiled
def _unpool(a, image, work, lanes):
    """image = the gradient of each window at the place that index names, 0 elsewhere; windows of 1 have no index."""
    literally(lanes)
    depth, window, wide = _whole(a[D]), a[WINDOW], a[COLUMNS] // a[WINDOW]
    windows = a[ROWS] // window * wide
    out, index = _floats(a[OUT], a[IMAGES] * windows * a[D]), _bytes(a[INDEX], a[IMAGES] * windows * a[D])
    for place in range(windows):
        first = (place // wide * window * a[COLUMNS] + place % wide * window) * depth
        for block in range(0, a[D], lanes):
            shift = min(block, a[D] - lanes)
            given = (image * windows + place) * a[D] + shift
            grad = load(out, given, lanes)
            if window == 1:
                store(work.image, first + shift, grad)
            else:
                which = load(index, given, lanes)
                for k in range(window * window):
                    chosen = choose(equals(which, all_of(k, lanes)), grad, none_of(grad))
                    store(work.image, first + (k // window * a[COLUMNS] + k % window) * depth + shift, chosen)
