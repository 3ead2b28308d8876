"""Every surrogate: a hard step forward, the gradient of its formula backward."""

import math
import pickle

import pytest
import torch

from spikelet import SpikeletError
from spikelet.surrogate import SURROGATES, Surrogate, atan, boxcar, fast_sigmoid, sigmoid, surrogate, triangle

GRID = torch.arange(-300, 301, dtype=torch.float64) / 100
BUMPS = sorted(SURROGATES.keys() - {"straight_through"})


@pytest.fixture(params=sorted(SURROGATES))
def spike(request) -> Surrogate:
    return SURROGATES[request.param]()


def test_forward_is_the_hard_step(spike: Surrogate) -> None:
    assert torch.equal(spike(GRID), (GRID >= 0).double())
    assert spike(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_backward_is_the_slope(spike: Surrogate) -> None:
    x = GRID.clone().requires_grad_()
    (spike(x) * GRID).sum().backward()
    assert x.grad is not None and torch.equal(x.grad, GRID * spike.slope(GRID))


def test_the_slope_is_even_highest_at_the_threshold_and_of_height(spike: Surrogate) -> None:
    slope = spike.slope(GRID)
    assert torch.allclose(slope, spike.slope(-GRID))
    assert slope.max() == slope[300] == spike.height > 0


@pytest.mark.parametrize("name", BUMPS)
def test_the_area_is_that_of_a_step(name: str) -> None:
    x = torch.linspace(-2000, 2000, 4_000_001, dtype=torch.float64)
    area = SURROGATES[name]().slope(x).sum().item() * 1e-3
    expected = 2 / 25 if name == "fast_sigmoid" else 1  # published without the factor alpha / 2
    assert area == pytest.approx(expected, rel=2e-3)


def test_it_is_its_name_and_its_numbers(spike: Surrogate) -> None:
    assert hash(spike) == hash(SURROGATES[spike.name]()) and spike == SURROGATES[spike.name]()
    assert pickle.loads(pickle.dumps(spike)) == spike == surrogate(spike.name)


def test_constants_of_the_works() -> None:
    half = torch.tensor(0.5)
    assert boxcar(2 * 0.05, height=1).slope(torch.tensor([0.0, 0.049, 0.05])).tolist() == [1, 1, 0]  # DTS-SNN
    assert boxcar(1.0).slope(torch.tensor([0.49, 0.5])).tolist() == [1, 0]  # STBP with lens 0.5
    assert fast_sigmoid(25).slope(half).item() == pytest.approx(1 / 13.5**2)  # work C
    assert atan(2).slope(half).item() == pytest.approx(1 / (1 + (math.pi / 2) ** 2))
    assert sigmoid(4).slope(half).item() == pytest.approx(4 * math.exp(2) / (1 + math.exp(2)) ** 2)
    assert triangle(2, height=0.3).slope(half).item() == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: surrogate("arctan"), "surrogate: expected one of atan, fast_sigmoid.* got 'arctan'"),
        (lambda: surrogate("atan", width=1), "surrogate atan: .*width"),
        (lambda: atan(0), "alpha: expected a positive number, got 0"),
        (lambda: boxcar(math.nan), "width: expected a positive number, got nan"),
        (lambda: triangle(1, height=-1), "height: expected a positive number, got -1"),
    ],
)
def test_bad_settings(call, message: str) -> None:
    with pytest.raises(SpikeletError, match=message):
        call()
