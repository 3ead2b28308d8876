"""The event-driven kernels: a spike adds rows of weights, vectors find the neurons that fire, only those are touched.

A list of spikes is (events, starts): int32 sites, and where each part begins. Part ``2 * (n * T + t)`` holds the sites
that spike at step t of image n, the part behind it those that take a spike back; a site that sends two is in it twice.
"""

import numpy as np
from numba import njit

from spikelet.compiling import compiled
from spikelet.integer.kernels_windows import charge_bits, charge_windows
from spikelet.integer.layout import MAGIC_SHIFT, PLANE
from spikelet.integer.vector import (
    LANES,
    add_rows,
    at,
    population_count,
    put,
    spike_masks,
    subtract_rows,
    sum_rows,
    sum_rows8,
    trailing_zeros,
)


@compiled
def copy(source, size, target, k):
    """target[k : k + size] = source[:size]; returns k + size. (numba's own slice assignment costs a call.)"""
    for j in range(size):
        target[k + j] = source[j]
    return k + size


@compiled
def charge(v, spikes, part, span, scatter):
    """Add to ``v`` the weights of parts ``part`` (+) and ``part`` + 1 (-); returns ``span`` widened to what changed."""
    _, _, geometry = scatter
    size, run = geometry[2], geometry[5]
    if run == PLANE:
        _charge_plane(v, spikes, part, scatter)
    elif size:
        _charge_groups(v, spikes, part, scatter)
    elif run == 32:
        _charge_runs(v, spikes, part, scatter, 32)
    elif run == 64:
        _charge_runs(v, spikes, part, scatter, 64)
    else:
        _charge_rows(v, spikes, part, scatter)
    return _widen(span, spikes, part, scatter)


@compiled
def _charge_rows(v, spikes, part, scatter):
    """``charge`` in general: some rows of outputs, each a run."""
    events, starts = spikes
    table, weight, geometry = scatter
    out_row, weight_row = geometry[0], geometry[1]
    for k in range(starts[part], starts[part + 1]):
        entry = 4 * at(events, k)
        o, i, n, rows = at(table, entry), at(table, entry + 1), at(table, entry + 2), at(table, entry + 3)
        add_rows(v, o, weight, i, n, rows, out_row, weight_row)
    for k in range(starts[part + 1], starts[part + 2]):
        entry = 4 * at(events, k)
        o, i, n, rows = at(table, entry), at(table, entry + 1), at(table, entry + 2), at(table, entry + 3)
        subtract_rows(v, o, weight, i, n, rows, out_row, weight_row)


@njit(cache=True, nogil=True, boundscheck=False, inline="always")
def _charge_runs(v, spikes, part, scatter, n):
    """``charge`` where every spike reaches one run of ``n`` outputs, a constant: twice as fast as ``_charge_rows``."""
    events, starts = spikes
    table, weight, _ = scatter
    for k in range(starts[part], starts[part + 1]):
        entry = 4 * at(events, k)
        add_rows(v, at(table, entry), weight, at(table, entry + 1), n, 1, 0, 0)
    for k in range(starts[part + 1], starts[part + 2]):
        entry = 4 * at(events, k)
        subtract_rows(v, at(table, entry), weight, at(table, entry + 1), n, 1, 0, 0)


@compiled
def _charge_plane(v, spikes, part, scatter):
    """``charge`` where every spike reaches all outputs and weights are ternary: rows are added up in bytes."""
    events, starts = spikes
    table, weight, geometry = scatter
    for negative in range(2):
        stop = starts[part + negative + 1]
        for start in range(starts[part + negative], stop, 127):
            end, o = min(start + 127, stop), 0
            while o + 512 <= geometry[1]:
                sum_rows8(v, weight, table, events, start, end, o, 1 - 2 * negative)
                o += 512
            while o < geometry[1]:
                sum_rows(v, weight, table, events, start, end, o, 1 - 2 * negative)
                o += 64


@compiled
def _charge_groups(v, spikes, part, scatter):
    """``charge`` where the outputs of neighbouring taps are not neighbours: run after run."""
    events, starts = spikes
    table, weight, geometry = scatter
    out_row, weight_row, size, out_channels = geometry[0], geometry[1], geometry[2], geometry[3]
    for negative in range(2):
        for k in range(starts[part + negative], starts[part + negative + 1]):
            entry = 4 * at(events, k)
            o, i, n, rows = at(table, entry), at(table, entry + 1), at(table, entry + 2), at(table, entry + 3)
            for tap in range(n):
                a, b = o + tap * out_channels, i + tap * size
                if negative:
                    subtract_rows(v, a, weight, b, size, rows, out_row, weight_row)
                else:
                    add_rows(v, a, weight, b, size, rows, out_row, weight_row)


@compiled
def _widen(span, spikes, part, scatter):
    """``span`` with all output rows that the parts' spikes reach: of all sites the first and the last one tell."""
    events, starts = spikes
    table, _, geometry = scatter
    out_row = geometry[0]
    if starts[part] == starts[part + 2]:
        return span
    first = last = events[starts[part]]
    for k in range(starts[part], starts[part + 2]):
        first, last = min(first, events[k]), max(last, events[k])
    low = at(table, 4 * first) // out_row
    high = at(table, 4 * last) // out_row + at(table, 4 * last + 3)
    return min(span[0], low * out_row), max(span[1], high * out_row)


@compiled
def find(v, high, low, span, found):
    """List the blocks of 64 neurons in ``span`` where any fires: rows (start, up, down) of ``found``; returns how many.

    No branch depends on a spike: mispredicted ones would cost more than everything else here.
    """
    m = np.int64(0)
    for block in range(span[0] & -LANES, span[1], LANES):
        up, down = spike_masks(v, high, low, block)
        found[m, 0], found[m, 1], found[m, 2] = np.uint64(block), up, down
        m += np.int64((up | down) != 0)
    return m


@compiled
def fire(v, high, low, count, table, channels, span, events, k, back, found):
    """Let every neuron in ``span`` fire at most once: sites of new spikes to events[k:], those taken back to ``back``.

    Returns (new k, how many in ``back``, the span in which neurons fired, the largest count).
    """
    multiplier = np.int64(-(-(1 << MAGIC_SHIFT) // channels))
    largest, taken = np.int64(0), np.int64(0)
    blocks = find(v, high, low, span, found)
    if blocks == 0:
        return k, taken, (len(v), 0), largest
    for m in range(blocks):
        block, up, bits = np.int64(found[m, 0]), found[m, 1], found[m, 1] | found[m, 2]
        while bits:
            lane = trailing_zeros(bits)
            bits &= bits - np.uint64(1)
            rising = np.int64((up >> np.uint64(lane)) & np.uint64(1))
            site = block + lane
            n = at(count, site) + 2 * rising - 1
            row = n * channels + site - ((site * multiplier) >> MAGIC_SHIFT) * channels
            put(count, site, n)
            put(low, site, at(table, row))
            put(high, site, at(table, row + channels))
            put(events, k, site)
            put(back, taken, site)
            largest = max(largest, n)
            k += rising
            taken += 1 - rising
    return k, taken, (np.int64(found[0, 0]), np.int64(found[blocks - 1, 0]) + LANES), largest


@compiled
def fire_once(v, high, low, span, events, k, found):
    """``fire`` where there is one step only: nobody takes a spike back, and no threshold needs to move."""
    blocks = find(v, high, low, span, found)
    for m in range(blocks):
        block, up = np.int64(found[m, 0]), found[m, 1]
        after = k + population_count(up)
        while up:
            for _ in range(4):  # beyond the last one, what is written is overwritten
                put(events, k, block + trailing_zeros(up))
                up &= up - np.uint64(1)
                k += 1
        k = after
    return k


@compiled
def forget(v, high, low, count, rest, never, span, events, start, stop):
    """Bring the neurons that fired, events[start:stop], and the membranes in ``span`` back to rest."""
    v[span[0] : span[1]] = 0
    if (stop - start) * 16 > len(v):
        high[:] = rest
        low[:] = never
        count[:] = 0
        return
    for k in range(start, stop):
        site = at(events, k)
        put(high, site, at(rest, site))
        put(low, site, np.int64(never))
        put(count, site, 0)


@compiled
def hidden_layer(images, num_steps, scatter, dense, table, rest, state, count, back, found, given, spikes, counts):
    """All steps of one layer with neurons, image by image; returns the largest count and the most spikes in a step.

    scatter  (table, weight, geometry) of ``layout.Scatter``
    dense    (limit: spikes in a step above which its windows are visited instead, kind: 0 int16 or 1 bits,
             tables (taps, weight, geometry, where) and work space of both kinds)
    table    thresholds, flat [max_count + 2, C]; rest: those of silent neurons, one per site
    state    [3, M]: membranes, upper and lower thresholds; count int8 [M], back int32 [M], found uint64 [M / 64, 3]
    given    the spikes of the layer before; spikes: of this one, written here
    counts   int8 [N, neurons], or empty: final counts
    """
    v, high, low = state[0], state[1], state[2]
    events, starts = spikes
    channels, neurons, never = scatter[2][3], scatter[2][4], table[0]
    spontaneous = table[channels : 2 * channels].min() <= 0
    limit, kind, values, values_work, bits, bits_work = dense
    k, largest, busiest = 0, np.int64(0), 0
    v[:] = 0
    high[:] = rest
    low[:] = never
    count[:] = 0
    once = num_steps == 1 and not len(counts)
    for n in range(images):
        begin = k
        span = (len(v), 0)
        whole = span
        if spontaneous:
            span = (0, neurons)
        for t in range(num_steps):
            part = 2 * (n * num_steps + t)
            if given[1][part + 2] - given[1][part] <= limit:
                span = charge(v, given, part, span, scatter)
            else:
                span = (0, neurons)
                if kind == 0:
                    charge_windows(v, given, part, values, values_work)
                else:
                    charge_bits(v, given, part, bits, bits_work)
            whole = (min(whole[0], span[0]), max(whole[1], span[1]))
            starts[part] = k
            if once:
                k = fire_once(v, high, low, span, events, k, found)
                starts[part + 1] = k
                largest, busiest = np.int64(1), max(busiest, k - begin)
                continue
            k, taken, span, reached = fire(v, high, low, count, table, channels, span, events, k, back, found)
            starts[part + 1] = k
            k = copy(back, taken, events, k)
            largest, busiest = max(largest, reached), max(busiest, k - starts[part])
        if len(counts):
            counts[n] = count[:neurons]
        if once:
            v[whole[0] : whole[1]] = 0
        else:
            forget(v, high, low, count, rest, never, whole, events, begin, k)
    starts[2 * images * num_steps] = k
    return largest, busiest


@compiled
def readout(images, num_steps, scatter, bias, always, v, given, logits, offset):
    """What each step adds to the logits [T, N, classes] of images offset, ...; the bias at t = 0, or ``always``."""
    classes = len(bias)
    for n in range(images):
        for t in range(num_steps):
            v[:] = 0
            if t == 0 or always:
                v[:classes] = bias
            charge(v, given, 2 * (n * num_steps + t), (0, 0), scatter)
            for c in range(classes):
                logits[t, offset + n, c] = v[c]
