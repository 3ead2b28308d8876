"""12C5-MP2-64C5-MP2-FC10 for training, in spikelet and in its peers: the same weights, neurons, gradient and loss.

A peer's neuron resets as its library does: SpikingJelly in the step of the spike, snnTorch in the next. spikelet takes
part with the same neuron as each. A library is imported only when its network is built.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

NOTATION = "12C5-MP2-64C5-MP2-FC10"
BETA, ALPHA = 0.5, 2.0
GAINS = 2.2, 3, 3  # with these, layers fire about as often as in the network that recipe nmnist-csnn trains
Forward = Callable[[Tensor], Tensor]


class Missing(Exception):
    """A library that is not installed."""


def layers(channels: int, size: int, device: str) -> list[nn.Module]:
    """The weighted layers, the same numbers at every call."""
    torch.manual_seed(1)
    side = ((size - 4) // 2 - 4) // 2
    made = [nn.Conv2d(channels, 12, 5), nn.Conv2d(12, 64, 5), nn.Linear(64 * side * side, 10)]
    for layer, gain in zip(made, GAINS, strict=True):
        layer.weight.data *= gain
    return [layer.to(device) for layer in made]


class Trainer:
    """One network with its optimizer: ``step`` trains, ``infer`` answers; both on frames [T, N, P, H, W] float32.

    Frames and labels lie on its device.
    """

    def __init__(self, forward: Forward, modules: list[nn.Module], bf16: bool = False) -> None:
        self.forward, self.bf16 = forward, bf16
        self.parameters = [parameter for module in modules for parameter in module.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=1e-3)

    def step(self, frames: Tensor, labels: Tensor) -> float:
        """One update; the loss is the cross entropy of the mean spikes."""
        self.optimizer.zero_grad()
        with self._precision():
            spikes = self.forward(frames)
        spikes = spikes.float() if self.bf16 else spikes
        loss = functional.cross_entropy(spikes.mean(0), labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def infer(self, frames: Tensor) -> Tensor:
        """Spikes of the last layer, summed over time [N, 10]."""
        with self._precision():
            return self.forward(frames).float().sum(0)

    def _precision(self):
        device = self.parameters[0].device.type
        return torch.autocast(device, torch.bfloat16) if self.bf16 else nullcontext()


def spikelet(channels: int, size: int, device: str, reset: str, bf16: bool) -> Trainer:
    """Fused neurons, channels_last, one pass over all steps."""
    from spikelet import NetworkSettings, build

    ends = {"weights": "float", "first": "parity", "last": "parity", "norm": "none"}
    settings = NetworkSettings(NOTATION, neuron="lif", beta=BETA, surrogate="atan", slope=ALPHA, reset=reset, **ends)
    network = build(settings, (channels, size, size))
    for block, layer in zip(network.blocks().values(), layers(channels, size, "cpu"), strict=True):
        block.op.load_state_dict(layer.state_dict())
    return Trainer(network.to(device), [network], bf16)


def snntorch(channels: int, size: int, device: str, memory_format: torch.memory_format) -> Trainer:
    """A loop over steps, as its tutorials write it."""
    try:
        import snntorch as library
        from snntorch import surrogate
    except ImportError as error:
        raise Missing(str(error)) from None
    modules = [m.to(memory_format=memory_format) for m in layers(channels, size, device)]
    neurons = [library.Leaky(beta=BETA, spike_grad=surrogate.atan(alpha=ALPHA)).to(device) for _ in modules]

    def forward(frames: Tensor) -> Tensor:
        membranes, out = [neuron.init_leaky() for neuron in neurons], []
        for x in frames:
            x = x.contiguous(memory_format=memory_format)
            for i, module in enumerate(modules):
                x = module(x.flatten(1)) if i == 2 else functional.max_pool2d(module(x), 2)
                x, membranes[i] = neurons[i](x, membranes[i])
            out.append(x)
        return torch.stack(out)

    return Trainer(forward, modules)


def spikingjelly(channels: int, size: int, device: str, memory_format: torch.memory_format) -> Trainer:
    """Multi-step mode: layers see all steps at once, neurons choose the fastest kernels it has for a device."""
    try:
        from spikingjelly.activation_based import functional as library
        from spikingjelly.activation_based import layer, neuron, surrogate
    except ImportError as error:
        raise Missing(str(error)) from None
    modules = [m.to(memory_format=memory_format) for m in layers(channels, size, device)]
    conv1, conv2, linear = modules

    def lif() -> nn.Module:
        decay = {"tau": 1 / (1 - BETA), "decay_input": False, "v_reset": None}
        return neuron.LIFNode(**decay, surrogate_function=surrogate.ATan(ALPHA), detach_reset=True, step_mode="m")

    network = nn.Sequential(
        layer.SeqToANNContainer(conv1, nn.MaxPool2d(2)), lif(),
        layer.SeqToANNContainer(conv2, nn.MaxPool2d(2), nn.Flatten()), lif(),
        layer.SeqToANNContainer(linear), lif(),
    )  # fmt: skip

    def forward(frames: Tensor) -> Tensor:
        library.reset_net(network)
        flat = frames.flatten(0, 1).contiguous(memory_format=memory_format)
        return network(flat.unflatten(0, frames.shape[:2]))

    return Trainer(forward, modules)


CONTENDERS: dict[str, Callable[[int, int, str], Trainer]] = {
    "spikelet, float32": lambda c, s, d: spikelet(c, s, d, "subtract", bf16=False),
    "spikelet, bfloat16": lambda c, s, d: spikelet(c, s, d, "subtract", bf16=True),
    "spikelet, float32, reset in the next step": lambda c, s, d: spikelet(c, s, d, "subtract_next", bf16=False),
    "snnTorch (contiguous)": lambda c, s, d: snntorch(c, s, d, torch.contiguous_format),
    "snnTorch (channels_last)": lambda c, s, d: snntorch(c, s, d, torch.channels_last),
    "SpikingJelly (contiguous)": lambda c, s, d: spikingjelly(c, s, d, torch.contiguous_format),
    "SpikingJelly (channels_last)": lambda c, s, d: spikingjelly(c, s, d, torch.channels_last),
}
SAME = {  # which spikelet has the neuron of which peer
    "snnTorch (contiguous)": "spikelet, float32, reset in the next step",
    "SpikingJelly (contiguous)": "spikelet, float32",
}
IN_FLOAT64 = ("SpikingJelly (contiguous)",)  # snnTorch's spikes are float32 whatever its input is
