"""A run calibrated: its network corrected for fewer steps, and what that gained, in the run's folder."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikelet import doctor
from spikelet.calibrate import calibrate
from spikelet.errors import FormatError, SpikeletError
from spikelet.evaluate import evaluate, evaluate_ann, provenance, save_report
from spikelet.networks import SNN, load, save
from spikelet.recipes import build
from spikelet.recipes.schema import Config
from spikelet.report import read_report
from spikelet.runs import NETWORK, REPORT, Say, Target, describe, shown, signed

CALIBRATE = "calibrate"
Track = Callable[[Sequence[Any]], Iterable[Any]]


def run(target: Target, say: Say = print, track: Track = iter) -> tuple[Path, int]:
    """Correct the trained network of ``target`` at ``calibrate.level``, evaluate it, and itself without correction.

    Both leave their network and their report in calibrate/LEVEL,STEPS/ of the run folder; the folder calibrate/ and the
    steps are returned. A report that was made of the same network before stays as it is. ``track`` is given the layers
    that are corrected and yields them.
    """
    config = target.config
    _check(target)
    doctor.prepare(config.num_threads)
    network, loader = target.network(), build.loader(config, config.evaluate.split)
    images, steps = _images(config), num_steps(config, network)
    assert target.folder is not None
    teacher, found = cache(lambda: _teacher(network, loader)), {}
    for level in dict.fromkeys(("none", config.calibrate.level)):
        place = target.folder / CALIBRATE / f"{level},{steps}"
        say(f"{level}: {steps} steps, on {len(images)} training images")
        per_channel, shift = config.calibrate.thresholds == "channel", config.calibrate.shift
        made = calibrate(
            network, images, level, steps, per_channel=per_channel, shift=shift, seed=config.seed, track=track
        )
        made.metadata = describe(config, steps) | {
            "model": asdict(made.settings),
            "calibration": _told(config, level, steps),
        }
        if (report := _known(place, made, config)) is not None:
            say(f"{shown(place)} has the report of this network")
        else:
            say(f"evaluating on {len(loader.dataset)} {config.evaluate.split} samples of {config.data.name}")  # type: ignore[arg-type]
            report = evaluate(made, loader, steps, input_noise=config.evaluate.input_noise, seed=config.seed)
            report |= teacher() | {"calibration": made.metadata["calibration"]}
            save(made, place / NETWORK)
            save_report(signed(report, config), place / REPORT)
        found[level] = report["accuracy"]
    if (lost := found["none"] - found[config.calibrate.level]) > 0:
        say(f"{config.calibrate.level}: {100 * lost:.2f} points below none")
    return target.folder / CALIBRATE, steps


def num_steps(config: Config, network: Any) -> int:
    """The steps T to calibrate for; by default half of those that a spiking network was trained with."""
    if config.calibrate.num_steps is not None:
        return config.calibrate.num_steps
    return max(1, network.num_steps // 2) if isinstance(network, SNN) else config.evaluate.num_steps


def _check(target: Target) -> None:
    """Raise SpikeletError for a run that cannot be calibrated, before anything is read or written."""
    model = target.config.model
    if target.folder is None:
        raise SpikeletError(f"RUN: {target.name} is a network's file without its run; expected a run")
    if build.has_recordings(target.config):
        raise SpikeletError(f"RUN: calibration takes images, {target.config.data.name} of {target.name} are recordings")
    if model.neuron is None and model.k is not None:
        raise SpikeletError(
            f"RUN: {target.name} was trained with counts of spikes (model.k={model.k}), so its conversion loses "
            "nothing (spikelet convert): there is nothing to calibrate; expected model.k=null, or a model.neuron"
        )
    if model.arithmetic == "integer":
        raise SpikeletError(f"RUN: {target.name} computes in integers; expected model.arithmetic=float")


def _images(config: Config) -> Tensor:
    """Training images without augmentation, drawn by the seed."""
    images, number = build.dataset(config, config.data.train_split).images, config.calibrate.samples  # type: ignore[attr-defined]
    if number > len(images):
        raise SpikeletError(f"calibrate.samples: expected 1 to {len(images)}, all training images, got {number}")
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(config.seed))[:number]]


def _told(config: Config, level: str, steps: int) -> dict[str, Any]:
    return asdict(config.calibrate) | {"level": level, "num_steps": steps}


def _teacher(network: Any, loader: Any) -> dict[str, Any]:
    """What there is to lose: the accuracy of the ANN, or of the network in all of its own steps."""
    if isinstance(network, SNN):
        return {"teacher_accuracy": evaluate(network, loader, network.num_steps)["accuracy"]}
    return {"ann_accuracy": evaluate_ann(network, loader)["accuracy"]}


def _known(place: Path, made: SNN, config: Config) -> dict[str, Any] | None:
    """The report in ``place`` where it is of the same network, evaluated alike, by the same commit."""
    try:
        report, stored = read_report(place), load(place / NETWORK)
    except (SpikeletError, FormatError):
        return None
    if not isinstance(stored, SNN) or stored.metadata["calibration"] != made.metadata["calibration"]:
        return None
    ours, theirs = made.state_dict(), stored.state_dict()
    same = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    settings = report.get("config", {}).get("evaluate") == asdict(config.evaluate)
    return report if same and settings and report.get("commit") == provenance()["commit"] else None
