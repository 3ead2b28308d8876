"""Fused neuron kernels for a GPU, in Triton: one forward and one backward per layer and pass; SRM, LIF in all settings.

A program takes a block of neurons through all steps with its membranes in registers. The backward computes the
membranes again, into the memory of the gradient that they are about to be replaced by; only where that is of 16 bits or
summed over the steps, it takes scratch memory for them, and always for the two traces of an SRM. Arithmetic in float32,
never contracted: spikes are those of the reference.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from spikelet.kernels.fused import Layer, Numbers, Steps
from spikelet.kernels.reference import Decay, Number

try:
    import triton
    import triton.language as tl
except ImportError:  # doctest and other tools read this module where nothing can call it
    from types import SimpleNamespace

    triton = SimpleNamespace(jit=lambda function: function)

BLOCK = 256
EXACT = {"enable_fp_fusion": False}
MODES = {"subtract": 0, "set": 1, "subtract later": 2}
SLOPES = {"atan": 0, "fast_sigmoid": 1, "sigmoid": 2, "triangle": 3, "boxcar": 4, "straight_through": 5}


def forward(layer: Layer, numbers: Numbers, x: Steps, spikes: Tensor) -> None:
    """Fill ``spikes`` [T, ...] with those of ``x``."""
    beta, v_threshold = numbers
    num_steps = spikes.shape[0]
    neurons = spikes.numel() // num_steps
    memory = (x.tensor, spikes, x.stride, spikes.stride(0), neurons, num_steps)
    if layer.decay is not None:
        _srm_forward[(triton.cdiv(neurons, BLOCK),)](*memory, *layer.decay, v_threshold, BLOCK=BLOCK, **EXACT)
        return
    _lif_forward[(triton.cdiv(neurons, BLOCK),)](*memory, *_numbers(layer, beta, v_threshold), BLOCK=BLOCK, **EXACT)


def backward(layer: Layer, numbers: Numbers, x: Steps, grad: Steps, out: Steps, num_steps: int) -> tuple[Any, Any]:
    """Fill ``out`` with the gradient of ``x``; returns those of beta and v_threshold."""
    beta, v_threshold = numbers
    if layer.decay is not None:
        return _backward_srm(layer, layer.decay, v_threshold, x, grad, out, num_steps)
    neurons = grad.tensor.numel() // num_steps
    in_place = out.stride != 0 and out.tensor.dtype == torch.float32
    u = out.tensor if in_place else torch.empty((num_steps, neurons), dtype=torch.float32, device=x.tensor.device)
    programs = triton.cdiv(neurons, BLOCK)
    wanted = isinstance(beta, Tensor) or isinstance(v_threshold, Tensor)
    sums = torch.empty((programs if wanted else 1, 2), dtype=torch.float32, device=x.tensor.device)
    memory = (x.tensor, grad.tensor, out.tensor, u, sums, x.stride, grad.stride, out.stride, neurons, num_steps)
    settings = {"SLOPE": SLOPES[layer.surrogate.name], "HELD": out.stride == 0, "SUMS": wanted, "BLOCK": BLOCK}
    scale, height = _slope(layer)
    attached = float(not layer.reset.detached)
    constants = _numbers(layer, beta, v_threshold)
    _lif_backward[(programs,)](*memory, *constants, scale, height, attached, **settings, **EXACT)
    total = sums.double().sum(0)
    return (total[0], total[1]) if wanted else (0.0, 0.0)


def _backward_srm(
    layer: Layer, decay: Decay, v_threshold: Number, x: Steps, grad: Steps, out: Steps, num_steps: int
) -> tuple[float, float]:
    neurons = grad.tensor.numel() // num_steps
    traces = torch.empty((2, num_steps, neurons), dtype=torch.float32, device=x.tensor.device)
    memory = (x.tensor, grad.tensor, out.tensor, *traces, x.stride, grad.stride, out.stride, neurons, num_steps)
    settings = {"SLOPE": SLOPES[layer.surrogate.name], "HELD": out.stride == 0, "BLOCK": BLOCK}
    numbers = *decay, v_threshold, *_slope(layer), float(not layer.reset.detached)
    _srm_backward[(triton.cdiv(neurons, BLOCK),)](*memory, *numbers, **settings, **EXACT)
    return 0.0, 0.0


def _numbers(layer: Layer, beta: Number, v_threshold: Number) -> tuple[Any, ...]:
    """beta, threshold, reset, then what of it is to be read from memory, and the kind of reset."""
    reset = layer.reset
    kind = "set" if reset.value is not None else "subtract later" if reset.delayed else "subtract"
    value = 0.0 if reset.value is None else float(reset.value)
    learned = isinstance(beta, Tensor), isinstance(v_threshold, Tensor)
    return beta, v_threshold, value, *learned, MODES[kind]


def _slope(layer: Layer) -> tuple[float, float]:
    scale, height = layer.surrogate.scale, layer.surrogate.height
    prepared = {"atan": math.pi / 2 * scale, "triangle": 2 / scale, "boxcar": scale / 2}
    return prepared.get(layer.surrogate.name, scale), height


@triton.jit
def _charge(u, current, beta, v_threshold, v_reset, MODE: tl.constexpr):
    """The membrane one step after ``u``: reset, leak, input."""
    above = u - v_threshold
    if MODE == 0:
        u = beta * tl.where(above >= 0, above, u) + current
    elif MODE == 1:
        u = beta * tl.where(above >= 0, v_reset, u) + current
    else:
        u = beta * u + current
        u = tl.where(above >= 0, u - v_threshold, u)
    return u


@triton.jit
def _slope_at(x, scale, height, SLOPE: tl.constexpr):
    if SLOPE == 0:
        slope = height / (1 + (scale * x) * (scale * x))
    elif SLOPE == 1:
        slope = 1 / ((1 + scale * tl.abs(x)) * (1 + scale * tl.abs(x)))
    elif SLOPE == 2:
        e = tl.exp(-scale * tl.abs(x))
        slope = scale * e / ((1 + e) * (1 + e))
    elif SLOPE == 3:
        slope = height * tl.maximum(1 - scale * tl.abs(x), 0.0)
    elif SLOPE == 4:
        slope = tl.where(tl.abs(x) < scale, height, 0.0)
    else:
        slope = tl.full(x.shape, 1.0, tl.float32)
    return slope


@triton.jit
def _lif_forward(
    x,
    s,
    x_step,
    s_step,
    neurons,
    num_steps,
    beta,
    v_threshold,
    v_reset,
    BETA: tl.constexpr,
    THRESHOLD: tl.constexpr,
    MODE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < neurons
    if BETA:
        beta = tl.load(beta).to(tl.float32)
    if THRESHOLD:
        v_threshold = tl.load(v_threshold).to(tl.float32)
    u = tl.zeros([BLOCK], tl.float32)
    x += i
    s += i
    for _ in range(num_steps):
        current = tl.load(x, mask=inside, other=0.0).to(tl.float32)
        u = _charge(u, current, beta, v_threshold, v_reset, MODE)
        tl.store(s, tl.where(u - v_threshold >= 0, 1.0, 0.0).to(s.dtype.element_ty), mask=inside)
        x += x_step
        s += s_step


@triton.jit
def _lif_backward(
    x,
    grad,
    out,
    memory,
    sums,
    x_step,
    grad_step,
    out_step,
    neurons,
    num_steps,
    beta,
    v_threshold,
    v_reset,
    BETA: tl.constexpr,
    THRESHOLD: tl.constexpr,
    MODE: tl.constexpr,
    scale,
    height,
    attached,
    SLOPE: tl.constexpr,
    HELD: tl.constexpr,
    SUMS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < neurons
    if BETA:
        beta = tl.load(beta).to(tl.float32)
    if THRESHOLD:
        v_threshold = tl.load(v_threshold).to(tl.float32)
    u = tl.zeros([BLOCK], tl.float32)
    x += i
    grad += i
    out += i
    memory += i
    for _ in range(num_steps):
        current = tl.load(x, mask=inside, other=0.0).to(tl.float32)
        u = _charge(u, current, beta, v_threshold, v_reset, MODE)
        tl.store(memory, u, mask=inside)
        x += x_step
        grad += grad_step
        out += out_step
        memory += neurons
    tl.debug_barrier()  # what a thread reads below, another one may have written
    carry = tl.zeros([BLOCK], tl.float32)
    held = tl.zeros([BLOCK], tl.float32)
    of_beta = tl.zeros([BLOCK], tl.float32)
    of_threshold = tl.zeros([BLOCK], tl.float32)
    for k in range(num_steps):
        grad -= grad_step
        out -= out_step
        memory -= neurons
        u = tl.load(memory, mask=inside, other=0.0)
        above = u - v_threshold
        fired = above >= 0
        given = tl.load(grad, mask=inside, other=0.0).to(tl.float32)
        slope = _slope_at(above, scale, height, SLOPE)
        back = beta * carry
        if MODE == 1:
            soft = (given + attached * (back * (v_reset - u))) * slope
            carry = tl.where(fired, 0.0, back) + soft
        else:
            through = back if MODE == 0 else carry
            soft = (given - attached * (v_threshold * through)) * slope
            of_threshold -= tl.where(fired, through, 0.0)
            carry = back + soft
        of_threshold -= soft
        if SUMS:
            steps_before = tl.zeros([BLOCK], tl.int32) + (num_steps - 1 - k)
            earlier = tl.load(memory - neurons, mask=inside & (steps_before > 0), other=0.0)
            if MODE == 0:
                earlier = tl.where(earlier - v_threshold >= 0, earlier - v_threshold, earlier)
            elif MODE == 1:
                earlier = tl.where(earlier - v_threshold >= 0, v_reset, earlier)
            of_beta += carry * earlier
        if HELD:
            held += carry
        else:
            tl.store(out, carry.to(out.dtype.element_ty), mask=inside)
    if HELD:
        tl.store(out, held.to(out.dtype.element_ty), mask=inside)
    if SUMS:
        tl.store(sums + 2 * tl.program_id(0), tl.sum(tl.where(inside, of_beta, 0.0)))
        tl.store(sums + 2 * tl.program_id(0) + 1, tl.sum(tl.where(inside, of_threshold, 0.0)))


@triton.jit
def _srm_forward(
    x,
    s,
    x_step,
    s_step,
    neurons,
    num_steps,
    membrane,
    synapse,
    gain,
    v_threshold,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < neurons
    m = tl.zeros([BLOCK], tl.float32)
    c = tl.zeros([BLOCK], tl.float32)
    x += i
    s += i
    for _ in range(num_steps):
        current = tl.load(x, mask=inside, other=0.0).to(tl.float32)
        m = membrane * m + current
        c = synapse * c + current
        fired = gain * (m - c) - v_threshold >= 0
        tl.store(s, tl.where(fired, 1.0, 0.0).to(s.dtype.element_ty), mask=inside)
        m = tl.where(fired, 0.0, m)
        c = tl.where(fired, 0.0, c)
        x += x_step
        s += s_step


@triton.jit
def _srm_backward(
    x,
    grad,
    out,
    of_m,
    of_c,
    x_step,
    grad_step,
    out_step,
    neurons,
    num_steps,
    membrane,
    synapse,
    gain,
    v_threshold,
    scale,
    height,
    attached,
    SLOPE: tl.constexpr,
    HELD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < neurons
    m = tl.zeros([BLOCK], tl.float32)
    c = tl.zeros([BLOCK], tl.float32)
    x += i
    grad += i
    out += i
    of_m += i
    of_c += i
    for _ in range(num_steps):
        current = tl.load(x, mask=inside, other=0.0).to(tl.float32)
        m = membrane * m + current
        c = synapse * c + current
        tl.store(of_m, m, mask=inside)
        tl.store(of_c, c, mask=inside)
        fired = gain * (m - c) - v_threshold >= 0
        m = tl.where(fired, 0.0, m)
        c = tl.where(fired, 0.0, c)
        x += x_step
        grad += grad_step
        out += out_step
        of_m += neurons
        of_c += neurons
    tl.debug_barrier()  # what a thread reads below, another one may have written
    carry_m = tl.zeros([BLOCK], tl.float32)
    carry_c = tl.zeros([BLOCK], tl.float32)
    held = tl.zeros([BLOCK], tl.float32)
    for _ in range(num_steps):
        grad -= grad_step
        out -= out_step
        of_m -= neurons
        of_c -= neurons
        m = tl.load(of_m, mask=inside, other=0.0)
        c = tl.load(of_c, mask=inside, other=0.0)
        above = gain * (m - c) - v_threshold
        given = tl.load(grad, mask=inside, other=0.0).to(tl.float32)
        back_m = membrane * carry_m
        back_c = synapse * carry_c
        soft = (given - attached * (back_m * m + back_c * c)) * _slope_at(above, scale, height, SLOPE)
        carry_m = tl.where(above >= 0, 0.0, back_m) + gain * soft
        carry_c = tl.where(above >= 0, 0.0, back_c) - gain * soft
        if HELD:
            held += carry_m + carry_c
        else:
            tl.store(out, (carry_m + carry_c).to(out.dtype.element_ty), mask=inside)
    if HELD:
        tl.store(out, held.to(out.dtype.element_ty), mask=inside)
