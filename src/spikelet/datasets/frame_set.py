"""From recordings to batches of frames, or of events in steps: what the loader takes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikelet.datasets.base import Batch, BatchSet, EpochSampler
from spikelet.datasets.event_base import EventSet
from spikelet.events import Binned, Frames, Jitter, batch_frames, bin_batch

Draw = tuple[int, int]


class DrawSampler(EpochSampler):
    """The order of EpochSampler, each index with the epoch that it is drawn in: what random motion is a function of.

    >>> sampler = DrawSampler(3)
    >>> sampler.set_epoch(7)
    >>> list(sampler)
    [(7, 0), (7, 1), (7, 2)]
    """

    def __iter__(self) -> Iterator[Draw]:  # type: ignore[override]
        return ((self.epoch, index) for index in super().__iter__())


class RecordingSet(BatchSet, ABC):
    """An event set as what a network takes, for ``loader``: batches of (input, labels int64 [N]).

    data    the recordings
    jitter  random motion, for training; a function of (seed, epoch, index), whatever the batches and the workers
    seed    of the motion

    ``loader(FrameSet(...), ...)`` takes the epoch from ``loader.sampler.set_epoch``, which Lightning calls.
    """

    sampler = DrawSampler

    def __init__(self, data: EventSet, jitter: Jitter | None = None, seed: int = 0) -> None:
        self.data, self.jitter, self.seed = data, jitter, seed
        self.classes, self.labels = data.classes, data.labels

    def __len__(self) -> int:
        return len(self.data)

    @abstractmethod
    def _inputs(self, chosen: np.ndarray, moves: np.ndarray | None) -> Any:
        """Recordings ``chosen`` (int64 [N]) of the packed file, moved by ``moves`` (float64 [N, 5])."""

    def __getitems__(self, draws: Sequence[Draw | int]) -> tuple[Any, Tensor]:
        """A batch of (epoch, index), or of indices alone: inputs, labels [N]."""
        pairs = np.array([draw if isinstance(draw, tuple) else (0, draw) for draw in draws], np.int64)
        epochs, indices = pairs[:, 0], pairs[:, 1]
        moves = self.jitter.draw(self.seed, epochs, indices) if self.jitter else None
        if moves is not None and self.data.sensor_size[1] == 1:
            moves[:, 2] = 0  # up or down there is nothing
        return self._inputs(self.data.chosen[indices], moves), self.labels[torch.from_numpy(indices)]


class FrameSet(RecordingSet):
    """An event set as frames, for ``loader``: batches (uint8 [T, N, P, H, W], int64 [N]). Time comes first.

    frames  how the recordings are cut into steps; None: ``Frames()``
    """

    def __init__(
        self, data: EventSet, frames: Frames | None = None, jitter: Jitter | None = None, seed: int = 0
    ) -> None:
        super().__init__(data, jitter, seed)
        self.frames = frames or Frames()

    def __getitem__(self, draw: Draw | int) -> Batch:
        """Frames [T, P, H, W] of one recording and its label []; of epoch 0 where only the index is given."""
        frames, labels = self.__getitems__([draw])
        return frames[:, 0], labels[0]

    def _inputs(self, chosen: np.ndarray, moves: np.ndarray | None) -> Tensor:
        return torch.from_numpy(batch_frames(self.data.cached.recordings, chosen, self.frames, moves))


class BinnedSet(RecordingSet):
    """An event set as events in steps, for networks with time surfaces: batches (``events.Binned``, int64 [N]).

    num_steps, dt_us  T, and the duration of a step in microseconds; what comes after T of them is left out
    downsample        so many columns and rows become one
    """

    def __init__(
        self,
        data: EventSet,
        num_steps: int,
        dt_us: int,
        downsample: int = 1,
        jitter: Jitter | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(data, jitter, seed)
        self.num_steps, self.dt_us, self.downsample = num_steps, dt_us, downsample

    def __getitem__(self, draw: Draw | int) -> tuple[Binned, Tensor]:  # type: ignore[override]
        """One recording, as a batch of one, and its label []; of epoch 0 where only the index is given."""
        binned, labels = self.__getitems__([draw])
        return binned, labels[0]

    def _inputs(self, chosen: np.ndarray, moves: np.ndarray | None) -> Binned:
        recordings = self.data.cached.recordings
        return bin_batch(recordings, chosen, self.num_steps, self.dt_us, self.downsample, moves)
