"""The compiled passes of the CPU kernels: a thread takes block after block of neurons through all steps.

A block goes STRETCH steps at a time, for each step is a stream of memory, and a processor follows so many; within these
a WIDTH of neurons goes through all of them before the next, so that what it carries from step to step is in registers.

What they are given is told in ``cpu_loops``: the int64s ``a`` and the float32s ``f``, by the names here and there.
"""

from collections.abc import Callable
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
    SUBTRACT_LATER,
    SUMS,
    X_STEP,
    ZERO,
    arguments,
    charged,
    descended_set,
    descended_subtract,
    inlined,
    leaking,
    pointer,
    scratch,
    slope_at,
    take,
    total_of,
)
from spikelet.kernels.vectors import add_to, choose, load, real, settle, spread, store, stored, stream

STREAMS = MORE  # whether spikes go past the caches
WIDTH, STRETCH = 32, 16  # neurons that go through so many steps at a time
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


@inlined
def _lif_forward(a, f, x, s, unused):
    """Blocks of LIF neurons through all steps."""
    neurons, num_steps, size = a[NEURONS], a[STEPS], a[SIZE]
    membranes = scratch(size)
    start = take(a) * size
    while start < neurons:
        whole, end = _parts(start, size, neurons)
        membranes[:] = ZERO
        for t in range(0, num_steps, STRETCH):
            steps = t, min(t + STRETCH, num_steps)
            _lif_advance(a, f, x, s, membranes, (start, start, whole), steps, WIDTH)
            _lif_advance(a, f, x, s, membranes, (start, whole, end), steps, 1)
        start = take(a) * size
    settle()


@inlined
def _parts(start, size, neurons):
    """Where the block that begins at ``start`` has no whole WIDTH of neurons left, and where it ends."""
    end = min(start + size, neurons)
    return start + (end - start) // WIDTH * WIDTH, end


@inlined
def _lif_advance(a, f, x, s, membranes, neurons, steps, lanes):
    """``neurons``, the second to the third of the block at the first, through some ``steps``, ``lanes`` at a time.

    While they go, their membranes are in registers.
    """
    literally(lanes)
    start, begin, end = neurons
    mode, streams, x_step, s_step = a[MODE], a[STREAMS] and lanes > 1, a[X_STEP], a[S_STEP]
    beta, v_threshold, v_reset = f[BETA], f[THRESHOLD], f[RESET]
    zero, one = spread(stored(ZERO, s), lanes), spread(stored(ONE, s), lanes)
    for i in range(begin, end, lanes):
        u = load(membranes, i - start, lanes)
        for t in range(steps[0], steps[1]):
            u = charged(mode, u, real(load(x, t * x_step + i, lanes)), beta, v_threshold, v_reset)
            spikes = choose(u - v_threshold >= ZERO, one, zero)
            if streams:
                stream(s, t * s_step + i, spikes)
            else:
                store(s, t * s_step + i, spikes)
        store(membranes, i - start, u)


@inlined
def _srm_forward(a, f, x, s, unused):
    """Blocks of SRM neurons through all steps. Their spikes always go through the caches."""
    neurons, num_steps, size = a[NEURONS], a[STEPS], a[SIZE]
    of_m, of_c = scratch(size), scratch(size)
    start = take(a) * size
    while start < neurons:
        whole, end = _parts(start, size, neurons)
        of_m[:], of_c[:] = ZERO, ZERO
        for t in range(0, num_steps, STRETCH):
            steps = t, min(t + STRETCH, num_steps)
            _srm_advance(a, f, x, s, of_m, of_c, (start, start, whole), steps, WIDTH)
            _srm_advance(a, f, x, s, of_m, of_c, (start, whole, end), steps, 1)
        start = take(a) * size


@inlined
def _srm_advance(a, f, x, s, of_m, of_c, neurons, steps, lanes):
    """As ``_lif_advance``, with two traces instead of a membrane: those after the reset."""
    literally(lanes)
    start, begin, end = neurons
    x_step, s_step, zero, one = a[X_STEP], a[S_STEP], spread(stored(ZERO, s), lanes), spread(stored(ONE, s), lanes)
    decay_m, decay_c, gain, v_threshold = f[BETA], f[SYNAPSE], f[GAIN], f[THRESHOLD]
    for i in range(begin, end, lanes):
        m, c = load(of_m, i - start, lanes), load(of_c, i - start, lanes)
        for t in range(steps[0], steps[1]):
            current = real(load(x, t * x_step + i, lanes))
            m, c = decay_m * m + current, decay_c * c + current
            fired = gain * (m - c) - v_threshold >= ZERO
            store(s, t * s_step + i, choose(fired, one, zero))
            m, c = choose(fired, ZERO, m), choose(fired, ZERO, c)
        store(of_m, i - start, m)
        store(of_c, i - start, c)


@inlined
def _lif_backward(a, f, x, grad, out):
    """Blocks of LIF neurons: membranes forward in time, then gradients backward; sums per block to ``a[SUMS]``."""
    neurons, num_steps, size = a[NEURONS], a[STEPS], a[SIZE]
    membranes = scratch((num_steps + 1) * size)  # row 0: at rest
    carry, held = scratch(size), scratch(size)
    sums = np.empty((2, WIDTH), np.float64)
    block = take(a)
    while block * size < neurons:
        start = block * size
        whole, end = _parts(start, size, neurons)
        membranes[:size], carry[:], held[:], sums[:] = ZERO, ZERO, ZERO, 0
        for t in range(0, num_steps, STRETCH):
            steps = t, min(t + STRETCH, num_steps)
            _lif_again(a, f, x, membranes, (start, start, whole), steps, WIDTH)
            _lif_again(a, f, x, membranes, (start, whole, end), steps, 1)
        for t in range((num_steps - 1) // STRETCH * STRETCH, -1, -STRETCH):
            steps = t, min(t + STRETCH, num_steps)
            _lif_descend(a, f, membranes, grad, out, carry, held, sums, (start, start, whole), steps, WIDTH)
            _lif_descend(a, f, membranes, grad, out, carry, held, sums, (start, whole, end), steps, 1)
        if a[SUMS]:
            total = carray(pointer(a[SUMS] + 16 * block), 2, np.float64)
            total[0], total[1] = total_of(sums[0]), total_of(sums[1])
        block = take(a)


@inlined
def _lif_again(a, f, x, membranes, neurons, steps, lanes):
    """The rows t + 1 of ``membranes``, a block's: those of step t before the reset."""
    literally(lanes)
    start, begin, end = neurons
    mode, size, x_step = a[MODE], a[SIZE], a[X_STEP]
    beta, v_threshold, v_reset = f[BETA], f[THRESHOLD], f[RESET]
    for i in range(begin, end, lanes):
        u = load(membranes, steps[0] * size + i - start, lanes)
        for t in range(steps[0], steps[1]):
            u = charged(mode, u, real(load(x, t * x_step + i, lanes)), beta, v_threshold, v_reset)
            store(membranes, (t + 1) * size + i - start, u)


@inlined
def _lif_descend(a, f, membranes, grad, out, of_u, held, sums, neurons, steps, lanes):
    """Gradients backward through some steps: ``of_u`` that of the next step's membranes, ``held`` those of the input.

    The latter where it was held for all steps. ``sums``: those of beta and the threshold, where they are wanted.
    """
    literally(lanes)
    start, begin, end = neurons
    mode, code, summed, size, grad_step, out_step = a[MODE], a[SLOPE], a[SUMS] != 0, a[SIZE], a[S_STEP], a[OUT_STEP]
    beta, v_threshold, v_reset, attached = f[BETA], f[THRESHOLD], f[RESET], f[ATTACHED]
    scale, height, reset_beta = f[SCALE], f[HEIGHT], ONE if mode == SUBTRACT_LATER else f[BETA]
    for i in range(begin, end, lanes):
        carry, total = load(of_u, i - start, lanes), load(held, i - start, lanes)
        for t in range(steps[1] - 1, steps[0] - 1, -1):
            u, given = load(membranes, (t + 1) * size + i - start, lanes), real(load(grad, t * grad_step + i, lanes))
            soft = slope_at(code, u - v_threshold, scale, height)
            if mode == SET:
                soft, carry = descended_set(u, given, soft, carry, (beta, v_threshold, v_reset), attached)
            else:
                if summed:
                    add_to(sums[1], choose(u - v_threshold >= ZERO, ZERO - reset_beta * carry, ZERO))
                soft, carry = descended_subtract(given, soft, carry, (beta, reset_beta, v_threshold), attached)
            if summed:
                add_to(sums[1], ZERO - soft)
                if t > 0:
                    left = leaking(mode, load(membranes, t * size + i - start, lanes), v_threshold, v_reset)
                    add_to(sums[0], carry * left)
            if out_step:
                store(out, t * out_step + i, stored(carry, out))
            else:
                total = total + carry
        store(of_u, i - start, carry)
        store(held, i - start, total)
        if not out_step and steps[0] == 0:
            store(out, i, stored(total, out))


@inlined
def _srm_backward(a, f, x, grad, out):
    """Blocks of SRM neurons: traces forward in time, then gradients backward."""
    neurons, num_steps, size = a[NEURONS], a[STEPS], a[SIZE]
    traces = scratch((num_steps + 1) * size), scratch((num_steps + 1) * size)  # rows 0: at rest
    of_m, of_c, held = scratch(size), scratch(size), scratch(size)
    start = take(a) * size
    while start < neurons:
        whole, end = _parts(start, size, neurons)
        traces[0][:size], traces[1][:size], of_m[:], of_c[:], held[:] = ZERO, ZERO, ZERO, ZERO, ZERO
        for t in range(0, num_steps, STRETCH):
            steps = t, min(t + STRETCH, num_steps)
            _srm_again(a, f, x, traces, (start, start, whole), steps, WIDTH)
            _srm_again(a, f, x, traces, (start, whole, end), steps, 1)
        for t in range((num_steps - 1) // STRETCH * STRETCH, -1, -STRETCH):
            steps = t, min(t + STRETCH, num_steps)
            _srm_descend(a, f, traces, grad, out, (of_m, of_c, held), (start, start, whole), steps, WIDTH)
            _srm_descend(a, f, traces, grad, out, (of_m, of_c, held), (start, whole, end), steps, 1)
        start = take(a) * size


@inlined
def _srm_again(a, f, x, traces, neurons, steps, lanes):
    """As ``_lif_again``: the rows t + 1 of the two traces."""
    literally(lanes)
    start, begin, end = neurons
    size, x_step = a[SIZE], a[X_STEP]
    decay_m, decay_c, gain, v_threshold = f[BETA], f[SYNAPSE], f[GAIN], f[THRESHOLD]
    for i in range(begin, end, lanes):
        at = steps[0] * size + i - start
        m, c = load(traces[0], at, lanes), load(traces[1], at, lanes)
        for t in range(steps[0], steps[1]):
            fired, current = gain * (m - c) - v_threshold >= ZERO, real(load(x, t * x_step + i, lanes))
            m = decay_m * choose(fired, ZERO, m) + current
            c = decay_c * choose(fired, ZERO, c) + current
            at = (t + 1) * size + i - start
            store(traces[0], at, m)
            store(traces[1], at, c)


@inlined
def _srm_descend(a, f, traces, grad, out, carried, neurons, steps, lanes):
    """As ``_lif_descend``: m[t + 1] = a * (1 - s[t]) * m[t] + x, c likewise with b, u = gain * (m - c)."""
    literally(lanes)
    start, begin, end = neurons
    of_m, of_c, held = carried
    code, size, grad_step, out_step = a[SLOPE], a[SIZE], a[S_STEP], a[OUT_STEP]
    decay_m, decay_c, gain, v_threshold = f[BETA], f[SYNAPSE], f[GAIN], f[THRESHOLD]
    scale, height, attached = f[SCALE], f[HEIGHT], f[ATTACHED]
    for i in range(begin, end, lanes):
        carry_m, carry_c = load(of_m, i - start, lanes), load(of_c, i - start, lanes)
        total = load(held, i - start, lanes)
        for t in range(steps[1] - 1, steps[0] - 1, -1):
            at = (t + 1) * size + i - start
            m, c = load(traces[0], at, lanes), load(traces[1], at, lanes)
            above, given = gain * (m - c) - v_threshold, real(load(grad, t * grad_step + i, lanes))
            carry_m, carry_c = decay_m * carry_m, decay_c * carry_c
            soft = (given - attached * (carry_m * m + carry_c * c)) * slope_at(code, above, scale, height)
            carry_m = choose(above >= ZERO, ZERO, carry_m) + gain * soft
            carry_c = choose(above >= ZERO, ZERO, carry_c) - gain * soft
            if out_step:
                store(out, t * out_step + i, stored(carry_m + carry_c, out))
            else:
                total = total + (carry_m + carry_c)
        store(of_m, i - start, carry_m)
        store(of_c, i - start, carry_c)
        store(held, i - start, total)
        if not out_step and steps[0] == 0:
            store(out, i, stored(total, out))
