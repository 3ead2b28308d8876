"""The notation, and the operations that a forward pass costs."""

import pytest
import torch
from torch import nn

from spikelet import NetworkSettings, SpikeletError, build
from spikelet.metrics import synaptic_operations
from spikelet.networks import measure_operations


def test_published_shapes() -> None:
    blocks = build("32C5-P2-64C5-P2-1000C4-FC10", (1, 28, 28)).blocks()
    assert [b.input_shape for b in blocks.values()] == [
        (1, 28, 28), (32, 24, 24), (32, 12, 12), (64, 8, 8), (64, 4, 4), (1000, 1, 1)
    ]  # fmt: skip
    assert sum(b.op.weight.numel() for b in blocks.values()) == 1_106_480


@pytest.mark.parametrize("pool", ["conv", "max", "avg"])
def test_pools_and_residuals(pool: str) -> None:
    settings = NetworkSettings(notation="4C3p1-[4C3p1-4C3p1]-P2-MP2-AP2-6-FC3", pool=pool, k=1, first_levels=None)
    network = build(settings, (3, 16, 16))
    assert network(torch.zeros(2, 3, 16, 16, dtype=torch.uint8)).shape == (2, 3)


@pytest.mark.parametrize(
    ("notation", "word"),
    [
        ("4C3", "must end"),
        ("4X3-FC10", "cannot read '4X3'"),
        ("4C30-FC10", "leaves no pixels"),
        ("4C3-[8C3p1]-FC10", "must keep shape"),
        ("4C3-[4C3p1-FC10", "never closed"),
        ("[1C3p1]-FC10", "cannot be the first"),
        ("MP2-FC10", "cannot come first"),
        ("4C3-6C3g4-FC10", "groups"),
    ],
)
def test_bad_notation_names_the_token(notation: str, word: str) -> None:
    with pytest.raises(SpikeletError) as error:
        build(notation, (1, 8, 8)) if notation != "MP2-FC10" else build(NetworkSettings(notation), (1, 8, 8))
    assert word in str(error.value)


@pytest.mark.parametrize("key", ["pool", "weights", "first", "last"])
def test_bad_setting_names_the_key(key: str) -> None:
    with pytest.raises(SpikeletError, match=f"model.{key}: expected one of"):
        build(NetworkSettings(**{key: "nonsense"}), (1, 28, 28))


def test_wrong_image_size() -> None:
    with pytest.raises(SpikeletError, match="images: expected"):
        build("4C3-FC10", (1, 8, 8))(torch.zeros(1, 1, 9, 9))


def test_operations_are_counts_times_fanout_and_differentiable() -> None:
    torch.manual_seed(0)
    network = build(NetworkSettings("4C3-P2-[4C3p1]-AP2-FC5", k=1, first_levels=None), (1, 10, 10)).eval()
    seen: list[float] = []

    def _spikes(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        spikes = (x / block.input_unit).round()
        return spikes.flatten(1) if isinstance(block.op, nn.Linear) else spikes

    def count(block: nn.Module, inputs: tuple) -> None:
        seen.append(float(synaptic_operations(block.op, _spikes(block, inputs[0])).sum()))

    for block in [*network.blocks().values()][1:]:
        block.register_forward_pre_hook(count)
    with measure_operations(network) as meter:
        network(torch.randint(0, 256, (3, 1, 10, 10)).float())
    assert meter.total.item() == pytest.approx(sum(seen)) and sum(seen) > 0
    meter.total.backward()
    first = next(iter(network.blocks().values())).op.parametrizations.weight.original
    assert first.grad is not None and first.grad.abs().sum() > 0
