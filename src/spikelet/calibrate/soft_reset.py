"""From an ANN of plain ReLUs to a network of IF neurons with soft reset, in floating point."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spikelet.arguments import check_whole
from spikelet.errors import ConversionError, SpikeletError
from spikelet.networks import SNN, Block, Network, build
from spikelet.networks.published import expanded
from spikelet.neurons import Primed

BATCH = 64  # samples that are computed at a time
SHIFTS = ("start", "spread")

# What a network of ReLUs becomes: IF neurons behind every layer, whose bias is the folded batch norm.
IF_SETTINGS: dict[str, Any] = {
    "pool": "conv",
    "weights": "float",
    "first": "parity",
    "last": "parity",
    "neuron": "lif",
    "beta": 1.0,
    "v_threshold": 1.0,
    "reset": "subtract",
    "norm": "none",
    "bias": True,
    "readout": "current",
    "stop_after": None,
}


def check(network: Network) -> None:
    """Raise ConversionError, naming the layer and why, where ``network`` has no form of IF neurons."""
    if len(network.blocks()) < 2:
        raise ConversionError("network: a single layer has no neurons; expected at least one hidden layer")
    for name, layer in network.layers.named_children():
        if isinstance(layer, Block):
            _check_block(name, layer)
        elif not isinstance(layer, nn.AvgPool2d):
            raise ConversionError(
                f"layer {name}: a {type(layer).__name__} has no form of IF neurons yet; expected layers and averages"
            )


def _check_block(name: str, block: Block) -> None:
    if not isinstance(block.activation, nn.ReLU | None):
        raise ConversionError(
            f"layer {name}: its activation is a count of spikes, whose conversion loses nothing (spikelet convert): "
            "there is nothing to calibrate; expected a plain ReLU, model.k=null"
        )
    if not all(bool(torch.isfinite(v).all()) for v in block.state_dict().values()):
        raise ConversionError(f"layer {name}: a weight or batch norm value is not finite; the training diverged")


@torch.no_grad()
def activations(network: Network, images: Tensor) -> Iterator[Tensor]:
    """What each weighted layer gives for ``images``, one after the other: [N, C, H, W] or [N, C]."""
    x, pools = images, nn.Sequential()
    for layer in network.layers:
        if isinstance(layer, Block):
            make = nn.Sequential(*pools, layer)
            scale = network.settings.pixel_scale if x is images else 1.0
            x = torch.cat([make(part.to(layer.op.weight.dtype) / scale) for part in x.split(BATCH)])
            pools = nn.Sequential()
            yield x
        else:
            pools.append(layer)


@torch.no_grad()
def to_soft_reset(network: Network, thresholds: Sequence[Tensor], num_steps: int, shift: str = "start") -> SNN:
    """The IF network of an ANN with plain ReLUs, an ``SNN``: batch norm folded, averages of spikes, spikes of 0 and 1.

    A neuron with threshold theta, whose spikes are theta high, is the same as one with threshold 1 and spikes of 1
    when its weights are divided by theta and the next layer's are multiplied with it. Per step, from v = 1/2:

        v = v + W * theta_in / theta * spikes + b / theta
        s = 1 where v >= 1;  v = v - s

    The readout has no neuron: the mean of its currents over T are the logits, in the ANN's unit.

    thresholds  [C] of every layer but the last, such as ``mmse_thresholds`` finds
    num_steps   T
    shift       "start" is that v = 1/2; "spread", as published, adds it over time, 1 / (2 T) per step, from v = 0. What
                a neuron has received after T steps is the same, but spikes come later, and the next layer waits

    Raises ConversionError, naming the layer and why, for what has no such form.

    Source: Li et al., "A Free Lunch From ANN", ICML 2021 (reference 2.9).

    >>> from spikelet.networks import NetworkSettings
    >>> ann = build(NetworkSettings("4C3-AP2-FC10", k=None, weights="float", first="parity", last="parity"), (1, 8, 8))
    >>> snn = to_soft_reset(ann.eval(), [torch.ones(4)], num_steps=8)
    >>> snn(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([8, 2, 10])
    """
    check(network)
    check_whole("num_steps", num_steps)
    if shift not in SHIFTS:
        raise SpikeletError(f"shift: expected one of {', '.join(SHIFTS)}, got {shift!r}")
    blocks = [*network.blocks().values()]
    sizes = [block.op.weight.shape[0] for block in blocks[:-1]]
    if [tuple(v.shape) for v in thresholds] != [(size,) for size in sizes]:
        raise SpikeletError(
            f"thresholds: expected one for each channel, {sizes}, got {[[*v.shape] for v in thresholds]}"
        )
    settings = replace(network.settings, notation=_notation(network), num_steps=num_steps, **IF_SETTINGS)
    made = build(settings, network.input_shape)
    assert isinstance(made, SNN)
    into = torch.ones(network.input_shape[0])
    for block, layer, theta in zip(blocks, made.blocks().values(), [*thresholds, None], strict=True):
        weight, bias = _folded(block)
        weight = weight * _of_inputs(into, block)
        if theta is not None:
            weight, bias, into = weight / _column(theta, weight), bias / theta, theta
            if shift == "spread":
                bias += 1 / (2 * num_steps)
            else:
                assert layer.neuron is not None
                layer.neuron = Primed(layer.neuron, torch.tensor(0.5))
        layer.op.weight.copy_(weight)
        layer.op.bias.copy_(bias)  # type: ignore[union-attr]
    return made.eval()


def _notation(network: Network) -> str:
    """The network's notation, in which averages are of spikes."""
    tokens = expanded(network.settings.notation).split("-")
    average = r"AP.*|P\d.*" if network.settings.pool == "avg" else r"AP.*"
    return "-".join(re.sub("^A?P", "SAP", token) if re.fullmatch(average, token) else token for token in tokens)


def _folded(block: Block) -> tuple[Tensor, Tensor]:
    """Weight and bias with the batch norm in them."""
    weight, norm = block.op.weight, block.norm
    bias = block.op.bias if block.op.bias is not None else weight.new_zeros(weight.shape[0])
    if norm is None:
        return weight, bias
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()  # type: ignore[operator,arg-type]
    return weight * _column(gain, weight), norm.bias + gain * (bias - norm.running_mean)  # type: ignore[operator]


def _of_inputs(theta: Tensor, block: Block) -> Tensor:
    """The thresholds [C] of the layer in front of ``block``, shaped to be multiplied with its weight."""
    op = block.op
    if isinstance(op, nn.Linear):
        return theta.reshape(-1, 1, 1).expand(block.input_shape).flatten()
    return theta.reshape(op.groups, -1).repeat_interleave(op.out_channels // op.groups, 0)[:, :, None, None]


def _column(values: Tensor, weight: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (weight.dim() - 1))
