"""The Lightning module: loss, optimizer, augmentation. Importing this imports Lightning."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.nn import functional

from spikelet.networks import Network, OperationMeter, measure_operations
from spikelet.training.settings import TrainSettings

Augment = Callable[[Tensor, torch.Generator], Tensor]


class Classifier(lightning.LightningModule):
    """Cross entropy of the logits plus the cost of the synaptic operations.

    Every random number comes from (seed, epoch, batch, process), so a resumed run repeats an uninterrupted one.
    """

    def __init__(self, network: Network, settings: TrainSettings, augment: Augment | None, seed: int, epoch_steps: int):
        super().__init__()
        self.network, self.settings, self.augment = network, settings, augment
        self.seed, self.epoch_steps = seed, epoch_steps
        self.meter = OperationMeter(network) if settings.operation_cost else None
        described = {"network": asdict(network.settings), "input_shape": list(network.input_shape)}
        self.save_hyperparameters(described)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, labels = batch[0].float(), batch[1]
        if self.augment is not None:
            drawn = ((self.seed * 10_007 + self.current_epoch) * 1_000_003 + index) * 1_009 + self.global_rank
            generator = torch.Generator(images.device).manual_seed(drawn)
            images = self.augment(images, generator)
        logits, cost = self._forward(images)
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=self.settings.label_smoothing)
        accuracy = (logits.argmax(1) == labels).float().mean()
        self._log({"train_loss": loss, "train_accuracy": accuracy, "train_operations": cost}, len(labels))
        ramp = self.settings.operation_cost_ramp * self.epoch_steps
        weight = self.settings.operation_cost * (min(1.0, self.global_step / ramp) if ramp else 1.0)
        return loss + weight * cost

    def _forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the synaptic operations per sample in millions (0 where they cost nothing)."""
        if self.meter is None:
            return self.network(images), torch.zeros((), device=images.device)
        with measure_operations(self.network, self.meter) as meter:
            logits = self.network(images)
        return logits, meter.total / len(images) / 1e6

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        images, labels = batch
        logits = self.network(images)
        loss = functional.cross_entropy(logits.float(), labels)
        self._log({"val_loss": loss, "val_accuracy": (logits.argmax(1) == labels).float().mean()}, len(labels))

    def _log(self, values: dict[str, Tensor], batch_size: int) -> None:
        bar = [name for name in values if not name.endswith("operations") or self.settings.operation_cost]
        shown = {name: values[name].detach() for name in bar}
        self.log_dict(shown, prog_bar=True, on_step=False, on_epoch=True, batch_size=batch_size, sync_dist=True)

    def configure_optimizers(self):
        settings = self.settings
        common: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
        optimizer: torch.optim.Optimizer
        if settings.optimizer == "sgd":
            optimizer = torch.optim.SGD(self.parameters(), momentum=0.9, **common)
        else:
            kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
            optimizer = kind(self.parameters(), **common)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: settings.lr_scale(s, self.epoch_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
