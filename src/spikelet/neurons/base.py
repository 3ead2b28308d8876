"""The contract of every neuron."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikelet.arguments import check_flag, check_number, check_whole
from spikelet.errors import SpikeletError
from spikelet.kernels.reference import Spike
from spikelet.surrogate import atan
from spikelet.surrogate import surrogate as by_name

State = tuple[Tensor, ...]
LOWEST_THRESHOLD = 1e-6  # where a learned threshold is stopped: at 0 a neuron at rest would fire


class Neuron(nn.Module, ABC):
    """Spiking neuron: ``forward(x [T, N, ...]) -> spikes [T, N, ...]``, from rest at every call.

    ``hold(x [N, ...], num_steps)`` is ``forward`` of a constant current, which is not repeated in memory. State is
    passed, never stored: ``init_state`` and ``step`` are the streaming form of the same computation. A new neuron
    needs these two; one with a fused kernel gives ``forward`` and ``hold`` as well.

    What is sent to the next layer are the spikes, or a signal made of them (``TraceLIF``): then ``signal(spikes)`` is
    what ``forward``, ``hold`` and ``step`` return. ``spikes`` takes it back; rates and operations are counted there.
    """

    @abstractmethod
    def init_state(self, x: Tensor) -> State:
        """The state at rest for one step's input ``x`` [N, ...]."""

    @abstractmethod
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: input ``x`` [N, ...] and state to (spikes [N, ...], next state)."""

    def forward(self, x: Tensor) -> Tensor:
        """Spikes [T, N, ...] of the currents ``x`` [T, N, ...]."""
        check_currents(x)
        state = self.init_state(x[0])
        spikes = []
        for current in x:
            s, state = self.step(current, state)
            spikes.append(s)
        return torch.stack(spikes)

    def hold(self, x: Tensor, num_steps: int) -> Tensor:
        """Spikes [num_steps, N, ...] of the current ``x`` [N, ...], the same at every step."""
        check_held(x, num_steps)
        return self.forward(x.expand(num_steps, *x.shape))

    def signal(self, spikes: Tensor) -> Tensor:
        """What spikes or values [T, N, ...] are on their way into a layer: themselves."""
        return spikes

    def spikes(self, signal: Tensor) -> Tensor:
        """The spikes [T, N, ...] behind what neurons of this kind sent [T, N, ...], or behind a sum of such."""
        return signal


class _Within(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bounds = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x,), (low, high) = ctx.saved_tensors, ctx.bounds
        outward = ((x <= low) & (grad > 0)) | ((x >= high) & (grad < 0))
        return grad.masked_fill(outward, 0), None, None


def within(x: Tensor, low: float, high: float = math.inf) -> Tensor:
    """``x`` clamped to [low, high], of shape () where it has one element.

    What has left these bounds still has the gradient that leads back, unlike with ``clamp``, and what stands on one has
    none that leads out.

    >>> x = torch.tensor([1.5, 1.5], requires_grad=True)
    >>> (within(x, 0, 1) * torch.tensor([2.0, -2.0])).sum().backward()
    >>> x.grad.tolist()  # what descends along the second would go still further out
    [2.0, 0.0]
    """
    x = x.reshape(()) if x.numel() == 1 else x
    return x.clamp(low, high) if torch.jit.is_tracing() else _Within.apply(x, low, high)


def check_numbers(name: str, value: Any, allowed: str, holds: Callable[[float], bool]) -> None:
    """One clear error for what is neither a number that ``holds``, an interval, nor a tensor of such."""
    if not isinstance(value, Tensor):
        check_number(name, value, allowed, holds)
    elif not value.numel() or not all(holds(end.item()) for end in value.detach().aminmax()):  # NaN is both ends
        ends = f"{value.min().item():g} to {value.max().item():g}" if value.numel() else "none"
        raise SpikeletError(f"{name}: expected {allowed}, got {ends}")


def check_reset(v_reset: float | None, **flags: bool) -> None:
    """One clear error for what is no reset: a number or None, and flags."""
    if v_reset is not None:
        check_number("v_reset", v_reset, "a number or None", math.isfinite)
    for name, flag in flags.items():
        check_flag(name, flag)


def is_decay(x: float) -> bool:
    """Whether ``x`` is what a step may leave of a membrane."""
    return 0 <= x <= 1


def is_positive(x: float) -> bool:
    """Whether ``x`` is a threshold or a time."""
    return 0 < x < math.inf


def check_fits(step: torch.Size, **numbers: float | Tensor) -> None:
    """One clear error for a tensor that neither is one element nor broadcasts to one ``step`` of the currents."""
    for name, value in numbers.items():
        if isinstance(value, Tensor) and value.numel() > 1:
            try:
                value.expand(step)
            except RuntimeError:
                allowed = f"one element, or a shape that broadcasts to {[*step]}"
                raise SpikeletError(f"{name}: expected {allowed}, got {[*value.shape]}") from None


def check_currents(x: Tensor) -> None:
    """One clear error for what is no [T, N, ...] of floats."""
    _check_tensor(x)
    if x.dim() < 2 or x.shape[0] == 0:
        raise SpikeletError(f"x: expected [T, N, ...] with T >= 1, got shape {tuple(x.shape)}")
    _check_dtype(x)


def check_step(x: Tensor) -> None:
    """One clear error for what is no [N, ...] of floats."""
    _check_tensor(x)
    if x.dim() < 1:
        raise SpikeletError(f"x: expected [N, ...], got shape {tuple(x.shape)}")
    _check_dtype(x)


def check_held(x: Tensor, num_steps: int) -> None:
    """One clear error for what is no [N, ...] of floats, or no number of steps."""
    check_step(x)
    if not torch.jit.is_tracing():  # there, sizes are tensors
        check_whole("num_steps", num_steps)


def _check_tensor(x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise SpikeletError(f"x: expected a tensor, got {type(x).__name__}")


def _check_dtype(x: Tensor) -> None:
    if not x.is_floating_point():
        raise SpikeletError(f"x: expected a floating dtype, got {x.dtype}; x.float() makes currents of counts")


def chosen(surrogate: Spike | str | None) -> Spike:
    """The surrogate that was meant: itself, by name, or the default."""
    if isinstance(surrogate, str):
        return by_name(surrogate)
    if surrogate is None:
        return atan()
    if not callable(surrogate) or isinstance(surrogate, type):
        raise SpikeletError(f"surrogate: expected a name or a spikelet.surrogate, got {surrogate!r}")
    return surrogate


def beta_from_tau(tau: float, dt: float) -> float:
    """Decay per step of a membrane with time constant ``tau``: exp(-dt / tau), both in seconds.

    >>> round(beta_from_tau(tau=60e-3, dt=5e-3), 5)
    0.92004
    """
    for name, time in (("tau", tau), ("dt", dt)):
        check_number(name, time, "a positive time", is_positive)
    return math.exp(-dt / tau)
