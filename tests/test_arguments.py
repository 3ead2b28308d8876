"""What is no argument gets one sentence that names it, what was given and what is allowed; never a traceback."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import spikelet
from spikelet import LIF, PLIF, SRM, AdaptiveLIF, NetworkSettings, SpikeletError, TraceLIF, TrainSettings
from spikelet.arguments import check_fields
from spikelet.datasets import loader
from spikelet.encoders import unary
from spikelet.neurons import Adaptation, Primed

SHAPE = (1, 8, 8)
PIXELS = torch.randint(256, (8, *SHAPE), generator=torch.Generator().manual_seed(1)).byte()


def settings(**given: object) -> Callable:
    return lambda: spikelet.build(NetworkSettings("4C3-MP2-FC10", neuron="lif", **given), SHAPE)  # type: ignore[arg-type]


def batches(images: torch.Tensor = PIXELS, labels: torch.Tensor | None = None) -> DataLoader:
    return DataLoader(TensorDataset(images, torch.arange(8) if labels is None else labels), 4)


def fit(images: torch.Tensor = PIXELS, labels: torch.Tensor | None = None, **given: object) -> Callable:
    return lambda: spikelet.fit(
        spikelet.build("4C3-FC10", SHAPE), batches(images, labels), settings=TrainSettings(**given)
    )  # type: ignore[arg-type]


def fit_with(train_loader: object, val_loader: object = None) -> Callable:
    return lambda: spikelet.fit(spikelet.build("4C3-FC10", SHAPE), train_loader, val_loader)  # type: ignore[arg-type]


def spiking() -> spikelet.SNN:
    return spikelet.build(NetworkSettings("4C3-MP2-FC10", neuron="lif", num_steps=2), SHAPE)  # type: ignore[return-value]


def quantized() -> spikelet.Network:
    return spikelet.build("4C3-FC10", SHAPE).eval()  # type: ignore[return-value]


def integer() -> spikelet.IntegerNetwork:
    return spikelet.to_integer(quantized())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LIF(beta="0.9"), "beta: expected a decay per step in [0, 1], got '0.9'"),
        (lambda: LIF(beta=nn.Parameter(torch.tensor([0.5, 1.5]))), "beta: expected a decay per step in [0, 1]"),
        (lambda: LIF(beta=torch.tensor([])), "beta: expected a decay per step in [0, 1], got none"),
        (lambda: LIF(v_threshold=torch.tensor([1.0, float("nan")])), "v_threshold: expected a number above 0, got nan"),
        (lambda: LIF(v_threshold=float("nan")), "v_threshold: expected a number above 0, got nan"),
        (lambda: LIF(v_reset=float("nan")), "v_reset: expected a number or None, got nan"),
        (lambda: LIF(v_reset=True), "v_reset: expected a number or None, got True"),
        (lambda: LIF(detach_reset="no"), "detach_reset: expected True or False, got 'no'"),
        (lambda: LIF(surrogate=LIF), "surrogate: expected a name or a spikelet.surrogate, got <class"),
        (lambda: LIF.from_tau("1", 1.0), "tau: expected a positive time, got '1'"),
        (lambda: LIF()(np.zeros((3, 2), np.float32)), "x: expected a tensor, got ndarray"),
        (lambda: LIF().hold(torch.zeros(2, 3), 2.5), "num_steps: expected a whole number of at least 1, got 2.5"),
        (lambda: PLIF(tau="2"), "tau: expected a number, more than 1 step, got '2'"),
        (lambda: SRM(tau_m="2"), "tau_m: expected a number above 0, got '2'"),
        (lambda: TraceLIF(tau_m="2"), "tau_m: expected a number, at least 1 step, got '2'"),
        (lambda: AdaptiveLIF(beta="0.9"), "beta: expected a decay per step in [0, 1], got '0.9'"),
        (lambda: AdaptiveLIF(adaptation=True), "adaptation: expected a neurons.Adaptation, got True"),
        (lambda: AdaptiveLIF(adaptation=False), "adaptation: expected a neurons.Adaptation, got False"),
        (lambda: AdaptiveLIF(adaptation=Adaptation(leak=0)), "adaptation.leak: expected True or False, got 0"),
        (lambda: Primed(LIF(), 0.5), "neuron, start: expected a neuron and a tensor, got LIF("),
        (lambda: LIF().init_state(torch.ones(2, 3, dtype=torch.int64)), "x: expected a floating dtype"),
        (lambda: LIF(beta=torch.full((4, 3), 0.5)).init_state(torch.ones(1, 3)), "beta: expected one element, or"),
        (lambda: unary(torch.ones(1), 5, levels="4"), "levels: expected a whole number of at least 1, got '4'"),
        (lambda: spikelet.ThresholdWalk(0.5, 1.0), "first: expected a tensor, got 0.5"),
        (lambda: spikelet.build("4C3-FC10", (8, 8)), "input_shape: expected (C, H, W), got (8, 8)"),
        (lambda: spikelet.build("4C3-FC10", 8), "input_shape: expected (C, H, W), got 8"),
        (lambda: spikelet.build("4C3-FC10", (True, 8, 8)), "input_shape: expected a whole number of at least 1"),
        (lambda: spikelet.build(4, SHAPE), "settings: expected a NetworkSettings or a notation, got 4"),
        (settings(num_steps="4"), "model.num_steps: expected a whole number, got '4'"),
        (settings(num_steps=np.int64(4)), "model.num_steps: expected a whole number, got np.int64(4)"),
        (settings(beta=float("nan")), "model.beta: expected a number, got nan"),
        (settings(k=0.5), "model.k: expected a whole number or null, got 0.5"),
        (settings(coding="direct"), "model.coding: expected a list, each of it a word, got 'direct'"),
        (settings(detach_reset=1), "model.detach_reset: expected true or false, got 1"),
        (fit(num_epochs="3"), "train.num_epochs: expected a whole number, got '3'"),
        (fit(lr=True), "train.lr: expected a number, got True"),
        (fit(milestones=["a"]), "train.milestones: expected a list, each of it a whole number, got ['a']"),
        (fit(loss_settings={"weight": "b"}), "train.loss_settings: expected names, each with a number, got"),
        (fit(precision="fp16"), "train.precision: expected one of 32-true, bf16-mixed, "),
        (fit(lr=float("inf")), "train.lr: expected a number, got inf"),
        (lambda: spikelet.fit(quantized(), batches(), seed="x"), "seed: expected a whole number of at least 0"),
        (fit((PIXELS / 255 - 0.13) / 0.31), "train_loader: expected pixels of 0 to 255, which the network scales by"),
        (fit(PIXELS / 255), "train_loader: expected pixels of 0 to 255, which the network scales by itself"),
        (fit(PIXELS.clamp(max=1)), "train_loader: expected pixels of 0 to 255, which the network scales by"),
        (fit(labels=torch.arange(8).int()), "train_loader: expected labels int64 [N], got torch.int32 [4]"),
        (fit(labels=torch.eye(8)), "train_loader: expected labels int64 [N], got torch.float32 [4, 8]"),
        (fit(labels=torch.arange(8) + 7), "train_loader: expected labels 0 to 9, one per output, got 7 to 10"),
        (fit_with((PIXELS, torch.arange(8))), "train_loader: expected a torch DataLoader, got a"),
        (fit_with(TensorDataset(PIXELS)), "train_loader: expected a torch DataLoader, got a TensorDataset"),
        (fit_with(DataLoader(TensorDataset(PIXELS), 4)), "train_loader: expected batches of (images, labels), got a"),
        (fit_with(DataLoader([])), "train_loader: expected at least one batch, got none"),
        (fit_with(batches(), TrainSettings()), "val_loader: expected a torch DataLoader, got a"),
        (fit_with(batches(), batches(PIXELS / 255)), "val_loader: expected pixels of 0 to 255, which the network"),
        (lambda: loader(TensorDataset(PIXELS), 4), "dataset: expected one of spikelet.datasets, got a TensorDataset"),
        (lambda: spikelet.check_equivalence(spiking(), None, []), "network: expected a Network, got SNN; convert"),
        (lambda: spikelet.fit(quantized(), batches(), settings={}), "settings: expected a TrainSettings, got {}"),
        (lambda: spikelet.to_integer(nn.Linear(2, 2)), "network: expected what spikelet.build makes, got Linear"),
        (lambda: spikelet.to_spiking(nn.Linear(2, 2)), "network: expected what spikelet.build makes, got Linear"),
        (lambda: integer().predict(PIXELS.numpy(), "4"), "num_steps: expected a whole"),
        (lambda: integer().predict(PIXELS.numpy(), 4, num_threads="a"), "num_threads: expected a whole number of at"),
        (lambda: spiking()(PIXELS, 0), "num_steps: expected a whole number of at least 1, got 0"),
        (lambda: spiking().run(PIXELS, 0), "num_steps: expected a whole number of at least 1, got 0"),
        (lambda: spiking()(PIXELS.numpy()), "x: expected a tensor, got ndarray"),
        (lambda: quantized()(PIXELS.numpy()), "images: expected a tensor, got ndarray"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(call: Callable, message: str) -> None:
    with pytest.raises(SpikeletError) as caught:
        call()
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_numbers_of_numpy_and_floats_of_255_are_welcome() -> None:
    assert LIF(beta=np.float32(0.5), v_threshold=np.int64(1)).hold(torch.ones(1, 1), np.int64(3)).shape == (3, 1, 1)
    fit(PIXELS.float(), num_epochs=1)()


@dataclass
class Hinted:
    size: "tuple[int, int]" = (1, 1)
    name: Optional[str] = None  # noqa: UP045


def test_fields_may_be_hinted_in_any_way() -> None:
    check_fields("hinted", Hinted())
    with pytest.raises(SpikeletError, match=r"hinted.size: expected tuple\[int, int\], got 3"):
        check_fields("hinted", Hinted(size=3))  # type: ignore[arg-type]
    with pytest.raises(SpikeletError, match=r"hinted\.name: expected a word or null, got 3"):
        check_fields("hinted", Hinted(name=3))  # type: ignore[arg-type]


def test_a_huge_threshold_may_move() -> None:
    assert AdaptiveLIF(v_threshold=800.0).threshold().item() == 800.0  # type: ignore[union-attr]
