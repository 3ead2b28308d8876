"""Currents that fade: a synapse in front of the neurons."""

import torch
from torch import Tensor, nn


class CodingStage(nn.Module):
    """Currents ``x`` [T, N, C, ...] that fade instead of vanishing, in the same shape: from h = 0

        h_t = lam * h_{t-1} + x_t        lam = sigmoid(w), learned for each of C channels, from 0.5 on

    With a leaky neuron behind it, a neuron of second order, as the one of reference 6.2 (its diagram), where x_t = U x
    are the currents of the first layer.

    >>> CodingStage(1)(torch.ones(4, 1, 1)).flatten().tolist()
    [1.0, 1.5, 1.75, 1.875]
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        lam = self.w.sigmoid().reshape(-1, *[1] * (x.dim() - 3))
        h = torch.zeros_like(x[0])
        out = []
        for current in x:
            h = lam * h + current
            out.append(h)
        return torch.stack(out)

    def extra_repr(self) -> str:
        return f"channels={len(self.w)}"
