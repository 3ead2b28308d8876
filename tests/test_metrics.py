"""Metrics against brute force, against NeuroBench, and against numbers worked out by hand."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spikelet import metrics
from spikelet.errors import SpikeletError


def brute_force(op: nn.Conv2d, shape: tuple[int, int, int], nonzero_only: bool) -> torch.Tensor:
    """Walk over every output and every tap, and note which input site it reads."""
    channels, height, width = shape
    sites = torch.zeros(shape, dtype=torch.int64)
    (kh, kw), (sh, sw), (dh, dw) = op.kernel_size, op.stride, op.dilation
    same = (dh * (kh - 1) // 2, dw * (kw - 1) // 2)
    ph, pw = {"same": same, "valid": (0, 0)}.get(op.padding, op.padding)
    _, rows, columns = op(torch.zeros(1, *shape))[0].shape
    per_group, outputs = channels // op.groups, op.out_channels // op.groups
    for out, row, column in itertools.product(range(op.out_channels), range(rows), range(columns)):
        for c, i, j in itertools.product(range(per_group), range(kh), range(kw)):
            y, x = row * sh - ph + i * dh, column * sw - pw + j * dw
            inside = 0 <= y < height and 0 <= x < width
            if inside and not (nonzero_only and op.weight[out, c, i, j] == 0):
                sites[out // outputs * per_group + c, y, x] += 1
    return sites


@st.composite
def convolutions(draw):
    size = st.integers(1, 3)
    groups = draw(st.sampled_from([1, 2]))
    kernel, stride, dilation = ((draw(size), draw(size)) for _ in range(3))
    padding = draw(st.one_of(st.tuples(st.integers(0, 2), st.integers(0, 2)), st.sampled_from(["valid", "same"])))
    if padding == "same":
        stride = (1, 1)
    op = nn.Conv2d(groups * draw(size), groups * draw(size), kernel, stride, padding, dilation, groups, bias=False)
    op.weight.data = torch.randint(-1, 2, op.weight.shape).float()
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    return op, (op.in_channels, draw(st.integers(reach[0], 8)), draw(st.integers(reach[1], 8)))


@pytest.mark.filterwarnings("ignore:Using padding=.same.")
@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_fanout_equals_brute_force(case):
    op, shape = case
    assert torch.equal(metrics.fanout(op, shape), brute_force(op, shape, nonzero_only=False))
    assert torch.equal(metrics.effective_fanout(op, shape), brute_force(op, shape, nonzero_only=True))
    assert metrics.macs(op, shape) == metrics.fanout(op, shape).sum()


def test_fanout_of_linear_layers_keeps_the_given_shape():
    op = nn.Linear(2 * 3 * 4, 5)
    op.weight.data[:3] = 0
    assert torch.equal(metrics.fanout(op, (24,)), torch.full((24,), 5))
    assert torch.equal(metrics.fanout(op, (2, 3, 4)), torch.full((2, 3, 4), 5))
    assert torch.equal(metrics.effective_fanout(op, (2, 3, 4)), torch.full((2, 3, 4), 2))
    assert metrics.macs(op, (24,)) == 120


def test_operations_count_absolute_spikes():
    torch.manual_seed(0)
    op = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    spikes = torch.randint(-1, 2, (5, 2, 3, 7, 6), dtype=torch.int8)
    expected = (spikes.long().abs() * metrics.fanout(op, (3, 7, 6))).sum((2, 3, 4))
    assert torch.equal(metrics.synaptic_operations(op, spikes), expected)
    assert torch.equal(metrics.synaptic_operations(op, 2 * spikes.float()), 2 * expected)
    assert torch.equal(metrics.effective_operations(op, spikes), expected)


@pytest.mark.parametrize(
    ("op", "shape", "words"),
    [
        (nn.Conv2d(3, 4, 3), (2, 8, 8), "takes"),
        (nn.Conv2d(3, 4, 3), (3, 64), "takes"),
        (nn.Conv2d(3, 4, 5), (3, 4, 4), "no window"),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), (3, 8, 8), "padding_mode"),
        (nn.Linear(8, 2), (9,), "takes 8 inputs"),
        (nn.ConvTranspose2d(3, 4, 3), (3, 8, 8), "nn.Conv2d or nn.Linear"),
    ],
)
def test_what_has_no_fanout_is_refused(op, shape, words):
    with pytest.raises(SpikeletError, match=words):
        metrics.fanout(op, shape)


def test_graded_input_is_not_spikes():
    with pytest.raises(SpikeletError, match="whole numbers"):
        metrics.synaptic_operations(nn.Linear(2, 2), torch.tensor([0.5, 1.0]))


class BinaryNetwork(nn.Module):
    """Binary spikes into a convolution, a grouped one and a linear layer, for T steps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(6, 4, 3, groups=2, bias=False)
        self.linear = nn.Linear(4 * 3 * 3, 10)
        self.seen: dict[nn.Module, list[torch.Tensor]] = {self.conv: [], self.grouped: [], self.linear: []}
        for op in self.seen:
            op.weight.data = torch.randint(-1, 2, op.weight.shape).float()

    def forward(self, spikes):
        total = 0
        for x in spikes:
            for op in (self.conv, self.grouped, self.linear):
                x = x.flatten(1) if op is self.linear else x
                self.seen[op].append(x)
                x = op(x) if op is self.linear else (op(x) > 0).float()
            total = total + x
        return total


def test_effective_operations_equal_neurobench_on_unsigned_spikes():
    pytest.importorskip("neurobench", reason="neurobench is not installed: the comparison with it was NOT made")
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    torch.manual_seed(1)
    network = BinaryNetwork()
    spikes = (torch.rand(3, 4, 2, 9, 9) < 0.3).float()
    model, metric = TorchModel(network), SynapticOperations()
    model.register_hooks()
    answers = model(spikes)
    theirs = metric(model, answers, (spikes.transpose(0, 1), torch.zeros(4)))
    effective = sum(metrics.effective_operations(op, torch.stack(x)).sum().item() for op, x in network.seen.items())
    dense = sum(len(x) * 4 * metrics.macs(op, x[0].shape[1:]) for op, x in network.seen.items())
    assert theirs["Effective_MACs"] == 0
    assert theirs["Effective_ACs"] == effective / 4 > 0
    assert theirs["Dense"] == dense / 4


def test_accuracy_per_step_sums_and_breaks_ties_downwards():
    logits = np.array([[[0, 0, 0], [1, 2, 2]], [[0, 1, 0], [0, 0, 1]], [[0, 0, 2], [9, 0, 0]]], dtype=np.int32)
    assert metrics.predictions_per_step(logits).tolist() == [[0, 1], [1, 2], [2, 0]]
    assert metrics.correct_per_step(logits, np.array([1, 2])).tolist() == [0, 2, 0]
    assert metrics.accuracy_per_step(logits, [2, 2]).tolist() == [0.0, 0.5, 0.5]


def test_running_sum_of_integers_does_not_overflow():
    logits = torch.full((3, 1, 2), 2**30, dtype=torch.int32)
    logits[:, :, 1] += 1
    assert metrics.predictions_per_step(logits).flatten().tolist() == [1, 1, 1]


def test_accuracy_checks_its_arguments():
    with pytest.raises(SpikeletError, match="logits_per_step"):
        metrics.accuracy_per_step(torch.zeros(3, 2), [0, 1])
    with pytest.raises(SpikeletError, match="labels"):
        metrics.accuracy_per_step(torch.zeros(3, 2, 10), [0, 1, 2])
    with pytest.raises(SpikeletError, match="at least one"):
        metrics.accuracy_per_step(torch.zeros(3, 0, 10), torch.zeros(0))


@pytest.mark.parametrize(
    ("curve", "settled", "first"),
    [
        ([0.9, 0.9, 0.9], 1, 1),
        ([0.9], 1, 1),
        ([0.1, 0.5, 0.9], 3, 3),
        ([0.850, 0.988, 0.992, 0.993, 0.9929, 0.993, 0.9929, 0.9929], 7, 5),
        ([0.3, 0.99, 0.98, 0.99, 0.99], 4, 2),
    ],
)
def test_settled_and_first_final_step(curve, settled, first):
    assert metrics.settled_step(curve) == settled
    assert metrics.first_final_step(torch.tensor(curve)) == first


def test_spike_counts_and_rates():
    count = metrics.count_spikes(torch.tensor([[1, -1, 0, 1], [1, 0, 0, -1]], dtype=torch.int8))
    assert (count.positive, count.negative, count.total, count.net) == (3, 2, 5, 1)
    assert metrics.firing_rate(count.total, num_neurons=4, num_steps=2) == 5 / 8
    assert metrics.activation_sparsity(count.total, 4, 2, num_samples=1) == 3 / 8
    with pytest.raises(SpikeletError, match="num_neurons"):
        metrics.firing_rate(1, 0, 1)


def test_energy_arithmetic():
    assert metrics.ann_energy(13_800_000) == pytest.approx(13.8e6 * 4.6e-12)
    assert metrics.spiking_energy(460_800, 363_000) == pytest.approx(460_800 * 4.6e-12 + 363_000 * 0.9e-12)
    assert metrics.integer_energy(460_800, 363_000) == pytest.approx(460_800 * 0.23e-12 + 363_000 * 0.1e-12)
    mine = metrics.EnergyTable(float_mac=1.0, float_add=2.0, int8_mac=3.0, int_add=4.0)
    assert metrics.ann_energy(5, mine) == 5
    assert metrics.spiking_energy(5, 7, mine) == 19
    assert metrics.integer_energy(5, 7, mine) == 43
    with pytest.raises(SpikeletError, match="int_add"):
        metrics.EnergyTable(int_add=-1.0)


def test_footprint_is_what_packing_stores():
    assert metrics.footprint(2, 1_106_016) == 276_504
    assert metrics.footprint(8, 10_800) == 10_800
    assert metrics.footprint(2, 9) == 3
    with pytest.raises(SpikeletError, match="bits"):
        metrics.footprint(0, 9)


def two_batches() -> list[metrics.BatchCounts]:
    first = metrics.BatchCounts(
        correct=[1, 2, 2],
        positive=[[5, 3, 0], [2, 4, 1]],
        negative=[[0, 0, 0], [0, 1, 2]],
        synaptic_operations=[[50, 30, 0], [20, 50, 30]],
    )
    return [first, metrics.BatchCounts([0, 1, 2], np.eye(2, 3), np.zeros((2, 3)), 10 * np.eye(2, 3))]


@pytest.mark.parametrize(
    ("counted", "magnitude", "expected"),
    [
        (
            None,
            None,
            {
                "accuracy": [1, 2, 2, 0, 1, 2],
                "spike_num": [7, 15, 18, 1, 2, 2],
                "spike_collect": [7, 13, 12, 1, 2, 2],
                "sop_num": [70, 150, 180, 10, 20, 20],
                "abs_spike": [7, 8, 3, 1, 1, 0],
                "sum_spike": [7, 6, -1, 1, 1, 0],
            },
        ),
        (
            [False, True],
            [4, 1],
            {
                "accuracy": [1, 2, 2, 0, 1, 2],
                "spike_num": [2, 7, 10, 0, 1, 1],
                "spike_collect": [2, 5, 4, 0, 1, 1],
                "sop_num": [220, 390, 420, 40, 50, 50],
                "abs_spike": [2, 5, 3, 0, 1, 0],
                "sum_spike": [2, 3, -1, 0, 1, 0],
            },
        ),
    ],
)
def test_published_logs(tmp_path, counted, magnitude, expected):
    paths = metrics.published_logs(tmp_path / "logs", two_batches(), counted, magnitude)
    assert {path.stem: np.loadtxt(path).astype(int).tolist() for path in paths} == expected
    assert sorted(p.name for p in (tmp_path / "logs").iterdir()) == sorted(f"{name}.txt" for name in expected)


def test_published_logs_check_their_arguments(tmp_path):
    with pytest.raises(SpikeletError, match="counted"):
        metrics.published_logs(tmp_path / "logs", two_batches(), counted=[True])
    with pytest.raises(SpikeletError, match="batches"):
        metrics.published_logs(tmp_path / "logs", [metrics.BatchCounts([1], [[1, 2]], [[1, 2]], [[1, 2]])])
    assert not (tmp_path / "logs").exists()
