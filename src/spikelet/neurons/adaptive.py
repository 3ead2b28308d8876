"""Leaky integrate-and-fire that corrects itself: its threshold follows its spikes, its leak the layer's membranes."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikelet import kernels
from spikelet.arguments import check_flag, check_number
from spikelet.errors import SpikeletError
from spikelet.kernels.reference import Adaptation, Adaptive, Number, Reset, Spike, adaptive_rest, adaptive_step
from spikelet.neurons.base import (
    LOWEST_THRESHOLD,
    Neuron,
    State,
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


class AdaptiveLIF(Neuron):
    """A ``LIF`` whose threshold and leak move. Per step, from v = 0 and theta = theta0:

        beta  = sigmoid(w + b * mean(v))                                         leak: w, b learned
        v     = beta * v + x
        s     = 1 where v >= theta
        v     = v - theta * s                                                    or v_reset where s
        theta = decay * theta + (1 - decay) * theta0 + growth * mean(s of the last three steps)

    ``mean(v)`` is that of a sample over the layer, ``mean(s)`` a neuron's own, where no spikes are before the first
    step. theta0 is learned, as softplus of a parameter. At a constant rate r the threshold settles at
    theta0 + growth * r / (1 - decay), with the defaults theta0 + r.

    beta          decay per step in [0, 1], where the leak moves strictly between; it begins there, with b = 0
    v_threshold   theta0 > 0, where it begins
    v_reset       the membrane after a spike; None subtracts the threshold that was passed
    surrogate     as of ``LIF``
    detach_reset  no gradient through the reset's dependence on the spike; it always flows through the thresholds'
    adaptation    which parts move; ``beta`` or ``v_threshold`` of one that does not is a number or an ``nn.Parameter``,
                  as of ``LIF``. Without any this is ``LIF``

    Source: reference 6.2 and 6.4, after Bellec et al., NeurIPS 2018 (threshold), and Fang et al., ICCV 2021 (leak).

    >>> neuron = AdaptiveLIF(beta=0.5, adaptation=Adaptation(leak=False))
    >>> x = torch.ones(8, 1)
    >>> neuron(x).flatten().tolist()
    [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    >>> spikes, (v, theta, *_) = neuron.step(x[0], neuron.init_state(x[0]))
    >>> spikes.item(), round(theta.item(), 4)
    (1.0, 1.0333)
    """

    def __init__(
        self,
        beta: float | nn.Parameter = 0.9,
        v_threshold: float | nn.Parameter = 1.0,
        v_reset: float | None = None,
        surrogate: Spike | str | None = None,
        detach_reset: bool = True,
        adaptation: Adaptation | None = None,
    ) -> None:
        super().__init__()
        self.adaptation = Adaptation() if adaptation is None else adaptation
        _check(beta, v_threshold, self.adaptation)
        check_reset(v_reset, detach_reset=detach_reset)
        self.surrogate, self.reset = chosen(surrogate), Reset(v_reset, detach_reset)
        if self.adaptation.leak:
            self.w, self.b = _learned(math.log(beta / (1 - beta))), _learned(0.0)
        else:
            self.beta = beta
        if self.adaptation.threshold:
            self.theta = _learned(float(v_threshold) + math.log(-math.expm1(-v_threshold)))
        else:
            self.v_threshold = v_threshold

    def threshold(self) -> Number:
        """theta0, the threshold at rest."""
        if self.adaptation.threshold:
            return functional.softplus(self.theta)
        if isinstance(self.v_threshold, Tensor):
            return within(self.v_threshold, LOWEST_THRESHOLD)
        return self.v_threshold

    def numbers(self) -> Adaptive:
        """What ``kernels.adaptive`` takes: the decay per step, or w and b, and the threshold at rest."""
        if self.adaptation.leak:
            return self.w, self.b, self.threshold()
        beta = within(self.beta, 0, 1) if isinstance(self.beta, Tensor) else self.beta
        return beta, 0.0, self.threshold()

    def init_state(self, x: Tensor) -> State:
        check_step(x)
        self._fitting(x.shape)
        return adaptive_rest(x, self.threshold())

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return adaptive_step(x, state, self.numbers(), self.adaptation, self.surrogate, self.reset)

    def forward(self, x: Tensor) -> Tensor:
        check_currents(x)
        return kernels.adaptive(x, self._fitting(x.shape[1:]), self.adaptation, self.surrogate, self.reset)

    def hold(self, x: Tensor, num_steps: int) -> Tensor:
        check_held(x, num_steps)
        return kernels.adaptive(x, self._fitting(x.shape), self.adaptation, self.surrogate, self.reset, num_steps)

    def _fitting(self, step: torch.Size) -> Adaptive:
        """``numbers``, which fit a ``step`` of the currents."""
        decay, follows, v_threshold = self.numbers()
        check_fits(step, beta=decay, v_threshold=v_threshold)
        return decay, follows, v_threshold

    def extra_repr(self) -> str:
        with torch.no_grad():
            numbers = [n.tolist() if isinstance(n, Tensor) else n for n in self.numbers()]
        shown = "w={}, b={}, theta0={}" if self.adaptation.leak else "beta={}, b={}, theta0={}"
        flags = f"v_reset={self.reset.value}, detach_reset={self.reset.detached}, surrogate={self.surrogate}"
        return f"{shown.format(*numbers)}, {flags}, {self.adaptation}"


def _learned(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value))


def _check(beta: Number, v_threshold: Number, adaptation: Adaptation) -> None:
    """One clear error for numbers that make no neuron."""
    if not isinstance(adaptation, Adaptation):
        raise SpikeletError(f"adaptation: expected a neurons.Adaptation, got {adaptation!r}")
    for name in ("threshold", "leak"):
        check_flag(f"adaptation.{name}", getattr(adaptation, name))
    check_number("adaptation.decay", adaptation.decay, "a decay in [0, 1]", is_decay)
    check_number("adaptation.growth", adaptation.growth, "at least 0", lambda x: 0 <= x < math.inf)
    for name, value, moves in (
        ("beta", beta, adaptation.leak),
        ("v_threshold", v_threshold, adaptation.threshold),
    ):  # a part that moves has parameters of its own
        if isinstance(value, Tensor) and moves:
            raise SpikeletError(f"{name}: of a part that moves, expected a number, where it begins, got a tensor")
    check_numbers("beta", beta, "a decay per step in [0, 1]", is_decay)
    if adaptation.leak and not 0 < beta < 1:
        raise SpikeletError(f"beta: of a leak that moves, expected more than 0 and less than 1, got {beta}")
    check_numbers("v_threshold", v_threshold, "a number above 0", is_positive)
