"""Runs an integer network: chunks of images through all layers, each layer all its steps, on as many threads as asked.

Layer after layer gives what step after step would, because no layer reads a later one. A chunk's spikes pass from layer
to layer as lists of events in buffers that are kept between calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from spikelet.integer.early import run_early
from spikelet.integer.fanout import emitters, fanout_tables
from spikelet.integer.kernels_pool import tally_layer, tally_samples
from spikelet.integer.network import IMAGE, Asked, Record, Rule
from spikelet.integer.stages import FrameStage, Spikes, Work, build_stages

if TYPE_CHECKING:
    from spikelet.integer.network import IntegerNetwork

CHUNK = 64
BUFFER_BYTES = 256 * 2**20


def usable_cores() -> int:
    """The cores that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Engine:
    """The compiled form of one network; made at its first run and kept with it."""

    def __init__(self, network: IntegerNetwork) -> None:
        self.network = network
        self.stages = build_stages(network)
        self.rows = [*emitters(network), len(network.layers)]  # what the input's frames cause is last, in row and index
        self.layers = tuple(network.nodes[i].name for i in network.layers)
        self.neurons = np.array([np.prod(network.shapes[i]) for i in network.layers], np.int64)
        self.worst = max(4 * stage.capacity for stage in self.stages) or 1
        self._works: list[Work] = []
        self._pool: tuple[int, int, ThreadPoolExecutor] | None = None
        self._fanout: list[np.ndarray] | None = None

    def run(
        self,
        images: np.ndarray,
        num_steps: int,
        asked: Asked,
        backend: str,
        num_threads: int | None,
        rule: Rule | None = None,
    ) -> Record:
        """See ``IntegerNetwork.run``."""
        if rule is not None:

            def part(images: np.ndarray, num_steps: int, asked: Asked) -> Record:
                return self.run(images, num_steps, asked, backend, num_threads)

            return run_early(part, images, num_steps, asked, rule, gradual=self.network.leaky)
        threads, number, first = num_threads or usable_cores(), images.shape[-4], self.stages[0]
        entering = first.most(images, num_steps) if isinstance(first, FrameStage) else 0
        size = self._chunk(number, max(self.worst * num_steps, 4 * entering), threads)
        job = Job(self, images, num_steps, backend, asked)
        job.chunks = [(start, min(start + size, number)) for start in range(0, number, size)]
        self._spread(job.work, min(threads, len(job.chunks)))
        return job.record(self.layers, self.neurons.copy())

    def fanouts(self) -> list[np.ndarray]:
        """Per node, and last of the input, int32 [sites, 2]: fan-out with all and with non-zero weights."""
        if self._fanout is None:
            pairs = zip(fanout_tables(self.network, False), fanout_tables(self.network, True), strict=True)
            self._fanout = [np.stack([t.transpose(1, 2, 0).ravel() for t in p], axis=1).astype(np.int32) for p in pairs]
        return self._fanout

    def _chunk(self, images: int, worst: int, threads: int) -> int:
        """Images per chunk: an even share for each thread, no more than ``CHUNK``, and buffers, of ``worst`` bytes for
        an image, within BUFFER_BYTES.
        """
        most = max(1, min(CHUNK, BUFFER_BYTES // worst))
        rounds = -(-images // (threads * most)) or 1
        return max(1, -(-images // (threads * rounds)))

    def _spread(self, work: Callable[[], None], threads: int) -> None:
        """Run ``work`` on so many threads at once, this one among them."""
        if threads <= 1:
            work()
            return
        if (
            self._pool is None or self._pool[0] != os.getpid() or self._pool[1] < threads - 1
        ):  # no thread survives a fork
            self._pool = os.getpid(), threads - 1, ThreadPoolExecutor(threads - 1, thread_name_prefix="spikelet")
        others = [self._pool[2].submit(work) for _ in range(threads - 1)]
        work()
        for other in others:
            other.result()


class Job:
    """One call of ``run``: its images, and the arrays that its threads fill."""

    chunks: list[tuple[int, int]]

    def __init__(self, engine: Engine, images: np.ndarray, num_steps: int, backend: str, asked: Asked) -> None:
        network = engine.network
        self.engine, self.images, self.num_steps, self.backend = engine, images, num_steps, backend
        number = images.shape[-4]
        self.logits = np.empty((num_steps, number, network.shapes[-1][0]), np.int32)
        self.counts: list[np.ndarray] | None = None
        if asked.counts:
            shapes = [network.shapes[i] for i in network.layers]
            dtype = np.int16 if network.leaky else np.int8
            self.counts = [np.empty((number, h, w, c), dtype) for c, h, w in shapes]
        self.asked = asked
        self.fanouts = engine.fanouts() if asked.record or asked.samples else None
        self.tallies: list[np.ndarray] = []
        self.samples = np.zeros((3, num_steps, number * asked.samples), np.int64)  # spikes, operations, the input's

    def work(self) -> None:
        """Take chunks until none is left."""
        works, tally = self.engine._works, None
        try:
            space = works.pop()
        except IndexError:
            space = Work()
        if self.asked.record:
            tally = np.zeros((len(self.engine.layers) + 1, 4, self.num_steps), np.int64)
            self.tallies.append(tally)
        while self.chunks:
            try:
                start, stop = self.chunks.pop()
            except IndexError:  # another thread took the last one
                break
            self._chunk(space, start, stop, tally)
        works.append(space)

    def _chunk(self, space: Work, start: int, stop: int, tally: np.ndarray | None) -> None:
        space.begin(stop - start, self.num_steps, self.images, start, self.backend)
        outputs: dict[int, Spikes] = {}
        for stage in self.engine.stages:
            counts, row = NO_COUNTS, self.engine.rows[stage.index]
            if self.counts is not None and stage.row >= 0:
                counts = self.counts[stage.row].reshape(self.images.shape[-4], -1)[start:stop]
            spikes = outputs[stage.index] = stage.run(space, outputs, counts, self.logits)
            if self.fanouts is not None and row >= 0:
                given = stop - start, self.num_steps, *spikes.lists, self.fanouts[stage.index]
                if tally is not None:
                    counted = stage.row >= 0 or stage.index == IMAGE
                    tally_layer(*given, counted, tally[row])
                if self.asked.samples:
                    spent = self.samples[2] if stage.index == IMAGE else self.samples[1]
                    tally_samples(*given, stage.row >= 0, self.samples[0], spent, start)

    def record(self, layers: tuple[str, ...], neurons: np.ndarray) -> Record:
        result = Record(self.logits, layers, neurons)
        if self.asked.record:
            spent = np.ascontiguousarray(np.sum(self.tallies, axis=0).transpose(1, 0, 2))
            layers_spent, entered = spent[:, :-1], spent[:, -1]
            result.positive, result.negative, result.synaptic_operations, result.effective_operations = layers_spent
            if self.engine.network.frames:
                result.input_events, result.input_operations = entered[0], entered[2:]
        if self.asked.samples:
            result.sample_spikes, result.sample_operations, entered = self.samples
            result.sample_input = entered if self.engine.network.frames else None
        if self.counts is not None:
            result.counts = [np.ascontiguousarray(a.transpose(0, 3, 1, 2)) for a in self.counts]
        return result


NO_COUNTS = np.empty((0, 0), np.int8)
