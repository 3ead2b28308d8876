"""Losses of what a network says at every step: outputs [T, N, C], spikes or logits, and labels int64 [N], to a scalar.

To add one: a frozen dataclass with ``__call__``, and its line in ``LOSSES``. Below, o[t] is the output at step t
[N, C], y the label, CE(z, y) = -ln softmax(z)[y]; every loss is the mean over the batch. Arithmetic is float32 at
least, whatever the outputs are. Label smoothing e takes the target (1 - e) * one-hot + e / C.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spikelet.arguments import is_number
from spikelet.errors import SpikeletError
from spikelet.kernels.reference import trace

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class MSERate:
    """Mean square of firing rate minus target: mean over n, c of (mean_t o[t, n, c] - target)^2.

    The target is ``correct`` for the label's class and ``incorrect`` for the others. 1 and 0 is one-hot (work B);
    snnTorch's ``mse_count_loss`` is T times this (where T x rate is whole), often with 0.8 and 0.2.

    >>> spikes = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])  # T = 2, N = 1: class 0 spikes at every other step
    >>> MSERate()(spikes, torch.tensor([0])).item()  # (0.5^2 + 0^2) / 2
    0.125
    """

    correct: float = 1.0
    incorrect: float = 0.0

    def __post_init__(self) -> None:
        if not self.correct > self.incorrect:
            raise SpikeletError(f"correct: expected more than incorrect ({self.incorrect}), got {self.correct}")

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        rates = _checked(outputs, labels).mean(0)
        right = (labels[:, None] == torch.arange(rates.shape[1], device=labels.device)).to(rates.dtype)
        return (rates - self.incorrect - (self.correct - self.incorrect) * right).square().mean()


@dataclass(frozen=True)
class _CrossEntropy:
    """What the cross entropies share; they differ in the logits."""

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check_share("label_smoothing", self.label_smoothing)

    def of(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class CEPerStep(_CrossEntropy):
    """Cross entropy of every step's own output, averaged: mean_t CE(o[t], y). Where the outputs are spikes: "CE rate".

    With the spikes themselves as logits it cannot fall below ln(1 + (C - 1) / e), and silence costs ln C.
    Source: work C (snnTorch's ``ce_rate_loss``).

    >>> spikes = torch.eye(10)[None].expand(5, 10, 10)  # the right neuron at every step, no other
    >>> loss = CEPerStep()
    >>> round(loss(spikes, torch.arange(10)).item(), 5), round(loss(0 * spikes, torch.arange(10)).item(), 5)
    (1.46115, 2.30259)
    """

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return self.of(_checked(outputs, labels).flatten(0, 1), labels.repeat(len(outputs)))


@dataclass(frozen=True)
class CEMean(_CrossEntropy):
    """Cross entropy of the mean over time: CE(mean_t o[t], y). What it asks of the network does not grow with T.

    >>> round(CEMean()(torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]]]), torch.tensor([0])).item(), 5)  # ln(1 + 1/e)
    0.31326
    """

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return self.of(_checked(outputs, labels).mean(0), labels)


@dataclass(frozen=True)
class CESum(_CrossEntropy):
    """Cross entropy of the sum over time, the spike count: CE(sum_t o[t], y). Source: snnTorch's ``ce_count_loss``.

    >>> round(CESum()(torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]]]), torch.tensor([0])).item(), 5)  # ln(1 + 1/e^2)
    0.12693
    """

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return self.of(_checked(outputs, labels).sum(0), labels)


@dataclass(frozen=True)
class CECumulative(_CrossEntropy):
    """Cross entropy of the mean so far, averaged over the steps: mean_t CE(mean_{s <= t} o[s], y).

    Every answer that could be given early is trained. Source: in the spirit of TET, which takes each step's own logits.

    >>> steps = torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]])  # after one step sure of class 0, after two undecided
    >>> round(CECumulative()(steps, torch.tensor([0])).item(), 5)  # (ln(1 + 1/e^2) + ln 2) / 2
    0.41004
    """

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        outputs = _checked(outputs, labels)
        steps = torch.arange(1, len(outputs) + 1, device=outputs.device)
        so_far = outputs.cumsum(0) / steps[:, None, None]
        return self.of(so_far.flatten(0, 1), labels.repeat(len(outputs)))


@dataclass(frozen=True)
class Trace:
    """Half the squared distance to the wanted trace: mean over n of 1/2 * sum over t, c of (o[t, n, c] - a[t, n, c])^2.

    For the outputs of ``TraceLIF`` neurons with that ``tau_s``; a is the trace of the wanted spikes: for the label's
    class 0, 1, 1, 1, 1 over and over, from T = 10 on 0, 1 over and over; none for the others. T is at least 2, since
    the first step asks everybody for silence. Source: Zhang & Li, NeurIPS 2020 (work B's "kernel" loss, reference 2.7).

    >>> wanted = torch.tensor([0.0, 1 / 3, 5 / 9, 19 / 27, 65 / 81]).reshape(5, 1, 1)  # of 0, 1, 1, 1, 1
    >>> round(Trace(tau_s=3.0)(wanted, torch.tensor([0])).item(), 5)
    0.0
    >>> round(Trace(tau_s=3.0)(0 * wanted[:2], torch.tensor([0])).item(), 5)  # 1/2 * (1/3)^2
    0.05556
    """

    tau_s: float = 3.0

    def __post_init__(self) -> None:
        if not 1 <= self.tau_s < math.inf:
            raise SpikeletError(f"tau_s: expected a time of at least 1 step, got {self.tau_s}")

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        outputs = _checked(outputs, labels)
        if len(outputs) < 2:
            raise SpikeletError(f"outputs: expected at least 2 steps, got shape {tuple(outputs.shape)}")
        steps = torch.arange(len(outputs), device=outputs.device)
        wanted = trace((steps % (5 if len(steps) < 10 else 2) > 0).to(outputs.dtype), self.tau_s)
        right = (labels[:, None] == torch.arange(outputs.shape[2], device=labels.device)).to(outputs.dtype)
        return (outputs - wanted[:, None, None] * right).square().sum() / (2 * len(labels))


@dataclass(frozen=True)
class TET:
    """Temporal efficient training: (1 - share) * mean_t CE(o[t], y) + share * mean over t, n, c of (o - target)^2.

    For logits, not spikes. The second part keeps single outputs from running away; ``share`` is the paper's lambda,
    ``target`` usually the threshold. Source: Deng et al., ICLR 2022.

    >>> round(TET(share=0.5, target=1.0)(torch.zeros(3, 1, 10), torch.tensor([4])).item(), 5)  # (ln 10 + 1) / 2
    1.65129
    """

    share: float = 1e-3
    target: float = 1.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check_share("share", self.share)
        _check_share("label_smoothing", self.label_smoothing)

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        entropy = CEPerStep(self.label_smoothing)(outputs, labels)
        return torch.lerp(entropy, (_wide(outputs) - self.target).square().mean(), self.share)


LOSSES: dict[str, Callable[..., Loss]] = {
    "ce_mean": CEMean,
    "ce_cumulative": CECumulative,
    "ce_per_step": CEPerStep,
    "ce_rate": CEPerStep,  # the name that work C and snnTorch have for it
    "ce_sum": CESum,
    "mse_rate": MSERate,
    "tet": TET,
    "trace": Trace,
}


def loss(name: str, **settings: Any) -> Loss:
    """The loss of that name in ``LOSSES``, with its settings.

    Raises SpikeletError on an unknown name or setting, or a value that makes no sense; it lists what is allowed.

    >>> loss("mse_rate", correct=0.8, incorrect=0.2)
    MSERate(correct=0.8, incorrect=0.2)
    """
    if name not in LOSSES:
        raise SpikeletError(f"loss: expected one of {', '.join(LOSSES)}, got {name!r}")
    kind: Any = LOSSES[name]
    allowed = [field.name for field in fields(kind)]
    for key, value in settings.items():
        if key not in allowed:
            raise SpikeletError(f"loss: {name} takes {', '.join(allowed)}, got {key!r}")
        if not is_number(value):
            raise SpikeletError(f"loss: {name}.{key}: expected a number, got {value!r}")
    return kind(**settings)


def _checked(outputs: Tensor, labels: Tensor) -> Tensor:
    """``outputs`` wide enough to sum, once it and ``labels`` are what the head of this page says."""
    if outputs.dim() != 3 or 0 in outputs.shape:
        raise SpikeletError(f"outputs: expected [T, N, C], none of them 0, got shape {tuple(outputs.shape)}")
    if labels.shape != outputs.shape[1:2] or labels.dtype != torch.int64:
        given = f"{labels.dtype} {tuple(labels.shape)}"
        raise SpikeletError(f"labels: expected int64 [N] with N = {outputs.shape[1]}, got {given}")
    on_host = labels.device.type == "cpu"  # elsewhere, looking would wait for the device at every step
    if on_host and not 0 <= int(labels.min()) <= int(labels.max()) < outputs.shape[2]:
        given = f"{int(labels.min())} to {int(labels.max())}"
        raise SpikeletError(f"labels: expected 0 to {outputs.shape[2] - 1}, one per output, got {given}")
    return _wide(outputs)


def _wide(outputs: Tensor) -> Tensor:
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise SpikeletError(f"{name}: expected 0 to 1, got {value}")
