"""What a network is asked to save while it learns: operations, spikes, time steps. Each is a term of the loss."""

from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor

from spikelet.errors import SpikeletError
from spikelet.metrics import macs
from spikelet.networks import SNN, Network, OperationMeter, measure_operations, record_spikes
from spikelet.training.settings import TrainSettings

SOFTNESS = 0.05  # of the exit rule: the confidence over which leaving goes from unlikely to likely


class Costs:
    """The terms that ``settings`` give a weight, of a batch of N samples:

    operations  synaptic operations per sample, in millions
    activity    synaptic operations as a fraction of all that would happen if every neuron spiked at every step
    rates       mean over the layers of max(0, firing rate - rate_target)^2
    exit        the step at which a sample is expected to be answered, as a fraction of all steps (``expected_exit``)

    The input's own operations are nobody's choice and not counted.
    """

    def __init__(self, network: Network | SNN, settings: TrainSettings) -> None:
        self.network, self.settings = network, settings
        weights = {
            "operations": settings.operation_cost,
            "activity": settings.activity_cost,
            "rates": settings.rate_cost,
            "exit": settings.exit_cost,
        }
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self._meter = OperationMeter(network) if self.weights.keys() & {"operations", "activity"} else None
        blocks = [] if self._meter is None else self._meter.blocks
        steps = network.settings.num_steps if isinstance(network, SNN) else 1
        self._dense = steps * sum(macs(block.op, block.input_shape) for block in blocks)
        if "activity" in self.weights and not self._dense:
            raise SpikeletError("train.activity_cost: no spikes reach a layer of this network; expected 0")

    def measure(self, forward: Callable[[], Tensor], num: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits that ``forward`` gives of ``num`` samples, and each term that has a weight."""
        with ExitStack() as stack:
            if self._meter is not None:
                stack.enter_context(measure_operations(self.network, self._meter))
            rates = {}
            if "rates" in self.weights:
                assert isinstance(self.network, SNN)
                rates = stack.enter_context(
                    record_spikes(self.network, lambda spikes: spikes.mean(dtype=torch.float32))
                )
            logits = forward()
        found = {}
        if self._meter is not None:
            operations = self._meter.total / num
            found = {"operations": operations / 1e6, "activity": operations / self._dense}
        if rates:
            excess = torch.stack([*rates.values()]) - self.settings.rate_target
            found["rates"] = excess.clamp(min=0).square().mean()
        if "exit" in self.weights:
            found["exit"] = expected_exit(logits, self.settings.exit_confidence) / len(logits)
        return logits, {name: found[name] for name in self.weights}

    def total(self, terms: dict[str, Tensor], epoch: float) -> Tensor | float:
        """The weighted sum of ``terms``, whose weights grow linearly from 0 over the first ``cost_ramp`` epochs."""
        ramp = self.settings.cost_ramp
        return min(1.0, epoch / ramp if ramp else 1.0) * sum(self.weights[name] * term for name, term in terms.items())


def expected_exit(logits: Tensor, confidence: float) -> Tensor:
    """The step, 1 to T, at which a sample is expected to be answered; mean over the batch, with a gradient.

    logits [T, N, C]: what each step adds. With c[t] the largest softmax of their sum so far, a sample that is still
    there leaves at step t with probability q[t] = sigmoid((c[t] - confidence) / 0.05), and at T whatever happens:
    E = 1 + sum over t < T of the product over s <= t of (1 - q[s]). A soft ``exits.Confidence``.

    >>> silent = torch.zeros(4, 1, 10)  # c = 0.1 at every step
    >>> round(expected_exit(silent, confidence=0.9).item(), 4), expected_exit(100 * torch.eye(10)[None], 0.9).item()
    (4.0, 1.0)
    """
    told = logits.float().cumsum(0)[:-1].softmax(-1).amax(-1)
    stays = torch.sigmoid((confidence - told) / SOFTNESS)
    return 1 + stays.cumprod(0).sum(0).mean()
