"""Weights that are corrected by how often their neurons fire."""

import torch
from torch import Tensor, nn

MOMENTUM = 0.9  # what a training pass leaves of the mean rate
LOWEST, HIGHEST = 0.5, 1.5


class RateGain(nn.Module):
    """A factor for the weights of each output channel, larger than 1 where its neurons fire less than they should.

        W_hat = W * clip(1 + strength * (target - rate), 0.5, 1.5)
        rate  = 0.9 * rate + 0.1 * spikes per neuron and step          after each training pass

    It begins at 1, with rates at the target, and stands still in evaluation; rates are kept with the weights. Source:
    reference 6.4 B 3.

    >>> gain = RateGain(channels=2, target=0.1, strength=0.1)
    >>> gain.update(torch.tensor([1.0, 0.0]).expand(5, 3, 2))
    >>> [round(x, 4) for x in gain.rate.tolist()], [round(x, 4) for x in gain().tolist()]
    ([0.19, 0.09], [0.991, 1.001])
    """

    rate: Tensor

    def __init__(self, channels: int, target: float = 0.1, strength: float = 0.1) -> None:
        super().__init__()
        self.target, self.strength = target, strength
        self.register_buffer("rate", torch.full((channels,), target))

    def forward(self) -> Tensor:
        """The factors, [C]."""
        return (1 + self.strength * (self.target - self.rate)).clamp(LOWEST, HIGHEST)

    @torch.no_grad()
    def update(self, spikes: Tensor) -> None:
        """Move the rates by a pass that sent ``spikes`` [T, N, C, ...]."""
        others = [axis for axis in range(spikes.dim()) if axis != 2]
        self.rate.mul_(MOMENTUM).add_(spikes.mean(others, dtype=self.rate.dtype), alpha=1 - MOMENTUM)

    def extra_repr(self) -> str:
        return f"channels={len(self.rate)}, target={self.target}, strength={self.strength}"
