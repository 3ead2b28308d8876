"""From recordings to batches of frames: what the loader takes."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from spikelet.datasets.base import Batch, BatchSet, EpochSampler
from spikelet.datasets.event_base import EventSet
from spikelet.events import Frames, Jitter, batch_frames

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


class FrameSet(BatchSet):
    """An event set as frames, for ``loader``: batches (uint8 [T, N, P, H, W], int64 [N]). Time comes first.

    data    the recordings
    frames  how they are cut into steps; None: ``Frames()``
    jitter  random motion, for training; a function of (seed, epoch, index), whatever the batches and the workers
    seed    of the motion

    ``loader(FrameSet(...), ...)`` takes the epoch from ``loader.sampler.set_epoch``, which Lightning calls.
    """

    sampler = DrawSampler

    def __init__(
        self, data: EventSet, frames: Frames | None = None, jitter: Jitter | None = None, seed: int = 0
    ) -> None:
        self.data, self.frames, self.jitter, self.seed = data, frames or Frames(), jitter, seed
        self.classes, self.labels = data.classes, data.labels

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, draw: Draw | int) -> Batch:
        """Frames [T, P, H, W] of one recording and its label []; of epoch 0 where only the index is given."""
        frames, labels = self.__getitems__([draw])
        return frames[:, 0], labels[0]

    def __getitems__(self, draws: Sequence[Draw | int]) -> Batch:
        """A batch of (epoch, index), or of indices alone: frames [T, N, P, H, W], labels [N]."""
        pairs = np.array([draw if isinstance(draw, tuple) else (0, draw) for draw in draws], np.int64)
        epochs, indices = pairs[:, 0], pairs[:, 1]
        moves = self.jitter.draw(self.seed, epochs, indices) if self.jitter else None
        frames = batch_frames(self.data.cached.recordings, self.data.chosen[indices], self.frames, moves)
        return torch.from_numpy(frames), self.labels[torch.from_numpy(indices)]
