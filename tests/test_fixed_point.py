"""Networks trained through time and their integer form: the same spikes, neuron by neuron, step by step."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikelet import NetworkSettings, SpikeletError, build
from spikelet.convert import check_trained, in_integer_arithmetic, to_integer
from spikelet.errors import ConversionError
from spikelet.networks import SNN, record_spikes

SHAPE = (2, 9, 8)
FIELDS = {
    "notation": st.sampled_from(["6C3-P2-12-FC10", "5C3p1-6C3s2g1-FC10", "4C2s2-SAP2-8C2p1-FC7-FC10"]),
    "neuron": st.sampled_from(["lif", "lif", "srm"]),
    "weights": st.sampled_from(["cbp_binary", "cbp_ternary", "cbp_shift7", "twn", "uniform2", "uniform4", "float"]),
    "first": st.sampled_from(["integer", "parity"]),
    "last": st.sampled_from(["integer", "parity"]),
    "beta": st.sampled_from([0.0, 0.25, 0.5, 0.8, 0.9, 1.0]),
    "v_threshold": st.sampled_from([0.1, 0.5, 1.0]),
    "reset": st.sampled_from(["zero", "subtract"]),
    "detach_reset": st.booleans(),
    "norm": st.sampled_from(["batch", "none"]),
    "readout": st.sampled_from(["spikes", "current"]),
    "pixel_offset": st.sampled_from([[], [120], [100, 130]]),
    "num_steps": st.integers(1, 6),
}
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def network(fields: dict, seed: int, arithmetic: str = "integer") -> SNN:
    """An untrained network whose batch norms have statistics, scales and signs of their own."""
    torch.manual_seed(seed)
    found = build(NetworkSettings(**{"neuron": "lif"} | fields, arithmetic=arithmetic), SHAPE)
    for module in found.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
            torch.nn.init.normal_(module.running_mean)
            module.running_var.uniform_(0.1, 3)
    return found.eval()


def images(seed: int, number: int = 5) -> torch.Tensor:
    return torch.randint(0, 256, (number, *SHAPE), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def events(seed: int, num_steps: int, number: int = 5) -> torch.Tensor:
    """Frames of recordings, a few of their counts as large as they can be."""
    rates = torch.full((num_steps, number, *SHAPE), 0.3)
    drawn = torch.poisson(rates, generator=torch.Generator().manual_seed(seed))
    drawn[:, :, :, 0, 0] *= 255
    return drawn.clamp_max(255).to(torch.uint8)


@MANY
@given(st.fixed_dictionaries(FIELDS), st.booleans(), st.integers(0, 2**31))
def test_a_network_in_integer_arithmetic_is_its_integer_form(fields, frames, seed) -> None:
    trained = network(fields, seed)
    integer, x = to_integer(trained, frames=frames), events(seed, fields["num_steps"]) if frames else images(seed)
    run = integer.run(x.numpy(), fields["num_steps"], counts=True)
    with record_spikes(trained) as spikes, torch.no_grad():
        logits = trained(x)
    for name, counts in zip(run.layers, run.counts, strict=True):
        np.testing.assert_array_equal(spikes[name].sum(0).reshape(counts.shape).numpy(), counts, err_msg=name)
    for t in range(1, fields["num_steps"]):  # neuron by neuron at every step
        shorter = integer.run(x.numpy(), t, counts=True)
        for name, counts in zip(shorter.layers, shorter.counts, strict=True):
            np.testing.assert_array_equal(spikes[name][:t].sum(0).reshape(counts.shape).numpy(), counts, err_msg=name)
    if fields["readout"] == "spikes":
        np.testing.assert_array_equal(logits.numpy(), run.logits)
    scale = logits.abs().max() / max(1, np.abs(run.logits).max())
    np.testing.assert_array_equal(logits.numpy(), run.logits * scale.numpy())
    agreement = check_trained(trained, integer, [(x, logits.sum(0).argmax(1))])
    assert agreement["answers"] == agreement["neurons"] == agreement["accuracy_integer"] == 1


@MANY
@given(st.fixed_dictionaries(FIELDS), st.booleans(), st.integers(0, 2**31))
def test_arithmetic_changes_little(fields, frames, seed) -> None:
    """Rounding decays, thresholds, biases and float ends moves few spikes."""
    plain = network(fields | {"weights": "cbp_ternary"}, seed, arithmetic="float")
    x = events(seed, fields["num_steps"], number=20) if frames else images(seed, number=20)
    converted = to_integer(plain, frames=frames)
    agreement = check_trained(plain, converted, [(x, torch.zeros(20, dtype=torch.int64))])
    assert agreement["neurons"] > 0.9


@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize("neuron", [None, "lif"])
def test_a_lowest_code_that_loses_its_sign_gets_a_bit(bits, neuron) -> None:
    """-2 of two bits and -128 of eight have no counterpart; a negative gamma asks for it."""
    torch.manual_seed(1)
    net = build(NetworkSettings("4C3-4C3-FC10", weights=f"uniform{bits}", neuron=neuron, num_steps=3), (1, 8, 8)).eval()
    block = list(net.blocks().values())[1]
    with torch.no_grad():
        block.op.parametrizations.weight[0].step.fill_(0.01)
        block.op.parametrizations.weight.original.fill_(-9.0)
        block.norm.weight.fill_(-1.0)
    node = to_integer(net).nodes[1]
    assert (node.bits, int(node.weight.max())) == (bits + 1, 2 ** (bits - 1))


@pytest.mark.parametrize("neuron", ["lif", "srm"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_gradients_are_those_of_the_float_network(norm, neuron) -> None:
    """Where both fire alike, they learn alike: the surrogate sees the same membranes, up to rounding."""
    fields = {"notation": "6C3-P2-12-FC10", "weights": "cbp_ternary", "first": "integer", "last": "integer"}
    fields |= {"beta": 0.25, "v_threshold": 0.5, "reset": "zero", "detach_reset": False, "norm": norm, "num_steps": 4}
    fields |= {"neuron": neuron}
    plain = network(fields | {"surrogate": "sigmoid"}, 3, arithmetic="float")
    exact, x = in_integer_arithmetic(plain), images(3)
    grads = []
    for net in (plain, exact):
        (net(x) * torch.arange(10)).sum().backward()
        grads.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert torch.cosine_similarity(*grads, dim=0) > 0.99
    assert grads[0].norm() == pytest.approx(grads[1].norm().item(), rel=0.05)


def test_a_learned_decay_learns_in_integer_arithmetic() -> None:
    fields = {"notation": "6C3-FC10", "learn_beta": True, "learn_threshold": True, "num_steps": 4, "v_threshold": 0.1}
    net = network(fields | {"surrogate": "sigmoid", "norm": "none"}, 3)
    (net(images(3)) * torch.arange(10)).sum().backward()
    for block in net.blocks().values():
        assert block.neuron.beta.grad.abs() > 0 and block.neuron.v_threshold.grad.abs() > 0


def test_the_formula_by_hand() -> None:
    """V = floor(V / 4) + 2^f * a + bias, a spike at the threshold, then 0: one neuron, three steps, on paper."""
    fields = {"notation": "FC1-FC1", "beta": 0.25, "v_threshold": 0.5, "reset": "zero", "norm": "none", "num_steps": 3}
    snn = build(NetworkSettings(**fields, neuron="lif", weights="float", first="parity", last="parity"), (1, 1, 1))
    first, last = (block.op for block in snn.blocks().values())
    with torch.no_grad():
        for op in (first, last):
            op.weight.fill_(1.0)
            op.bias.fill_(0.0)
    integer = to_integer(snn)
    neuron = integer.nodes[0].neuron
    code = integer.nodes[0].weight.item()
    assert (neuron.leak, neuron.shift, code) == (1, 2, 2**15 - 1)
    assert int(neuron.threshold[0]) == pytest.approx(0.5 * code * 255 * 2**neuron.fraction_bits, rel=1e-6)
    v, expected = 0, []
    for _ in range(3):  # 110 / 255 = 0.431: 0.431, 0.539 -> spike, 0.431
        v = v // 4 + (code * 110 << neuron.fraction_bits)
        expected.append(int(v >= neuron.threshold[0]))
        v = 0 if expected[-1] else v
    run = integer.run(np.full((1, 1, 1, 1), 110, np.uint8), 3, record=True)
    assert run.positive[0].tolist() == expected == [0, 1, 0]


def test_two_traces_by_hand() -> None:
    """The threshold is v_threshold * (tau_m - tau_s) / tau_m, in codes; the decays have up to ten binary places."""
    fields = {"notation": "FC1-FC1", "norm": "none", "bias": False, "first": "parity", "last": "parity", "num_steps": 4}
    fields |= {"dt": 0.005, "tau_m": 0.06, "tau_s": 0.02, "v_threshold": 0.09, "weights": "float"}
    snn = build(NetworkSettings(**fields, neuron="srm"), (1, 1, 1))
    for block in snn.blocks().values():
        torch.nn.init.ones_(block.op.weight)
    node = to_integer(snn, frames=True).nodes[0]
    neuron, code = node.neuron, node.weight.item()
    leaks = neuron.leak / 2**neuron.shift, neuron.synapse_leak / 2**neuron.synapse_shift
    assert leaks == (round(np.exp(-1 / 12) * 1024) / 1024, round(np.exp(-1 / 4) * 1024) / 1024)
    assert int(neuron.threshold[0]) == pytest.approx(0.06 * code * 2**neuron.fraction_bits, rel=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"notation": "4C3-MP2-FC10"}, "layer 4C3: .*pooled currents have no integer form"),
        ({"notation": "4C3-FC10", "reset": "subtract_next"}, "layer 4C3: .*reset subtract or zero"),
        ({"notation": "4C3-FC10", "neuron": "trace"}, "layer 4C3: .*takes SRM, or LIF"),
        ({"notation": "4C3-FC10", "neuron": "srm", "tau_m": 3.0001}, "layer 4C3: in integers both decays"),
    ],
)
def test_what_has_no_integer_form_is_refused_by_name(fields, message) -> None:
    with pytest.raises(ConversionError, match=message):
        to_integer(build(NetworkSettings(**{"neuron": "lif"} | fields), (1, 8, 8)))


def test_integer_arithmetic_is_refused_where_it_means_nothing() -> None:
    with pytest.raises(SpikeletError, match=r"model\.arithmetic: only for networks trained through time"):
        build(NetworkSettings("4C3-FC10", arithmetic="integer"), (1, 8, 8))
    with pytest.raises(SpikeletError, match=r"model\.pixel_offset: expected none, one or 1"):
        build(NetworkSettings("4C3-FC10", neuron="lif", pixel_offset=[1, 2]), (1, 8, 8))
    with pytest.raises(SpikeletError, match=r"model\.pixel_offset: expected pixels, 0 to 255"):
        build(NetworkSettings("4C3-FC10", neuron="lif", pixel_offset=[-1]), (1, 8, 8))
    for notation in ("4C3-SMP2-FC10", "4C3-MP2-FC10", "4C3-[4C3p1]-FC10"):
        with pytest.raises(ConversionError, match="no integer form"):
            build(NetworkSettings(notation, neuron="lif", arithmetic="integer"), (1, 8, 8))
    with pytest.raises(ConversionError, match="fraction_bits: networks of leaky"):
        to_integer(build(NetworkSettings("4C3-FC10", neuron="lif"), (1, 8, 8)), fraction_bits=3)
    with pytest.raises(ConversionError, match="frames: only networks trained through time"):
        to_integer(build("4C3-FC10", (1, 8, 8)), frames=True)


def test_layers_that_quantize_was_put_on_are_converted() -> None:
    from spikelet.quantizers import quantize

    fields = {"notation": "4C3-P2-FC10", "weights": "float", "first": "parity", "last": "parity", "num_steps": 3}
    plain = quantize(network(fields, 1, arithmetic="float"), "binary")
    integer, x = to_integer(plain), images(1)
    assert integer.nodes[1].bits == 1 and min(node.bits for node in integer.nodes[::2]) > 8
    np.testing.assert_array_equal(in_integer_arithmetic(plain)(x).detach().numpy(), integer.run(x.numpy(), 3).logits)
