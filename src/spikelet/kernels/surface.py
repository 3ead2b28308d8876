"""Time surfaces of events, summed by cells: patches of decaying traces around events, and no dense tensor of them.

Compiled for float32 on a CPU; everything else, a GPU among it, in torch's operations, vectorised over a step's events.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Events(NamedTuple):
    """N recordings, one behind the other; ``events.Binned`` without its sensor."""

    steps: Tensor  # int32 [E], ascending within a recording
    sites: Tensor  # int32 [E], (p * H + y) * W + x, each at most once per step
    starts: Tensor  # int64 [N + 1]
    num_steps: int


class Surface(NamedTuple):
    """What a time surface is made of, but for its weights."""

    sensor_size: tuple[int, int, int]  # W, H, P
    cell: tuple[int, int]  # rows, columns
    reach: tuple[int, int]  # of a patch, to either side: rows, columns
    decays: tuple[float, float]  # per step, of the first trace and the second
    second: float  # what an event adds to the second trace, which is taken from the first; to that it adds 1

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of cells; the last ones may reach over the edge."""
        width, height, _ = self.sensor_size
        return -(-height // self.cell[0]), -(-width // self.cell[1])

    @property
    def patch(self) -> int:
        """Sites in a patch."""
        return (2 * self.reach[0] + 1) * (2 * self.reach[1] + 1)


def encode(events: Events, weight: Tensor, surface: Surface) -> Tensor:
    """Currents [T, N, patch * cells] of events and ``weight`` [P, cell rows, cell columns].

    The sum, over the events of a cell in a step, of the event's weight times its patch: the traces around it, divided by
    their norm. The formulas are ``encoders.TimeSurface``'s.
    """
    n, p, y, x = _places(events, surface)
    (rows, columns), (_, across) = surface.cell, surface.cells
    patches = _patches(events, surface, (n, p, y, x), weight.dtype)
    values = weight.flatten()[(p * rows + y % rows) * columns + x % columns]
    num, cells = len(events.starts) - 1, surface.cells[0] * surface.cells[1]
    to = ((events.steps * num + n) * cells + y // rows * across + x // columns).long()
    out = weight.new_zeros(events.num_steps * num * cells, surface.patch)
    out = out.index_put((to,), values[:, None] * patches, accumulate=True)  # on a GPU, too, always in the same order
    return out.view(events.num_steps, num, cells, -1).transpose(2, 3).flatten(2)


def _places(events: Events, surface: Surface) -> tuple[Tensor, ...]:
    """Recording, polarity, row and column of each event, int64 [E]."""
    width, height, _ = surface.sensor_size
    counts = events.starts.diff()
    n = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    sites = events.sites.long()
    return n, sites // (width * height), sites // width % height, sites % width


@torch.no_grad()
def _patches(events: Events, surface: Surface, places: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
    """The patch of each event [E, patch], of norm 1."""
    (width, height, polarities), (up, aside) = surface.sensor_size, surface.reach
    line, column = width + 2 * aside, height + 2 * up  # with a margin that stays 0
    n, p, y, x = places
    at = ((n * polarities + p) * column + y + up) * line + x + aside
    first, second = at.new_zeros(2, (len(events.starts) - 1) * polarities * column * line, dtype=dtype)
    grid = [torch.arange(-r, r + 1, device=at.device) for r in surface.reach]
    around = (grid[0][:, None] * line + grid[1]).flatten()
    patches = at.new_empty(len(at), surface.patch, dtype=dtype)
    counts = torch.bincount(events.steps, minlength=events.num_steps).tolist()
    for chosen in events.steps.argsort(stable=True).split(counts):
        first *= surface.decays[0]
        second *= surface.decays[1]
        here = at[chosen]
        first[here] += 1
        second[here] += surface.second
        near = here[:, None] + around
        patches[chosen] = functional.normalize(first[near] - second[near], dim=1)
    return patches
