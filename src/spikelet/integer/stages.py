"""One stage per node: its tables, its buffers, and which kernel runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spikelet.integer.check import PIXEL_MAX
from spikelet.integer.fanout import dense_operations, taps
from spikelet.integer.kernels_events import hidden_layer, readout
from spikelet.integer.kernels_frames import frame_events, frame_sizes
from spikelet.integer.kernels_image import image_layer
from spikelet.integer.kernels_leaky import count_events, leaky_image_layer, leaky_layer, tell_events
from spikelet.integer.kernels_pool import add_spikes, max_pool, sum_pool
from spikelet.integer.layout import (
    PLANE,
    Shape,
    Windows,
    aligned,
    bit_windows,
    padded,
    peak_counts,
    per_site,
    rest,
    row_thresholds,
    scatter,
    thresholds,
    windows,
)
from spikelet.integer.network import IMAGE, LIF, SRM, Add, Conv, MaxPool, Neuron, SumPool
from spikelet.integer.vector import LANES, PADDING

if TYPE_CHECKING:
    from spikelet.integer.network import IntegerNetwork

Lists = tuple[np.ndarray, np.ndarray]
NARROW = np.iinfo(np.int16).max - 1  # largest |V| with which no saturated int16 threshold can be crossed


@dataclass(eq=False)
class Spikes:
    """The spikes of a chunk (see ``kernels_events``), the largest count they led to, the most of them in one step."""

    events: np.ndarray
    starts: np.ndarray
    largest: int
    busiest: int

    @property
    def lists(self) -> tuple[np.ndarray, np.ndarray]:
        return self.events, self.starts


class Work:
    """One thread's buffers, kept between calls, and the chunk it works on.

    ``prepared`` keeps what stages hand to their kernels, by stage and chunk size, for as long as no buffer moves.
    """

    def __init__(self) -> None:
        self.buffers: dict[Any, np.ndarray] = {}
        self.prepared: dict[Any, tuple] = {}

    def begin(self, images: int, num_steps: int, pixels: np.ndarray, offset: int, backend: str) -> None:
        self.images, self.num_steps, self.pixels, self.offset, self.backend = images, num_steps, pixels, offset, backend

    def buffer(self, key: Any, size: int, dtype: type) -> np.ndarray:
        """A flat array of at least ``size``, its contents whatever the last use left."""
        found = self.buffers.get(key)
        if found is None or len(found) < size:
            found = self.buffers[key] = aligned(size, dtype)
            self.prepared.clear()
        return found

    def zeros(self, key: Any, size: int, dtype: type) -> np.ndarray:
        """Like ``buffer``, but zeros at its first use."""
        fresh = key not in self.buffers
        found = self.buffer(key, size, dtype)
        if fresh:
            found[:] = 0
        return found

    def spikes(self, stage: Stage, number: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Event and start buffers for the output of ``stage``: room for so many, or for all that it can send."""
        slots = self.images * self.num_steps
        number = slots * stage.capacity if number is None else number
        starts = self.buffer((stage.index, "starts"), 2 * slots + 1, np.int64)
        return self.buffer((stage.index, "events"), number + PADDING, np.int32), starts


class Stage:
    """A node with its tables. ``capacity``: most events per image and step; ``row``: its row in the record, or -1."""

    capacity = 0
    row = -1

    def __init__(self, index: int, source: tuple[int, int, int], shape: tuple[int, int, int]) -> None:
        self.index, self.source, self.shape = index, source, shape
        self.sites = int(np.prod(shape))

    def run(self, work: Work, outputs: dict[int, Spikes], counts: np.ndarray, logits: np.ndarray) -> Spikes:
        """The spikes of the chunk that ``work`` is at; ``outputs`` are those of the stages before, by index."""
        raise NotImplementedError


class FrameStage(Stage):
    """The input as frames: its events, as if a layer had sent them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(IMAGE, shape, shape)

    def run(self, work, outputs, counts, logits):
        sizes, frames = np.empty(work.images, np.int64), self.flat(work.pixels)
        largest = frame_sizes(frames, work.offset, work.num_steps, sizes)
        events, starts = work.spikes(self, int(sizes.sum()))
        busiest = frame_events(frames, work.offset, work.images, work.num_steps, (events, starts))
        return Spikes(events, starts, largest, busiest)

    def most(self, frames: np.ndarray, num_steps: int) -> int:
        """The most events of one recording."""
        sizes = np.empty(frames.shape[1], np.int64)
        frame_sizes(self.flat(frames), 0, num_steps, sizes)
        return int(sizes.max(initial=0))

    def flat(self, frames: np.ndarray) -> np.ndarray:
        """``frames`` [T, N, C, H, W] as the kernels want them."""
        return frames.reshape(*frames.shape[:3], self.shape[1] * self.shape[2])


class ImageStage(Stage):
    """A convolution that reads the image; no pixel is shifted: ``shift`` int16 [C] is 0."""

    def __init__(self, index: int, node: Conv, source, shape, row: int, shift: np.ndarray) -> None:
        super().__init__(index, source, shape)
        assert isinstance(node.neuron, Neuron)
        self.capacity, self.row, self.shift = self.sites, row, shift
        self.windows = windows(node, source, shape)
        self.thresholds = row_thresholds(node.neuron, shape[2], int(self.windows.geometry[8]))
        self.everything = bool((node.neuron.first <= 0).any())
        self.rows = source[1] + 2 * node.padding[0]

    def run(self, work, outputs, counts, logits):
        key = self.index, work.images, work.num_steps
        if key not in work.prepared:
            work.prepared[key] = self._arguments(work)
        arguments = work.prepared[key]
        events, starts = arguments[-1]
        largest, busiest = image_layer(*key[1:], *arguments, counts, work.pixels, self.shift, work.offset)
        return Spikes(events, starts, largest, busiest)

    def _arguments(self, work: Work) -> tuple:
        levels = min(work.num_steps, len(self.thresholds))
        blocks = self.shape[1] * (self.windows.line // LANES + 1)
        space = (
            *image_space(work, self.index, self.windows, self.rows),
            work.buffer("lists", levels * blocks * 2, np.uint64)[: levels * blocks * 2].reshape(levels, blocks, 2),
            work.buffer("sizes", levels, np.int64),
        )
        return _tables(self.windows), self.thresholds, self.everything, space, work.spikes(self)


def image_space(work: Work, index: int, tables: Windows, rows: int) -> tuple[np.ndarray, ...]:
    """Buffers for an image's plane, the range of columns of each of its ``rows``, and one row of outputs."""
    return (
        work.zeros((index, "plane"), tables.plane, np.int16),
        work.buffer("extent", 2 * rows, np.int64)[: 2 * rows].reshape(-1, 2),
        work.buffer("line", tables.line, np.int32),
    )


class _SpikeStage(Stage):
    """A convolution of spikes, with neurons. ``single``: no site sends it more than one spike in a step."""

    def __init__(self, index: int, node: Conv, source, shape, row: int, single: bool) -> None:
        super().__init__(index, source, shape)
        self.capacity, self.row, self.node = self.sites, row, node
        self.reach = int(np.abs(node.weight.astype(np.int64)).sum(axis=(1, 2, 3)).max())
        spread = scatter(node, source, shape)
        self.scatter = spread.table, spread.weight, spread.geometry
        self.bits = single and node.groups == 1 and int(np.abs(node.weight).max()) <= 1
        self.limits = break_even(node, source, shape, int(spread.geometry[5]))
        self._windows: dict[bool, Windows] = {}

    def limit(self, backend: str) -> int:
        """The most spikes in a step that are worked off as events."""
        if backend == "events" or self.node.groups > 1:
            return NEVER
        return self.limits[self.bits] if backend == "auto" else 0

    def dense(self, work: Work, busy: bool) -> tuple:
        """What a kernel needs to visit windows in steps with more spikes than the limit."""
        if not busy:
            return NEVER, 0, NO_TABLES, NO_WORK, NO_WORD_TABLES, NO_WORD_WORK
        limit, bits = self.limit(work.backend), self.bits and work.backend != "dense"
        if bits not in self._windows:
            self._windows[bits] = (bit_windows if bits else windows)(self.node, self.source, self.shape)
        tables = self._windows[bits]
        line = work.buffer("line", tables.line, np.int32)
        if bits:
            planes = work.zeros((self.index, "planes"), 2 * tables.plane, np.uint64)[: 2 * tables.plane].reshape(2, -1)
            return limit, 1, NO_TABLES, NO_WORK, _tables(tables), (planes, line)
        plane = work.zeros((self.index, "plane"), tables.plane, np.int16)
        return limit, 0, _tables(tables), (plane, line), NO_WORD_TABLES, NO_WORD_WORK


class HiddenStage(_SpikeStage):
    """Its neurons walk thresholds; no membrane exceeds ``bound``."""

    def __init__(self, index: int, node: Conv, source, shape, row: int, bound: int, single: bool) -> None:
        super().__init__(index, node, source, shape, row, single)
        self.bound = bound
        self._thresholds: dict[type, tuple[np.ndarray, np.ndarray]] = {}

    def run(self, work, outputs, counts, logits):
        given = outputs[self.node.source]
        narrow = self.bound <= NARROW or self.reach * given.largest <= NARROW
        busy = given.busiest > self.limit(work.backend)
        key = self.index, work.images, work.num_steps, narrow, busy, work.backend
        if key not in work.prepared:
            work.prepared[key] = self._arguments(work, given, np.int16 if narrow else np.int32, busy)
        arguments = work.prepared[key]
        events, starts = arguments[-1]
        largest, busiest = hidden_layer(*key[1:3], *arguments, counts)
        return Spikes(events, starts, largest, busiest)

    def _arguments(self, work: Work, given: Spikes, dtype: type, busy: bool) -> tuple:
        table, resting = self.thresholds(dtype)
        size = len(resting)
        state = work.buffer(("state", dtype), 3 * size, dtype)[: 3 * size].reshape(3, size)
        count = work.buffer("count", size, np.int8)[:size]
        back = work.buffer("back", size, np.int32)
        found = work.buffer("found", 3 * size // LANES, np.uint64)[: 3 * (size // LANES)].reshape(-1, 3)
        space = state, count, back, found
        return self.scatter, self.dense(work, busy), table, resting, *space, given.lists, work.spikes(self)

    def thresholds(self, dtype: type) -> tuple[np.ndarray, np.ndarray]:
        """The thresholds of every count, and those of silent neurons, one per site."""
        if dtype not in self._thresholds:
            assert isinstance(self.node.neuron, Neuron)
            table = thresholds(self.node.neuron, dtype)
            self._thresholds[dtype] = padded(table.ravel()), rest(table, self.shape[1] * self.shape[2])
        return self._thresholds[dtype]


class Leaky:
    """The neurons of a layer of ``LIF`` or ``SRM`` as its kernel wants them, and what becomes of its spikes."""

    def __init__(self, neuron: LIF | SRM, shape: Shape, last: bool) -> None:
        positions, self.two = shape[1] * shape[2], isinstance(neuron, SRM)
        sites = per_site(neuron.bias, positions, 0), per_site(neuron.threshold, positions, np.iinfo(np.int32).max)
        kept = int(isinstance(neuron, LIF) and neuron.reset == "subtract")
        second = (neuron.synapse_leak, neuron.synapse_shift, 2) if isinstance(neuron, SRM) else (0, 0, 1)
        self.arguments = *sites, neuron.leak, neuron.shift, neuron.fraction_bits, kept, *second
        self.size, self.biased, self.last = len(sites[0]), bool(neuron.bias.any()), last

    def membranes(self, work: Work) -> tuple[np.ndarray, np.ndarray]:
        """Buffers for both traces; the second is empty where there is one."""
        second = work.buffer("second", self.size, np.int32)[: self.size] if self.two else NO_LINE
        return work.buffer("membranes", self.size, np.int32)[: self.size], second

    def spikes(self, work: Work, lists: Lists, busiest: int, counts: np.ndarray, logits: np.ndarray) -> Spikes:
        """The layer's spikes; they are counted where asked, and are the logits of the last layer."""
        if len(counts):
            count_events(work.images, work.num_steps, lists, counts)
        if self.last:
            tell_events(work.images, work.num_steps, lists, logits, work.offset)
        events, starts = lists
        return Spikes(events, starts, 1, busiest)


class LeakyImageStage(Stage):
    """A convolution that reads the image at every step, with leaky neurons."""

    def __init__(self, index: int, node: Conv, source, shape, row: int, shift: np.ndarray, last: bool) -> None:
        super().__init__(index, source, shape)
        assert isinstance(node.neuron, LIF | SRM)
        self.capacity, self.row, self.shift = self.sites, row, shift
        self.windows, self.rows = windows(node, source, shape), source[1] + 2 * node.padding[0]
        self.neuron = Leaky(node.neuron, shape, last)

    def run(self, work, outputs, counts, logits):
        key = self.index, work.images, work.num_steps
        if key not in work.prepared:
            work.prepared[key] = self._arguments(work)
        arguments = work.prepared[key]
        busiest = leaky_image_layer(*key[1:], *arguments, work.pixels, self.shift, work.offset)
        return self.neuron.spikes(work, arguments[-1], busiest, counts, logits)

    def _arguments(self, work: Work) -> tuple:
        space = (
            *image_space(work, self.index, self.windows, self.rows),
            work.zeros((self.index, "currents"), self.neuron.size, np.int32)[: self.neuron.size],
            *self.neuron.membranes(work),
        )
        return _tables(self.windows), self.neuron.arguments, space, work.spikes(self)


class LeakyStage(_SpikeStage):
    """Its neurons leak."""

    def __init__(self, index: int, node: Conv, source, shape, row: int, single: bool, last: bool) -> None:
        super().__init__(index, node, source, shape, row, single)
        assert isinstance(node.neuron, LIF | SRM)
        self.neuron = Leaky(node.neuron, shape, last)

    def run(self, work, outputs, counts, logits):
        given = outputs[self.node.source]
        narrow = self.reach * given.largest <= NARROW
        busy = given.busiest > self.limit(work.backend)
        key = self.index, work.images, work.num_steps, narrow, busy, work.backend
        if key not in work.prepared:
            work.prepared[key] = self._arguments(work, given, np.int16 if narrow else np.int32, busy)
        arguments = work.prepared[key]
        return self.neuron.spikes(work, arguments[-1], leaky_layer(*key[1:3], *arguments), counts, logits)

    def _arguments(self, work: Work, given: Spikes, dtype: type, busy: bool) -> tuple:
        neuron = self.neuron
        state = work.buffer(("charge", dtype), neuron.size, dtype)[: neuron.size], *neuron.membranes(work)
        dense, lists = self.dense(work, busy), work.spikes(self)
        return self.scatter, dense, neuron.arguments, neuron.biased, state, given.lists, lists


# What things cost, in picoseconds, on an AMD EPYC (Zen 4): only their ratios matter.
ROWS, RUN, OUTPUTS = (5000, 800), (2000, 850), (500, 400)  # a spike and each 32 additions, by the ways of ``charge``
PLACE = 1700  # setting and clearing a spike in a plane
WINDOW, PAIR, WORD = 27000, 620, 5500  # 32 outputs of a window, each pair of its int16 values, each word of its bits
NEVER = int(np.iinfo(np.int64).max)
NO_VALUES, NO_LINE, NO_PLANES = np.empty(0, np.int16), np.empty(0, np.int32), np.empty((2, 0), np.uint64)
NO_TABLES = NO_LINE, NO_VALUES, np.empty(0, np.int64), NO_LINE
NO_WORD_TABLES = NO_LINE, NO_PLANES[0], np.empty(0, np.int64), NO_LINE
NO_WORK, NO_WORD_WORK = (NO_VALUES, NO_LINE), (NO_PLANES, NO_LINE)


def break_even(node: Conv, source: Shape, shape: Shape, run: int) -> tuple[int, int]:
    """The spikes in a step above which (int16 windows, bit windows) are faster than events, by their measured costs."""
    kh, kw = node.weight.shape[2:]
    additions = dense_operations(node, source) // (source[0] * source[1] * source[2])
    spike, vector = OUTPUTS if run == PLANE else RUN if run in (32, 64) else ROWS
    saved = max(1, spike + vector * additions // 32 - PLACE)
    positions = shape[1] * shape[2] * -(-shape[0] // 32)
    values = positions * (WINDOW + PAIR * kh * -(-kw * source[0] // 2))
    bits = positions * (WINDOW + WORD * kh * kw * -(-source[0] // 64))
    return values // saved, bits // saved


class ReadoutStage(Stage):
    """The last convolution, whose sums are the logits."""

    def __init__(self, index: int, node: Conv, source, shape, leaky: bool) -> None:
        super().__init__(index, source, shape)
        self.before, self.always = node.source, leaky
        spread = scatter(node, source, shape)
        self.scatter = spread.table, spread.weight, spread.geometry
        self.bias = node.bias.copy() if node.bias is not None else np.zeros(len(node.weight), np.int32)

    def run(self, work, outputs, counts, logits):
        given = outputs[self.before]
        size = len(self.bias) + -len(self.bias) % LANES + PADDING
        v = work.buffer("logits", size, np.int32)[:size]
        told = self.scatter, self.bias, self.always, v, given.lists, logits, work.offset
        readout(work.images, work.num_steps, *told)
        return given


class AddStage(Stage):
    """The spikes of two nodes in one list."""

    def __init__(self, index: int, node: Add, shape, stages: list[Stage]) -> None:
        super().__init__(index, shape, shape)
        self.before = node.sources
        self.capacity = sum(stages[s].capacity for s in node.sources)

    def run(self, work, outputs, counts, logits):
        left, right = (outputs[s] for s in self.before)
        events, starts = work.spikes(self)
        add_spikes(2 * work.images * work.num_steps, left.lists, right.lists, (events, starts))
        return Spikes(events, starts, left.largest + right.largest, left.busiest + right.busiest)


class PoolStage(Stage):
    """Sum or maximum over windows."""

    def __init__(self, index: int, node: SumPool | MaxPool, source, shape, stages: list[Stage]) -> None:
        super().__init__(index, source, shape)
        self.before, self.maximum = node.source, isinstance(node, MaxPool)
        self.area = node.kernel[0] * node.kernel[1]
        axes = zip(source[1:], node.kernel, node.stride, node.padding, strict=True)
        rows, columns = (np.asarray(taps(*axis).any(axis=1)) for axis in axes)
        inside = np.einsum("yi,xj->yxij", rows, columns).reshape(source[1] * source[2], -1)
        self.windows, self.members = _lists(inside), _lists(inside.T)
        self.spread = int(inside.sum(axis=1).max())
        self.capacity = stages[node.source].capacity * self.spread

    def run(self, work, outputs, counts, logits):
        given = outputs[self.before]
        events, starts = work.spikes(self)
        channels, busiest = self.source[0], given.busiest * self.spread
        if not self.maximum:
            sum_pool(2 * work.images * work.num_steps, channels, *self.windows, given.lists, (events, starts))
            return Spikes(events, starts, given.largest * self.area, busiest)
        sizes = {"count": int(np.prod(self.source)), "top": self.sites, "marked": self.capacity, "back": self.capacity}
        space = tuple(work.buffer(("pool", name), size, np.int32)[:size] for name, size in sizes.items())
        arguments = channels, self.windows, self.members, space, given.lists, (events, starts)
        return Spikes(events, starts, max_pool(work.images, work.num_steps, *arguments), busiest)


def _lists(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a table of truth values as one flat list of column indices and where each row begins in it."""
    first = np.concatenate([[0], np.cumsum(inside.sum(axis=1))])
    return first.astype(np.int64), np.nonzero(inside)[1].astype(np.int32)


def _tables(tables: Windows) -> tuple[np.ndarray, ...]:
    return tables.taps, tables.weight, tables.geometry, tables.where


def build_stages(network: IntegerNetwork) -> list[Stage]:
    """One stage per node of ``network``; of one for frames, one for these in front."""
    stages: list[Stage] = []
    peaks: list[np.ndarray] = []
    single = {IMAGE: network.frames == 1}
    rows = {i: row for row, i in enumerate(network.layers)}
    shift = np.array(network.pixel_offset or [0] * network.input_shape[0], np.int16)
    for i, node in enumerate(network.nodes):
        shape = network.shapes[i]
        single[i] = isinstance(node, Conv) or (isinstance(node, MaxPool) and single[node.source])
        if isinstance(node, Add):
            peaks.append(peaks[node.sources[0]] + peaks[node.sources[1]])
            stages.append(AddStage(i, node, shape, stages))
            continue
        source = network.input_shape if node.source == IMAGE else network.shapes[node.source]
        peak = np.full(source[0], PIXEL_MAX, np.int64) if node.source == IMAGE else peaks[node.source]
        if isinstance(node, SumPool | MaxPool):
            peaks.append(peak * (node.kernel[0] * node.kernel[1] if isinstance(node, SumPool) else 1))
            stages.append(PoolStage(i, node, source, shape, stages))
            continue
        peak, bound = peak_counts(node, peak)
        peaks.append(peak)
        last = i == len(network.nodes) - 1
        if node.neuron is None:
            stages.append(ReadoutStage(i, node, source, shape, network.leaky))
        elif isinstance(node.neuron, LIF | SRM) and node.source == IMAGE and not network.frames:
            stages.append(LeakyImageStage(i, node, source, shape, rows[i], shift, last))
        elif isinstance(node.neuron, LIF | SRM):
            stages.append(LeakyStage(i, node, source, shape, rows[i], single[node.source], last))
        elif node.source == IMAGE:
            stages.append(ImageStage(i, node, source, shape, rows[i], shift))
        else:
            stages.append(HiddenStage(i, node, source, shape, rows[i], bound, single[node.source]))
    return [FrameStage(network.input_shape), *stages] if network.frames else stages
