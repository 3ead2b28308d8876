"""The ablation of a recipe: which runs, their order and folders, what a recipe must have, going on."""

import csv
import json
import os
from pathlib import Path

import pytest

from spikelet import SpikeletError, ablate, cli
from spikelet.recipes.schema import Config

SHORT = [
    "recipe=mnist-eval",
    "data.name=digits",
    "data.augment=none",
    "model.notation=8C3p1-MP2-FC10",
    "train.num_epochs=2",
    "train.steps_margin=1",
    "trainer.limit_train_batches=2",
    "trainer.enable_progress_bar=false",
    "evaluate.samples=0",
    "seed=1,2",
]


def run_folder(seed: int, variant: str) -> Path:
    return Path(f"runs/mnist-eval-s{seed},variant={variant}")


def test_four_variants_of_a_recipe_and_going_on(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["ablate", *SHORT]) == 0
    told = capsys.readouterr().out
    for variant in ablate.VARIANTS:
        report = json.loads((run_folder(1, variant) / "report.json").read_text())
        model, train = report["config"]["model"], report["config"]["train"]
        assert model["coding"] == ["direct", "latency"]
        assert train["cost_ramp"] == (3 if train["min_steps"] else 0)
        assert bool(model["correction"]) == (variant in ("correction", "all"))
        assert (
            (train["loss"] == "ce_cumulative") == (train["min_steps"] == 2) == (variant in ("co-optimization", "all"))
        )
        assert report["num_steps"] == (2 if train["min_steps"] else 3)
        assert ("exit" in report) == (variant in ("co-optimization", "all"))
        assert f"\n{variant} " in told
    written = {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/report.json")}
    run_folder(2, "all").joinpath("report.json").unlink()  # as if the last run had been killed behind its checkpoint
    assert cli.main(["ablate", *SHORT]) == 0
    assert capsys.readouterr().out.count("done already") == 7
    assert {path for path, time in written.items() if path.stat().st_mtime_ns != time} == {
        run_folder(2, "all") / "report.json"
    }
    with (run_folder(2, "all") / "metrics.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2
    assert cli.main(["ablate", *SHORT, "train.lr=0.5"]) == 2
    assert "train.lr: runs/mnist-eval-s1,variant=all was begun with 0.003, now got 0.5" in capsys.readouterr().err


def test_folders_by_name(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["ablate", *SHORT[:-1], "seed=2", "variant=coding,all", "exp_id=mine"]) == 0
    assert f"runs{os.sep}mine-ablation" in capsys.readouterr().out
    assert {path.parent.name for path in Path("runs").glob("*/report.json")} == {
        "mine-s2,variant=coding",
        "mine-s2,variant=all",
    }


def test_the_name_of_an_ablation() -> None:
    for words in (["exp_id=mine"], ["++exp_id=mine"], ["exp_id="], ["train.lr=0.1"]):
        words = ["++recipe=mnist-eval", *words, "seed=2"]
        folders = ablate.plan(words)[1]
        assert folders[0] == Path(f"runs/{ablate.name(words)}-s2,variant=coding")
        assert ablate.name(words) == ("mine" if "mine" in words[1] else "mnist-eval")


def test_a_recipe_without_a_component(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["ablate", "recipe=mnist-csnn", "data.name=digits"]) == 2
    error = capsys.readouterr().err
    assert (
        "error: recipe: mnist-csnn has no model.coding, which the variant all needs; the recipes called *-eval" in error
    )
    assert tmp_path.is_dir() and not Path("runs").exists()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("recipe=mnist-evil", "recipe: no recipe 'mnist-evil'; did you mean mnist-eval"),
        ("recipe=cifar10-eval", "recipe: no recipe 'cifar10-eval'; did you mean"),
        ("variant=some", "variant: expected some of coding, correction, co-optimization, all, got 'some'"),
        ("seed=1,1", "seed: expected each value once, got 1,1"),
        ("train.lr=0.1,0.2", "train.lr: an ablation sweeps over seed and variant only"),
        ("resume=true", "resume: an ablation goes on by itself"),
        ("exp_id=a/b", "exp_id: expected letters, digits"),
        ("train.min_steps=1", "train.min_steps: this is what the variants differ in"),
        ("++train.min_steps=1", "train.min_steps: this is what the variants differ in"),
        ("train.cost_ramp=1", "train.cost_ramp: this is what the variants differ in"),
        ("train.num_epochs=0", "train.num_epochs: expected at least 1, got 0"),
        ("mnist-eval", "mnist-eval: cannot be read; expected key=value, such as recipe=mnist-eval"),
    ],
)
def test_bad_words(tmp_path, monkeypatch, capsys, word: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word] if word.startswith("recipe=") else ["recipe=mnist-eval", word]
    assert cli.main(["ablate", *words]) == 2
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


def test_what_each_variant_needs() -> None:
    config = Config(recipe="mine", variant="correction")
    config.model.coding = ["direct"]
    with pytest.raises(
        SpikeletError, match=r"recipe: mine has no model.correction, which the variant correction needs"
    ):
        ablate.check(config)
    config.variant = "co-optimization"
    with pytest.raises(SpikeletError, match=r"recipe: mine has no train.\*_cost or train.min_steps"):
        ablate.check(config)
    config.train.exit_cost = 0.1
    ablate.check(config)
