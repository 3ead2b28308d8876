"""What every encoder checks, and the clock that they share."""

import torch
from torch import Tensor

from spikelet.errors import SpikeletError


def check_unit(x: Tensor) -> None:
    """Raise SpikeletError where ``x`` is not floating point in [0, 1]; NaN is not."""
    check_floats(x)
    if x.numel() and not bool(((x >= 0) & (x <= 1)).all()):
        raise SpikeletError(f"x: expected values in [0, 1], got {x.min().item():g} to {x.max().item():g}")


def check_floats(x: Tensor) -> None:
    """Raise SpikeletError where ``x`` holds whole numbers, such as pixels of 0 to 255."""
    if not x.is_floating_point():
        raise SpikeletError(f"x: expected floating point, got {x.dtype}; pixels are divided by 255 first")


def clock(x: Tensor, num_steps: int) -> Tensor:
    """The steps 0 .. T - 1 as [T, 1, ...], to compare with ``x`` [N, ...]."""
    return torch.arange(num_steps, device=x.device).reshape(-1, *[1] * x.dim())
