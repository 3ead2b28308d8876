"""The first compilation of a kernel is announced; nobody else's is."""

import os
import subprocess
import sys
from pathlib import Path

OURS = "spikelet.LIF()(torch.zeros(3, 4))"
THEIRS = "numba.njit(lambda x: x + 1)(1)"


def told(*calls: str, cache: Path) -> str:
    code = "; ".join(["import numba, spikelet, torch", *calls])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache)},
    )  # fmt: skip
    return done.stderr


def test_the_first_compilation_is_announced_once(tmp_path: Path) -> None:
    assert told(OURS, OURS, cache=tmp_path).count("compiling kernels that were not used") == 1
    assert told(OURS, THEIRS, cache=tmp_path) == ""
