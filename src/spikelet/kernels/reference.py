"""Loops over time in plain torch: one function per neuron, its body the formula, line by line.

The specification that the fused kernels are tested against; it runs in any dtype, on any device, under autograd.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

State = tuple[Tensor, ...]
Spike = Callable[[Tensor], Tensor]  # x = v - v_threshold to spikes; a surrogate.Surrogate or any function like it
Number = float | Tensor


class Reset(NamedTuple):
    """What a spike does to the membrane.

    value     the membrane is set to it; None: v_threshold is subtracted
    detached  no gradient flows through the reset's dependence on the spike
    delayed   the reset takes place in the next step, in front of nothing but that step's input
    """

    value: float | None = None
    detached: bool = True
    delayed: bool = False


def lif_rest(x: Tensor, reset: Reset) -> State:
    """State of the membranes at rest for one step's input ``x``; in float32 where x is of 16 bits."""
    v = torch.zeros_like(_wide(x))
    return (v, torch.zeros_like(v)) if reset.delayed else (v,)


def lif_step(x: Tensor, state: State, beta: Number, v_threshold: Number, spike: Spike, reset: Reset):
    """One step of the leaky integrate-and-fire neuron: charge, fire, reset. Returns (spikes, state)."""
    if reset.delayed:
        return _lif_step_delayed(x, state, beta, v_threshold, spike, reset)
    v = beta * state[0] + _wide(x)
    s = spike(v - v_threshold)
    r = s.detach() if reset.detached else s
    v = v - r * v_threshold if reset.value is None else (1 - r) * v + r * reset.value
    return s.to(x.dtype), (v,)


def _lif_step_delayed(x: Tensor, state: State, beta: Number, v_threshold: Number, spike: Spike, reset: Reset):
    """The same, the reset of the last step's spikes r coming first. State: (v, r)."""
    v, r = state
    if reset.value is None:
        v = beta * v + _wide(x) - r * v_threshold
    else:
        v = beta * ((1 - r) * v + r * reset.value) + _wide(x)
    s = spike(v - v_threshold)
    return s.to(x.dtype), (v, s.detach() if reset.detached else s)


def lif(x: Tensor, beta: Number, v_threshold: Number, spike: Spike, reset: Reset) -> Tensor:
    """Leaky integrate-and-fire over ``x`` [T, N, ...] from rest; returns spikes of the same shape, 0 or 1."""
    state = lif_rest(x[0], reset)
    spikes = []
    for current in x:
        s, state = lif_step(current, state, beta, v_threshold, spike, reset)
        spikes.append(s)
    return torch.stack(spikes)


class Decay(NamedTuple):
    """The two decays per step of an ``srm``, of its membrane and its synapse, and the factor of their difference."""

    membrane: float
    synapse: float
    gain: float


def srm_rest(x: Tensor) -> State:
    """State (m, c) at rest for one step's input ``x``; in float32 where x is of 16 bits."""
    rest = torch.zeros_like(_wide(x))
    return rest, rest


def srm_step(x: Tensor, state: State, decay: Decay, v_threshold: float, spike: Spike, detach_reset: bool):
    """One step of the spike response model with two exponentials; a spike sets both to 0. Returns (spikes, state)."""
    current = _wide(x)
    m = decay.membrane * state[0] + current
    c = decay.synapse * state[1] + current
    s = spike(decay.gain * (m - c) - v_threshold)
    r = s.detach() if detach_reset else s
    return s.to(x.dtype), ((1 - r) * m, (1 - r) * c)


def srm(x: Tensor, decay: Decay, v_threshold: float, spike: Spike, detach_reset: bool) -> Tensor:
    """Spike response model over ``x`` [T, N, ...] from rest; returns spikes of the same shape, 0 or 1."""
    state = srm_rest(x[0])
    spikes = []
    for current in x:
        s, state = srm_step(current, state, decay, v_threshold, spike, detach_reset)
        spikes.append(s)
    return torch.stack(spikes)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def threshold_walk_step(x: Tensor, v: Tensor, count: Tensor, first: Tensor, step: Tensor, max_count: int):
    """One step of the threshold walk; returns (signed spikes, v, count).

    v     += x
    high   = first + count * step          the window of the count moves with every spike
    +1 if v >= high and count < max_count;   -1 if v < high - step and count > 0;   else 0
    """
    v = v + x
    high = first + count * step
    up = (v >= high) & (count < max_count)
    down = (v < high - step) & (count > 0)
    s = up.to(x.dtype) - down.to(x.dtype)
    return s, v, count + s


def threshold_walk(x: Tensor, first: Tensor, step: Tensor, max_count: int) -> Tensor:
    """Threshold walk over ``x`` [T, N, ...] from rest; ``first`` and ``step`` broadcast over [N, ...].

    Returns signed spikes in {-1, 0, 1}. Source: Zou et al. 2023 and 2024 (reference 4.5), with ``v >= high``.
    """
    v, count = torch.zeros_like(x[0]), torch.zeros_like(x[0])
    spikes = []
    for current in x:
        s, v, count = threshold_walk_step(current, v, count, first, step, max_count)
        spikes.append(s)
    return torch.stack(spikes)
