"""The documents are true to the code: the tree, the floors, the tables, the examples."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from PIL import Image
from test_floors import FLOORS
from test_readme import PAGES, ROOT, SHORT, blocks, commands, run_block, run_line

from spikelet import cli
from spikelet.datasets import DATASETS
from spikelet.exits import RULES
from spikelet.metrics import PUBLISHED_LOGS, EnergyTable
from spikelet.networks import PUBLISHED
from spikelet.recipes import compose, schema

DESIGN, CONVENTIONS, CHOOSING = (ROOT / "docs" / f"{name}.md" for name in ("design", "conventions", "choosing"))
SOURCE = ROOT / "src" / "spikelet"
ROOMS = {
    p.name.removesuffix(".py") for p in SOURCE.iterdir() if p.suffix == ".py" or (p.is_dir() and p.name[0].isalpha())
}
CODE = ROOMS - {"models"}  # models/ holds files, no code


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of every table row under ``heading``, up to the next heading."""
    text = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", page.read_text(), re.M | re.S)
    assert text, heading
    lines = [line for line in text[1].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# docs/design.md


def tree() -> dict[str, str]:
    """Paths of the tree, each with what is said of it."""
    block = re.search(r"^```\n(.*?)^```", DESIGN.read_text(), re.M | re.S)
    assert block
    found, parent = {}, ""
    for line in block[1].splitlines():
        if not line.strip().startswith("#"):
            indent, path, said = re.match(r"( *)(\S+) *(.*)", line).groups()  # type: ignore[union-attr]
            parent = parent if indent else (path if not said else "")
            found[(parent if indent else "") + path] = said
    return found


def test_the_tree_names_only_what_exists() -> None:
    missing = [path for path in tree() if not (ROOT / path).exists()]
    assert not missing
    assert all(said or path == "src/spikelet/" for path, said in tree().items())


def test_every_room_has_its_line() -> None:
    described = {path.removeprefix("src/spikelet/").rstrip("/").removesuffix(".py") for path in tree()}
    assert described >= ROOMS


def test_what_is_planned_is_not_there_yet() -> None:
    planned = re.search(r"^Planned, not there yet: (.*?)\n\n", DESIGN.read_text(), re.M | re.S)
    assert planned
    there = [name for name in names(planned[1]) if (SOURCE / name.rstrip("/")).exists() and name != "report.py"]
    words = [word for name in names(planned[1]) for word in name.split(" ")[-1:] if word in cli.COMMANDS]
    assert not there and not words


def test_floors_are_those_of_the_test() -> None:
    documented = {room: float(floor) for floor, rooms in rows(DESIGN, "2. Floors")[1:] for room in names(rooms)}
    assert documented == {room: floor for room, floor in FLOORS.items() if not room.startswith("__")}
    assert documented.keys() == CODE - {"__init__", "__main__", "__pycache__"}


def test_the_tree_lists_the_commands() -> None:
    said = tree()["src/spikelet/cli.py"].removeprefix("spikelet ")
    assert sorted(said.split(" | ")) == sorted(cli.COMMANDS)


# docs/conventions.md


def test_the_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    namespace: dict[str, Any] = {}
    found = list(blocks(CONVENTIONS, "python"))
    assert len(found) == 2
    for line, block in found:
        run_block(CONVENTIONS, line, block, namespace)


def test_every_published_network_has_its_row() -> None:
    table = [row[0] for row in rows(CONVENTIONS, "Names, units, layouts")]
    assert [name for name in PUBLISHED if f"`{name}`" not in table] == []


def test_every_configuration_key_has_its_row_and_default() -> None:
    table = {names(key)[0]: default for key, default, _ in rows(CONVENTIONS, "Configuration")[1:]}
    assert sorted(table) == sorted(schema.keys())
    defaults = OmegaConf.structured(schema.Config)
    for key in set(table) - {"exp_id", "recipe"}:
        assert yaml.safe_load(table[key]) == OmegaConf.select(defaults, key), key


def flat(report: dict[str, Any]) -> set[str]:
    """Dotted keys, as deep as the table goes."""
    found = set()
    for key, value in report.items():
        deeper = isinstance(value, dict) and key not in ("config", "versions", "machine")
        found |= {f"{key}.{inner}" for inner in value} if deeper else {key}
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("docs")


@pytest.mark.parametrize(("k", "starred"), [("0", False), ("null", True)])
def test_every_key_of_the_report_has_its_row(k: str, starred: bool, folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    words = ("recipe=digits-demo", f"exp_id=k-{k}", f"model.k={k}", "model.notation=4C3-FC10")
    assert cli.main(["train", *words, *SHORT]) == 0
    report = json.loads((folder / "runs" / f"k-{k}" / "report.json").read_text())
    cells = [key for key, _, _ in rows(CONVENTIONS, "The report")[1:]]
    assert flat(report) == {name for cell in cells for name in names(cell) if "*" in cell or not starred}


def test_every_key_of_an_early_exit_has_its_row(folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    words = ("recipe=digits-demo", "exp_id=exit", "exit.loss=1", "model.notation=4C3-FC10")
    assert cli.main(["train", *words, *SHORT]) == 0
    found = json.loads((folder / "runs" / "exit" / "report.json").read_text())["exit"]
    table = rows(CONVENTIONS, "Early exit")
    start = next(i for i, row in enumerate(table) if row[0].startswith("key of"))
    assert set(found) == {name for key, _, _ in table[start + 1 :] for name in names(key)}
    assert set(found["curve"]) == set(names(table[-1][2]))
    assert {row[0].strip("`") for row in table[1:start]} == set(RULES)


def test_logs_and_constants_are_all_there() -> None:
    logs = [names(file)[0] for file, _ in rows(CONVENTIONS, "The published log files")[1:]]
    assert logs == [f"{name}.txt" for name in PUBLISHED_LOGS]
    constants = {names(name)[0]: float(joule) for name, joule, _ in rows(CONVENTIONS, "Energy")[1:]}
    assert constants == vars(EnergyTable())


# docs/choosing.md and the others


def test_published_numbers_are_those_of_the_recipes() -> None:
    recipes = compose.packaged()
    table = rows(CHOOSING, "k, the activation level (`model.k`)")[1:]
    assert [row[0] for row in table] == ["0", "1", "2"]
    for k, accuracy, steps, spikes, operations in table:
        positive, negative = spikes.split(" + ")
        claim = compose.header(recipes[f"mnist-lenet-d-k{k}"])["claim"]
        said = (accuracy, f"T = {steps},", f"{positive} positive and {negative} negative", operations)
        assert all(part in claim for part in said), claim


def test_recipes_that_the_documents_name_exist() -> None:
    recipes = compose.packaged()
    first_words = {name.split("-")[0] for name in recipes}
    named = {name for page in PAGES for name in re.findall(r"`([a-z0-9]+-[\w-]+)`", page.read_text())}
    reports = (ROOT / "docs" / "reports").glob("*.json")
    runs = {name for path in reports for name in (path.stem, path.stem.partition(",")[0])}
    unknown = {name for name in named if name.split("-")[0] in first_words} - {*recipes, *runs, *DATASETS}
    assert unknown <= {"mnist-lenet"}


def test_the_lines_of_choosing_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in (line for lines in commands(CHOOSING) for line in lines):
        run_line(line)


def test_the_results_are_what_the_reports_say(tmp_path: Path) -> None:
    for folder in ("benchmarks", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "README.md", tmp_path)
    subprocess.run([sys.executable, tmp_path / "benchmarks" / "results.py"], check=True, cwd=tmp_path)
    for page in ("README.md", "docs/results.md"):
        assert (tmp_path / page).read_text() == (ROOT / page).read_text(), f"{page}: run python benchmarks/results.py"


def test_the_changelog_knows_this_version() -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version and f"\n## {version[1]}\n" in (ROOT / "CHANGELOG.md").read_text()


# examples/


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_example_train_digits(tmp_path: Path) -> None:
    torch.manual_seed(1)
    file = tmp_path / "digits.safetensors"
    agreement = example("train_digits").main(file, num_epochs=2)
    assert agreement["snn_vs_integer_ann"] == agreement["answers"] == 1 and file.is_file()


def test_example_convert_your_own() -> None:
    agreement = example("convert_your_own").main(num_epochs=2)
    assert agreement["snn_vs_integer_ann"] == agreement["answers"] == 1


def test_example_gestures_of_your_own() -> None:
    assert example("gestures_of_your_own").main(num_updates=40) > 0.9


def test_example_classify_with_packaged_network(tmp_path: Path) -> None:
    module = example("classify_with_packaged_network")
    assert module.main([]).tolist() == [1, 7, 0]
    files = [str(tmp_path / f"{i}.png") for i in range(3)]
    for file, image in zip(files, module.strokes(), strict=True):
        Image.fromarray(255 - image[0]).resize((90, 90)).save(file)
    assert module.main(files).tolist() == [1, 7, 0]
