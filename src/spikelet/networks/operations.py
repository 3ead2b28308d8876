"""What a forward pass costs, measured while it runs: synaptic operations that can be trained on, and spikes."""

from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spikelet.metrics import fanout
from spikelet.networks.layers import Block, SpikingBlock
from spikelet.networks.network import Network
from spikelet.networks.snn import SNN


class OperationMeter:
    """Adds up the synaptic operations of a forward pass: activation counts times true fan-out, differentiable.

    Those of the ``blocks``: all but the first, which reads the input.

    >>> from spikelet.networks import build
    >>> network = build("4C3-P2-FC10", (1, 8, 8))
    >>> with measure_operations(network) as meter:
    ...     _ = network(torch.rand(2, 1, 8, 8) * 255)
    >>> meter.total.shape
    torch.Size([])
    """

    def __init__(self, network: Network | SNN) -> None:
        blocks = [*network.blocks().values()]
        if not (isinstance(network, SNN) and network.surface is not None):
            blocks = blocks[1:]  # what reaches the first one is the input
        self.total = torch.zeros(())
        self.blocks = blocks
        self._fanout = {b: (fanout(b.op, b.input_shape) / b.input_unit).float() for b in blocks}
        self._neuron = network.neuron() if isinstance(network, SNN) else None

    def add(self, block: Block | SpikingBlock, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0] if self._neuron is None else self._neuron.spikes(inputs[0]).flatten(0, 1)
        x = x.sum(0, dtype=torch.float32)
        weights = self._fanout[block] = self._fanout[block].to(x.device)
        self.total = self.total + (x * weights.reshape(x.shape)).sum()


@contextmanager
def measure_operations(network: Network | SNN, meter: OperationMeter | None = None):
    """While open, ``meter.total`` is the number of operations of the last forward pass, summed over the batch."""
    meter = meter or OperationMeter(network)
    meter.total = torch.zeros((), device=next(network.parameters()).device)
    hooks = [block.register_forward_pre_hook(meter.add) for block in meter._fanout]
    try:
        yield meter
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def record_spikes(network: SNN, reduce: Callable[[Tensor], Tensor] = torch.detach):
    """While open, a forward pass leaves ``reduce(spikes [T, N, ...])`` of every layer in the yielded dictionary.

    >>> from spikelet.networks import NetworkSettings, build
    >>> network = build(NetworkSettings("4C3-FC10", neuron="lif", num_steps=5), (1, 8, 8))
    >>> with record_spikes(network) as spikes:
    ...     _ = network(torch.zeros(2, 1, 8, 8))
    >>> {name: tuple(train.shape) for name, train in spikes.items()}
    {'4C3': (5, 2, 4, 6, 6), 'FC10': (5, 2, 10)}
    """
    found: dict[str, Tensor] = {}
    neuron = network.neuron()

    def watch(name: str):
        def hook(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found[name] = reduce(neuron.spikes(output))

        return hook

    hooks = [block.register_forward_hook(watch(name)) for name, block in network.spiking().items()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def firing_rate(spikes: Tensor) -> Tensor:
    """Spikes per neuron, step and sample; float32 []."""
    return spikes.detach().mean(dtype=torch.float32)
