"""A number as the chance of a spike."""

import torch
from torch import Tensor

from spikelet.arguments import check_whole
from spikelet.encoders.base import check_unit


def rate(x: Tensor, num_steps: int, generator: torch.Generator | None = None) -> Tensor:
    """Bernoulli spikes: at every step, a value of ``x`` [N, ...] in [0, 1] spikes with that probability: [T, N, ...].

    The count over T steps has mean T x and variance T x (1 - x). The draws come from ``generator``, which must live on
    the device of ``x``; None is torch's own. No gradient reaches ``x``.

    >>> seeded = torch.Generator().manual_seed(1)
    >>> rate(torch.tensor([[0.0, 0.5, 1.0]]), num_steps=1000, generator=seeded).sum(0).tolist()
    [[0.0, 514.0, 1000.0]]
    """
    check_whole("num_steps", num_steps)
    check_unit(x)
    return torch.bernoulli(x.detach().expand(num_steps, *x.shape), generator=generator)
