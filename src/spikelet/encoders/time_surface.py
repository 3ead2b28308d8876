"""Dynamic time surfaces: the recent past around each event, weighted by where in its cell the event lies."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spikelet.errors import SpikeletError
from spikelet.events import Binned, SensorSize, check_sensor
from spikelet.kernels import surface

KERNELS = ("kt", "ktzs")


class TimeSurface(nn.Module):
    """Events to currents [T, N, offsets * cells]: for each event, the past around it, summed by cells with weights.

    With e[t] 1 where a site has an event in step t, else 0, from rest:

        kt     D = a,        a = exp(-dt / tau) * a + e
        ktzs   D = a - b,    a = exp(-dt / tau1) * a + e,    b = exp(-dt / tau2) * b + tau1 / tau2 * e
        X      around an event: the (2 radius + 1)^2 values of D in its polarity, its own among them, 0 beyond the
               sensor, divided by their Euclidean norm; 0 where there is no event
        I[(k, i, j)] = sum over the events (p, y, x) in cell (i, j) of weight[p, y - y_i, x - x_j] * X[k]

    (y_i, x_j) is the cell's first pixel, k the offset within the patch, row by row; it is slowest. A sensor of one row
    has patches of 2 radius + 1. Cells at the right and the lower edge may be cut off. ktzs sums to zero over time: an
    event adds 1 - tau1 / tau2 to D, later takes away.

    sensor_size  (W, H, P)
    cell         rows and columns of a cell, or one number for both; on a sensor of one row, its columns
    radius       at least 0
    kernel       "ktzs" or "kt"
    tau          (tau1, tau2), or tau1 where tau2 = 2 tau1; of kt one number
    dt           of a step, in the unit of tau

    ``weight`` [P, rows, columns] begins Xavier-uniform, as of a convolution, without the sign: all cells share these
    few weights, and where most are negative, next to no neuron fires and training ends early. Gradients reach it, not
    the surface. Source: DTS-SNN, IEEE Access 2022, where tau2 = 2 tau1 and weights begin with either sign.

    >>> from spikelet.events import Binned
    >>> steps, sites = torch.tensor([0, 1, 1], dtype=torch.int32), torch.tensor([2, 1, 2], dtype=torch.int32)
    >>> events = Binned(steps, sites, torch.tensor([0, 3]), num_steps=2, sensor_size=(5, 1, 1))
    >>> encoder = TimeSurface((5, 1, 1), cell=1, radius=1, tau=20.0, dt=1.0)
    >>> _ = nn.init.ones_(encoder.weight)
    >>> encoder(events).detach()[1, 0].reshape(3, 5).T[1:3].mul(1e4).round().int().tolist()
    [[0, 4606, 8876], [4606, 8876, 0]]
    """

    def __init__(
        self,
        sensor_size: SensorSize,
        cell: int | tuple[int, int],
        radius: int,
        kernel: str = "ktzs",
        tau: float | tuple[float, float] = 50e-3,
        dt: float = 5e-3,
    ) -> None:
        super().__init__()
        sensor_size = check_sensor(sensor_size)
        if radius < 0 or radius != int(radius):
            raise SpikeletError(f"radius: expected at least 0 (a whole number), got {radius}")
        flat = sensor_size[1] == 1
        cell = _cell(cell, flat)
        reach = 0 if flat else radius, radius
        self.kernel, self.tau, self.dt = kernel, tau, dt
        self.surface = surface.Surface(sensor_size, cell, reach, *_traces(kernel, tau, dt))
        self.weight = nn.Parameter(torch.empty(sensor_size[2], *cell))
        nn.init.xavier_uniform_(self.weight.data[None, :, None])  # of a convolution of P channels to 1
        self.weight.data.abs_()

    @property
    def out_features(self) -> int:
        """Currents of a step: offsets * cells.

        >>> TimeSurface((128, 128, 2), cell=16, radius=3).out_features
        3136
        >>> TimeSurface((120, 100, 2), cell=10, radius=2).out_features
        3000
        >>> TimeSurface((700, 1, 1), cell=20, radius=1).out_features
        105
        """
        return self.surface.patch * math.prod(self.surface.cells)

    def forward(self, events: Binned) -> Tensor:
        if events.sensor_size != self.surface.sensor_size:
            raise SpikeletError(f"events: expected sensor_size {self.surface.sensor_size}, got {events.sensor_size}")
        given = surface.Events(events.steps, events.sites, events.starts, events.num_steps)
        return surface.encode(given, self.weight, self.surface)

    def extra_repr(self) -> str:
        geometry = f"sensor_size={self.surface.sensor_size}, cell={self.surface.cell}, radius={self.surface.reach[1]}"
        return f"{geometry}, kernel={self.kernel}, tau={self.tau}, dt={self.dt}, out_features={self.out_features}"


def _cell(cell: int | tuple[int, int], flat: bool) -> tuple[int, int]:
    rows, columns = (1 if flat else cell, cell) if isinstance(cell, int) else cell
    if rows < 1 or columns < 1 or (flat and rows != 1):
        allowed = "(1, columns)" if flat else "rows and columns"
        raise SpikeletError(f"cell: expected {allowed} of at least 1, got {cell}")
    return rows, columns


def _traces(kernel: str, tau: float | tuple[float, float], dt: float) -> tuple[tuple[float, float], float]:
    """The rates of both traces per step, and what an event adds to the second."""
    if kernel not in KERNELS:
        raise SpikeletError(f"kernel: expected one of {', '.join(KERNELS)}, got {kernel!r}")
    if kernel == "kt" and not isinstance(tau, int | float):
        raise SpikeletError(f"tau: expected one number for kt, got {tau}")
    first, second = (tau, 2 * tau) if isinstance(tau, int | float) else tau
    if not (0 < first < second < math.inf and 0 < dt < math.inf):
        raise SpikeletError(f"tau, dt: expected 0 < tau1 < tau2 and dt > 0, got {tau} and {dt}")
    return (dt / first, dt / second), (0.0 if kernel == "kt" else first / second)
