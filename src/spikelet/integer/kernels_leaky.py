"""Leaky integrate-and-fire layers: spikes charge accumulators, then one pass over the membranes leaks, charges, fires.

Neurons that no spike has reached and that have no bias stay at 0 and are left out: only the ``span`` between the first
and the last output row reached is visited. ``neuron`` is (bias, threshold, leak, shift, fraction_bits, kept,
synapse_leak, synapse_shift, traces): arrays per site, and whether a neuron that fires keeps what is above its threshold
(1) or nothing (0). LIF has one trace, its membrane ``v``; SRM has two, ``v`` and ``c``.
"""

import numpy as np

from spikelet.compiling import compiled
from spikelet.integer.kernels_events import charge
from spikelet.integer.kernels_image import load_pixels
from spikelet.integer.kernels_windows import charge_bits, charge_windows, row_sums
from spikelet.integer.vector import LANES, at, integrate, integrate_two, put, trailing_zeros


@compiled
def leak_and_fire(v, c, charged, neuron, span, events, k):
    """One step of the neurons in ``span``: the sites that fire to events[k:]. Returns the new k."""
    bias, threshold, leak, shift, fraction_bits, kept, synapse_leak, synapse_shift, traces = neuron
    less, synapse_less = leak - (1 << shift), synapse_leak - (1 << synapse_shift)
    for start in range(span[0] & -LANES, span[1], LANES):
        if traces == 2:
            fired = integrate_two(
                v, c, charged, bias, threshold, start, less, shift, synapse_less, synapse_shift, fraction_bits
            )
        else:
            fired = integrate(v, charged, bias, threshold, start, leak, shift, fraction_bits)
        while fired:
            site = start + trailing_zeros(fired)
            fired &= fired - np.uint64(1)
            put(events, k, site)
            put(v, site, kept * (at(v, site) - at(threshold, site)))
            if traces == 2:
                put(c, site, 0)
            k += 1
    return k


@compiled
def leaky_layer(images, num_steps, scatter, dense, neuron, biased, state, given, spikes):
    """All steps of one layer, image by image; returns the most spikes in a step.

    scatter, dense  as in ``kernels_events.hidden_layer``
    biased          whether any neuron has a bias
    state           (accumulators int16 or int32 [M], membranes v int32 [M], and c, [0] where there is one trace)
    given, spikes   those of the layer before, and of this one, written here
    """
    charged, v, c = state
    events, starts = spikes
    neurons = scatter[2][4]
    limit, kind, values, values_work, bits, bits_work = dense
    k, busiest = 0, 0
    charged[:] = 0
    v[:] = 0
    c[:] = 0
    for n in range(images):
        reached = (len(v), 0)
        if biased:
            reached = (0, neurons)
        for t in range(num_steps):
            part = 2 * (n * num_steps + t)
            if given[1][part + 2] - given[1][part] <= limit:
                span = charge(charged, given, part, (len(v), 0), scatter)
            else:
                span = (0, neurons)
                if kind == 0:
                    charge_windows(charged, given, part, values, values_work)
                else:
                    charge_bits(charged, given, part, bits, bits_work)
            reached = (min(reached[0], span[0]), max(reached[1], span[1]))
            starts[part] = k
            k = leak_and_fire(v, c, charged, neuron, reached, events, k)
            starts[part + 1] = k
            busiest = max(busiest, k - starts[part])
            if span[0] < span[1]:
                charged[span[0] : span[1]] = 0
        if reached[0] < reached[1]:
            v[reached[0] & -LANES : reached[1] + LANES] = 0
            c[reached[0] & -LANES : reached[1] + LANES] = 0
    starts[2 * images * num_steps] = k
    return busiest


@compiled
def leaky_image_layer(images, num_steps, tables, neuron, work, spikes, pixels, shift, offset):
    """All steps of a layer that reads the image: its charge is the same at each. Returns the most spikes in one.

    tables  (taps, weight, geometry, where) of ``layout.Windows``
    work    (plane, extent, line, charged int32 [M], membranes v int32 [M], and c, [0] where there is one trace)
    shift   int16 [C]: what is subtracted from the pixels
    """
    taps, weight, geometry, _ = tables
    plane, extent, line, charged, v, c = work
    events, starts = spikes
    width, wide, channels, height = geometry[7], geometry[8], geometry[10], geometry[11]
    neurons = width * height * channels
    k, busiest = 0, 0
    for n in range(images):
        load_pixels(pixels[offset + n], shift, plane, extent, geometry)
        for y in range(height):
            row_sums(line, y, 0, width, plane, taps, weight, geometry)
            for x in range(width):
                o, i = (y * width + x) * channels, x * wide
                for channel in range(channels):
                    charged[o + channel] = line[i + channel]
        v[:] = 0
        c[:] = 0
        for t in range(num_steps):
            part = 2 * (n * num_steps + t)
            starts[part] = k
            k = leak_and_fire(v, c, charged, neuron, (0, neurons), events, k)
            starts[part + 1] = k
            busiest = max(busiest, k - starts[part])
    starts[2 * images * num_steps] = k
    return busiest


@compiled
def count_events(images, num_steps, spikes, counts):
    """How often each neuron fired, to counts int16 [N, neurons]."""
    events, starts = spikes
    counts[:] = 0
    for n in range(images):
        for k in range(starts[2 * n * num_steps], starts[2 * (n + 1) * num_steps]):
            counts[n, events[k]] += 1


@compiled
def tell_events(images, num_steps, spikes, logits, offset):
    """The spikes of the last layer as logits [T, N, classes] of images offset, offset + 1, ..."""
    events, starts = spikes
    for n in range(images):
        for t in range(num_steps):
            logits[t, offset + n] = 0
            part = 2 * (n * num_steps + t)
            for k in range(starts[part], starts[part + 1]):
                logits[t, offset + n, events[k]] = 1
