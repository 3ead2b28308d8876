"""Time surfaces of events, summed by cells: patches of decaying traces around events, and no dense tensor of them.

Compiled for float32 on a CPU; everything else, a GPU among it, in torch's operations, vectorised over a step's events.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import cfunc, types
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from spikelet.errors import SpikeletError
from spikelet.kernels import cpu_loops, surface_loops, threads, vectors

LANES = (4, 8, 16)


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
    rates: tuple[float, float]  # a trace decays by exp(-rate) per step: of the first and the second
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

    The sum, over the events of a cell in a step, of the event's weight times its patch: the traces around it, divided
    by their norm. The formulas are ``encoders.TimeSurface``'s. There is no second derivative in the compiled form.
    Raises SpikeletError where events are out of place or out of order.
    """
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return encode_by_steps(events, weight, surface)
    if torch.is_grad_enabled() and weight.requires_grad:
        return _Encode.apply(weight, *events, surface)
    return _forward(events, weight, surface)


class _Encode(torch.autograd.Function):
    """Patches are computed again in the backward: kept are the events, which are there anyway."""

    @staticmethod
    def forward(ctx, weight: Tensor, steps: Tensor, sites: Tensor, starts: Tensor, num_steps: int, surface: Surface):
        ctx.surface, ctx.num_steps, ctx.shape = surface, num_steps, weight.shape
        ctx.save_for_backward(steps, sites, starts)
        return _forward(Events(steps, sites, starts, num_steps), weight, surface)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        steps, sites, starts = ctx.saved_tensors
        events = Events(steps, sites, starts, ctx.num_steps)
        sums = torch.zeros(len(starts) - 1, ctx.shape.numel(), dtype=torch.float64)
        _start("backward", events, sums, grad.contiguous(), ctx.surface)
        return sums.sum(0).float().reshape(ctx.shape), None, None, None, None, None


def _forward(events: Events, weight: Tensor, surface: Surface) -> Tensor:
    out = torch.empty(events.num_steps, len(events.starts) - 1, surface.patch * math.prod(surface.cells))
    _start("forward", events, weight.detach().contiguous(), out, surface)
    return out


def _start(name: str, events: Events, weight: Tensor, out: Tensor, surface: Surface) -> None:
    steps, sites, starts = (part.contiguous() for part in events[:3])
    _check(steps, sites, starts)
    (width, height, polarities), (up, aside) = surface.sensor_size, surface.reach
    lines, columns = _tables(surface)
    numbers = np.array([*surface.rates, surface.second])
    line, num = width + 2 * aside, len(starts) - 1
    geometry = width, width * height * polarities, height * polarities, line, line * (height + 2 * up) * polarities
    patch = 2 * up + 1, 2 * aside + 1, math.prod(surface.cells)
    places = steps.data_ptr(), sites.data_ptr(), starts.data_ptr(), lines.ctypes.data, columns.ctypes.data
    memory = numbers.ctypes.data, weight.data_ptr(), math.prod(surface.cell) * polarities, out.data_ptr()
    arguments = np.array([0, 0, num, events.num_steps, *geometry, *patch, *places, *memory], np.int64)
    lanes = next((lanes for lanes in LANES if lanes >= patch[1]), LANES[-1])
    threads.run(_compiled(name, lanes).address, arguments.ctypes.data, parallel=num > 1)
    if arguments[surface_loops.FAULT]:
        raise SpikeletError("events: expected sites on the sensor, and steps in order from 0 to T - 1")


def _check(steps: Tensor, sites: Tensor, starts: Tensor) -> None:
    """The compiled passes read these as they are."""
    dtypes = steps.dtype, sites.dtype, starts.dtype
    if dtypes != (torch.int32, torch.int32, torch.int64) or {t.device.type for t in (steps, sites, starts)} != {"cpu"}:
        raise SpikeletError(f"events: expected int32, int32 and int64 on the CPU, got {dtypes} on {steps.device}")
    if starts[0] != 0 or starts[-1] != len(steps) or len(steps) != len(sites) or bool((starts.diff() < 0).any()):
        raise SpikeletError("events: expected starts from 0 to the number of events, ascending")


@cache
def _tables(surface: Surface) -> tuple[np.ndarray, np.ndarray]:
    """Of each line and each column of the sensor: where patches begin, the cell, the weight; int64 [P * H, 3], [W, 3].

    Those of a site are the sums of its line's and its column's.
    """
    (width, height, polarities), (up, aside), (rows, columns) = surface.sensor_size, surface.reach, surface.cell
    p, y = np.divmod(np.arange(polarities * height), height)
    x = np.arange(width)
    begin = (p * (height + 2 * up) + y) * (width + 2 * aside)
    lines = np.stack([begin, y // rows * surface.cells[1], (p * rows + y % rows) * columns], axis=1)
    return lines, np.stack([x, x // columns, x % columns], axis=1)


@cache
def _compiled(name: str, lanes: int) -> Any:
    """The pass ``name``; compiled when it is first used, then on disk."""
    body = surface_loops.entries(lanes, cpu_loops.version_of(cpu_loops, vectors, surface_loops))[name]
    return cfunc(types.void(types.CPointer(types.int64)), cache=True, error_model="numpy")(body)


# ---------------------------------------------------------------- in torch's operations


def encode_by_steps(events: Events, weight: Tensor, surface: Surface) -> Tensor:
    """``encode`` on any device, in any dtype; keeps the patches, [E, patch] numbers, for the backward."""
    n, p, y, x = _places(events, surface)
    (rows, columns), (_, across) = surface.cell, surface.cells
    patches = _patches(events, surface, (n, p, y, x), torch.promote_types(weight.dtype, torch.float32))
    values = weight.flatten()[(p * rows + y % rows) * columns + x % columns]
    num, cells = len(events.starts) - 1, surface.cells[0] * surface.cells[1]
    to = ((events.steps * num + n) * cells + y // rows * across + x // columns).long()
    out = weight.new_zeros(events.num_steps * num * cells, surface.patch)
    out = out.index_put(
        (to,), values[:, None] * patches.to(weight.dtype), accumulate=True
    )  # on a GPU, too, always in the same order
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
        first *= math.exp(-surface.rates[0])
        second *= math.exp(-surface.rates[1])
        here = at[chosen]
        first[here] += 1
        second[here] += surface.second
        near = here[:, None] + around
        patches[chosen] = functional.normalize(first[near] - second[near], dim=1)
    return patches
