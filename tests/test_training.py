"""The training loop: schedules, checkpoints, resuming, and that it learns."""

import csv
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from spikelet import FormatError, SpikeletError, TrainSettings, build, fit, load_network
from spikelet.datasets import DATASETS, loader
from spikelet.networks import SNN, Network, NetworkSettings, answers
from spikelet.quantizers import quantize
from spikelet.training.callbacks import FewerSteps, Progress
from spikelet.training.cbp import ConstrainedBackpropagation
from spikelet.training.costs import Costs, expected_exit
from spikelet.training.module import Classifier

NOTATION = "8C3-P2-FC10"


def train(run_dir=None, epochs: int = 2, resume: bool = False, **options) -> Network:
    torch.manual_seed(1)
    data = DATASETS["digits"](split="train")
    settings = TrainSettings(num_epochs=4, lr=0.01, batch_size=64, operation_cost=0.1, **options)
    network = build(NOTATION, (1, 8, 8))
    flip = lambda x, g: x + torch.rand(x.shape, generator=g)  # noqa: E731
    stop = {"max_epochs": epochs, "enable_progress_bar": False}
    batches = loader(data, 64, shuffle=True, seed=1)
    return fit(network, batches, None, settings, augment=flip, run_dir=run_dir, resume=resume, trainer=stop)


def weights(network: Network) -> torch.Tensor:
    return torch.cat([p.flatten().double() for p in network.state_dict().values()])


def test_it_learns_and_repeats(tmp_path) -> None:
    first, second = train(epochs=4), train(epochs=4)
    assert torch.equal(weights(first), weights(second))
    test = DATASETS["digits"](split="test")
    with torch.no_grad():
        accuracy = (first(test.images).argmax(1) == test.labels).float().mean()
    assert accuracy > 0.85


def test_a_teacher_is_worth_more_than_wrong_labels() -> None:
    teacher = train(epochs=4)
    data, test = (DATASETS["digits"](split=split) for split in ("train", "test"))
    data.labels[:] = 0
    taught = build(NOTATION, (1, 8, 8))
    settings = TrainSettings(num_epochs=4, lr=0.01, batch_size=64, distillation=1.0)
    fit(taught, loader(data, 64, shuffle=True), None, settings, teacher=teacher, trainer={"enable_progress_bar": False})
    agree = (answers(taught, test.images).argmax(1) == answers(teacher, test.images).argmax(1)).float().mean()
    assert agree > 0.85
    assert not any("teacher" in name for name in taught.state_dict())


def test_it_stops_early_with_the_best_weights(tmp_path) -> None:
    data, validation = (DATASETS["digits"](split=split) for split in ("train", "test"))
    validation.labels[:] = (data.labels[0] + 1) % 10  # the more is learned, the worse: the first epoch is the best
    settings = TrainSettings(num_epochs=9, lr=0.01, batch_size=64, schedule="constant", patience=2)
    network = build(NOTATION, (1, 8, 8))
    batches, judged = loader(data, 64, shuffle=True), loader(validation, 64)
    fit(network, batches, judged, settings, run_dir=tmp_path, trainer={"enable_progress_bar": False})
    with (tmp_path / "metrics.csv").open(newline="") as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file)]
    best = losses.index(min(losses))
    assert len(losses) == best + 3 < 9
    found = torch.nn.functional.cross_entropy(answers(network, validation.images), validation.labels)
    assert float(found) == pytest.approx(losses[best], rel=1e-4)
    assert torch.equal(weights(load_network(tmp_path / "checkpoints" / "last.ckpt")), weights(network))
    kept = weights(network).clone()
    fit(network, batches, judged, settings, run_dir=tmp_path, resume=True, trainer={"enable_progress_bar": False})
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(losses) and torch.equal(weights(network), kept)
    with pytest.raises(SpikeletError, match=r"train.patience: 2 needs validation samples; set data.train_split=train"):
        fit(network, batches, None, settings)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_resumed_equals_uninterrupted(tmp_path, optimizer: str) -> None:
    whole = train(tmp_path / "whole", epochs=4, optimizer=optimizer)
    train(tmp_path / "parts", epochs=2, optimizer=optimizer)
    parts = train(tmp_path / "parts", epochs=4, resume=True, optimizer=optimizer)
    assert torch.equal(weights(whole), weights(parts))
    read = load_network(tmp_path / "parts" / "checkpoints" / "last.ckpt")
    assert torch.equal(weights(read), weights(parts))
    with (tmp_path / "parts" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert {"train_loss", "train_accuracy", "train_operations", "lr"} <= rows[0].keys()


class Tells(Callback):
    """Logs numbers that are a function of the epoch."""

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        before = 1e10 if trainer.current_epoch == 1 else 12.5
        pl_module.log_dict({"lagrangian_before": before, "constraint_failure": 0.5**trainer.current_epoch})


def progress(folder, callback: Callback, epochs: int, resume: bool = False, validated: bool = False) -> np.ndarray:
    """The rows of ``Progress`` behind ``callback``, after epochs of two batches."""
    settings = NetworkSettings(NOTATION, weights="float", first="parity", last="parity")
    data, judged = (DATASETS["digits"](split=split) for split in ("train", "test"))
    batches, val = loader(data, 64, shuffle=True, seed=1), loader(judged, 180) if validated else None
    callbacks = [callback, Progress(folder / "progress.txt")]
    options = {"max_epochs": epochs, "limit_train_batches": 2, "enable_progress_bar": False, "callbacks": callbacks}
    how = TrainSettings(lr_lambda=0)  # no other callback pulls
    fit(quantize(build(settings, (1, 8, 8))), batches, val, how, run_dir=folder, resume=resume, trainer=options)
    return np.loadtxt(folder / "progress.txt", delimiter="\t")


def test_the_published_progress_and_resuming_it(tmp_path) -> None:
    progress(tmp_path, Tells(), epochs=2)
    with (tmp_path / "progress.txt").open("a") as file:
        file.write("3\t7\t7\t7\n")  # of an epoch that was lost after this was written
    nan = math.nan
    expected = [[0, 0, 0, 0], [1, 12.5, nan, 1], [2, 1e10, nan, 0.5], [3, 12.5, nan, 0.25]]
    np.testing.assert_equal(progress(tmp_path, Tells(), epochs=3, resume=True), expected)
    assert (tmp_path / "progress.txt").read_bytes().startswith(b"0\t0\t0\t0\n1\t12.5\tnan\t1\n2\t1e+10\tnan\t0.5\n")
    assert not list(tmp_path.glob("*.tmp"))


def test_progress_is_what_constrained_backpropagation_logs(tmp_path) -> None:
    found = progress(tmp_path, ConstrainedBackpropagation(), epochs=2, validated=True)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert found[:, 0].tolist() == [0, 1, 2]
    assert found[1:, 2].tolist() == pytest.approx([100 * float(row["val_accuracy"]) for row in rows], rel=1e-4)
    assert found[1:, 3].tolist() == [float(row["constraint_failure"]) for row in rows]


def test_without_a_constraint_there_is_no_progress(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        progress(tmp_path, Callback(), epochs=1)


def test_bf16_runs() -> None:
    assert weights(train(epochs=1, precision="bf16-mixed")).isfinite().all()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer", "lion"),
        ("schedule", "none"),
        ("num_epochs", 0),
        ("lr", -1.0),
        ("operation_cost", -0.1),
        ("distillation", 1.5),
        ("patience", -1),
    ],
)
def test_bad_settings_name_the_key(key: str, value) -> None:
    with pytest.raises(SpikeletError, match=f"train.{key}: expected"):
        TrainSettings(**{key: value}).check()


def test_schedules_start_and_end() -> None:
    one_cycle = TrainSettings(num_epochs=4, schedule="one_cycle")
    curve = [one_cycle.lr_scale(step, 10) for step in range(41)]
    assert max(curve) == pytest.approx(1) and curve[0] < 0.05 and curve[-1] == pytest.approx(0, abs=1e-9)
    milestones = TrainSettings(schedule="milestones", milestones=[2, 3], lr_factor=0.1)
    assert [round(milestones.lr_scale(s, 10), 4) for s in (0, 19, 20, 30)] == [1, 1, 0.1, 0.01]


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04" + bytes(100)])
def test_a_checkpoint_that_is_none(tmp_path, content: bytes) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"last\.ckpt"):
        load_network(path)
    with pytest.raises(FormatError, match="no such file"):
        load_network(tmp_path / "nothing.ckpt")


def digits_snn(**settings) -> SNN:
    network = build(
        NetworkSettings("8C3p1-MP2-FC10", neuron="lif", weights="float", num_steps=5, **settings), (1, 8, 8)
    )
    assert isinstance(network, SNN)
    return network


def digits_loaders(batch_size: int = 64):
    data, judged = (DATASETS["digits"](split=split) for split in ("train", "test"))
    return loader(data, batch_size, shuffle=True, seed=1), loader(judged, 180)


QUIET = {"enable_progress_bar": False}


def test_costs_are_what_they_say() -> None:
    """Against the report of the same network: operations, the fraction of a dense network's, firing rates."""
    torch.manual_seed(0)
    network = digits_snn().eval()
    images = DATASETS["digits"](split="test").images[:50]
    settings = TrainSettings(
        operation_cost=0.5, activity_cost=2, rate_cost=1, rate_target=0.01, exit_cost=3, cost_ramp=2
    )
    costs = Costs(network, settings)
    logits, terms = costs.measure(lambda: network(images), len(images))
    record = network.run(images, record=True)
    assert terms["operations"].item() == pytest.approx(record.synaptic_operations[0].sum() / 50 / 1e6, rel=1e-4)
    assert terms["activity"].item() == pytest.approx(
        record.synaptic_operations[0].sum() / 50 / (5 * 128 * 10), rel=1e-4
    )
    rates = record.positive.sum(1) / 50 / 5 / record.neurons
    assert terms["rates"].item() == pytest.approx((np.maximum(rates - 0.01, 0) ** 2).mean(), rel=1e-4)
    assert terms["exit"].item() == pytest.approx(expected_exit(logits, 0.9).item() / 5)
    weighed = sum(
        w * terms[name].item() for name, w in (("operations", 0.5), ("activity", 2), ("rates", 1), ("exit", 3))
    )
    assert [costs.total(terms, epoch).item() for epoch in (0, 1, 2, 9)] == pytest.approx(
        [0, weighed / 2, weighed, weighed], rel=1e-5
    )
    costs.total(terms, 9).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.blocks()["8C3p1"].op.parameters())


@given(st.integers(1, 6), st.floats(0.05, 1.0), st.integers(0, 2**31))
def test_expected_exit_is_that_of_the_soft_rule(num_steps: int, confidence: float, seed: int) -> None:
    logits = 3 * torch.randn(num_steps, 4, 5, generator=torch.Generator().manual_seed(seed))
    leaves = torch.sigmoid((logits.cumsum(0).softmax(-1).amax(-1) - confidence) / 0.05)
    leaves[-1] = 1
    expected, there = torch.zeros(4), torch.ones(4)
    for t in range(num_steps):
        expected, there = expected + (t + 1) * leaves[t] * there, there * (1 - leaves[t])
    assert expected_exit(logits, confidence).item() == pytest.approx(expected.mean().item(), rel=1e-5)


def test_fewer_steps_and_resuming_with_them(tmp_path) -> None:
    def train_on(folder, epochs: int, resume: bool = False) -> SNN:
        torch.manual_seed(1)
        settings = TrainSettings(
            num_epochs=epochs, lr=0.01, schedule="constant", min_steps=2, steps_margin=1.0, rate_cost=1
        )
        trainer = QUIET | {"limit_train_batches": 3}
        return fit(digits_snn(), *digits_loaders(), settings, run_dir=folder, resume=resume, trainer=trainer)

    whole = train_on(tmp_path / "whole", 5)
    train_on(tmp_path / "parts", 2)
    parts = train_on(tmp_path / "parts", 5, resume=True)
    read = load_network(tmp_path / "parts" / "checkpoints" / "last.ckpt")
    assert whole.settings.stop_after == parts.settings.stop_after == read.settings.stop_after == 2
    assert torch.equal(weights(whole), weights(parts)) and torch.equal(weights(read), weights(parts))
    for name in ("whole", "parts"):
        with (tmp_path / name / "metrics.csv").open(newline="") as file:
            assert [float(row["num_steps"]) for row in csv.DictReader(file)] == [5, 4, 3, 2, 2]


def test_a_step_less_only_near_the_best_accuracy() -> None:
    module, callback = Classifier(digits_snn(), TrainSettings(), None, 1, 1), FewerSteps(min_steps=2, margin=0.01)
    trainer = Trainer(logger=False, enable_checkpointing=False)
    callback.on_fit_start(trainer, module)
    spared = []
    for accuracy in (0.5, 0.48, 0.495, 0.6):
        trainer.callback_metrics["val_accuracy"] = torch.tensor(accuracy)
        callback.on_validation_end(trainer, module)
        spared.append(callback.spare)
    assert spared == [True, False, True, True] and module.network.num_steps == 5  # the epochs to come have fewer
    callback.min_steps = 5
    callback.on_validation_end(trainer, module)
    assert not callback.spare


@pytest.mark.parametrize(("key", "value"), [("rate_cost", 1.0), ("exit_cost", 1.0), ("min_steps", 2)])
def test_what_only_spiking_networks_can_save(key: str, value: float) -> None:
    with pytest.raises(SpikeletError, match=f"train.{key}: only for networks trained through time"):
        fit(build(NOTATION, (1, 8, 8)), *digits_loaders(), TrainSettings(**{key: value}))


def test_fewer_steps_need_validation_samples() -> None:
    with pytest.raises(SpikeletError, match=r"train.min_steps: 2 needs validation samples"):
        fit(digits_snn(), digits_loaders()[0], None, TrainSettings(min_steps=2))
