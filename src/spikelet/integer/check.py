"""What makes an integer network valid: shapes that fit, integers that cannot overflow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from spikelet.errors import ConversionError

if TYPE_CHECKING:
    from spikelet.integer.network import IntegerNetwork

from spikelet.integer.network import IMAGE, LIF, SRM, Add, Conv, MaxPool, Neuron, Node, SumPool

INT32_MAX = 2**31 - 1
PIXEL_MAX = 255
RESETS = "zero", "subtract"
MAX_SHIFT = 15
MOST_STEPS = 1024  # for which a membrane without leak is sure to fit
Shape = tuple[int, int, int]
Decay = tuple[int, int]  # leak and shift: leak / 2^shift per step


def check(nodes: Sequence[Node], input_shape: Shape, frames: int = 0) -> tuple[Shape, ...]:
    """Output shape (C, H, W) of every node; ConversionError, naming the node and why, where something does not fit."""
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ConversionError(f"input_shape: expected (C, H, W), each at least 1, got {input_shape}")
    if not nodes:
        raise ConversionError("nodes: expected at least one, got none")
    shapes: list[Shape] = []
    for i, node in enumerate(nodes):
        if not isinstance(node, Conv | SumPool | MaxPool | Add):
            raise ConversionError(f"node {i}: expected Conv, SumPool, MaxPool or Add, got {type(node).__name__}")
        _check_sources(i, node)
        inputs = [input_shape if s == IMAGE else shapes[s] for s in sources(node)]
        shapes.append(_output_shape(node, inputs))
    _check_readout(nodes, shapes, frames)
    for node, potential in zip(nodes, potentials(nodes, frames), strict=True):
        if potential > INT32_MAX - 1:
            raise ConversionError(f"layer {node.name}: a membrane or logit may reach {potential}, beyond int32")
    return tuple(shapes)


def sources(node: Node) -> tuple[int, ...]:
    """Indices of the nodes that ``node`` reads."""
    return node.sources if isinstance(node, Add) else (node.source,)


def peaks(nodes: Sequence[Node]) -> list[int]:
    """The largest count that each node can pass on."""
    result: list[int] = []
    for node in nodes:
        if isinstance(node, Conv):
            result.append(node.neuron.max_count if isinstance(node.neuron, Neuron) else int(node.neuron is not None))
        elif isinstance(node, Add):
            result.append(sum(result[s] for s in node.sources))
        else:
            area = node.kernel[0] * node.kernel[1] if isinstance(node, SumPool) else 1
            result.append(result[node.source] * area)
    return result


def potentials(nodes: Sequence[Node], frames: int = 0) -> list[int]:
    """The bound of each node's membranes or logits: sum |W| * largest input count << fraction_bits (+ |bias|).

    Of leaky neurons: of all that is computed on the way, membranes summed up over the steps that they remember.
    """
    largest = [*peaks(nodes), frames or PIXEL_MAX]  # index -1: the input
    result = []
    for node, peak in zip(nodes, largest, strict=False):
        if not isinstance(node, Conv):
            result.append(peak)
            continue
        reach = np.abs(node.weight.astype(np.int64)).sum(axis=(1, 2, 3)) * largest[node.source]
        if isinstance(node.neuron, LIF | SRM):
            result.append(leaky_potential(reach, node.neuron))
            continue
        if node.bias is not None:
            reach = reach + np.abs(node.bias.astype(np.int64))
        result.append(int(reach.max()) << (node.neuron.fraction_bits if node.neuron else 0))
    return result


def decays(neuron: Neuron | LIF | SRM | None) -> tuple[Decay, ...]:
    """What its membranes keep per step: one fraction of LIF, two of SRM, none where nothing leaks."""
    if isinstance(neuron, SRM):
        return (neuron.leak, neuron.shift), (neuron.synapse_leak, neuron.synapse_shift)
    return ((neuron.leak, neuron.shift),) if isinstance(neuron, LIF) else ()


def leaky_potential(reach: np.ndarray, neuron: LIF | SRM) -> int:
    """The bound of all that its membranes meet on the way, if a step adds at most ``reach`` [C_out] accumulators.

    V gains at most a step's charge while it loses (1 - leak / 2^shift) of itself; rounding down adds 1 at most.
    """
    charge = int(((reach << neuron.fraction_bits) + np.abs(neuron.bias.astype(np.int64))).max()) + 1
    return math.ceil(charge * leaky_growth(decays(neuron)))


def leaky_growth(decays: Sequence[Decay]) -> Fraction:
    """How many times a step's charge the largest number on the way may become.

    Of LIF V * leak, and V itself; of SRM m - c, and the products m * (leak - 2^shift), by which its kernel comes to
    floor(m * leak / 2^shift) = m + floor(m * (leak - 2^shift) / 2^shift).

    >>> leaky_growth([(1, 2)]), leaky_growth([(3, 2)]), leaky_growth([(3, 2), (1, 1)])
    (Fraction(4, 3), Fraction(12, 1), Fraction(6, 1))
    """
    if len(decays) == 1:
        return _remembered(*decays[0]) * max(1, decays[0][0])
    return max(
        sum((_remembered(*decay) for decay in decays), Fraction(0)), *(Fraction(1 << shift) for _, shift in decays)
    )


def _remembered(leak: int, shift: int) -> Fraction:
    """How many times a step's charge a membrane may become."""
    lost = (1 << shift) - leak
    return Fraction(1 << shift, lost) if lost else Fraction(MOST_STEPS)


def describe(network: IntegerNetwork) -> list[dict[str, Any]]:
    """See ``IntegerNetwork.describe``."""
    from spikelet.integer.fanout import dense_operations

    rows = []
    bounds = potentials(network.nodes, network.frames)
    for node, shape, potential in zip(network.nodes, network.shapes, bounds, strict=True):
        row: dict[str, Any] = {
            "name": node.name,
            "kind": type(node).__name__,
            "shape": shape,
            "neurons": 0,
            "weights": 0,
        }
        row |= {"nonzero": 0, "bits": 0, "weight_bytes": 0, "macs": 0, "max_potential": potential}
        if isinstance(node, Conv):
            source = network.input_shape if node.source == IMAGE else network.shapes[node.source]
            row["neurons"] = int(np.prod(shape)) if node.neuron is not None else 0
            row |= {"weights": node.weight.size, "nonzero": int(np.count_nonzero(node.weight)), "bits": node.bits}
            row |= {"weight_bytes": -(-node.weight.size * node.bits // 8), "macs": dense_operations(node, source)}
        rows.append(row)
    return rows


def _check_sources(i: int, node: Node) -> None:
    lowest = IMAGE if isinstance(node, Conv) else 0
    given = sources(node)
    if isinstance(node, Add) and len(given) != 2:
        raise ConversionError(f"layer {node.name}: expected two sources, got {given}")
    for s in given:
        if not isinstance(s, int | np.integer) or not lowest <= s < i:
            allowed = f"{lowest} to {i - 1}" if i > lowest else "nothing yet: only convolutions read the input"
            raise ConversionError(f"layer {node.name}: source {s!r} must be an earlier node ({allowed})")


def _output_shape(node: Node, inputs: list[Shape]) -> Shape:
    if isinstance(node, Add):
        if inputs[0] != inputs[1]:
            raise ConversionError(f"layer {node.name}: its sources differ in shape, {inputs[0]} and {inputs[1]}")
        return inputs[0]
    if isinstance(node, Conv):
        _check_conv(node, inputs[0])
    kernel = node.weight.shape[2:] if isinstance(node, Conv) else node.kernel
    for what, pair, least in (("kernel", kernel, 1), ("stride", node.stride, 1), ("padding", node.padding, 0)):
        if len(pair) != 2 or min(pair) < least:
            raise ConversionError(f"layer {node.name}: {what} must be two numbers of at least {least}, got {pair}")
    if not isinstance(node, Conv) and (node.padding[0] >= kernel[0] or node.padding[1] >= kernel[1]):
        raise ConversionError(f"layer {node.name}: padding {node.padding} must be less than the kernel {kernel}")
    _, height, width = inputs[0]
    size = [
        (n + 2 * p - k) // s + 1 for n, p, k, s in zip((height, width), node.padding, kernel, node.stride, strict=True)
    ]
    if min(size) < 1:
        raise ConversionError(f"layer {node.name}: kernel {tuple(kernel)} does not fit its input {height} x {width}")
    return (len(node.weight) if isinstance(node, Conv) else inputs[0][0], size[0], size[1])


def _check_conv(node: Conv, source: Shape) -> None:
    weight, name = node.weight, node.name
    dtype = np.dtype(np.int8 if node.bits <= 8 else np.int16)
    if not isinstance(weight, np.ndarray) or weight.dtype != dtype or weight.ndim != 4 or weight.size == 0:
        raise ConversionError(
            f"layer {name}: weight must be {dtype} [C_out, C_in / groups, kh, kw], got {_kind(weight)}"
        )
    if node.groups < 1 or source[0] % node.groups or len(weight) % node.groups:
        raise ConversionError(f"layer {name}: groups {node.groups} must divide {source[0]} and {len(weight)} channels")
    if weight.shape[1] * node.groups != source[0]:
        expected = source[0] // node.groups
        raise ConversionError(
            f"layer {name}: weight expects {weight.shape[1]} input channels per group, not {expected}"
        )
    _check_bits(name, node.bits, weight)
    if node.bias is not None:
        if node.neuron is not None:
            raise ConversionError(f"layer {name}: only the readout has a bias; elsewhere it belongs in the thresholds")
        _check_channels(name, "bias", node.bias, len(weight))
    if isinstance(node.neuron, LIF | SRM):
        _check_leaky(name, node.neuron, len(weight))
    elif node.neuron is not None:
        _check_neuron(name, node.neuron, len(weight))


def _check_bits(name: str, bits: int, weight: np.ndarray) -> None:
    if not 1 <= bits <= 16:
        raise ConversionError(f"layer {name}: bits must be 1 to 16, got {bits}")
    if bits == 1 and not (np.abs(weight) == 1).all():
        raise ConversionError(f"layer {name}: 1-bit weights must be -1 or 1, got {np.unique(weight).tolist()[:5]}")
    low, high = (-1, 1) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if weight.min() < low or weight.max() > high:
        found = f"got {weight.min()} to {weight.max()}"
        raise ConversionError(f"layer {name}: {bits}-bit weights must be {low} to {high}, {found}")


def _check_leaky(name: str, neuron: LIF | SRM, channels: int) -> None:
    _check_channels(name, "bias", neuron.bias, channels)
    _check_channels(name, "threshold", neuron.threshold, channels)
    if neuron.threshold.min() < 1:
        raise ConversionError(f"layer {name}: threshold must be at least 1, got {neuron.threshold.min()}")
    for leak, shift in decays(neuron):
        if not 0 <= shift <= MAX_SHIFT or not 0 <= leak <= 1 << shift:
            raise ConversionError(
                f"layer {name}: leak / 2^shift must be 0 to 1, shift 0 to {MAX_SHIFT}, got {leak} / 2^{shift}"
            )
    if not 0 <= neuron.fraction_bits <= 30:
        raise ConversionError(f"layer {name}: fraction_bits must be 0 to 30, got {neuron.fraction_bits}")
    if isinstance(neuron, LIF) and neuron.reset not in RESETS:
        raise ConversionError(f"layer {name}: reset must be one of {', '.join(RESETS)}, got {neuron.reset!r}")


def _check_neuron(name: str, neuron: Neuron, channels: int) -> None:
    _check_channels(name, "first", neuron.first, channels)
    _check_channels(name, "step", neuron.step, channels)
    if neuron.step.min() < 1:
        raise ConversionError(f"layer {name}: step must be at least 1, got {neuron.step.min()}")
    if not 0 <= neuron.fraction_bits <= 30:
        raise ConversionError(f"layer {name}: fraction_bits must be 0 to 30, got {neuron.fraction_bits}")
    if not 1 <= neuron.max_count <= 127:
        raise ConversionError(f"layer {name}: max_count must be 1 to 127, got {neuron.max_count}")


def _check_channels(name: str, what: str, array: np.ndarray, channels: int) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.int32 or array.shape != (channels,):
        raise ConversionError(f"layer {name}: {what} must be int32 [{channels}], got {_kind(array)}")


def check_frames(frames: int, leaky: bool) -> int:
    """``frames``; ConversionError where a site cannot count so many, or no neuron waits for a second frame."""
    if not isinstance(frames, int | np.integer) or not 0 <= frames <= PIXEL_MAX:
        raise ConversionError(f"frames: expected 0, for an image, or counts up to 1 to {PIXEL_MAX}, got {frames!r}")
    if frames and not leaky:
        raise ConversionError(
            f"frames: only networks of leaky neurons, LIF or SRM, take frames of events, got {frames}"
        )
    return int(frames)


def check_offset(offset: Sequence[int], input_shape: Shape, allowed: bool) -> tuple[int, ...]:
    """``offset`` as integers; ConversionError where it is not one per channel, or no pixel, or not ``allowed``.

    No pixel minus one exceeds PIXEL_MAX in magnitude, which is what all bounds are worked out for.
    """
    offset = tuple(int(o) for o in offset)
    if len(offset) not in (0, input_shape[0]) or not all(0 <= o <= PIXEL_MAX for o in offset):
        expected = f"nothing, or {input_shape[0]} numbers of 0 to {PIXEL_MAX}"
        raise ConversionError(f"pixel_offset: expected {expected}, got {offset}")
    if any(offset) and not allowed:
        raise ConversionError(f"pixel_offset: only networks of leaky neurons that see images have one, got {offset}")
    return offset


def _check_readout(nodes: Sequence[Node], shapes: list[Shape], frames: int) -> None:
    last, neurons = nodes[-1], [node.neuron for node in nodes if isinstance(node, Conv) and node.neuron is not None]
    leaky = [neuron for neuron in neurons if not isinstance(neuron, Neuron)]
    if len(leaky) not in (0, len(neurons)):
        raise ConversionError("nodes: the neurons must be of one kind, all Neuron or all leaky, LIF and SRM")
    if not isinstance(last, Conv) or isinstance(last.neuron, Neuron):
        raise ConversionError(f"layer {last.name}: the last node must be a convolution without neurons, the readout")
    if last.neuron is None and last.source == IMAGE and not frames:
        raise ConversionError(f"layer {last.name}: the readout must read spikes, not the image")
    if shapes[-1][1:] != (1, 1):
        raise ConversionError(f"layer {last.name}: the readout must end in C x 1 x 1, got {shapes[-1]}")
    for node in nodes[:-1]:
        if isinstance(node, Conv) and node.neuron is None:
            raise ConversionError(f"layer {node.name}: only the last node may be without neurons")
        if isinstance(node, MaxPool) and leaky:
            raise ConversionError(
                f"layer {node.name}: MaxPool is the maximum of counts, which leaky neurons do not have"
            )


def _kind(array: object) -> str:
    return f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
