"""From a quantized network to a spiking one: batch norm becomes thresholds, activations become signed spikes.

``fold`` states the network in accumulator units (weight codes times input counts), exactly, in float64. ``to_integer``
rounds those thresholds to fixed point; ``to_spiking`` keeps them, for networks whose published form has float weights.
Source: Zou et al. 2023 and 2024 (reference 4.4 to 4.8), with rounding after scaling and negative gamma handled.
"""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from typing import overload

import numpy as np
import torch
from torch import Tensor, nn

from spikelet.errors import ConversionError, SpikeletError
from spikelet.events import Binned
from spikelet.integer import Add, Conv, IntegerNetwork, MaxPool, Neuron, Record, SumPool
from spikelet.integer.check import INT32_MAX, PIXEL_MAX, peaks
from spikelet.networks import (
    SNN,
    Block,
    FixedPointBlock,
    Network,
    Residual,
    SpikePool,
    SurfaceNetwork,
    answers,
    in_integer_arithmetic,
    record_spikes,
)
from spikelet.neurons import LIF
from spikelet.quantizers import Levels, latent_weight, weight_quantizer
from spikelet.spiking import FloatNode, Folded, SpikingNetwork, sum_pool

MAX_FRACTION_BITS = 16
MAX_SETTLE_STEPS = 8192


def check_built(network: nn.Module) -> None:
    """Raise ConversionError for networks that ``spikelet.build`` did not make."""
    if not isinstance(network, Network | SNN):
        given = f"got {type(network).__name__}; build(NetworkSettings(..., neuron='lif')) makes one with neurons"
        raise ConversionError(f"network: expected what spikelet.build makes, {given}")


def fold(network: Network) -> list[FloatNode]:
    """The network as a list of nodes, each naming its sources by index (-1: the image).

    Raises ConversionError, with the layer's name and the reason, for anything that has no spiking form.
    """
    check_built(network)
    nodes: list[FloatNode] = []
    with torch.no_grad():
        last = _fold_sequence(network.layers, -1, "", nodes)
    if not nodes or not isinstance(nodes[last], Folded) or nodes[last].first is not None:  # type: ignore[union-attr]
        raise ConversionError("the last layer must be a linear readout without activation")
    return nodes


def _fold_sequence(layers: nn.Sequential, source: int, prefix: str, nodes: list[FloatNode]) -> int:
    for key, layer in layers.named_children():
        name = f"{prefix}{key}"
        if isinstance(layer, Residual):
            branch = _fold_sequence(layer.body, source, f"{name}.", nodes)
            if layer.shortcut is not None:
                source = _fold_sequence(layer.shortcut, source, f"{name}.shortcut.", nodes)
            nodes.append(Add(name, (source, branch)))
        elif isinstance(layer, Block):
            nodes.append(_fold_block(name, source, layer))
        elif isinstance(layer, nn.AvgPool2d | nn.MaxPool2d):
            nodes.append(_pool_node(name, source, layer))
        else:
            raise ConversionError(f"layer {name}: a {type(layer).__name__} has no spiking form")
        source = len(nodes) - 1
    return source


def _pool_node(name: str, source: int, layer: nn.AvgPool2d | nn.MaxPool2d) -> SumPool | MaxPool:
    plain = {"ceil_mode": False, "divisor_override": None, "count_include_pad": True, "dilation": 1}
    for option, value in plain.items():
        if getattr(layer, option, value) != value:
            raise ConversionError(f"layer {name}: {option}={getattr(layer, option)} has no integer form, only {value}")
    kind = SumPool if isinstance(layer, nn.AvgPool2d) else MaxPool
    return kind(name, source, _pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding))


def _check_op(name: str, op: nn.Module) -> None:
    strange = isinstance(op, nn.Conv2d) and (
        isinstance(op.padding, str) or op.padding_mode != "zeros" or _pair(op.dilation) != (1, 1)
    )
    if strange:
        raise ConversionError(
            f"layer {name}: {op} has no integer form; expected a numeric padding of zeros, dilation 1"
        )


def _check_block(name: str, block: Block, weight: Tensor) -> None:
    norm = block.norm
    _check_op(name, block.op)
    if norm is not None and not (norm.affine and norm.track_running_stats):
        raise ConversionError(f"layer {name}: its batch norm has no learned scale or no running statistics")
    values = [weight, *(norm.state_dict().values() if norm is not None else ())]
    if not all(bool(torch.isfinite(v).all()) for v in values):
        raise ConversionError(f"layer {name}: a weight or batch norm value is not finite; the training diverged")


def _pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _fold_block(name: str, source: int, block: Block) -> Folded:
    op = block.op
    quantizer = weight_quantizer(op)
    weight = op.weight.double()
    _check_block(name, block, weight)
    unit = block.input_unit
    if quantizer is not None:
        latent = latent_weight(op)
        weight = quantizer.codes(latent).double()
        unit *= float(quantizer.scale(latent))
    bias = op.bias.double() if op.bias is not None else weight.new_zeros(weight.shape[0])
    if isinstance(op, nn.Linear):
        weight, stride, padding, groups = weight.reshape(-1, *block.input_shape), (1, 1), (0, 0), 1
    else:
        stride, padding, groups = _pair(op.stride), _pair(op.padding), op.groups
    bits = quantizer.bits if quantizer is not None else None
    if block.activation is None:
        return Folded(name, source, weight, stride, padding, groups, bits, unit, bias=bias / unit)
    if not isinstance(block.activation, Levels):
        kind = type(block.activation).__name__
        raise ConversionError(f"layer {name}: its activation {kind} has no spike count; train with model.k=0, 1 or 2")
    weight, first, step = _thresholds(block.norm, block.activation, weight, bias, unit)
    count = block.activation.max_count
    return Folded(name, source, weight, stride, padding, groups, bits, unit, first, step, count)


def _thresholds(norm, activation: Levels, weight: Tensor, bias: Tensor, unit: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weights and thresholds per channel: gamma * (z - mu) / sigma + beta >= (m - 1/2) * 2^-k, solved for z.

    A negative gamma turns the channel's weights around; a gamma of 0 leaves a constant count.
    """
    ones = torch.ones_like(bias)
    gamma, beta, mu, sigma = ones, 0 * ones, 0 * ones, ones
    if norm is not None:
        gamma, beta, mu = norm.weight.double(), norm.bias.double(), norm.running_mean.double()
        sigma = (norm.running_var.double() + norm.eps).sqrt()
    sign = torch.where(gamma < 0, -1.0, 1.0).double()
    weight = weight * sign.reshape(-1, 1, 1, 1)
    mu = (mu - bias) * sign
    level = activation.unit
    constant = gamma == 0
    slope = sigma / torch.where(constant, ones, gamma.abs())
    first = ((level / 2 - beta) * slope + mu) / unit
    step = level * slope / unit
    count = (beta.clamp_min(0) / level + 0.5).floor().clamp_max(activation.max_count)
    weight = torch.where(constant.reshape(-1, 1, 1, 1), 0.0, weight)
    first = torch.where(constant, torch.where(count > 0, 1 - count, ones), first)
    return weight, first, torch.where(constant, ones, step)


@overload
def to_integer(network: Network, fraction_bits: int | None = None, metadata: dict | None = None) -> IntegerNetwork: ...


@overload
def to_integer(
    network: Network | SNN, fraction_bits: int | None = None, metadata: dict | None = None, frames: bool = False
) -> IntegerNetwork | SurfaceNetwork: ...


def to_integer(
    network: Network | SNN, fraction_bits: int | None = None, metadata: dict | None = None, frames: bool = False
) -> IntegerNetwork | SurfaceNetwork:
    """The all-integer spiking network: integer weights, membranes and thresholds with ``fraction_bits`` binary places.

    Of an ``SNN``: ``trained_to_integer``, which chooses them by itself and knows ``frames``.

    ``fraction_bits`` None takes, for each layer, the most (up to 16) with which nothing can overflow int32. Raises
    ConversionError, naming the layer and why, for float weights, an operation without integer form, or an overflow.

    >>> from spikelet.networks import build
    >>> integer = to_integer(build("4C3-P2-FC10", (1, 8, 8)).eval())
    >>> integer.predict(np.zeros((2, 1, 8, 8), np.uint8), num_steps=4).shape
    (2,)
    """
    if isinstance(network, SNN):
        if fraction_bits is not None:
            raise ConversionError(f"fraction_bits: networks of leaky neurons take as many as fit, got {fraction_bits}")
        return trained_to_integer(network, metadata, frames)
    if frames:
        raise ConversionError("frames: only networks trained through time take frames of events")
    if fraction_bits is not None and not 0 <= fraction_bits <= MAX_FRACTION_BITS:
        raise ConversionError(f"fraction_bits: expected 0 to {MAX_FRACTION_BITS}, got {fraction_bits}")
    nodes: list[Conv | SumPool | MaxPool | Add] = []
    for node in fold(network):
        if isinstance(node, Folded):
            peak = PIXEL_MAX if node.source < 0 else peaks(nodes)[node.source]
            nodes.append(_integer_layer(node, peak, fraction_bits))
        else:
            nodes.append(node)
    return IntegerNetwork(nodes, network.input_shape, metadata or {})


def trained_to_integer(
    network: SNN, metadata: dict | None = None, frames: bool = False
) -> IntegerNetwork | SurfaceNetwork:
    """The integer network of leaky neurons, LIF or SRM, that a network trained through time stands for.

    It takes images, or with ``frames`` frames of events. Time surfaces, and their neurons, stay in floating point. A
    network in integer arithmetic (``settings.arithmetic``) and its integer form fire alike, spike by spike. Of any
    other, decays, thresholds and biases are rounded, and float weights become codes of up to 16 bits. Raises
    ConversionError, naming the layer and why, for what has no integer form.

    >>> from spikelet.networks import NetworkSettings, build
    >>> settings = NetworkSettings("4C3-FC10", neuron="lif", reset="zero", norm="none", num_steps=5)
    >>> integer = trained_to_integer(build(settings, (1, 8, 8)))
    >>> integer.run(np.zeros((2, 1, 8, 8), np.uint8), num_steps=5).logits.shape
    (5, 2, 10)
    """
    exact = network if network.settings.arithmetic == "integer" else in_integer_arithmetic(network)
    nodes: list[Conv | SumPool | MaxPool] = []
    surface = exact.surface
    shown = surface is None and not frames
    with torch.no_grad():
        for name, layer in exact.layers.named_children():
            source = len(nodes) - 1
            if isinstance(layer, SpikePool):
                nodes.append(_pool_node(name, source, layer.pool))
            elif isinstance(layer, FixedPointBlock):  # beside time surfaces, nothing else is in such a network
                nodes.append(_trained_layer(name, source, layer, shown))
    if surface is not None:
        body = IntegerNetwork(nodes, surface.output_shape, metadata or {}, frames=1)
        return SurfaceNetwork(deepcopy(surface).cpu(), body, next(iter(exact.spiking())))
    offset = network.settings.pixel_offset if shown else []
    offset = offset * network.input_shape[0] if len(offset) == 1 else offset
    return IntegerNetwork(nodes, network.input_shape, metadata or {}, tuple(offset), PIXEL_MAX * frames)


def _trained_layer(name: str, source: int, block: FixedPointBlock, shown: bool) -> Conv:
    op = block.op
    _check_op(name, op)
    try:
        numbers = block.numbers(shown)
    except SpikeletError as error:
        raise ConversionError(f"layer {name}: {error}") from None
    if not all(bool(torch.isfinite(t).all()) for t in (numbers.weight, numbers.bias, numbers.threshold)):
        raise ConversionError(f"layer {name}: a weight is not finite; the training diverged")
    weight, stride, padding, groups = numbers.weight.to(torch.int16), (1, 1), (0, 0), 1
    if isinstance(op, nn.Linear):
        weight = weight.reshape(-1, *block.input_shape)
    else:
        stride, padding, groups = _pair(op.stride), _pair(op.padding), op.groups
    codes, width = _stored(weight.contiguous().numpy(force=True), numbers.bits)
    common = name, source, codes, stride, padding, groups, width
    subtracts = isinstance(block.neuron, LIF) and block.neuron.v_reset is None
    neuron = numbers.neuron("subtract" if subtracts else "zero")
    return Conv(*common, None, neuron.bias) if block.neuron is None else Conv(*common, neuron)


def _stored(codes: np.ndarray, bits: int) -> tuple[np.ndarray, int]:
    """Codes in their type, and the bits of one: one more where the lowest code has lost its sign to a negative gamma,
    or a binary one is 0, in a channel that is constant.
    """
    if codes.max(initial=0) >= 2 ** max(1, bits - 1) or (bits == 1 and not codes.all()):
        bits += 1
    return codes.astype(np.int8 if bits <= 8 else np.int16), bits


def _integer_layer(node: Folded, peak: int, fraction_bits: int | None) -> Conv:
    if node.bits is None:
        raise ConversionError(
            f"layer {node.name}: its weights are float; train with integer weights (model.weights=ternary or uniform8, "
            "model.first=integer, model.last=integer) or convert to a float spiking network"
        )
    bits = node.bits
    node, weight = _without_constants(node, peak)
    weight, width = _stored(weight, bits)
    reach = np.abs(weight.astype(np.int64)).sum(axis=(1, 2, 3)) * peak
    common = (node.name, node.source, weight, node.stride, node.padding, node.groups, width)
    if node.first is None or node.step is None:
        bias = np.rint(node.bias.numpy()).astype(np.int64) if node.bias is not None else np.zeros(len(reach), np.int64)
        if (reach + np.abs(bias)).max() > INT32_MAX:
            raise ConversionError(f"layer {node.name}: a logit may reach {(reach + np.abs(bias)).max()}, beyond int32")
        return Conv(*common, None, bias.astype(np.int32) if bias.any() else None)
    options = [fraction_bits] if fraction_bits is not None else range(MAX_FRACTION_BITS, -1, -1)
    for bits in options:
        first, step = _fixed_point(node, reach, bits)
        widest = max(
            int((reach + 1).max()) << bits, int(np.abs(first).max()), int((first + step).max()), int(step.max())
        )
        if widest <= INT32_MAX and step.min() >= 1:
            return Conv(*common, Neuron(first.astype(np.int32), step.astype(np.int32), bits, node.max_count), None)
    if step.min() < 1:
        c = int(step.argmin())
        raise ConversionError(
            f"layer {node.name}: thresholds of channel {c} lie closer than 1/2^{bits} accumulator; raise fraction_bits"
        )
    raise ConversionError(
        f"layer {node.name}: with fraction_bits={bits} a membrane or threshold may reach {widest}, beyond int32; "
        "lower convert.fraction_bits or model.max_count"
    )


def _without_constants(node: Folded, peak: int) -> tuple[Folded, np.ndarray]:
    """The layer, and its codes, with every channel whose count no input can change made a plain constant.

    Such a channel (a gamma near 0, weights all 0) may have thresholds far beyond any membrane.
    """
    weight = node.weight.to(torch.int16).numpy()
    if node.first is None or node.step is None:
        return node, weight
    reach = np.abs(weight.astype(np.int64)).sum(axis=(1, 2, 3)) * peak
    first, step = node.first.numpy(), node.step.numpy()
    low, high = (np.clip(np.floor((v - first) / step) + 1, 0, node.max_count) for v in (-reach, reach))
    constant = low == high
    weight = np.where(constant[:, None, None, None], 0, weight).astype(np.int16)
    first = np.where(constant, np.where(low > 0, 1 - low, 1), first)
    step = np.where(constant, 1, step)
    return replace(node, first=torch.from_numpy(first), step=torch.from_numpy(step)), weight


def _fixed_point(node: Folded, reach: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds in units of 2^-bits, int64; those that no membrane within +-reach can tell apart are brought near."""
    assert node.first is not None and node.step is not None
    scale = 2.0**bits
    far = (reach.astype(np.float64) + 1) * scale
    first = np.minimum(np.rint(node.first.numpy() * scale), far)
    step = np.minimum(np.rint(node.step.numpy() * scale), np.maximum(far - first, 1))
    return first.astype(np.int64), step.astype(np.int64)


def to_spiking(network: Network, metadata: dict | None = None) -> SpikingNetwork:
    """The spiking network with the trained weights and thresholds in float64, for the published float layers.

    Raises ConversionError, naming the layer and why, for an operation without spiking form.
    """
    return SpikingNetwork(fold(network), network.input_shape, metadata)


def settled_counts(converted: IntegerNetwork | SpikingNetwork, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """The counts at which the spikes of every neuron must settle, and the logits: the quantized ANN in closed form.

    n = min(1 + floor((V - first) / step), max_count), or 0 below first. Computed by torch in exact arithmetic (float64
    holds every accumulator), so nothing is shared with the engine. Returns ([N, C, H, W] per layer, logits [N, C]).
    """
    outputs: list[Tensor] = []
    counts: list[Tensor] = []
    for node in converted.nodes:
        if isinstance(node, Add):
            outputs.append(outputs[node.sources[0]] + outputs[node.sources[1]])
            continue
        x = images.double() if node.source < 0 else outputs[node.source]
        if isinstance(node, SumPool):
            outputs.append(sum_pool(x, node))
        elif isinstance(node, MaxPool):
            outputs.append(nn.functional.max_pool2d(x, node.kernel, node.stride, node.padding))
        else:
            weight = torch.as_tensor(node.weight).double()
            current = nn.functional.conv2d(x, weight, None, node.stride, node.padding, groups=node.groups)
            outputs.append(_count(node, current))
            if _has_neuron(node):
                counts.append(outputs[-1])
    return counts, outputs[-1].flatten(1)


def _has_neuron(node: Conv | Folded) -> bool:
    return (node.neuron if isinstance(node, Conv) else node.first) is not None


def _count(node: Conv | Folded, current: Tensor) -> Tensor:
    if not _has_neuron(node):
        return current if node.bias is None else current + torch.as_tensor(node.bias).double().reshape(-1, 1, 1)
    neuron = node.neuron if isinstance(node, Conv) else node
    first, step = (torch.as_tensor(a).double().reshape(-1, 1, 1) for a in (neuron.first, neuron.step))  # type: ignore[union-attr]
    if isinstance(node, Conv):
        current = current * 2.0**node.neuron.fraction_bits  # type: ignore[union-attr]
    n = ((current - first) / step).floor() + 1
    return torch.where(current < first, torch.zeros_like(n), n.clamp(0, neuron.max_count))  # type: ignore[union-attr]


def float_counts(network: Network, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """The activation counts of the trained float network, layer by layer, and its logits."""
    counts: list[Tensor] = []

    def keep(activation: Levels, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counts.append((output / activation.unit).round())

    hooks = [m.register_forward_hook(keep) for m in network.modules() if isinstance(m, Levels)]
    try:
        logits = answers(network, images)
    finally:
        for hook in hooks:
            hook.remove()
    return counts, logits


def check_equivalence(
    network: Network,
    converted: IntegerNetwork | SpikingNetwork,
    loader: Iterable[tuple[Tensor, Tensor]],
    num_steps: int = 64,
    num_threads: int | None = None,
) -> dict:
    """Compare spiking network, integer ANN and float ANN over a data set, neuron by neuron.

    The spiking network runs ``num_steps`` steps, and twice as many as long as anybody still fires at the end.

    Returns fractions, 0 to 1: ``snn_vs_integer_ann`` (counts at rest against the closed form; must be 1),
    ``integer_vs_float_ann`` (closed form against the trained network's activations), ``answers`` (equal classes of the
    settled spiking and the integer ANN), ``answers_float`` (settled spiking against float ANN) and ``per_layer``.
    A network trained through time never comes to rest: ``check_trained`` compares it.
    """
    if not isinstance(network, Network):
        raise ConversionError(
            f"network: expected a Network, got {type(network).__name__}; convert.check_trained compares an SNN"
        )
    same: dict[str, np.ndarray] = {}
    right = np.zeros(3, np.int64)
    for images, _ in loader:
        run = _run_to_rest(converted, images, num_steps, num_threads)
        exact, exact_logits = settled_counts(converted, images)
        trained, logits = float_counts(network, images)
        for name, snn, ann, origin in zip(run.layers, run.counts or [], exact, trained, strict=True):
            ann_int = ann.to(torch.int16).reshape(len(images), -1)
            spiking = torch.from_numpy(np.asarray(snn)).reshape(len(images), -1)
            equal = [(spiking == ann_int).sum(), (ann_int == origin.reshape(len(images), -1)).sum(), ann_int.numel()]
            same[name] = same.get(name, np.zeros(3, np.int64)) + np.array([int(e) for e in equal])  # type: ignore[call-overload]
        answer = torch.from_numpy(run.logits.sum(0)).argmax(1)
        right += (int((answer == exact_logits.argmax(1)).sum()), int((answer == logits.argmax(1)).sum()), len(images))
    total = np.sum([*same.values()], axis=0)
    if not same or total[2] == 0:
        raise SpikeletError("loader: it yields no images to compare on")
    return {
        "snn_vs_integer_ann": total[0] / total[2],
        "integer_vs_float_ann": total[1] / total[2],
        "answers": right[0] / right[2],
        "answers_float": right[1] / right[2],
        "per_layer": {
            n: {"snn_vs_integer_ann": s[0] / s[2], "integer_vs_float_ann": s[1] / s[2]} for n, s in same.items()
        },
    }


def check_trained(
    network: SNN,
    converted: IntegerNetwork | SurfaceNetwork,
    loader: Iterable[tuple[Tensor | Binned, Tensor]],
    num_threads: int | None = None,
) -> dict:
    """Compare a network trained through time with its integer form over a data set of images, frames or events.

    Returns fractions, 0 to 1: ``answers`` (equal classes), ``accuracy_trained`` and ``accuracy_integer``, ``neurons``
    (that fired equally often) and ``per_layer`` (the same, layer by layer).
    """
    same: dict[str, np.ndarray] = {}
    right, num_steps = np.zeros(4, np.int64), network.num_steps
    for images, labels in loader:
        with record_spikes(network, lambda spikes: spikes.sum(0).to(torch.int16)) as fired:
            told = network.run(images, num_steps).logits.sum(0).argmax(1)
        run = run_images(converted, images, num_steps, counts=True, num_threads=num_threads)
        for name, counts in zip(run.layers, run.counts or [], strict=True):
            equal = torch.from_numpy(counts).reshape(-1) == fired[name].reshape(-1)
            same[name] = same.get(name, np.zeros(2, np.int64)) + np.array([int(equal.sum()), equal.numel()])
        answer, told = torch.from_numpy(run.logits.sum(0)).argmax(1), torch.from_numpy(told)
        pairs = (answer, told), (told, labels), (answer, labels)
        right += np.array([*(int((a == b).sum()) for a, b in pairs), len(labels)])
    if not right[3]:
        raise SpikeletError("loader: it yields no images to compare on")
    equal, number = np.sum([*same.values()], axis=0)
    return {
        **dict(zip(("answers", "accuracy_trained", "accuracy_integer"), (right[:3] / right[3]).tolist(), strict=True)),
        "neurons": float(equal / number),
        "per_layer": {name: float(s[0] / s[1]) for name, s in same.items()},
    }


def _run_to_rest(
    converted: IntegerNetwork | SpikingNetwork, images: Tensor, num_steps: int, num_threads: int | None
) -> Record:
    """Run until a step after t = 0 in which nobody fires: nothing can happen after it."""
    while num_steps <= MAX_SETTLE_STEPS:
        run = run_images(converted, images, num_steps, record=True, counts=True, num_threads=num_threads)
        assert run.positive is not None and run.negative is not None
        if num_steps > 1 and not (run.positive[:, -1] + run.negative[:, -1]).any():
            return run
        num_steps *= 2
    raise ConversionError(f"the network still fires after {num_steps // 2} steps; lower model.max_count")


def run_images(
    converted: IntegerNetwork | SurfaceNetwork | SpikingNetwork | SNN,
    images: Tensor | Binned,
    num_steps: int,
    **options,
) -> Record:
    """``converted.run`` on a batch of torch images, frames or events, whichever form the network has."""
    if isinstance(converted, IntegerNetwork):
        return converted.run(images.numpy(), num_steps, **options)  # type: ignore[union-attr]
    return converted.run(images, num_steps, **options)  # type: ignore[arg-type]
