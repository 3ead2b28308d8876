"""The first layer: pixels times 8-bit weights in int32, position by position, and every count in closed form."""

import numpy as np

from spikelet.compiling import compiled
from spikelet.integer.kernels_windows import row_sums
from spikelet.integer.layout import MAGIC_SHIFT
from spikelet.integer.vector import LANES, population_count, put, reach_mask, trailing_zeros


@compiled
def load_pixels(image, shift, plane, extent, geometry):
    """Write ``image`` [C, H, W] - ``shift`` [C] into the padded, channels-last int16 ``plane``, and each row's range of
    columns whose pixels are not 0 into ``extent`` [rows, 2], which is (width, 0) where a row is empty.
    """
    channels, height, width = image.shape
    top, left, row = geometry[0], geometry[1], geometry[2]
    extent[:, 0] = width + 2 * left
    extent[:, 1] = 0
    for y in range(height):
        first, last = width, -1
        for channel in range(channels):
            o = (y + top) * row + left * channels + channel
            line = image[channel, y]
            for x in range(width):
                plane[o + x * channels] = np.int16(line[x]) - shift[channel]
            a, b = 0, width - 1
            while a < first and line[a] == 0:
                a += 1
            while b > last and line[b] == 0:
                b -= 1
            first, last = min(first, a), max(last, b)
        if last >= 0:
            extent[y + top, 0], extent[y + top, 1] = first + left, last + left


@compiled
def columns_reached(y, extent, geometry, everything):
    """Range of output columns in output row ``y`` whose window holds a pixel that is not 0."""
    kernel_rows, kernel_columns, stride_rows, stride_columns = geometry[3], geometry[4], geometry[5], geometry[6]
    width = geometry[7]
    if everything:
        return 0, width
    first, last = extent[y * stride_rows, 0], extent[y * stride_rows, 1]
    for row in range(y * stride_rows + 1, y * stride_rows + kernel_rows):
        first, last = min(first, extent[row, 0]), max(last, extent[row, 1])
    if last < first:
        return 0, 0
    return max(0, -((kernel_columns - 1 - first) // stride_columns)), min(width, last // stride_columns + 1)


@compiled
def row_levels(v, y, first, last, levels, thresholds, geometry, lists, sizes):
    """Append to list m, for each block of 64 neurons of output row ``y``: (its start, who reaches thresholds[m])."""
    channels, width = geometry[8], geometry[7]
    end = last * channels
    for block in range(first * channels, end, LANES):
        mask = ~np.uint64(0)
        if end - block < LANES:
            mask = ~np.uint64(0) >> np.uint64(LANES - (end - block))
        for four in range(0, levels, 4):  # a branch for each level would be mispredicted too often
            for m in range(four, min(four + 4, levels)):
                mask &= reach_mask(v, block, thresholds[m], block)
                k = sizes[m]
                lists[m, k, 0], lists[m, k, 1] = np.uint64(y * width * channels + block), mask
                sizes[m] = k + np.int64(mask != 0)
            if mask == 0:
                break


@compiled
def expand(found, blocks, events, k, geometry):
    """Append the sites in ``found`` [blocks, 2] to events[k:]; returns the new k."""
    channels, real = geometry[8], geometry[10]
    multiplier = np.int64(-(-(1 << MAGIC_SHIFT) // channels))
    for m in range(blocks):
        start, bits = np.int64(found[m, 0]), found[m, 1]
        after = k + population_count(bits)
        while bits:
            for _ in range(4):  # beyond the last one, what is written is overwritten
                site = start + trailing_zeros(bits)
                bits &= bits - np.uint64(1)
                if real != channels:
                    site -= ((site * multiplier) >> MAGIC_SHIFT) * (channels - real)
                put(events, k, site)
                k += 1
        k = after
    return k


@compiled
def image_layer(images, num_steps, tables, thresholds, everything, work, spikes, counts, pixels, shift, offset):
    """All steps of a layer that reads the image: its membranes are constant, so a count of n is n spikes from t = 0 on.

    tables      (taps, weight, geometry, where) of ``layout.Windows``
    thresholds  int32 [levels, row] of ``layout.row_thresholds``
    everything  whether a neuron may fire on an empty image
    work        (plane, extent, v, lists uint64 [levels, blocks, 2], sizes)
    """
    taps, weight, geometry, _ = tables
    plane, extent, v, lists, sizes = work
    events, starts = spikes
    height = geometry[11]
    levels = min(num_steps, len(thresholds))
    k, largest, busiest = 0, 0, 0
    for n in range(images):
        load_pixels(pixels[offset + n], shift, plane, extent, geometry)
        sizes[:] = 0
        for y in range(height):
            first, last = columns_reached(y, extent, geometry, everything)
            if first < last:
                row_sums(v, y, first, last, plane, taps, weight, geometry)
                row_levels(v, y, first, last, levels, thresholds, geometry, lists, sizes)
        if len(counts):
            counts[n] = 0
        for t in range(num_steps):
            part = 2 * (n * num_steps + t)
            starts[part] = k
            if t < levels and sizes[t]:
                k = expand(lists[t], sizes[t], events, k, geometry)
                largest, busiest = max(largest, t + 1), max(busiest, k - starts[part])
                if len(counts):
                    for j in range(starts[part], k):
                        counts[n, events[j]] += 1
            starts[part + 1] = k
    starts[2 * images * num_steps] = k
    return largest, busiest
