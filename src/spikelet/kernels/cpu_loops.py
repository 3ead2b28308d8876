"""The steps of the CPU kernels, each of a vector of neurons.

Nothing here may be contracted or reordered (no fastmath): spikes must be those of the reference bit for bit, so the
order of the arithmetic is that of ``reference``. Membranes ``u`` are those after charging and before the reset.
"""

import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types

from spikelet.kernels.vectors import (
    I64,
    LANES,
    choose,
    floor,
    intrinsic,
    magnitude,
    none_of,
    power_of_two,
)

ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
LOWEST = np.float32(-80)  # exponent: less is 0 beside 1

# The int64s that a pass is given, with float32s right behind them. Step t of x begins X_STEP * t elements behind X, and
# so on; X_STEP is 0 where one input is held for all steps, and OUT_STEP where the gradient is summed over them. MORE is
# what the kind of neuron makes of it.
NEXT, NEURONS, STEPS, SIZE, X, X_STEP, S, S_STEP, OUT, OUT_STEP, MODE, SLOPE, SUMS, MORE = range(14)

SUBTRACT, SET, SUBTRACT_LATER = 0, 1, 2  # what a spike does to the membrane
ATAN, FAST_SIGMOID, SIGMOID, TRIANGLE, BOXCAR = 0, 1, 2, 3, 4  # anything else: straight through


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled as part of the pass that calls it, without bounds checks and without fastmath."""
    return njit(boundscheck=False, error_model="numpy")(function)


def version_of(*modules: ModuleType) -> int:
    """What passes close over, so that they are compiled anew when a source changes: numba looks at one file only."""
    return zlib.crc32(b"".join(Path(str(module.__file__)).read_bytes() for module in modules))


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


@inlined
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


@inlined
def scratch(size):
    """Memory for ``size`` float32s, at the beginning of a line of the cache."""
    memory = np.empty(size + LANES, np.float32)
    skipped = -memory.ctypes.data % 64 // 4
    return memory[skipped : skipped + size]


# ---------------------------------------------------------------- forward, and forward again in the backward


@inlined
def charged(mode, u, x, beta, v_threshold, v_reset):
    """The LIF membranes one step after ``u``: reset, leak, input ``x``; both are vectors."""
    grown = beta * leaking(mode, u, v_threshold, v_reset) + x
    if mode == SUBTRACT_LATER:
        return choose(u - v_threshold >= ZERO, grown - v_threshold, grown)
    return grown


@inlined
def leaking(mode, u, v_threshold, v_reset):
    """What leaks of the membranes ``u``, a vector: all that an immediate reset leaves."""
    above = u - v_threshold
    if mode == SUBTRACT:
        return choose(above >= ZERO, above, u)
    if mode == SET:
        return choose(above >= ZERO, v_reset, u)
    return u


# ---------------------------------------------------------------- slopes


@inlined
def slope_at(code, x, scale, height):
    """The surrogate's slope at a vector ``x`` of membranes above the threshold, with the numbers of cpu.SLOPES."""
    distance = magnitude(x)
    if code == ATAN:
        y = scale * x
        return height / (ONE + y * y)
    if code == FAST_SIGMOID:
        y = ONE + scale * distance
        return ONE / (y * y)
    if code == SIGMOID:
        y = ZERO - scale * distance
        e = exponential(choose(y <= LOWEST, LOWEST, y))
        return scale * e / ((ONE + e) * (ONE + e))
    if code == TRIANGLE:
        y = ONE - scale * distance
        return height * choose(y <= ZERO, ZERO, y)
    if code == BOXCAR:
        return choose(distance < scale, height, ZERO)
    return none_of(x) + ONE


@njit(inline="always")
def exponential(y):
    """exp(y) for -80 <= y <= 0 to 3e-7 of itself: the library's has no vectors. Cephes' polynomial (S. Moshier)."""
    n = floor(y * np.float32(1.44269504) + HALF)
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
# goes out as that of u[t], which is the gradient of x[t]. ``soft`` is the surrogate's slope, and then the part of that
# gradient that went through the spike. ``attached`` is 1 where the reset is not detached, else 0.


@inlined
def descended_subtract(grad, soft, carry, numbers, attached):
    """u[t + 1] = beta * u[t] - reset_beta * v_threshold * s[t] + x; reset_beta is beta, or 1 where delayed."""
    beta, reset_beta, v_threshold = numbers
    soft = (grad - attached * (v_threshold * (reset_beta * carry))) * soft
    return soft, beta * carry + soft


@inlined
def descended_set(u, grad, soft, carry, numbers, attached):
    """u[t + 1] = beta * ((1 - s[t]) * u[t] + s[t] * v_reset) + x."""
    beta, v_threshold, v_reset = numbers
    back = beta * carry
    soft = (grad + attached * (back * (v_reset - u))) * soft
    return soft, choose(u - v_threshold >= ZERO, ZERO, back) + soft


@njit(fastmath={"reassoc", "nsz"})
def total_of(values):
    """The sum, in an order that is fixed when this is compiled."""
    total = np.float64(0)
    for i in range(len(values)):
        total += values[i]
    return total
