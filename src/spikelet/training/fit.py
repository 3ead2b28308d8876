"""Run the training loop."""

import importlib.util
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from spikelet.arguments import check_whole
from spikelet.errors import FormatError, SpikeletError
from spikelet.networks import SNN, Network
from spikelet.quantizers import CBP, weight_quantizer
from spikelet.training.settings import TrainSettings


def fit(
    network: Network | SNN,
    train_loader: DataLoader,
    val_loader: DataLoader | None = None,
    settings: TrainSettings | None = None,
    *,
    augment: Callable | None = None,
    teacher: Network | SNN | None = None,
    seed: int = 1,
    run_dir: str | Path | None = None,
    resume: bool = False,
    trainer: dict[str, Any] | None = None,
) -> Any:
    """Train ``network`` in place and return it in evaluation mode.

    The loaders yield (uint8 images [N, C, H, W], or frames [T, N, C, H, W], int64 labels [N]);
    ``augment(images, generator)`` gets float pixels.
    A ``teacher`` is a trained network whose answers count for ``settings.distillation`` of the loss.
    With a ``run_dir``: ``metrics.csv``, ``checkpoints/last.ckpt`` (every epoch) and ``logs/`` (TensorBoard, where
    installed); ``resume`` continues from that checkpoint and ends with an uninterrupted run's weights, bit for bit.
    ``trainer`` goes to ``lightning.Trainer`` as it is; its callbacks come before these.
    Layers with a ``CBP`` quantizer are pulled to their levels (``settings.lr_lambda``), unless a callback does already.
    """
    if not isinstance(network, Network | SNN):
        made = f"got {type(network).__name__}; train others in a loop of your own"
        raise SpikeletError(f"network: expected what spikelet.build makes, {made}")
    settings = TrainSettings() if settings is None else settings
    if not isinstance(settings, TrainSettings):
        raise SpikeletError(f"settings: expected a TrainSettings, got {settings!r}")
    settings.check()
    check_whole("seed", seed, lowest=0)
    lightning = quiet_lightning()
    from spikelet.training.callbacks import CtrlC
    from spikelet.training.module import Classifier

    settings.check_spiking(isinstance(network, SNN))
    for name, loader in (("train_loader", train_loader), ("val_loader", val_loader)):
        _check_loader(name, loader)
    ctrl_c, watching = CtrlC(), [*_early_stop(settings, val_loader), *_fewer_steps(settings, val_loader)]
    run_dir = Path(run_dir) if run_dir is not None else None
    options: dict[str, Any] = {
        "max_epochs": settings.num_epochs,
        "precision": settings.precision,
        "callbacks": _callbacks(run_dir, progress=(trainer or {}).get("enable_progress_bar", True)),
        "logger": _logger(run_dir),
        "default_root_dir": run_dir,
        "enable_checkpointing": run_dir is not None,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 50,
    }
    given = dict(trainer or {})
    before = [*given.pop("callbacks", []), *watching]
    callbacks = [*before, *_constraints(network, settings, before), *options["callbacks"], ctrl_c]
    options.update(given, callbacks=callbacks)
    runner = lightning.Trainer(**options)
    checkpoint = _checkpoint(run_dir, resume, network)
    steps = _steps_per_epoch(train_loader, runner)
    module = Classifier(network, settings, augment, seed, steps, teacher)
    torch.manual_seed(seed)
    try:
        with ctrl_c:
            runner.fit(module, train_loader, val_loader, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        if runner.interrupted:
            raise KeyboardInterrupt from None
        raise
    return network.eval()


def _check_loader(name: str, loader: Any) -> None:
    """One clear error for what gives no batches: a data set, arrays, settings, or nothing."""
    if name == "val_loader" and loader is None:
        return
    if isinstance(loader, tuple | list | dict) or not hasattr(loader, "__iter__"):
        made = f"expected a torch DataLoader, got a {type(loader).__name__}"
        raise SpikeletError(f"{name}: {made}; DataLoader(TensorDataset(images, labels), 64) makes one of tensors")
    if hasattr(loader, "__len__") and len(loader) == 0:
        raise SpikeletError(f"{name}: expected at least one batch, got none")


def quiet_lightning() -> Any:
    """Lightning, imported, and told to keep what it finds at every start to itself; only its warnings matter."""
    import lightning

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    return lightning


def _checkpoint(run_dir: Path | None, resume: bool, network: Network | SNN) -> Path | None:
    """The checkpoint to go on from, if there is one: of the same layers, with the same quantizers."""
    path = run_dir / "checkpoints" / "last.ckpt" if run_dir and resume else None
    if path is None or not path.exists():
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        saved["loops"]
        before, keys = saved["hyper_parameters"]["network"], {*saved["state_dict"]}
    except Exception as error:
        raise FormatError(
            f"resume: {path} is no checkpoint ({type(error).__name__}); remove it to start anew"
        ) from error
    for name in ("notation", "weights", "first", "last", "neuron", "arithmetic"):
        now = getattr(network.settings, name)
        if before.get(name, now) != now:
            raise SpikeletError(f"resume: {path} was begun with {name} {before[name]!r}, the network has {now!r}")
    if other := keys ^ {f"network.{key}" for key in network.state_dict()}:
        name = min(other).removeprefix("network.")
        raise SpikeletError(f"resume: {path} and the network do not both have {name}; expected the same quantizers")
    return path


def _steps_per_epoch(loader: DataLoader, runner: Any) -> int:
    limit = runner.limit_train_batches
    steps = len(loader) if limit is None else min(len(loader), limit) if isinstance(limit, int) else len(loader) * limit
    return max(1, -(-int(steps) // (runner.accumulate_grad_batches * runner.world_size)))


def _callbacks(run_dir: Path | None, progress: bool) -> list[Any]:
    from lightning.pytorch.callbacks import RichProgressBar

    from spikelet.training.callbacks import LastCheckpoint, MetricsCSV, Progress

    callbacks: list[Any] = [RichProgressBar(refresh_rate=10)] if progress else []
    if run_dir is not None:
        (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        callbacks += [MetricsCSV(run_dir / "metrics.csv"), Progress(run_dir / "progress.txt")]
        callbacks += [LastCheckpoint(run_dir / "checkpoints" / "last.ckpt")]
    return callbacks


def _early_stop(settings: TrainSettings, val_loader: DataLoader | None) -> list[Any]:
    if not settings.patience:
        return []
    if val_loader is None:
        raise SpikeletError(f"train.patience: {settings.patience} needs validation samples; set data.train_split=train")
    from spikelet.training.callbacks import EarlyStop

    return [EarlyStop(settings.patience)]


def _fewer_steps(settings: TrainSettings, val_loader: DataLoader | None) -> list[Any]:
    if settings.min_steps is None:
        return []
    if val_loader is None:
        raise SpikeletError(
            f"train.min_steps: {settings.min_steps} needs validation samples; set data.train_split=train"
        )
    from spikelet.training.callbacks import FewerSteps

    return [FewerSteps(settings.min_steps, settings.steps_margin)]


def _constraints(network: Network | SNN, settings: TrainSettings, given: list[Any]) -> list[Any]:
    """What trains weights with a CBP quantizer, where there are any, and nobody does already."""
    from spikelet.training.cbp import ConstrainedBackpropagation

    constrained = any(isinstance(weight_quantizer(module), CBP) for module in network.modules())
    if not constrained or not settings.lr_lambda or any(isinstance(c, ConstrainedBackpropagation) for c in given):
        return []
    return [ConstrainedBackpropagation(settings.lr_lambda, settings.period)]


def _logger(run_dir: Path | None) -> Any:
    if run_dir is None or importlib.util.find_spec("tensorboard") is None:
        return False
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(run_dir, name="logs", version="")
