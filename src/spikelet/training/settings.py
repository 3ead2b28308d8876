"""What a training run is told."""

import math
from dataclasses import dataclass, field

from spikelet.arguments import check_fields
from spikelet.errors import SpikeletError
from spikelet.training.losses import Loss, loss

SCHEDULES = ("one_cycle", "cosine", "milestones", "constant")
OPTIMIZERS = ("adam", "adamw", "sgd")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true", "bf16-true", "16-true")
COSTS = ("operation_cost", "activity_cost", "rate_cost", "exit_cost")


@dataclass
class TrainSettings:
    """Budget, optimizer and loss of one run.

    lr                    peak learning rate
    schedule              one_cycle (up in 25 %, cosine to 0), cosine, milestones (x lr_factor there), constant
    loss                  of networks with time steps: a name in ``losses.LOSSES``, with its ``loss_settings``
    label_smoothing       0 to 1
    operation_cost        weight of the loss term "synaptic operations per sample, in millions"
    activity_cost         weight of the term "synaptic operations, as a fraction of those of a dense network"
    rate_cost             weight of the term "mean over the layers of max(0, firing rate - ``rate_target``)^2"
    exit_cost             weight of the term "expected step of the answer / T", of a network that answers as soon as its
                          confidence is above ``exit_confidence`` (``costs.expected_exit``)
    cost_ramp             epochs over which these weights grow linearly from 0
    min_steps             null, or: whenever the accuracy on the validation samples is within ``steps_margin`` of the
                          best so far, training goes on with one time step less, down to so many
    distillation          0 to 1: the share of the loss that compares the answers with a teacher's, where there is one
    temperature           both networks' logits are divided by it before they are compared
    lr_lambda             of constrained backpropagation (weights cbp_*): learning rate of its multipliers; 0: none,
                          which is plain straight-through training
    period                epochs after which its multipliers move at the latest
    patience              epochs without a smaller val_loss after which training stops, with the best weights; 0: never
    precision             Lightning's word, one of PRECISIONS
    """

    num_epochs: int = 14
    lr: float = 1e-3
    batch_size: int = 128
    optimizer: str = "adam"
    schedule: str = "one_cycle"
    milestones: list[int] = field(default_factory=list)
    lr_factor: float = 0.1
    weight_decay: float = 0.0
    loss: str = "ce_mean"
    loss_settings: dict[str, float] = field(default_factory=dict)
    label_smoothing: float = 0.0
    operation_cost: float = 0.0
    activity_cost: float = 0.0
    rate_cost: float = 0.0
    rate_target: float = 0.1
    exit_cost: float = 0.0
    exit_confidence: float = 0.9
    cost_ramp: float = 3.0
    min_steps: int | None = None
    steps_margin: float = 0.005
    distillation: float = 0.5
    temperature: float = 1.0
    lr_lambda: float = 5e-4
    period: int = 20
    patience: int = 0
    precision: str = "32-true"

    def check(self) -> None:
        """Raise SpikeletError on the first value that makes no sense."""
        check_fields("train", self)
        for name, allowed in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise SpikeletError(f"train.{name}: expected one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("num_epochs", "batch_size", "period"):
            if getattr(self, name) < 1:
                raise SpikeletError(f"train.{name}: expected at least 1, got {getattr(self, name)}")
        over_time(self, self.label_smoothing)
        for name in ("lr", "temperature"):
            if not getattr(self, name) > 0:
                raise SpikeletError(f"train.{name}: expected a positive number, got {getattr(self, name)}")
        if not 0 <= self.distillation <= 1:
            raise SpikeletError(f"train.distillation: expected 0 to 1, got {self.distillation}")
        if not 0 < self.exit_confidence <= 1:
            raise SpikeletError(f"train.exit_confidence: expected above 0, up to 1, got {self.exit_confidence}")
        if self.min_steps is not None and self.min_steps < 1:
            raise SpikeletError(f"train.min_steps: expected null or at least 1, got {self.min_steps}")
        if self.min_steps is not None and self.patience:
            raise SpikeletError(
                "train.min_steps: expected null with train.patience, whose best epoch had its own steps"
            )
        rates = ("weight_decay", "label_smoothing", "lr_lambda", "patience", "rate_target", "steps_margin")
        for name in (*COSTS, "cost_ramp", *rates):
            if getattr(self, name) < 0:
                raise SpikeletError(f"train.{name}: expected 0 or more, got {getattr(self, name)}")

    def check_spiking(self, spiking: bool) -> None:
        """Raise SpikeletError where a network that is not trained through time is asked to save spikes or steps."""
        for name in ("rate_cost", "exit_cost", "min_steps"):
            if getattr(self, name) and not spiking:
                raise SpikeletError(
                    f"train.{name}: only for networks trained through time (model.neuron), got {getattr(self, name)}"
                )

    def lr_scale(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate at optimizer step ``step``, as a factor of ``lr``: a pure function, so resuming is exact.

        >>> TrainSettings(schedule="cosine", num_epochs=2).lr_scale(step=5, steps_per_epoch=5)
        0.5
        """
        progress = step / (self.num_epochs * steps_per_epoch)
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "milestones":
            return self.lr_factor ** sum(step >= epoch * steps_per_epoch for epoch in self.milestones)
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * min(progress, 1.0))) / 2
        warm = 0.25
        if progress < warm:
            return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / warm)) / 2
        return (1 + math.cos(math.pi * min((progress - warm) / (1 - warm), 1.0))) / 2


def over_time(settings: TrainSettings, label_smoothing: float) -> Loss:
    """The loss of outputs [T, N, C] that the settings name; one that knows no label smoothing refuses it."""
    smoothing = {"label_smoothing": label_smoothing} if label_smoothing else {}
    return loss(settings.loss, **(smoothing | settings.loss_settings))
