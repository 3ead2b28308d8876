"""Thresholds with which a few spikes say best what an activation is."""

import torch
from torch import Tensor

from spikelet.arguments import check_whole
from spikelet.errors import SpikeletError

CANDIDATES = 95
CHUNK = 64  # samples whose activations are sorted at a time


def staircase(a: Tensor, threshold: Tensor | float, num_steps: int, shift: float = 0.5) -> Tensor:
    """What an IF neuron with soft reset says of a constant current ``a`` in ``num_steps`` steps:

        V / T * clip(floor(a * T / V + shift), 0, T)        V: threshold, T: num_steps

    ``shift`` 1/2 is that of a neuron that begins at V / 2, or to whose current V / (2 T) is added; 0 that of another.

    >>> staircase(torch.tensor([0.3, 0.7, 2.0]), threshold=1.0, num_steps=4).tolist()
    [0.25, 0.75, 1.0]
    """
    return threshold / num_steps * (a * num_steps / threshold + shift).floor().clamp(0, num_steps)


def mmse_thresholds(activations: Tensor, num_steps: int, per_channel: bool = False, shift: float = 0.5) -> Tensor:
    """The threshold of each channel, [C], whose ``staircase`` has the least mean square error. Of 95 candidates

        V_i = max(a) * (1 - 0.01 * i)        i = 0 .. 94

    that of all channels together, or of each (``per_channel``). A channel without any activation gets the largest of
    the others, 1 where there is none. The search is exact; it sorts once instead of making 95 staircases.

    activations  [N, C, ...], of which those below 0 count as 0
    shift        the published search has 0, although the neuron has 1/2

    Source: Li et al., "A Free Lunch From ANN", ICML 2021 (reference 2.9).

    >>> a = torch.tensor([0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 10.0]).reshape(-1, 1).repeat(10, 1)
    >>> [round(v, 4) for v in mmse_thresholds(a, num_steps=4).tolist()]
    [10.0]
    >>> [round(v, 4) for v in mmse_thresholds(a[a < 1][:, None], num_steps=4).tolist()]
    [0.4]
    """
    check_whole("num_steps", num_steps)
    if activations.dim() < 2 or not activations.numel():
        raise SpikeletError(f"activations: expected [N, C, ...] of at least one sample, got {[*activations.shape]}")
    if not activations.isfinite().all():
        raise SpikeletError("activations: expected finite numbers; the training diverged")
    channels = activations.shape[1]
    largest = activations.transpose(0, 1).flatten(1).amax(1).clamp_min(0).double()
    alive = largest.amax() if largest.any() else torch.ones((), dtype=torch.float64)
    largest = torch.where(largest > 0, largest, alive) if per_channel else alive.reshape(1)
    candidates = largest[:, None] * (1 - 0.01 * torch.arange(CANDIDATES, dtype=torch.float64))
    errors = torch.zeros_like(candidates)
    for part in activations.split(CHUNK):
        rows = part.transpose(0, 1).reshape(channels if per_channel else 1, -1)
        errors += _errors(rows.clamp_min(0).double(), candidates, num_steps, shift)
    best = candidates.gather(1, errors.argmin(1, keepdim=True))
    return best.expand(channels, 1).flatten().to(activations.dtype)


def _errors(rows: Tensor, candidates: Tensor, num_steps: int, shift: float) -> Tensor:
    """Sum over a row of rows [G, M] of (a - staircase(a))^2, of each of its candidates [G, K]; float64 [G, K].

    With n_m of the M values at or above edge m of the staircase, and S_m the sum of those, it is

        sum a^2 - 2 V / T * sum_m S_m + (V / T)^2 * sum_m (2 m - 1) * n_m        m = 1 .. T
    """
    rows = rows.sort(1).values.contiguous()
    levels = torch.arange(1, num_steps + 1, dtype=torch.float64)
    height = candidates / num_steps
    edges = (
        height[:, :, None] * (levels - shift) * (1 - 1e-12)
    )  # what is on an edge is above it, however it was rounded
    below = torch.searchsorted(rows, edges.flatten(1))
    sums = torch.cat([torch.zeros_like(rows[:, :1]), rows.cumsum(1)], dim=1)
    above = (sums[:, -1:] - sums.gather(1, below)).reshape(edges.shape).sum(2)
    number = ((2 * levels - 1) * (rows.shape[1] - below).reshape(edges.shape)).sum(2)
    return rows.square().sum(1, keepdim=True) - 2 * height * above + height.square() * number
