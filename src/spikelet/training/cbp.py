"""Constrained backpropagation: one multiplier per weight, which grows for as long as the weight is off its levels."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from spikelet.errors import SpikeletError
from spikelet.kernels.penalty import add_penalty, flat
from spikelet.quantizers import CBP, latent_weight, weight_quantizer
from spikelet.quantizers.cbp import constraint

PART = 2**20  # weights whose constraint is worked out at a time
NARROW_FROM, DROP_AT = 10, 20  # windows from which on g grows by ten, and at which the learning rate falls, once


class ConstrainedLayer(NamedTuple):
    """A layer's quantizer, and the full-precision weight behind it."""

    quantizer: CBP
    latent: nn.Parameter


def constrained_layers(network: nn.Module) -> dict[str, ConstrainedLayer]:
    """The layers of ``network`` that have a ``CBP`` quantizer, by name. Raises SpikeletError where there is none."""
    found = {}
    for name, module in network.named_modules():
        if isinstance(quantizer := weight_quantizer(module), CBP):
            found[name] = ConstrainedLayer(quantizer, latent_weight(module))  # type: ignore[arg-type]
    if not found:
        raise SpikeletError("network: no layer has a CBP quantizer; call quantize(network, levels) first")
    return found


@dataclass
class Schedule:
    """When the window narrows and the multipliers move: at most once per epoch (reference 2.4).

    ``lagrangian``: the sum of the epoch's losses and penalties. A dual step is due where that did not fall, or after
    ``max_period`` epochs without one.

    >>> schedule = Schedule(max_period=20)
    >>> [schedule.after_epoch(lagrangian) for lagrangian in (5.0, 4.0, 4.5, 9.0, 8.0)], schedule.g
    ([False, False, True, False, False], 2)
    """

    max_period: int = 20
    g: int = 1
    period: int = 0
    before: float = 1e10

    def after_epoch(self, lagrangian: float) -> bool:
        """Whether a dual step is due; then the window is the next one already."""
        self.period += 1
        if lagrangian < self.before and self.period < self.max_period:
            self.before = lagrangian
            return False
        self.g += 1 if self.g < NARROW_FROM else 10
        self.before, self.period = 1e10, 0
        return True


class ConstrainedBackpropagation(Callback):
    """Pulls the weights of every layer with a ``CBP`` quantizer to their levels while a network is trained.

    The loss becomes loss + sum of multiplier * constraint; the weights descend it, the multipliers ascend it with Adam
    of rate ``lr``, at most once per epoch, as the constraint's windows narrow. Gradients are clipped to [-1, 1] one by
    one, and so are the weights. It is a callback for any Lightning module, or for the ``network`` that is its
    attribute, and works with any optimizer; its state is in the checkpoint, so that resuming is exact. It keeps three
    numbers per weight: the multiplier and Adam's two moments of it.
    Source: Kim & Jeong, CBP, NeurIPS 2021; Yoo & Jeong, CBP-QSNN, IEEE JETCAS 2023.
    """

    def __init__(self, lr: float = 5e-4, max_period: int = 20) -> None:
        if not lr > 0 or max_period < 1:
            raise SpikeletError(f"lr, max_period: expected lr > 0 and max_period >= 1, got {lr} and {max_period}")
        self.lr, self.max_period, self.schedule = lr, max_period, Schedule(max_period)
        self.multipliers: dict[str, Tensor] = {}
        self._lagrangian = self._penalty = 0.0
        self._saved: dict[str, Any] | None = None

    @property
    def state_key(self) -> str:
        return "ConstrainedBackpropagation"

    def on_fit_start(self, trainer, pl_module) -> None:
        self.layers, self.schedule = (
            constrained_layers(getattr(pl_module, "network", pl_module)),
            Schedule(self.max_period),
        )
        self.multipliers = {name: torch.zeros_like(layer.latent) for name, layer in self.layers.items()}
        self._ascent = torch.optim.Adam(self.multipliers.values(), lr=self.lr, maximize=True, foreach=False)
        if self._saved is None:
            self._dual_step()
        else:
            self._restore(self._saved)
            self._saved = None

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self._lagrangian = 0.0

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        g = self.schedule.g
        self._penalty = sum(_pull(layer, self.multipliers[name], g) for name, layer in self.layers.items())
        nn.utils.clip_grad_value_(pl_module.parameters(), 1.0)

    @torch.no_grad()
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self._lagrangian += float(outputs["loss"]) + self._penalty
        for layer in self.layers.values():
            layer.latent.clamp_(-1, 1)

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        here = torch.tensor(self._lagrangian, dtype=torch.float64, device=pl_module.device)
        lagrangian = float(trainer.strategy.reduce(here, reduce_op="mean"))
        told = {"constraint_failure": self.failure(), "window": self.schedule.g}
        if self.schedule.after_epoch(lagrangian):
            if self.schedule.g == DROP_AT:
                _drop_rate(trainer)
            self._dual_step()
        pl_module.log_dict(told | {"multiplier": self.mean_multiplier()}, prog_bar=True)
        pl_module.log_dict({"lagrangian": lagrangian, "lagrangian_before": self.schedule.before})

    def failure(self) -> float:
        """The constraint failure score: the mean constraint of all quantized weights, without windows."""
        layers = self.layers.values()
        total = sum(float(part.sum()) for layer in layers for part in _constraint(layer, math.inf))
        return total / sum(layer.latent.numel() for layer in layers)

    def mean_multiplier(self) -> float:
        """The mean absolute value of all multipliers."""
        total = sum(float(multiplier.abs().sum()) for multiplier in self.multipliers.values())
        return total / sum(multiplier.numel() for multiplier in self.multipliers.values())

    def _dual_step(self) -> None:
        for name, layer in self.layers.items():
            gradient = self.multipliers[name].grad = torch.empty_like(self.multipliers[name])
            for part, values in zip(flat(gradient).split(PART), _constraint(layer, self.schedule.g), strict=True):
                part.copy_(values)
        self._ascent.step()
        self._ascent.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        moments = self._ascent.state_dict() if self.multipliers else None
        levels = {name: layer.quantizer.name for name, layer in self.layers.items()} if self.multipliers else {}
        return {**vars(self.schedule), "levels": levels, "multipliers": self.multipliers, "moments": moments}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved = state_dict

    def _restore(self, saved: dict[str, Any]) -> None:
        if {n: m.shape for n, m in saved["multipliers"].items()} != {n: m.shape for n, m in self.multipliers.items()}:
            raise SpikeletError("resume: the checkpoint was made with another choice of quantized layers")
        levels = {name: layer.quantizer.name for name, layer in self.layers.items()}
        if saved["levels"] != levels:
            before, now = ({*kind.values()} for kind in (saved["levels"], levels))
            raise SpikeletError(f"resume: the checkpoint has levels {', '.join(before)}, the network {', '.join(now)}")
        for name, multiplier in self.multipliers.items():
            multiplier.copy_(saved["multipliers"][name])
        self._ascent.load_state_dict(saved["moments"])
        for key in vars(self.schedule):
            setattr(self.schedule, key, saved[key])


def _constraint(layer: ConstrainedLayer, g: float) -> Iterator[Tensor]:
    """The constraint of a layer's weights, part by part in the order of memory, so that no more is kept at a time."""
    levels = layer.quantizer.values(layer.latent)
    for part in flat(layer.latent).split(PART):
        yield constraint(part, levels, g)[0]


def _pull(layer: ConstrainedLayer, multiplier: Tensor, g: float) -> float:
    """Add the penalty's gradient to that of ``layer``; returns the penalty."""
    weight, grad = layer.latent, layer.latent.grad
    if grad is None:
        raise SpikeletError("layers: a quantized weight has no gradient; does the network's output depend on it?")
    dense = weight.is_contiguous() or (weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last))
    alike = weight.stride() == grad.stride() == multiplier.stride()
    if dense and alike and weight.device.type == "cpu" and weight.dtype == grad.dtype == torch.float32:
        return add_penalty(weight, multiplier, grad, layer.quantizer.values(weight), g)
    if not (dense and alike):  # some order of memory that is no single stretch
        cs, slope = constraint(weight, layer.quantizer.values(weight), g)
        grad.add_(slope.mul_(multiplier))
        return float(cs.mul_(multiplier).sum())
    total, levels = 0.0, layer.quantizer.values(weight)
    for w, m, d in zip(*(flat(t).split(PART) for t in (weight, multiplier, grad)), strict=True):
        cs, slope = constraint(w, levels, g)
        d.add_(slope.mul_(m))
        total += float(cs.mul_(m).sum())
    return total


def _drop_rate(trainer) -> None:
    """A tenth of the learning rate, for the rest of the run, whatever the schedule makes of it."""
    for scheduler in trainer.lr_scheduler_configs:
        if hasattr(scheduler.scheduler, "base_lrs"):
            scheduler.scheduler.base_lrs = [0.1 * lr for lr in scheduler.scheduler.base_lrs]
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group["lr"] *= 0.1
