"""The papers' notation to a module: "32C5-P2-64C5-P2-1000C4-FC10"."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikelet.errors import SpikeletError
from spikelet.metrics import fanout
from spikelet.quantizers import QUANTIZERS, Levels, Uniform, WeightQuantizer, quantize_weight

Shape = tuple[int, int, int]


@dataclass
class NetworkSettings:
    """What a quantized network is made of.

    notation      tokens joined by "-": nCk[sS][pP][gG] convolution of n channels, k x k, stride S, padding P, G groups;
                  MPk, APk maximum and average pooling; Pk the pooling that ``pool`` names; FCn or n linear;
                  [ ... ] a residual block whose output is added to its input. The last token is linear: the classes.
    pool          what Pk means: "conv" (the trainable k x k stride-k convolution of works D and E), "max" or "avg"
    k             activation level: values are multiples of 2^-k; None for a plain ReLU
    max_count     upper bound of a hidden activation's count, 1 to 127
    weights       hidden layers: "ternary", "uniform8" or "float"
    first, last   "integer" (8-bit weights; the first on raw pixels) or "parity" (float weights, as published)
    first_levels  bound of the first layer's count, whose level is then 0 (unary code); None: like any other layer
    pixel_scale   pixels are divided by it before the first layer
    """

    notation: str = "32C5-P2-64C5-P2-1000C4-FC10"
    pool: str = "conv"
    k: int | None = 0
    max_count: int = 127
    weights: str = "ternary"
    first: str = "integer"
    last: str = "integer"
    first_levels: int | None = 4
    pixel_scale: float = 255.0

    def check(self) -> None:
        for name, allowed in (
            ("pool", ("conv", "max", "avg")),
            ("weights", (*QUANTIZERS, "float")),
            ("first", ("integer", "parity")),
            ("last", ("integer", "parity")),
        ):
            if getattr(self, name) not in allowed:
                raise SpikeletError(f"model.{name}: expected one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name, low, high in (("k", 0, 6), ("max_count", 1, 127), ("first_levels", 1, 127)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise SpikeletError(f"model.{name}: expected {low} to {high}, got {value}")
        if not self.pixel_scale > 0:
            raise SpikeletError(f"model.pixel_scale: expected a positive number, got {self.pixel_scale}")


class Block(nn.Module):
    """One weighted layer: ``op``, then batch norm and activation (neither on the readout).

    ``input_unit`` is the value of one input spike (for the first layer, of one grey level).
    """

    def __init__(self, op: nn.Conv2d | nn.Linear, activation: nn.Module | None, input_shape: Shape, unit: float):
        super().__init__()
        channels = op.weight.shape[0]
        norm = nn.BatchNorm1d if isinstance(op, nn.Linear) else nn.BatchNorm2d
        self.op = op
        self.norm = norm(channels) if activation is not None else None
        self.activation = activation
        self.input_shape, self.input_unit = input_shape, unit

    def forward(self, x: Tensor) -> Tensor:
        x = self.op(x.flatten(1) if isinstance(self.op, nn.Linear) else x)
        if self.norm is None or self.activation is None:
            return x
        return self.activation(self.norm(x))


class Residual(nn.Module):
    """x + body(x): spikes of both are passed on (SEW's ADD, Fang et al., NeurIPS 2021)."""

    def __init__(self, body: nn.Sequential) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Network(nn.Module):
    """A quantized network: ``network(images [N, C, H, W], pixels 0..255) -> logits [N, classes]``."""

    def __init__(self, layers: nn.Sequential, settings: NetworkSettings, input_shape: Shape) -> None:
        super().__init__()
        self.layers, self.settings, self.input_shape = layers, settings, input_shape

    def forward(self, images: Tensor) -> Tensor:
        weight = next(self.parameters())
        if images.dim() != 4 or tuple(images.shape[1:]) != self.input_shape:
            raise SpikeletError(f"images: expected [N, {', '.join(map(str, self.input_shape))}], got {[*images.shape]}")
        x = images.to(weight.dtype) / self.settings.pixel_scale
        return self.layers(x.contiguous(memory_format=torch.channels_last))

    def blocks(self) -> dict[str, Block]:
        """The weighted layers by name, in order."""
        return {name: module for name, module in self.layers.named_modules() if isinstance(module, Block)}


@dataclass
class _Cursor:
    """Where the builder is: the shape and the value of one spike that the next layer receives."""

    shape: Shape
    unit: float
    first: bool = True


def build(settings: NetworkSettings | str, input_shape: Shape) -> Network:
    """The network that ``settings`` (or a bare notation) describe, for images of ``input_shape`` (C, H, W).

    Raises SpikeletError where the notation cannot be read or does not fit the images.

    >>> network = build("4C3-P2-FC10", (1, 8, 8))
    >>> [*network.blocks()]
    ['4C3', 'P2', 'FC10']
    >>> network(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    settings = NetworkSettings(notation=settings) if isinstance(settings, str) else settings
    settings.check()
    tokens = re.findall(r"[\[\]]|[^\[\]-]+", settings.notation)
    cursor = _Cursor(tuple(input_shape), 1.0 / settings.pixel_scale)  # type: ignore[arg-type]
    if not tokens or not re.fullmatch(r"(?:FC)?\d+", tokens[-1]):
        raise SpikeletError(f"model.notation: {settings.notation!r} must end in a linear layer, such as FC10")
    layers = _sequence(iter(tokens[:-1]), settings, cursor)
    _name(layers, tokens[-1], _weighted(tokens[-1], settings, cursor, last=True))
    network = Network(layers, settings, tuple(input_shape))  # type: ignore[arg-type]
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _sequence(tokens: Iterator[str], settings: NetworkSettings, cursor: _Cursor, nested: bool = False) -> nn.Sequential:
    layers = nn.Sequential()
    for token in tokens:
        if token == "]" and nested:
            return layers
        if token == "[":
            _name(layers, "residual", _residual(tokens, settings, cursor))
        else:
            _name(layers, token, _layer(token, settings, cursor))
    if nested:
        raise SpikeletError(f"model.notation: a '[' in {settings.notation!r} is never closed")
    return layers


def _name(layers: nn.Sequential, token: str, layer: nn.Module) -> None:
    count = sum(name.split("_")[0] == token for name, _ in layers.named_children())
    layers.add_module(f"{token}_{count + 1}" if count else token, layer)


def _residual(tokens: Iterator[str], settings: NetworkSettings, cursor: _Cursor) -> Residual:
    shape, unit = cursor.shape, cursor.unit
    if cursor.first:
        raise SpikeletError("model.notation: a residual block cannot be the first layer: pixels are not spikes")
    body = _sequence(tokens, settings, cursor, nested=True)
    if (cursor.shape, cursor.unit) != (shape, unit):
        raise SpikeletError(
            f"model.notation: a residual block must keep shape and spike value, it turns {shape} x {unit:g} "
            f"into {cursor.shape} x {cursor.unit:g}"
        )
    return Residual(body)


def _layer(token: str, settings: NetworkSettings, cursor: _Cursor) -> nn.Module:
    pooling = re.fullmatch(r"(MP|AP|P)([1-9]\d*)", token)
    if pooling is None:
        return _weighted(token, settings, cursor)
    kind, size = pooling[1], int(pooling[2])
    if kind == "P" and settings.pool == "conv":
        return _weighted(f"{cursor.shape[0]}C{size}s{size}", settings, cursor)
    if cursor.first:
        raise SpikeletError(f"model.notation: {token} cannot come first: the first layer encodes the pixels")
    channels, height, width = cursor.shape
    cursor.shape = (channels, height // size, width // size)
    _check_shape(token, cursor.shape)
    if kind == "MP" or settings.pool == "max":
        return nn.MaxPool2d(size)
    cursor.unit /= size * size
    return nn.AvgPool2d(size)


def _weighted(token: str, settings: NetworkSettings, cursor: _Cursor, last: bool = False) -> Block:
    op, shape = _op(token, cursor.shape)
    quantizer = _weight_quantizer(settings, first=cursor.first, last=last)
    if quantizer is not None:
        quantize_weight(op, quantizer)
    activation = None if last else _activation(settings, cursor.first)
    block = Block(op, activation, cursor.shape, cursor.unit)
    cursor.shape, cursor.first = shape, False
    cursor.unit = activation.unit if isinstance(activation, Levels) else 1.0
    return block


def _op(token: str, shape: Shape) -> tuple[nn.Conv2d | nn.Linear, Shape]:
    channels, height, width = shape
    linear = re.fullmatch(r"(?:FC)?([1-9]\d*)", token)
    if linear:
        size = int(linear[1])
        return nn.Linear(channels * height * width, size, bias=False), (size, 1, 1)
    conv = re.fullmatch(r"([1-9]\d*)C([1-9]\d*)(?:s([1-9]\d*))?(?:p(\d+))?(?:g([1-9]\d*))?", token)
    if conv is None:
        raise SpikeletError(
            f"model.notation: cannot read {token!r}; expected nCk[sS][pP][gG], MPk, APk, Pk, FCn or [...]"
        )
    out, kernel, stride, padding, groups = (int(x or d) for x, d in zip(conv.groups(), (0, 0, 1, 0, 1), strict=True))
    if channels % groups or out % groups:
        raise SpikeletError(f"model.notation: {token}: {groups} groups do not divide {channels} and {out} channels")
    new = (out, (height + 2 * padding - kernel) // stride + 1, (width + 2 * padding - kernel) // stride + 1)
    _check_shape(token, new)
    return nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=False), new


def _check_shape(token: str, shape: Shape) -> None:
    if min(shape) < 1:
        raise SpikeletError(f"model.notation: {token} leaves no pixels: its output would be {shape}")


def _weight_quantizer(settings: NetworkSettings, first: bool, last: bool) -> WeightQuantizer | None:
    if first or last:
        return Uniform() if (settings.first if first else settings.last) == "integer" else None
    kind = QUANTIZERS.get(settings.weights)
    return kind() if kind is not None else None


def _activation(settings: NetworkSettings, first: bool) -> nn.Module:
    if settings.k is None:
        return nn.ReLU()
    if first and settings.first_levels is not None:
        return Levels(0, settings.first_levels)
    return Levels(settings.k, settings.max_count)


def answers(network: nn.Module, images: Tensor) -> Tensor:
    """The logits of ``network`` in evaluation mode, without gradient; its mode is left as it was."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            return network(images)
    finally:
        network.train(training)


class OperationMeter:
    """Adds up the synaptic operations of a forward pass: activation counts times true fan-out, differentiable.

    >>> network = build("4C3-P2-FC10", (1, 8, 8))
    >>> with measure_operations(network) as meter:
    ...     _ = network(torch.rand(2, 1, 8, 8) * 255)
    >>> meter.total.shape
    torch.Size([])
    """

    def __init__(self, network: Network) -> None:
        blocks = [*network.blocks().values()][1:]
        self.total = torch.zeros(())
        self._fanout = {b: (fanout(b.op, b.input_shape) / b.input_unit).float() for b in blocks}

    def add(self, block: Block, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].sum(0, dtype=torch.float32)
        weights = self._fanout[block] = self._fanout[block].to(x.device)
        self.total = self.total + (x * weights.reshape(x.shape)).sum()


@contextmanager
def measure_operations(network: Network, meter: OperationMeter | None = None):
    """While open, ``meter.total`` is the number of operations of the last forward pass, summed over the batch."""
    meter = meter or OperationMeter(network)
    meter.total = torch.zeros((), device=next(network.parameters()).device)
    hooks = [block.register_forward_pre_hook(meter.add) for block in meter._fanout]
    try:
        yield meter
    finally:
        for hook in hooks:
            hook.remove()
