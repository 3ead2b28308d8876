"""The compiled passes of a convolution of spikes and its pooling: one picture at a time, event by event.

An event is a number of the input that is not 0. It adds its rows of weights to the rows of outputs that it reaches, so
time grows with the events, not with the neurons. A picture is summed in a thread's own memory, a part of its channels
at a time, as many as keep a row of the kernel in registers; what leaves it is pooled already. Between the rows of that
picture are pixels that nobody reads, or that hold zeros, so that no event must know where a row ends.

Events are listed as they lie in memory: by channel, row and column, or, of a channels_last input, by column, row and
channel. Every output is summed in one order, whatever else is in the batch, so equal sums are equal bit for bit.

Arguments come as an int64 array, whose fields are named below. Weights: [D // part, C, h, w, part] with w counted from
the right for ``forward`` and, followed by a row for the bias, [D // part, C * h * w + 1, part] for ``backward_weight``;
[D, h, w, C] for ``backward_input``. The last axis is filled up with zeros to whole vectors, and ``part`` is some of
them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import carray, literally

from spikelet.kernels.cpu_loops import inlined, pointer, take
from spikelet.kernels.vectors import (
    LANES,
    add_block,
    add_product,
    all_of,
    beats,
    block,
    choose,
    equals,
    load,
    moved_on,
    none_of,
    nonzero,
    ones,
    plus_numbers,
    put_block,
    squeeze,
    steps,
    store,
)

PLACES = 15 * 15  # in the largest window

(NEXT, SLOT, IMAGES, CHUNK, CHANNELS_LAST, C, H, W, D, ROWS, COLUMNS, KERNEL_H, KERNEL_W, PAD_H, PAD_W, WINDOW,
 X, WEIGHT, BIAS, OUT, INDEX, FLOATS, INTS, FLOATS_SIZE, INTS_SIZE, EVENTS, PART) = range(27)  # fmt: skip
FIELDS = 27


class Work(NamedTuple):
    """A thread's own memory."""

    image: Any  # sums, or gradients, of one picture
    picture: Any  # of the input, channel by channel
    values: Any  # of the events
    places: Any  # of the first output that an event reaches in the image
    sources: Any  # of the first weight that it takes there
    first: Any  # where the events of each row begin


def sizes(c: int, h: int, w: int, image: int) -> tuple[int, int, int]:
    """How many float32 and int32 a thread needs, and how many events; ``image``: numbers of the picture it sums in.

    Pictures start where vectors do not cross lines of the cache.
    """
    events = max(c * h * w, PLACES) // LANES * LANES + LANES
    return image + 2 * events, 2 * events + max(c, w) * h + 1, events


def entries(taps: int, vectors: int, version: int) -> dict[str, Callable[[Any], None]]:
    """The passes, by name, still to be compiled.

    ``taps`` * ``vectors`` vectors are worked on at a time, in registers where these are wide and many: a row of the
    kernel, of ``vectors`` of channels of the output. In ``backward_input``, where PART means nothing, ``taps`` rows of
    the kernel, a divisor of its height, and ``vectors`` of those of a row of weights. ``version``: as in cpu_passes.
    They close over nothing but numbers, or numba's cache on disk would not know them again.
    """

    held = taps * vectors

    def slide(sample):
        if version >= 0:
            a, work = _begin(sample)
            x, weight = _input(a), _weights(a)
            image = take(a)
            while image < a[IMAGES]:
                _gather(a, x, image * a[C] * a[H] * a[W], a[CHANNELS_LAST], 1, work)
                for part in range(_parts(a) - 1, -1, -1):
                    _slide(a, part, work, weight, vectors, held)
                    _pool(a, image, part, work)
                image = take(a)

    def scatter(sample):
        if version >= 0:
            a, work = _begin(sample)
            x, weight = _input(a), _weights(a)
            image = take(a)
            while image < a[IMAGES]:
                _gather(a, x, image * a[C] * a[H] * a[W], a[CHANNELS_LAST], 0, work)
                for part in range(_parts(a) - 1, -1, -1):
                    _scatter(a, part, work, weight, vectors, held)
                    _pool(a, image, part, work)
                image = take(a)

    def backward_weight(sample):
        if version >= 0:
            a, work = _begin(sample)
            x, size = _input(a), (a[C] * a[KERNEL_H] * taps + 1) * vectors * LANES
            chunk = take(a)
            while chunk * a[CHUNK] < a[IMAGES]:
                total = _floats(a[WEIGHT] + 4 * chunk * _parts(a) * size, _parts(a) * size)
                for image in range(chunk * a[CHUNK], min((chunk + 1) * a[CHUNK], a[IMAGES])):
                    if a[CHANNELS_LAST]:
                        _turn(a, x, image, work.picture)
                        _gather(a, work.picture, 0, 0, 0, work)
                    else:
                        _gather(a, x, image * a[C] * a[H] * a[W], 0, 0, work)
                    for part in range(_parts(a)):
                        _unpool(a, image, part, work, total, (part + 1) * size - vectors * LANES)
                        _learn(a, work, total, part * size, held)
                chunk = take(a)

    def backward_input(sample):
        if version >= 0:
            a, work = _begin(sample)
            x, weight = _input(a), _floats(a[WEIGHT], a[D] * a[KERNEL_H] * a[KERNEL_W] * _whole(a[C]))
            image = take(a)
            while image < a[IMAGES]:
                _give_back(a, image, work, weight, taps, held)
                _cut(a, image, work, x)
                image = take(a)

    return {f.__name__: f for f in (slide, scatter, backward_weight, backward_input)}


# ---------------------------------------------------------------- memory


@inlined
def _floats(address, size):
    return carray(pointer(address), size, np.float32)


@inlined
def _bytes(address, size):
    return carray(pointer(address), size, np.uint8)


@inlined
def _whole(channels):
    """The next multiple of the lanes."""
    return (channels + LANES - 1) // LANES * LANES


@inlined
def _parts(a):
    return (a[D] + a[PART] - 1) // a[PART]


@inlined
def _input(a):
    return _floats(a[X], a[IMAGES] * a[C] * a[H] * a[W])


@inlined
def _weights(a):
    return _floats(a[WEIGHT], _parts(a) * a[PART] * a[C] * a[KERNEL_H] * a[KERNEL_W])


@inlined
def _line(a):
    """Pixels from one row of the image to the next."""
    return a[W] + 2 * a[PAD_W]


@inlined
def _begin(sample):
    """The fields, and a part of the scratch memory that no other thread gets."""
    a = carray(sample, FIELDS)
    slot, events = take(a[SLOT:]), a[EVENTS]
    floats = _floats(a[FLOATS] + 4 * slot * a[FLOATS_SIZE], a[FLOATS_SIZE])
    ints = carray(pointer(a[INTS] + 4 * slot * a[INTS_SIZE]), a[INTS_SIZE], np.int32)
    image = len(floats) - 2 * events
    picture, values = floats[image : image + events], floats[image + events :]
    return a, Work(floats[:image], picture, values, ints[:events], ints[events : 2 * events], ints[2 * events :])


# ---------------------------------------------------------------- events


@inlined
def _gather(a, x, start, channels_last, sliding, work):
    """List the events of the picture that begins at x[start].

    ``sliding``: a source is the row of weights that meets the first row of outputs, else the channel's first one.
    """
    c, h, w, depth, row_of_weights = a[C], a[H], a[W], a[PART], a[KERNEL_W] * a[PART]
    outer, inner, of_outer, of_row = (w, c, c, w * c) if channels_last else (c, w, h * w, w)
    of_channel, of_place = a[KERNEL_H] * row_of_weights, _line(a) * depth
    origin = a[PAD_H] * of_place + (a[PAD_W] + _line(a) - a[COLUMNS] - a[KERNEL_W] + 1) * depth
    place_step, source_step = (0, of_channel) if channels_last else (depth, 0)
    n = 0
    for i in range(outer):
        for row in range(h):
            work.first[i * h + row] = n
            base, place, source = start + i * of_outer + row * of_row, origin + row * of_place, 0
            if channels_last:
                place += i * depth
            else:
                source = i * of_channel
            if sliding:
                source += (row + a[PAD_H]) * row_of_weights
            for k in range(0, inner, LANES):
                if base + k + LANES <= len(x):
                    bits = nonzero(x, base + k, LANES) & ((1 << min(LANES, inner - k)) - 1)
                    squeeze(work.values, n, load(x, base + k, LANES), bits)
                    squeeze(work.places, n, steps(place + k * place_step, place_step), bits)
                    squeeze(work.sources, n, steps(source + k * source_step, source_step), bits)
                    n += ones(bits)
                else:
                    for j in range(k, inner):
                        if x[base + j] != 0:
                            work.values[n] = x[base + j]
                            work.places[n], work.sources[n] = place + j * place_step, source + j * source_step
                            n += 1
    work.first[outer * h] = n


@inlined
def _turn(a, x, image, picture):
    """picture = one of ``x``, which is channels_last, channel by channel."""
    c, pixels = a[C], a[H] * a[W]
    for pixel in range(pixels):
        for channel in range(c):
            picture[channel * pixels + pixel] = x[(image * pixels + pixel) * c + channel]


@inlined
def _slide(a, part, work, weight, vectors, held):
    """image = the convolution: along each row of outputs, ``taps`` of them take what the next column's events send.

    Events lie by column and row.
    """
    literally(vectors)
    literally(held)
    taps, depth, h, w, pads, columns = held // vectors, vectors * LANES, a[H], a[W], a[PAD_W], a[COLUMNS]
    bias = _floats(a[BIAS] + 4 * part * depth, depth)
    before, shift_of_part = _line(a) - a[COLUMNS], part * a[C] * a[KERNEL_H] * taps * depth
    start, fresh = block(weight, 0, held), block(bias, 0, vectors)
    for _ in range(taps):
        start = moved_on(start, fresh)
    for row in range(a[ROWS]):
        sums, shift, to = start, shift_of_part - row * taps * depth, (row * _line(a) + before - taps + 1) * depth
        low, stop = max(0, row - a[PAD_H]), min(h, row - a[PAD_H] + a[KERNEL_H])
        for column in range(-pads, columns + taps - 1 - pads):
            if 0 <= column < w and low < stop:
                for i in range(work.first[column * h + low], work.first[column * h + stop]):
                    sums = plus_numbers(sums, weight, work.sources[i] + shift, work.values[i])
            if column + pads >= taps - 1:
                put_block(work.image, to, sums, vectors)
            sums, to = moved_on(sums, fresh), to + depth


@inlined
def _scatter(a, part, work, weight, vectors, held):
    """image = the convolution: each event adds its rows of weights to rows of outputs."""
    literally(vectors)
    literally(held)
    depth, row_of_weights, h, line = vectors * LANES, held * LANES, a[H], _line(a) * vectors * LANES
    bias, shift = _floats(a[BIAS] + 4 * part * depth, depth), part * a[C] * a[KERNEL_H] * row_of_weights
    start = block(bias, 0, vectors)
    for pixel in range(len(work.image) // depth):
        put_block(work.image, pixel * depth, start, vectors)
    for group in range(a[W] * h if a[CHANNELS_LAST] else a[C] * h):
        row = group % h + a[PAD_H]
        low, stop = max(0, row - a[ROWS] + 1), min(a[KERNEL_H], row + 1)
        for i in range(work.first[group], work.first[group + 1]):
            place, source, value = work.places[i], work.sources[i] + shift, work.values[i]
            for k in range(low, stop):
                add_product(work.image, place - k * line, weight, source + k * row_of_weights, value, held)


@inlined
def _learn(a, work, total, start, held):
    """total[start] and what follows += what the events, by channel and row, say of the weights.

    The image holds the gradients of the outputs, and zeros.
    """
    literally(held)
    h, line, row_of_weights = a[H], _line(a) * a[PART], held * LANES
    for c in range(a[C]):
        for k in range(a[KERNEL_H]):
            low, stop = max(0, k - a[PAD_H]), min(h, k - a[PAD_H] + a[ROWS])
            begin, end = (work.first[c * h + low], work.first[c * h + stop]) if low < stop else (0, 0)
            if begin < end:
                sums = block(total, start, held)
                for i in range(begin, end):
                    sums = plus_numbers(sums, work.image, work.places[i] - k * line, work.values[i])
                put_block(total, start, sums, held)
            start += row_of_weights


@inlined
def _give_back(a, image, work, weight, taps, held):
    """The work's image = the gradient of the padded input: each gradient of the output sends its weights."""
    literally(taps)
    literally(held)
    depth, window, high, wide = _whole(a[C]), a[WINDOW], a[ROWS] // a[WINDOW], a[COLUMNS] // a[WINDOW]
    count, row_of_weights, line = a[D], a[KERNEL_W] * depth, _line(a) * depth
    (grad, index), pixels, offsets = _of_windows(a), work.image, work.places
    for k in range(window * window):
        offsets[k] = k // window * line + k % window * depth
    pixels[:] = 0
    for d in range(count):
        for k in range(0, a[KERNEL_H], taps):
            for j in range(0, row_of_weights, held // taps * LANES):
                start = (d * a[KERNEL_H] + k) * row_of_weights + j
                weights = block(weight, start, held)
                given, shift = image * high * wide * count + d, k * line + j
                for row in range(high):
                    for column in range(wide):
                        value = grad[given]
                        if value != 0:
                            to = (row * line + column * depth) * window + offsets[index[given]] + shift
                            add_block(pixels, to, line, weights, value, taps)
                        given += count


@inlined
def _cut(a, image, work, x):
    """x = the image without its padding. Whole vectors are stored: the next pixel writes over what goes too far."""
    depth, c, end = _whole(a[C]), a[C], (image + 1) * a[H] * a[W] * a[C]
    for row in range(a[H]):
        to = (image * a[H] + row) * a[W] * c
        start = ((row + a[PAD_H]) * _line(a) + a[PAD_W]) * depth
        for _ in range(a[W]):
            for j in range(0, c, LANES):
                if to + j + LANES <= end:
                    store(x, to + j, load(work.image, start + j, LANES))
                else:
                    for k in range(j, c):
                        x[to + k] = work.image[start + k]
            to, start = to + c, start + depth


# ---------------------------------------------------------------- pooling


@inlined
def _pool(a, image, part, work):
    """out = the largest of each window of the image, index = which one that was, unless a[INDEX] is 0.

    Whole vectors are stored: what goes too far is written over by the next window, or by the parts before this one,
    which come later. The last windows go channel by channel.
    """
    windows, depth = _windows(a), a[PART]
    safe = min(windows, max(0, (windows * a[D] - part * depth - depth) // a[D] + 1))
    _pool_some(a, image, part, work, depth, LANES, 0, safe)
    _pool_some(a, image, part, work, min(depth, a[D] - part * depth), 1, safe, windows)


@inlined
def _pool_some(a, image, part, work, channels, lanes, begin, end):
    """The windows from ``begin`` to ``end``, ``lanes`` channels at a time."""
    literally(lanes)
    depth, window, wide, line, indexed = a[PART], a[WINDOW], a[COLUMNS] // a[WINDOW], _line(a) * a[PART], a[INDEX] != 0
    pixels, d, (out, index) = work.image, a[D], _of_windows(a)
    to = (image * _windows(a) + begin) * d + part * depth
    left, column = _first_pixel(a, begin), begin % wide
    for _ in range(begin, end):
        for j in range(0, channels, lanes):
            best, which, k = load(pixels, left + j, lanes), all_of(0, lanes), 0
            for row in range(window):
                for at in range(left + row * line + j, left + row * line + window * depth + j, depth):
                    value = load(pixels, at, lanes)
                    better = beats(value, best)
                    best, which = choose(better, value, best), choose(better, all_of(k, lanes), which)
                    k += 1
            store(out, to + j, best)
            if indexed:
                store(index, to + j, which)
        to, left, column = to + d, left + window * depth, column + 1
        if column == wide:
            left, column = left + window * line - wide * window * depth, 0


@inlined
def _unpool(a, image, part, work, total, bias):
    """image = the gradient of each window at the place that index names, 0 elsewhere; windows of 1 have no index.

    total[bias] and what follows += these gradients, summed picture by picture: a float32 for all would lose digits.
    """
    windows, depth, sums = _windows(a), a[PART], work.picture
    for j in range(depth):
        sums[j] = 0
    safe = min(windows, max(0, ((a[IMAGES] - image) * windows * a[D] - part * depth - depth) // a[D] + 1))
    _unpool_some(a, image, part, work, sums, depth, LANES, 0, safe)
    _unpool_some(a, image, part, work, sums, min(depth, a[D] - part * depth), 1, safe, windows)
    for j in range(depth):
        total[bias + j] += sums[j]


@inlined
def _unpool_some(a, image, part, work, sums, channels, lanes, begin, end):
    """The windows from ``begin`` to ``end``, ``lanes`` channels at a time."""
    literally(lanes)
    depth, window, wide, line = a[PART], a[WINDOW], a[COLUMNS] // a[WINDOW], _line(a) * a[PART]
    pixels, d, (grad, index) = work.image, a[D], _of_windows(a)
    given = (image * _windows(a) + begin) * d + part * depth
    left, column = _first_pixel(a, begin), begin % wide
    for _ in range(begin, end):
        for j in range(0, channels, lanes):
            value, k = load(grad, given + j, lanes), 0
            store(sums, j, load(sums, j, lanes) + value)
            if window == 1:
                store(pixels, left + j, value)
            else:
                which = load(index, given + j, lanes)
                for row in range(window):
                    for at in range(left + row * line + j, left + row * line + window * depth + j, depth):
                        store(pixels, at, choose(equals(which, all_of(k, lanes)), value, none_of(value)))
                        k += 1
        given, left, column = given + d, left + window * depth, column + 1
        if column == wide:
            left, column = left + window * line - wide * window * depth, 0


@inlined
def _windows(a):
    """How many a picture has."""
    return (a[ROWS] // a[WINDOW]) * (a[COLUMNS] // a[WINDOW])


@inlined
def _of_windows(a):
    """The outputs, or their gradients, and which pixel of its window each one is."""
    size = a[IMAGES] * _windows(a) * a[D]
    return _floats(a[OUT], size), _bytes(a[INDEX], size)


@inlined
def _first_pixel(a, place):
    """Where the window ``place`` begins in the image; left of a row are pixels that its first columns' events reach."""
    wide = a[COLUMNS] // a[WINDOW]
    row, column = place // wide * a[WINDOW], place % wide * a[WINDOW]
    return (row * _line(a) + column + _line(a) - a[COLUMNS]) * a[PART]
