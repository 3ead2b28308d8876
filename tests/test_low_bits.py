"""Low-bit networks on the command line: train, fine-tune with constraints, convert, train on in integers, compare."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from spikelet import cli
from spikelet.integer import IntegerNetwork
from spikelet.report import read_report
from spikelet.training import load_network

COMMON = (
    "data.name=digits",
    "data.augment=none",
    "model.notation=8C3-P2-24-FC10",
    "train.batch_size=32",
    "trainer.enable_progress_bar=false",
    "evaluate.samples=0",
    "num_threads=1",
)
QUANTIZERS = ("cbp_binary", "cbp_ternary", "twn", "uniform2", "none")
FOUR = "recipe=mnist-stbp-ternary", "init_from=full", "train.num_epochs=4", "trainer.limit_train_batches=1.0"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a full-precision run, and what was made of it with five quantizers in one sweep."""
    folder, before = tmp_path_factory.mktemp("work"), Path.cwd()
    os.chdir(folder)
    try:
        words = ["recipe=mnist-stbp-fp32", *COMMON, "exp_id=full", "train.num_epochs=12", "train.lr=0.01", "lens=0.4"]
        assert cli.main(["train", *words]) == 0
        sweep = f"quantizer={','.join(QUANTIZERS)}"
        words = [*FOUR, *COMMON, sweep, "T=4", "decay=0.25", "thresh=0.5", "lens=0.4"]
        assert cli.main(["train", "-m", *words]) == 0
        yield folder
    finally:
        os.chdir(before)


@pytest.fixture
def at_work(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(work)
    return work


def run_of(quantizer: str) -> Path:
    word = "float" if quantizer == "none" else quantizer
    (found,) = Path("runs").glob(f"*model.weights={word}*")
    return found


def test_every_quantizer_learns(at_work: Path) -> None:
    full = read_report("runs/full")["accuracy"]
    assert full > 0.9
    for quantizer in QUANTIZERS:
        assert read_report(run_of(quantizer))["accuracy"] > full - 0.08, quantizer


def test_hidden_weights_are_on_their_levels(at_work: Path) -> None:
    for quantizer, most in {"cbp_binary": 2, "cbp_ternary": 3, "twn": 3, "uniform2": 4}.items():
        first, *hidden, last = load_network(run_of(quantizer) / "checkpoints/last.ckpt").blocks().values()
        assert all(len(block.op.weight.unique()) <= most for block in hidden)
        assert min(len(block.op.weight.unique()) for block in (first, last)) > 16


def test_a_constrained_run_tells_how_it_went(at_work: Path) -> None:
    run = run_of("cbp_binary")
    rows = [line.split("\t") for line in (run / "progress.txt").read_text().splitlines()]
    assert rows[0] == ["0"] * 4 and [int(row[0]) for row in rows] == [0, 1, 2, 3, 4]
    assert float(rows[-1][3]) < float(rows[1][3])  # the constraint failure score falls
    assert (run / "figures/constraints.png").exists()
    head = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"constraint_failure", "window", "multiplier", "lagrangian"} <= {*head}
    assert not (run_of("twn") / "progress.txt").exists()


def test_runs_side_by_side(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", *(str(run_of(quantizer)) for quantizer in QUANTIZERS), "output=page"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("cbp_binary", "uniform2", "float"))
    assert Path("page/memory.png").exists()


def test_converted_and_trained_on_in_integers(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of("cbp_ternary")
    assert cli.main(["convert", str(run), "num_threads=1"]) == 0
    assert "of answers and" in capsys.readouterr().out
    integer = IntegerNetwork.load(run / "network.safetensors")
    assert [node.bits for node in integer.nodes[1:-1]] == [2, 2] and integer.nodes[0].bits > 8
    more = ["train.num_epochs=1", "train.lr_lambda=0", "train.lr=0.0003", "model.arithmetic=integer", "lens=0.4"]
    words = ["recipe=mnist-stbp-ternary", *COMMON, f"init_from='{run}'", *more, "exp_id=exact"]
    assert cli.main(["train", *words]) == 0
    assert "every neuron of the integer network fires as trained" in capsys.readouterr().out
    report = read_report("runs/exact")
    assert report["agreement"]["neurons"] == report["agreement"]["answers"] == 1
    assert report["accuracy"] == report["agreement"]["accuracy_trained"]
    assert report["weight_bytes"] == sum(row["weight_bytes"] for row in integer.describe())


def test_stored_weights_take_their_bits_and_no_more(at_work: Path) -> None:
    from safetensors.numpy import load_file

    run = run_of("cbp_binary")
    assert cli.main(["convert", str(run), "num_threads=1"]) == 0
    integer, file = IntegerNetwork.load(run / "network.safetensors"), load_file(run / "network.safetensors")
    for i, node in enumerate(integer.nodes):
        assert file[f"{i}.weight"].nbytes == -(-node.weight.size * node.bits // 8)
    again = load_network(run / "checkpoints/last.ckpt").run(torch.zeros(1, 1, 8, 8)).logits
    assert again.shape == (4, 1, 10) and np.isfinite(again).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quantizer=quaternary"], "model.weights: expected one of ternary, twn, cbp_binary"),
        (["quantizer=cbp_binary", "model.notation=8C3-FC10"], "is for the layers between the first and the last"),
        (["lens=wide"], "lens: expected half the surrogate's width, above 0, got 'wide'"),
        (["lens=-1"], "lens: expected half the surrogate's width, above 0, got '-1'"),
        (["T=0"], "model.num_steps: expected at least 1"),
        (["model.arithmetic=fixed"], "model.arithmetic: expected one of float, integer"),
    ],
)
def test_what_is_refused(at_work: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    capsys.readouterr()
    assert cli.main(["train", "recipe=mnist-stbp-ternary", *COMMON, "exp_id=refused", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not Path("runs/refused").exists()


def test_going_on_with_another_quantizer_is_refused(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    exp_id = f"exp_id='{run_of('cbp_ternary').name}'"
    words = [*FOUR, *COMMON, exp_id, "lens=0.4", "quantizer=cbp_binary", "resume=true"]
    assert cli.main(["train", *words]) == 2
    assert "model.weights: " in (said := capsys.readouterr().err) and "was begun with 'cbp_ternary'" in said
