"""Loops over time in plain torch: one function per neuron, its body the formula, line by line.

The specification that the fused kernels are tested against; it runs in any dtype, on any device, under autograd.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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
    return _walk(lif_step, x, lif_rest(x[0], reset), beta, v_threshold, spike, reset)


class Adaptation(NamedTuple):
    """What moves in an adaptive neuron, and how fast its threshold does.

    threshold  rises with the neuron's own spikes
    leak       follows the mean membrane of the layer
    decay      of the threshold towards its rest, per step, 0 to 1
    growth     what a spike in each of the last three steps adds to it, at least 0
    """

    threshold: bool = True
    leak: bool = True
    decay: float = 0.9
    growth: float = 0.1

    def pace(self) -> tuple[float, float]:
        """(decay, growth) in force: of a threshold that stands still, 1 and 0."""
        return (self.decay, self.growth) if self.threshold else (1.0, 0.0)


Adaptive = tuple[Number, Number, Number]  # of a layer: its decay, or w; b, how it follows the membranes; the threshold
WINDOW = 3  # steps whose spikes raise a threshold


def adaptive_rest(x: Tensor, v_threshold: Number) -> State:
    """State (v, threshold, the spikes of the last step, those of the step before) at rest for one step's input."""
    rest = torch.zeros_like(_wide(x))
    return rest, rest + v_threshold, rest, rest


def adaptive_step(x: Tensor, state: State, numbers: Adaptive, rule: Adaptation, spike: Spike, reset: Reset):
    """One step of the adaptive neuron; its threshold moves last. Returns (spikes, state)."""
    v, threshold, before, earlier = state
    leak, b, rest = numbers
    decay, growth = rule.pace()
    beta = torch.sigmoid(leak + b * sample_mean(v)) if rule.leak else leak
    v = beta * v + _wide(x)
    s = spike(v - threshold)
    r = s.detach() if reset.detached else s
    v = v - r * threshold if reset.value is None else (1 - r) * v + r * reset.value
    threshold = decay * threshold + (1 - decay) * rest + growth / WINDOW * (s + before + earlier)
    return s.to(x.dtype), (v, threshold, s, before)


def adaptive(x: Tensor, numbers: Adaptive, rule: Adaptation, spike: Spike, reset: Reset) -> Tensor:
    """Leaky integrate-and-fire whose leak and threshold move, over ``x`` [T, N, ...] from rest; spikes, 0 or 1."""
    return _walk(adaptive_step, x, adaptive_rest(x[0], numbers[2]), numbers, rule, spike, reset)


def sample_mean(x: Tensor) -> Tensor:
    """The mean of each sample of ``x`` [N, ...], as [N, 1, ...]."""
    return x[..., None].flatten(1).mean(1).reshape(-1, *[1] * (x.dim() - 1))


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
    return _walk(srm_step, x, srm_rest(x[0]), decay, v_threshold, spike, detach_reset)


def _walk(step: Callable[..., tuple[Tensor, State]], x: Tensor, state: State, *settings) -> Tensor:
    """The spikes of one ``step`` after the other over ``x`` [T, N, ...], from ``state``."""
    spikes = []
    for current in x:
        s, state = step(current, state, *settings)
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


def trace(x: Tensor, tau_s: float) -> Tensor:
    """The post-synaptic trace of ``x`` [T, N, ...], of spikes or of values, in the same shape:

        a[t] = a[t-1] + (x[t] - a[t-1]) / tau_s        from a = 0; tau_s >= 1, in steps

    Counts of a whole dtype come out as float32. Source: Zhang & Li, TSSL-BP, NeurIPS 2020 (reference 2.7).

    >>> trace(torch.tensor([0.0, 1.0, 0.0]), tau_s=2.0).tolist()
    [0.0, 0.5, 0.25]
    """
    x = x if x.is_floating_point() else x.float()
    a = torch.zeros_like(_wide(x[0]))
    traces = []
    for now in x:
        a = a + (_wide(now) - a) / tau_s
        traces.append(a)
    return torch.stack(traces).to(x.dtype)


def spikes_of_trace(a: Tensor, tau_s: float) -> Tensor:
    """The whole numbers [T, N, ...] whose ``trace`` is ``a`` [T, N, ...]: x[t] = tau_s * (a[t] - a[t-1]) + a[t-1].

    Linear, so a sum of traces gives the sum. Rounded to whole numbers, which the gradient does not see; that takes away
    all that ``a`` was off, for spikes of 0 and 1 up to a tau_s of 2^20 in float32, of 2^5 in bfloat16.

    >>> spikes_of_trace(torch.tensor([0.0, 0.5, 0.25]), tau_s=2.0).tolist()
    [0.0, 1.0, 0.0]
    """
    wide = _wide(a)
    before = torch.cat([torch.zeros_like(wide[:1]), wide[:-1]])
    x = tau_s * (wide - before) + before
    return (x + (x.round() - x).detach()).to(a.dtype)


def trace_lif_rest(x: Tensor) -> State:
    """State (u, s, a) at rest for one step's input ``x``; in float32 where x is of 16 bits."""
    rest = torch.zeros_like(_wide(x))
    return rest, rest, rest


def trace_lif_step(x: Tensor, state: State, tau_m: float, tau_s: float, v_threshold: float) -> tuple[Tensor, State]:
    """One step of the neuron that sends its trace; u is the membrane in front of its reset. Returns (trace, state)."""
    u, s, a = state
    u = (1 - 1 / tau_m) * u * (1 - s) + _wide(x)
    s = (u >= v_threshold).to(u.dtype)
    a = a + (s - a) / tau_s
    return a.to(x.dtype), (u, s, a)


def trace_lif(x: Tensor, tau_m: float, tau_s: float, v_threshold: float) -> Tensor:
    """Traces [T, N, ...] of the spikes that the currents ``x`` [T, N, ...] cause from rest, with TSSL-BP's gradient.

    There is no second derivative.
    """
    return _TraceLIF.apply(x, tau_m, tau_s, v_threshold)


class _TraceLIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, tau_m: float, tau_s: float, v_threshold: float) -> Tensor:
        state = trace_lif_rest(x[0])
        membranes, traces = [], []
        for current in x:
            a, state = trace_lif_step(current, state, tau_m, tau_s, v_threshold)
            membranes.append(state[0])
            traces.append(a)
        out = torch.stack(traces)
        ctx.numbers = tau_m, tau_s, v_threshold
        ctx.save_for_backward(torch.stack(membranes), out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        return trace_lif_gradient(_wide(grad), *ctx.saved_tensors, *ctx.numbers).to(grad.dtype), None, None, None


STEEPEST, WIDTH = 8.0, 0.2  # bound of how fast a spike moves with the membrane; of the surrogate of silent neurons


def trace_lif_gradient(grad: Tensor, u: Tensor, a: Tensor, tau_m: float, tau_s: float, v_threshold: float) -> Tensor:
    """Gradient at the currents of ``trace_lif``, of its traces' gradient ``grad``, membranes ``u`` and traces ``a``.

    From the last step to the first, with K[j] = (1 - 1/tau_s)^j / tau_s, m = 1/tau_m and A = 0 behind the last step:

        P = s[t] * clamp(-1 / du[t], -8, 0)                how the time of a spike moves with the membrane
        S = sum over j of K[j] * grad[t+j]
        D = -P * S + A * (-m * u[t] * P + (1 - m) * (1 - s[t]))     between neurons, and within one: leak and reset
        A = D * s[t] + A * (1 - s[t]) * (1 - m)
        F = S * e^f / ((1 + e^f)^2 * 0.2),   f = clamp((v_threshold - u[t]) / 0.2, -8, 8)
        gradient = F where a[t] < 1 / (4 * tau_s), else D           F serves neurons that have long been silent

    du[t] is what step t adds to the membrane that the reset of step t-1 left.
    """
    m = 1 / tau_m
    s = (u >= v_threshold).to(u.dtype)
    left = torch.cat([torch.zeros_like(u[:1]), (u * (1 - s))[:-1]])
    summed = carried = torch.zeros_like(u[0])
    found = []
    for t in reversed(range(len(u))):
        p = s[t] * (-1 / (u[t] - left[t])).clamp(-STEEPEST, 0)
        summed = grad[t] / tau_s + (1 - 1 / tau_s) * summed
        d = -p * summed + carried * (-m * u[t] * p + (1 - m) * (1 - s[t]))
        carried = d * s[t] + carried * (1 - s[t]) * (1 - m)
        e = ((v_threshold - u[t]) / WIDTH).clamp(-8, 8).exp()
        found.append(torch.where(a[t] < 1 / (4 * tau_s), summed * e / ((1 + e) ** 2 * WIDTH), d))
    return torch.stack(found[::-1])
