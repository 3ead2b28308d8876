"""Every recipe composes, builds, trains a step, converts and is evaluated, on fake files in the official formats."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from spikelet import cli
from spikelet.datasets import DATASETS
from spikelet.errors import SpikeletError
from spikelet.networks import PUBLISHED
from spikelet.recipes import build, compose, schema
from spikelet.recipes.schema import Config

RECIPES = compose.packaged()
SHORT = (
    "data.verify=false",
    "train.num_epochs=1",
    "train.batch_size=4",
    "trainer.limit_train_batches=1",
    "trainer.limit_val_batches=1",
    "trainer.enable_progress_bar=false",
    "num_threads=1",
)


@pytest.fixture(scope="module")
def fake_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for kind in DATASETS.values():
        kind.write_fake(root, num_train=24, num_test=6)
    return root


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_trains_converts_and_is_evaluated(
    name: str, fake_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    deep = name.startswith("cifar10")  # its float networks would take minutes to settle here
    steps = ["evaluate.num_steps=4", "model.num_steps=4", f"evaluate.settle_steps={8 if deep else 256}"]
    if name.endswith("-eval"):
        steps.append("train.min_steps=3")
    large = re.match("cifar10+-stbp-(?!narrow)", name)
    if large and name != "cifar10-stbp-fp32":  # one network of 62 million weights is enough
        narrow, classes = PUBLISHED["stbp-7conv-3fc-narrow"].notation, len(DATASETS[name.split("-")[0]].classes)
        steps.append(f"model.notation={narrow.replace('FC10', f'FC{classes}')}")
    assert cli.main(["train", f"recipe={name}", f"data.root={fake_root}", *SHORT, *steps]) == 0
    run = tmp_path / "runs" / f"{name}-s1"
    report = json.loads((run / "report.json").read_text())
    config = schema.load(run / "config.yaml")
    assert report["recipe"] == config.recipe == name and report["seed"] == 1
    assert 0 <= report["accuracy"] <= 1 and report["num_samples"] > 0
    assert (run / "metrics.csv").exists() and (run / "checkpoints" / "last.ckpt").exists()
    integer = (
        config.model.neuron is None
        and config.model.k is not None
        and config.model.weights == "ternary"
        and config.model.last == "integer"
    )
    assert (run / "network.safetensors").exists() == integer
    if config.model.neuron is not None:
        assert len(report["accuracy_per_step"]) == 4 and "agreement" not in report
        drawn = ["raster_*.png"] + ["spike_bar_0_target*.gif"] * (config.model.readout == "spikes")
        assert all([*(run / "figures").glob(name)] for name in drawn)
    elif config.model.k is not None:
        assert len(report["accuracy_per_step"]) == 4
        assert report["agreement"]["snn_vs_integer_ann"] == 1 or deep
        assert sorted((run / "figures").glob("*.png"))
        assert len((run / "logs" / "accuracy.txt").read_text().splitlines()) >= 4
    shutil.rmtree(run)


def test_two_processes_train_one_network(fake_root: Path, tmp_path: Path) -> None:
    words = ["recipe=nmnist-csnn", f"data.root={fake_root}", *SHORT, "model.num_steps=3", "num_threads=1", "exp_id=two"]
    devices = ["trainer.devices=2", "trainer.accelerator=cpu", "trainer.strategy=ddp"]
    command = [sys.executable, "-m", "spikelet", "train", *words, *devices]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "runs" / "two" / "report.json").read_text())["num_samples"] > 0
    assert (tmp_path / "runs" / "two" / "metrics.csv").read_text().count("rate/12C5") == 1


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_says_what_is_claimed_and_measured(name: str) -> None:
    head = compose.header(RECIPES[name])
    assert RECIPES[name].startswith("# @package _global_\n")
    assert {"title", "claim", "measured", "time"} <= set(head)


def test_every_family_of_the_published_networks_is_there() -> None:
    wanted = {
        "digits-demo", "mnist-lenet-k0", "mnist-lenet-e-parity-k0", "mnist-lenet-e-fp32", "mnist-lenet-d-fp32",
        "mnist-lenet-d-k0", "mnist-lenet-d-k1", "mnist-lenet-d-k2", "fashion-lenet", "fashion-mlp", "cifar10-cnn1-k0",
        "cifar10-cnn1-k1", "mnist-csnn", "nmnist-csnn", "cifar10-cnn2-k0", "cifar10-cnn2-k1", "cifar10-vggnet-int",
    }  # fmt: skip
    assert wanted <= set(RECIPES)


def test_config_survives_its_file(tmp_path: Path) -> None:
    config = Config(recipe="mine", trainer={"devices": 2})
    config.model.k, config.train.milestones = None, [3, 5]
    schema.save(config, tmp_path / "config.yaml")
    assert schema.load(tmp_path / "config.yaml") == config


def test_override_reads_values_as_yaml() -> None:
    changed = schema.override(Config(), ["model.k=null", "train.lr=1e-2", "train.milestones=[1,2]", "data.root=~/x"])
    assert (changed.model.k, changed.train.lr, changed.train.milestones) == (None, 0.01, [1, 2])
    assert changed.data.root == "~/x"


@pytest.mark.parametrize(
    "word, said",
    [
        ("train.lrr=1", ("train.lrr: no such key", "did you mean train.lr?", "num_epochs")),
        ("lr=1", ("lr: no such key", "did you mean train.lr?")),
        ("train.lr=abc", ("train.lr", "abc", "Float")),
        ("train.lr=-1", ("train.lr: expected a positive number, got -1",)),
        ("data.subset=0", ("data.subset: expected at least 1, got 0",)),
        ("data.train_split=test", ("data.train_split: expected train or train+val, got 'test'",)),
        ("model.pool=sum", ("model.pool", "conv, max, avg", "sum")),
        ("exp_id=a/b", ("exp_id", "a/b")),
        ("evaluate.input_noise=-1", ("input_noise: expected 0 or more",)),
    ],
)
def test_a_wrong_key_or_value_is_refused_by_name(word: str, said: tuple[str, ...]) -> None:
    with pytest.raises(SpikeletError) as error:
        schema.override(Config(), [word])
    assert all(part in str(error.value) for part in said), error.value


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"name": "mnits"}, ("data.name", "mnits", "did you mean mnist?", "cifar10")),
        ({"augment": "affin"}, ("data.augment", "did you mean affine?")),
        ({"eval_transform": "crop"}, ("data.eval_transform", "center24")),
        ({"name": "cifar10", "augment": "crop24_color"}, ("data.eval_transform", "must be the same")),
    ],
)
def test_a_wrong_name_is_refused_with_the_right_ones(settings: dict, said: tuple[str, ...]) -> None:
    with pytest.raises(SpikeletError) as error:
        build.input_shape(schema.DataSettings(**settings))
    assert all(part in str(error.value) for part in said), error.value


def test_training_and_judged_images_have_one_size(fake_root: Path) -> None:
    common = {"name": "cifar10", "root": str(fake_root), "verify": False, "eval_transform": "center24"}
    cropping, plain = schema.DataSettings(**common, augment="crop24_color"), schema.DataSettings(**common)
    assert build.input_shape(cropping) == build.input_shape(plain) == (3, 24, 24)
    assert build.dataset(schema.Config(data=cropping), "train", training=True).images.shape[2:] == (
        32,
        32,
    )  # the crop is random, made at every batch
    assert build.dataset(schema.Config(data=plain), "train").images.shape[2:] == (24, 24)
    assert build.dataset(schema.Config(data=cropping), "test").images.shape[2:] == (24, 24)


@pytest.mark.parametrize("name", DATASETS)
def test_a_network_has_an_output_per_class(name: str, fake_root: Path) -> None:
    config = Config(data=schema.DataSettings(name=name, root=str(fake_root), verify=False))
    loader, num_classes = build.loader(config, "test"), len(DATASETS[name].classes)
    config.model.notation = f"FC2-FC{num_classes}"  # a sensor may have one row only, which no convolution fits
    build.check_classes(build.network(config), loader)
    config.model.notation = f"FC2-FC{num_classes + 1}"
    with pytest.raises(
        SpikeletError, match=f"{num_classes + 1} outputs, the data {num_classes} classes; end it in FC{num_classes}"
    ):
        build.check_classes(build.network(config), loader)


def test_the_same_seed_gives_the_same_network() -> None:
    config = Config(data=schema.DataSettings(name="digits"))
    config.model.notation = "4C3-P2-FC10"
    one, two = build.network(config).state_dict(), build.network(config).state_dict()
    assert all((one[key] == two[key]).all() for key in one)
    config.seed = 2
    assert any((one[key] != value).any() for key, value in build.network(config).state_dict().items())


def test_sweep_folders_differ_and_can_be_named() -> None:
    suffix = compose.sweep_suffix("RunMode.MULTIRUN", "data.root=/a b,++trainer.devices=2," + "x=1," * 60)
    other = compose.sweep_suffix("RunMode.MULTIRUN", "data.root=/a b,++trainer.devices=2," + "x=1," * 61)
    assert suffix != other and "/" not in suffix and " " not in suffix and len(suffix) < 130
    schema.override(Config(), [f"exp_id='mine-s1{suffix}'"])


def test_recipes_are_plain_yaml() -> None:
    for text in RECIPES.values():
        assert OmegaConf.is_dict(OmegaConf.create(text))
