"""How many synapses a spike reaches: fan-out per site, through pools and sums, all weights or the non-zero ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spikelet.integer.network import Add, Conv, MaxPool, SumPool

if TYPE_CHECKING:
    from spikelet.integer.network import IntegerNetwork

Shape = tuple[int, ...]


def taps(size: int, kernel: int, stride: int, padding: int) -> np.ndarray:
    """bool [size, kernel, windows]: whether the window meets the position with that tap.

    >>> taps(3, 2, 1, 0).sum(axis=(1, 2)).tolist()
    [1, 2, 1]
    """
    windows = (size + 2 * padding - kernel) // stride + 1
    position, tap, window = np.ogrid[:size, :kernel, :windows]
    return window * stride - padding + tap == position


def fanout(node: Conv, source: Shape, nonzero: bool) -> np.ndarray:
    """int64 [C, H, W]: the weights (``nonzero``: only those not 0) that a spike at each input site meets."""
    rows, columns = _reach(node, source)
    present = (node.weight != 0) if nonzero else np.ones(node.weight.shape, bool)
    groups = node.groups
    per_tap = (
        present.reshape(groups, -1, *present.shape[1:])
        .sum(axis=1, dtype=np.int64)
        .reshape(source[0], *present.shape[2:])
    )
    return np.einsum("ckl,hk,wl->chw", per_tap, rows, columns)


def dense_operations(node: Conv, source: Shape) -> int:
    """Multiply-accumulates of one dense pass; what meets padding counts 0."""
    rows, columns = _reach(node, source)
    return int(node.weight.shape[0] * node.weight.shape[1] * rows.sum() * columns.sum())


def fanout_tables(network: IntegerNetwork, nonzero: bool) -> list[np.ndarray]:
    """Per node, and last for the input (index -1), int64 [C, H, W]: the weights that a spike at each site of its output
    meets in all its consumers.
    """
    tables = [np.zeros(shape, np.int64) for shape in (*network.shapes, network.input_shape)]
    for i in reversed(range(len(network.nodes))):
        node = network.nodes[i]
        if isinstance(node, Add):
            for s in node.sources:
                tables[s] += tables[i]
        elif isinstance(node, Conv):
            tables[node.source] += fanout(node, tables[node.source].shape, nonzero)
        elif isinstance(node, SumPool):
            tables[node.source] += _unpool(tables[i], node, network.shapes[node.source])
    return tables


def emitters(network: IntegerNetwork) -> list[int]:
    """Per node, the row of ``Record`` that its spikes' operations are added to, or -1: layers, and each maximum with
    the layer in front of it (behind a sum, the layer of its second source).
    """
    rows = {i: row for row, i in enumerate(network.layers)}
    result: list[int] = []
    for i, node in enumerate(network.nodes):
        if isinstance(node, MaxPool):
            i = node.source
            while not isinstance(network.nodes[i], Conv | MaxPool):
                before = network.nodes[i]
                i = before.sources[1] if isinstance(before, Add) else before.source  # type: ignore[union-attr]
            result.append(result[i])
        else:
            result.append(rows.get(i, -1))
    return result


def _reach(node: Conv, source: Shape) -> list[np.ndarray]:
    axes = zip(source[1:], node.weight.shape[2:], node.stride, node.padding, strict=True)
    return [taps(*axis).sum(axis=2, dtype=np.int64) for axis in axes]


def _unpool(table: np.ndarray, node: SumPool, source: Shape) -> np.ndarray:
    """Each site collects the tables of the windows that hold it."""
    axes = zip(source[1:], node.kernel, node.stride, node.padding, strict=True)
    rows, columns = (taps(*axis).sum(axis=1, dtype=np.int64) for axis in axes)
    return np.einsum("cij,hi,wj->chw", table, rows, columns)
