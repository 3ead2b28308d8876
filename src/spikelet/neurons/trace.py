"""The neuron of TSSL-BP: what it sends is the trace that its spikes leave behind the synapse."""

import math

from torch import Tensor

from spikelet.arguments import check_number
from spikelet.kernels.reference import spikes_of_trace, trace, trace_lif, trace_lif_rest, trace_lif_step
from spikelet.neurons.base import Neuron, State, check_currents, check_step, is_positive


class TraceLIF(Neuron):
    """Leaky integrate-and-fire that sends its post-synaptic trace. Per step, from u = s = a = 0:

        u[t] = (1 - 1/tau_m) * u[t-1] * (1 - s[t-1]) + x[t]
        s[t] = 1 where u[t] >= v_threshold                         published: >
        a[t] = a[t-1] + (s[t] - a[t-1]) / tau_s                    what is sent

    The spikes are those of ``LIF(1 - 1/tau_m, v_threshold, v_reset=0)``; times in steps, both at least 1. ``signal``
    makes traces of an input, ``spikes`` makes whole numbers of traces. The gradient is TSSL-BP's, of whole sequences
    (``kernels.reference.trace_lif_gradient``): ``forward`` and ``hold`` have it, ``step`` has none.
    Source: Zhang & Li, NeurIPS 2020 (reference 2.7).

    >>> import torch
    >>> neuron = TraceLIF(tau_m=5.0, tau_s=3.0)
    >>> sent = neuron(torch.full((5, 1), 0.6))
    >>> [round(a, 4) for a in sent.flatten().tolist()], neuron.spikes(sent).flatten().tolist()
    ([0.0, 0.3333, 0.2222, 0.4815, 0.321], [0.0, 1.0, 0.0, 1.0, 0.0])
    """

    def __init__(self, tau_m: float = 5.0, tau_s: float = 3.0, v_threshold: float = 1.0) -> None:
        super().__init__()
        for name, tau in (("tau_m", tau_m), ("tau_s", tau_s)):
            check_number(name, tau, "a number, at least 1 step", lambda x: 1 <= x < math.inf)
        check_number("v_threshold", v_threshold, "a number above 0", is_positive)
        self.tau_m, self.tau_s, self.v_threshold = tau_m, tau_s, v_threshold

    def init_state(self, x: Tensor) -> State:
        check_step(x)
        return trace_lif_rest(x)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return trace_lif_step(x, state, self.tau_m, self.tau_s, self.v_threshold)

    def forward(self, x: Tensor) -> Tensor:
        check_currents(x)
        return trace_lif(x, self.tau_m, self.tau_s, self.v_threshold)

    def signal(self, spikes: Tensor) -> Tensor:
        return trace(spikes, self.tau_s)

    def spikes(self, signal: Tensor) -> Tensor:
        return spikes_of_trace(signal, self.tau_s)

    def extra_repr(self) -> str:
        return f"tau_m={self.tau_m}, tau_s={self.tau_s}, v_threshold={self.v_threshold}"
