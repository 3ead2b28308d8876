"""Constrained backpropagation: levels, constraint, schedule, and that weights end on their levels."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from spikelet import NetworkSettings, SpikeletError, TrainSettings, build, fit
from spikelet.datasets import DATASETS, loader
from spikelet.kernels.penalty import add_penalty
from spikelet.quantizers import CBP, LEVELS, begin, quantize
from spikelet.quantizers.cbp import constraint
from spikelet.training.cbp import ConstrainedBackpropagation, Schedule, constrained_layers

WEIGHTS = [-0.30, -0.20, -0.10, -0.05, -0.02, 0, 0.03, 0.06, 0.09, 0.10, 0.15, 0.20]
BINARY, TERNARY = [-0.1, 0.1], [-0.1, 0, 0.1]
FIXTURES = [
    (BINARY, 1, [0.4, 0.2, 0, 0, 0, 0, 0, 0, 0, 0, 0.1, 0.2]),
    (BINARY, 2, [0.4, 0.2, 0, 0.1, 0, 0, 0, 0.08, 0.02, 0, 0.1, 0.2]),
    (BINARY, 10, [0.4, 0.2, 0, 0.1, 0.16, 0, 0.14, 0.08, 0.02, 0, 0.1, 0.2]),
    (TERNARY, 2, [0.4, 0.2, 0, 0, 0.04, 0, 0, 0, 0.02, 0, 0.1, 0.2]),
    (TERNARY, 10, [0.4, 0.2, 0, 0, 0.04, 0, 0.06, 0.08, 0.02, 0, 0.1, 0.2]),
]


@pytest.mark.parametrize(("levels", "g", "expected"), FIXTURES)
def test_constraint_of_the_reference(levels, g, expected) -> None:
    cs, _ = constraint(torch.tensor(WEIGHTS, dtype=torch.float64), levels, g)
    assert cs.tolist() == pytest.approx(expected, abs=1e-12)


@given(
    levels=st.sampled_from(sorted(LEVELS.values())),
    weight=st.lists(st.floats(-2, 2), min_size=1, max_size=50),
    g=st.sampled_from([1, 2, 3, 10, 100, math.inf]),
)
def test_constraint_and_its_slope(levels, weight, g) -> None:
    w = torch.tensor(weight, dtype=torch.float64)
    cs, slope = constraint(w, list(levels), g)
    distance = (w[:, None] - torch.tensor(levels, dtype=torch.float64)).abs().min(1).values
    assert torch.all((cs == 0) | ((cs - 2 * distance).abs() < 1e-12))
    assert set(slope.tolist()) <= {-2.0, 0.0, 2.0}
    if g == math.inf:
        assert torch.allclose(cs, 2 * distance)
    moved, slope_there = constraint(w + 1e-9, list(levels), g)
    smooth = ((moved - cs).abs() < 1e-8) & (cs > 1e-8) & (moved > 1e-8) & (slope == slope_there)
    assert torch.allclose(((moved - cs) / 1e-9)[smooth], slope[smooth], atol=1e-4)


@pytest.mark.parametrize("levels", sorted(LEVELS))
def test_codes_are_the_nearest_levels(levels) -> None:
    cbp, weight = CBP(levels), torch.randn(1000, generator=torch.Generator().manual_seed(1))
    cbp.begin(weight)
    allowed = torch.tensor(LEVELS[levels]) * weight.abs().mean()
    nearest = (weight[:, None] - allowed).abs().min(1).values
    assert torch.allclose((cbp(weight) - weight).abs(), nearest, atol=1e-6)
    largest = int(cbp.codes(weight).abs().max())
    assert cbp.bits == 1 if levels == "binary" else 2 ** (cbp.bits - 2) <= largest < 2 ** (cbp.bits - 1)


def test_ties_go_up_and_the_scale_stays() -> None:
    cbp = CBP("binary")
    cbp.begin(torch.tensor([0.5, -1.5]))
    assert cbp(torch.tensor([0.0, -1e-9, 30.0])).tolist() == [1.0, -1.0, 1.0]
    ternary = CBP("ternary")
    ternary.begin(torch.tensor([1.0]))
    assert ternary(torch.tensor([-0.5, 0.5])).tolist() == [0.0, 1.0]


def test_the_schedule_against_a_trace() -> None:
    schedule = Schedule(max_period=3)
    trace = [5.0, 4.0, 4.0, 9.0, 8.0, 7.0, 6.0, 6.0]
    assert [(schedule.after_epoch(x), schedule.g) for x in trace] == [
        (False, 1), (False, 1), (True, 2),  # did not fall
        (False, 2), (False, 2), (True, 3),  # three epochs without a step
        (False, 3), (True, 4),
    ]  # fmt: skip
    for _ in range(20):
        schedule.after_epoch(1.0)
    assert schedule.g == 50  # 4, 5 ... 10, 20 ... 50: every other epoch, since the first after a step never is one


def train(run_dir=None, epochs: int = 10, resume: bool = False, levels: str = "ternary"):
    data = DATASETS["digits"](split="train")
    settings = NetworkSettings("8C3-P2-32-FC10", weights="float", first="parity", last="parity")
    network = quantize(build(settings, (1, 8, 8)), levels)
    callback = ConstrainedBackpropagation(lr=0.02, max_period=2)
    how = TrainSettings(num_epochs=10, lr=0.01, batch_size=64, optimizer="sgd", schedule="constant")
    options = {"max_epochs": epochs, "enable_progress_bar": False, "callbacks": [callback]}
    batches = loader(data, 64, shuffle=True, seed=1)
    fit(network, batches, None, how, run_dir=run_dir, resume=resume, trainer=options)
    return network, callback


def weights(network) -> torch.Tensor:
    return torch.cat([p.flatten().double() for p in network.state_dict().values()])


def test_weights_end_on_their_levels() -> None:
    start = constrained_layers(train(epochs=1)[0])
    network, callback = train()
    assert callback.schedule.g > 2
    assert callback.failure() < 0.5 * sum(
        float(constraint(layer.latent, layer.quantizer.values(layer.latent), math.inf)[0].mean())
        for layer in start.values()
    )
    assert max(float(layer.latent.detach().abs().max()) for layer in callback.layers.values()) <= 1
    test = DATASETS["digits"](split="test")
    with torch.no_grad():
        assert (network(test.images).argmax(1) == test.labels).float().mean() > 0.8


def test_resuming_is_exact(tmp_path) -> None:
    whole, _ = train(tmp_path / "whole", epochs=6)
    train(tmp_path / "parts", epochs=3)
    parts, _ = train(tmp_path / "parts", epochs=6, resume=True)
    assert torch.equal(weights(whole), weights(parts))


def test_resuming_with_other_layers_is_refused(tmp_path) -> None:
    callback = ConstrainedBackpropagation()
    callback.load_state_dict({"multipliers": {"other": torch.zeros(3)}, "levels": {"other": "ternary"}})
    network = quantize(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 2)))
    module = nn.Module()
    module.network = network
    with pytest.raises(SpikeletError, match="another choice of quantized layers"):
        callback.on_fit_start(None, module)


def test_resuming_with_another_quantizer_is_refused(tmp_path) -> None:
    train(tmp_path, epochs=1)
    with pytest.raises(SpikeletError, match="resume: the checkpoint has levels ternary, the network binary"):
        train(tmp_path, epochs=2, resume=True, levels="binary")
    batches = loader(DATASETS["digits"](split="train"), 64, shuffle=True, seed=1)
    how = {"resume": True, "run_dir": tmp_path, "trainer": {"enable_progress_bar": False}}
    for weights, message in {
        "float": "do not both have layers",
        "twn": "was begun with weights 'float', .* 'twn'",
    }.items():
        settings = NetworkSettings("8C3-P2-32-FC10", weights=weights, first="parity", last="parity")
        with pytest.raises(SpikeletError, match=f"resume: .*{message}"):
            fit(build(settings, (1, 8, 8)), batches, None, TrainSettings(), **how)


def test_a_callback_used_twice_begins_anew() -> None:
    callback = ConstrainedBackpropagation(lr=0.02, max_period=1)
    for _ in range(2):
        settings = NetworkSettings("8C3-P2-32-FC10", weights="float", first="parity", last="parity")
        network = quantize(build(settings, (1, 8, 8)), "ternary")
        batches = loader(DATASETS["digits"](split="train"), 64, shuffle=True, seed=1)
        options = {"enable_progress_bar": False, "callbacks": [callback], "limit_train_batches": 2}
        fit(network, batches, None, TrainSettings(num_epochs=3), trainer=options)
        assert callback.schedule.g == 4


@pytest.mark.parametrize("levels", sorted(LEVELS))
@given(seed=st.integers(0, 2**31), g=st.sampled_from([1, 2, 3, 10, 30, 100]), size=st.integers(1, 3000))
def test_the_fused_pull_is_the_constraint(levels, seed, g, size) -> None:
    """In float32 a weight on the edge of a window may be taken for its neighbour: edges are left out."""
    generator = torch.Generator().manual_seed(seed)
    weight, multiplier, grad = (torch.randn(size, generator=generator) for _ in range(3))
    values = [level * 0.7 for level in LEVELS[levels]]
    cs, slope = constraint(weight, values, g)
    near, _ = constraint(weight.double() * (1 + 1e-6), values, g)
    far, _ = constraint(weight.double() * (1 - 1e-6), values, g)
    clear = ((near - cs).abs() < 1e-4) & ((far - cs).abs() < 1e-4)
    weight, multiplier, grad = weight[clear], multiplier[clear], grad[clear]
    expected = grad + multiplier * slope[clear]
    penalty = add_penalty(weight, multiplier, grad, values, g)
    assert torch.allclose(grad, expected, rtol=1e-5, atol=1e-5)
    assert penalty == pytest.approx(float((multiplier * cs[clear]).double().sum()), rel=1e-4, abs=1e-3)


def begin_all_zero() -> None:
    network = quantize(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 2)))
    with torch.no_grad():
        network[1].parametrizations.weight.original.zero_()
    begin(network)


def network_of(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CBP("quaternary"), "levels: expected one of binary, ternary, shift3, shift7, got 'quaternary'"),
        (lambda: quantize(network_of(nn.Linear(2, 2), nn.Linear(2, 2))), "of its 2 weighted layers none is left"),
        (
            lambda: quantize(network_of(nn.Linear(2, 2)), layers=["1"]),
            "layers: no weighted layer '1'; the network's are 0",
        ),
        (
            lambda: quantize(quantize(network_of(nn.Linear(2, 2)), layers=["0"]), layers=["0"]),
            "layers: 0 has a quantizer",
        ),
        (lambda: CBP().begin(torch.zeros(3)), "weight: is all 0"),
        (lambda: constrained_layers(network_of(nn.Linear(2, 2))), "no layer has a CBP quantizer"),
        (lambda: ConstrainedBackpropagation(lr=0), "lr, max_period: expected lr > 0"),
        (lambda: build(NetworkSettings("4C3-FC10", weights="cbp_binary"), (1, 8, 8)), "'4C3-FC10' has none"),
        (
            lambda: build(NetworkSettings("4C3-P2-FC10", weights="twn", pool="max"), (1, 8, 8)),
            "model.weights: twn is for",
        ),
        (lambda: begin_all_zero(), "layer 1: weight: is all 0"),
    ],
)
def test_what_is_refused(call, message) -> None:
    with pytest.raises(SpikeletError, match=message):
        call()
