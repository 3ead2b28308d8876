"""A room imports only from lower floors (docs/design.md, section 2)."""

import ast
from pathlib import Path

import pytest

import spikelet

ROOT = Path(spikelet.__file__).parent
FLOORS: dict[str, float] = {
    "errors": -1,
    "files": -1,
    "arguments": -0.5,
    "compiling": -1,
    "surrogate": 0,
    "kernels": 0.5,  # kernels <- surrogate is the one arrow on floor 0
    "events": 0,
    "exits": 0,
    "metrics": 0,
    "plots": 0,
    "encoders": 1,
    "neurons": 1,
    "quantizers": 1,
    "datasets": 1,
    "integer": 1,
    "networks": 2,
    "spiking": 2,
    "training": 3,
    "convert": 3,
    "calibrate": 3,
    "evaluate": 3.5,  # evaluate <- convert: the closed form
    "recipes": 4,
    "report": 4,
    "runs": 4.2,
    "ablate": 4.3,  # ablate, calibration <- runs
    "calibration": 4.3,
    "doctor": 4,
    "cli": 5,
    "__init__": 6,
    "__main__": 6,
}
FILES = sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            if node.module == "spikelet":
                found |= {f"spikelet.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_run_down(path: Path) -> None:
    here = room(path)
    assert here in FLOORS, f"{here} has no floor: give it one here and in docs/design.md"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "spikelet" or len(parts) == 1:
            continue
        there = parts[1]
        if there != here and there in FLOORS:
            assert FLOORS[there] < FLOORS[here], f"{path.name}: {here} must not import {there}"


@pytest.mark.parametrize("path", [p for p in FILES if room(p) == "integer"], ids=lambda p: p.name)
def test_the_integer_room_knows_no_float_library(path: Path) -> None:
    import sys

    allowed = {"numpy", "numba", "llvmlite", "safetensors", "spikelet"} | set(sys.stdlib_module_names)
    assert {name.split(".")[0] for name in imports(path)} <= allowed
    assert all(
        n in ("spikelet", "spikelet.arguments", "spikelet.compiling", "spikelet.errors", "spikelet.files")
        or n.startswith("spikelet.integer")
        for n in imports(path)
        if n.startswith("spikelet")
    )
