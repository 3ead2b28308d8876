"""The contract of every encoder."""

import pytest
import torch

from spikelet import SpikeletError
from spikelet.encoders import ENCODERS, once, unary


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_layout_and_batch_independence(name: str) -> None:
    x = torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(0))
    out = ENCODERS[name](x, num_steps=6)
    assert out.shape == (6, 4, 3, 5)
    assert torch.equal(out[:, 1:2], ENCODERS[name](x[1:2], num_steps=6))


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_no_steps_is_refused(name: str) -> None:
    with pytest.raises(SpikeletError, match="num_steps"):
        ENCODERS[name](torch.zeros(1, 1), num_steps=0)


def test_once_sums_to_the_image() -> None:
    x = torch.rand(2, 3)
    assert torch.equal(once(x, 5).sum(0), x)


def test_unary_counts_halves_up_and_stops() -> None:
    x = torch.tensor([[0.49, 0.5, 1.5, 7.0]])
    out = unary(x, num_steps=6, levels=4)
    assert out.sum(0).tolist() == [[0, 1, 2, 4]]
    assert bool((out[1:] <= out[:-1]).all())
