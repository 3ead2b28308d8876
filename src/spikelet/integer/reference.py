"""The integer network in plain numpy: the specification that the engine is tested against, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from spikelet.errors import SpikeletError
from spikelet.integer.check import decays
from spikelet.integer.early import by_steps, first_decided
from spikelet.integer.fanout import emitters
from spikelet.integer.network import IMAGE, LIF, SRM, Add, Asked, Conv, MaxPool, Neuron, Node, Record, Rule, SumPool

if TYPE_CHECKING:
    from spikelet.integer.network import IntegerNetwork


def run(network: IntegerNetwork, images: np.ndarray, num_steps: int, asked: Asked, rule: Rule | None = None) -> Record:
    """Walk ``num_steps`` steps; by ``rule``, what each image gives in a run that ends where it has decided.

    See ``IntegerNetwork.run``.
    """
    if rule is None:
        return walk(network, images, num_steps, asked)
    exits, _ = first_decided(walk(network, images, num_steps, Asked()).logits, rule)
    return by_steps(lambda *given: walk(network, *given), images, num_steps, exits, asked)


def walk(network: IntegerNetwork, images: np.ndarray, num_steps: int, asked: Asked) -> Record:
    """Step by step, layer by layer."""
    layers, nodes, number = network.layers, network.nodes, images.shape[-4]
    membranes = {i: np.zeros((2, number, *network.shapes[i]), np.int64) for i in layers}
    final = {i: np.zeros_like(membranes[i][0]) for i in layers}
    pools: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    tally = np.zeros((4, len(layers) + 1, num_steps, number), np.int64)  # the input's frames are last
    rows, counted = emitters(network), asked.record or asked.samples
    logits = np.zeros((num_steps, number, network.shapes[-1][0]), np.int32)
    for t, given in enumerate(_input(network, images, num_steps)):
        outputs: list[np.ndarray] = []
        for i, node in enumerate(nodes):
            x = given if not isinstance(node, Add) and node.source == IMAGE else None
            spikes = _linear(node, outputs, x)
            if isinstance(node, MaxPool):
                spikes = _max_step(node, i, spikes, pools)
            elif isinstance(node, Conv) and node.neuron is not None:
                spikes = _fire(node.neuron, membranes[i], final[i], spikes)
                tally[:2, rows[i], t] += (spikes > 0).sum((1, 2, 3)), (spikes < 0).sum((1, 2, 3))
            elif isinstance(node, Conv) and node.bias is not None and (t == 0 or network.leaky):
                spikes = spikes + node.bias.reshape(-1, 1, 1)
            if counted and rows[i] >= 0:
                tally[2:, rows[i], t] += _operations(network, i, np.abs(spikes))
            outputs.append(spikes)
        logits[t] = outputs[-1][:, :, 0, 0]
        if counted and network.frames:
            tally[0, -1, t], tally[2:, -1, t] = given.sum((1, 2, 3)), _operations(network, IMAGE, given)
    neurons = np.array([np.prod(network.shapes[i]) for i in layers], np.int64)
    kept = [final[i].astype(np.int16 if network.leaky else np.int8) for i in layers] if asked.counts else None
    result = Record(logits, tuple(nodes[i].name for i in layers), neurons, counts=kept)
    if asked.record:
        summed = tally.sum(-1)
        result.positive, result.negative, result.synaptic_operations, result.effective_operations = summed[:, :-1]
        if network.frames:
            result.input_events, result.input_operations = summed[0, -1], summed[2:, -1]
    if asked.samples:
        result.sample_spikes, result.sample_operations = tally[:2, :-1].sum((0, 1)), tally[2, :-1].sum(0)
        result.sample_input = tally[2, -1] if network.frames else None
    return result


def _input(network: IntegerNetwork, images: np.ndarray, num_steps: int) -> Iterator[np.ndarray]:
    """What the first layer sees at each step, int64 [N, C, H, W]."""
    if network.frames:
        yield from images[:num_steps].astype(np.int64)
        return
    pixels = images.astype(np.int64) - np.array(network.pixel_offset or [0], np.int64).reshape(-1, 1, 1)
    for t in range(num_steps):
        yield pixels if t == 0 or network.leaky else np.zeros_like(pixels)


def settled(network: IntegerNetwork, images: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """The counts at which a long run must end, in closed form (the integer ANN): int64 [N, C, H, W] per layer, and the
    summed logits, int64 [N, classes].
    """
    if network.leaky:
        raise SpikeletError("network: LIF neurons have no count at which they settle")
    outputs: list[np.ndarray] = []
    for node in network.nodes:
        image = images.astype(np.int64) if not isinstance(node, Add) and node.source == IMAGE else None
        x = _linear(node, outputs, image)
        if isinstance(node, MaxPool):
            x = _windows(x, node.kernel, node.stride, node.padding).max(axis=(-2, -1))
        elif isinstance(node, Conv) and isinstance(node.neuron, Neuron):
            x = settled_count(node.neuron, x)
        elif isinstance(node, Conv) and node.bias is not None:
            x = x + node.bias.reshape(-1, 1, 1)
        outputs.append(x)
    return [outputs[i] for i in network.layers], outputs[-1][:, :, 0, 0]


def settled_count(neuron: Neuron, accumulator: np.ndarray) -> np.ndarray:
    """n = 0 if V < first else min(1 + (V - first) // step, max_count), with V = accumulator << fraction_bits.

    >>> neuron = Neuron(np.array([3], np.int32), np.array([2], np.int32), 0, 4)
    >>> settled_count(neuron, np.array([2, 3, 4, 5, 99]).reshape(5, 1, 1, 1)).ravel().tolist()
    [0, 1, 1, 2, 4]
    """
    first, step = (a.astype(np.int64).reshape(-1, 1, 1) for a in (neuron.first, neuron.step))
    v = accumulator << neuron.fraction_bits
    return np.where(v < first, 0, np.minimum(1 + (v - first) // step, neuron.max_count))


def _fire(neuron: Neuron | LIF | SRM, v: np.ndarray, count: np.ndarray, charge: np.ndarray) -> np.ndarray:
    """One step of any neuron, of which SRM has both membranes ``v`` [2, ...]; updates ``v`` and ``count``."""
    if isinstance(neuron, Neuron):
        return _walk(neuron, v[0], count, charge)
    bias, threshold = (a.astype(np.int64).reshape(-1, 1, 1) for a in (neuron.bias, neuron.threshold))
    for trace, (leak, shift) in zip(v, decays(neuron), strict=False):
        trace[:] = (trace * leak >> shift) + (charge << neuron.fraction_bits) + bias
    potential = v[0] - v[1]  # of LIF, whose second membrane stays 0, the first
    spikes = (potential >= threshold).astype(np.int64)
    if isinstance(neuron, LIF) and neuron.reset == "subtract":
        v[0] -= spikes * threshold
    else:
        v *= 1 - spikes
    count += spikes
    return spikes


def _walk(neuron: Neuron, v: np.ndarray, count: np.ndarray, charge: np.ndarray) -> np.ndarray:
    """One step of the threshold walk; updates ``v`` and ``count`` and returns the spikes."""
    v += charge << neuron.fraction_bits
    first, step = (a.astype(np.int64).reshape(-1, 1, 1) for a in (neuron.first, neuron.step))
    high = first + count * step
    up = (count < neuron.max_count) & (v >= high)
    down = (count > 0) & (v < high - step)
    spikes = up.astype(np.int64) - down
    count += spikes
    return spikes


def _linear(node: Node, outputs: list[np.ndarray], image: np.ndarray | None) -> np.ndarray:
    """What ``node`` makes of its input without memory: weighted sum, window sum, sum; a maximum passes it on."""
    if isinstance(node, Add):
        return outputs[node.sources[0]] + outputs[node.sources[1]]
    x = image if image is not None else outputs[node.source]
    if isinstance(node, Conv):
        return conv(node, x, node.weight)
    return _windows(x, node.kernel, node.stride, node.padding).sum(axis=(-2, -1)) if isinstance(node, SumPool) else x


def conv(node: Conv, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Convolution of int64 [N, C, H, W] with ``weight``, of ``node``'s geometry."""
    windows = _windows(x, weight.shape[2:], node.stride, node.padding)
    size = weight.shape[1]
    parts = [
        np.einsum("nchwkl,ockl->nohw", windows[:, g * size : (g + 1) * size], part.astype(np.int64), optimize=True)
        for g, part in enumerate(np.split(weight, node.groups))
    ]
    return np.concatenate(parts, axis=1)


def _windows(x: np.ndarray, kernel: tuple[int, ...], stride: tuple[int, int], padding: tuple[int, int]) -> np.ndarray:
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    return np.lib.stride_tricks.sliding_window_view(x, kernel, (2, 3))[:, :, :: stride[0], :: stride[1]]  # type: ignore[call-overload]


def _max_step(node: MaxPool, i: int, x: np.ndarray, pools: dict[int, tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The maximum of the counts so far, minus what was passed on before."""
    counts, passed = pools.get(i, (np.zeros_like(x), np.int64(0)))
    counts = counts + x
    now = _windows(counts, node.kernel, node.stride, node.padding).max(axis=(-2, -1))
    pools[i] = counts, now
    return now - passed


def _operations(network: IntegerNetwork, i: int, spikes: np.ndarray) -> np.ndarray:
    """(all, non-zero) weights that ``spikes`` >= 0 at the output of node ``i`` meet, through pools and sums: [2, N]."""
    total = np.zeros((2, len(spikes)), np.int64)
    for j, node in enumerate(network.nodes):
        if isinstance(node, Add):
            for s in node.sources:
                total += _operations(network, j, spikes) if s == i else 0
        elif node.source == i and isinstance(node, Conv):
            weights = np.ones_like(node.weight), node.weight != 0
            total += np.stack([conv(node, spikes, weight).sum((1, 2, 3)) for weight in weights])
        elif node.source == i and isinstance(node, SumPool):
            total += _operations(network, j, _linear(node, [], spikes))
    return total
