"""Calibration: thresholds against brute force, IF networks against their ANN, each correction against its teacher."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikelet import SpikeletError
from spikelet.calibrate import LEVELS, calibrate, mmse_thresholds, staircase, to_soft_reset
from spikelet.calibrate.corrections import correct_bias, correct_potential, correct_weights, gap, walk
from spikelet.calibrate.soft_reset import activations
from spikelet.calibrate.thresholds import CANDIDATES
from spikelet.convert import to_integer
from spikelet.errors import ConversionError, FormatError
from spikelet.networks import SNN, Network, NetworkSettings, answers, build, load, save
from spikelet.neurons import IF, Primed

SHAPE = (2, 10, 10)
RELU = {"k": None, "weights": "float", "first": "parity", "last": "parity"}
NOTATIONS = ["4C3p1-AP2-6C3-FC5", "4C3-6C3g2-AP2s1-FC8-FC5", "4C3p1-P2-GAP-FC6-FC5"]


def ann(notation: str = NOTATIONS[0], seed: int = 0, **more) -> Network:
    """A network whose batch norms have seen pictures."""
    torch.manual_seed(seed)
    network = build(NetworkSettings(notation, **RELU, **more), SHAPE)
    for block in network.blocks().values():
        if block.norm is not None:
            torch.nn.init.uniform_(block.norm.weight, -0.5, 1.5)
            torch.nn.init.normal_(block.norm.bias, std=0.3)
            block.norm.momentum = 1.0
    with torch.no_grad():
        network(pictures(64, seed=5))
    return network.eval()


def pictures(number: int = 64, seed: int = 1) -> Tensor:
    """Coarse patterns, each of its own contrast: in noise all neurons of a channel would get the same."""
    generator = torch.Generator().manual_seed(seed)
    coarse, contrast = (torch.rand(number, *shape, generator=generator) for shape in ((SHAPE[0], 5, 5), (1, 1, 1)))
    return (255 * contrast * coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)).to(torch.uint8)


def largest(network: Network, images: Tensor) -> list[Tensor]:
    """Thresholds that no activation is above."""
    return [a.amax().clamp_min(1e-3).expand(a.shape[1]) for a in [*activations(network, images)][:-1]]


def targets(network: Network, images: Tensor, thresholds: list[Tensor]) -> list[Tensor]:
    every = zip(activations(network, images), [*thresholds, torch.ones(1)], strict=True)
    return [a / theta.reshape(-1, *[1] * (a.dim() - 2)) for a, theta in every]


# ---------------------------------------------------------------- thresholds


@given(
    seed=st.integers(0, 2**16),
    num_steps=st.integers(1, 40),
    per_channel=st.booleans(),
    shift=st.sampled_from([0.0, 0.5]),
    plane=st.sampled_from([(), (1, 1), (3, 2)]),
)
@example(seed=65535, num_steps=13, per_channel=True, shift=0.0, plane=())  # the largest is on an edge
@settings(deadline=None, max_examples=60)
def test_thresholds_are_those_of_brute_force(seed, num_steps, per_channel, shift, plane) -> None:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(70, 3, *plane, generator=generator, dtype=torch.float64).relu()
    a[:, 1] *= 3
    found = mmse_thresholds(a, num_steps, per_channel, shift)
    groups = [a[:, [c]] for c in range(3)] if per_channel else [a]
    for c in range(3):
        group = groups[c if per_channel else 0]
        candidates = [group.max() * (1 - 0.01 * i) for i in range(CANDIDATES)]
        errors = [(group - staircase(group, v, num_steps, shift)).square().sum().item() for v in candidates]
        error = (group - staircase(group, found[c], num_steps, shift)).square().sum().item()
        assert error == pytest.approx(min(errors), rel=1e-9, abs=1e-12)


def test_silent_channels_have_a_threshold() -> None:
    a = torch.zeros(5, 2)
    assert mmse_thresholds(a, 4, per_channel=True).tolist() == [1, 1]
    a[0, 1] = 3.0
    assert mmse_thresholds(a, 4, per_channel=True)[0] > 0


@pytest.mark.parametrize(
    ("a", "num_steps", "named"),
    [
        (torch.ones(3, 2), 0, "num_steps"),
        (torch.ones(3), 4, "activations"),
        (torch.ones(0, 2), 4, "activations"),
        (torch.full((3, 2), float("nan")), 4, "activations"),
    ],
)
def test_thresholds_of_nothing(a: Tensor, num_steps: int, named: str) -> None:
    with pytest.raises(SpikeletError, match=f"^{named}: expected"):
        mmse_thresholds(a, num_steps)


# ---------------------------------------------------------------- IF networks


def test_the_fixture_of_the_reference() -> None:
    x = torch.full((8, 1), 0.3)
    assert IF()(x + 1 / 16).flatten().nonzero().flatten().tolist() == [2, 5]
    assert Primed(IF(), torch.tensor(0.5))(x).mean() == 0.25 == staircase(torch.tensor(0.3), 1.0, 8)


@pytest.mark.parametrize("shift", ["start", "spread"])
@pytest.mark.parametrize("num_steps", [1, 5, 32])
def test_a_neuron_says_its_staircase(shift: str, num_steps: int) -> None:
    network, images = ann(), pictures()
    first, *_ = activations(network, images)
    thresholds = [mmse_thresholds(a, num_steps, per_channel=True) for a in [*activations(network, images)][:-1]]
    layer, inputs = next(walk(to_soft_reset(network, thresholds, num_steps, shift), images, num_steps))
    said = torch.cat([out.mean(0) for out in inputs.through(layer)])
    theta = thresholds[0].reshape(-1, 1, 1)
    wanted = staircase(first, theta, num_steps) / theta
    assert ((said - wanted).abs() > 1e-6).float().mean() < 1e-3  # but for rounding at the edges
    assert (said - wanted).abs().max() <= 1 / num_steps + 1e-6


@pytest.mark.parametrize("notation", NOTATIONS)
def test_many_steps_say_what_the_ann_says(notation: str) -> None:
    network, images = ann(notation, pool="avg"), pictures(8)
    snn = to_soft_reset(network, largest(network, images), num_steps=2000)
    logits = torch.from_numpy(snn.run(images, 2000).logits).mean(0)
    wanted = answers(network, images)
    assert (logits - wanted).abs().max() <= 0.02 * wanted.abs().max()


def test_steps_spikes_and_operations_are_counted() -> None:
    network, images = ann(), pictures(8)
    run = calibrate(network, images, "advanced", 4).run(images, 4, record=True)
    assert run.logits.shape == (4, 8, 5) and run.positive is not None and run.synaptic_operations is not None
    assert run.layers == ("4C3p1", "6C3") and run.positive.sum() > 0 == run.negative.sum()
    assert run.synaptic_operations[1].sum() == 5 * run.positive[1].sum()  # FC5


# ---------------------------------------------------------------- corrections


@given(seed=st.integers(0, 2**16), num_steps=st.sampled_from([32, 48]), notation=st.sampled_from(NOTATIONS[:2]))
@example(seed=538, num_steps=48, notation=NOTATIONS[1])
@settings(deadline=None, max_examples=3)
def test_potentials_close_the_mean_gap(seed: int, num_steps: int, notation: str) -> None:
    network, images = ann(notation, seed), pictures(64, seed)
    thresholds = largest(network, images)
    snn = to_soft_reset(network, thresholds, num_steps)
    for (layer, inputs), target in zip(walk(snn, images, num_steps), targets(network, images, thresholds), strict=True):
        before = gap(layer, inputs, target).abs()
        correct_potential(layer, inputs, target, num_steps, rounds=16)
        after = gap(layer, inputs, target).abs()
        assert (after <= before).all()
        if layer.neuron is not None:
            assert after.mean() <= 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_biases_close_the_gap_of_a_channel(seed: int) -> None:
    network, images = ann(seed=seed), pictures()
    thresholds = largest(network, images)
    snn = to_soft_reset(network, thresholds, 8)
    for (layer, inputs), target in zip(walk(snn, images, 8), targets(network, images, thresholds), strict=True):
        before = gap(layer, inputs, target)
        correct_bias(layer, inputs, target)
        after = gap(layer, inputs, target)
        channels = [g.flatten(1).mean(1) if g.dim() > 1 else g for g in (before, after)]
        assert channels[1].abs().sum() <= 0.7 * channels[0].abs().sum() + 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_weights_come_closer_to_the_teacher(seed: int) -> None:
    network, images = ann(seed=seed), pictures()
    thresholds = [v / 2 for v in largest(network, images)]
    snn, generator = to_soft_reset(network, thresholds, 4), torch.Generator().manual_seed(0)
    for (layer, inputs), target in zip(walk(snn, images, 4), targets(network, images, thresholds), strict=True):
        found = []
        for _ in range(2):
            out = answers(layer.op, inputs.means().flatten(1) if target.dim() == 2 else inputs.means())
            out = staircase(out, 1.0, 4) if layer.neuron is not None else out
            found.append((out - target).square().mean().item())
            correct_weights(layer, inputs, target, 4, generator)
        assert found[1] < found[0] if inputs.shown is None else found[1] == found[0]


def error(snn: SNN, network: Network, images: Tensor, num_steps: int) -> float:
    logits = torch.from_numpy(snn.run(images, num_steps).logits).mean(0)
    return (logits - answers(network, images)).square().mean().item()


def test_each_level_is_closer_than_the_one_below() -> None:
    network, images = ann(), pictures(256)
    none, light, advanced = (error(calibrate(network, images, level, 4), network, images, 4) for level in LEVELS)
    assert advanced < light < none


def test_the_seed_decides_and_the_network_stays() -> None:
    network, images = ann(), pictures()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    same, again, other = (calibrate(network, images, "advanced", 4, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(same[name], again[name]) for name in same)
    assert not all(torch.equal(same[name], other[name]) for name in same)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


# ---------------------------------------------------------------- networks trained through time


def trained(**more) -> SNN:
    torch.manual_seed(3)
    made = NetworkSettings("4C3p1-MP2-6C3-FC5", neuron="lif", beta=0.8, num_steps=12, init_gain=2.0, **more)
    network = build(made, SHAPE)
    assert isinstance(network, SNN)
    return network.eval()


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_fewer_steps_send_what_all_steps_send(norm: str) -> None:
    network, images = trained(norm=norm), pictures()
    with torch.no_grad():
        wanted = [
            torch.cat([out.mean(0) for out in inputs.through(layer)]) for layer, inputs in walk(network, images, 12)
        ]
    found = {}
    for level in LEVELS:
        snn = calibrate(network, images, level, 4)
        gaps = [gap(*each, target) for each, target in zip(walk(snn, images, 4), wanted, strict=True)]
        found[level] = sum(g.abs().mean().item() for g in gaps)
    assert found["advanced"] < found["light"] < found["none"]
    assert network.settings.num_steps == 12


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("level", LEVELS)
def test_a_file_brings_back_the_network(level: str, tmp_path: Path) -> None:
    images = pictures(8)
    snn = calibrate(ann(), images, level, 4)
    snn.metadata = {"made": "here"}
    again = load(save(snn, tmp_path / "network.safetensors"))
    assert isinstance(again, SNN) and again.metadata == {"made": "here"} and again.settings == snn.settings
    assert (again.run(images, 4).logits == snn.run(images, 4).logits).all()
    assert [path.name for path in tmp_path.iterdir()] == ["network.safetensors"]


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    path = save(calibrate(ann(), pictures(8), "none", 4), tmp_path / "network.safetensors")
    whole = path.read_bytes()
    told = json.dumps({"a": 1})
    for damaged in (whole[:-9], whole.replace(b'"version":"1"', b'"version":"7"'), whole.replace(b"4C3p1-", b"5C3p1-")):
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match=r"network\.safetensors"):
            load(path)
    path.write_text(told)
    with pytest.raises(FormatError, match=r"network\.safetensors"):
        load(path)
    snn = calibrate(ann(), pictures(8), "none", 4)
    snn.metadata = {"path": path}
    with pytest.raises(SpikeletError, match="metadata: expected what JSON can hold"):
        save(snn, path)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": "best"}, "level: expected one of none, light, advanced, got 'best'"),
        ({"num_steps": 0}, "num_steps: expected a whole number of at least 1, got 0"),
        ({"shift": "late"}, "shift: expected one of start, spread, got 'late'"),
        ({"images": pictures()[:0]}, "images: expected at least one"),
        ({"images": pictures()[:, :1]}, r"images: expected \[N, 2, 10, 10\], got \[64, 1, 10, 10\]"),
        ({"images": None}, r"images: expected \[N, 2, 10, 10\], got NoneType"),
        ({"network": torch.nn.Linear(2, 2)}, "network: expected what spikelet.build makes, got Linear"),
        ({"network": build("4C3-FC5", SHAPE)}, "layer 4C3: its activation is a count of spikes, whose conversion"),
        ({"network": ann("4C3-MP2-FC5")}, "layer MP2: a MaxPool2d has no form of IF neurons"),
        ({"network": ann("4C3-[4C3p1]-FC5")}, "layer residual: a Residual has no form of IF neurons"),
        ({"network": trained(), "num_steps": 12}, "num_steps: .* its own teacher; expected 1 to 11, got 12"),
        ({"network": trained(norm="none", bias=False)}, "model.bias: false leaves no bias"),
    ],
)
def test_refusals(change: dict, message: str) -> None:
    given = {"network": ann(), "images": pictures(), "level": "light", "num_steps": 4} | change
    with pytest.raises(SpikeletError, match=f"^{message}"):
        calibrate(**given)


def test_thresholds_must_fit_the_layers() -> None:
    with pytest.raises(SpikeletError, match=r"^thresholds: expected one for each channel"):
        to_soft_reset(ann(), [torch.ones(4)], 4)


def test_initial_potentials_have_no_integer_form() -> None:
    with pytest.raises(ConversionError, match=r"integer arithmetic takes SRM, or LIF"):
        to_integer(calibrate(ann("4C3-6C3-FC5"), pictures(8), "advanced", 4))
