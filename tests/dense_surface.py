"""Time surfaces as they were published, from the equations: dense traces, a patch at every site, a convolution."""

import torch
from torch import Tensor
from torch.nn import functional

from spikelet.events import Binned
from spikelet.kernels.surface import Surface


def spikes(events: Binned, dtype: torch.dtype) -> Tensor:
    """1 where there was an event: [T, N, P, H, W]."""
    width, height, polarities = events.sensor_size
    n = torch.arange(len(events)).repeat_interleave(events.starts.diff())
    out = torch.zeros(events.num_steps, len(events), polarities * height * width, dtype=dtype)
    out[events.steps.long(), n, events.sites.long()] = 1
    return out.reshape(events.num_steps, len(events), polarities, height, width)


def traces(e: Tensor, surface: Surface) -> Tensor:
    """D of every site: [T, N, P, H, W]."""
    first, second = (-torch.tensor(surface.rates, dtype=torch.float64)).exp().tolist()
    a, b, found = torch.zeros_like(e[0]), torch.zeros_like(e[0]), []
    for now in e:
        a = first * a + now
        b = second * b + surface.second * now
        found.append(a - b)
    return torch.stack(found)


def patches(e: Tensor, values: Tensor, surface: Surface) -> Tensor:
    """Of one step: [N, P, offsets, H, W] of ``e`` and ``values`` [N, P, H, W]."""
    up, aside = surface.reach
    unfolded = functional.unfold(values.flatten(0, 1)[:, None], (2 * up + 1, 2 * aside + 1), padding=(up, aside))
    around = unfolded.reshape(*values.shape[:2], -1, *values.shape[2:])
    return functional.normalize(around * e[:, :, None], dim=2)


def encode(events: Binned, weight: Tensor, surface: Surface) -> Tensor:
    """Currents [T, N, offsets * cells]."""
    e = spikes(events, weight.dtype)
    rows, columns = surface.cell
    edge = (0, -e.shape[4] % columns, 0, -e.shape[3] % rows)
    found = []
    for now, values in zip(e, traces(e, surface), strict=True):
        x = patches(now, values, surface)
        x = functional.pad(x, edge) if any(edge) else x
        currents = functional.conv3d(x, weight[None, :, None], stride=(1, rows, columns))
        found.append(currents.flatten(1))
    return torch.stack(found)
