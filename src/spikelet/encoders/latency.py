"""A number as the time of one spike: the larger, the earlier."""

import math

import torch
from torch import Tensor

from spikelet.arguments import check_whole
from spikelet.encoders.base import check_unit, clock
from spikelet.errors import SpikeletError

CODES = ("linear", "log")
_ABOVE = 1e-7  # how near to the threshold a value may come: at the threshold itself, charging takes for ever


def latency(
    x: Tensor,
    num_steps: int,
    code: str = "linear",
    tau: float | None = None,
    v_threshold: float = 0.01,
    silent_below: bool = False,
) -> Tensor:
    """At most one spike for each value of ``x`` [N, ...] in [0, 1]: [T, N, ...]. It comes at step round(t), where

        linear   t = tau * (1 - x)
        log      t = tau * ln(x / (x - v_threshold))

    ``log`` is the time at which an RC circuit of time constant ``tau``, in steps, driven by ``x`` reaches
    ``v_threshold``. With ``tau`` None it is chosen so that the last possible spike comes at step T - 1: T - 1 for
    ``linear``, (T - 1) / ln(1 + v_threshold / 1e-7) for ``log``, whatever else is in the batch. A spike whose time is
    after step T - 1 is not there.

    Values below ``v_threshold`` spike as it does itself, last of all; with ``silent_below`` they do not spike.
    Halves of a step go to the even one. Source: snnTorch's ``spikegen.latency`` (whose logarithmic code is normalised
    by the batch's own last spike).

    >>> latency(torch.tensor([[1.0, 0.5, 0.0]]), num_steps=5).argmax(0).tolist()
    [[0, 2, 4]]
    >>> latency(torch.tensor([[1.0, 0.1, 0.0]]), num_steps=3, code="log", tau=9.0, silent_below=True).sum(0).tolist()
    [[1.0, 1.0, 0.0]]
    """
    check_whole("num_steps", num_steps)
    check_unit(x)
    _check(code, tau, v_threshold)
    wide = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    times = _linear if code == "linear" else _log
    spikes = clock(x, num_steps) == times(wide, num_steps, tau, v_threshold).round()
    return (spikes & (wide >= v_threshold) if silent_below else spikes).to(x.dtype)


def _linear(x: Tensor, num_steps: int, tau: float | None, v_threshold: float) -> Tensor:
    return (num_steps - 1 if tau is None else tau) * (1 - x.clamp(min=v_threshold))


def _log(x: Tensor, num_steps: int, tau: float | None, v_threshold: float) -> Tensor:
    charging = torch.log1p(v_threshold / (x - v_threshold).clamp(min=_ABOVE))
    return charging * ((num_steps - 1) / math.log1p(v_threshold / _ABOVE) if tau is None else tau)


def _check(code: str, tau: float | None, v_threshold: float) -> None:
    if code not in CODES:
        raise SpikeletError(f"code: expected one of {', '.join(CODES)}, got {code!r}")
    if tau is not None and not tau > 0:
        raise SpikeletError(f"tau: expected a positive number of steps, or None, got {tau}")
    if not 0 <= v_threshold < 1 or (code == "log" and v_threshold == 0):
        allowed = "in [0, 1)" if code == "linear" else "between 0 and 1"
        raise SpikeletError(f"v_threshold: expected a number {allowed}, got {v_threshold}")
