"""Made-up recordings that tell their class, for the fakes of every event data set."""

import numpy as np

from spikelet.events import SensorSize, make_events

MARGIN = 3  # pixels around the pattern, for its movement


def fake_recording(
    label: int,
    rng: np.random.Generator,
    sensor_size: SensorSize = (34, 34, 2),
    num_classes: int = 10,
    num_events: int = 300,
) -> np.ndarray:
    """A coarse pattern per class that moves on a triangle in 300 ms, among noise; polarity tells the way it moves.

    The pattern is 8 of 4 x 4 cells that fill the sensor, on a sensor of one row 8 of 16 x 1.

    >>> events = fake_recording(3, np.random.default_rng(0))
    >>> len(events), int(events["x"].max()) < 34, bool((np.diff(events["t"]) >= 0).all())
    (300, True, True)
    """
    width, height, polarities = sensor_size
    columns, rows = (16, 1) if height == 1 else (4, 4)
    cells = np.random.default_rng(34).permuted(np.tile(np.arange(16), (num_classes, 1)), axis=1)[label, :8]
    t = np.sort(rng.integers(0, 300_000, num_events))
    cell = rng.choice(cells, num_events)
    leg, rest = np.divmod(t, 100_000)
    corner = np.array([[0, 0], [3, 0], [1, 3], [0, 0]])
    moved = corner[leg] + (corner[leg + 1] - corner[leg]) * rest[:, None] // 100_000
    x = _along(cell % columns, width, columns, rng) + moved[:, 0]
    y = _along(cell // columns, height, rows, rng) + moved[:, 1] * (height > 1)
    noise = rng.random(num_events) < 0.1
    x[noise], y[noise] = rng.integers(0, width, noise.sum()), rng.integers(0, height, noise.sum())
    p = (rng.random(num_events) < 0.5) ^ (leg == 1) if polarities == 2 else np.zeros(num_events, bool)
    return make_events(t, x, y, p)


def _along(cell: np.ndarray, length: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    """A random pixel of each cell, along one side of the sensor; 0 where that is one pixel long."""
    if length == 1:
        return np.zeros(len(cell), np.int64)
    size = (length - 2 * MARGIN - 4) // cells
    return MARGIN + cell * size + rng.integers(0, size, len(cell))
