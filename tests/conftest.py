"""What every test shares: one thread, and a clear word when no real data was read."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

DATA_ROOT = Path(os.environ.get("SPIKELET_DATA", Path.home() / ".cache" / "spikelet"))


@pytest.fixture
def data_root() -> Path:
    """Where the official files are; a ``real_data`` test whose file is not there is skipped by name."""
    return DATA_ROOT


def pytest_terminal_summary(terminalreporter) -> None:
    passed = [r for r in terminalreporter.stats.get("passed", []) if "real_data" in r.keywords]
    asked = [r for kind in ("passed", "skipped", "failed") for r in terminalreporter.stats.get(kind, [])]
    if asked and not passed:
        terminalreporter.write_line(
            f"note: no real-data test was executed; looked for the official files in {DATA_ROOT}"
        )
    elif passed:
        terminalreporter.write_line(f"real data: {len(passed)} tests executed on the files in {DATA_ROOT}")
