"""From names to objects: the only place that knows which data set, augmentation or network a recipe's word means."""

from collections.abc import Callable
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from spikelet import datasets, encoders, networks
from spikelet.datasets import BinnedSet, EventSet, FrameSet, transforms
from spikelet.datasets.base import BatchSet
from spikelet.datasets.frame_set import RecordingSet
from spikelet.errors import SpikeletError
from spikelet.exits import RULES, Confidence, Margin, Rule
from spikelet.networks import SNN, Network, NetworkSettings
from spikelet.networks.published import expanded
from spikelet.recipes.schema import Config, DataSettings, ExitSettings

EVENT_KEYS = ("protocol", "frames", "frame_us", "downsample", "denoise_us", "rotate", "shift")
IMAGE_KEYS = ("augment", "eval_transform")


def choose(argument: str, name: str, members: dict[str, Any]) -> Any:
    """``members[name]``, or a SpikeletError that names the argument and what is allowed.

    >>> choose("size", "big", {"small": 1, "big": 2})
    2
    """
    if name in members:
        return members[name]
    close = get_close_matches(name, members, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise SpikeletError(f"{argument}: no such choice {name!r}{hint} (allowed: {', '.join(members)})")


def data_root(settings: DataSettings) -> Path:
    """Where the files of the data sets are looked for."""
    return Path(settings.root).expanduser() if settings.root is not None else datasets.default_root()


def check(config: Config) -> None:
    """Raise SpikeletError, naming the key, for settings of the data that do not go together."""
    data, events = config.data, has_recordings(config)
    if events and config.model.neuron is None:
        raise SpikeletError(f"model.neuron: {data.name} holds recordings, which need a spiking network; set it to lif")
    if has_surfaces(config):
        _check_surfaces(config, events)
    elif data.downsample != 1:
        raise SpikeletError(
            f"data.downsample: without time surfaces (model.notation=TS...) expected 1, got {data.downsample}"
        )
    codes = encoders.FRAME_CODES if events else encoders.IMAGE_CODES
    if not set(config.model.coding) <= set(codes):
        what = "recordings" if events else "images"
        raise SpikeletError(
            f"model.coding: {data.name} holds {what}; expected some of {', '.join(codes)}, got {[*config.model.coding]}"
        )
    if data.rotate and datasets.DATASETS[data.name].sensor_size[1] == 1:
        raise SpikeletError(f"data.rotate: {data.name} has a sensor of one row, which cannot turn; expected 0")
    for key in IMAGE_KEYS if events else EVENT_KEYS:
        given, default = getattr(data, key), getattr(DataSettings(), key)
        if given != default:
            what = "recordings" if events else "images"
            raise SpikeletError(f"data.{key}: {data.name} holds {what}; expected {default}, got {given}")


def _check_surfaces(config: Config, events: bool) -> None:
    if config.model.dt == NetworkSettings().dt:
        raise SpikeletError(
            "model.dt: of time surfaces, expected a step's duration in seconds, such as 0.005; got none"
        )
    step_us(config)
    if not events:
        raise SpikeletError(
            f"model.notation: time surfaces (TS...) are for recordings, {config.data.name} holds images"
        )
    for key in ("frames", "frame_us"):
        given, default = getattr(config.data, key), getattr(DataSettings(), key)
        if given != default:
            raise SpikeletError(
                f"data.{key}: with time surfaces, whose steps have model.dt, expected {default}, got {given}"
            )


def dataset(config: Config, split: str, training: bool = False) -> BatchSet:
    """One split of the data set; its images are as the network sees them, except for augmentation; events are frames.

    Raises DataError where files are missing or damaged.
    """
    settings = config.data
    kind = choose("data.name", settings.name, datasets.DATASETS)
    subset = 1 if split in ("test", "other-6789") else settings.subset
    how: dict[str, Any] = {"download": settings.download, "verify": settings.verify}
    if issubclass(kind, EventSet):
        recordings = kind(data_root(settings), split, subset, settings.protocol, **how)
        return _recordings(config, recordings, training)
    input_shape(settings)
    images = kind(data_root(settings), split, subset, **how)
    if not training or transforms.AUGMENTS[settings.augment].size is None:
        images.images = transforms.EVAL_TRANSFORMS[settings.eval_transform](images.images)
    return images


def _recordings(config: Config, recordings: EventSet, training: bool) -> RecordingSet:
    """Recordings as the network takes them: events in steps where it begins with time surfaces, else frames."""
    from spikelet.events import Frames, Jitter

    settings, steps = config.data, config.model.num_steps
    if settings.denoise_us:
        recordings = recordings.denoised(settings.denoise_us)
    moved = training and (settings.rotate or settings.shift)
    jitter = Jitter(settings.rotate, settings.shift) if moved else None
    if has_surfaces(config):
        return BinnedSet(recordings, steps, step_us(config), settings.downsample, jitter, config.seed)
    return FrameSet(recordings, Frames(steps, settings.frames, settings.frame_us), jitter, config.seed)


def has_recordings(config: Config) -> bool:
    """Whether the data are recordings of events, so that the network takes frames of them, or events, not images."""
    return issubclass(choose("data.name", config.data.name, datasets.DATASETS), EventSet)


def has_surfaces(config: Config) -> bool:
    """Whether the network begins with time surfaces, so that it takes events, not frames."""
    return expanded(config.model.notation).startswith("TS")


def step_us(config: Config) -> int:
    """Duration of a step of a network with time surfaces, in microseconds."""
    us = round(config.model.dt * 1e6)
    if us < 1 or abs(us - config.model.dt * 1e6) > 1e-6 * us:
        raise SpikeletError(f"model.dt: of time surfaces, expected whole microseconds, got {config.model.dt} seconds")
    return us


def exit_rule(settings: ExitSettings, integers: bool) -> Rule | None:
    """When a sample stops early, None: never; for logits that are ``integers`` or not.

    With a ``loss`` its threshold is yet to be found.

    >>> exit_rule(ExitSettings(confidence=0.9), integers=False)
    Confidence(threshold=0.9, temperature=1.0)
    """
    given, temperature = settings.given(), settings.temperature or 1.0
    if "margin" in given and not integers:
        raise SpikeletError("exit.margin: this network's logits are no integers; expected exit.confidence or entropy")
    if "loss" in given:
        return Margin(1) if integers else Confidence(1.0, temperature)
    for name, threshold in given.items():
        return Margin(threshold) if name == "margin" else RULES[name](threshold, temperature)  # type: ignore[call-arg]
    return None


def augment(settings: DataSettings) -> Callable[..., Tensor] | None:
    """What is done to each training batch; None for nothing."""
    function = choose("data.augment", settings.augment, transforms.AUGMENTS)
    return None if settings.augment == "none" else function


def input_shape(settings: DataSettings) -> tuple[int, int, int]:
    """(C, H, W) of the images that reach the network, which must be the same in training and after it."""
    width, height, channels = choose("data.name", settings.name, datasets.DATASETS).sensor_size
    width, height = (-(-size // settings.downsample) for size in (width, height))
    judged = choose("data.eval_transform", settings.eval_transform, transforms.EVAL_TRANSFORMS).output_size(
        height, width
    )
    trained = choose("data.augment", settings.augment, transforms.AUGMENTS)
    if trained.size is not None and trained.output_size(height, width) != judged:
        raise SpikeletError(
            f"data.eval_transform: {settings.eval_transform} gives images of {judged}, data.augment={settings.augment} "
            f"of {trained.output_size(height, width)}; they must be the same"
        )
    return channels, *judged


def loader(config: Config, split: str, shuffle: bool = False) -> DataLoader:
    """Batches of one split; shuffled ones are for training, and of ``train.batch_size``, not of ``evaluate``."""
    size = config.train.batch_size if shuffle else config.evaluate.batch_size
    workers = config.data.num_workers if shuffle else 0
    return datasets.loader(
        dataset(config, split, training=shuffle), size, shuffle=shuffle, seed=config.seed, num_workers=workers
    )


def network(config: Config) -> Network | SNN:
    """The untrained network, the same for the same seed."""
    import torch

    torch.manual_seed(config.seed)
    return networks.build(deepcopy(config.model), input_shape(config.data))


def check_classes(network: Network | SNN, loader: DataLoader) -> None:
    """Raise SpikeletError where the network has other outputs than the data set has classes."""
    *_, readout = network.blocks().values()
    outputs, classes = readout.op.weight.shape[0], loader.dataset.classes  # type: ignore[attr-defined]
    if outputs != len(classes):
        raise SpikeletError(
            f"model.notation: the last layer has {outputs} outputs, the data {len(classes)} classes; end it in "
            f"FC{len(classes)}"
        )
