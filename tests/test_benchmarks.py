"""The benchmarks' command lines: what is no number of rounds gets a sentence, figures go to any folder."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import training  # noqa: E402
from _command import in_rounds, keep  # noqa: E402


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["neurons.py", "--rounds", "0"], "--rounds: expected a whole number of at least 1, got '0'"),
        (["neurons.py", "--seconds", "0"], "--seconds: expected seconds, more than 0, got '0'"),
        (["training.py", "--steps", "x"], "--steps: expected a whole number of at least 1, got 'x'"),
    ],
)
def test_bad_numbers_get_one_sentence(words: list[str], message: str) -> None:
    done = subprocess.run([sys.executable, BENCHMARKS / words[0], *words[1:]], capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_figures_go_to_a_folder_that_is_made(tmp_path: Path) -> None:
    keep({"rounds": [*in_rounds(2)]}, tmp_path / "new" / "figures.json")
    assert '"rounds": [' in (tmp_path / "new" / "figures.json").read_text()


def test_training_shows_where_time_goes_and_how_the_loss_falls() -> None:
    given = Namespace(steps=2, batch=2, device="cpu")
    assert "Self CPU" in training.profile(given, steps=1)
    curves = training.loss_curves(given, updates=2)
    assert {len(curve) for curve in curves.values()} == {2} and len(curves) == 3
