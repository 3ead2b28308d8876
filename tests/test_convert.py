"""Conversion loses nothing: settled spikes equal the integer ANN, neuron by neuron."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spikelet import ConversionError, NetworkSettings, SpikeletError, build, check_equivalence, to_integer, to_spiking
from spikelet.convert import float_counts, fold, settled_counts
from spikelet.integer import Conv
from spikelet.networks import Network
from spikelet.spiking import Folded, SpikingNetwork

NOTATIONS = (
    "4C3-P2-FC3",
    "6C3s2p1-4C2p1g2-5-FC3",
    "4C3p2-[4C3p1-4C3p1]-P2-FC3",
    "4C2-MP2-6C2s2-FC4",
    "4C3-AP2-6C2-7-FC4",
    "4C3p1-[6C3s2p1-6C3p1|6C1s2]-GAP-FC3",
    "4C3p1-MP3s2p1-[4C3p1|4C3p1-4C1]-AP3s2p1-[5|5-5]-FC4",
)


def random_network(notation: str, seed: int, **options) -> Network:
    """A network whose batch norms have seen everything: negative and zero gammas, large means, small variances."""
    torch.manual_seed(seed)
    network = build(NetworkSettings(notation=notation, **options), (2, 9, 9))
    network.train()
    for _ in range(3):
        network(torch.randint(0, 256, (16, 2, 9, 9)))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 1.5)
            module.weight.data[0] = 0.0
    return network.eval()


def images(n: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, 2, 9, 9), dtype=np.uint8))


@settings(max_examples=25, deadline=None)
@given(
    notation=st.sampled_from(NOTATIONS),
    k=st.integers(0, 2),
    seed=st.integers(0, 10_000),
    weights=st.sampled_from(["ternary", "uniform8"]),
    max_count=st.sampled_from([3, 15, 127]),
)
def test_settled_spikes_equal_the_integer_ann(notation, k, seed, weights, max_count) -> None:
    options = {"pool": "max" if "M" in notation else "conv", "k": k, "weights": weights, "max_count": max_count}
    network = random_network(notation, seed, first_levels=None, **options)
    integer = to_integer(network)
    x = images(seed=seed)
    run = integer.run(x.numpy(), num_steps=1500, counts=True)
    counts, logits = settled_counts(integer, x)
    for snn, ann in zip(run.counts, counts, strict=True):
        assert torch.equal(torch.from_numpy(np.asarray(snn)).reshape(len(x), -1).double(), ann.reshape(len(x), -1))
    assert torch.equal(torch.from_numpy(run.logits.sum(0)).double(), logits)


@pytest.mark.parametrize("notation", NOTATIONS)
@pytest.mark.parametrize("k", [0, 1, 2])
def test_integer_ann_equals_the_float_ann(notation: str, k: int) -> None:
    network = random_network(notation, seed=k, k=k, first_levels=None).double()
    x = images(32)
    for converted in (to_integer(network), to_spiking(network)):
        counts, _ = settled_counts(converted, x)
        trained, _ = float_counts(network, x.double())
        agree = [float((a == b.reshape(a.shape)).double().mean()) for a, b in zip(counts, trained, strict=True)]
        assert min(agree) > 0.995


@pytest.mark.parametrize("notation", NOTATIONS)
def test_float_spiking_network_settles_too(notation: str) -> None:
    network = random_network(notation, seed=3, weights="float", first="parity", last="parity", k=1, first_levels=None)
    spiking = to_spiking(network)
    loader = [(images(), torch.zeros(6, dtype=torch.int64))]
    agreement = check_equivalence(network, spiking, loader, num_steps=300)
    assert agreement["snn_vs_integer_ann"] == 1.0
    assert agreement["answers"] == 1.0


def as_float(node):
    """An integer network's node for the float simulation, thresholds in accumulators."""
    if not isinstance(node, Conv):
        return node
    weight = torch.from_numpy(node.weight.astype(np.float64))
    common = (node.name, node.source, weight, node.stride, node.padding, node.groups, node.bits, 1.0)
    if node.neuron is None:
        return Folded(*common)
    scale = 2.0**-node.neuron.fraction_bits
    first, step = (torch.from_numpy(a * scale) for a in (node.neuron.first, node.neuron.step))
    return Folded(*common, first, step, node.neuron.max_count)


@pytest.mark.parametrize("notation", NOTATIONS)
def test_both_engines_fire_the_same_spikes_at_the_same_steps(notation: str) -> None:
    integer = to_integer(random_network(notation, seed=5, k=1, first_levels=None))
    simulated = SpikingNetwork([as_float(n) for n in integer.nodes], integer.input_shape)
    ours, theirs = simulated.run(images(), 12, record=True), integer.run(images().numpy(), 12, record=True)
    assert np.array_equal(ours.logits, theirs.logits)
    for name in ("positive", "negative", "synaptic_operations", "effective_operations"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name


@pytest.mark.parametrize(("gamma", "beta", "count"), [(1e-8, 0.7, 1), (1e-20, 2.6, 3), (-1e-9, -1.0, 0), (0.0, 1.4, 1)])
def test_a_constant_channel_spoils_nothing(gamma: float, beta: float, count: int) -> None:
    network = random_network("4C3-4C2-FC3", seed=2, first_levels=None)
    plain = to_integer(network).nodes[1].neuron.fraction_bits
    norm = network.blocks()["4C2"].norm
    norm.weight.data[1], norm.bias.data[1] = gamma, beta
    integer = to_integer(network)
    assert integer.nodes[1].neuron.fraction_bits == plain
    assert (integer.run(images().numpy(), 40, counts=True).counts[1][:, 1] == count).all()


def test_a_network_that_diverged_is_refused() -> None:
    network = random_network("4C3-FC3", seed=2)
    network.blocks()["4C3"].norm.bias.data[0] = float("nan")
    with pytest.raises(ConversionError, match=r"layer 4C3: .* not finite"):
        to_integer(network)


@pytest.mark.parametrize(
    ("name", "layer", "word"),
    [
        ("AP2", nn.AvgPool2d(2, ceil_mode=True), "ceil_mode"),
        ("AP2", nn.AvgPool2d(2, divisor_override=1), "divisor_override"),
        ("AP2", nn.MaxPool2d(2, dilation=2), "dilation"),
    ],
)
def test_pool_options_are_refused_by_name(name: str, layer: nn.Module, word: str) -> None:
    network = random_network("4C3-AP2-FC3", seed=1)
    setattr(network.layers, name, layer)
    with pytest.raises(ConversionError, match=f"layer {name}: {word}"):
        fold(network)


def test_batch_norm_without_statistics_is_refused() -> None:
    network = random_network("4C3-FC3", seed=1)
    network.blocks()["4C3"].norm = nn.BatchNorm2d(4, affine=False)
    with pytest.raises(ConversionError, match="layer 4C3: its batch norm"):
        fold(network)


def test_the_check_runs_until_everybody_rests_and_leaves_the_mode_alone() -> None:
    network = random_network("4C3-FC3", seed=1, first_levels=None)
    network.blocks()["4C3"].norm.bias.data.fill_(100.0)
    network.train()
    before = network.blocks()["4C3"].norm.running_mean.clone()
    agreement = check_equivalence(network, to_integer(network), [(images(), torch.zeros(6))], num_steps=2)
    assert agreement["snn_vs_integer_ann"] == agreement["answers"] == 1.0
    assert network.training and torch.equal(before, network.blocks()["4C3"].norm.running_mean)


def test_unary_first_layer_stops_at_its_levels() -> None:
    network = random_network("4C3-P2-FC3", seed=1, k=2, first_levels=4)
    run = to_integer(network).run(images().numpy(), 10, record=True, counts=True)
    assert run.counts[0].max() <= 4 and run.positive[0, 4:].sum() == 0


def test_float_weights_are_refused_by_layer() -> None:
    with pytest.raises(ConversionError, match="layer P2: its weights are float"):
        to_integer(build(NetworkSettings("4C3-P2-FC3", weights="float"), (1, 9, 9)))


def test_relu_is_refused_by_layer() -> None:
    with pytest.raises(ConversionError, match="layer 4C3: its activation ReLU"):
        to_integer(build(NetworkSettings("4C3-FC3", k=None), (1, 9, 9)))


def test_unknown_operation_is_refused_by_layer() -> None:
    network = build("4C3-FC3", (1, 9, 9))
    network.layers.add_module("odd", nn.Sigmoid())
    with pytest.raises(ConversionError, match="layer odd: a Sigmoid has no spiking form"):
        fold(network)


def test_overflow_is_refused() -> None:
    network = random_network("4C3-40C3-FC3", seed=1, weights="uniform8", first_levels=None)
    with pytest.raises(ConversionError, match=r"layer 4C3: with fraction_bits=16 .* beyond int32"):
        to_integer(network, fraction_bits=16)
    assert to_integer(network, fraction_bits=4).run(images().numpy(), 2) is not None


def test_fraction_bits_out_of_range() -> None:
    with pytest.raises(ConversionError, match="fraction_bits: expected"):
        to_integer(build("4C3-FC3", (1, 9, 9)), fraction_bits=40)


def test_nothing_to_compare_on() -> None:
    network = random_network("4C3-FC3", seed=1)
    with pytest.raises(SpikeletError, match="no images"):
        check_equivalence(network, to_integer(network), [])
