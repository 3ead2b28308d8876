"""A quantized network: one pass, activations that are counts of spikes."""

import torch
from torch import Tensor, nn

from spikelet.errors import SpikeletError
from spikelet.networks.layers import Block, Shape
from spikelet.networks.settings import NetworkSettings


class Network(nn.Module):
    """A quantized network: ``network(images [N, C, H, W], pixels 0..255) -> logits [N, classes]``."""

    def __init__(self, layers: nn.Sequential, settings: NetworkSettings, input_shape: Shape) -> None:
        super().__init__()
        self.layers, self.settings, self.input_shape = layers, settings, input_shape

    def forward(self, images: Tensor) -> Tensor:
        weight = next(self.parameters())
        if not isinstance(images, Tensor):
            raise SpikeletError(f"images: expected a tensor, got {type(images).__name__}")
        if images.dim() != 4 or tuple(images.shape[1:]) != self.input_shape:
            raise SpikeletError(f"images: expected [N, {', '.join(map(str, self.input_shape))}], got {[*images.shape]}")
        x = images.to(weight.dtype) / self.settings.pixel_scale
        return self.layers(x.contiguous(memory_format=torch.channels_last))

    def blocks(self) -> dict[str, Block]:
        """The weighted layers by name, in order."""
        return {name: module for name, module in self.layers.named_modules() if isinstance(module, Block)}


def answers(network: nn.Module, x: Tensor) -> Tensor:
    """The logits of ``network`` in evaluation mode, without gradient; its mode is left as it was."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            return network(x)
    finally:
        network.train(training)
