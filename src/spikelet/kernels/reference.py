"""Loops over time in plain torch: one function per neuron, its body the formula, line by line."""

import torch
from torch import Tensor

from spikelet.surrogate import Surrogate


def lif_step(x: Tensor, v: Tensor, beta: float, v_threshold: float, v_reset: float | None, spike: Surrogate):
    """One step of the leaky integrate-and-fire neuron: charge, fire, reset. Returns (spikes, v)."""
    v = beta * v + x
    s = spike(v - v_threshold)
    v = v - s.detach() * v_threshold if v_reset is None else torch.where(s.detach() > 0, v_reset, v)
    return s, v


def lif(x: Tensor, beta: float, v_threshold: float, v_reset: float | None, spike: Surrogate) -> Tensor:
    """Leaky integrate-and-fire over ``x`` [T, N, ...] from rest; returns spikes of the same shape, 0 or 1."""
    v = torch.zeros_like(x[0])
    spikes = []
    for current in x:
        s, v = lif_step(current, v, beta, v_threshold, v_reset, spike)
        spikes.append(s)
    return torch.stack(spikes)


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
