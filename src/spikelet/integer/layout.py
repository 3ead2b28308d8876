"""A convolution's weights and thresholds laid out for the kernels: tables made once, so that the loops only add.

Sites are numbered channels innermost, ``site = (y * W + x) * C + c``. The taps of a kernel are regrouped so that all
outputs of one output row that an input position reaches are one contiguous run, for any stride and padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikelet.integer.network import Conv, Neuron
from spikelet.integer.vector import LANES, PADDING

CACHE_LINE = 64
PLANE = -1
Shape = tuple[int, int, int]
MAGIC_SHIFT = 40  # site // C == site * magic >> 40, exact while site * C < 2**40


def magic(divisor: int) -> int:
    """The multiplier that divides by ``divisor`` with a shift of 40 bits.

    >>> [n * magic(10) >> 40 for n in (9, 10, 99, 1_000_009)]
    [0, 1, 9, 100000]
    """
    return -(-(1 << MAGIC_SHIFT) // divisor)


def aligned(size: int, dtype: type | np.dtype) -> np.ndarray:
    """An uninitialized flat array that starts on a cache line, so that no vector of it lies across two."""
    width = np.dtype(dtype).itemsize
    raw = np.empty(size * width + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + size * width].view(dtype)


def padded(flat: np.ndarray) -> np.ndarray:
    """``flat`` on a cache line, with zeros behind it for whole vectors."""
    result = aligned(len(flat) + PADDING, flat.dtype)
    result[: len(flat)] = flat
    result[len(flat) :] = 0
    return result


@dataclass(frozen=True, eq=False)
class Scatter:
    """How a spike spreads: for each input site, where its runs of outputs and weights start and how long they are.

    table     int32, flat [H * W * C_in, 4]: first output, first weight, length of a run, rows
    weight    int8 or int16, flat [C_in, kh, kw, C_out / groups] with the taps regrouped; where the output is 1 x 1,
              channels are padded with zeros to whole vectors
    geometry  int64: outputs per output row, weights per kernel row (of a 1 x 1 output: per input), 0 (with groups:
              C_out / groups, and the length of a run counts taps), C_out, total outputs, the length of a run where
              every spike has one of that length (or PLANE: all outputs, ternary; or 0)
    """

    table: np.ndarray
    weight: np.ndarray
    geometry: np.ndarray


def scatter(node: Conv, source: Shape, shape: Shape) -> Scatter:
    """Tables for ``node`` with input ``source`` and output ``shape``, both (C, H, W)."""
    channels_in, height, width = source
    channels, out_height, out_width = shape
    kh, kw = node.weight.shape[2:]
    part = run = channels // node.groups
    row_order, rows = _axis(height, kh, node.stride[0], node.padding[0], out_height)
    column_order, columns = _axis(width, kw, node.stride[1], node.padding[1], out_width)
    weight = node.weight.reshape(node.groups, part, -1, kh, kw)[:, :, :, row_order][..., column_order]
    weight = weight.transpose(0, 2, 3, 4, 1)
    plane = out_height == out_width == node.groups == 1
    ternary = int(np.abs(weight.astype(np.int64)).max()) <= 1
    whole = LANES if ternary else LANES // 2
    if plane:
        run = -(-part // whole) * whole
        weight = np.concatenate([weight, np.zeros((*weight.shape[:-1], run - part), weight.dtype)], axis=-1)
    channel = np.arange(channels_in)
    group = channel // (channels_in // node.groups)
    table = np.zeros((height, width, channels_in, 4), np.int64)
    table[..., 0] = ((rows[:, None, 0] * out_width + columns[None, :, 0]) * channels)[..., None] + group * part
    table[..., 1] = ((rows[:, None, 1] * kw + columns[None, :, 1]) * run)[..., None] + channel * kh * kw * run
    table[..., 2] = (columns[None, :, 2] * (run if node.groups == 1 else 1))[..., None]
    table[..., 3] = rows[:, None, 2, None]
    silent = (table[..., 2:] == 0).any(axis=-1)
    table[silent] = 0, 0, 0, out_height  # reaches nothing: empty runs, any row
    geometry = [
        out_width * channels,
        run if plane else kw * run,
        0 if node.groups == 1 else part,
        channels,
        channels * out_height * out_width,
    ]
    single = node.groups == 1 and not silent.any() and (table[..., 2:] == (run, 1)).all()
    geometry.append(PLANE if plane and single and ternary else run if single else 0)
    return Scatter(
        padded(table.ravel().astype(np.int32)),
        padded(weight.ravel()),
        np.array(geometry, np.int64),
    )


@dataclass(frozen=True, eq=False)
class Windows:
    """A convolution that visits every window of a padded, channels-last plane: int16 values, or bits in 64-bit words.

    taps      int32: where the pairs of values (or the words) of a window lie, from its first
    weight    int16, flat [C_out / 32, pairs, 32, 2], or uint64, flat [C_out / 32, words, 2 (+1, -1), 32]
    geometry  int64: padding (2), elements per plane row, kernel (2), stride (2), output columns, C_out padded to a
              multiple of 32, elements per position, C_out, output rows
    plane     elements in the plane
    where     int32 [sites]: the element that holds an input site (in bits: 64 times the word, plus the bit)
    """

    taps: np.ndarray
    weight: np.ndarray
    geometry: np.ndarray
    plane: int
    where: np.ndarray

    @property
    def line(self) -> int:
        """Elements of a buffer for one row of outputs, with room for the positions that a block of four adds to it."""
        return int((self.geometry[7] + 4) * self.geometry[8]) + PADDING


def windows(node: Conv, source: Shape, shape: Shape) -> Windows:
    """Tables for int16 values: ``node`` with input ``source`` and output ``shape``, both (C, H, W)."""
    channels_in, channels, (kh, kw) = source[0], len(node.weight), node.weight.shape[2:]
    geometry, size = _window_geometry(node, source, shape, channels_in)
    wide, pairs = int(geometry[8]), -(-kw * channels_in // 2)
    taps = np.arange(kh)[:, None] * geometry[2] + np.arange(pairs) * 2
    flat = np.zeros((wide, kh, pairs * 2), np.int16)
    flat[:channels, :, : kw * channels_in] = _ungrouped(node).transpose(0, 2, 3, 1).reshape(channels, kh, -1)
    weight = flat.reshape(wide // 32, 32, kh * pairs, 2).transpose(0, 2, 1, 3)
    return Windows(taps.ravel().astype(np.int32), padded(weight.ravel()), geometry, size, _where(geometry, source, 1))


def bit_windows(node: Conv, source: Shape, shape: Shape) -> Windows:
    """Tables for bit planes: like ``windows``, for ternary weights."""
    channels, (kh, kw) = len(node.weight), node.weight.shape[2:]
    words = -(-source[0] // 64)
    geometry, size = _window_geometry(node, source, shape, words)
    wide = int(geometry[8])
    taps = np.arange(kh)[:, None, None] * geometry[2] + np.arange(kw)[:, None] * words + np.arange(words)
    codes = np.zeros((wide, kh, kw, words * 64), np.int8)
    codes[:channels, ..., : source[0]] = _ungrouped(node).transpose(0, 2, 3, 1)
    planes = [np.packbits(codes == sign, axis=-1, bitorder="little").view(np.uint64) for sign in (1, -1)]
    weight = np.stack(planes).reshape(2, wide // 32, 32, -1).transpose(1, 3, 0, 2)
    return Windows(taps.ravel().astype(np.int32), padded(weight.ravel()), geometry, size, _where(geometry, source, 64))


def _where(geometry: np.ndarray, source: Shape, values: int) -> np.ndarray:
    """The place of each site in a plane of which each element holds ``values`` values."""
    y, x, c = np.ogrid[: source[1], : source[2], : source[0]]
    element = (y + geometry[0]) * geometry[2] + (x + geometry[1]) * geometry[9]
    return (element * values + c).ravel().astype(np.int32)


def _window_geometry(node: Conv, source: Shape, shape: Shape, elements: int) -> tuple[np.ndarray, int]:
    kernel, wide = node.weight.shape[2:], -(-shape[0] // 32) * 32
    row = (source[2] + 2 * node.padding[1]) * elements
    geometry = [*node.padding, row, *kernel, *node.stride, shape[2], wide, elements, shape[0], shape[1]]
    return np.array(geometry, np.int64), (source[1] + 2 * node.padding[0]) * row + 4 * node.stride[
        1
    ] * elements + PADDING


def row_thresholds(neuron: Neuron, width: int, wide: int) -> np.ndarray:
    """int32 [max_count, row]: what membranes must reach for each count, for one row of outputs of ``wide`` channels."""
    table = thresholds(neuron, np.int32)[1:-1]
    levels = np.full((len(table), wide), np.iinfo(np.int32).max, np.int32)
    levels[:, : table.shape[1]] = table
    return np.stack([padded(np.tile(level, width)) for level in levels])


def _ungrouped(node: Conv) -> np.ndarray:
    """The weights with zeros between groups, [C_out, C_in, kh, kw]."""
    channels, size = node.weight.shape[:2]
    result = np.zeros((channels, size * node.groups, *node.weight.shape[2:]), node.weight.dtype)
    for c in range(channels):
        group = c // (channels // node.groups)
        result[c, group * size : (group + 1) * size] = node.weight[c]
    return result


def _axis(size: int, kernel: int, stride: int, padding: int, windows: int) -> tuple[np.ndarray, np.ndarray]:
    """The order of the taps (by residue, then falling), and per position: first window, place of its tap, windows."""
    order = [tap for residue in range(stride) for tap in range(kernel - 1, -1, -1) if tap % stride == residue]
    table = np.zeros((size, 3), np.int64)
    for position in range(size):
        meets = [(window, position + padding - window * stride) for window in range(windows)]
        meets = [(window, tap) for window, tap in meets if 0 <= tap < kernel]
        if meets:
            table[position] = meets[0][0], order.index(meets[0][1]), len(meets)
    return np.array(order), table


def thresholds(neuron: Neuron, dtype: type) -> np.ndarray:
    """[max_count + 2, C]: row n + 1 holds what a membrane must reach for spike n + 1, in whole accumulators.

    V << f >= H exactly where V >= ceil(H / 2^f), so the fixed point stays exact without shifting the membranes. Row 0
    and the last row can never be crossed; what ``dtype`` cannot hold becomes its limit, which no membrane comes near.
    """
    info = np.iinfo(dtype)
    counts = np.arange(neuron.max_count, dtype=np.int64)[:, None]
    exact = neuron.first.astype(np.int64) + counts * neuron.step.astype(np.int64)
    whole = -((-exact) >> neuron.fraction_bits)
    table = np.full((neuron.max_count + 2, len(neuron.first)), info.max, np.int64)
    table[0] = info.min
    table[1:-1] = np.clip(whole, info.min, info.max)
    return table.astype(dtype)


def rest(table: np.ndarray, positions: int) -> np.ndarray:
    """The thresholds of silent neurons, one per site, with room for whole vectors that never fire."""
    return per_site(table[1], positions, np.iinfo(table.dtype).max)


def per_site(values: np.ndarray, positions: int, fill: int) -> np.ndarray:
    """What each channel has, for every site, with ``fill`` behind it for whole vectors."""
    size = positions * len(values)
    result = aligned(size + -size % LANES + PADDING, values.dtype)
    result[:size] = np.tile(values, positions)
    result[size:] = fill
    return result


def peak_counts(node: Conv, peak: np.ndarray) -> tuple[np.ndarray, int]:
    """(largest count of each output channel, largest unshifted |V|) if input channel c never counts beyond peak[c]."""
    reach = np.repeat(np.split(peak.astype(np.int64), node.groups), len(node.weight) // node.groups, axis=0)
    weight = node.weight.astype(np.int64)
    positive = (np.maximum(weight, 0).sum(axis=(2, 3)) * reach).sum(axis=1)
    negative = (np.maximum(-weight, 0).sum(axis=(2, 3)) * reach).sum(axis=1)
    bound = int(max(positive.max(), negative.max()))
    if not isinstance(node.neuron, Neuron):
        return np.full(len(weight), int(node.neuron is not None), np.int64), bound
    above = (positive << node.neuron.fraction_bits) - node.neuron.first.astype(np.int64)
    count = np.where(above < 0, 0, 1 + above // node.neuron.step.astype(np.int64))
    return np.minimum(count, node.neuron.max_count), bound
