"""Weighted layers and residual blocks: what the notation's tokens become."""

from torch import Tensor, nn

from spikelet.kernels.conv import Conv, conv_max_pool
from spikelet.kernels.pool import max_pool
from spikelet.neurons import Neuron

Shape = tuple[int, int, int]
Op = nn.Conv2d | nn.Linear


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

    ``neuron`` is None on a readout of currents.
    """

    def __init__(self, op: Op, norm: nn.Module | None, neuron: Neuron | None, input_shape: Shape) -> None:
        super().__init__()
        self.op, self.norm, self.pool, self.neuron = op, norm, nn.Sequential(), neuron
        self.input_shape, self.input_unit = input_shape, 1.0

    def forward(self, x: Tensor, num_steps: int | None = None) -> Tensor:
        """Spikes of the layer before [T, N, ...], or a picture [N, ...] to show ``num_steps`` times, to [T, N, ...].

        A picture's currents do not depend on time: they are computed once.
        """
        if num_steps is None:
            current = self._current(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            return current if self.neuron is None else self.neuron(current)
        current = self._current(x)
        return (
            current.expand(num_steps, *current.shape) if self.neuron is None else self.neuron.hold(current, num_steps)
        )

    def _current(self, x: Tensor) -> Tensor:
        """``x`` may have any layout and, where it needs no gradient, any dtype. No hook on a convolution is called."""
        op, pool = self.op, self.pool
        if isinstance(op, nn.Linear):
            return pool(self._normed(op(x.flatten(1).to(next(op.parameters()).dtype))))
        conv = geometry(op)
        if self.norm is None and len(pool) > 0 and isinstance(pool[0], CurrentPool):
            return pool[1:](conv_max_pool(x, op.weight, op.bias, conv, pool[0].size))
        return pool(self._normed(conv_max_pool(x, op.weight, op.bias, conv, size=1)))

    def _normed(self, x: Tensor) -> Tensor:
        return x if self.norm is None else self.norm(x)


class CurrentPool(nn.MaxPool2d):
    """Max pooling of currents, window and stride ``kernel_size``; it keeps one byte per output for the backward."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__(kernel_size)
        self.size = kernel_size

    def forward(self, input: Tensor) -> Tensor:
        return max_pool(input, self.size)


class Residual(nn.Module):
    """x + body(x): spikes of both are passed on (SEW's ADD, Fang et al., NeurIPS 2021)."""

    def __init__(self, body: nn.Sequential) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def geometry(op: nn.Conv2d) -> Conv:
    """The convolution ``op`` without its weights."""
    return Conv(op.stride, op.padding, op.dilation, op.groups)  # type: ignore[arg-type]


def batch_norm(op: Op) -> nn.Module:
    """The batch norm that fits behind ``op``."""
    return (nn.BatchNorm1d if isinstance(op, nn.Linear) else nn.BatchNorm2d)(op.weight.shape[0])
