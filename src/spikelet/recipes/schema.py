"""What a recipe may say: the keys, their types and their defaults. A wrong key or type is refused by name."""

import math
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from spikelet.calibrate import LEVELS, SHIFTS
from spikelet.errors import SpikeletError
from spikelet.files import write_whole
from spikelet.networks import NetworkSettings
from spikelet.training import TrainSettings
from spikelet.training.losses import Trace

RENAMED = {"train.operation_cost_ramp": "train.cost_ramp"}  # in runs of version 0.1.0


@dataclass
class DataSettings:
    """Which images, and what happens to them before the network sees them.

    name            a data set: ``spikelet datasets`` lists them
    root            where its files are; None: $SPIKELET_DATA, else ~/.cache/spikelet
    subset          keep the first floor(N / subset) training and validation images
    train_split     "train", or "train+val" (then nothing is held back for validation)
    augment         what is done to training images: a name in ``datasets.transforms.AUGMENTS``
    eval_transform  what is done to the images that the network is judged on: "none" or "center24"
    protocol        which recordings of an event data set: "full", or "first-1000" and "6789" of N-MNIST, "seeded" of
                    CIFAR10-DVS, "speaker" of Free Spoken Digits
    frames          how events become ``model.num_steps`` frames: "time" (equal durations) or "count" (equal numbers)
    frame_us        length of a frame in microseconds where frames is "time"; None: the recording in equal parts.
                    Time surfaces know no frames: their steps have ``model.dt`` seconds
    downsample      for time surfaces: so many columns and rows of the sensor become one
    denoise_us      drop events without a neighbour's event in that time before them; 0: keep all
    rotate, shift   training recordings are turned by up to +-rotate degrees and moved by up to +-shift pixels
    verify          compare the files with their published checksums, else their sizes
    download        fetch what is missing
    """

    name: str = "mnist"
    root: str | None = None
    subset: int = 1
    train_split: str = "train"
    augment: str = "none"
    eval_transform: str = "none"
    protocol: str = "full"
    frames: str = "time"
    frame_us: int | None = None
    downsample: int = 1
    denoise_us: int = 0
    rotate: float = 0.0
    shift: int = 0
    num_workers: int = 0
    verify: bool = True
    download: bool = False


@dataclass
class ConvertSettings:
    """fraction_bits: binary places of membranes and thresholds; None: as many as int32 has room for."""

    fraction_bits: int | None = None


@dataclass
class EvaluateSettings:
    """How the network is judged.

    split         "test", whole; or another that the data set has, such as "val", or N-MNIST's "other-6789"
    num_steps     time steps T
    samples       of a spiking network: how many test samples get an animation and a raster
    input_noise   every pixel is multiplied by 1 + input_noise * (U - 1/2), once per image
    settle_steps  steps after which every neuron must hold the count of the closed form
    device        "cpu", or "cuda" for a network that was trained through time, in floating point
    """

    split: str = "test"
    device: str = "cpu"
    num_steps: int = 8
    settle_steps: int = 64
    batch_size: int = 200
    input_noise: float = 0.0
    samples: int = 3


@dataclass
class CalibrateSettings:
    """How a trained network is corrected on training images, for fewer steps.

    level       none, light (biases) or advanced (weights, biases, initial potentials)
    num_steps   time steps T; None: ``evaluate.num_steps``, or half of those that a network was trained with
    samples     training images
    thresholds  of IF neurons: one for each layer, or one for each channel
    shift       of IF neurons, half a threshold: at the start, or spread over the steps, as published
    """

    level: str = "advanced"
    num_steps: int | None = None
    samples: int = 1024
    thresholds: str = "layer"
    shift: str = "start"

    def check(self) -> None:
        """Raise SpikeletError on the first value that makes no sense."""
        for name, value, allowed in (
            ("level", self.level, LEVELS),
            ("thresholds", self.thresholds, ("layer", "channel")),
            ("shift", self.shift, SHIFTS),
        ):
            if value not in allowed:
                raise SpikeletError(f"calibrate.{name}: expected one of {', '.join(allowed)}, got {value!r}")
        for name, number in (("num_steps", self.num_steps), ("samples", self.samples)):
            if number is not None and number < 1:
                raise SpikeletError(f"calibrate.{name}: expected at least 1, got {number}")


@dataclass
class ExitSettings:
    """When a sample stops before the last step: one of the first four, or none of them.

    confidence   where the largest softmax of the summed logits is above it, above 0, at most 1
    entropy      where 1 - H / ln C is above it, H the entropy of that softmax
    margin       where the best class leads by so much, in integers
    loss         percentage points of the validation samples that may answer otherwise; it finds the smallest margin,
                 or confidence where logits are no integers
    temperature  what logits are divided by before a softmax; None: fitted on the validation samples
    """

    confidence: float | None = None
    entropy: float | None = None
    margin: int | None = None
    loss: float | None = None
    temperature: float | None = None

    def given(self) -> dict[str, Any]:
        """Which of the four are set, with their values."""
        rules = {name: getattr(self, name) for name in ("confidence", "entropy", "margin", "loss")}
        return {name: value for name, value in rules.items() if value is not None}

    def check(self) -> None:
        """Raise SpikeletError on the first value that makes no sense."""
        given = self.given()
        if len(given) > 1:
            expected = "one of confidence, entropy, margin, loss (exit.confidence=null takes a recipe's back)"
            raise SpikeletError(f"exit: expected {expected}, got {', '.join(given)}")
        for name in ("confidence", "entropy"):
            if name in given and not 0 < given[name] <= 1:
                raise SpikeletError(f"exit.{name}: expected above 0, at most 1, got {given[name]}")
        if given.get("margin", 1) < 1:
            raise SpikeletError(f"exit.margin: expected a whole number of at least 1, got {self.margin}")
        if not 0 <= given.get("loss", 0) <= 100:
            raise SpikeletError(f"exit.loss: expected percentage points, 0 to 100, got {self.loss}")
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise SpikeletError(f"exit.temperature: expected above 0 and finite, got {self.temperature}")
        if self.temperature is not None and not {"confidence", "entropy", "loss"} & given.keys():
            raise SpikeletError(
                f"exit.temperature: only with exit.confidence, exit.entropy or exit.loss, got {self.temperature}"
            )


@dataclass
class Config:
    """Everything a run is told; ``recipes/config.yaml`` and the recipe's own file fill it in.

    exp_id       the run folder's name under runs/
    variant      what of the recipe is left: "all", or for its ablation "coding", "correction" or "co-optimization"
    init_from    a run whose trained weights this one starts with (a folder, or an exp_id under runs/)
    teacher      a run whose trained network this one learns from; ``train.distillation`` says how much
    resume       continue from the run folder's checkpoint, where there is one
    overwrite    throw away what an earlier run left in the run folder
    num_threads  of torch and of the integer engine; None: one per core
    trainer      handed to lightning.Trainer as it is
    """

    exp_id: str = "run"
    recipe: str = "custom"
    variant: str = "all"
    seed: int = 1
    init_from: str | None = None
    teacher: str | None = None
    resume: bool = False
    overwrite: bool = False
    num_threads: int | None = None
    data: DataSettings = field(default_factory=DataSettings)
    model: NetworkSettings = field(default_factory=NetworkSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    trainer: dict[str, Any] = field(default_factory=dict)
    convert: ConvertSettings = field(default_factory=ConvertSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    calibrate: CalibrateSettings = field(default_factory=CalibrateSettings)
    exit: ExitSettings = field(default_factory=ExitSettings)

    def check(self) -> None:
        """Raise SpikeletError on the first value that makes no sense."""
        self.model.check()
        self.train.check()
        self.train.check_spiking(self.model.neuron is not None)
        if self.train.min_steps is not None and self.train.min_steps >= self.model.num_steps:
            allowed = f"null or less than model.num_steps, {self.model.num_steps}"
            raise SpikeletError(f"train.min_steps: expected {allowed}, got {self.train.min_steps}")
        self.calibrate.check()
        self._check_trace()
        self.exit.check()
        if self.exit.given() and self.model.neuron is None and self.model.k is None:
            raise SpikeletError("exit: a network that stays an ANN (model.k=null) has no steps to save; expected none")
        if not re.fullmatch(r"[\w.,=+-]*\w[\w.,=+-]*", self.exp_id):
            raise SpikeletError(f"exp_id: expected letters, digits and ._,=+- (a folder's name), got {self.exp_id!r}")
        if self.data.train_split not in ("train", "train+val"):
            raise SpikeletError(f"data.train_split: expected train or train+val, got {self.data.train_split!r}")
        if self.data.frames not in ("time", "count"):
            raise SpikeletError(f"data.frames: expected time or count, got {self.data.frames!r}")
        if self.evaluate.device not in ("cpu", "cuda"):
            raise SpikeletError(f"device: expected cpu or cuda, got {self.evaluate.device!r}")
        for name, value in (
            ("data.subset", self.data.subset),
            ("data.downsample", self.data.downsample),
            ("evaluate.num_steps", self.evaluate.num_steps),
            ("evaluate.settle_steps", self.evaluate.settle_steps),
            ("evaluate.batch_size", self.evaluate.batch_size),
            ("num_threads", self.num_threads if self.num_threads is not None else 1),
        ):
            if value < 1:
                raise SpikeletError(f"{name}: expected at least 1, got {value}")
        for name, number in (
            ("seed", self.seed),
            ("data.num_workers", self.data.num_workers),
            ("input_noise", self.evaluate.input_noise),
            ("evaluate.samples", self.evaluate.samples),
        ):
            if number < 0:
                raise SpikeletError(f"{name}: expected 0 or more, got {number}")

    def _check_trace(self) -> None:
        """The loss "trace" compares the network's outputs with traces, so they must be traces too, and made alike."""
        if self.train.loss != "trace" or self.model.neuron is None:
            return
        tau_s = self.train.loss_settings.get("tau_s", Trace.tau_s)
        for key, expected in (("neuron", "trace"), ("readout", "spikes"), ("tau_s", tau_s)):
            if (given := getattr(self.model, key)) != expected:
                hint = ", its train.loss_settings.tau_s" if key == "tau_s" else ""
                raise SpikeletError(f"model.{key}: with train.loss=trace expected {expected}{hint}, got {given}")


def keys() -> list[str]:
    """Every key of the schema, dotted.

    >>> "train.num_epochs" in keys()
    True
    """

    def walk(node: DictConfig, prefix: str) -> list[str]:
        names: list[str] = []
        for key in map(str, node):
            child = OmegaConf.is_dict(node._get_node(key)) and node[key]
            names += walk(child, f"{prefix}{key}.") if child else [f"{prefix}{key}"]
        return names

    return walk(OmegaConf.structured(Config), "")


def to_config(node: DictConfig) -> Config:
    """The typed and checked configuration of a composed recipe."""
    try:
        config = OmegaConf.to_object(node)
    except OmegaConfBaseException as error:
        raise explain(error) from error
    assert isinstance(config, Config)
    config.check()
    return config


def save(config: Config, path: Path) -> None:
    """Write every key and its value as YAML."""
    write_whole(path, OmegaConf.to_yaml(OmegaConf.structured(config)))


def load(path: Path, overrides: list[str] | None = None) -> Config:
    """The configuration that a run saved, with ``overrides`` such as "evaluate.num_steps=4" on top.

    Raises SpikeletError for a file, a key or a value that does not fit the schema.
    """
    try:
        saved = OmegaConf.load(path)
        for old, new in RENAMED.items():
            if (value := OmegaConf.select(saved, old)) is not None:
                part, _, key = old.rpartition(".")
                OmegaConf.update(saved, new, value)
                del OmegaConf.select(saved, part)[key]
        merged = OmegaConf.merge(OmegaConf.structured(Config), saved)
        assert isinstance(merged, DictConfig)
    except OmegaConfBaseException as error:
        raise SpikeletError(f"{path}: {explain(error)}") from error
    except Exception as error:  # a yaml error has a dozen kinds
        raise SpikeletError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    return override(to_config(merged), overrides or [])


def override(config: Config, overrides: list[str]) -> Config:
    """``config`` with "key=value" words on top, the values read as YAML.

    >>> override(Config(), ["evaluate.num_steps=4"]).evaluate.num_steps
    4
    """
    node = OmegaConf.structured(config)
    OmegaConf.set_struct(node, True)
    try:
        for word in overrides:
            key, _, value = word.partition("=")
            OmegaConf.update(node, key, OmegaConf.create({"value": yaml.safe_load(value)}).value, merge=True)
    except OmegaConfBaseException as error:
        raise explain(error) from error
    except yaml.YAMLError as error:
        raise SpikeletError(f"{word}: cannot be read; expected key=value") from error
    return to_config(node)


def explain(error: OmegaConfBaseException) -> SpikeletError:
    """An OmegaConf complaint in one line: which key, what is wrong, what is allowed."""
    key = error.full_key or (str(error.key) if error.key is not None else "")
    message = first_line(error)
    if "not in struct" in message or re.match(r"Key .* not in ", message):
        return unknown_key(key)
    return SpikeletError(f"{key}: {message}" if key else message)


def unknown_key(key: str) -> SpikeletError:
    """The error for a key that the schema does not have, with the likely and the allowed ones."""
    known = keys()
    parent, _, name = key.rpartition(".")
    prefix = f"{parent}." if any(k.startswith(f"{parent}.") for k in known) else ""
    allowed = sorted({k.removeprefix(prefix).partition(".")[0] for k in known if k.startswith(prefix)})
    elsewhere = [k for k in known if k.rpartition(".")[2] == name]
    close = elsewhere or [prefix + k for k in get_close_matches(name, allowed, n=2)]
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return SpikeletError(f"{key}: no such key{hint} (allowed{f' in {parent}' if prefix else ''}: {', '.join(allowed)})")


def first_line(error: BaseException) -> str:
    """What an exception says, without its continuation lines."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
