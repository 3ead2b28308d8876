"""The image, once."""

from torch import Tensor

from spikelet.arguments import check_whole


def once(x: Tensor, num_steps: int) -> Tensor:
    """Present ``x`` [N, ...] at t = 0 and nothing afterwards: [T, N, ...]. Source: Zou et al. 2023 (reference 4.6).

    >>> import torch
    >>> once(torch.tensor([[0.5]]), num_steps=3).flatten().tolist()
    [0.5, 0.0, 0.0]
    """
    check_whole("num_steps", num_steps)
    out = x.new_zeros((num_steps, *x.shape))
    out[0] = x
    return out
