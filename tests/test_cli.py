"""The command line: what each command leaves behind, and what it says when it is asked for the impossible."""

import gzip
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from spikelet import cli, runs
from spikelet.datasets import DATASETS, MNIST
from spikelet.errors import SpikeletError
from spikelet.integer import IntegerNetwork
from spikelet.recipes import compose
from spikelet.runs import load as spikelet_load
from spikelet.training import load_network

TINY = (
    "recipe=digits-demo",
    "model.notation=8C3-P2-16C3-FC10",
    "train.num_epochs=2",
    "train.lr=0.01",
    "trainer.enable_progress_bar=false",
    "num_threads=1",
)
HEAVY = {"lightning", "hydra", "matplotlib", "sklearn"}
COMMANDS = ("demo", "recipes", "train", "evaluate", "convert", "calibrate", "report", "datasets", "doctor")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with two trained runs, small-s1 (all integer) and float-s1 (a plain ReLU network)."""
    folder = tmp_path_factory.mktemp("work")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert cli.main(["train", *TINY, "exp_id=small"]) == 0
        assert cli.main(["train", *TINY, "exp_id=float", "model.k=null"]) == 0
    finally:
        os.chdir(before)
    yield folder


@pytest.fixture
def at_work(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail: exit code 2, one line on stderr, no traceback. Returns that line."""
    capsys.readouterr()
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("spikelet: error: ") and said.count("\n") == 1, said
    return said


def spikelet(*words: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "spikelet.cli", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def wait_for(path: Path, process: subprocess.Popen, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)


def numbers(file: Path) -> dict[str, bytes]:
    """Every array of a network file, as bytes (the file itself may list them in another order)."""
    return {name: array.tobytes() for name, array in load_file(file).items()}


# What the commands say and leave behind


def test_help_fits_a_screen_and_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        assert cli.main(words) == 0
        shown = capsys.readouterr().out
        assert len(shown.splitlines()) <= 24 and max(map(len, shown.splitlines())) <= 120
        assert all(f"spikelet {name}" in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    assert f"\n  spikelet {name}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert re.fullmatch(r"spikelet \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_a_run_folder_holds_everything(at_work: Path) -> None:
    run = at_work / "runs" / "small"
    present = {path.relative_to(run).as_posix() for path in run.rglob("*")}
    wanted = {
        "config.yaml",
        "metrics.csv",
        "checkpoints/last.ckpt",
        "network.safetensors",
        "report.json",
        "logs/sop_num.txt",
    }
    assert wanted | {"figures/accuracy.png"} <= present and not [p for p in present if p.endswith((".tmp", ".part"))]
    report = json.loads((run / "report.json").read_text())
    assert report["agreement"]["snn_vs_integer_ann"] == report["agreement"]["answers"] == 1
    assert (report["recipe"], report["exp_id"], report["seed"], report["num_samples"]) == (
        "digits-demo",
        "small",
        1,
        360,
    )
    assert {"accuracy_per_step", "weight_bytes", "energy_per_sample_joule", "commit", "versions", "machine"} <= set(
        report
    )


def test_full_precision_stays_an_ann(at_work: Path) -> None:
    run = at_work / "runs" / "float"
    report = json.loads((run / "report.json").read_text())
    assert report["accuracy"] == report["ann_accuracy"] and "agreement" not in report
    assert not (run / "network.safetensors").exists()


def test_evaluate_renews_the_report(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = at_work / "runs" / "small" / "report.json"
    before = json.loads(path.read_text())
    assert cli.main(["evaluate", "small", "num_threads=1"]) == 0
    after = json.loads(path.read_text())
    same = set(before) - {"seconds"}
    assert {key: after[key] for key in same} == {key: before[key] for key in same}
    assert "integer SNN" in capsys.readouterr().out


def test_evaluate_with_other_settings_leaves_the_report_alone(at_work: Path) -> None:
    run = at_work / "runs" / "small"
    before = (run / "report.json").read_bytes()
    assert cli.main(["evaluate", "runs/small", "num_steps=2", "input_noise=0.5", "num_threads=1"]) == 0
    noisy = json.loads((run / "evaluate" / "num_steps=2,input_noise=0.5" / "report.json").read_text())
    assert noisy["input_noise"] == 0.5 and len(noisy["accuracy_per_step"]) == 2
    assert (run / "report.json").read_bytes() == before


@pytest.mark.parametrize(
    ("run", "key", "rule"),
    [
        ("small", "exit.confidence=0.9", "confidence"),
        ("small", "exit.loss=5", "margin"),
        ("small", "exit.loss=0.01", "margin"),  # less than one of the validation samples
        ("small", "exit.margin=20", "margin"),
    ],
)
def test_evaluate_with_an_early_exit(run: str, key: str, rule: str, at_work: Path, capsys) -> None:
    before = (at_work / "runs" / run / "report.json").read_bytes()
    assert cli.main(["evaluate", run, key, "num_threads=1"]) == 0
    said, folder = capsys.readouterr().out, at_work / "runs" / run / "evaluate" / key
    told = json.loads((folder / "report.json").read_text())
    assert told["exit"]["rule"] == rule and sum(told["exit"]["histogram"]) == told["num_samples"]
    assert ("validation samples" in said) == ("margin" not in key) and f"exit: {rule}" in said
    assert ("less than one of them" in said) == (key == "exit.loss=0.01")
    assert (folder / "figures" / "exit.png").is_file()
    assert (at_work / "runs" / run / "report.json").read_bytes() == before


def test_evaluate_takes_a_network_file_alone(at_work: Path, tmp_path: Path) -> None:
    shutil.copy(at_work / "runs" / "small" / "network.safetensors", tmp_path / "alone.safetensors")
    out = tmp_path / "out"
    assert cli.main(["evaluate", str(tmp_path / "alone.safetensors"), f"output={out}", "num_threads=1"]) == 0
    alone, run = (json.loads((p / "report.json").read_text()) for p in (out, at_work / "runs" / "small"))
    for key in ("accuracy_per_step", "ann_accuracy", "spikes_per_sample", "synaptic_operations_per_sample", "recipe"):
        assert alone[key] == run[key]


def test_load_finds_the_integer_network(at_work: Path) -> None:
    networks = [spikelet_load(name) for name in ("small", "runs/small", "runs/small/network.safetensors")]
    assert {network.input_shape for network in networks} == {(1, 8, 8)}
    with pytest.raises(SpikeletError, match="spikelet convert float"):
        spikelet_load("float")


def test_evaluate_full_precision(at_work: Path) -> None:
    assert cli.main(["evaluate", "float", "num_threads=1"]) == 0


def test_convert_again(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = at_work / "runs" / "small" / "network.safetensors"
    before = numbers(file)
    file.unlink()
    assert cli.main(["convert", "small", "num_threads=1"]) == 0
    assert numbers(file) == before and "every neuron and every answer" in capsys.readouterr().out
    assert not (file.parent / "report.json").exists(), "it told of the network before"
    assert cli.main(["evaluate", "small"]) == 0


def test_calibrate_leaves_networks_reports_and_a_figure(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["calibrate", "float", "num_steps=6", "samples=200", "num_threads=1"]
    assert cli.main([*words, "level=light"]) == 0
    assert cli.main([*words, "level=advanced"]) == 0
    said = capsys.readouterr().out
    assert "runs/float/calibrate/none,6 has the report of this network" in said and "ANN" in said
    folder = at_work / "runs" / "float" / "calibrate"
    levels = [f"{level},6" for level in ("advanced", "light", "none")]
    assert {path.name for path in folder.iterdir()} == {"accuracy,6.png", *levels}
    for level in levels:
        report = json.loads((folder / level / "report.json").read_text())
        assert report["calibration"]["level"] == level.partition(",")[0] and report["num_steps"] == 6
        assert len(report["accuracy_per_step"]) == 6 and report["ann_accuracy"] > report["accuracy"] - 0.1
    alone = ["evaluate", "float/calibrate/light,6", f"output={at_work / 'alone'}"]
    assert cli.main(alone) == 0
    again, light = (
        json.loads((place / "report.json").read_text()) for place in (at_work / "alone", folder / "light,6")
    )
    assert again["accuracy_per_step"] == light["accuracy_per_step"]
    assert type(spikelet_load(folder / "light,6" / "network.safetensors")).__name__ == "SNN"
    other = at_work / "network.safetensors"  # what stands in the working folder is not meant
    shutil.copy(compose.packaged_networks()["mnist-lenet"], other)
    assert type(spikelet_load("float/calibrate/light,6")).__name__ == "SNN"
    other.unlink()


def test_calibrate_a_network_trained_through_time(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", *TINY, "exp_id=lif", "model.neuron=lif", "model.num_steps=6", "evaluate.samples=0"]) == 0
    assert cli.main(["calibrate", "lif", "level=advanced", "samples=100", "num_threads=1"]) == 0
    assert "all steps" in capsys.readouterr().out
    report = json.loads((at_work / "runs" / "lif" / "calibrate" / "advanced,3" / "report.json").read_text())
    assert 0 < report["accuracy"] <= 1 and 0 < report["teacher_accuracy"] <= 1
    assert "its own teacher" in refused(["calibrate", "lif", "level=light", "num_steps=6"], capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["float", "level=best"], "calibrate.level: expected one of none, light, advanced, got 'best'"),
        (["float", "level=light", "num_steps=0"], "calibrate.num_steps: expected at least 1, got 0"),
        (["float", "level=light", "samples=0"], "calibrate.samples: expected at least 1, got 0"),
        (["float", "level=light", "samples=5000"], "calibrate.samples: expected 1 to "),
        (["float", "level=light", "steps=4"], "steps: spikelet calibrate takes no such key"),
        (["small", "level=light"], "RUN: small was trained with counts of spikes (model.k=0), so its conversion loses"),
        (["mnist-lenet", "level=light"], "RUN: mnist-lenet is a network's file without its run"),
        (["nothing", "level=light"], "RUN: nothing is no run folder"),
        ([], "RUN: spikelet calibrate takes exactly one, got 0"),
    ],
)
def test_what_cannot_be_calibrated(words: list[str], said: str, at_work: Path, capsys) -> None:
    assert said in refused(["calibrate", *words], capsys)


def test_report_of_one_and_of_several(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "small"]) == 0
    assert "accuracy" in capsys.readouterr().out
    assert cli.main(["report", "small", "small/evaluate/num_steps=2,input_noise=0.5", "output=both"]) == 0
    assert (at_work / "both" / "accuracy.png").stat().st_size > 1000
    assert "2 runs" in capsys.readouterr().out


def test_recipes_lists_and_shows(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipes"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert {*compose.available(None)} <= {line.split()[0] for line in listed if line}
    assert any(
        line.rstrip().endswith("trained our way (see mnist-lenet-d-light-k0).") for line in listed
    )  # whole in a pipe
    assert cli.main(["recipes", "mnist-lenet-k0"]) == 0
    assert "operation_cost: 0.05" in capsys.readouterr().out


def test_datasets_lists_and_shows(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["datasets", "data.root=nowhere"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in DATASETS) and "missing" in listed
    assert cli.main(["datasets", "mnist", "data.root=nowhere"]) == 0
    assert "spikelet datasets mnist download=true" in capsys.readouterr().out


def test_datasets_check_reads_counts_and_draws(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, num in (("dvs-gesture", 24), ("mnist", 20)):
        DATASETS[name].write_fake("data", num, num)
        assert cli.main(["datasets", "check", name, "data.root=data", "data.verify=false"]) == 0
        shown = capsys.readouterr().out
        assert re.search(rf"^all +{num} +{num}", shown, re.M) and f"figure: runs/datasets/{name}.png" in shown
        assert "numbers and checksums were not compared" in shown and Path(f"runs/datasets/{name}.png").is_file()
    assert cli.main(["datasets", "check", "dvs-gesture", "data.root=data", "output=few.png"]) == 2
    shown, said = capsys.readouterr()
    assert "dvs-gesture-train has 1,176 recordings, 24 of them found" in shown and "its MD5 is" in shown
    assert said.startswith("spikelet: error: dvs-gesture: ") and said.count("\n") == 1 and Path("few.png").is_file()
    assert cli.main(["datasets", "check", "digits"]) == 0
    assert "all is there, in the published numbers" in capsys.readouterr().out


def test_datasets_check_reports_odd_labels(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    DATASETS["dvs-gesture"].write_fake("data", 12, 12)
    table = Path("data/DVSGesture/DvsGesture/user01_fluorescent_labels.csv")
    table.write_text(table.read_text() + "3,5,5\n")
    assert cli.main(["datasets", "check", "dvs-gesture", "data.root=data", "data.verify=false"]) == 0
    shown = capsys.readouterr().out
    assert f"note: {table}: row 13 ends at 5 us" in shown and f"note: {table}: row 13 has no event" in shown


def test_doctor(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "data.root=nowhere"]) == 0
    shown = capsys.readouterr().out
    for row in ("cores", "vector units", "GPU", "threads", "allocator", "data mnist", "versions", "extras"):
        assert f"\n{row}" in shown, row


def test_demo(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "trainer.enable_progress_bar=false", "num_threads=1"]) == 0
    shown = capsys.readouterr().out
    report = json.loads((elsewhere / "runs" / "demo" / "report.json").read_text())
    assert report["accuracy"] >= 0.97
    assert report["agreement"]["snn_vs_integer_ann"] == report["agreement"]["answers"] == 1.0
    assert report["accuracy"] == report["ann_accuracy"]
    assert "integer SNN" in shown and "run folder: runs/demo" in shown and "figure: runs/demo/figures/" in shown


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["recipes"], ["recipes", "digits-demo"], ["doctor"]])
def test_small_commands_start_fast(words: list[str], elsewhere: Path) -> None:
    heavy = HEAVY | (set() if words == ["doctor"] else {"torch", "numba"})
    code = f"import sys; from spikelet import cli; cli.main({words!r}); assert not {heavy!r} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


# Recipes of one's own, sweeps, resuming


def test_config_dir_adds_recipes(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = elsewhere / "mine" / "recipe"
    mine.mkdir(parents=True)
    recipe = "# @package _global_\n# My own.\ndefaults: [digits-demo]\nmodel: {k: 1, notation: 4C3-FC10}\n"
    (mine / "my-own.yaml").write_text(recipe)
    assert cli.main(["recipes", "--config-dir", "mine"]) == 0
    assert "my-own" in capsys.readouterr().out
    short = (
        "train.num_epochs=1",
        "trainer.limit_train_batches=2",
        "trainer.enable_progress_bar=false",
        "num_threads=1",
    )
    assert cli.main(["train", "--config-dir=mine", "recipe=my-own", *short]) == 0
    report = json.loads((elsewhere / "runs" / "my-own-s1" / "report.json").read_text())
    model = report["config"]["model"]
    assert report["recipe"] == "my-own" and model["k"] == 1 and model["notation"] == "4C3-FC10"


@pytest.mark.parametrize(
    "text, said",
    [
        ("model: {kk: 1}", ("recipe/bad: model.kk: no such key", "did you mean model.k?")),
        ("model: {k: two}", ("recipe/bad: model.k", "two")),
        ("modell: {k: 1}", ("recipe/bad: modell: no such key", "did you mean model?")),
        ("model: {k: 1", ("YAML",)),
    ],
)
def test_a_wrong_recipe_is_refused(text: str, said: tuple[str, ...], elsewhere: Path, capsys) -> None:
    folder = elsewhere / "mine" / "recipe"
    folder.mkdir(parents=True)
    (folder / "bad.yaml").write_text(f"# @package _global_\n{text}\n")
    message = refused(["train", "recipe=bad", "--config-dir", "mine"], capsys)
    assert all(part in message for part in said), message
    assert not (elsewhere / "runs").exists()


def test_sweep_gives_every_run_its_folder(elsewhere: Path) -> None:
    short = (*TINY, "train.num_epochs=1", "trainer.limit_train_batches=2", "data.root=unused")
    assert cli.main(["train", "-m", *short, "seed=1,2", "model.k=0,1"]) == 0
    names = {path.name for path in (elsewhere / "runs").iterdir() if path.is_dir()}
    assert names == {f"digits-demo-s{seed},model.k={k}" for seed in (1, 2) for k in (0, 1)}
    reports = [json.loads(path.read_text()) for path in sorted((elsewhere / "runs").glob("*/report.json"))]
    told = sorted((report["seed"], report["config"]["model"]["k"]) for report in reports)
    assert told == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_cfg_shows_and_does_nothing(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--cfg", "job", *TINY, "train.lr=0.25"]) == 0
    assert "lr: 0.25" in capsys.readouterr().out
    assert not list(elsewhere.iterdir())


def test_an_old_run_is_not_touched_unasked(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = at_work / "runs" / "small"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    message = refused(["train", *TINY, "exp_id=small"], capsys)
    assert "runs/small" in message and "resume=true" in message and "overwrite=true" in message
    message = refused(["train", *TINY, "exp_id=small", "resume=true", "model.k=1"], capsys)
    assert "model.k" in message and "was begun with 0, now got 1" in message
    message = refused(
        ["train", *TINY, "exp_id=small", "overwrite=true", "data.name=mnist", "data.root=nowhere"], capsys
    )
    assert "nowhere" in message
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


def test_overwrite_starts_anew(elsewhere: Path) -> None:
    run = elsewhere / "runs" / "again"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").write_bytes(b"old")
    (run / "mine.txt").write_text("kept")
    short = (*TINY, "exp_id=again", "train.num_epochs=1", "trainer.limit_train_batches=2", "overwrite=true")
    assert cli.main(["train", *short]) == 0
    assert (run / "mine.txt").read_text() == "kept" and load_network(run / "checkpoints" / "last.ckpt")


def test_a_killed_run_resumes_to_the_same_weights(elsewhere: Path) -> None:
    words = ("train", *TINY, "train.num_epochs=25", "data.augment=digits", "train.operation_cost=0.1")
    whole, killed = elsewhere / "runs" / "whole", elsewhere / "runs" / "killed"
    process = spikelet(*words, "exp_id=killed", cwd=elsewhere)
    wait_for(killed / "checkpoints" / "last.ckpt", process)
    delay = random.uniform(0, 1)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (killed / "report.json").exists(), delay
    epochs = len((killed / "metrics.csv").read_text().splitlines()) - 1
    assert 1 <= epochs < 25
    assert cli.main([*words, "exp_id=killed", "resume=true"]) == 0
    assert cli.main([*words, "exp_id=whole"]) == 0
    ours, theirs = (load_network(run / "checkpoints" / "last.ckpt").state_dict() for run in (killed, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs), (delay, epochs)
    assert numbers(killed / "network.safetensors") == numbers(whole / "network.safetensors")
    assert (killed / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()


def test_init_from_starts_with_the_weights_of_another_run(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", *TINY, "exp_id=again", "init_from=small", "train.lr=1e-9", "train.num_epochs=1"]) == 0
    before, after = (
        load_network(at_work / "runs" / name / "checkpoints" / "last.ckpt")
        .layers[0]
        .op.parametrizations.weight.original
        for name in ("small", "again")
    )
    assert torch.allclose(before, after, atol=1e-5)
    other = ["init_from=small", "train.num_epochs=1", "model.k=1", "model.weights=float", "model.last=parity"]
    assert cli.main(["train", *TINY, "exp_id=other", *other, "evaluate.num_steps=4"]) == 0
    for words, said in (
        (["init_from=nobody"], "init_from: nobody"),
        (["init_from=small", "model.notation=5C3-FC10"], "expected the same layers"),
        (["init_from=small", "model.neuron=lif", "model.norm=none"], "expected the same layers"),
    ):
        assert cli.main(["train", *TINY, "exp_id=never", *words]) == 2
        assert said in capsys.readouterr().err
    assert not (at_work / "runs" / "never").exists()


def test_a_teacher_is_a_run_on_the_same_images(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ("train.num_epochs=1", "trainer.limit_train_batches=2")
    assert cli.main(["train", *TINY, *short, "teacher=small", "model.k=1", "exp_id=taught"]) == 0
    for words, said in (
        (["teacher=nobody"], "teacher: nobody"),
        (["teacher=small", "data.name=mnist", f"data.root={at_work}"], "mnist"),
        (["train.distillation=2"], "train.distillation:"),
    ):
        assert cli.main(["train", *TINY, "exp_id=never", *words]) == 2
        assert said in capsys.readouterr().err
    assert not (at_work / "runs" / "never").exists()


def test_resume_without_a_checkpoint_starts_anew(elsewhere: Path) -> None:
    short = (*TINY, "exp_id=new", "train.num_epochs=1", "trainer.limit_train_batches=2", "resume=true")
    assert cli.main(["train", *short]) == 0


def test_ctrl_c_says_how_to_go_on(elsewhere: Path) -> None:
    process = spikelet("train", *TINY, "train.num_epochs=5000", "exp_id=long", cwd=elsewhere)
    wait_for(elsewhere / "runs" / "long" / "checkpoints" / "last.ckpt", process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in said and "resume=true" in said and "exp_id=long" in said


# Bad input: one clear line, exit code 2, nothing half written


@pytest.mark.parametrize(
    "words, said",
    [
        (["trian"], ("command", "trian", "did you mean train?")),
        (["train"], ("recipe: name one", "digits-demo")),
        (["train", "digits-demo"], ("digits-demo", "recipe=digits-demo")),
        (["train", "recipe=digit-demo"], ("digit-demo", "did you mean digits-demo?", "`spikelet recipes`")),
        (["train", "recipe=digits-demo", "train.lrr=1"], ("train.lrr: no such key", "did you mean train.lr?")),
        (["train", "recipe=digits-demo", "+foo=1"], ("foo: no such key",)),
        (["train", "recipe=digits-demo", "train.lr=fast"], ("train.lr", "fast", "Float")),
        (["train", "recipe=digits-demo", "train.num_epochs=0"], ("train.num_epochs: expected at least 1, got 0",)),
        (["train", "recipe=digits-demo", "seed=1,2"], ("seed=1,2", "-m")),
        (["train", "recipe=digits-demo", "seed=["], ("seed=[", "key=value")),
        (["train", "recipe=digits-demo", "exp_id=a/b"], ("exp_id", "a/b")),
        (["train", "recipe=mnist-eval", "variant=al"], ("variant: expected one of all, co-optimization", "'al'")),
        (["train", "recipe=digits-demo", "--fast"], ("--fast", "--config-dir")),
        (["train", "recipe=digits-demo", "--config-dir", "no"], ("--config-dir", "no such folder", "recipe/NAME.yaml")),
        (["train", "recipe=digits-demo", "data.name=digit"], ("data.name", "did you mean digits?")),
        (["train", "recipe=digits-demo", "model.notation=8C3-FC"], ("model.notation", "8C3-FC")),
        (["train", "recipe=digits-demo", "model.notation=8C9-FC10"], ("8C9",)),
        (["train", "recipe=digits-demo", "trainer.device=2"], ("trainer.device", "did you mean trainer.devices?")),
        (["train", "recipe=digits-demo", "trainer.accelerator=abacus"], ("trainer", "abacus")),
        (["train", "-m", "recipe=digits-demo", "data.name=digit,digits"], ("data.name", "digit")),
        (["train", "recipe=mnist-lenet-k0", "data.root=nowhere"], ("nowhere", "spikelet datasets mnist download=true")),
        (["demo", "train.lr=x"], ("train.lr", "x")),
        (["evaluate"], ("RUN", "one or more")),
        (["evaluate", "nothing"], ("nothing", "no run folder", "packaged networks")),
        (["convert", "nothing"], ("nothing",)),
        (["report", "nothing"], ("nothing",)),
        (["recipes", "nothing"], ("nothing", "digits-demo")),
        (["recipes", "a", "b"], ("exactly one",)),
        (["datasets", "mnits"], ("mnits", "did you mean mnist?")),
        (["datasets", "mnist", "download=maybe"], ("download", "true or false")),
        (["datasets", "download=true"], ("download", "which")),
        (["datasets", "check"], ("NAME", "exactly one")),
        (["datasets", "check", "shd", "download=true"], ("download", "takes no such key", "data.verify")),
        (["datasets", "check", "shd", "data.root=nowhere"], ("nowhere", "shd_train has 8,156 recordings, 0 of them")),
        (["datasets", "n-cars", "download=true", "data.root=nowhere"], ("n-cars", "by hand", "prophesee")),
        (["doctor", "now"], ("now",)),
    ],
)
def test_bad_words(words: list[str], said: tuple[str, ...], elsewhere: Path, capsys) -> None:
    message = refused(words, capsys)
    assert all(part in message for part in said), message
    assert not list(elsewhere.glob("runs/*/")), "a run folder was left behind"


@pytest.mark.parametrize("damage", ["truncated", "corrupted"])
def test_damaged_data(damage: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MNIST.write_fake(elsewhere / "data", num_train=40, num_test=10)
    file = next((elsewhere / "data").rglob("train-images*"))
    raw = gzip.decompress(file.read_bytes())
    broken = file.read_bytes()[:-200] if damage == "truncated" else gzip.compress(b"\x00\x00\x08\x07" + raw[4:])
    file.write_bytes(broken)
    message = refused(["train", "recipe=mnist-lenet-k0", "data.root=data", "data.verify=false"], capsys)
    assert file.name in message and "spikelet datasets mnist download=true" in message
    assert not list(elsewhere.glob("runs/*/"))


def test_data_that_are_not_the_official_ones(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MNIST.write_fake(elsewhere / "data", num_train=40, num_test=10)
    assert "MD5" in refused(["train", "recipe=mnist-lenet-k0", "data.root=data"], capsys)


@pytest.mark.parametrize(
    "words, said",
    [
        (["evaluate", "small", "num_step=2"], ("num_step", "did you mean num_steps?")),
        (["evaluate", "small", "num_steps=two"], ("evaluate.num_steps", "two")),
        (["evaluate", "small", "num_steps=0"], ("evaluate.num_steps: expected at least 1, got 0",)),
        (["evaluate", "small", "fast"], ("RUN", "fast is no run folder")),
        (["evaluate"], ("RUN", "one or more")),
        (["evaluate", "small", "exit.confidence=0"], ("exit.confidence: expected above 0, at most 1, got 0",)),
        (["evaluate", "small", "exit.entropy=1.1"], ("exit.entropy: expected above 0, at most 1, got 1.1",)),
        (["evaluate", "small", "exit.margin=0"], ("exit.margin: expected a whole number of at least 1, got 0",)),
        (["evaluate", "small", "exit.margin=1.5"], ("exit.margin", "1.5", "Integer")),
        (["evaluate", "small", "exit.loss=-1"], ("exit.loss: expected percentage points, 0 to 100, got -1",)),
        (["evaluate", "small", "exit.temperature=0"], ("exit.temperature: expected above 0 and finite, got 0",)),
        (["evaluate", "small", "exit.margin=3", "exit.loss=1"], ("exit: expected one of", "got margin, loss")),
        (["evaluate", "small", "exit.margins=3"], ("exit.margins", "did you mean exit.margin?")),
        (["evaluate", "float", "exit.confidence=0.9"], ("exit: a network that stays an ANN", "no steps")),
        (["evaluate", "smal"], ("smal", "did you mean small?")),
        (["convert", "small", "fraction_bits=40"], ("fraction_bits", "40")),
        (["convert", "small", "train.lr=1"], ("train.lr", "takes no such key")),
        (["convert", "runs/small/network.safetensors"], ("a network's file without its run",)),
        (["convert", "float"], ("layer 8C3", "ReLU", "model.k")),
        (["report", "small", "size=2"], ("size", "output")),
        (["evaluate", "runs"], ("runs is no run folder", "config.yaml")),
    ],
)
def test_bad_words_about_a_run(words: list[str], said: tuple[str, ...], at_work: Path, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in at_work.rglob("*") if path.is_file()}
    message = refused(words, capsys)
    assert all(part in message for part in said), message
    assert {path: path.stat().st_mtime_ns for path in at_work.rglob("*") if path.is_file()} == before


@pytest.fixture
def copy_of_small(work: Path, elsewhere: Path) -> Path:
    return Path(shutil.copytree(work / "runs" / "small", elsewhere / "runs" / "small"))


def test_a_checkpoint_that_is_none(copy_of_small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy_of_small / "checkpoints" / "last.ckpt").write_bytes(b"not a checkpoint")
    for words in (["convert", "small"], ["evaluate", "small"], ["train", *TINY, "exp_id=small", "resume=true"]):
        message = refused(words, capsys)
        assert "last.ckpt" in message and "no " in message
    (copy_of_small / "checkpoints" / "last.ckpt").unlink()
    assert "no checkpoint" in refused(["evaluate", "small"], capsys)


def test_a_network_file_that_is_none(copy_of_small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = copy_of_small / "network.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    assert "network.safetensors" in refused(["evaluate", "small"], capsys)
    assert "network.safetensors" in refused(["evaluate", str(file)], capsys)


def test_a_config_that_is_none(copy_of_small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy_of_small / "config.yaml").write_text("model: [")
    assert "config.yaml" in refused(["evaluate", "small"], capsys)
    (copy_of_small / "config.yaml").write_text("model: {kay: 1}")
    assert "model.kay: no such key" in refused(["evaluate", "small"], capsys)


def test_a_report_that_is_none(copy_of_small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy_of_small / "report.json").write_text("{")
    assert "report.json" in refused(["report", "small"], capsys)
    (copy_of_small / "report.json").unlink()
    assert "spikelet evaluate" in refused(["report", "small"], capsys)


@pytest.mark.parametrize(
    "images", [np.zeros((1, 1, 9, 9), np.uint8), np.zeros((1, 1, 8, 8), np.float32), np.zeros((1, 8, 8), np.uint8)]
)
def test_images_that_do_not_fit(images: np.ndarray, at_work: Path) -> None:
    network = IntegerNetwork.load(at_work / "runs" / "small" / "network.safetensors")
    with pytest.raises(SpikeletError, match="images"):
        network.run(images, num_steps=2)


def test_an_unwritable_folder(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (elsewhere / "runs").write_text("a file where a folder should be")
    assert "runs" in refused(["train", *TINY], capsys)


def test_the_process_exits_with_the_code(elsewhere: Path) -> None:
    process = spikelet("train", "recipe=no-such", cwd=elsewhere)
    _, said = process.communicate()
    assert process.returncode == 2 and said.count("\n") == 1 and said.startswith("spikelet: error: recipe")


def test_packaged_networks_are_found_by_name() -> None:
    for name, file in compose.packaged_networks().items():
        target = runs.find(name)
        assert target.file == file and target.config.data.name in DATASETS


def test_several_networks_in_one_table(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    short = ["train.num_epochs=1", "trainer.limit_train_batches=2", "trainer.enable_progress_bar=false"]
    assert cli.main(["train", "recipe=digits-demo", "exp_id=first", *short]) == 0
    assert cli.main(["train", "recipe=digits-demo", "exp_id=second", "seed=2", *short]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", "first", "second", "device=cpu", "num_steps=2"]) == 0
    told = capsys.readouterr().out
    assert "2 evaluations" in told and "\nfirst " in told and "\nsecond " in told
    assert cli.main(["evaluate", "first", "second", "output=here"]) == 2
    assert "evaluate with output=FOLDER takes exactly one, got 2: first second" in capsys.readouterr().err
    assert cli.main(["evaluate", "first", "device=cuda"]) == 2
    assert "device: converted networks and ANNs are evaluated on the CPU" in capsys.readouterr().err
    assert cli.main(["evaluate", "first", "device=tpu"]) == 2
    assert "device: expected cpu or cuda, got 'tpu'" in capsys.readouterr().err
