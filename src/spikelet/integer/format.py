"""One file per network: ``.safetensors`` with weights packed at 2 or 8 bits, the architecture as JSON in its header."""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from spikelet.errors import FormatError, SpikeletError
from spikelet.integer.network import Add, Conv, IntegerNetwork, MaxPool, Neuron, Node, SumPool

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "spikelet-integer"
VERSION = 1


def pack(weight: np.ndarray, bits: int) -> np.ndarray:
    """int8 codes as bytes: two's complement of ``bits`` (2 or 8) bits each, lowest first, the last byte filled with 0.

    >>> pack(np.array([1, -1, 0, 1, -1], np.int8), 2).tolist()
    [77, 3]
    """
    codes = weight.ravel().view(np.uint8)
    if bits == 8:
        return codes.copy()
    fours = np.concatenate([codes & 3, np.zeros(-len(codes) % 4, np.uint8)]).reshape(-1, 4)
    return (fours << np.array([0, 2, 4, 6], np.uint8)).sum(axis=1, dtype=np.uint8)


def unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The inverse of ``pack``: the first ``count`` codes, int8.

    >>> unpack(np.array([77, 3], np.uint8), 2, 5).tolist()
    [1, -1, 0, 1, -1]
    """
    if bits == 8:
        return packed.view(np.int8)[:count].copy()
    codes = (packed[:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
    return ((codes.ravel()[:count].astype(np.int8) ^ 2) - 2).astype(np.int8)


def save(network: IntegerNetwork, path: str | Path) -> Path:
    """See ``IntegerNetwork.save``."""
    path = Path(path)
    tensors: dict[str, np.ndarray] = {}
    for i, node in enumerate(network.nodes):
        if isinstance(node, Conv):
            tensors[f"{i}.weight"] = pack(np.ascontiguousarray(node.weight), node.bits)
            if node.neuron is not None:
                tensors |= {f"{i}.first": node.neuron.first, f"{i}.step": node.neuron.step}
            if node.bias is not None:
                tensors[f"{i}.bias"] = node.bias
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    rows = [_row(node) for node in network.nodes]
    try:
        architecture = json.dumps({"input_shape": network.input_shape, "nodes": rows, "metadata": network.metadata})
    except TypeError as error:
        raise SpikeletError(f"metadata: expected what JSON can hold, got {network.metadata!r} ({error})") from None
    header = {"format": FORMAT, "version": str(VERSION), "architecture": architecture}
    header["checksum"] = _checksum(architecture, tensors)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(to_bytes(tensors, header))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load(path: str | Path) -> IntegerNetwork:
    """See ``IntegerNetwork.load``."""
    path = Path(path)
    header, tensors = _read(path)
    if header.get("format") != FORMAT:
        raise FormatError(f"{path}: not an integer network of spikelet (its header names no {FORMAT!r})")
    if header.get("version") != str(VERSION):
        raise FormatError(f"{path}: version {header.get('version')} of the format, this spikelet reads {VERSION}")
    if header.get("checksum") != _checksum(header.get("architecture", ""), tensors):
        raise FormatError(f"{path}: damaged: its contents do not match its checksum")
    try:
        architecture = json.loads(header["architecture"])
        nodes = [_node(i, row, tensors) for i, row in enumerate(architecture["nodes"])]
        return IntegerNetwork(nodes, tuple(architecture["input_shape"]), architecture["metadata"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(f"{path}: not a valid integer network ({error})") from error


def _read(path: Path) -> tuple[Mapping[str, str], dict[str, np.ndarray]]:
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise FormatError(f"{path}: damaged, truncated or no safetensors file ({error})") from None


def _checksum(architecture: str, tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(architecture.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
        digest.update(np.ascontiguousarray(tensor).tobytes())
    return digest.hexdigest()


def _row(node: Node) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": type(node).__name__, "name": node.name}
    if isinstance(node, Add):
        return row | {"sources": [int(s) for s in node.sources]}
    row |= {"source": int(node.source), "stride": _pair(node.stride), "padding": _pair(node.padding)}
    if not isinstance(node, Conv):
        return row | {"kernel": _pair(node.kernel)}
    row |= {"shape": list(node.weight.shape), "groups": int(node.groups), "bits": int(node.bits)}
    if node.neuron is not None:
        row |= {"fraction_bits": int(node.neuron.fraction_bits), "max_count": int(node.neuron.max_count)}
    return row


def _node(i: int, row: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> Node:
    if row["kind"] == "Add":
        return Add(row["name"], tuple(row["sources"]))
    common = row["name"], row["source"]
    stride, padding = tuple(row["stride"]), tuple(row["padding"])
    if row["kind"] in ("SumPool", "MaxPool"):
        kind = SumPool if row["kind"] == "SumPool" else MaxPool
        return kind(*common, tuple(row["kernel"]), stride, padding)
    if row["kind"] != "Conv":
        raise ValueError(f"it knows no {row['kind']}")
    weight = unpack(tensors[f"{i}.weight"], row["bits"], int(np.prod(row["shape"]))).reshape(row["shape"])
    neuron = None
    if "max_count" in row:
        neuron = Neuron(tensors[f"{i}.first"], tensors[f"{i}.step"], row["fraction_bits"], row["max_count"])
    return Conv(*common, weight, stride, padding, row["groups"], row["bits"], neuron, tensors.get(f"{i}.bias"))


def _pair(pair: tuple[int, int]) -> list[int]:
    return [int(pair[0]), int(pair[1])]
