"""Leaky integrate-and-fire, and its leakless setting."""

import math

import torch
from torch import Tensor

from spikelet.errors import SpikeletError
from spikelet.kernels.reference import lif_step
from spikelet.neurons.base import Neuron, State
from spikelet.surrogate import Surrogate, atan


def beta_from_tau(tau: float, dt: float) -> float:
    """Decay per step of a membrane with time constant ``tau``: exp(-dt / tau), both in seconds.

    >>> round(beta_from_tau(tau=60e-3, dt=5e-3), 5)
    0.92004
    """
    return math.exp(-dt / tau)


class LIF(Neuron):
    """Leaky integrate-and-fire: v = beta * v + x, fire where v >= v_threshold, then reset.

    ``beta`` in [0, 1] is the decay per step. ``v_reset``: a number the membrane is set to, or ``None`` for reset by
    subtraction of ``v_threshold``. The reset is detached from the gradient.

    >>> x = torch.full((4, 1), 0.7)
    >>> LIF(beta=0.5, v_threshold=1.0)(x).flatten().tolist()
    [0.0, 1.0, 0.0, 1.0]
    """

    def __init__(
        self, beta: float, v_threshold: float = 1.0, v_reset: float | None = None, surrogate: Surrogate | None = None
    ) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise SpikeletError(f"beta: expected a decay per step in [0, 1], got {beta}")
        self.beta, self.v_threshold, self.v_reset = beta, v_threshold, v_reset
        self.surrogate = surrogate or atan()

    def init_state(self, x: Tensor) -> State:
        return (torch.zeros_like(x),)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        s, v = lif_step(x, state[0], self.beta, self.v_threshold, self.v_reset, self.surrogate)
        return s, (v,)


class IF(LIF):
    """Integrate-and-fire: a ``LIF`` without leak.

    >>> IF(v_threshold=1.0)(torch.full((4, 1), 0.5)).flatten().tolist()
    [0.0, 1.0, 0.0, 1.0]
    """

    def __init__(
        self, v_threshold: float = 1.0, v_reset: float | None = None, surrogate: Surrogate | None = None
    ) -> None:
        super().__init__(1.0, v_threshold, v_reset, surrogate)
