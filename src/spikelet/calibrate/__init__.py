"""Calibration: a network corrected after training, from unlabelled images, so that fewer steps say the same."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from spikelet.arguments import check_whole
from spikelet.calibrate.corrections import correct_bias, correct_potential, correct_weights, walk
from spikelet.calibrate.soft_reset import SHIFTS, activations, check, to_soft_reset
from spikelet.calibrate.thresholds import mmse_thresholds, staircase
from spikelet.errors import ConversionError, SpikeletError
from spikelet.networks import SNN, Network, SpikePool, SpikingBlock
from spikelet.neurons import LIF

__all__ = ["LEVELS", "SHIFTS", "calibrate", "mmse_thresholds", "staircase", "to_soft_reset"]

LEVELS = ("none", "light", "advanced")


def calibrate(
    network: Network | SNN,
    images: Tensor,
    level: str = "advanced",
    num_steps: int = 32,
    *,
    per_channel: bool = False,
    shift: str = "start",
    seed: int = 1,
    track: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> SNN:
    """The spiking network that says in ``num_steps`` steps what ``network`` says, corrected on ``images``.

    Of an ANN with plain ReLUs: IF neurons with soft reset (``to_soft_reset``), whose thresholds have the least square
    error on the images (``mmse_thresholds``), for each layer or ``per_channel``. Of an ``SNN`` of LIF neurons: itself
    in fewer steps than its own ``num_steps``, which are its teacher.

        none      no correction
        light     per layer, in order: the bias of each channel, so that the layer sends what its teacher sends
        advanced  per layer, in order: weights (of an ANN's layer only), bias, then initial potentials, one per neuron

    Published, light is one batch, and advanced leaves the biases as they are; here a layer is corrected when all those
    in front of it have been, and biases always are. The neurons' shift is where it helps, at the ``start``.

    shift   of an ANN's neurons, see ``to_soft_reset``: "start", or as published "spread"
    images  uint8 [N, C, H, W], pixels 0 to 255, training images that need no labels; 1,024 are plenty
    seed    of the batches with which weights are corrected
    track   is given the layers and yields them, such as ``rich.progress.track``

    Raises SpikeletError for bad arguments, ConversionError for a network that has no such form.

    Source: Li et al., "A Free Lunch From ANN", ICML 2021 (reference 2.9).

    >>> from spikelet.networks import NetworkSettings, build
    >>> ann = build(NetworkSettings("4C3-AP2-FC10", k=None, weights="float", first="parity", last="parity"), (1, 8, 8))
    >>> images = torch.randint(256, (20, 1, 8, 8), dtype=torch.uint8)
    >>> calibrate(ann.eval(), images, "light", num_steps=4).run(images, 4).logits.shape
    (4, 20, 10)
    """
    _check(network, images, level, num_steps)
    if isinstance(network, Network):
        student, teacher = _of_ann(network, images, num_steps, per_channel, shift)
    else:
        student, teacher = _of_snn(network, images, num_steps)
    if level == "none":
        return student
    generator = torch.Generator().manual_seed(seed)
    layers = [layer for layer in student.layers if isinstance(layer, SpikingBlock)]
    for _, (layer, inputs), target in zip(track(layers), walk(student, images, num_steps), teacher, strict=True):
        if level == "advanced" and isinstance(network, Network):
            correct_weights(layer, inputs, target, num_steps, generator)
        correct_bias(layer, inputs, target)
        if level == "advanced":
            correct_potential(layer, inputs, target, num_steps)
    return student


def _of_ann(
    network: Network, images: Tensor, num_steps: int, per_channel: bool, shift: str
) -> tuple[SNN, Iterator[Tensor]]:
    """IF neurons, and what they should send: the ANN's activations over their thresholds."""
    check(network)
    hidden = [*network.blocks()][:-1]
    found = zip(hidden, activations(network, images), strict=False)
    thresholds = [mmse_thresholds(a, num_steps, per_channel) for _, a in found]

    def teacher() -> Iterator[Tensor]:
        for a, theta in zip(activations(network, images), [*thresholds, torch.ones(1)], strict=True):
            yield a / theta.reshape(-1, *[1] * (a.dim() - 2))

    return to_soft_reset(network, thresholds, num_steps, shift), teacher()


def _of_snn(network: SNN, images: Tensor, num_steps: int) -> tuple[SNN, Iterator[Tensor]]:
    """The network with fewer steps, and what it sends per step in all of its own."""
    student, steps = deepcopy(network).eval(), network.num_steps
    student.settings.num_steps, student.settings.stop_after = num_steps, None

    def teacher() -> Iterator[Tensor]:
        for layer, inputs in walk(deepcopy(network).eval(), images, steps):
            with torch.no_grad():
                yield torch.cat([out.mean(0) for out in inputs.through(layer)])

    return student, teacher()


def _check(network: Network | SNN, images: Tensor, level: str, num_steps: int) -> None:
    if level not in LEVELS:
        raise SpikeletError(f"level: expected one of {', '.join(LEVELS)}, got {level!r}")
    check_whole("num_steps", num_steps)
    if not isinstance(network, Network | SNN):
        raise SpikeletError(f"network: expected what spikelet.build makes, got {type(network).__name__}")
    if not isinstance(images, Tensor) or images.dim() != 4 or tuple(images.shape[1:]) != network.input_shape:
        shape = ", ".join(map(str, network.input_shape))
        given = [*images.shape] if isinstance(images, Tensor) else type(images).__name__
        raise SpikeletError(f"images: expected [N, {shape}], got {given}")
    if not len(images):
        raise SpikeletError("images: expected at least one, got none; there is nothing to calibrate on")
    if isinstance(network, SNN):
        _check_trained(network, num_steps)


def _check_trained(network: SNN, num_steps: int) -> None:
    if network.coding is not None:
        raise ConversionError(f"model.coding: a mix of codes cannot be calibrated yet; got {network.settings.coding}")
    for name, layer in network.layers.named_children():
        if not isinstance(layer, SpikingBlock | SpikePool):
            raise ConversionError(f"layer {name}: a {type(layer).__name__} cannot be calibrated yet")
        if isinstance(layer, SpikingBlock) and not isinstance(layer.neuron, LIF | None):
            raise ConversionError(f"layer {name}: expected LIF neurons, got {layer.neuron}")
    if not network.settings.bias and network.settings.norm == "none":
        raise SpikeletError("model.bias: false leaves no bias to correct; expected true, or a batch norm")
    if num_steps >= network.num_steps:
        raise SpikeletError(
            f"num_steps: a network that was trained with {network.num_steps} steps is its own teacher; "
            f"expected 1 to {network.num_steps - 1}, got {num_steps}"
        )
