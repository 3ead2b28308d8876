"""The same current at every step."""

from torch import Tensor

from spikelet.arguments import check_whole


def direct(x: Tensor, num_steps: int) -> Tensor:
    """Present ``x`` [N, ...] at every step: [T, N, ...], a view in which all steps are the same memory.

    Write to a ``clone()`` of it, not to it. A network whose first layers have no state is better given ``x`` itself:
    its weights are then applied once, and ``Neuron.hold`` supplies the steps. Source: Wu et al., AAAI 2019; works B, C.

    >>> import torch
    >>> out = direct(torch.tensor([[0.5, 1.0]]), num_steps=3)
    >>> out.tolist(), out.stride(0)
    ([[[0.5, 1.0]], [[0.5, 1.0]], [[0.5, 1.0]]], 0)
    """
    check_whole("num_steps", num_steps)
    return x.expand(num_steps, *x.shape)
