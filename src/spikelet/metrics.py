"""Numbers from spikes: accuracy per step, spikes, synaptic operations, energy, memory, and the published log files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from spikelet.errors import SpikeletError
from spikelet.files import write_whole

Op = nn.Conv2d | nn.Linear

# ---------------------------------------------------------------- fan-out and operations


def fanout(op: Op, input_shape: Sequence[int]) -> Tensor:
    """How many outputs each input site of ``op`` feeds: the synaptic operations that one spike there costs.

    Convolution: (C_out / groups) x (windows that contain the site), so stride, padding, dilation and borders count as
    they are; linear layer: ``out_features``.

    op           ``nn.Conv2d`` (zero padding) or ``nn.Linear`` (on the flattened input)
    input_shape  (C, H, W), or (F,) for a linear layer, without the batch
    returns      int64 of that shape

    >>> fanout(nn.Conv2d(1, 2, 3, stride=2), (1, 5, 5))[0]
    tensor([[2, 2, 4, 2, 2],
            [2, 2, 4, 2, 2],
            [4, 4, 8, 4, 4],
            [2, 2, 4, 2, 2],
            [2, 2, 4, 2, 2]])
    """
    shape = _input_shape(op, input_shape)
    if isinstance(op, nn.Linear):
        return torch.full(shape, op.out_features, dtype=torch.int64)
    rows, columns = (taps.sum(1) for taps in _taps(op, shape))
    per_window = op.out_channels // op.groups
    return (per_window * rows[:, None] * columns).expand(shape).clone()


def effective_fanout(op: Op, input_shape: Sequence[int]) -> Tensor:
    """``fanout`` that counts non-zero weights only, as NeuroBench's effective operations do.

    >>> op = nn.Linear(3, 2)
    >>> _ = op.weight.data.copy_(torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.0, 1.0]]))
    >>> effective_fanout(op, (3,))
    tensor([1, 0, 2])
    """
    shape = _input_shape(op, input_shape)
    nonzero = op.weight.detach().cpu() != 0
    if isinstance(op, nn.Linear):
        return nonzero.sum(0).reshape(shape)
    per_tap = nonzero.unflatten(0, (op.groups, -1)).sum(1).flatten(0, 1)
    return torch.einsum("ckl,hk,wl->chw", per_tap, *_taps(op, shape))


def synaptic_operations(op: Op, spikes: Tensor) -> Tensor:
    """Additions that ``spikes`` cause in ``op``: absolute spikes times true fan-out.

    spikes   [..., C, H, W] for a convolution, [..., F] for a linear layer; whole numbers, of either sign
    returns  int64 [...], one number per leading index

    >>> synaptic_operations(nn.Linear(3, 10), torch.tensor([[1, 0, -1], [0, 0, 0]]))
    tensor([20,  0])
    """
    return _operations(op, spikes, fanout)


def effective_operations(op: Op, spikes: Tensor) -> Tensor:
    """``synaptic_operations`` without those of zero weights; on unsigned spikes, NeuroBench's ``Effective_ACs``."""
    return _operations(op, spikes, effective_fanout)


def macs(op: Op, input_shape: Sequence[int]) -> int:
    """Multiply-accumulates of one dense pass of ``op`` over one input; what meets padding counts 0.

    >>> macs(nn.Conv2d(1, 32, 5), (1, 28, 28))
    460800
    """
    return int(fanout(op, input_shape).sum())


def _operations(op: Op, spikes: Tensor, fanout_of) -> Tensor:
    rank = 1 if isinstance(op, nn.Linear) else 3
    weights = fanout_of(op, spikes.shape[-rank:]).to(spikes.device)
    magnitude = spikes.detach().to(torch.float64).abs()
    if not torch.equal(magnitude, magnitude.round()):
        raise SpikeletError("spikes: expected whole numbers (signed spikes), got fractions")
    return (magnitude.flatten(-rank) @ weights.flatten().to(torch.float64)).round().to(torch.int64)


def _input_shape(op: Op, shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(int(size) for size in shape)
    if isinstance(op, nn.Linear):
        if int(np.prod(shape)) != op.in_features:
            raise SpikeletError(f"input_shape: {op} takes {op.in_features} inputs, got {shape}")
    elif isinstance(op, nn.Conv2d):
        if len(shape) != 3 or shape[0] != op.in_channels:
            raise SpikeletError(f"input_shape: {op} takes ({op.in_channels}, H, W), got {shape}")
        if op.padding_mode != "zeros":
            raise SpikeletError(f"op: padding_mode must be 'zeros', got {op.padding_mode!r} (it repeats spikes)")
    else:
        raise SpikeletError(f"op: expected nn.Conv2d or nn.Linear, got {type(op).__name__}")
    return shape


def _taps(op: nn.Conv2d, shape: Sequence[int]) -> list[Tensor]:
    """For rows and for columns: int64 [size, kernel], 1 where a window that fits meets the site with that tap."""
    result = []
    for axis in (0, 1):
        size, kernel, stride, dilation = shape[axis + 1], op.kernel_size[axis], op.stride[axis], op.dilation[axis]
        reach = dilation * (kernel - 1)
        if isinstance(op.padding, str):
            before, both = (reach // 2, reach) if op.padding == "same" else (0, 0)
        else:
            before, both = int(op.padding[axis]), 2 * int(op.padding[axis])
        windows = (size + both - reach - 1) // stride + 1
        if windows < 1:
            raise SpikeletError(f"input_shape: no window of {op} fits into {tuple(shape)}")
        start = torch.arange(size)[:, None] + before - dilation * torch.arange(kernel)
        result.append(((start >= 0) & (start % stride == 0) & (start < windows * stride)).to(torch.int64))
    return result


# ---------------------------------------------------------------- accuracy over time


def predictions_per_step(logits_per_step: ArrayLike | Tensor) -> Tensor:
    """The answer at every step: argmax of the running sum of ``logits_per_step`` [T, N, C]; the lowest index wins ties.

    returns  int64 [T, N]

    >>> predictions_per_step(torch.tensor([[[1, 1, 0]], [[0, 1, 0]], [[3, 0, 0]]])).flatten().tolist()
    [0, 1, 0]
    """
    logits = torch.as_tensor(logits_per_step)
    if logits.dim() != 3:
        raise SpikeletError(f"logits_per_step: expected [T, N, C], got {[*logits.shape]}")
    return logits.to(torch.float64 if logits.is_floating_point() else torch.int64).cumsum(0).argmax(2)


def correct_per_step(logits_per_step: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> Tensor:
    """How many of the N answers are right at every step; int64 [T]."""
    answers = predictions_per_step(logits_per_step)
    labels = torch.as_tensor(labels).to(answers.device)
    if labels.shape != answers.shape[1:]:
        raise SpikeletError(f"labels: expected [{answers.shape[1]}], got {[*labels.shape]}")
    return (answers == labels).sum(1)


def accuracy_per_step(logits_per_step: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> Tensor:
    """Fraction of right answers at every step, 0 to 1; float64 [T].

    >>> accuracy_per_step(torch.tensor([[[0, 1], [0, 1]], [[5, 0], [0, 0]]]), torch.tensor([0, 1])).tolist()
    [0.5, 1.0]
    """
    correct = correct_per_step(logits_per_step, labels)
    if not torch.as_tensor(labels).numel():
        raise SpikeletError("labels: expected at least one sample, got none")
    return correct.to(torch.float64) / torch.as_tensor(labels).numel()


def settled_step(accuracy_per_step: ArrayLike | Tensor) -> int:
    """T_conv: how many steps until the accuracy changes no more (index of the last change + 1; 1 if it never does).

    >>> settled_step([0.85, 0.99, 0.98, 0.99, 0.99])
    4
    """
    accuracy = _curve(accuracy_per_step)
    changes = np.flatnonzero(np.diff(accuracy))
    return int(changes[-1]) + 2 if len(changes) else 1


def first_final_step(accuracy_per_step: ArrayLike | Tensor) -> int:
    """How many steps until the final accuracy is met for the first time; it may be left again before ``settled_step``.

    >>> first_final_step([0.85, 0.99, 0.98, 0.99, 0.99])
    2
    """
    accuracy = _curve(accuracy_per_step)
    return int(np.argmax(accuracy == accuracy[-1])) + 1


def _curve(accuracy_per_step: ArrayLike | Tensor) -> np.ndarray:
    accuracy = np.asarray(accuracy_per_step, dtype=np.float64)
    if accuracy.ndim != 1 or not accuracy.size:
        raise SpikeletError(f"accuracy_per_step: expected [T] with T >= 1, got {[*accuracy.shape]}")
    return accuracy


# ---------------------------------------------------------------- spikes


@dataclass(frozen=True)
class SpikeCount:
    """Positive and negative spikes, as two non-negative numbers."""

    positive: int
    negative: int

    @property
    def total(self) -> int:
        """Every spike, whatever its sign."""
        return self.positive + self.negative

    @property
    def net(self) -> int:
        """Spikes that were not taken back."""
        return self.positive - self.negative


def count_spikes(spikes: ArrayLike | Tensor) -> SpikeCount:
    """Spikes of each sign in an array of any shape.

    >>> count_spikes([[1, 0, -1], [1, 1, 0]])
    SpikeCount(positive=3, negative=1)
    """
    spikes = torch.as_tensor(spikes)
    return SpikeCount(int((spikes > 0).sum()), int((spikes < 0).sum()))


def firing_rate(num_spikes: float, num_neurons: int, num_steps: int, num_samples: int = 1) -> float:
    """Spikes of either sign per neuron, step and sample: spikes / (neurons x T x samples).

    >>> firing_rate(num_spikes=300, num_neurons=1000, num_steps=4)
    0.075
    """
    for name, value in (("num_neurons", num_neurons), ("num_steps", num_steps), ("num_samples", num_samples)):
        if value < 1:
            raise SpikeletError(f"{name}: expected at least 1, got {value}")
    return num_spikes / (num_neurons * num_steps * num_samples)


def activation_sparsity(num_spikes: float, num_neurons: int, num_steps: int, num_samples: int = 1) -> float:
    """Fraction of (neuron, step) pairs that stay silent: 1 - ``firing_rate``.

    >>> activation_sparsity(num_spikes=300, num_neurons=1000, num_steps=4)
    0.925
    """
    return 1.0 - firing_rate(num_spikes, num_neurons, num_steps, num_samples)


# ---------------------------------------------------------------- energy and memory


@dataclass(frozen=True)
class EnergyTable:
    """Energy of one operation in joule; the default is 45 nm at 0.9 V.

    Source: M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014: float32 multiply
    3.7 pJ, float32 add 0.9 pJ, int8 multiply 0.2 pJ, int8 add 0.03 pJ, int32 add 0.1 pJ. Arithmetic only: reading
    weights and potentials from memory costs more on most machines, and is not in these numbers.
    """

    float_mac: float = 4.6e-12
    float_add: float = 0.9e-12
    int8_mac: float = 0.23e-12
    int_add: float = 0.1e-12

    def __post_init__(self) -> None:
        for entry in fields(self):
            if not getattr(self, entry.name) >= 0:
                raise SpikeletError(f"{entry.name}: expected joule, 0 or more, got {getattr(self, entry.name)}")


HOROWITZ_45NM = EnergyTable()


def ann_energy(macs: float, table: EnergyTable = HOROWITZ_45NM) -> float:
    """Joule of a float network: MACs x float_mac.

    >>> round(ann_energy(1_000_000) * 1e6, 6)
    4.6
    """
    return macs * table.float_mac


def spiking_energy(first_layer_macs: float, operations: float, table: EnergyTable = HOROWITZ_45NM) -> float:
    """Joule of a float spiking network: the first layer multiplies pixels, every synaptic operation is one addition.

    >>> round(spiking_energy(first_layer_macs=1_000_000, operations=1_000_000) * 1e6, 6)
    5.5
    """
    return first_layer_macs * table.float_mac + operations * table.float_add


def integer_energy(first_layer_macs: float, operations: float, table: EnergyTable = HOROWITZ_45NM) -> float:
    """Joule of an all-integer spiking network: int8 MACs on the pixels, integer additions everywhere else.

    >>> round(integer_energy(first_layer_macs=1_000_000, operations=1_000_000) * 1e6, 6)
    0.33
    """
    return first_layer_macs * table.int8_mac + operations * table.int_add


def surface_energy(surface_macs: float, operations: float, table: EnergyTable = HOROWITZ_45NM) -> float:
    """Joule of an integer spiking network behind time surfaces: float MACs in these, integer additions behind them.

    >>> round(surface_energy(surface_macs=1_000_000, operations=1_000_000) * 1e6, 6)
    4.7
    """
    return surface_macs * table.float_mac + operations * table.int_add


def footprint(bits: int, count: int) -> int:
    """Bytes of ``count`` weights packed at ``bits`` each.

    >>> footprint(bits=2, count=5)
    2
    """
    if bits < 1 or count < 0:
        raise SpikeletError(f"footprint: expected bits >= 1 and count >= 0, got bits {bits}, count {count}")
    return -(-bits * count // 8)


# ---------------------------------------------------------------- the published logs

PUBLISHED_LOGS = ("accuracy", "spike_num", "spike_collect", "sop_num", "abs_spike", "sum_spike")


@dataclass(frozen=True, eq=False)
class BatchCounts:
    """One test batch, summed over its images; L layers with a neuron, T steps.

    correct              [T], right answers with the logits up to that step
    positive, negative   [L, T], spikes of each sign
    synaptic_operations  [L, T], those spikes times their fan-out
    """

    correct: ArrayLike
    positive: ArrayLike
    negative: ArrayLike
    synaptic_operations: ArrayLike


def published_logs(
    directory: str | Path,
    batches: Iterable[BatchCounts],
    counted: Sequence[bool] | None = None,
    magnitude: Sequence[int] | None = None,
) -> list[Path]:
    """Write the six text files of works D and E: one line per (test batch, step), batches outer, steps inner.

    accuracy.txt       right answers in the batch at t
    spike_num.txt      absolute spikes from step 0 through t
    spike_collect.txt  signed spikes from step 0 through t
    sop_num.txt        synaptic operations from step 0 through t; the first layer's own convolution is never in it
    abs_spike.txt      absolute spikes at t only
    sum_spike.txt      signed spikes at t only

    counted    per layer, whether its spikes count in the four spike files; None: all, as in work D; work E leaves out
               the first
    magnitude  per layer, the integer that a spike of it weighs in sop_num.txt; None: 1. Work E's first-layer spikes
               weigh 2^k; 0 for the last layer leaves out the readout, as the CIFAR10 scripts do
    returns    the paths written

    So positive spikes = (spike_num + spike_collect) / 2 and negative = (spike_num - spike_collect) / 2.
    """
    lines: dict[str, list[int]] = {name: [] for name in PUBLISHED_LOGS}
    for batch in batches:
        for name, values in _batch_logs(batch, counted, magnitude).items():
            lines[name] += values.tolist()
    paths = [Path(directory) / f"{name}.txt" for name in PUBLISHED_LOGS]
    for path in paths:
        write_whole(path, "".join(f"{value}\n" for value in lines[path.stem]))
    return paths


def _batch_logs(
    batch: BatchCounts, counted: Sequence[bool] | None, magnitude: Sequence[int] | None
) -> dict[str, np.ndarray]:
    correct, positive, negative, operations = (
        np.asarray(values, dtype=np.int64)
        for values in (batch.correct, batch.positive, batch.negative, batch.synaptic_operations)
    )
    if positive.ndim != 2 or not positive.shape == negative.shape == operations.shape == (len(positive), len(correct)):
        shapes = [a.shape for a in (correct, positive, negative, operations)]
        raise SpikeletError(f"batches: expected correct [T] and three times [L, T], got {shapes}")
    include = _per_layer("counted", counted, len(positive)).astype(bool).astype(np.int64)
    absolute, signed = include @ (positive + negative), include @ (positive - negative)
    return {
        "accuracy": correct,
        "spike_num": absolute.cumsum(),
        "spike_collect": signed.cumsum(),
        "sop_num": (_per_layer("magnitude", magnitude, len(positive)) @ operations).cumsum(),
        "abs_spike": absolute,
        "sum_spike": signed,
    }


def _per_layer(name: str, values: Sequence[int] | None, num_layers: int) -> np.ndarray:
    if values is None:
        return np.ones(num_layers, dtype=np.int64)
    if len(values) != num_layers:
        raise SpikeletError(f"{name}: expected one value per layer ({num_layers}), got {len(values)}")
    return np.asarray(values, dtype=np.int64)
