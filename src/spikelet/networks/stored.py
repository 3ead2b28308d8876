"""A spiking network in floating point as one file: ``.safetensors``, what it is made of as JSON in its head."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from spikelet.errors import FormatError
from spikelet.files import write_whole
from spikelet.integer import IntegerNetwork
from spikelet.integer.format import as_json
from spikelet.networks.notation import build
from spikelet.networks.settings import NetworkSettings
from spikelet.networks.snn import SNN
from spikelet.networks.surface_network import SurfaceNetwork, load_surfaces
from spikelet.neurons import Primed

FORMAT, VERSION = "spikelet-snn", "1"
START = ".neuron.start"  # how the initial potential of a layer's neurons is called


def save(network: SNN, path: str | Path) -> Path:
    """Write ``network`` with its ``metadata`` to one file, which ``load`` reads; under a temporary name first.

    Raises SpikeletError where JSON cannot hold the metadata.
    """
    path = Path(path)
    told = {"settings": asdict(network.settings), "input_shape": network.input_shape, "metadata": network.metadata}
    header = {"format": FORMAT, "version": VERSION, "network": as_json(told)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    return write_whole(path, to_bytes(tensors, header))


def load(path: str | Path) -> IntegerNetwork | SurfaceNetwork | SNN:
    """The network of a file: an integer network, behind time surfaces where the file has them, or one of ``save``.

    Raises FormatError, naming the file, for anything else.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            ours = header.get("format") == FORMAT
            tensors = {name: file.get_tensor(name) for name in file.keys()} if ours else {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError):
        ours = False
    if not ours:
        return load_surfaces(path)  # which says what is wrong with a file that is none
    if header.get("version") != VERSION:
        raise FormatError(f"{path}: version {header.get('version')} of the format, this spikelet reads {VERSION}")
    try:
        return _made(json.loads(header["network"]), tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else ""
        raise FormatError(f"{path}: not a valid spiking network ({type(error).__name__}: {reason})") from error


def _made(told: dict[str, Any], tensors: dict[str, Tensor]) -> SNN:
    network = build(NetworkSettings(**told["settings"]), tuple(told["input_shape"]))
    if not isinstance(network, SNN):
        raise ValueError("its settings are those of an ANN")
    for name in [name for name in tensors if name.endswith(START)]:
        block = network.get_submodule(name.removesuffix(START))
        block.neuron = Primed(block.neuron, torch.zeros_like(tensors[name]))  # type: ignore[arg-type]
    network.load_state_dict(tensors)
    network.metadata = told["metadata"]
    return network.eval()
