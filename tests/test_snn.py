"""Spiking networks that are trained through time: shapes, static and moving input, what a run records."""

import pytest
import torch

from spikelet import NetworkSettings, SpikeletError, build
from spikelet.metrics import synaptic_operations
from spikelet.networks import SNN, measure_operations, record_spikes

NOTATION = "4C3-MP2-6C3p1-[6C3p1]-FC10"


def network(input_shape: tuple[int, int, int] = (2, 12, 12), **settings) -> SNN:
    torch.manual_seed(1)
    given = {"neuron": "lif", "num_steps": 5, "weights": "float", "first": "parity", "last": "parity"}
    made = build(NetworkSettings(NOTATION, **(given | settings)), input_shape)
    assert isinstance(made, SNN)
    return made


def frames(num_steps: int = 5, num: int = 3) -> torch.Tensor:
    return torch.poisson(torch.full((num_steps, num, 2, 12, 12), 0.5), generator=torch.Generator().manual_seed(2))


def test_a_picture_is_shown_without_being_repeated() -> None:
    snn = network(norm="none").eval()
    images = torch.randint(256, (3, 2, 12, 12), dtype=torch.uint8)
    assert torch.equal(snn(images), snn((images / 255).expand(5, *images.shape)))
    assert len(snn(images, num_steps=7)) == 7


@pytest.mark.parametrize("readout", ["spikes", "current"])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_gradients_reach_every_parameter(norm: str, readout: str) -> None:
    snn = network(norm=norm, readout=readout, learn_beta=True, learn_threshold=True, surrogate="atan", slope=2.0)
    snn(frames() * 3).float().mean(0).logsumexp(1).sum().backward()
    silent = [name for name, p in snn.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not silent
    assert sum(bool(p.grad.any()) for p in snn.parameters() if p.grad is not None) >= len([*snn.parameters()]) - 2


def test_weights_begin_as_large_as_they_are_told_to() -> None:
    plain, large = network(norm="none"), network(norm="none", init_gain=3.0)
    for (name, one), other in zip(plain.named_parameters(), large.parameters(), strict=True):
        assert torch.allclose(other, 3 * one if name.endswith("weight") else one)


@pytest.mark.parametrize("reset", ["subtract", "subtract_next", "zero"])
def test_samples_of_a_batch_do_not_know_each_other(reset: str) -> None:
    snn = network(reset=reset).eval()
    x = frames()
    alone = torch.cat([snn(x[:, i : i + 1]) for i in range(x.shape[1])], dim=1)
    assert torch.equal(snn(x), alone)


def test_a_run_counts_what_really_happened() -> None:
    snn = network()
    x = frames() * 2
    run = snn.run(x, record=True)
    with torch.no_grad(), record_spikes(snn.eval()) as spikes:
        snn(x)
    assert run.layers == tuple(spikes) == ("4C3", "6C3p1", "residual.body.6C3p1", "FC10")
    assert run.positive is not None and run.synaptic_operations is not None and run.input_operations is not None
    for row, train in enumerate(spikes.values()):
        assert run.positive[row].tolist() == train.flatten(1).sum(1).tolist()
        assert run.neurons[row] == train[0, 0].numel()
    first, second, *_ = snn.blocks().values()
    assert run.input_operations[0].tolist() == synaptic_operations(first.op, x).sum(1).tolist()
    assert run.synaptic_operations[0].tolist() == synaptic_operations(second.op, spikes["4C3"]).sum(1).tolist()
    assert not run.synaptic_operations[-1].any()
    with torch.no_grad(), measure_operations(snn) as meter:
        snn(x)
    assert int(meter.total) == run.synaptic_operations.sum()


def test_a_picture_costs_multiplications_not_operations() -> None:
    run = network().run(torch.full((2, 2, 12, 12), 200), record=True)
    assert run.input_events is None and run.input_operations is None


@pytest.mark.parametrize("shape", [(3, 2, 12), (3, 1, 12, 12), (0, 2, 12, 12), (0, 3, 2, 12, 12), (5, 0, 2, 12, 12)])
def test_a_wrong_input_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SpikeletError, match=r"x: expected images \[N, 2, 12, 12\] or frames"):
        network()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"neuron": "liff"}, "model.neuron"),
        ({"surrogate": "step"}, "model.surrogate"),
        ({"num_steps": 0}, "model.num_steps"),
        ({"beta": 1.5}, "model.beta"),
        ({"v_threshold": 0.0}, "model.v_threshold"),
        ({"reset": "never"}, "model.reset"),
        ({"notation": "MP2-4C3-FC10"}, "MP2 cannot come first"),
    ],
)
def test_bad_settings_are_refused_by_name(settings: dict, said: str) -> None:
    with pytest.raises(SpikeletError, match=said):
        build(NetworkSettings(**({"notation": NOTATION, "neuron": "lif"} | settings)), (2, 12, 12))
