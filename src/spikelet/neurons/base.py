"""The contract of every neuron."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from spikelet.errors import SpikeletError

State = tuple[Tensor, ...]


class Neuron(nn.Module, ABC):
    """Spiking neuron: ``forward(x [T, N, ...]) -> spikes [T, N, ...]``, from rest at every call.

    State is passed, never stored: ``init_state`` and ``step`` are the streaming form of the same computation.
    """

    @abstractmethod
    def init_state(self, x: Tensor) -> State:
        """The state at rest for one step's input ``x`` [N, ...]."""

    @abstractmethod
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: input ``x`` [N, ...] and state to (spikes [N, ...], next state)."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 2 or x.shape[0] == 0:
            raise SpikeletError(f"x: expected [T, N, ...] with T >= 1, got shape {tuple(x.shape)}")
        state = self.init_state(x[0])
        spikes = []
        for current in x:
            s, state = self.step(current, state)
            spikes.append(s)
        return torch.stack(spikes)
