"""The kernels that visit every window: int16 sums for the image and busy layers, population counts for ternary ones.

``geometry`` is that of ``layout.Windows``; ``v`` int32 holds one row of outputs, channels padded to a multiple of 32.
"""

import numpy as np

from spikelet.compiling import compiled
from spikelet.integer.vector import at, bit_dot, dot, dot4


@compiled
def row_sums(v, y, first, last, plane, taps, weight, geometry):
    """v[position, channel] for output columns first to last - 1 of row ``y`` from an int16 plane."""
    row, stride_rows, channels = geometry[2], geometry[5], geometry[8]
    x_stride = geometry[6] * geometry[9]
    pairs = len(taps)
    for x in range(first, last, 4):
        base = y * stride_rows * row + x * x_stride
        for b in range(channels // 32):
            o, i = x * channels + 32 * b, 64 * b * pairs
            if last - x > 1:
                dot4(v, o, channels, plane, base, x_stride, taps, pairs, weight, i)
            else:
                dot(v, o, channels, plane, base, x_stride, taps, pairs, weight, i)


@compiled
def row_bits(v, y, plus, minus, signed, taps, weight, geometry):
    """v[position, channel] for all outputs of row ``y`` from two bit planes (``signed``: the second is not empty)."""
    row, stride_rows, width, channels = geometry[2], geometry[5], geometry[7], geometry[8]
    x_stride = geometry[6] * geometry[9]
    words = len(taps)
    for x in range(width):
        base = y * stride_rows * row + x * x_stride
        for b in range(channels // 32):
            bit_dot(v, x * channels + 32 * b, plus, minus, signed, base, taps, words, weight, 64 * b * words)


@compiled
def charge_windows(v, spikes, part, tables, work):
    """Add to ``v`` the weights of all spikes of parts ``part`` and ``part`` + 1, window by window."""
    events, starts = spikes
    taps, weight, geometry, where = tables
    plane, line = work
    for negative in range(2):
        for k in range(starts[part + negative], starts[part + negative + 1]):
            plane[at(where, at(events, k))] += 1 - 2 * negative
    for y in range(geometry[11]):
        row_sums(line, y, 0, geometry[7], plane, taps, weight, geometry)
        _add_line(v, y, line, geometry)
    for k in range(starts[part], starts[part + 2]):
        plane[at(where, at(events, k))] = 0


@compiled
def charge_bits(v, spikes, part, tables, work):
    """``charge_windows`` by population count, for ternary weights and sites that send at most one spike per step."""
    events, starts = spikes
    taps, weight, geometry, where = tables
    planes, line = work
    plus, minus = planes[0], planes[1]
    signed = starts[part + 2] > starts[part + 1]
    for k in range(starts[part], starts[part + 1]):
        place = at(where, at(events, k))
        plus[place >> 6] |= np.uint64(1) << np.uint64(place & 63)
    for k in range(starts[part + 1], starts[part + 2]):
        place = at(where, at(events, k))
        minus[place >> 6] |= np.uint64(1) << np.uint64(place & 63)
    for y in range(geometry[11]):
        row_bits(line, y, plus, minus, signed, taps, weight, geometry)
        _add_line(v, y, line, geometry)
    for k in range(starts[part], starts[part + 1]):
        plus[at(where, at(events, k)) >> 6] = 0
    for k in range(starts[part + 1], starts[part + 2]):
        minus[at(where, at(events, k)) >> 6] = 0


@compiled
def _add_line(v, y, line, geometry):
    width, channels, real = geometry[7], geometry[8], geometry[10]
    for x in range(width):
        o, i = (y * width + x) * real, x * channels
        for c in range(real):
            v[o + c] += line[i + c]
