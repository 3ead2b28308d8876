"""The README does what it says: its Python blocks, its `spikelet` lines, its links, its markers.

The lines are run as they stand, through `cli.main` in a temporary folder, with overrides appended for speed: one epoch
of two batches, one thread, no progress bar (`SHORT`, `QUIET`). Lines that need MNIST run on fake files in the official
format, and, where the official files are there and the line needs no training, on those too.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from spikelet import cli
from spikelet.datasets import MNIST, NMNIST

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0]
QUIET = ("num_threads=1",)
SHORT = (
    "train.num_epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "trainer.enable_progress_bar=false",
    *QUIET,
)
APPENDED = {"train": SHORT, "ablate": SHORT, "demo": SHORT} | dict.fromkeys(("evaluate", "convert", "calibrate"), QUIET)


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """(line number, text) of every fenced block in ``language``."""
    text = page.read_text()
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.M | re.S):
        yield text.count("\n", 0, match.start(1)), match[1]


def commands(page: Path) -> list[list[str]]:
    """Every line of each of the page's shell blocks, without its comment."""
    whole = [[line.partition(" #")[0].strip() for line in block.splitlines()] for _, block in blocks(page, "sh")]
    return [[line for line in lines if line] for lines in whole]


def run_line(line: str, *more: str) -> None:
    """Run one command line in this process; a word with * stands for the files that it matches, as in a shell."""
    program, *words = shlex.split(line)
    assert program == "spikelet", line
    words = [found for word in words for found in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]
    assert cli.main([*words, *APPENDED.get(words[0], ()), *more]) == 0, line


def run_block(page: Path, line: int, block: str, namespace: dict[str, Any]) -> None:
    exec(compile("\n" * line + block, str(page), "exec"), namespace)


def needs_mnist(lines: list[str]) -> bool:
    return any("mnist" in line for line in lines)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def namespace() -> dict[str, Any]:
    return {}


PYTHON = list(blocks(README, "python"))


def test_the_first_example_trains_and_runs_in_integers(namespace, elsewhere: Path, capsys) -> None:
    torch.manual_seed(1)
    run_block(README, *PYTHON[0], namespace)
    assert (namespace["answers"] == namespace["test"].labels.numpy()).mean() > 0.9
    assert "synaptic operations per image" in capsys.readouterr().out
    code = [line for line in PYTHON[0][1].splitlines() if line and not line.startswith(("import", "from", "print"))]
    assert len(code) <= 10


@pytest.mark.parametrize("number", range(1, len(PYTHON)))
def test_the_other_examples_say_what_they_promise(number: int, namespace, elsewhere: Path, capsys) -> None:
    run_block(README, *PYTHON[number], namespace)
    promised = re.findall(r"print\(.*\)  # (.*)", PYTHON[number][1])
    printed = capsys.readouterr().out.splitlines()
    assert promised and [line for line in printed if line in promised] == promised  # training prints as well


def test_every_line_on_embedded_data(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKELET_DATA", str(elsewhere / "no-data"))
    for file, text in re.findall(r"`([\w/-]+\.yaml)`\s+```yaml\n(.*?)^```", README.read_text(), re.M | re.S):
        Path(file).parent.mkdir(parents=True)
        Path(file).write_text(text)
    for line in (line for lines in commands(README) if not needs_mnist(lines) for line in lines):
        run_line(line)
    promised = re.findall(r"^ {6}([\w./]+)  ", README.read_text(), re.M)
    missing = [name for name in promised if not (elsewhere / "runs" / "mine" / name).exists()]
    assert len(promised) > 5 and not missing
    assert (elsewhere / "runs" / "mine" / "evaluate" / "num_steps=2,input_noise=0.5" / "report.json").is_file()
    assert (elsewhere / "compare" / "trade_off.png").is_file() and (elsewhere / "runs" / "small-s1").is_dir()


ON_MNIST = [[line for line in lines if " datasets " not in line] for lines in commands(README) if needs_mnist(lines)]


@pytest.mark.parametrize("lines", ON_MNIST, ids=lambda lines: lines[0])
def test_lines_on_fake_mnist(lines: list[str], elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (MNIST, NMNIST):
        kind.write_fake(elsewhere / "data", num_train=240, num_test=6)
    monkeypatch.setenv("SPIKELET_DATA", str(elsewhere / "data"))
    for line in lines:
        run_line(line, *(["data.verify=false"] if " report " not in line else []))


@pytest.mark.real_data
@pytest.mark.parametrize("line", [line for lines in ON_MNIST for line in lines if "spikelet evaluate mnist" in line])
def test_line_on_real_mnist(line: str, elsewhere: Path, data_root: Path) -> None:
    if MNIST.status(data_root) != "complete":
        pytest.skip(f"the official MNIST files are not in {data_root}")
    run_line(line)


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {name for page in PAGES for name in re.findall(r"^    make (\w+)", page.read_text(), re.M)}
    assert {"demo", "test"} <= named
    assert not [name for name in named if not re.search(rf"^{name}:", makefile, re.M)]


def test_the_table_has_its_place() -> None:
    text = README.read_text()
    assert text.count("<!-- results -->") == text.count("<!-- /results -->") == 1
    assert text.index("<!-- results -->") < text.index("<!-- /results -->")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)", file.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}, target
