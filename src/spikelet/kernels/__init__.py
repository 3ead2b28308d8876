"""The loops over time. ``reference`` is the specification, in plain torch; the fused kernels are tested against it.

``lif`` and ``srm`` choose by device and dtype: compiled loops on a CPU (float32, bfloat16), Triton on a GPU (those and
float16), the reference for everything else: float64, a surrogate of your own, a beta or threshold per neuron.
``adaptive`` has no Triton.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from spikelet.kernels import fused, reference, threads
from spikelet.kernels.reference import Adaptation, Adaptive, Decay, Number, Reset, Spike, threshold_walk
from spikelet.surrogate import Surrogate

__all__ = ["Adaptation", "Decay", "Reset", "adaptive", "lif", "lif_hold", "srm", "srm_hold", "threshold_walk"]

FUSED = {"cpu": (torch.float32, torch.bfloat16), "cuda": (torch.float32, torch.bfloat16, torch.float16)}


def lif(
    x: Tensor,
    beta: Number,
    v_threshold: Number,
    v_reset: float | None,
    surrogate: Spike,
    detach_reset: bool = True,
    delay_reset: bool = False,
) -> Tensor:
    """Leaky integrate-and-fire over ``x`` [T, N, ...] from rest; returns spikes of the same shape and dtype, 0 or 1.

    ``beta`` and ``v_threshold`` > 0 are numbers or tensors of one step's shape, the latter with gradients. The formula
    is ``reference.lif``'s, and so are the spikes, bit for bit.

    >>> from spikelet.surrogate import atan
    >>> lif(torch.full((4, 1), 0.7), 0.5, 1.0, None, atan()).flatten().tolist()
    [0.0, 1.0, 0.0, 1.0]
    """
    return _lif(x, None, beta, v_threshold, surrogate, Reset(v_reset, detach_reset, delay_reset))


def lif_hold(
    x: Tensor,
    num_steps: int,
    beta: Number,
    v_threshold: Number,
    v_reset: float | None,
    surrogate: Spike,
    detach_reset: bool = True,
    delay_reset: bool = False,
) -> Tensor:
    """``lif`` of the constant current ``x`` [N, ...], which is never repeated: spikes [num_steps, N, ...].

    The gradient of x is summed over the steps inside the kernel.
    """
    return _lif(x, num_steps, beta, v_threshold, surrogate, Reset(v_reset, detach_reset, delay_reset))


def _lif(x: Tensor, num_steps: int | None, beta: Number, v_threshold: Number, surrogate: Spike, reset: Reset) -> Tensor:
    backend = _backend(x, surrogate, beta, v_threshold)
    if backend is None or not isinstance(surrogate, Surrogate):
        return reference.lif(_repeated(x, num_steps), beta, v_threshold, surrogate, reset)
    return fused.run(fused.Layer(surrogate, reset), backend, x, num_steps, beta, v_threshold)


def srm(x: Tensor, decay: Decay, v_threshold: float, surrogate: Spike, detach_reset: bool = True) -> Tensor:
    """Spike response model with two exponentials over ``x`` [T, N, ...] from rest; returns spikes, 0 or 1.

    >>> from spikelet.surrogate import atan
    >>> x = torch.tensor([[0.1], [0.0], [0.0], [0.0], [0.0]])
    >>> srm(x, Decay(0.92004, 0.77880, 1.5), 0.05, atan()).flatten().tolist()
    [0.0, 0.0, 0.0, 0.0, 1.0]
    """
    return _srm(x, None, decay, v_threshold, surrogate, detach_reset)


def srm_hold(
    x: Tensor, num_steps: int, decay: Decay, v_threshold: float, surrogate: Spike, detach_reset: bool = True
) -> Tensor:
    """``srm`` of the constant current ``x`` [N, ...], which is never repeated: spikes [num_steps, N, ...]."""
    return _srm(x, num_steps, decay, v_threshold, surrogate, detach_reset)


def _srm(x: Tensor, num_steps: int | None, decay: Decay, v_threshold: float, surrogate: Spike, detach_reset: bool):
    backend = _backend(x, surrogate, 0.0, v_threshold)
    if backend is None or not isinstance(surrogate, Surrogate):
        return reference.srm(_repeated(x, num_steps), decay, v_threshold, surrogate, detach_reset)
    layer = fused.Layer(surrogate, Reset(0.0, detach_reset), decay)
    return fused.run(layer, backend, x, num_steps, 0.0, v_threshold)


def adaptive(
    x: Tensor, numbers: Adaptive, rule: Adaptation, surrogate: Spike, reset: Reset, num_steps: int | None = None
) -> Tensor:
    """Leaky integrate-and-fire whose leak and threshold move by ``rule``, over ``x`` [T, N, ...] from rest; spikes.

    With ``num_steps``, of the constant current ``x`` [N, ...]. ``numbers`` are the decay per step, or w of a leak that
    moves, b, and the threshold at rest, above 0; the formula is ``reference.adaptive_step``'s. Spikes are bit for bit
    the reference's while the leak stands still; where it moves, a mean is summed in another order.

    >>> from spikelet.surrogate import atan
    >>> x = torch.full((8, 1), 1.0)
    >>> adaptive(x, (0.5, 0.0, 1.0), Adaptation(leak=False), atan(), Reset()).flatten().tolist()
    [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    """
    backend = _backend(x, surrogate, numbers[0], numbers[2])
    if backend is None or not isinstance(surrogate, Surrogate) or x.device.type != "cpu":
        return reference.adaptive(_repeated(x, num_steps), numbers, rule, surrogate, reset)
    layer = fused.Layer(surrogate, reset, rule=rule)
    x = _by_samples(x, 1 if num_steps is None else 0) if rule.leak else x
    return fused.run(layer, _module("adaptive_cpu"), x, num_steps, *numbers)


def _by_samples(x: Tensor, axis: int) -> Tensor:
    """``x`` itself where each sample of ``axis`` fills one stretch of memory, else a copy."""
    return x if x.shape[axis] == 1 or x.stride(axis) == x.shape[axis + 1 :].numel() else x.contiguous()


def _repeated(x: Tensor, num_steps: int | None) -> Tensor:
    return x if num_steps is None else x.expand(num_steps, *x.shape)


def _backend(x: Tensor, surrogate: Spike, beta: Number, v_threshold: Number) -> ModuleType | None:
    """The module with the fused kernel for such a call; None: the reference."""
    device = x.device.type
    plain = isinstance(surrogate, Surrogate) and _single(beta) and _single(v_threshold)
    if threads.recorded() or not plain or x.dtype not in FUSED.get(device, ()):
        return None
    if not _above_zero(v_threshold):
        return None  # at rest nothing may fire: the fused kernels know a spike by its membrane
    if device == "cpu":
        return _module("cpu")
    return _module("gpu") if _has_triton() else None


@cache
def _module(name: str) -> ModuleType:
    return import_module(f"spikelet.kernels.{name}")


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _above_zero(number: Number) -> bool:
    """Whether the number is; on a GPU nobody waits for the answer."""
    if isinstance(number, Tensor):
        return number.device.type != "cpu" or number.item() > 0
    return number > 0


def _single(number: Number) -> bool:
    return not isinstance(number, Tensor) or number.numel() == 1
