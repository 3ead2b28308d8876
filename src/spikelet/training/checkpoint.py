"""Checkpoints are Lightning's; this reads the network back without Lightning."""

from pathlib import Path
from typing import Any

import torch

from spikelet.errors import FormatError
from spikelet.networks import SNN, Network, NetworkSettings, build


def load_network(path: str | Path) -> Network | SNN:
    """The trained network of a checkpoint file, in evaluation mode: the best so far where training may stop early.

    Raises FormatError where the file is none.
    """
    path = Path(path)
    if not path.is_file():
        hint = "; of a run folder, it is checkpoints/last.ckpt" if path.is_dir() else ""
        raise FormatError(f"checkpoint: no such file: {path}{hint}")
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        described = saved["hyper_parameters"]
        network = build(NetworkSettings(**described["network"]), tuple(described["input_shape"]))
        prefix = "network."
        state = {k.removeprefix(prefix): v for k, v in saved["state_dict"].items() if k.startswith(prefix)}
        best = saved.get("callbacks", {}).get("EarlyStop", {}).get("best")
        network.load_state_dict(best or state)
    except Exception as error:  # torch.load raises a dozen kinds on foreign bytes
        reason = str(error).splitlines()[0] if str(error) else ""
        raise FormatError(f"checkpoint: {path} is no spikelet checkpoint ({type(error).__name__}: {reason})") from error
    return network.eval()
