"""The Lightning module: loss, optimizer, augmentation. Importing this imports Lightning."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.nn import functional

from spikelet.errors import SpikeletError
from spikelet.integer.check import PIXEL_MAX
from spikelet.networks import SNN, Network, answers, firing_rate, record_spikes
from spikelet.training.costs import Costs
from spikelet.training.settings import TrainSettings, over_time

Augment = Callable[[Tensor, torch.Generator], Tensor]
RATES_EVERY = 10  # batches: firing rates are looked at now and then, because looking costs time


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    total = logits.float().sum(0) if logits.dim() == 3 else logits
    return (total.argmax(1) == labels).float().mean()


def _check_batch(name: str, batch: Any, network: Network | SNN) -> None:
    """One clear error for what is no batch of samples and labels, or holds images that were scaled already."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise SpikeletError(f"{name}: expected batches of (images, labels), got a {type(batch).__name__}")
    images, labels = batch
    classes = [*network.blocks().values()][-1].op.weight.shape[0]
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.dim() != 1 or not len(labels):
        given = f"{labels.dtype} {[*labels.shape]}" if isinstance(labels, Tensor) else type(labels).__name__
        raise SpikeletError(f"{name}: expected labels int64 [N], got {given}")
    lowest, highest = int(labels.min()), int(labels.max())
    if not 0 <= lowest <= highest < classes:
        raise SpikeletError(f"{name}: expected labels 0 to {classes - 1}, one per output, got {lowest} to {highest}")
    if isinstance(images, Tensor) and images.dim() == 4 and network.settings.pixel_scale >= PIXEL_MAX:
        _check_pixels(name, images)


def _check_pixels(name: str, images: Tensor) -> None:
    lowest, highest = float(images.min()), float(images.max())
    if lowest < 0 or 0 < highest <= 1:
        raise SpikeletError(
            f"{name}: expected pixels of 0 to {PIXEL_MAX}, which the network scales by itself, got {lowest:g} to "
            f"{highest:g}; leave out what scales them, such as torchvision's ToTensor and Normalize"
        )


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """temperature^2 * KL(softmax(teacher / temperature) || softmax(logits / temperature)), mean over the batch.

    Both [N, C]. Source: Hinton, Vinyals & Dean 2015.

    >>> x = torch.tensor([[1.0, 0.0]])
    >>> round(distillation_loss(torch.zeros(1, 2), x, temperature=1.0).item(), 5)  # ln 2 - entropy of (0.731, 0.269)
    0.11094
    """
    student, target = (functional.log_softmax(x / temperature, dim=1) for x in (logits, teacher))
    return temperature**2 * functional.kl_div(student, target, reduction="batchmean", log_target=True)


class Classifier(lightning.LightningModule):
    """The loss of the labels, distillation from a teacher where there is one, and what the network costs.

    The teacher answers the same augmented images; it is no part of what is trained or saved. Every random number comes
    from (seed, epoch, batch, process), so a resumed run repeats an uninterrupted one.
    """

    def __init__(
        self,
        network: Network | SNN,
        settings: TrainSettings,
        augment: Augment | None,
        seed: int,
        epoch_steps: int,
        teacher: Network | SNN | None = None,
    ) -> None:
        super().__init__()
        self.network, self.settings, self.augment = network, settings, augment
        self.seed, self.epoch_steps = seed, epoch_steps
        self.costs = Costs(network, settings)
        self._teacher = [teacher] if teacher is not None else []  # a list: no submodule
        described = {"network": asdict(network.settings), "input_shape": list(network.input_shape)}
        self.save_hyperparameters(described)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        if self.global_step == 0:
            _check_batch("train_loader", batch, self.network)
        images, labels = batch
        images = images.float() if isinstance(images, Tensor) else images  # else events
        if self.augment is not None:
            drawn = ((self.seed * 10_007 + self.current_epoch) * 1_000_003 + index) * 1_009 + self.global_rank
            generator = torch.Generator(images.device).manual_seed(drawn)
            images = self.augment(images, generator)
        with self._rates(index) as rates:
            logits, costs = self.costs.measure(lambda: self.network(images), len(labels))
        if rates:
            self._log({f"rate/{name}": rate for name, rate in rates.items()}, len(labels), prog_bar=False)
            self._log({"firing_rate": torch.stack([*rates.values()]).mean()}, len(labels))
        loss = self._loss(logits.float(), labels, images)
        self._log({"train_loss": loss, "train_accuracy": _accuracy(logits, labels)}, len(labels))
        if costs:
            self._log({f"train_{name}": cost for name, cost in costs.items()}, len(labels))
        return loss + self.costs.total(costs, self.global_step / self.epoch_steps)

    def on_fit_start(self) -> None:
        self._teacher = [teacher.to(self.device).eval() for teacher in self._teacher]

    def _loss(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        settings = self.settings
        loss = self._of_labels(logits, labels, settings.label_smoothing)
        for teacher in self._teacher:
            told, ours = self._answer(answers(teacher, images)), self._answer(logits)
            loss = torch.lerp(loss, distillation_loss(ours, told, settings.temperature), settings.distillation)
        return loss

    def _answer(self, logits: Tensor) -> Tensor:
        """One answer [N, C] of each sample: over time, the sum where the loss is about it, else the mean."""
        if logits.dim() == 3:
            logits = logits.sum(0) if self.settings.loss == "ce_sum" else logits.mean(0)
        return logits.float()

    def _of_labels(self, logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        """Cross entropy of one answer [N, C], or the loss that the settings name of one per step [T, N, C]."""
        if logits.dim() == 3:
            return over_time(self.settings, label_smoothing)(logits, labels)
        return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        if index == 0:
            _check_batch("val_loader", batch, self.network)
        images, labels = batch
        logits = self.network(images)
        loss = self._of_labels(logits.float(), labels, label_smoothing=0.0)
        self._log({"val_loss": loss, "val_accuracy": _accuracy(logits, labels)}, len(labels))

    def _log(self, values: dict[str, Tensor], batch_size: int, prog_bar: bool = True) -> None:
        shown = {name: value.detach() for name, value in values.items()}
        self.log_dict(shown, prog_bar=prog_bar, on_step=False, on_epoch=True, batch_size=batch_size, sync_dist=True)

    def _rates(self, index: int) -> AbstractContextManager[dict[str, Tensor]]:
        """What collects firing rates, where it is time to look at them."""
        if isinstance(self.network, SNN) and index % RATES_EVERY == 0:
            return record_spikes(self.network, firing_rate)
        return nullcontext({})

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
