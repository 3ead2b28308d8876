"""Moving bars: recordings made here, of four motions that differ in nothing but the order of their events."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from spikelet.datasets.base import Source
from spikelet.datasets.event_base import EventSet, Protocol, Split, everything
from spikelet.datasets.event_cache import Cached
from spikelet.datasets.layouts import File, Layout, Row
from spikelet.errors import SpikeletError
from spikelet.events import make_events, pack

SEED = 20_220_925
MOTIONS = ("clockwise", "counter-clockwise", "left", "right")
PASSES = (2, 3, 4)
WIDTHS = (0.1, 0.3)


@dataclass(frozen=True)
class Scene:
    """What all recordings have in common.

    size         the sensor has ``size`` x ``size`` pixels, of which those inside the circle see the bar
    duration_us  of a recording
    jitter_us    standard deviation of the time of an event
    keep         probability that an event is sent
    noise        events at random pixels and times, for each event of the bar
    """

    size: int = 32
    duration_us: int = 300_000
    jitter_us: float = 1_000.0
    keep: float = 0.6
    noise: float = 0.05

    def __post_init__(self) -> None:
        for name, lowest in (("size", 2), ("duration_us", 1), ("jitter_us", 0), ("noise", 0)):
            if getattr(self, name) < lowest:
                raise SpikeletError(f"{name}: expected at least {lowest}, got {getattr(self, name)}")
        if not 0 < self.keep <= 1:
            raise SpikeletError(f"keep: expected above 0 and at most 1, got {self.keep}")


@dataclass(frozen=True)
class Bar:
    """What differs between the recordings of a motion.

    passes  how often the bar comes over every pixel
    phase   where it starts, 0 to 1
    width   of the bar: how much of the time it covers a pixel, 0 to 1
    bright  whether its front makes events of polarity 1 and its back of 0, or the other way round
    """

    passes: int
    phase: float
    width: float
    bright: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Bar":
        """Any of those that the data set has, the same for every motion."""
        return cls(int(rng.choice(PASSES)), rng.random(), rng.uniform(*WIDTHS), bool(rng.random() < 0.5))


def record(motion: str, bar: Bar, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """The events of a bar that turns about the centre, or crosses the sensor again and again.

    u(pixel) = angle / pi mod 1, clockwise    1 - that, counter-clockwise
             = x / size, right                1 - that, left
    front    at ((u + phase) mod 1 + k) duration / passes,           k = 0 .. passes - 1
    back     at ((u + phase + width) mod 1 + k) duration / passes

    so whatever the motion, every pixel inside the circle sees ``passes`` fronts and as many backs. A recording run
    backwards is one of the opposite motion, whose bar is dark instead of bright.

    >>> scene = Scene(size=4, jitter_us=0, keep=1, noise=0)
    >>> events = record("right", Bar(2, 0.0, 0.25, True), scene, np.random.default_rng(0))
    >>> events["t"][(events["x"] == 1) & (events["y"] == 2)].tolist(), len(events)
    ([56250, 93750, 206250, 243750], 48)
    """
    across = np.arange(scene.size) - (scene.size - 1) / 2
    y, x = (axis.ravel() for axis in np.indices((scene.size, scene.size)))
    inside = across[x] ** 2 + across[y] ** 2 < scene.size**2 / 4
    x, y = x[inside], y[inside]
    turns = motion in MOTIONS[:2]
    u = np.arctan2(across[y], across[x]) / np.pi if turns else (x + 0.5) / scene.size
    u = -u if motion in ("counter-clockwise", "left") else u
    edges = np.stack([u, u + bar.width])[:, None] + bar.phase
    t = (edges % 1 + np.arange(bar.passes)[:, None]) * (scene.duration_us / bar.passes)
    p = np.array([bar.bright, not bar.bright])[:, None, None]
    t, x, y, p = (column.ravel() for column in np.broadcast_arrays(t, x, y, p))
    kept = np.flatnonzero(rng.random(len(t)) < scene.keep)
    return _disturbed(t[kept], x[kept], y[kept], p[kept], scene, rng)


def _disturbed(
    t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, scene: Scene, rng: np.random.Generator
) -> np.ndarray:
    """Events with jitter and noise, in the order of their times. Time is a circle: nothing is lost at its ends."""
    num = rng.poisson(scene.noise * len(t))
    x, y, p = (np.append(old, rng.integers(0, top, num)) for old, top in ((x, scene.size), (y, scene.size), (p, 2)))
    t = np.append(t + rng.normal(0, scene.jitter_us, len(t)), rng.random(num) * scene.duration_us)
    t = np.floor(t % scene.duration_us).astype(np.int64)
    order = np.argsort(t, kind="stable")
    return make_events(t[order], x[order], y[order], p[order])


SIZES = {"train": 1_000, "test": 400}
FIRST_OF_VAL = 800


@dataclass(frozen=True)
class Made(Layout):
    """Recordings that lie nowhere: one "file" per part, made when it is read. Recording i shows motion i mod 4."""

    scene: Scene = field(default_factory=Scene)

    def files(self, folder: Path, part: str) -> list[File]:
        rows = tuple(Row(index, index % len(MOTIONS), index) for index in range(self.sizes[part]))
        return [File(part, len(rows), 0, rows)]

    def read(self, file: File) -> Iterator[np.ndarray]:
        for row in file.rows:
            rng = np.random.default_rng([SEED, list(SIZES).index(file.path), row.number])
            yield record(MOTIONS[row.label], Bar.draw(rng), self.scene, rng)


SPLITS = {
    "train": Split("train", FIRST_OF_VAL, lambda rows: rows.indices < FIRST_OF_VAL),
    "val": Split("train", SIZES["train"] - FIRST_OF_VAL, lambda rows: rows.indices >= FIRST_OF_VAL),
    "train+val": Split("train", SIZES["train"], everything),
    "test": Split("test", SIZES["test"], everything),
}
SCENE = Scene()


class MovingBars(EventSet):
    """Bars before 32 x 32 pixels for 300 ms, about 3,000 events: they turn clockwise or counter-clockwise, or move left
    or right. Made here, from a fixed seed: no file, no download.

    Every pixel inside the circle sees equally many events of either polarity, whatever the class. What runs backwards
    is of the opposite class, and bars are bright or dark: no sum over time, and no order of polarities, tells clockwise
    from counter-clockwise or left from right, only which pixel is next.

    >>> bars = MovingBars(split="test")
    >>> len(bars), bars.labels[:5].tolist(), len(bars[0][0])
    (400, [0, 1, 2, 3, 0], 4196)
    """

    name = "moving-bars"
    classes = MOTIONS
    sensor_size = (SCENE.size, SCENE.size, 2)
    num: ClassVar = {"train": 800, "val": 200, "train+val": 1_000, "test": 400}
    places = ("",)
    layouts: ClassVar = (Made(sizes=SIZES, folders=dict.fromkeys(SIZES, ("",)), scene=SCENE),)
    protocols: ClassVar = {"full": Protocol(tuple(range(len(MOTIONS))), SPLITS)}
    source = Source(homepage="spikelet.datasets.moving_bars", license="Apache-2.0", citation="made by spikelet")

    def _cached(self, recordings: Callable[[], Iterable[np.ndarray]]) -> Cached:
        """In memory: a second or two, and nothing is written."""
        indices, labels, _ = self.listing.catalogue
        return Cached(pack(list(recordings()), self.sensor_size), labels, indices)

    @classmethod
    def where(cls, root: str | Path | None = None) -> str:
        return "made when asked for"

    @classmethod
    def fetch(cls, root: str | Path | None = None, verify: bool = True) -> None:
        """Nothing to fetch: the recordings are always there."""

    @classmethod
    def write_fake(cls, root: str | Path, num_train: int = 600, num_test: int = 100, seed: int = 0) -> None:
        """Nothing to write: the real recordings are always there."""
