"""The neuron of lossless conversion: no leak, no reset, signed spikes, a threshold that moves."""

import torch
from torch import Tensor

from spikelet.errors import SpikeletError
from spikelet.kernels.reference import threshold_walk_step
from spikelet.neurons.base import Neuron, State


class ThresholdWalk(Neuron):
    """Signed spikes that sum to ``min(1 + floor((v - first) / step), max_count)``, or to 0 where v < first.

    ``first`` and ``step`` > 0 are per channel [C] (the second axis of one step's input) or scalars. A late inhibitory
    input retracts an earlier spike by a negative one. Source: Zou et al. 2023, 2024 (reference 4.5).

    >>> neuron = ThresholdWalk(torch.tensor(0.5), torch.tensor(1.0))
    >>> neuron(torch.tensor([[2.2], [0.0], [-1.0], [0.0]])).flatten().tolist()
    [1.0, 1.0, -1.0, 0.0]
    """

    def __init__(self, first: Tensor, step: Tensor, max_count: int = 127) -> None:
        super().__init__()
        for name, tensor in (("first", first), ("step", step)):
            if not isinstance(tensor, Tensor):
                raise SpikeletError(f"{name}: expected a tensor, got {tensor!r}")
        if not bool((step > 0).all()):
            raise SpikeletError(f"step: expected positive threshold distances, got a minimum of {step.min().item()}")
        self.first: Tensor
        self.step_size: Tensor
        self.register_buffer("first", first)
        self.register_buffer("step_size", step)
        self.max_count = max_count

    def init_state(self, x: Tensor) -> State:
        return torch.zeros_like(x), torch.zeros_like(x)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        shape = (-1,) + (1,) * (x.dim() - 2) if self.first.dim() else ()
        first, step = self.first.reshape(shape), self.step_size.reshape(shape)
        v, count = state
        s, v, count = threshold_walk_step(x, v, count, first, step, self.max_count)
        return s, (v, count)
