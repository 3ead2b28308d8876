"""The contract of every neuron, the fixtures, and the reference loops."""

import pytest
import torch

from spikelet import SpikeletError, kernels
from spikelet.neurons import IF, LIF, NEURONS, Neuron, ThresholdWalk
from spikelet.surrogate import atan, boxcar, fast_sigmoid

MEMBERS = {
    "if": lambda: IF(),
    "lif": lambda: LIF(beta=0.5),
    "threshold_walk": lambda: ThresholdWalk(torch.tensor([0.5, 0.7, 0.2]), torch.tensor([1.0, 0.5, 0.3]), 5),
}


@pytest.fixture(params=sorted(NEURONS))
def neuron(request) -> Neuron:
    return MEMBERS[request.param]().double()


def currents(t: int = 6, n: int = 4) -> torch.Tensor:
    return torch.randn(t, n, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_every_member_is_here() -> None:
    assert MEMBERS.keys() == NEURONS.keys()


def test_rest_at_every_call(neuron: Neuron) -> None:
    assert torch.equal(neuron(currents()), neuron(currents()))


def test_step_equals_multi_step(neuron: Neuron) -> None:
    x = currents()
    state = neuron.init_state(x[0])
    spikes = []
    for current in x:
        s, state = neuron.step(current, state)
        spikes.append(s)
    assert torch.equal(neuron(x), torch.stack(spikes))


def test_batch_independence(neuron: Neuron) -> None:
    x = currents()
    assert torch.equal(neuron(x)[:, 1:2], neuron(x[:, 1:2]))


@pytest.mark.parametrize("x", [torch.zeros(3), torch.zeros(0, 2, 3)])
def test_bad_rank_is_one_clear_error(neuron: Neuron, x: torch.Tensor) -> None:
    with pytest.raises(SpikeletError, match="x: expected"):
        neuron(x)


def test_leaky_fixture_spikes() -> None:
    spikes = LIF(beta=0.5)(torch.full((8, 1), 0.7))  # reset in the same step, so one step earlier than snnTorch's
    assert spikes.flatten().tolist() == [0, 1, 0, 1, 0, 1, 0, 1]


def test_hard_reset_fixture() -> None:
    spikes = LIF(beta=0.8, v_threshold=0.5, v_reset=0.0)(torch.full((6, 1), 0.3, dtype=torch.float64))
    assert spikes.flatten().tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("surrogate", [atan(), fast_sigmoid(), boxcar(0.5)])
def test_gradients_are_finite_and_not_zero_at_threshold(surrogate) -> None:
    x = torch.tensor([[1.0], [0.3]], dtype=torch.float64, requires_grad=True)
    LIF(beta=0.5, surrogate=surrogate)(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad[0].item() != 0


def test_kernels_are_the_neurons() -> None:
    x = currents()
    assert torch.equal(kernels.lif(x, 0.5, 1.0, None, atan()), LIF(beta=0.5)(x))
    walk = MEMBERS["threshold_walk"]().double()
    first, step = walk.first.reshape(-1, 1), walk.step_size.reshape(-1, 1)
    assert torch.equal(kernels.threshold_walk(x, first, step, 5), walk(x))


@pytest.mark.parametrize("k", [0, 1, 2])
def test_threshold_walk_settles_at_the_quantized_activation(k: int) -> None:
    g = torch.Generator().manual_seed(k)
    rand = lambda: torch.rand(20_000, generator=g, dtype=torch.float64)  # noqa: E731
    gamma, beta, mu, sigma = 0.2 + rand(), rand() - 0.5, rand() - 0.5, 0.5 + rand()
    final = 4 * rand() - 1
    parts = torch.randn(12, 20_000, generator=g, dtype=torch.float64)
    x = torch.cat([parts, (final - parts.sum(0))[None], torch.zeros(60, 20_000, dtype=torch.float64)])
    count = ((final - mu) / sigma * gamma + beta).clamp_min(0).mul(2**k).add(0.5).floor()
    first, step = (2.0 ** -(k + 1) - beta) * sigma / gamma + mu, 2.0**-k * sigma / gamma
    assert torch.equal(kernels.threshold_walk(x, first, step, 127).sum(0), count)


def test_bad_settings() -> None:
    with pytest.raises(SpikeletError, match="beta"):
        LIF(beta=1.5)
    with pytest.raises(SpikeletError, match="step"):
        ThresholdWalk(torch.tensor(0.0), torch.tensor(0.0))
