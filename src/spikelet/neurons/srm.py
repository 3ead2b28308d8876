"""The spike response model with a double-exponential kernel."""

from torch import Tensor

from spikelet import kernels
from spikelet.arguments import check_flag, check_number
from spikelet.errors import SpikeletError
from spikelet.kernels.reference import Decay, Spike, srm_rest, srm_step
from spikelet.neurons.base import (
    Neuron,
    State,
    beta_from_tau,
    check_currents,
    check_held,
    check_step,
    chosen,
    is_positive,
)


class SRM(Neuron):
    """Spike response model: an input raises the membrane slowly, over ``tau_s``, and is forgotten over ``tau_m``.

        m = exp(-dt / tau_m) * m + x
        c = exp(-dt / tau_s) * c + x
        u = tau_m / (tau_m - tau_s) * (m - c)
        s = 1 where u >= v_threshold; where s, m = c = 0

    Times in one unit, tau_m > tau_s > 0. An input shows one step late, since m and c grow by the same. Published with
    ``surrogate=boxcar(2 * v_threshold, height=1)`` and ``detach_reset=False``. Source: DTS-SNN, IEEE Access 2022.

    >>> import torch
    >>> x = torch.tensor([[0.3], [0.0], [0.0]])
    >>> SRM(tau_m=60e-3, tau_s=20e-3, dt=5e-3, v_threshold=0.05)(x).flatten().tolist()
    [0.0, 1.0, 0.0]
    """

    def __init__(
        self,
        tau_m: float = 60e-3,
        tau_s: float = 20e-3,
        dt: float = 5e-3,
        v_threshold: float = 0.05,
        surrogate: Spike | str | None = None,
        detach_reset: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("tau_m", tau_m), ("tau_s", tau_s), ("v_threshold", v_threshold)):
            check_number(name, value, "a number above 0", is_positive)
        if not tau_m > tau_s:
            raise SpikeletError(f"tau_m, tau_s: expected tau_m > tau_s > 0, got {tau_m} and {tau_s}")
        check_flag("detach_reset", detach_reset)
        self.decay = Decay(beta_from_tau(tau_m, dt), beta_from_tau(tau_s, dt), tau_m / (tau_m - tau_s))
        self.v_threshold, self.surrogate, self.detach_reset = v_threshold, chosen(surrogate), detach_reset

    def init_state(self, x: Tensor) -> State:
        check_step(x)
        return srm_rest(x)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return srm_step(x, state, self.decay, self.v_threshold, self.surrogate, self.detach_reset)

    def forward(self, x: Tensor) -> Tensor:
        check_currents(x)
        return kernels.srm(x, self.decay, self.v_threshold, self.surrogate, self.detach_reset)

    def hold(self, x: Tensor, num_steps: int) -> Tensor:
        check_held(x, num_steps)
        return kernels.srm_hold(x, num_steps, self.decay, self.v_threshold, self.surrogate, self.detach_reset)

    def extra_repr(self) -> str:
        flags = f"v_threshold={self.v_threshold}, detach_reset={self.detach_reset}, surrogate={self.surrogate}"
        return f"decay={tuple(self.decay)}, {flags}"
