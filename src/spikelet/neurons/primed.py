"""A neuron that does not begin at rest."""

import torch
from torch import Tensor

from spikelet.errors import SpikeletError
from spikelet.neurons.base import Neuron, State, check_currents


class Primed(Neuron):
    """``neuron`` with an initial potential: ``start`` is added to the current of its first step,

        x[0] = x[0] + start        all else is the neuron's

    so an ``IF`` begins with the membrane v = start, and a ``LIF`` with one that has leaked once before it is seen.

    neuron  any other one
    start   broadcasts with [N, ...]: one number per neuron, say [C, H, W]; a buffer, which calibration sets

    Source: Li et al., "A Free Lunch From ANN", ICML 2021 (reference 2.9).

    >>> from spikelet.neurons import IF
    >>> x = torch.full((4, 1), 0.5)
    >>> IF()(x).flatten().tolist(), Primed(IF(), torch.tensor([0.5]))(x).flatten().tolist()
    ([0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0])
    """

    start: Tensor

    def __init__(self, neuron: Neuron, start: Tensor) -> None:
        super().__init__()
        if not isinstance(neuron, Neuron) or not isinstance(start, Tensor):
            raise SpikeletError(f"neuron, start: expected a neuron and a tensor, got {neuron!r} and {start!r}")
        self.neuron = neuron
        self.register_buffer("start", start)

    def init_state(self, x: Tensor) -> State:
        return self.start.expand_as(x), *self.neuron.init_state(x)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        start, *rest = state
        spikes, after = self.neuron.step(x + start, tuple(rest))
        return spikes, (torch.zeros_like(start), *after)

    def forward(self, x: Tensor) -> Tensor:
        check_currents(x)
        x = x.clone()
        x[0] += self.start
        return self.neuron(x)

    def signal(self, spikes: Tensor) -> Tensor:
        return self.neuron.signal(spikes)

    def spikes(self, signal: Tensor) -> Tensor:
        return self.neuron.spikes(signal)
