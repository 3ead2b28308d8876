"""What happens at the end of an epoch, and on Ctrl-C. Importing this imports Lightning."""

import csv
import math
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping

from spikelet.files import whole_file


class CtrlC(Callback):
    """Ctrl-C ends training after the batch at hand; a second one ends it at once.

    As an exception in the middle of anything, Python would lose it inside a finalizer now and then.
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Self:
        self._before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, *_) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def on_train_batch_end(self, *_) -> None:
        if self.asked:
            raise KeyboardInterrupt

    def on_validation_batch_end(self, *_) -> None:
        self.on_train_batch_end()


class EarlyStop(EarlyStopping):
    """Stops after ``patience`` epochs without a smaller val_loss; the network ends with the weights of the best."""

    def __init__(self, patience: int) -> None:
        super().__init__("val_loss", patience=patience, check_finite=False, check_on_train_epoch_end=False)
        self.best: dict[str, Any] = {}

    @property
    def state_key(self) -> str:
        return "EarlyStop"

    def on_train_start(self, trainer, pl_module) -> None:
        if self.wait_count >= self.patience:  # a run that had stopped is resumed
            trainer.should_stop = True

    def on_validation_end(self, trainer, pl_module) -> None:
        super().on_validation_end(trainer, pl_module)
        if not trainer.sanity_checking and self.wait_count == 0:
            self.best = {name: value.clone() for name, value in pl_module.network.state_dict().items()}

    def on_train_end(self, trainer, pl_module) -> None:
        if self.best:
            pl_module.network.load_state_dict(self.best)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]
        super().load_state_dict({**state_dict, "patience": self.patience})


class MetricsCSV(Callback):
    """One row per epoch in ``path``; a resumed run drops the rows that it is about to repeat."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        metrics = trainer.callback_metrics  # read by every process: it is where their means are taken
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        values = {name: f"{value.item():.6g}" for name, value in metrics.items()}
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        row = {"epoch": str(trainer.current_epoch), "lr": f"{lr:.4g}", **values}
        rows = [*_rows_before(trainer.current_epoch, self.path), row]
        header = {name: name for row in rows for name in row}
        _write(self.path, [header, *rows], [*header])


class Progress(Callback):
    """The log of work B in ``path``: tab-separated, no header, a row of zeros and then one per epoch, counted from 1.

    Columns: epoch, lagsum_pre (1e10 after a dual step), accuracy in percent, CFS. They are what was logged as
    ``lagrangian_before`` and ``val_accuracy``, nan where that is missing, and as ``constraint_failure``, without which
    nothing is written; so it belongs behind ``ConstrainedBackpropagation``. The published log has the accuracy on the
    test set; this is that on the validation samples, because the test set is read once, at the end. A resumed run drops
    the rows that it is about to repeat. Source: Yoo & Jeong, CBP-QSNN, IEEE JETCAS 2023 (reference 2.6).
    """

    _COLUMNS = "epoch", "lagrangian_before", "val_accuracy", "constraint_failure"

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        metrics = trainer.callback_metrics
        if trainer.sanity_checking or not trainer.is_global_zero or "constraint_failure" not in metrics:
            return
        values = {name: float(metrics.get(name, math.nan)) for name in self._COLUMNS}
        values |= {"epoch": trainer.current_epoch + 1, "val_accuracy": 100 * values["val_accuracy"]}
        tabs = {"delimiter": "\t", "lineterminator": "\n"}
        zeros = dict.fromkeys(self._COLUMNS, "0")
        rows = _rows_before(trainer.current_epoch + 1, self.path, self._COLUMNS, **tabs) or [zeros]
        rows.append({name: f"{value:.6g}" for name, value in values.items()})
        _write(self.path, rows, self._COLUMNS, **tabs)


def _rows_before(epoch: int, path: Path, columns: Sequence[str] | None = None, **form: Any) -> list[dict[str, str]]:
    """The rows of earlier epochs, since a resumed run repeats the others. ``columns``: of a file without a header."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file, columns, **form) if int(row["epoch"]) < epoch]


def _write(path: Path, rows: Sequence[dict[str, str]], columns: Sequence[str], **form: Any) -> None:
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        csv.DictWriter(file, columns, **form).writerows(rows)


class LastCheckpoint(Checkpoint):
    """The state after the last whole epoch in ``path``: written beside it, then renamed, so it is never half there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        temporary = self.path.with_suffix(".tmp")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            temporary.replace(self.path)


class FewerSteps(Callback):
    """Takes one time step from the next epoch whenever the network can spare it, down to ``min_steps``.

    That is, after an epoch whose accuracy on the validation samples, with the steps at hand, is within ``margin`` of
    the best so far. The network keeps the number, in its settings. Source: reference 6.4 C.
    """

    def __init__(self, min_steps: int, margin: float) -> None:
        self.min_steps, self.margin = min_steps, margin
        self.num_steps = 0  # not begun
        self.best, self.spare = 0.0, False

    @property
    def state_key(self) -> str:
        return "FewerSteps"

    def on_fit_start(self, trainer, pl_module) -> None:
        self._set(pl_module, self.num_steps or pl_module.network.num_steps)

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self._set(pl_module, self.num_steps - self.spare)
        self.spare = False
        pl_module.log("num_steps", float(self.num_steps), sync_dist=True)

    def on_validation_end(self, trainer, pl_module) -> None:
        accuracy = float(trainer.callback_metrics["val_accuracy"])
        if trainer.sanity_checking:
            return
        self.best = max(self.best, accuracy)
        self.spare = accuracy >= self.best - self.margin and self.num_steps > self.min_steps

    def _set(self, pl_module, num_steps: int) -> None:
        self.num_steps = pl_module.network.settings.stop_after = num_steps
        pl_module.hparams["network"]["stop_after"] = num_steps

    def state_dict(self) -> dict[str, Any]:
        return {"num_steps": self.num_steps, "best": self.best, "spare": self.spare}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.num_steps, self.best, self.spare = (state_dict[key] for key in ("num_steps", "best", "spare"))
