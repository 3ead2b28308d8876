"""The contract of every weight quantizer."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikelet.errors import SpikeletError


class WeightQuantizer(nn.Module, ABC):
    """A torch parametrization of a ``weight``: forward is ``codes * scale``, the gradient passes straight through.

    ``bits`` is the storage width of one code. ``begin`` is called with the weight whenever it was not reached by
    training: when the quantizer is put on it, and when trained weights are loaded.
    """

    bits: int

    @abstractmethod
    def codes(self, weight: Tensor) -> Tensor:
        """Integer codes (int8) of ``weight``, same shape."""

    @abstractmethod
    def scale(self, weight: Tensor) -> Tensor:
        """The value of one code unit, a positive scalar."""

    def begin(self, weight: Tensor) -> None:
        """Take from ``weight`` what the quantizer keeps of it; nothing, by default."""

    def forward(self, weight: Tensor) -> Tensor:
        with torch.no_grad():
            quantized = self.codes(weight) * self.scale(weight)
        return _StraightThrough.apply(weight, quantized)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor, quantized: Tensor) -> Tensor:
        return quantized.to(weight.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad, None


def quantize_weight(op: nn.Module, quantizer: WeightQuantizer) -> nn.Module:
    """Make ``quantizer`` the parametrization of ``op.weight``; returns ``op``.

    >>> from spikelet.quantizers import Ternary
    >>> op = quantize_weight(nn.Linear(8, 4), Ternary())
    >>> sorted(set(op.weight.flatten().tolist())) in ([-1.0, 0.0, 1.0], [-1.0, 1.0])
    True
    """
    with torch.no_grad():
        quantizer.begin(op.weight)  # type: ignore[arg-type]
    parametrize.register_parametrization(op, "weight", quantizer)
    return op


def weight_quantizer(op: nn.Module) -> WeightQuantizer | None:
    """The quantizer of ``op.weight``, or None where the weight is a plain float tensor."""
    if not parametrize.is_parametrized(op, "weight"):
        return None
    found = op.parametrizations.weight[0]  # type: ignore[union-attr,index]
    return found if isinstance(found, WeightQuantizer) else None


def latent_weight(op: nn.Module) -> Tensor:
    """The weight that is trained: behind the quantizer where there is one."""
    quantized = parametrize.is_parametrized(op, "weight")
    return op.parametrizations.weight.original if quantized else op.weight  # type: ignore[return-value,union-attr]


def begin(network: nn.Module) -> None:
    """Tell every quantizer of ``network`` the weight that it is on. Raises SpikeletError, with the layer's name."""
    for name, module in network.named_modules():
        quantizer = weight_quantizer(module)
        if quantizer is not None:
            try:
                quantizer.begin(latent_weight(module))
            except SpikeletError as error:
                raise SpikeletError(f"layer {name}: {error}") from None
