"""The compiled passes of the CPU kernels: a thread takes block after block of neurons through all steps.

What they are given is told in ``cpu_loops``: the int64s ``a`` and the float32s ``f``, by the names here and there.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray

from spikelet.kernels.cpu_loops import (
    MODE,
    MORE,
    NEURONS,
    OUT_STEP,
    S_STEP,
    SET,
    SIZE,
    SLOPE,
    STEPS,
    SUBTRACT,
    SUMS,
    X_STEP,
    ZERO,
    add,
    advance,
    advance_traces,
    arguments,
    charge,
    charge_trace,
    compiled,
    descend_set,
    descend_subtract,
    descend_traces,
    difference,
    gather_beta,
    gather_reset,
    gather_soft,
    pointer,
    slope,
    store,
    store_sum,
    take,
    total_of,
)
from spikelet.kernels.vectors import settle, stream_vector

STREAM = MORE  # whether spikes go past the caches
BETA, THRESHOLD, RESET, SCALE, HEIGHT, ATTACHED, SYNAPSE, GAIN = range(8)


def entries(version: int) -> dict[str, Callable[[Any], None]]:
    """The passes by name, still to be compiled. ``version`` of all their sources is there for numba's cache on disk.

    That cache looks at no other file than the one a function stands in, but at the values that a function closes over.
    """

    def lif_forward(sample):
        if version >= 0:
            _lif_forward(*arguments(sample, 8))

    def lif_backward(sample):
        if version >= 0:
            _lif_backward(*arguments(sample, 8))

    def srm_forward(sample):
        if version >= 0:
            _srm_forward(*arguments(sample, 8))

    def srm_backward(sample):
        if version >= 0:
            _srm_backward(*arguments(sample, 8))

    return {f.__name__: f for f in (lif_forward, lif_backward, srm_forward, srm_backward)}


@compiled
def _lif_forward(a, f, x, s, unused):
    """Blocks of LIF neurons through all steps."""
    neurons, num_steps, size = a[NEURONS], a[STEPS], a[SIZE]
    v, near = np.empty(size, np.float32), np.empty(size, s.dtype)
    start = take(a) * size
    while start < neurons:
        n = min(size, neurons - start)
        v[:n] = ZERO
        for t in range(num_steps):
            i, o = t * a[X_STEP] + start, t * a[S_STEP] + start
            if a[STREAM]:
                advance(a[MODE], v[:n], x[i : i + n], f[BETA], f[THRESHOLD], f[RESET], near[:n])
                _stream(near[:n], s[o : o + n])
            else:
                advance(a[MODE], v[:n], x[i : i + n], f[BETA], f[THRESHOLD], f[RESET], s[o : o + n])
        start = take(a) * size
    settle()


@compiled
def _stream(values, out):
    """out = values, past the caches. Both are whole lines of these."""
    for i in range(0, len(values), 16):
        stream_vector(out, i, values, 16)


@compiled
def _srm_forward(a, f, x, s, unused):
    """Blocks of SRM neurons through all steps."""
    neurons, num_steps, size = a[NEURONS], a[STEPS], a[SIZE]
    m, c = np.empty(size, np.float32), np.empty(size, np.float32)
    traces = f[BETA], f[SYNAPSE], f[GAIN], f[THRESHOLD]
    start = take(a) * size
    while start < neurons:
        n = min(size, neurons - start)
        m[:n], c[:n] = ZERO, ZERO
        for t in range(num_steps):
            i, o = t * a[X_STEP] + start, t * a[S_STEP] + start
            advance_traces(m[:n], c[:n], x[i : i + n], traces, s[o : o + n])
        start = take(a) * size


@compiled
def _lif_backward(a, f, x, grad, out):
    """Blocks of LIF neurons: membranes forward in time, gradients backward; sums per block to ``a[SUMS]``."""
    neurons, num_steps, size = a[NEURONS], a[STEPS], a[SIZE]
    u = np.empty((num_steps + 1) * size, np.float32)  # row 0: at rest
    soft, carry, held = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    of_beta, of_threshold = np.empty(size, np.float64), np.empty(size, np.float64)
    block = take(a)
    while block * size < neurons:
        start = block * size
        n = min(size, neurons - start)
        u[:n], carry[:], held[:] = ZERO, ZERO, ZERO
        of_beta[:], of_threshold[:] = 0, 0
        for t in range(num_steps):
            i, k = t * a[X_STEP] + start, t * size
            charge(a[MODE], u[k : k + n], x[i : i + n], f[BETA], f[THRESHOLD], f[RESET], u[k + size : k + size + n])
        for t in range(num_steps - 1, -1, -1):
            g, o, k = t * a[S_STEP] + start, t * a[OUT_STEP] + start, t * size
            now = u[k + size : k + size + n]
            _lif_descend(a, f, now, grad[g : g + n], soft[:n], carry[:n], of_threshold[:n])
            if a[SUMS] and t > 0:
                gather_beta(a[MODE], u[k : k + n], carry[:n], f[THRESHOLD], f[RESET], of_beta[:n])
            if a[OUT_STEP]:
                store(carry[:n], out[o : o + n])
            else:
                add(carry[:n], held[:n])
        if not a[OUT_STEP]:
            store(held[:n], out[start : start + n])
        if a[SUMS]:
            sums = carray(pointer(a[SUMS] + 16 * block), 2, np.float64)
            sums[0], sums[1] = total_of(of_beta[:n]), total_of(of_threshold[:n])
        block = take(a)


@compiled
def _lif_descend(a, f, u, grad, soft, carry, of_threshold):
    """One step back in time; ``carry`` becomes the gradient of this step's input."""
    slope(a[SLOPE], u, f[THRESHOLD], f[SCALE], f[HEIGHT], soft)
    if a[MODE] == SET:
        descend_set(u, grad, soft, carry, f[BETA], f[THRESHOLD], f[RESET], f[ATTACHED])
    else:
        reset_beta = f[BETA] if a[MODE] == SUBTRACT else np.float32(1)
        if a[SUMS]:
            gather_reset(u, carry, reset_beta, f[THRESHOLD], of_threshold)
        descend_subtract(u, grad, soft, carry, f[BETA], reset_beta, f[THRESHOLD], f[ATTACHED])
    if a[SUMS]:
        gather_soft(soft, of_threshold)


@compiled
def _srm_backward(a, f, x, grad, out):
    """Blocks of SRM neurons: traces forward in time, gradients backward."""
    neurons, num_steps, size = a[NEURONS], a[STEPS], a[SIZE]
    m, c, u = (
        np.empty((num_steps + 1) * size, np.float32),
        np.empty((num_steps + 1) * size, np.float32),
        np.empty((num_steps + 1) * size, np.float32),
    )
    soft, held = np.empty(size, np.float32), np.empty(size, np.float32)
    of_m, of_c = np.empty(size, np.float32), np.empty(size, np.float32)
    traces = f[BETA], f[SYNAPSE], f[GAIN], f[THRESHOLD]
    block = take(a)
    while block * size < neurons:
        start = block * size
        n = min(size, neurons - start)
        m[:n], c[:n], u[:n] = ZERO, ZERO, ZERO
        held[:], of_m[:], of_c[:] = ZERO, ZERO, ZERO
        for t in range(num_steps):
            i, k = t * a[X_STEP] + start, t * size
            j = k + size
            charge_trace(u[k : k + n], m[k : k + n], x[i : i + n], f[BETA], f[THRESHOLD], m[j : j + n])
            charge_trace(u[k : k + n], c[k : k + n], x[i : i + n], f[SYNAPSE], f[THRESHOLD], c[j : j + n])
            difference(m[j : j + n], c[j : j + n], f[GAIN], u[j : j + n])
        for t in range(num_steps - 1, -1, -1):
            g, o, j = t * a[S_STEP] + start, t * a[OUT_STEP] + start, (t + 1) * size
            carry = of_m[:n], of_c[:n]
            slope(a[SLOPE], u[j : j + n], f[THRESHOLD], f[SCALE], f[HEIGHT], soft[:n])
            now = u[j : j + n], m[j : j + n], c[j : j + n]
            descend_traces(now[0], now[1], now[2], grad[g : g + n], soft[:n], carry, traces, f[ATTACHED])
            if a[OUT_STEP]:
                store_sum(of_m[:n], of_c[:n], out[o : o + n])
            else:
                add(of_m[:n], held[:n])
                add(of_c[:n], held[:n])
        if not a[OUT_STEP]:
            store(held[:n], out[start : start + n])
        block = take(a)
