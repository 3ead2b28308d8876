"""Pooling tokens: MP2, AP3s2p1, P2, GAP and, of the spikes behind a layer of a spiking network, SMP2 and SAP2."""

import re
from typing import NamedTuple

from torch import nn

from spikelet.errors import SpikeletError
from spikelet.networks.layers import MaxPool, Shape


class Pooling(NamedTuple):
    """What a token says: the largest of each window, or the mean, whose padding counts as zeros."""

    token: str
    largest: bool
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: int
    of_spikes: bool

    def output(self, shape: Shape) -> Shape:
        """The shape (C, H', W') that it makes of (C, H, W)."""
        windows = zip(shape[1:], self.kernel, self.stride, strict=True)
        height, width = ((n + 2 * self.padding - k) // s + 1 for n, k, s in windows)
        return shape[0], height, width

    @property
    def divisor(self) -> int:
        """What the value of a spike is divided by: the area of an average's window."""
        return 1 if self.largest else self.kernel[0] * self.kernel[1]

    def module(self, spiking: bool) -> nn.MaxPool2d | nn.AvgPool2d:
        """The module that pools [N, C, H, W]."""
        if spiking and self.largest and self.stride == self.kernel and not self.padding:
            return MaxPool(self.kernel[0])
        return (nn.MaxPool2d if self.largest else nn.AvgPool2d)(self.kernel, self.stride, self.padding)


def read_pooling(token: str, pool: str, shape: Shape) -> Pooling | None:
    """The pooling without weights that ``token`` stands for, if it stands for one; ``pool`` is the kind of Pk.

    >>> read_pooling("MP3s2p1", "conv", (64, 112, 112)).output((64, 112, 112))
    (64, 56, 56)
    >>> read_pooling("GAP", "conv", (512, 7, 7)).divisor, read_pooling("P2", "conv", (4, 8, 8))
    (49, None)
    """
    if token == "GAP":
        return Pooling(token, False, shape[1:], shape[1:], 0, of_spikes=True)
    found = re.fullmatch(r"(?:(S?)(MP|AP)|P)([1-9]\d*)(?:s([1-9]\d*))?(?:p(\d+))?", token)
    if found is None or (found[2] is None and pool == "conv"):
        return None
    kernel, padding = int(found[3]), int(found[5] or 0)
    stride = int(found[4] or kernel)
    if 2 * padding > kernel:
        raise SpikeletError(f"model.notation: {token}: expected a padding of at most half the window, got {padding}")
    largest = found[2] == "MP" or (found[2] is None and pool == "max")
    return Pooling(token, largest, (kernel, kernel), (stride, stride), padding, of_spikes=bool(found[1]))
