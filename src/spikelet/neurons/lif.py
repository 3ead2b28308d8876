"""Leaky integrate-and-fire, and its settings without a leak and with a learned one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from spikelet import kernels
from spikelet.arguments import check_number
from spikelet.kernels.reference import Number, Reset, Spike, lif_rest, lif_step
from spikelet.neurons.base import (
    LOWEST_THRESHOLD,
    Neuron,
    State,
    beta_from_tau,
    check_currents,
    check_fits,
    check_held,
    check_numbers,
    check_reset,
    check_step,
    chosen,
    is_decay,
    is_positive,
    within,
)


class _Integrator(Neuron, ABC):
    """What ``LIF`` and ``PLIF`` share: all but where the decay comes from."""

    v_threshold: float | Tensor

    def __init__(
        self,
        v_threshold: float | nn.Parameter,
        v_reset: float | None,
        surrogate: Spike | str | None,
        detach_reset: bool,
        delay_reset: bool,
    ) -> None:
        super().__init__()
        check_numbers("v_threshold", v_threshold, "a number above 0", is_positive)
        check_reset(v_reset, detach_reset=detach_reset, delay_reset=delay_reset)
        self.v_reset = v_reset
        _own(self, "v_threshold", v_threshold)
        self.surrogate = chosen(surrogate)
        self.detach_reset, self.delay_reset = detach_reset, delay_reset

    @abstractmethod
    def decay(self) -> Number:
        """The decay per step that is in force."""

    def threshold(self) -> Number:
        """The threshold that is in force."""
        if isinstance(self.v_threshold, Tensor):
            return within(self.v_threshold, LOWEST_THRESHOLD)
        return self.v_threshold

    def init_state(self, x: Tensor) -> State:
        check_step(x)
        self._fitting(x.shape)
        return lif_rest(x, self._reset())

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return lif_step(x, state, self.decay(), self.threshold(), self.surrogate, self._reset())

    def forward(self, x: Tensor) -> Tensor:
        check_currents(x)
        return kernels.lif(x, *self._fitting(x.shape[1:]), self.v_reset, self.surrogate, *self._reset()[1:])

    def hold(self, x: Tensor, num_steps: int) -> Tensor:
        check_held(x, num_steps)
        numbers = self._fitting(x.shape)
        return kernels.lif_hold(x, num_steps, *numbers, self.v_reset, self.surrogate, *self._reset()[1:])

    def extra_repr(self) -> str:
        with torch.no_grad():
            numbers = {"beta": self.decay(), "v_threshold": self.threshold(), "v_reset": self.v_reset}
        shown = [f"{name}={value.tolist() if isinstance(value, Tensor) else value}" for name, value in numbers.items()]
        flags = [f"detach_reset={self.detach_reset}, delay_reset={self.delay_reset}, surrogate={self.surrogate}"]
        return ", ".join(shown + flags)

    def _fitting(self, step: torch.Size) -> tuple[Number, Number]:
        """Decay and threshold, which fit a ``step`` of the currents."""
        beta, v_threshold = self.decay(), self.threshold()
        check_fits(step, beta=beta, v_threshold=v_threshold)
        return beta, v_threshold

    def _reset(self) -> Reset:
        return Reset(self.v_reset, self.detach_reset, self.delay_reset)


class LIF(_Integrator):
    """Leaky integrate-and-fire. Per step, from v = 0:

        v = beta * v + x                  charge
        s = 1 where v >= v_threshold      fire
        v = v - v_threshold * s           reset; with a number for ``v_reset``: v = v_reset where s

    beta          decay per step in [0, 1]: a number, or an ``nn.Parameter``, which is learned and clamped to [0, 1]
    v_threshold   a number > 0, or an ``nn.Parameter``, which is learned and kept above 0
    v_reset       the membrane after a spike; ``None`` subtracts ``v_threshold``
    surrogate     from ``spikelet.surrogate``, or its name; ``None``: ``atan()``
    detach_reset  no gradient through the reset's dependence on the spike
    delay_reset   the reset of a spike at t takes place in step t + 1, as in snnTorch:
                  v[t] = beta * v[t-1] + x[t] - v_threshold * s[t-1]; with a number for ``v_reset``
                  v[t] = beta * (v_reset where s[t-1], else v[t-1]) + x[t], whose spikes are those without delay

    A parameter has one element, or one per neuron (it broadcasts with [N, ...]); the former runs in the fused kernels.

    >>> x = torch.full((4, 1), 0.7)
    >>> LIF(beta=0.5, v_threshold=1.0)(x).flatten().tolist()
    [0.0, 1.0, 0.0, 1.0]
    >>> LIF(beta=0.5).hold(x[0], num_steps=4).flatten().tolist()
    [0.0, 1.0, 0.0, 1.0]
    """

    beta: float | Tensor

    def __init__(
        self,
        beta: float | nn.Parameter = 0.9,
        v_threshold: float | nn.Parameter = 1.0,
        v_reset: float | None = None,
        surrogate: Spike | str | None = None,
        detach_reset: bool = True,
        delay_reset: bool = False,
    ) -> None:
        super().__init__(v_threshold, v_reset, surrogate, detach_reset, delay_reset)
        check_numbers("beta", beta, "a decay per step in [0, 1]", is_decay)
        _own(self, "beta", beta)

    @classmethod
    def from_tau(cls, tau: float, dt: float, **settings: Any) -> LIF:
        """With the decay of a time constant ``tau`` at steps of ``dt``, both in seconds: beta = exp(-dt / tau).

        >>> round(LIF.from_tau(tau=60e-3, dt=5e-3).beta, 5)
        0.92004
        """
        return LIF(beta_from_tau(tau, dt), **settings)

    def decay(self) -> Number:
        return within(self.beta, 0, 1) if isinstance(self.beta, Tensor) else self.beta


class IF(LIF):
    """Integrate-and-fire: a ``LIF`` without leak.

    >>> IF(v_threshold=1.0)(torch.full((4, 1), 0.5)).flatten().tolist()
    [0.0, 1.0, 0.0, 1.0]
    """

    def __init__(
        self,
        v_threshold: float | nn.Parameter = 1.0,
        v_reset: float | None = None,
        surrogate: Spike | str | None = None,
        detach_reset: bool = True,
        delay_reset: bool = False,
    ) -> None:
        super().__init__(1.0, v_threshold, v_reset, surrogate, detach_reset, delay_reset)


class PLIF(_Integrator):
    """Parametric LIF: a ``LIF`` whose decay is learned as beta = 1 - sigmoid(w), from 1 - 1 / tau on.

    ``tau`` > 1 is in steps. The input is not scaled by 1 / tau. Source: Fang et al., ICCV 2021.

    >>> neuron = PLIF(tau=2.0, v_reset=0.0)
    >>> neuron(torch.full((4, 1), 1.6 / 2)).flatten().tolist(), neuron.decay().item()
    ([0.0, 1.0, 0.0, 1.0], 0.5)
    """

    def __init__(
        self,
        tau: float = 2.0,
        v_threshold: float | nn.Parameter = 1.0,
        v_reset: float | None = None,
        surrogate: Spike | str | None = None,
        detach_reset: bool = True,
        delay_reset: bool = False,
    ) -> None:
        super().__init__(v_threshold, v_reset, surrogate, detach_reset, delay_reset)
        check_number("tau", tau, "a number, more than 1 step", lambda x: 1 < x < math.inf)
        self.w = nn.Parameter(torch.tensor(-math.log(tau - 1)))

    def decay(self) -> Number:
        return 1 - self.w.sigmoid()


def _own(neuron: nn.Module, name: str, value: float | Tensor) -> None:
    """Keep a number or a parameter as an attribute, a plain tensor as a buffer, which moves with the module."""
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        neuron.register_buffer(name, value)
    else:
        setattr(neuron, name, value)
