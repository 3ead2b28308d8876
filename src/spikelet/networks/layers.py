"""Weighted layers, pooling and residual blocks: what the notation's tokens become."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from spikelet.encoders import CodingStage, DynamicCode, TimeSurface
from spikelet.events import Binned
from spikelet.kernels.conv import Conv, conv_max_pool
from spikelet.kernels.pool import max_pool
from spikelet.networks.gain import RateGain
from spikelet.neurons import Neuron

Shape = tuple[int, int, int]
Op = nn.Conv2d | nn.Linear

CONNECT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda a, x: x + a,
    "and": lambda a, x: a * x,
    "iand": lambda a, x: torch.addcmul(x, a, x, value=-1),  # in one pass: 1 - a would stay in memory for the backward
}


class Block(nn.Module):
    """One weighted layer: ``op``, then batch norm and activation (neither on the readout).

    ``input_unit`` is the value of one input spike (for the first layer, of one grey level).
    """

    def __init__(self, op: Op, activation: nn.Module | None, input_shape: Shape, unit: float) -> None:
        super().__init__()
        self.op = op
        self.norm = batch_norm(op) if activation is not None else None
        self.activation = activation
        self.input_shape, self.input_unit = input_shape, unit

    def forward(self, x: Tensor) -> Tensor:
        x = self.op(x.flatten(1) if isinstance(self.op, nn.Linear) else x)
        if self.norm is None or self.activation is None:
            return x
        return self.activation(self.norm(x))


class SpikingBlock(nn.Module):
    """One weighted layer over time: ``op``, batch norm and pooling make currents, the neuron makes them spikes.

    ``neuron`` is None on a readout of currents. ``input_unit`` is the value of one input spike: less than 1 behind an
    average of spikes. A ``gain`` corrects the weights, or where there is a batch norm its scale, which would undo any
    gain in front of it. A ``stage`` lets the currents fade, behind norm and pooling.
    """

    gain: RateGain | None
    stage: CodingStage | None

    def __init__(
        self, op: Op, norm: nn.Module | None, neuron: Neuron | None, input_shape: Shape, unit: float = 1.0
    ) -> None:
        super().__init__()
        self.op, self.norm, self.pool, self.neuron = op, norm, nn.Sequential(), neuron
        self.gain, self.stage = None, None
        self.input_shape, self.input_unit = input_shape, unit

    def forward(self, x: Tensor, num_steps: int | None = None, code: DynamicCode | None = None) -> Tensor:
        """Spikes of the layer before [T, N, ...], or a picture [N, ...] to show ``num_steps`` times, to [T, N, ...].

        A picture's currents do not depend on time: they are computed once. ``code`` encodes either first.
        """
        if code is not None:
            current, num_steps = self._coded(x, num_steps, code), None
        elif num_steps is None:
            current = self._current(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        else:
            current = self._current(x)
        sent = self._sent(current, num_steps)
        if self.gain is not None and self.neuron is not None and self.training:
            self.gain.update(self.neuron.spikes(sent))
        return sent

    def _coded(self, x: Tensor, num_steps: int | None, code: DynamicCode) -> Tensor:
        """Currents [T, N, ...] of a mix of codes; the weights see each code on its own."""
        mixed, bias = code(x, num_steps, through=self._weighed), self.op.bias
        current = mixed.flatten(0, 1)
        if bias is not None:
            current = current + bias.reshape(-1, *[1] * (current.dim() - 2))
        return self.pool(self._normed(current)).unflatten(0, mixed.shape[:2])

    def _weighed(self, x: Tensor, factor: Tensor) -> Tensor:
        """What the weights, times a factor, make of ``x``, without a bias."""
        weight = factor * self._weight()
        if isinstance(self.op, nn.Linear):
            return _linear(x, weight, None)
        return conv_max_pool(x, weight, None, geometry(self.op), size=1)

    def _sent(self, current: Tensor, num_steps: int | None) -> Tensor:
        """What the neurons make of currents [T, N, ...], or of a picture's, [N, ...]."""
        if num_steps is not None and self.stage is None and self.neuron is not None:
            return self.neuron.hold(current, num_steps)
        current = current if num_steps is None else current.expand(num_steps, *current.shape)
        current = current if self.stage is None else self.stage(current)
        return current if self.neuron is None else self.neuron(current)

    def _current(self, x: Tensor) -> Tensor:
        """``x`` may have any layout and, where it needs no gradient, any dtype. No hook on a convolution is called."""
        op, pool, weight = self.op, self.pool, self._weight()
        if isinstance(op, nn.Linear):
            return pool(self._normed(_linear(x, weight, op.bias)))
        conv = geometry(op)
        if self.norm is None and len(pool) > 0 and isinstance(pool[0], MaxPool):
            current = conv_max_pool(x, weight, op.bias, conv, pool[0].size)
            for layer in [*pool][1:]:
                current = layer(current)
            return current
        return pool(self._normed(conv_max_pool(x, weight, op.bias, conv, size=1)))

    def _weight(self) -> Tensor:
        weight = self.op.weight
        if self.gain is None or self.norm is not None:
            return weight
        return self.gain().reshape(-1, *[1] * (weight.dim() - 1)) * weight

    def _normed(self, x: Tensor) -> Tensor:
        if self.norm is None or self.gain is None:
            return x if self.norm is None else self.norm(x)
        return functional_call(self.norm, {"weight": self.gain() * self.norm.weight}, (x,))


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer of ``x`` [N, ...], flattened. Of channels_last, it is the weights that are put in order."""
    if x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        weight, x = weight.unflatten(1, x.shape[1:]).permute(0, 2, 3, 1).flatten(1), x.permute(0, 2, 3, 1)
    return nn.functional.linear(x.flatten(1).to(weight.dtype), weight, bias)


class SurfaceBlock(nn.Module):
    """Time surfaces of events, then neurons: Binned events of N recordings to spikes [T, N, R^2, rows, columns]."""

    def __init__(self, encoder: TimeSurface, neuron: Neuron) -> None:
        super().__init__()
        self.encoder, self.neuron = encoder, neuron

    def forward(self, events: Binned) -> Tensor:
        return self.neuron(self.encoder(events).unflatten(2, self.output_shape))

    @property
    def output_shape(self) -> Shape:
        """(R^2, rows, columns) of cells."""
        return self.patch, *self.encoder.surface.cells

    @property
    def patch(self) -> int:
        """Entries of the time surface around one event, R^2: the multiplications that it costs."""
        return self.encoder.surface.patch

    def describe(self) -> dict:
        """Weights, bytes, and the MACs of one step where every site has an event."""
        weights, sites = self.encoder.weight.numel(), math.prod(self.encoder.surface.sensor_size)
        row = {"kind": "TimeSurface", "weights": weights, "bits": 32, "nonzero": weights, "weight_bytes": 4 * weights}
        return row | {"macs": sites * self.patch}


class MaxPool(nn.MaxPool2d):
    """Max pooling, window and stride ``kernel_size``; it keeps one byte per output for the backward."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__(kernel_size)
        self.size = kernel_size

    def forward(self, input: Tensor) -> Tensor:
        return max_pool(input, self.size)


class SpikePool(nn.Module):
    """``pool`` of every step's spikes: [T, N, C, H, W] to [T, N, C, H', W'].

    >>> SpikePool(MaxPool(2))(torch.eye(2).expand(5, 3, 1, 2, 2)).shape
    torch.Size([5, 3, 1, 1, 1])
    """

    def __init__(self, pool: nn.MaxPool2d | nn.AvgPool2d) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Residual(nn.Module):
    """Connects a = body(x) with x, or with shortcut(x) where there is a ``shortcut``.

        add    a + x          the spikes of both: numbers up to one larger than those of x
        and    a * x
        iand   (1 - a) * x

    Source: Fang et al., "Deep Residual Learning in Spiking Neural Networks" (SEW), NeurIPS 2021.

    >>> x = torch.tensor([0.0, 0.0, 1.0, 1.0])
    >>> [Residual(nn.Sequential(nn.Identity()), connect=name)(x).tolist() for name in CONNECT]
    [[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    """

    def __init__(self, body: nn.Sequential, shortcut: nn.Sequential | None = None, connect: str = "add") -> None:
        super().__init__()
        self.body, self.shortcut, self.connect = body, shortcut, connect

    def forward(self, x: Tensor) -> Tensor:
        a = self.body(x)
        x = x if self.shortcut is None else self.shortcut(x)
        return CONNECT[self.connect](a, x.reshape(a.shape))  # what linear layers leave has no plane

    def extra_repr(self) -> str:
        return f"connect={self.connect}"


def geometry(op: nn.Conv2d) -> Conv:
    """The convolution ``op`` without its weights."""
    return Conv(op.stride, op.padding, op.dilation, op.groups)  # type: ignore[arg-type]


def batch_norm(op: Op) -> nn.Module:
    """The batch norm that fits behind ``op``."""
    return (nn.BatchNorm1d if isinstance(op, nn.Linear) else nn.BatchNorm2d)(op.weight.shape[0])
