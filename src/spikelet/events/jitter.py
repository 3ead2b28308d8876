"""Random motion of recordings: a function of (seed, epoch, index), so that a resumed run sees the same."""

from dataclasses import dataclass

import numpy as np

from spikelet.errors import SpikeletError

GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Jitter:
    """How far recordings may be moved at random; see ``move``. Polarity is never changed.

    degrees          rotation, uniform in +-degrees, 0 to 180
    shift            pixels, each of -shift .. shift equally likely, for x and for y
    flip_horizontal  left-right, every other recording on average. A flip makes other digits and other gestures of some:
    flip_vertical    upside-down, likewise. Off by default; a recipe decides
    """

    degrees: float = 0.0
    shift: int = 0
    flip_horizontal: bool = False
    flip_vertical: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.degrees <= 180:
            raise SpikeletError(f"degrees: expected 0 to 180, got {self.degrees}")
        if self.shift < 0:
            raise SpikeletError(f"shift: expected at least 0 pixels, got {self.shift}")

    def draw(self, seed: int, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """One motion per recording: degrees, dx, dy, flips left-right and upside-down (0 or 1), float64 [N, 5].

        Sample ``indices[n]`` of epoch ``epochs[n]`` moves in the same way whatever else is in the batch.

        >>> moves = Jitter(degrees=10, shift=2).draw(seed=1, epochs=np.array([0, 3]), indices=np.array([7, 7]))
        >>> moves.round(2).tolist()
        [[9.4, -1.0, 1.0, 0.0, 0.0], [-5.85, -2.0, -2.0, 0.0, 0.0]]
        """
        u = uniform(seed, epochs, indices, 5)
        moves = np.empty_like(u)
        moves[:, 0] = (2 * u[:, 0] - 1) * self.degrees
        moves[:, 1:3] = np.floor(u[:, 1:3] * (2 * self.shift + 1)) - self.shift
        moves[:, 3] = (u[:, 3] < 0.5) & self.flip_horizontal
        moves[:, 4] = (u[:, 4] < 0.5) & self.flip_vertical
        return moves


def uniform(seed: int, epochs: np.ndarray, indices: np.ndarray, num: int) -> np.ndarray:
    """``num`` numbers in [0, 1) for each (seed, epochs[n], indices[n]): float64 [N, num].

    The three are mixed one after the other, then counted on from. Source: Steele, Lea and Flood, Fast splittable
    pseudorandom number generators, OOPSLA 2014 (SplitMix64).
    """
    state = _mix(np.full(len(indices), seed % 2**64, np.uint64))
    for value in (epochs, indices):
        state = _mix(state + np.asarray(value).astype(np.uint64) * np.uint64(GOLDEN))
    steps = np.arange(1, num + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    return (_mix(state[:, None] + steps) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser; arithmetic modulo 2^64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
