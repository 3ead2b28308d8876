"""The compiled passes of adaptive neurons, step by step: more numbers move than registers hold.

A block is any stretch of neurons, or where the leak moves (MOVES) one sample's, because the leak needs their mean.
Membranes in front of the reset are ``u``, those behind it ``v``; the spikes, and the thresholds' gradients, of the last
three steps are kept in turn.
"""

from collections.abc import Callable
from math import exp
from typing import Any

import numpy as np
from numba import carray, literally

from spikelet.kernels.cpu_loops import (
    MODE,
    MORE,
    NEURONS,
    ONE,
    OUT_STEP,
    S_STEP,
    SET,
    SIZE,
    SLOPE,
    STEPS,
    SUMS,
    X_STEP,
    ZERO,
    arguments,
    inlined,
    pointer,
    slope_at,
    take,
    total_of,
)
from spikelet.kernels.vectors import LANES, load, real, store, stored

MOVES = MORE  # whether the leak follows the mean membrane
LEAK, FOLLOWS, THRESHOLD, RESET, SCALE, HEIGHT, ATTACHED, DECAY, RESTORED, GROWTH = range(10)


def entries(version: int) -> dict[str, Callable[[Any], None]]:
    """The passes by name, still to be compiled; ``version`` as in ``cpu_passes.entries``."""

    def adaptive_forward(sample):
        if version >= 0:
            _forward(*arguments(sample, 10))

    def adaptive_backward(sample):
        if version >= 0:
            _backward(*arguments(sample, 10))

    return {f.__name__: f for f in (adaptive_forward, adaptive_backward)}


@inlined
def _forward(a, f, x, s, unused):
    neurons, num_steps, size = a[NEURONS], a[STEPS], a[SIZE]
    v, threshold = np.empty(size, np.float32), np.empty(size, np.float32)
    fired = np.empty((3, size), np.float32)
    start = take(a) * size
    while start < neurons:
        n = min(size, neurons - start)
        v[:n], threshold[:n], fired[:] = ZERO, f[THRESHOLD], ZERO
        for t in range(num_steps):
            i, o = t * a[X_STEP] + start, t * a[S_STEP] + start
            beta = _leak(f, _mean(a, v[:n]))[0] if a[MOVES] else f[LEAK]
            _advance(a[MODE], v[:n], threshold[:n], x[i : i + n], beta, f[RESET], fired[t % 3, :n])
            _write(fired[t % 3, :n], s[o : o + n])
            _rise(threshold[:n], threshold[:n], fired, f)
        start = take(a) * size


@inlined
def _backward(a, f, x, grad, out):
    """Membranes and thresholds forward in time, gradients backward; sums per block to ``a[SUMS]``."""
    neurons, num_steps, size = a[NEURONS], a[STEPS], a[SIZE]
    u, thresholds = np.empty((num_steps, size), np.float32), np.empty((num_steps + 1, size), np.float32)
    leaks, means = np.empty(num_steps, np.float32), np.empty(num_steps, np.float32)
    near, carry, held = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    window, of_threshold = np.empty((3, size), np.float32), np.empty(size, np.float64)
    block = take(a)
    while block * size < neurons:
        start = block * size
        n = min(size, neurons - start)
        _again(a, f, x, start, n, u, thresholds, (leaks, means), near, window)
        carry[:], held[:], of_threshold[:], window[:] = ZERO, ZERO, 0, ZERO
        of_leak, of_follows = np.float64(0), np.float64(0)
        for t in range(num_steps - 1, -1, -1):
            g, o = t * a[S_STEP] + start, t * a[OUT_STEP] + start
            _descend(a, f, t, u[t, :n], thresholds[t, :n], grad[g : g + n], (near[:n], carry[:n]), window)
            _gather(window[t % 3, :n], f[RESTORED] if t else ONE, of_threshold[:n])
            if a[OUT_STEP]:
                _write(carry[:n], out[o : o + n])
            else:
                _add(carry[:n], held[:n])
            if t > 0:
                moved = ZERO
                if a[MOVES] or a[SUMS]:
                    _left(a[MODE], u[t - 1, :n], thresholds[t - 1, :n], f[RESET], near[:n])
                    found = _product(near[:n], carry[:n])
                    if a[MOVES]:
                        found *= leaks[t] * (ONE - leaks[t])
                        of_follows += found * means[t]
                        moved = np.float32(found * f[FOLLOWS] / n)
                    of_leak += found
                _back(carry[:n], leaks[t], moved)
        if not a[OUT_STEP]:
            _write(held[:n], out[start : start + n])
        if a[SUMS]:
            sums = carray(pointer(a[SUMS] + 24 * block), 3, np.float64)
            sums[0], sums[1], sums[2] = of_leak, of_follows, total_of(of_threshold[:n])
        block = take(a)


@inlined
def _again(a, f, x, start, n, u, thresholds, moving, v, fired):
    """Fills rows t of the membranes ``u`` and of the thresholds, and each step's leak and mean membrane before it."""
    leaks, means = moving
    v[:n], thresholds[0, :n], fired[:] = ZERO, f[THRESHOLD], ZERO
    for t in range(a[STEPS]):
        i = t * a[X_STEP] + start
        leaks[t], means[t] = _leak(f, _mean(a, v[:n])) if a[MOVES] else (f[LEAK], ZERO)
        _charge(v[:n], x[i : i + n], leaks[t], u[t, :n])
        _left(a[MODE], u[t, :n], thresholds[t, :n], f[RESET], v[:n])
        _fire(u[t, :n], thresholds[t, :n], fired[t % 3, :n])
        _rise(thresholds[t, :n], thresholds[t + 1, :n], fired, f)


@inlined
def _descend(a, f, t, u, threshold, grad, pair, window):
    """One step back. The carry is the gradient of v[t], and becomes that of u[t].

    The rows of ``window`` are the gradients of the thresholds t + 1 to t + 3; that of t takes the place of the last.
    """
    soft, carry = pair
    n = len(u)
    _subtract(u, threshold, soft)
    _slope(a[SLOPE], soft, f[SCALE], f[HEIGHT])
    _through_spikes(grad, window[0, :n], window[1, :n], window[2, :n], f[GROWTH], soft)
    if f[ATTACHED] != ZERO:
        _through_reset(a, f, u, threshold, pair)
    _through_thresholds(a[MODE], u, threshold, soft, carry, window[(t + 1) % 3, :n], f[DECAY], window[t % 3, :n])
    _join(a[MODE], u, threshold, soft, carry)


# ---------------------------------------------------------------- loops


@inlined
def _mean(a, v):
    return np.float32(total_of(v) / len(v))


@inlined
def _leak(f, mean):
    """(the leak, the mean membrane that it follows)."""
    z = np.float64(f[LEAK] + f[FOLLOWS] * mean)
    return np.float32(1 / (1 + exp(-z))), mean


@inlined
def _advance(mode, v, threshold, x, beta, v_reset, fired):
    """One step of the membranes; ``v`` is kept after the reset."""
    if mode == SET:
        for i in range(len(v)):
            u = beta * v[i] + real(x[i])
            above = u - threshold[i]
            fired[i] = ONE if above >= ZERO else ZERO
            v[i] = v_reset if above >= ZERO else u
    else:
        for i in range(len(v)):
            u = beta * v[i] + real(x[i])
            above = u - threshold[i]
            fired[i] = ONE if above >= ZERO else ZERO
            v[i] = above if above >= ZERO else u


@inlined
def _rise(threshold, out, fired, f):
    """out = the thresholds one step after ``threshold``, by the spikes of the last three steps. The two may be one."""
    n = len(out)
    first, second, third = fired[0, :n], fired[1, :n], fired[2, :n]
    decay, growth, rest = f[DECAY], f[GROWTH], f[RESTORED] * f[THRESHOLD]
    for i in range(n):
        out[i] = decay * threshold[i] + rest + growth * (first[i] + second[i] + third[i])


@inlined
def _charge(v, x, beta, out):
    for i in range(len(out)):
        out[i] = beta * v[i] + real(x[i])


@inlined
def _left(mode, u, threshold, v_reset, out):
    """out = what the reset leaves of ``u``."""
    for i in range(len(out)):
        above = u[i] - threshold[i]
        out[i] = (v_reset if mode == SET else above) if above >= ZERO else u[i]


@inlined
def _fire(u, threshold, out):
    for i in range(len(out)):
        out[i] = ONE if u[i] - threshold[i] >= ZERO else ZERO


@inlined
def _subtract(u, threshold, out):
    for i in range(len(out)):
        out[i] = u[i] - threshold[i]


@inlined
def _through_spikes(grad, first, second, third, growth, soft):
    """soft *= the gradient of the spikes: their own, and that of the three thresholds that they raise."""
    for i in range(len(soft)):
        soft[i] = (real(grad[i]) + growth * (first[i] + second[i] + third[i])) * soft[i]


@inlined
def _through_reset(a, f, u, threshold, pair):
    """soft += slope * the gradient of the spikes through the reset, where it is not detached."""
    soft, carry = pair
    extra = np.empty(len(u), np.float32)
    _subtract(u, threshold, extra)
    _slope(a[SLOPE], extra, f[SCALE], f[HEIGHT])
    for i in range(len(u)):
        soft[i] += carry[i] * ((f[RESET] - u[i]) if a[MODE] == SET else -threshold[i]) * extra[i]


@inlined
def _through_thresholds(mode, u, threshold, soft, carry, later, decay, out):
    """out = the gradient of the thresholds: through the next ones, ``later``, the spikes, and the subtraction."""
    for i in range(len(out)):
        subtracted = carry[i] if mode != SET and u[i] - threshold[i] >= ZERO else ZERO
        out[i] = decay * later[i] - soft[i] - subtracted


@inlined
def _join(mode, u, threshold, soft, carry):
    """carry = the gradient of u, of that of v."""
    for i in range(len(carry)):
        kept = ZERO if mode == SET and u[i] - threshold[i] >= ZERO else carry[i]
        carry[i] = kept + soft[i]


@inlined
def _product(v, carry):
    """The sum of v * carry; ``v`` is overwritten."""
    for i in range(len(v)):
        v[i] *= carry[i]
    return total_of(v)


@inlined
def _gather(values, factor, total):
    for i in range(len(values)):
        total[i] += np.float64(factor * values[i])


@inlined
def _back(carry, beta, moved):
    """carry = the gradient of the last step's v, of that of u; ``moved`` came through the leak."""
    for i in range(len(carry)):
        carry[i] = beta * carry[i] + moved


@inlined
def _slope(code, x, scale, height):
    """x = the slopes at membranes ``x`` above the threshold."""
    whole = len(x) // LANES * LANES
    _slope_some(code, x[:whole], scale, height, LANES)
    _slope_some(code, x[whole:], scale, height, 1)


@inlined
def _slope_some(code, x, scale, height, lanes):
    literally(lanes)
    for i in range(0, len(x), lanes):
        store(x, i, slope_at(code, load(x, i, lanes), scale, height))


@inlined
def _add(values, total):
    """total += values."""
    for i in range(len(values)):
        total[i] += values[i]


@inlined
def _write(values, out):
    """out = values."""
    for i in range(len(values)):
        out[i] = stored(values[i], out)
