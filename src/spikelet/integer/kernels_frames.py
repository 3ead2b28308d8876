"""Frames of events as lists of events: from there on, the first layer is a layer like any other."""

import numpy as np

from spikelet.compiling import compiled
from spikelet.integer.vector import put


@compiled
def frame_sizes(frames, offset, num_steps, sizes):
    """The events of images offset, offset + 1, ... in ``frames`` [T, N, C, H * W], to ``sizes``; returns the largest
    count of a site.
    """
    largest = np.uint8(0)
    for n in range(len(sizes)):
        total = np.int64(0)
        for t in range(num_steps):
            for plane in frames[t, offset + n]:
                for count in plane:
                    total += count
                    largest = max(largest, count)
        sizes[n] = total
    return np.int64(largest)


@compiled
def frame_events(frames, offset, images, num_steps, spikes):
    """List the events of ``frames`` [T, N, C, H * W], a site that counts two twice; returns the most in one step."""
    events, starts = spikes
    channels = frames.shape[2]
    k, busiest = 0, 0
    for n in range(images):
        for t in range(num_steps):
            part = 2 * (n * num_steps + t)
            starts[part] = k
            for c in range(channels):
                plane = frames[t, offset + n, c]
                for position in range(len(plane)):
                    for _ in range(plane[position]):
                        put(events, k, position * channels + c)
                        k += 1
            starts[part + 1] = k
            busiest = max(busiest, k - starts[part])
    starts[2 * images * num_steps] = k
    return busiest
