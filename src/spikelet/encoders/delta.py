"""What changes, as spikes."""

import torch
from torch import Tensor

from spikelet.arguments import check_whole
from spikelet.encoders.base import check_floats
from spikelet.errors import SpikeletError


def delta(
    x: Tensor,
    num_steps: int | None = None,
    threshold: float = 0.1,
    off_spike: bool = True,
    from_zero: bool = True,
) -> Tensor:
    """Spikes where a signal ``x`` [T, N, ...], already in time, changes from one step to the next: [T, N, ...].

        d[t] = x[t] - x[t-1]        +1 where d >= threshold, -1 where d <= -threshold, else 0

    One spike, however large the change. Without ``off_spike`` the -1 are left out. In front of the first step stands 0,
    or without ``from_zero`` the first step itself, which is then silent. ``num_steps``, where given, must be T.
    Source: snnTorch's ``spikegen.delta``; a pixel of an event camera does the same to the logarithm of its light.

    >>> delta(torch.tensor([1.0, 2.0, 2.5, 1.0]).reshape(4, 1), threshold=1.0).flatten().tolist()
    [1.0, 1.0, 0.0, -1.0]
    """
    check_floats(x)
    if num_steps is not None:
        check_whole("num_steps", num_steps)
    if x.dim() < 2 or len(x) == 0 or num_steps not in (None, len(x)):
        wanted = "T >= 1" if num_steps is None else f"T = num_steps = {num_steps}"
        raise SpikeletError(f"x: expected a signal [T, N, ...] with {wanted}, got shape {tuple(x.shape)}")
    if not threshold > 0:
        raise SpikeletError(f"threshold: expected a positive number, got {threshold}")
    x = x.detach()
    change = torch.diff(x, dim=0, prepend=torch.zeros_like(x[:1]) if from_zero else x[:1])
    on = (change >= threshold).to(x.dtype)
    return on - (change <= -threshold).to(x.dtype) if off_spike else on
