"""The inner loops of the CPU kernels: each runs over a few thousand neurons of one step, in the nearest cache.

They are written so that LLVM makes vectors of them: contiguous slices, selections instead of branches. Nothing here may
be contracted or reordered (no fastmath): spikes must be those of the reference bit for bit, so the order of the
arithmetic is that of ``reference``. Membranes ``u`` are those after charging and before the reset.

Arrays of bfloat16 come as uint16; ``real`` and ``stored`` convert, and do nothing to float32.
"""

import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic as numba_intrinsic

I16, I32, I64, F32 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)

# The int64s that a pass is given, with float32s right behind them. Step t of x begins X_STEP * t elements behind X, and
# so on; X_STEP is 0 where one input is held for all steps, and OUT_STEP where the gradient is summed over them. MORE is
# what the kind of neuron makes of it.
NEXT, NEURONS, STEPS, SIZE, X, X_STEP, S, S_STEP, OUT, OUT_STEP, MODE, SLOPE, SUMS, MORE = range(14)

SUBTRACT, SET, SUBTRACT_LATER = 0, 1, 2  # what a spike does to the membrane
ATAN, FAST_SIGMOID, SIGMOID, TRIANGLE, BOXCAR = 0, 1, 2, 3, 4  # anything else: straight through


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled as part of the pass that calls it, without bounds checks and without fastmath."""
    return njit(boundscheck=False, error_model="numpy")(function)


def version_of(*modules: ModuleType) -> int:
    """What passes close over, so that they are compiled anew when a source changes: numba looks at one file only."""
    return zlib.crc32(b"".join(Path(str(module.__file__)).read_bytes() for module in modules))


def intrinsic(build: Callable[..., Any]) -> Callable[..., Any]:
    """numba's, typed as what it is in compiled code: a function without the typing context."""
    return numba_intrinsic(build)


# ---------------------------------------------------------------- what numba has no word for


@intrinsic
def pointer(typingctx, address):
    """The address as a pointer, for ``numba.carray``."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], ir.PointerType(ir.IntType(8)))

    return types.voidptr(types.int64), generate


@intrinsic
def untyped(typingctx, sample):
    """Any pointer as one to nothing in particular."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.PointerType(ir.IntType(8)))

    return types.voidptr(sample), generate


@intrinsic
def elements(typingctx, address, sample):
    """The address as a pointer of ``sample``'s type."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return sample(types.int64, sample), generate


@intrinsic
def take(typingctx, counter):
    """The first element of an int64 array, which becomes one more: each thread gets a number that no other one gets."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(I64, 1), "monotonic")

    return types.int64(counter), generate


@intrinsic
def real(typingctx, value):
    """float32 of a float32, or of the bits of a bfloat16."""

    def generate(context, builder, signature, arguments):
        if signature.args[0] == types.float32:
            return arguments[0]
        return builder.bitcast(builder.shl(builder.zext(arguments[0], I32), ir.Constant(I32, 16)), F32)

    return types.float32(value), generate


@intrinsic
def stored(typingctx, value, array):
    """``value`` as ``array`` keeps it: float32, or the bits of the nearest bfloat16, ties to even."""

    def generate(context, builder, signature, arguments):
        x = arguments[0]
        if signature.return_type == types.float32:
            return x
        bits, shift = builder.bitcast(x, I32), ir.Constant(I32, 16)
        odd = builder.and_(builder.lshr(bits, shift), ir.Constant(I32, 1))
        nearest = builder.lshr(builder.add(bits, builder.add(odd, ir.Constant(I32, 0x7FFF))), shift)
        return builder.trunc(builder.select(builder.fcmp_unordered("uno", x, x), I32(0x7FC0), nearest), I16)

    return array.dtype(types.float32, array), generate


@intrinsic
def power_of_two(typingctx, exponent):
    """2 ** exponent of a whole float32 in -126 .. 127."""

    def generate(context, builder, signature, arguments):
        biased = builder.add(builder.fptosi(arguments[0], I32), ir.Constant(I32, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(I32, 23)), F32)

    return types.float32(types.float32), generate


@compiled
def arguments(sample, num_floats):
    """(int64s, float32s, x, spikes or their gradient, out) of a pass; the last three are flat.

    They come as one address, since that is what a thread is started with; its type says what x, spikes and out hold.
    """
    a = carray(untyped(sample), 14, np.int64)
    f = carray(untyped(sample), 28 + num_floats, np.float32)[28:]
    last = a[STEPS] - 1
    x = carray(elements(a[X], sample), a[X_STEP] * last + a[NEURONS])
    s = carray(elements(a[S], sample), a[S_STEP] * last + a[NEURONS])
    out = carray(elements(a[OUT], sample), a[OUT_STEP] * last + a[NEURONS])
    return a, f, x, s, out


# ---------------------------------------------------------------- forward, and forward again in the backward


@compiled
def advance(mode, v, x, beta, v_threshold, v_reset, spikes):
    """One step of LIF: leak, input, spikes, reset. ``v`` is kept after the reset, unless that comes later."""
    if mode == SUBTRACT:
        for i in range(len(v)):
            u = beta * v[i] + real(x[i])
            above = u - v_threshold
            spikes[i] = stored(ONE if above >= ZERO else ZERO, spikes)
            v[i] = above if above >= ZERO else u
    elif mode == SET:
        for i in range(len(v)):
            u = beta * v[i] + real(x[i])
            above = u - v_threshold
            spikes[i] = stored(ONE if above >= ZERO else ZERO, spikes)
            v[i] = v_reset if above >= ZERO else u
    else:
        for i in range(len(v)):
            u = beta * v[i] + real(x[i])
            u = u - v_threshold if v[i] - v_threshold >= ZERO else u
            spikes[i] = stored(ONE if u - v_threshold >= ZERO else ZERO, spikes)
            v[i] = u


@compiled
def advance_traces(m, c, x, traces, spikes):
    """One step of SRM; ``m`` and ``c`` are kept after the reset. ``traces``: (a, b, gain, v_threshold)."""
    a, b, gain, v_threshold = traces
    for i in range(len(m)):
        grown_m, grown_c = a * m[i] + real(x[i]), b * c[i] + real(x[i])
        fired = gain * (grown_m - grown_c) - v_threshold >= ZERO
        spikes[i] = stored(ONE if fired else ZERO, spikes)
        m[i] = ZERO if fired else grown_m
        c[i] = ZERO if fired else grown_c


@compiled
def charge(mode, u, x, beta, v_threshold, v_reset, out):
    """out = the membranes one step after ``u``: reset, leak, input ``x``. ``out`` shares no memory with them."""
    if mode == SUBTRACT:
        for i in range(len(out)):
            above = u[i] - v_threshold
            out[i] = beta * (above if above >= ZERO else u[i]) + real(x[i])
    elif mode == SET:
        for i in range(len(out)):
            out[i] = beta * (v_reset if u[i] - v_threshold >= ZERO else u[i]) + real(x[i])
    else:
        for i in range(len(out)):
            grown = beta * u[i] + real(x[i])
            out[i] = grown - v_threshold if u[i] - v_threshold >= ZERO else grown


@compiled
def charge_trace(fired_by, trace, x, decay, v_threshold, out):
    """out = decay * trace + x, the trace being 0 where ``fired_by`` >= v_threshold."""
    for i in range(len(out)):
        out[i] = decay * (ZERO if fired_by[i] - v_threshold >= ZERO else trace[i]) + real(x[i])


@compiled
def difference(m, c, gain, out):
    """out = gain * (m - c)."""
    for i in range(len(out)):
        out[i] = gain * (m[i] - c[i])


# ---------------------------------------------------------------- slopes


@compiled
def slope(code, u, v_threshold, scale, height, out):
    """out = the surrogate's slope at u - v_threshold; ``scale`` and ``height`` as ``cpu.SLOPES`` prepares them."""
    if code == ATAN:
        for i in range(len(out)):
            y = scale * (u[i] - v_threshold)
            out[i] = height / (ONE + y * y)
    elif code == FAST_SIGMOID:
        for i in range(len(out)):
            y = ONE + scale * abs(u[i] - v_threshold)
            out[i] = ONE / (y * y)
    elif code == SIGMOID:
        for i in range(len(out)):
            e = exponential(max(-scale * abs(u[i] - v_threshold), np.float32(-80)))
            out[i] = scale * e / ((ONE + e) * (ONE + e))
    elif code == TRIANGLE:
        for i in range(len(out)):
            out[i] = height * max(ONE - scale * abs(u[i] - v_threshold), ZERO)
    elif code == BOXCAR:
        for i in range(len(out)):
            out[i] = height if abs(u[i] - v_threshold) < scale else ZERO
    else:
        out[:] = ONE


@njit(inline="always")
def exponential(y):
    """exp(y) for -80 <= y <= 0 to 3e-7 of itself: the library's has no vectors. Cephes' polynomial (S. Moshier)."""
    n = np.floor(y * np.float32(1.44269504) + HALF)
    r = (y - n * np.float32(0.693359375)) + n * np.float32(2.12194440e-4)  # y - n * ln 2
    p = np.float32(1.9875691500e-4) * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + HALF
    return (p * r * r + r + ONE) * power_of_two(n)


# ---------------------------------------------------------------- backward
#
# Per step, from the last to the first: ``carry`` comes in as the gradient of the next step's membrane u[t + 1] and
# goes out as that of u[t], which is the gradient of x[t]. ``soft`` comes in as the surrogate's slope and goes out as
# the part of that gradient that went through the spike. ``attached`` is 1 where the reset is not detached, else 0.


@compiled
def descend_subtract(u, grad, soft, carry, beta, reset_beta, v_threshold, attached):
    """u[t + 1] = beta * u[t] - reset_beta * v_threshold * s[t] + x; reset_beta is beta, or 1 where delayed."""
    for i in range(len(u)):
        back = carry[i]
        soft[i] = (real(grad[i]) - attached * (v_threshold * (reset_beta * back))) * soft[i]
        carry[i] = beta * back + soft[i]


@compiled
def descend_set(u, grad, soft, carry, beta, v_threshold, v_reset, attached):
    """u[t + 1] = beta * ((1 - s[t]) * u[t] + s[t] * v_reset) + x."""
    for i in range(len(u)):
        back = beta * carry[i]
        kept = ZERO if u[i] - v_threshold >= ZERO else back
        soft[i] = (real(grad[i]) + attached * (back * (v_reset - u[i]))) * soft[i]
        carry[i] = kept + soft[i]


@compiled
def descend_traces(u, m, c, grad, soft, carry, traces, attached):
    """m[t + 1] = a * (1 - s[t]) * m[t] + x, c likewise with b, u = gain * (m - c). ``carry``: (of m, of c).

    ``traces``: (a, b, gain, v_threshold).
    """
    of_m, of_c = carry
    a, b, gain, v_threshold = traces
    for i in range(len(u)):
        back_m, back_c = a * of_m[i], b * of_c[i]
        kept = ZERO if u[i] - v_threshold >= ZERO else ONE
        soft[i] = (real(grad[i]) - attached * (back_m * m[i] + back_c * c[i])) * soft[i]
        of_m[i] = kept * back_m + gain * soft[i]
        of_c[i] = kept * back_c - gain * soft[i]


@compiled
def gather_reset(u, carry, factor, v_threshold, total):
    """total -= factor * carry where u fires: the gradient of v_threshold through the subtraction."""
    for i in range(len(u)):
        total[i] -= np.float64(factor * carry[i]) if u[i] - v_threshold >= ZERO else np.float64(0)


@compiled
def gather_soft(soft, total):
    """total -= soft: the gradient of v_threshold through the spike."""
    for i in range(len(soft)):
        total[i] -= np.float64(soft[i])


@compiled
def gather_beta(mode, u, carry, v_threshold, v_reset, total):
    """total += carry * (what the leak multiplied): the gradient of beta; ``u`` is the step before ``carry``'s."""
    for i in range(len(u)):
        w = u[i]
        if mode == SUBTRACT:
            w = u[i] - (v_threshold if u[i] - v_threshold >= ZERO else ZERO)
        elif mode == SET:
            w = v_reset if u[i] - v_threshold >= ZERO else u[i]
        total[i] += np.float64(carry[i] * w)


@compiled
def add(values, total):
    """total += values."""
    for i in range(len(values)):
        total[i] += values[i]


@compiled
def store(values, out):
    """out = values."""
    for i in range(len(values)):
        out[i] = stored(values[i], out)


@compiled
def store_sum(left, right, out):
    """out = left + right."""
    for i in range(len(left)):
        out[i] = stored(left[i] + right[i], out)


@njit(fastmath={"reassoc", "nsz"})
def total_of(values):
    """The sum, in an order that is fixed when this is compiled."""
    total = np.float64(0)
    for i in range(len(values)):
        total += values[i]
    return total
