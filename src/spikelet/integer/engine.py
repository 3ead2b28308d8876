"""Runs an integer network: chunks of images through all layers, each layer all its steps, on as many threads as asked.

Layer after layer gives what step after step would, because no layer reads a later one. A chunk's spikes pass from layer
to layer as lists of events in buffers that are kept between calls.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from spikelet.integer.fanout import emitters, fanout_tables
from spikelet.integer.network import Record
from spikelet.integer.stages import Spikes, Work, build_stages
from spikelet.integer.kernels_pool import tally_operations, tally_spikes

if TYPE_CHECKING:
    from spikelet.integer.network import IntegerNetwork

CHUNK = 64
BUFFER_BYTES = 256 * 2**20


class Engine:
    """The compiled form of one network; made at its first run and kept with it."""

    def __init__(self, network: IntegerNetwork) -> None:
        self.network = network
        self.stages = build_stages(network)
        self.rows = emitters(network)
        self._works: list[Work] = []
        self._pool: ThreadPoolExecutor | None = None
        self._fanout: list[np.ndarray] | None = None

    def run(
        self, images: np.ndarray, num_steps: int, record: bool, counts: bool, backend: str, num_threads: int | None
    ) -> Record:
        """See ``IntegerNetwork.run``."""
        network, layers = self.network, self.network.layers
        threads = num_threads or len(os.sched_getaffinity(0))
        logits = np.zeros((num_steps, len(images), network.shapes[-1][0]), np.int32)
        kept = [np.empty((len(images), *_channels_last(network.shapes[i])), np.int8) for i in layers] if counts else None
        size = self._chunk(len(images), num_steps, threads)
        chunks = [(start, min(start + size, len(images))) for start in range(0, len(images), size)]
        totals: list[np.ndarray] = []

        def work() -> None:
            space = self._works.pop() if self._works else Work()
            tally = np.zeros((len(layers), 4, num_steps), np.int64)
            while chunks:
                try:
                    start, stop = chunks.pop()
                except IndexError:
                    break
                self._chunk_run(space, images, start, stop, num_steps, backend, record, tally, kept, logits)
            totals.append(tally)
            self._works.append(space)

        self._spread(work, min(threads, len(chunks)))
        spent: tuple = (None,) * 4
        if record:
            total = np.sum(totals, axis=0) if totals else np.zeros((len(layers), 4, num_steps), np.int64)
            spent = tuple(np.ascontiguousarray(total[:, j]) for j in range(4))
        neurons = np.array([np.prod(network.shapes[i]) for i in layers], np.int64)
        final = [np.ascontiguousarray(a.transpose(0, 3, 1, 2)) for a in kept] if kept is not None else None
        return Record(logits, tuple(network.nodes[i].name for i in layers), neurons, *spent, final)

    def _chunk_run(self, space, images, start, stop, num_steps, backend, record, tally, kept, logits) -> None:
        outputs: list[Spikes] = []
        space.begin(stop - start, num_steps, images, start, backend)
        for i, stage in enumerate(self.stages):
            final = kept[stage.row].reshape(len(images), -1)[start:stop] if kept and stage.row >= 0 else NO_COUNTS
            spikes = stage.run(space, outputs, final, logits)
            outputs.append(spikes)
            if record and self.rows[i] >= 0:
                if stage.row >= 0:
                    tally_spikes(stop - start, num_steps, spikes.starts, tally[stage.row, :2])
                tables = self._fanouts()[i]
                tally_operations(stop - start, num_steps, spikes.events, spikes.starts, tables, tally[self.rows[i], 2:])

    def _fanouts(self) -> list[np.ndarray]:
        """Per node, int32 [sites, 2]: fan-out with all and with non-zero weights."""
        if self._fanout is None:
            pairs = zip(fanout_tables(self.network, False), fanout_tables(self.network, True), strict=True)
            self._fanout = [np.stack([t.transpose(1, 2, 0).ravel() for t in p], axis=1).astype(np.int32) for p in pairs]
        return self._fanout

    def _chunk(self, images: int, num_steps: int, threads: int) -> int:
        """Images per chunk: an even share for each thread, no more than ``CHUNK``, and buffers within BUFFER_BYTES."""
        worst = max(4 * num_steps * stage.capacity for stage in self.stages) or 1
        most = max(1, min(CHUNK, BUFFER_BYTES // worst))
        rounds = -(-images // (threads * most)) or 1
        return max(1, -(-images // (threads * rounds)))

    def _spread(self, work, threads: int) -> None:
        if threads <= 1:
            work()
            return
        if self._pool is None or self._pool._max_workers < threads - 1:
            self._pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="spikelet")
        others = [self._pool.submit(work) for _ in range(threads - 1)]
        work()
        for other in others:
            other.result()


NO_COUNTS = np.empty((0, 0), np.int8)


def _channels_last(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    return shape[1], shape[2], shape[0]
