"""A batch of recordings as events in steps, at most one per step and site: what the time-surface encoder takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from spikelet.errors import SpikeletError
from spikelet.events.arrays import SensorSize
from spikelet.events.packed import Packed

TENSORS = ("steps", "sites", "starts")


@dataclass(frozen=True, eq=False)
class Binned:
    """N recordings, one behind the other: where and in which step there was an event. Memory grows with the events.

    steps        int32 [E], 0 to T - 1, never running back within a recording
    sites        int32 [E], (p * H + y) * W + x, each at most once per step
    starts       int64 [N + 1]: the events of recording n are starts[n] to starts[n + 1]
    num_steps    T
    sensor_size  (W, H, P)
    """

    steps: Tensor
    sites: Tensor
    starts: Tensor
    num_steps: int
    sensor_size: SensorSize

    def __len__(self) -> int:
        """N"""
        return len(self.starts) - 1

    def to(self, device: str | torch.device, non_blocking: bool = False) -> Binned:
        """The same batch on ``device``."""
        moved = {name: getattr(self, name).to(device, non_blocking=non_blocking) for name in TENSORS}
        return replace(self, **moved)

    def __getitem__(self, chosen: slice) -> Binned:
        """The recordings ``chosen``, one after the other.

        >>> steps, sites = torch.tensor([0, 1, 1], dtype=torch.int32), torch.tensor([2, 1, 2], dtype=torch.int32)
        >>> Binned(steps, sites, torch.tensor([0, 1, 3]), num_steps=2, sensor_size=(5, 1, 1))[1:].steps.tolist()
        [1, 1]
        """
        if not isinstance(chosen, slice):
            raise SpikeletError(f"chosen: expected a slice, such as [0:1], got {chosen!r}")
        first, end, stride = chosen.indices(len(self))
        if stride != 1:
            raise SpikeletError(f"chosen: expected recordings one after the other, got every {stride}th")
        starts = self.starts[first : max(first, end) + 1]
        events = slice(int(starts[0]), int(starts[-1]))
        return replace(self, steps=self.steps[events], sites=self.sites[events], starts=starts - starts[0])

    def until(self, num_steps: int) -> Binned:
        """The first ``num_steps`` steps.

        >>> steps, sites = torch.tensor([0, 1, 1], dtype=torch.int32), torch.tensor([2, 1, 2], dtype=torch.int32)
        >>> Binned(steps, sites, torch.tensor([0, 1, 3]), num_steps=2, sensor_size=(5, 1, 1)).until(1).starts.tolist()
        [0, 1, 1]
        """
        if not 1 <= num_steps <= self.num_steps:
            raise SpikeletError(f"num_steps: expected 1 to {self.num_steps}, got {num_steps}")
        keep = self.steps < num_steps
        before = functional.pad(keep.cumsum(0), (1, 0))
        return Binned(self.steps[keep], self.sites[keep], before[self.starts], num_steps, self.sensor_size)

    def per_step(self) -> Tensor:
        """Events of all recordings in each step, int64 [T].

        >>> steps, sites = torch.tensor([0, 1, 1], dtype=torch.int32), torch.tensor([2, 1, 2], dtype=torch.int32)
        >>> Binned(steps, sites, torch.tensor([0, 1, 3]), num_steps=2, sensor_size=(5, 1, 1)).per_step().tolist()
        [1, 2]
        """
        return torch.bincount(self.steps, minlength=self.num_steps)

    def per_recording(self) -> Tensor:
        """Events of each recording in each step, int64 [T, N].

        >>> steps, sites = torch.tensor([0, 1, 1], dtype=torch.int32), torch.tensor([2, 1, 2], dtype=torch.int32)
        >>> Binned(steps, sites, torch.tensor([0, 1, 3]), 2, sensor_size=(5, 1, 1)).per_recording().tolist()
        [[1, 0], [0, 2]]
        """
        recording = torch.arange(len(self), device=self.steps.device).repeat_interleave(self.starts.diff())
        places = self.steps * len(self) + recording
        return torch.bincount(places, minlength=self.num_steps * len(self)).reshape(self.num_steps, len(self))

    def pin_memory(self) -> Binned:
        """The same batch in memory that a GPU can fetch while the CPU goes on."""
        return replace(self, **{name: getattr(self, name).pin_memory() for name in TENSORS})


def bin_batch(
    packed: Packed,
    chosen: np.ndarray,
    num_steps: int,
    dt_us: int,
    downsample: int = 1,
    moves: np.ndarray | None = None,
) -> Binned:
    """Recordings ``chosen`` (int64 [N]) in ``num_steps`` steps of ``dt_us``: events on one site in one step become one.

        step = (t - t[0]) // dt_us          beyond T - 1: left out; missing steps are silent
        x, y = x // downsample, y // downsample, of a sensor of ceil(W / downsample) x ceil(H / downsample)

    moves   float64 [N, 5], as ``Jitter.draw`` gives them: how each recording is moved, in front of ``downsample``

    >>> from spikelet.events import make_events, pack
    >>> events = make_events(t=[90, 100, 140, 199, 290], x=[3, 2, 3, 0, 0], y=[0] * 5, p=[1, 1, 1, 0, 0])
    >>> batch = bin_batch(pack([events], (4, 1, 2)), np.array([0]), num_steps=2, dt_us=100, downsample=2)
    >>> batch.steps.tolist(), batch.sites.tolist(), batch.starts.tolist(), batch.sensor_size
    ([0, 1], [3, 0], [0, 2], (2, 1, 2))
    """
    from spikelet.events import kernels

    for name, value in (("num_steps", num_steps), ("dt_us", dt_us), ("downsample", downsample)):
        if value < 1 or value != int(value):
            raise SpikeletError(f"{name}: expected at least 1 (a whole number), got {value}")
    sensor_size, targets = _targets(packed.sensor_size, downsample, moves)
    limits = int(num_steps), int(dt_us), int(np.prod(sensor_size))
    arrays = kernels.bin_sparse(packed.times, packed.sites, packed.places(chosen), targets, *limits)
    steps, sites, starts = map(torch.from_numpy, arrays)
    return Binned(steps, sites, starts, num_steps, sensor_size)


def _targets(sensor_size: SensorSize, downsample: int, moves: np.ndarray | None) -> tuple[SensorSize, np.ndarray]:
    """The sensor after down-sampling, and where each site goes: int32 [1 or N, P * H * W], -1 for nowhere."""
    from spikelet.events import kernels

    width, height, polarities = sensor_size
    small = -(-width // downsample), -(-height // downsample), polarities
    x, y, p = np.arange(width) // downsample, np.arange(height) // downsample, np.arange(polarities)
    places = ((p[:, None, None] * small[1] + y[:, None]) * small[0] + x).astype(np.int32).reshape(1, -1)
    if moves is None:
        return small, places
    moved = kernels.target_sites(width, height, polarities, moves)
    return small, np.where(moved < 0, np.int32(-1), places[0][moved])
