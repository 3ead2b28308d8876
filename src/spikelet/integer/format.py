"""One file per network: ``.safetensors`` with weights packed at 1 to 16 bits, the architecture as JSON in its head."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from spikelet.errors import FormatError, SpikeletError
from spikelet.files import write_whole
from spikelet.integer.network import LIF, SRM, Add, Conv, IntegerNetwork, MaxPool, Neuron, Node, SumPool

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "spikelet-integer"
VERSION = 3
READABLE = "1", "2", "3"  # 1 has neither LIF neurons nor widths beside 2 and 8; 2 neither SRM neurons nor frames

# What a neuron consists of: its arrays, and the numbers or words beside them, of which the last tells the kinds apart.
TENSORS: dict[type, tuple[str, ...]] = {
    Neuron: ("first", "step"),
    LIF: ("bias", "threshold"),
    SRM: ("bias", "threshold"),
    type(None): (),
}
NUMBERS: dict[type, tuple[str, ...]] = {
    Neuron: ("fraction_bits", "max_count"),
    LIF: ("leak", "shift", "fraction_bits", "reset"),
    SRM: ("leak", "shift", "fraction_bits", "synapse_leak", "synapse_shift"),
    type(None): (),
}


def pack(weight: np.ndarray, bits: int) -> np.ndarray:
    """Codes as bytes: two's complement of ``bits`` bits each, lowest first, the last byte filled with 0.

    One bit stands for -1 (0) and 1 (1).

    >>> pack(np.array([1, -1, 0, 1, -1], np.int8), 2).tolist(), pack(np.array([1, -1, 1], np.int8), 1).tolist()
    ([77, 3], [5])
    """
    if bits in (8, 16):
        return np.ascontiguousarray(weight.ravel(), f"<i{bits // 8}").view(np.uint8).copy()
    codes = weight.ravel() if bits > 1 else weight.ravel() > 0
    planes = (codes.astype(np.uint16)[:, None] >> np.arange(bits, dtype=np.uint16)) & 1
    return np.packbits(planes.astype(np.uint8), bitorder="little")


def unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The inverse of ``pack``: the first ``count`` codes, int8, or int16 where they have more than 8 bits.

    >>> unpack(np.array([77, 3], np.uint8), 2, 5).tolist()
    [1, -1, 0, 1, -1]
    """
    if bits in (8, 16):
        return packed.view(f"<i{bits // 8}")[:count].astype(np.int8 if bits == 8 else np.int16)
    planes = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    codes = (planes.astype(np.uint16) << np.arange(bits, dtype=np.uint16)).sum(axis=1, dtype=np.uint16).astype(np.int32)
    sign = 1 << (bits - 1)
    signed = (codes ^ sign) - sign if bits > 1 else 2 * codes - 1
    return signed.astype(np.int8 if bits <= 8 else np.int16)


def save(network: IntegerNetwork, path: str | Path) -> Path:
    """See ``IntegerNetwork.save``."""
    path = Path(path)
    tensors: dict[str, np.ndarray] = {}
    for i, node in enumerate(network.nodes):
        if isinstance(node, Conv):
            tensors[f"{i}.weight"] = pack(np.ascontiguousarray(node.weight), node.bits)
            for name in TENSORS[type(node.neuron)]:
                tensors[f"{i}.{name}"] = getattr(node.neuron, name)
            if node.bias is not None:
                tensors[f"{i}.bias"] = node.bias
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    rows = [_row(node) for node in network.nodes]
    told = {"input_shape": network.input_shape, "nodes": rows, "metadata": network.metadata}
    architecture = as_json(told | {"pixel_offset": network.pixel_offset, "frames": network.frames})
    header = {"format": FORMAT, "version": str(VERSION), "architecture": architecture}
    header["checksum"] = _checksum(architecture, tensors)
    return write_whole(path, to_bytes(tensors, header))


def as_json(told: dict[str, Any]) -> str:
    """``told`` as JSON; raises SpikeletError where its "metadata" is what JSON cannot hold."""
    try:
        return json.dumps(told)
    except TypeError as error:
        raise SpikeletError(f"metadata: expected what JSON can hold, got {told['metadata']!r} ({error})") from None


def load(path: str | Path) -> IntegerNetwork:
    """See ``IntegerNetwork.load``."""
    path = Path(path)
    header, tensors = _read(path)
    if header.get("format") != FORMAT:
        raise FormatError(f"{path}: not an integer network of spikelet (its header names no {FORMAT!r})")
    if header.get("version") not in READABLE:
        known = ", ".join(READABLE)
        raise FormatError(f"{path}: version {header.get('version')} of the format, this spikelet reads {known}")
    if header.get("checksum") != _checksum(header.get("architecture", ""), tensors):
        raise FormatError(f"{path}: damaged: its contents do not match its checksum")
    try:
        architecture = json.loads(header["architecture"])
        nodes = [_node(i, row, tensors) for i, row in enumerate(architecture["nodes"])]
        shape, offset = tuple(architecture["input_shape"]), tuple(architecture.get("pixel_offset", ()))
        return IntegerNetwork(nodes, shape, architecture["metadata"], offset, architecture.get("frames", 0))
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
    return row | {name: _plain(getattr(node.neuron, name)) for name in NUMBERS[type(node.neuron)]}


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
    neuron = _neuron(i, row, tensors)
    bias = tensors.get(f"{i}.bias") if neuron is None else None
    return Conv(*common, weight, stride, padding, row["groups"], row["bits"], neuron, bias)


def _neuron(i: int, row: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> Neuron | LIF | SRM | None:
    for kind, numbers in NUMBERS.items():
        if numbers and numbers[-1] in row:
            arrays = {name: tensors[f"{i}.{name}"] for name in TENSORS[kind]}
            return kind(**arrays, **{name: row[name] for name in numbers})
    return None


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else int(value)


def _pair(pair: tuple[int, int]) -> list[int]:
    return [int(pair[0]), int(pair[1])]
