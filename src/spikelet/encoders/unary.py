"""A number as that many spikes in a row."""

from torch import Tensor

from spikelet.arguments import check_whole
from spikelet.encoders.base import clock


def unary(x: Tensor, num_steps: int, levels: int = 4) -> Tensor:
    """Unary code of ``x`` [N, ...] >= 0: a spike at step t where clip(floor(x + 1/2), 0, levels) > t: [T, N, ...].

    A rising threshold that stops after ``levels`` steps. Source: Zou et al. 2024 (reference 4.6).

    >>> import torch
    >>> unary(torch.tensor([[0.4, 2.5, 9.0]]), num_steps=5).sum(0).tolist()
    [[0.0, 3.0, 4.0]]
    """
    check_whole("num_steps", num_steps)
    check_whole("levels", levels)
    count = x.add(0.5).floor().clamp(0, levels)
    return (count > clock(x, num_steps)).to(x.dtype)
