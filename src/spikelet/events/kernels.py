"""The loops over events, compiled. Whoever needs one imports this module inside the function that calls it.

A site is a pixel of one polarity: site = (p * H + y) * W + x, the position in a frame [P, H, W]. Arrays that
come in are trusted: ``arrays.find_fault`` has seen every event, and a file packed earlier has had its checksum checked.
"""

import math

import numpy as np

from spikelet.compiling import compiled

BY_COUNT = -1  # for ``duration``: equal numbers of events, not times
WHOLE = 0  # for ``duration``: equal durations over the whole recording
LONG_AGO = -(1 << 62)


@compiled
def have_company(t, x, y, width, height, filter_us):
    """Which events ``arrays.denoise`` keeps: bool [E]."""
    row = width + 2  # a border that never fires saves four comparisons per event
    last = np.full((height + 2) * row, LONG_AGO, np.int64)
    for i in range(1, height + 1):
        last[i * row + 1 : i * row + 1 + width] = 0
    keep = np.empty(len(t), np.bool_)
    for k in range(len(t)):
        here = (y[k] + 1) * row + x[k] + 1
        latest = max(max(last[here - 1], last[here + 1]), max(last[here - row], last[here + row]))
        keep[k] = latest > t[k] - filter_us
        last[here] = t[k]
    return keep


@compiled
def target_sites(width, height, polarities, moves):
    """Where ``arrays.move`` takes each site, -1 for out of the sensor: int32 [N, P * H * W].

    ``moves`` float64 [N, 5]: degrees, dx, dy, flip left-right, flip upside-down.
    """
    pixels = height * width
    targets = np.empty((len(moves), polarities * pixels), np.int32)
    cx, cy = (width - 1) / 2, (height - 1) / 2
    for n in range(len(moves)):
        cos, sin = math.cos(math.radians(moves[n, 0])), math.sin(math.radians(moves[n, 0]))
        sx, sy = 1 - 2 * moves[n, 3], 1 - 2 * moves[n, 4]
        ox, oy = cx + moves[n, 1] + 0.5, cy + moves[n, 2] + 0.5
        for y in range(height):
            v = sy * (y - cy)
            for x in range(width):
                u = sx * (x - cx)
                a, b = math.floor(cos * u - sin * v + ox), math.floor(sin * u + cos * v + oy)
                inside = 0 <= a < width and 0 <= b < height
                targets[n, y * width + x] = b * width + a if inside else -1
        for site in range(pixels, polarities * pixels):
            target = targets[n, site - pixels]
            targets[n, site] = target + pixels if target >= 0 else -1
    return targets


@compiled
def _edge(times, first, count, k, num_steps, duration):
    """Position of the first event of step ``k`` among the ``count`` events from ``first`` on; for k = T the end."""
    if duration == BY_COUNT:
        return k * (count // num_steps) if k < num_steps else count
    start = np.int64(times[first])
    if duration == WHOLE:
        span = np.int64(times[first + count - 1]) - start + 1
        limit = start + (k * span + num_steps - 1) // num_steps
    else:
        limit = start + k * duration
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if times[first + middle] < limit:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def bin_events(times, sites, places, duration, out):
    """Counts per step, recording and site, at most 255, into uint8 ``out`` [T, N, S], which may hold anything before.

    places    int64 [N, 3]: first position in ``times``, first position in ``sites``, number of events
    duration  of a step in us, or BY_COUNT, or WHOLE
    """
    num_steps = len(out)
    for n in range(len(places)):
        first, base, count = places[n, 0], places[n, 1], places[n, 2]
        stop = 0
        for step in range(num_steps):
            start = stop
            stop = _edge(times, first, count, step + 1, num_steps, duration) if count else 0
            frame = out[step, n]
            frame[:] = 0
            for k in range(base + start, base + stop):
                site = sites[k]
                frame[site] += frame[site] < 255


@compiled
def bin_moved(times, sites, places, duration, targets, out):
    """``bin_events`` where site s of recording n counts at ``targets[n, s]``, nowhere if that is negative."""
    num_steps = len(out)
    for n in range(len(places)):
        first, base, count = places[n, 0], places[n, 1], places[n, 2]
        target_of = targets[n]
        stop = 0
        for step in range(num_steps):
            start = stop
            stop = _edge(times, first, count, step + 1, num_steps, duration) if count else 0
            frame = out[step, n]
            frame[:] = 0
            for k in range(base + start, base + stop):
                target = target_of[sites[k]]
                if target >= 0:
                    frame[target] += frame[target] < 255


@compiled
def bin_sparse(times, sites, places, targets, num_steps, duration, num_sites):
    """Of each step the sites with an event, each once, as ``binned.Binned`` keeps them: (steps, sites, starts).

    places   as in ``bin_events``
    targets  int32 [1 or N, S]: where site s of recording n counts, nowhere if that is negative; one row is everyone's
    """
    ends = np.zeros(len(places), np.int64)  # positions of the first events that are too late
    for n in range(len(places)):
        own = times[places[n, 0] : places[n, 0] + places[n, 2]]
        if len(own):
            ends[n] = np.searchsorted(own, np.int64(own[0]) + num_steps * duration)
    room = ends.sum()
    out_steps, out_sites = np.empty(room, np.int32), np.empty(room, np.int32)
    starts = np.zeros(len(places) + 1, np.int64)
    seen = np.zeros(num_sites, np.int64)  # the latest step, counted over all recordings from 1 on
    kept = 0
    for n in range(len(places)):
        first, base = places[n, 0], places[n, 1]
        target_of = targets[min(n, len(targets) - 1)]
        for k in range(ends[n]):
            target = target_of[sites[base + k]]
            step = (times[first + k] - np.int64(times[first])) // duration
            tick = n * num_steps + step + 1
            if target >= 0 and seen[target] < tick:
                seen[target] = tick
                out_steps[kept], out_sites[kept] = step, target
                kept += 1
        starts[n + 1] = kept
    return out_steps[:kept], out_sites[:kept], starts


@compiled
def weigh(power, first, weights):
    """Sums of neighbouring rows: out[c] = sum over m of weights[c, m] power[first[c] + m], float64 [C, K]."""
    out = np.zeros((len(first), power.shape[1]))
    for c in range(len(first)):
        row = out[c]
        for m in range(weights.shape[1]):
            weight, other = weights[c, m], power[first[c] + m]
            if weight != 0:
                for k in range(len(row)):
                    row[k] += weight * other[k]
    return out


@compiled
def fire(currents, beta, forget, v_threshold, jump, step_us):
    """Spikes of the neurons of ``ears.hear`` for ``currents`` [C, K]: times int64 [E] in us, and channels int64 [E]."""
    channels, num_steps = currents.shape
    t, x = np.empty(currents.size, np.int64), np.empty(currents.size, np.int64)
    count = 0
    for c in range(channels):
        v, more, below = 0.0, 0.0, -v_threshold
        for k in range(1, num_steps):
            v = beta * v + (1 - beta) * currents[c, k]
            more *= forget
            above = v - v_threshold - more
            if above >= 0:
                t[count], x[count] = math.floor((k - above / (above - below)) * step_us), c
                count += 1
                v, more = 0.0, more + jump
                above = -v_threshold - more
            below = above
    return t[:count], x[:count]
