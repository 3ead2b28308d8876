"""Pooling and sums on event lists, and the count of synaptic operations. No event is ever merged or cancelled."""

import numpy as np

from spikelet.compiling import compiled
from spikelet.integer.kernels_events import copy


@compiled
def add_spikes(parts, left, right, spikes):
    """The spikes of both sources, one list after the other."""
    events, starts = spikes
    k = 0
    for part in range(parts):
        starts[part] = k
        for given, begins in (left, right):
            size = begins[part + 1] - begins[part]
            events[k : k + size] = given[begins[part] : begins[part + 1]]
            k += size
    starts[parts] = k


@compiled
def sum_pool(parts, channels, first, windows, given, spikes):
    """Each spike goes to all windows that hold its position: windows[first[p] : first[p + 1]] for position p."""
    events, begins = given
    passed, starts = spikes
    k = 0
    for part in range(parts):
        starts[part] = k
        for j in range(begins[part], begins[part + 1]):
            position = events[j] // channels
            channel = events[j] - position * channels
            for w in range(first[position], first[position + 1]):
                passed[k] = windows[w] * channels + channel
                k += 1
    starts[parts] = k


@compiled
def _touch(events, begin, end, channels, first, windows, change, count, marked, touched):
    """Add ``change`` to the counts of the sites events[begin:end]; append the windows that hold them to ``marked``."""
    for j in range(begin, end):
        site = events[j]
        count[site] += change
        position = site // channels
        channel = site - position * channels
        for w in range(first[position], first[position + 1]):
            marked[touched] = windows[w] * channels + channel
            touched += 1
    return touched


@compiled
def max_pool(images, num_steps, channels, windows, members, work, given, spikes):
    """Changes of each window's largest count, one event per unit.

    windows  (first, windows): as in ``sum_pool``; members: the same the other way, the positions in each window
    work     (count [sites], top [windows * channels], marked, back): int32
    """
    first, window_of = windows
    member_first, position_of = members
    count, top, marked, back = work
    events, begins = given
    passed, starts = spikes
    k, largest = 0, 0
    for n in range(images):
        count[:] = 0
        top[:] = 0
        for t in range(num_steps):
            part = 2 * (n * num_steps + t)
            touched = _touch(events, begins[part], begins[part + 1], channels, first, window_of, 1, count, marked, 0)
            begin, end = begins[part + 1], begins[part + 2]
            touched = _touch(events, begin, end, channels, first, window_of, -1, count, marked, touched)
            starts[part] = k
            taken = 0
            for j in range(touched):
                out = marked[j]
                window = out // channels
                channel = out - window * channels
                now = 0
                for m in range(member_first[window], member_first[window + 1]):
                    now = max(now, count[position_of[m] * channels + channel])
                while top[out] < now:
                    top[out] += 1
                    passed[k] = out
                    k += 1
                while top[out] > now:
                    top[out] -= 1
                    back[taken] = out
                    taken += 1
                largest = max(largest, now)
            starts[part + 1] = k
            k = copy(back, taken, passed, k)
    starts[2 * images * num_steps] = k
    return largest


@compiled
def tally_layer(images, num_steps, events, starts, fanout, counted, tally):
    """Add to ``tally`` [4, T] the positive and the negative spikes of each step, where ``counted``, and the fan-outs
    ``fanout`` [sites, 2] of all of them.
    """
    for n in range(images):
        for t in range(num_steps):
            part = 2 * (n * num_steps + t)
            tally[0, t] += counted * (starts[part + 1] - starts[part])
            tally[1, t] += counted * (starts[part + 2] - starts[part + 1])
            total, nonzero = np.int64(0), np.int64(0)
            for k in range(starts[part], starts[part + 2]):
                total += fanout[events[k], 0]
                nonzero += fanout[events[k], 1]
            tally[2, t] += total
            tally[3, t] += nonzero


@compiled
def tally_samples(images, num_steps, events, starts, fanout, counted, spikes, operations, offset):
    """Add the same to ``spikes`` and ``operations`` [T, N], image by image from ``offset`` on, whatever the sign."""
    for n in range(images):
        for t in range(num_steps):
            part = 2 * (n * num_steps + t)
            spikes[t, offset + n] += counted * (starts[part + 2] - starts[part])
            for k in range(starts[part], starts[part + 2]):
                operations[t, offset + n] += fanout[events[k], 0]
