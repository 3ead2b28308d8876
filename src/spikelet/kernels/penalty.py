"""The pull of constrained backpropagation on one layer: one pass over its weights, and no temporary of their size."""

from itertools import pairwise

import numpy as np
from numba import njit
from torch import Tensor

BLOCK = 1024  # weights whose constraint is in the nearest cache


def add_penalty(weight: Tensor, multiplier: Tensor, grad: Tensor, levels: list[float], g: float) -> float:
    """grad += multiplier * dcs/dw in place; returns the sum of multiplier * cs, with ``quantizers.constraint``'s cs.

    All three are float32 of one shape and layout, on the CPU.
    """
    reach = [(high - low) / 2 * (1 - 1 / g) for low, high in pairwise(levels)]
    arrays = [flat(tensor).numpy() for tensor in (weight, multiplier, grad)]
    return _add_penalty(*arrays, np.array(levels, np.float32), np.array(reach, np.float32))  # type: ignore[call-arg]


def flat(tensor: Tensor) -> Tensor:
    """The elements of a tensor that fills its memory, in the order in which they lie there; no copy."""
    return tensor.detach().as_strided((tensor.numel(),), (1,))


@njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")
def _add_penalty(weight, multiplier, grad, levels, reach):
    cs, slope = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    two, total = np.float32(2), 0.0
    for start in range(0, len(weight), BLOCK):
        size = min(BLOCK, len(weight) - start)
        for j in range(size):  # beyond the outermost levels
            below, above = levels[0] - weight[start + j], weight[start + j] - levels[-1]
            cs[j] = below if below > 0 else (above if above >= 0 else np.float32(0))
            slope[j] = -two if below > 0 else (two if above >= 0 else np.float32(0))
        for i in range(len(reach)):  # between two levels, outside the window
            half = (levels[i + 1] - levels[i]) * np.float32(0.5)
            for j in range(size):
                up, down = weight[start + j] - levels[i], levels[i + 1] - weight[start + j]
                near_low = (up >= 0) & (up < half) & (up <= reach[i])
                near_high = (down > 0) & (down <= half) & (down <= reach[i])
                cs[j] = down if near_high else (up if near_low else cs[j])
                slope[j] = -two if near_high else (two if near_low else slope[j])
        for j in range(size):
            grad[start + j] += multiplier[start + j] * slope[j]
            cs[j] *= multiplier[start + j]
        for j in range(size):
            total += cs[j]
    return 2 * total
