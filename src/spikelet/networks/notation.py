"""The papers' notation to a module: "32C5-P2-64C5-P2-1000C4-FC10"."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from spikelet.arguments import check_whole
from spikelet.encoders import CodingStage, TimeSurface
from spikelet.errors import SpikeletError
from spikelet.networks.fixed_point import in_integer_arithmetic
from spikelet.networks.gain import RateGain
from spikelet.networks.layers import Block, Op, Residual, Shape, SpikePool, SpikingBlock, SurfaceBlock, batch_norm
from spikelet.networks.network import Network
from spikelet.networks.pooling import Pooling, read_pooling
from spikelet.networks.published import PUBLISHED, expanded
from spikelet.networks.settings import NetworkSettings
from spikelet.networks.snn import SNN
from spikelet.neurons import LIF, SRM, Adaptation, AdaptiveLIF, Neuron, TraceLIF, beta_from_tau
from spikelet.quantizers import QUANTIZERS, Levels, Uniform, WeightQuantizer, quantize_weight, weight_quantizer
from spikelet.surrogate import SURROGATES, Surrogate

SURFACE = r"TS([1-9]\d*)(?:x([1-9]\d*))?r(\d+)"


@dataclass
class _Cursor:
    """Where the builder is: the shape and the value of one spike that the next layer receives."""

    shape: Shape
    unit: float
    first: bool = True


def build(settings: NetworkSettings | str, input_shape: Shape) -> Network | SNN:
    """The network that ``settings`` (or a bare notation) describe, for inputs of ``input_shape`` (C, H, W).

    A quantized ``Network``, or with a ``settings.neuron`` an ``SNN``, which is trained through time.

    Raises SpikeletError where the notation cannot be read or does not fit the images.

    >>> network = build("4C3-P2-FC10", (1, 8, 8))
    >>> [*network.blocks()]
    ['4C3', 'P2', 'FC10']
    >>> network(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    >>> spiking = build(NetworkSettings("4C3-MP2-FC10", neuron="lif", num_steps=5), (1, 8, 8))
    >>> spiking(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([5, 2, 10])
    """
    settings = NetworkSettings(notation=settings) if isinstance(settings, str) else settings
    if not isinstance(settings, NetworkSettings):
        raise SpikeletError(f"settings: expected a NetworkSettings or a notation, got {settings!r}")
    settings.check()
    if not isinstance(input_shape, Sequence) or len(input_shape) != 3:
        raise SpikeletError(f"input_shape: expected (C, H, W), got {input_shape!r}")
    for size in input_shape:
        check_whole("input_shape", size)
    tokens = re.findall(r"[\[\]|]|[^\[\]|-]+", expanded(settings.notation))
    cursor = _Cursor(tuple(input_shape), 1.0 / settings.pixel_scale if settings.neuron is None else 1.0)  # type: ignore[arg-type]
    if not tokens or not re.fullmatch(r"(?:FC)?\d+", tokens[-1]):
        raise SpikeletError(
            f"model.notation: {settings.notation!r} must end in a linear layer, such as FC10 (in capitals), or be "
            f"one of {', '.join(PUBLISHED)}"
        )
    layers, end = _sequence(iter(tokens[:-1]), settings, cursor)
    if end:
        raise SpikeletError(f"model.notation: a {end!r} in {settings.notation!r} stands in no residual block")
    _name(layers, tokens[-1], _weighted(tokens[-1], settings, cursor, last=True))
    kind = Network if settings.neuron is None else SNN
    network = kind(layers, settings, tuple(input_shape))  # type: ignore[arg-type]
    _check_quantized(network)
    if isinstance(network, SNN) and all(block.neuron is None for block in network.blocks().values()):
        raise SpikeletError(f"model.readout: current leaves {settings.notation!r} without a neuron; expected spikes")
    if isinstance(network, SNN) and settings.arithmetic == "integer":
        network = in_integer_arithmetic(network)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _check_quantized(network: Network | SNN) -> None:
    """Raise SpikeletError where the weights that were asked for are nowhere."""
    settings, blocks = network.settings, network.blocks()
    hidden = [*blocks.values()][:-1] if isinstance(network.layers[0], SurfaceBlock) else [*blocks.values()][1:-1]
    asked = settings.weights not in ("float", NetworkSettings().weights)
    if asked and not any(weight_quantizer(block.op) for block in hidden):
        raise SpikeletError(
            f"model.weights: {settings.weights} is for the layers between the first and the last one, of which "
            f"{settings.notation!r} has none"
        )


def _sequence(tokens: Iterator[str], settings: NetworkSettings, cursor: _Cursor) -> tuple[nn.Sequential, str]:
    """The layers up to the end or to a "|" or "]" that no "[" among them opened, and that token, or ""."""
    layers = nn.Sequential()
    for token in tokens:
        if token in ("|", "]"):
            return layers, token
        if token == "[":
            _name(layers, "residual", _residual(tokens, settings, cursor))
        elif surface := re.fullmatch(SURFACE, token):
            _name(layers, token, _surface(surface, settings, cursor))
        elif pooling := read_pooling(token, settings.pool, cursor.shape):
            _pool(layers, pooling, settings, cursor)
        else:
            _name(layers, token, _layer(token, settings, cursor))
    return layers, ""


def _name(layers: nn.Sequential, token: str, layer: nn.Module) -> None:
    count = sum(name.split("_")[0] == token for name, _ in layers.named_children())
    layers.add_module(f"{token}_{count + 1}" if count else token, layer)


def _surface(token: re.Match[str], settings: NetworkSettings, cursor: _Cursor) -> SurfaceBlock:
    """The encoder that turns events into currents, and its neurons. Cells of a sensor of one row have one row."""
    if settings.coding or settings.coding_stage:
        raise SpikeletError(f"model.coding, model.coding_stage: time surfaces ({token[0]}) are a code of their own")
    if settings.neuron is None or not cursor.first:
        raise SpikeletError(f"model.notation: {token[0]} can only come first, in a spiking network (model.neuron)")
    polarities, height, width = cursor.shape
    if polarities > 2:
        raise SpikeletError(f"input_shape: of events, expected (polarities, height, width), got {cursor.shape}")
    rows, columns = int(token[1]), int(token[2] or token[1])
    encoder = TimeSurface(
        sensor_size=(width, height, polarities),
        cell=(rows if height > 1 else 1, columns),
        radius=int(token[3]),
        kernel=settings.temporal_kernel,
        tau=settings.tau_1 if settings.temporal_kernel == "kt" else (settings.tau_1, settings.tau_2),
        dt=settings.dt,
    )
    beta = beta_from_tau(settings.tau_m, settings.dt) if settings.neuron == "srm" else settings.beta
    neuron = LIF(beta, settings.v_threshold, 0.0, _surrogate(settings), settings.detach_reset)
    block = SurfaceBlock(encoder, neuron)
    cursor.shape, cursor.first = block.output_shape, False
    return block


def _residual(tokens: Iterator[str], settings: NetworkSettings, cursor: _Cursor) -> Residual:
    if cursor.first:
        raise SpikeletError("model.notation: a residual block cannot be the first layer: pixels are not spikes")
    beside, shortcut = replace(cursor), None
    body, end = _sequence(tokens, settings, cursor)
    if end == "|":
        shortcut, end = _sequence(tokens, settings, beside)
    if end != "]":
        raise SpikeletError(
            f"model.notation: a '[' in {settings.notation!r} "
            + ("is never closed" if not end else "holds more than one '|'")
        )
    if (cursor.shape, cursor.unit) != (beside.shape, beside.unit):
        raise SpikeletError(
            "model.notation: a residual block must keep shape and spike value, or have a shortcut that ends in the "
            f"same, [body|shortcut]: its body ends in {cursor.shape} x {cursor.unit:g}, what it meets is "
            f"{beside.shape} x {beside.unit:g}"
        )
    if settings.connect != "add" and cursor.unit != 1:
        raise SpikeletError(
            f"model.connect: {settings.connect} connects spikes of 0 and 1, not averages of value {cursor.unit:g}"
        )
    return Residual(body, shortcut, settings.connect)


def _layer(token: str, settings: NetworkSettings, cursor: _Cursor) -> nn.Module:
    if trained := re.fullmatch(r"P([1-9]\d*)(s[1-9]\d*)?(p\d+)?", token):
        token = f"{cursor.shape[0]}C{trained[1]}{trained[2] or f's{trained[1]}'}{trained[3] or ''}"
    return _weighted(token, settings, cursor)


def _pool(layers: nn.Sequential, pooling: Pooling, settings: NetworkSettings, cursor: _Cursor) -> None:
    """In a spiking network pooling stands between the layer before it, if it can, and that layer's neurons."""
    if cursor.first:
        raise SpikeletError(f"model.notation: {pooling.token} cannot come first: the first layer encodes the pixels")
    cursor.shape = pooling.output(cursor.shape)
    _check_shape(pooling.token, cursor.shape)
    spiking = settings.neuron is not None
    pool = pooling.module(spiking)
    if spiking and not pooling.of_spikes and len(layers) and isinstance(layers[-1], SpikingBlock):
        layers[-1].pool.append(pool)
        return
    cursor.unit /= pooling.divisor
    _name(layers, pooling.token, SpikePool(pool) if spiking else pool)


def _weighted(token: str, settings: NetworkSettings, cursor: _Cursor, last: bool = False) -> Block | SpikingBlock:
    bias = settings.neuron is not None and settings.norm == "none" and settings.bias
    op, shape = _op(token, cursor.shape, bias)
    if settings.init_gain != 1:
        op.weight.data.mul_(settings.init_gain)
    quantizer = _weight_quantizer(settings, first=cursor.first, last=last)
    if quantizer is not None:
        quantize_weight(op, quantizer)
    if settings.neuron is not None:
        return _spiking(op, shape, settings, cursor, last)
    activation = None if last else _activation(settings, cursor.first)
    block = Block(op, activation, cursor.shape, cursor.unit)
    cursor.shape, cursor.first = shape, False
    cursor.unit = activation.unit if isinstance(activation, Levels) else 1.0
    return block


def _spiking(op: Op, shape: Shape, settings: NetworkSettings, cursor: _Cursor, last: bool) -> SpikingBlock:
    readout = last and settings.readout == "current"
    norm = batch_norm(op) if settings.norm == "batch" and not readout else None
    neuron = None if readout else _neuron(settings)
    block = SpikingBlock(op, norm, neuron, cursor.shape, cursor.unit)
    if "gain" in settings.correction and not readout:
        block.gain = RateGain(len(op.weight), settings.target_rate, settings.gain_strength)
    if settings.coding_stage and cursor.first:
        block.stage = CodingStage(len(op.weight))
    cursor.shape, cursor.unit, cursor.first = shape, 1.0, False
    return block


def _neuron(settings: NetworkSettings) -> Neuron:
    if settings.neuron == "trace":
        return TraceLIF(settings.tau_m, settings.tau_s, settings.v_threshold)
    if settings.neuron == "srm":
        surrogate, detach = _surrogate(settings), settings.detach_reset
        return SRM(settings.tau_m, settings.tau_s, settings.dt, settings.v_threshold, surrogate, detach)
    return _leaky(settings)


def _leaky(settings: NetworkSettings) -> Neuron:
    moves = Adaptation(
        "threshold" in settings.correction, "leak" in settings.correction, settings.adapt_decay, settings.adapt_growth
    )

    def number(value: float, learned: bool) -> Any:
        return nn.Parameter(torch.tensor(value)) if learned else value

    numbers = (
        number(settings.beta, settings.learn_beta and not moves.leak),
        number(settings.v_threshold, settings.learn_threshold and not moves.threshold),
        0.0 if settings.reset == "zero" else None,
        _surrogate(settings),
        settings.detach_reset,
    )
    if moves.threshold or moves.leak:
        return AdaptiveLIF(*numbers, moves)
    return LIF(*numbers, settings.reset == "subtract_next")


def _surrogate(settings: NetworkSettings) -> Surrogate:
    shape = [] if settings.slope is None else [settings.slope]
    height = {} if settings.height is None else {"height": settings.height}
    return SURROGATES[settings.surrogate](*shape, **height)


def _op(token: str, shape: Shape, bias: bool) -> tuple[Op, Shape]:
    channels, height, width = shape
    linear = re.fullmatch(r"(?:FC)?([1-9]\d*)", token)
    if linear:
        size = int(linear[1])
        return nn.Linear(channels * height * width, size, bias=bias), (size, 1, 1)
    conv = re.fullmatch(r"([1-9]\d*)C([1-9]\d*)(?:s([1-9]\d*))?(?:p(\d+))?(?:g([1-9]\d*))?", token)
    if conv is None:
        raise SpikeletError(
            f"model.notation: cannot read {token!r}; expected nCk[sS][pP][gG], MPk[sS][pP], APk, Pk, GAP, FCn, [...]; "
            "first of all TSn[xm]rR"
        )
    out, kernel, stride, padding, groups = (int(x or d) for x, d in zip(conv.groups(), (0, 0, 1, 0, 1), strict=True))
    if channels % groups or out % groups:
        raise SpikeletError(f"model.notation: {token}: {groups} groups do not divide {channels} and {out} channels")
    new = (out, (height + 2 * padding - kernel) // stride + 1, (width + 2 * padding - kernel) // stride + 1)
    _check_shape(token, new)
    return nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=bias), new


def _check_shape(token: str, shape: Shape) -> None:
    if min(shape) < 1:
        raise SpikeletError(f"model.notation: {token} leaves no pixels: its output would be {shape}")


def _weight_quantizer(settings: NetworkSettings, first: bool, last: bool) -> WeightQuantizer | None:
    if first or last:
        return Uniform() if (settings.first if first else settings.last) == "integer" else None
    return QUANTIZERS[settings.weights]() if settings.weights != "float" else None


def _activation(settings: NetworkSettings, first: bool) -> nn.Module:
    if settings.k is None:
        return nn.ReLU()
    if first and settings.first_levels is not None:
        return Levels(0, settings.first_levels)
    return Levels(settings.k, settings.max_count)
