"""Residual blocks over time, pooling of spikes, published networks: values, gradients, what they cost."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from spikelet import NetworkSettings, SpikeletError, build, cli
from spikelet.datasets import NMNIST
from spikelet.networks import PUBLISHED, SNN, measure_operations, record_spikes
from spikelet.networks.layers import CONNECT, SpikePool
from spikelet.networks.pooling import read_pooling

FORMULAS = {"add": lambda a, x: a + x, "and": lambda a, x: a * x, "iand": lambda a, x: (1 - a) * x}
FLOAT = {"neuron": "lif", "weights": "float", "first": "parity", "last": "parity"}


def spiking(notation: str, input_shape: tuple[int, int, int] = (2, 12, 12), **given_settings) -> SNN:
    torch.manual_seed(1)
    network = build(NetworkSettings(notation, **(FLOAT | given_settings)), input_shape)
    assert isinstance(network, SNN)
    return network


def frames(num_steps: int = 4, num: int = 3, shape: tuple[int, ...] = (2, 12, 12)) -> Tensor:
    return torch.poisson(torch.full((num_steps, num, *shape), 0.7), generator=torch.Generator().manual_seed(2))


# ---------------------------------------------------------------- the block


def plain_layer(x: Tensor, weight: Tensor, norm: nn.BatchNorm2d, stride: int, padding: int) -> Tensor:
    """Convolution, batch norm of a training step, and neurons step by step: beta 0.5, threshold 1, reset to 0, atan."""
    z = functional.conv2d(x.flatten(0, 1), weight, stride=stride, padding=padding)
    mean, variance = z.mean((0, 2, 3), keepdim=True), z.var((0, 2, 3), unbiased=False, keepdim=True)
    gamma, beta = norm.weight[:, None, None], norm.bias[:, None, None]
    currents = ((z - mean) / (variance + norm.eps).sqrt() * gamma + beta).unflatten(0, x.shape[:2])
    v, spikes = torch.zeros_like(currents[0]), []
    for current in currents:
        v = 0.5 * v + current
        fired, soft = (v >= 1).to(v), torch.atan(torch.pi / 2 * 2 * (v - 1)) / torch.pi
        spikes.append(fired + soft - soft.detach())
        v = torch.where(fired > 0, 0.0, v)
    return torch.stack(spikes)


@pytest.mark.parametrize("connect", FORMULAS)
@pytest.mark.parametrize("shortcut", [False, True])
def test_a_block_equals_a_plain_loop(connect: str, shortcut: bool) -> None:
    """Order: convolution, batch norm, neuron, twice; then connect."""
    block = "[6C3s2p1-6C3p1|6C1s2]" if shortcut else "[4C3p1-4C3p1]"
    network = spiking(f"4C3-{block}-FC3", connect=connect, reset="zero", surrogate="atan", readout="current").double()
    x = frames().double()
    stem, first, second, *side, readout = network.blocks().values()
    for block_norm in (b.norm for b in (stem, first, second, *side)):
        nn.init.uniform_(block_norm.weight, 0.5, 1.5)

    def layer(x: Tensor, block) -> Tensor:
        return plain_layer(x, block.op.weight, block.norm, block.op.stride[0], block.op.padding[0])

    s = layer(x, stem)
    connected = FORMULAS[connect](layer(layer(s, first), second), layer(s, *side) if side else s)
    expected = functional.linear(connected.flatten(2), readout.op.weight)
    ours = network(x)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    towards = torch.randn(ours.shape, dtype=torch.float64)
    parameters = [*network.parameters()]
    gradients = [torch.autograd.grad((out * towards).sum(), parameters) for out in (ours, expected)]
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-10)
    assert all(bool(g.any()) for g in gradients[0])


@given(seed=st.integers(0, 1000), connect=st.sampled_from([*FORMULAS]))
def test_connecting_and_its_gradients(seed: int, connect: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, x = (torch.randint(0, 2, (3, 2, 4), generator=generator).double().requires_grad_() for _ in range(2))
    ours, formula = CONNECT[connect](a, x), FORMULAS[connect](a, x)
    assert torch.equal(ours, formula)
    for one, two in zip(*(torch.autograd.grad(out.sum(), (a, x)) for out in (ours, formula)), strict=True):
        assert torch.equal(one, two)


def test_a_block_of_linear_layers_meets_a_plane() -> None:
    network = spiking("4C3-GAP-[4|SAP1-4]-[8-4]-FC3", (2, 6, 6)).eval()
    assert network(frames(shape=(2, 6, 6))).shape == (4, 3, 3)


@pytest.mark.parametrize(
    ("notation", "given_settings", "said"),
    [
        ("4C3-[6C3p1|6C1s2]-FC3", {}, r"ends in \(6, 10, 10\) x 1, what it meets is \(6, 5, 5\) x 1"),
        ("4C3-[6C3p1]-FC3", {}, r"must keep shape and spike value, or have a shortcut"),
        ("4C3-SAP2-[4C3p1]-FC3", {}, r"\(4, 5, 5\) x 1, what it meets is \(4, 5, 5\) x 0.25"),
        ("4C3-[4C3p1|4C1|4C1]-FC3", {}, "more than one '|'"),
        ("4C3-[4C3p1|4C1-FC3", {}, "is never closed"),
        ("4C3-4C3]-FC3", {}, "a ']' in .* stands in no residual block"),
        ("4C3|4C3-FC3", {}, "a '|' in .* stands in no residual block"),
        ("4C3-[4C3p1-SAP2|SAP2]-FC3", {"connect": "iand"}, "model.connect: iand connects spikes of 0 and 1"),
        ("4C3-FC3", {"connect": "or"}, "model.connect: expected one of add, and, iand, got 'or'"),
        ("4C3-FC3", {"connect": "and", "neuron": None}, "model.connect: expected add where there is no model.neuron"),
        ("4C3-MP3p2-FC3", {}, "MP3p2: expected a padding of at most half the window"),
        ("4C3-SP2-FC3", {}, "cannot read 'SP2'"),
        ("GAP-FC3", {}, "GAP cannot come first"),
        (
            "7c-net",
            {},
            r"must end in a linear layer, such as FC10 .*, or be one of stbp-7conv-3fc, .*7b-net",
        ),
    ],
)
def test_what_cannot_be_is_refused(notation: str, given_settings: dict, said: str) -> None:
    with pytest.raises(SpikeletError, match=said):
        spiking(notation, **given_settings)


# ---------------------------------------------------------------- pooling of spikes


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["MP", "AP"]),
    numbers=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2)).filter(lambda n: 2 * n[2] <= n[0]),
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    seed=st.integers(0, 1000),
)
def test_spikes_are_pooled_step_by_step(kind: str, numbers: tuple, size: tuple, seed: int) -> None:
    kernel, stride, padding = numbers
    x = torch.randint(0, 3, (3, 2, 4, *size), generator=torch.Generator().manual_seed(seed)).float()
    x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (3, 2)).requires_grad_()
    pooling = read_pooling(f"{kind}{kernel}s{stride}p{padding}", "conv", (4, *size))
    assert pooling is not None
    ours = SpikePool(pooling.module(spiking=True))(x)
    pool = functional.max_pool2d if kind == "MP" else functional.avg_pool2d
    expected = torch.stack([pool(step, *numbers) for step in x])
    assert ours.shape[2:] == pooling.output((4, *size)) and torch.equal(ours, expected)
    assert torch.equal(*(torch.autograd.grad(out.square().sum(), x)[0] for out in (ours, expected)))


def entering(network: SNN, name: str, x: Tensor) -> Tensor:
    """What the layer ``name`` is given when ``network`` sees ``x``."""
    seen: list[Tensor] = []
    hook = network.blocks()[name].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(x)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("notation", "pooled"),
    [
        ("4C3-SMP3s2p1-FC3", lambda s: functional.max_pool2d(s, 3, 2, 1)),
        ("4C3-SAP2-MP2-FC3", lambda s: functional.max_pool2d(functional.avg_pool2d(s, 2), 2)),
        ("4C3-GAP-FC3", lambda s: s.mean((2, 3), keepdim=True)),
        ("4C3-MP2-GAP-FC3", lambda s: s.mean((2, 3), keepdim=True)),
    ],
)
def test_the_notation_says_where_spikes_are_pooled(notation: str, pooled) -> None:
    network = spiking(notation, norm="none", v_threshold=0.3)
    with record_spikes(network) as spikes:
        given_to = entering(network, "FC3", frames())
    expected = torch.stack([pooled(s) for s in spikes["4C3"]])
    assert torch.equal(given_to, expected) and expected.any()
    assert spikes["4C3"].shape[-1] == (5 if "-MP2-G" in notation else 10)


def test_a_readout_of_currents_is_a_linear_layer_of_mean_features() -> None:
    network = spiking("4C3-[4C3p1-4C3p1]-MP2-GAP-FC3", readout="current").eval()
    features, weight = entering(network, "FC3", frames()), network.blocks()["FC3"].op.weight
    mean = functional.linear(features.mean(0).flatten(1), weight)
    torch.testing.assert_close(network(frames()).mean(0), mean)


# ---------------------------------------------------------------- what it costs


def brute_force(block, spikes: Tensor, nonzero: bool) -> list[int]:
    """Additions per step: each output adds up the spikes that it sees through a weight."""
    weight = (block.op.weight != 0 if nonzero else torch.ones_like(block.op.weight)).double()
    x = spikes.flatten(0, 1).double()
    if isinstance(block.op, nn.Linear):
        seen = functional.linear(x.flatten(1), weight)
    else:
        seen = functional.conv2d(x, weight, None, block.op.stride, block.op.padding, groups=block.op.groups)
    return seen.unflatten(0, spikes.shape[:2]).flatten(1).sum(1).long().tolist()


@pytest.mark.parametrize("connect", FORMULAS)
@pytest.mark.parametrize("nonzero", [False, True])
def test_operations_are_those_of_brute_force(connect: str, nonzero: bool) -> None:
    """Spikes of both sides, of values above 1, through a maximum, and whole ones through averages."""
    notation = "4C3p1-[4C3p1-4C3p1]-MP3s2p1-[6C3s2p1-6C3p1g2|6C1s2]-AP2-8C1-GAP-FC3"
    network = spiking(notation, connect=connect, norm="none", v_threshold=0.25).eval()
    for block in network.blocks().values():
        block.op.weight.data[torch.rand(block.op.weight.shape) < 0.3] = 0
    x = frames() * 2
    run = network.run(x, record=True)
    with torch.no_grad(), record_spikes(network) as s, measure_operations(network) as meter:
        network(x)
    names = (
        "4C3p1", "residual.body.4C3p1", "residual.body.4C3p1_2", "residual_2.body.6C3s2p1",
        "residual_2.body.6C3p1g2", "residual_2.shortcut.6C1s2", "8C1", "FC3",
    )  # fmt: skip
    assert run.layers == names == tuple(s)
    stem, inner, last, halved, left, right, narrow, _ = s.values()
    pooled = torch.stack([functional.max_pool2d(t, 3, 2, 1) for t in FORMULAS[connect](last, stem)])
    summed = torch.stack([4 * functional.avg_pool2d(t, 2) for t in FORMULAS[connect](left, right)])
    caused = {  # by the layer in front: what each of these layers is given
        names[0]: [(names[1], stem)],
        names[1]: [(names[2], inner)],
        names[2]: [(names[3], pooled), (names[5], pooled)],
        names[3]: [(names[4], halved)],
        names[4]: [("8C1", summed)],
        names[6]: [("FC3", narrow.sum((3, 4)))],
    }
    counted = run.effective_operations if nonzero else run.synaptic_operations
    assert counted is not None and run.input_operations is not None and run.positive is not None
    for row, name in enumerate(names):
        met = [brute_force(network.blocks()[to], spikes, nonzero) for to, spikes in caused.get(name, [])]
        assert counted[row].tolist() == [sum(step) for step in zip([0] * len(x), *met, strict=True)], name
        assert run.positive[row].tolist() == s[name].flatten(1).sum(1).tolist()
        assert run.neurons[row] == s[name][0, 0].numel()
    assert run.input_operations[int(nonzero)].tolist() == brute_force(network.blocks()[names[0]], x, nonzero)
    assert pooled.max() == (2 if connect == "add" else 1) and (counted.sum(1) > 0).sum() == len(caused)
    if not nonzero:
        assert meter.total.item() == pytest.approx(int(counted.sum()))


# ---------------------------------------------------------------- published networks


def numbers(name: str, input_shape: tuple[int, int, int], **given_settings) -> tuple[int, int]:
    """Parameters, and weights of all layers but the first and the last. Nothing is allocated."""
    with torch.device("meta"):
        network = spiking(name, input_shape, **given_settings)
    weights = [block.op.weight.numel() for block in network.blocks().values()]
    return sum(p.numel() for p in network.parameters()), sum(weights[1:-1])


def sew_block(inside: int, outside: int | None = None) -> int:
    """Weights and batch norms of two 3 x 3 convolutions and, where the block widens, of the 1 x 1 beside them."""
    outside = outside or inside
    shortcut = 0 if inside == outside else inside * outside + 2 * outside
    return 9 * (inside + outside) * outside + 4 * outside + shortcut


def test_published_numbers_of_parameters() -> None:
    assert numbers("stbp-7conv-3fc", (3, 32, 32), norm="none") == (62_110_218, 62_095_360)
    current, gesture = {"readout": "current"}, (2, 128, 128)
    assert numbers("7b-net", gesture, **current)[0] == 9 * 2 * 32 + 64 + 7 * sew_block(32) + 32 * 11
    stems = 9 * 2 * 64 + 2 * 64 + 9 * 64 * 128 + 2 * 128
    assert numbers("wide-7b-net", gesture, **current)[0] == stems + 4 * sew_block(64) + 3 * sew_block(128) + 128 * 10
    pairs = sum(sew_block(c // 2, c) + sew_block(c) for c in (128, 256, 512))
    resnet = 49 * 3 * 64 + 2 * 64 + 2 * sew_block(64) + pairs + 512 * 1000
    assert resnet == 11_689_512 - 1000  # ResNet-18 as everybody knows it, without the readout's bias
    assert numbers("sew-resnet18", (3, 224, 224), **current)[0] == resnet


def test_the_narrow_sibling_has_an_eighth_of_the_channels() -> None:
    wide, narrow = (
        [int(n) for n in re.findall(r"(\d+)C|FC(\d+)", PUBLISHED[name].notation) for n in n if n]
        for name in ("stbp-7conv-3fc", "stbp-7conv-3fc-narrow")
    )
    assert wide[:-1] == [8 * n for n in narrow[:-1]] and wide[-1] == narrow[-1] == 10 and len(wide) == 10


@pytest.mark.parametrize(
    ("name", "shape", "planes"),
    [
        ("7b-net", (2, 128, 128), (32, 1, 1)),
        ("wide-7b-net", (2, 128, 128), (128, 1, 1)),
        ("sew-resnet18", (3, 224, 224), (512, 1, 1)),
    ],
)
def test_published_networks_end_in_one_pixel(name: str, shape: tuple[int, int, int], planes: tuple) -> None:
    network = spiking(name, shape, readout="current", num_steps=2).eval()
    *_, (last, readout) = network.blocks().items()
    with torch.no_grad():
        assert entering(network, last, frames(2, 1, shape)).shape[2:] == planes == readout.input_shape


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("connect", FORMULAS)
def test_steps_on_fake_frames_make_the_loss_smaller(connect: str) -> None:
    network = spiking("8C3p1-[8C3p1-8C3p1]-MP2-[8C3s2p1-8C3p1|8C1s2]-GAP-FC3", connect=connect, readout="current")
    x, labels = frames(num=6), torch.tensor([0, 1, 2, 0, 1, 2])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    losses = []
    for _ in range(12):
        loss = functional.cross_entropy(network(x).mean(0), labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "words",
    [
        ("model.notation=stbp-7conv-3fc-narrow", "model.norm=none"),
        ('model.notation="4C3p1-[4C3p1-4C3p1]-MP2-[6C3s2p1-6C3p1|6C1s2]-GAP-FC10"', "model.connect=iand"),
    ],
)
def test_a_recipe_may_name_them(words: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    NMNIST.write_fake(tmp_path, num_train=24, num_test=6)
    short = ("train.num_epochs=1", "train.batch_size=4", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1")
    given_words = ("recipe=nmnist-csnn", f"data.root={tmp_path}", "data.verify=false", "model.num_steps=3", *short)
    assert cli.main(["train", *given_words, *words, "trainer.enable_progress_bar=false", "evaluate.samples=0"]) == 0
    assert (tmp_path / "runs" / "nmnist-csnn-s1" / "report.json").exists()
