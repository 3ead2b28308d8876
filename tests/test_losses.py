"""The contract of every loss, and each one's values by hand and beside snnTorch."""

import math
import pickle

import pytest
import torch
from torch.nn import functional

from spikelet import SpikeletError
from spikelet.training.losses import LOSSES, TET, CEMean, CEPerStep, CESum, MSERate, Trace, loss

T, N, C = 7, 5, 10
SMOOTHED = sorted(set(LOSSES) - {"mse_rate", "trace"})


def spikes(dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return (torch.rand(T, N, C, generator=torch.Generator().manual_seed(seed)) < 0.3).to(dtype)


def labels() -> torch.Tensor:
    return torch.tensor([3, 0, 9, 3, 5])


@pytest.mark.parametrize("name", LOSSES)
def test_scalar_finite_and_mean_over_the_batch(name: str) -> None:
    of, whole = loss(name), spikes()
    value = of(whole, labels())
    assert value.shape == () and value.dtype == torch.float64 and 0 < value < 20
    each = [of(whole[:, n : n + 1], labels()[n : n + 1]) for n in range(N)]
    assert torch.allclose(value, torch.stack(each).mean())


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    outputs = torch.rand(3, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda o: loss(name)(o, torch.tensor([1, 3])), (outputs,))


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"trace"}))  # which wants a certain train
def test_the_gradient_asks_the_right_neuron_to_spike_and_the_others_not_to(name: str) -> None:
    outputs = torch.full((T, 1, C), 0.5, requires_grad=True)
    loss(name)(outputs, torch.tensor([4])).backward()
    right = torch.arange(C) == 4
    assert bool((outputs.grad[:, 0, right] < 0).all() and (outputs.grad[:, 0, ~right] > 0).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.uint8, torch.bool])
@pytest.mark.parametrize("name", LOSSES)
def test_narrow_spikes_lose_nothing(name: str, dtype: torch.dtype) -> None:
    value = loss(name)(spikes(dtype), labels())
    assert value.dtype == torch.float32 and torch.equal(value, loss(name)(spikes(torch.float32), labels()))


@pytest.mark.parametrize("name", LOSSES)
def test_survives_a_trip_to_another_process(name: str) -> None:
    assert pickle.loads(pickle.dumps(loss(name))) == loss(name)


@pytest.mark.parametrize("name", ["ce_rate", "ce_per_step"])
def test_floor_and_silence_of_the_rate_cross_entropy(name: str) -> None:
    right = functional.one_hot(labels(), C).double().expand(T, N, C)
    assert loss(name)(right, labels()).item() == pytest.approx(math.log(1 + 9 / math.e), abs=1e-12)
    assert loss(name)(right, labels()).item() == pytest.approx(1.46115, abs=5e-6)
    assert loss(name)(0 * right, labels()).item() == pytest.approx(2.30259, abs=5e-6)


def test_values_by_hand() -> None:
    # class 0 spikes at t = 0 and 1, class 1 at t = 1: rates 2/3 and 1/3, counts 2 and 1
    outputs = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]], [[0.0, 0.0]]], dtype=torch.float64)
    label = torch.tensor([0])
    assert MSERate()(outputs, label).item() == pytest.approx((1 / 9 + 1 / 9) / 2)
    assert MSERate(0.8, 0.2)(outputs, label).item() == pytest.approx(((2 / 3 - 0.8) ** 2 + (1 / 3 - 0.2) ** 2) / 2)
    per_step = (math.log(1 + 1 / math.e) + 2 * math.log(2)) / 3
    assert CEPerStep()(outputs, label).item() == pytest.approx(per_step)
    assert CEMean()(outputs, label).item() == pytest.approx(math.log(1 + math.exp(-1 / 3)))
    assert CESum()(outputs, label).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert TET(share=0.25, target=1.0)(outputs, label).item() == pytest.approx(0.75 * per_step + 0.25 * 3 / 6)
    wrong = 1 + 1 / 4 + 3**2 / 4**2 + 1  # of the wanted 0, 1/2, 3/4 and 0, 0, 0
    assert Trace(tau_s=2.0)(outputs, label).item() == pytest.approx(wrong / 2)


@pytest.mark.parametrize(
    ("num_steps", "train"),
    [(4, [0, 1, 1, 1]), (7, [0, 1, 1, 1, 1, 0, 1]), (9, [0, 1, 1, 1, 1, 0, 1, 1, 1]), (11, [0, 1] * 5 + [0])],
)
def test_the_wanted_trace_is_where_the_loss_is_zero(num_steps: int, train: list[int]) -> None:
    wanted = torch.zeros(num_steps, N, C, dtype=torch.float64)
    for n, label in enumerate(labels().tolist()):
        a = 0.0
        for t, s in enumerate(train):
            a += (s - a) / 3
            wanted[t, n, label] = a
    assert loss("trace")(wanted, labels()).item() == pytest.approx(0, abs=1e-20)
    other = wanted.roll(1, dims=2)
    assert loss("trace")(other, labels()).item() == pytest.approx((other - wanted).square().sum().item() / (2 * N))
    with pytest.raises(SpikeletError, match=r"outputs: expected at least 2 steps, got shape \(1, 5, 10\)"):
        loss("trace")(wanted[:1], labels())


@pytest.mark.parametrize("name", SMOOTHED)
def test_label_smoothing_mixes_in_the_mean_over_all_labels(name: str) -> None:
    outputs, settings = spikes(), {"share": 0.0} if name == "tet" else {}
    smooth = loss(name, label_smoothing=0.1, **settings)(outputs, labels())
    plain = loss(name, **settings)
    others = torch.stack([plain(outputs, torch.full((N,), c)) for c in range(C)]).mean()
    assert torch.allclose(smooth, 0.9 * plain(outputs, labels()) + 0.1 * others)


@pytest.mark.parametrize(
    ("ours", "name", "settings", "factor"),
    [
        (CEPerStep(), "ce_rate_loss", {}, 1),
        (CESum(), "ce_count_loss", {}, 1),
        (MSERate(), "mse_count_loss", {}, 1 / 10),
        (MSERate(0.8, 0.2), "mse_count_loss", {"correct_rate": 0.8, "incorrect_rate": 0.2}, 1 / 10),
    ],
    ids=["ce_rate", "ce_count", "mse_count", "mse_count 0.8 0.2"],
)
def test_is_that_of_snntorch(ours, name: str, settings: dict, factor: float) -> None:
    theirs = getattr(pytest.importorskip("snntorch.functional"), name)(**settings)
    outputs = [(torch.rand(10, N, C, generator=torch.Generator().manual_seed(1)) < 0.3).float() for _ in range(2)]
    for tensor in outputs:
        tensor.requires_grad_()
    mine, other = ours(outputs[0], labels()), factor * theirs(outputs[1], labels())
    assert mine.item() == pytest.approx(other.item(), rel=1e-6)
    mine.backward()
    other.backward()
    assert torch.allclose(outputs[0].grad, outputs[1].grad, rtol=1e-5, atol=1e-9)


def test_unknown_names_and_settings_list_what_is_allowed() -> None:
    with pytest.raises(
        SpikeletError, match=r"loss: expected one of ce_mean, ce_cumulative, ce_per_step, .*tet, trace, got 'hinge'"
    ):
        loss("hinge")
    with pytest.raises(SpikeletError, match=r"loss: tet takes share, target, label_smoothing, got .lam."):
        loss("tet", lam=0.1)
    with pytest.raises(SpikeletError, match=r"tet\.share: expected a number, got '0.1'"):
        loss("tet", share="0.1")


@pytest.mark.parametrize(
    ("name", "settings", "named"),
    [
        *((name, {"label_smoothing": 1.5}, "label_smoothing") for name in SMOOTHED),
        ("tet", {"share": -0.1}, "share"),
        ("trace", {"tau_s": 0.5}, "tau_s"),
        ("mse_rate", {"correct": 0.2, "incorrect": 0.2}, "correct"),
    ],
)
def test_settings_that_make_no_sense(name: str, settings: dict, named: str) -> None:
    with pytest.raises(SpikeletError, match=f"^{named}: expected"):
        loss(name, **settings)


@pytest.mark.parametrize(
    ("outputs", "given", "named"),
    [
        (torch.zeros(N, C), labels(), r"outputs: expected \[T, N, C\]"),
        (torch.zeros(0, N, C), labels(), "outputs"),
        (torch.zeros(T, 0, C), labels()[:0], "outputs"),
        (torch.zeros(T, N, C), labels()[:2], "labels: expected int64"),
        (torch.zeros(T, N, C), labels().int(), "labels: expected int64"),
        (torch.zeros(T, N, 9), labels(), "labels: expected 0 to 8, one per output, got 0 to 9"),
        (torch.zeros(T, N, C), labels() - 1, "got -1 to 8"),
    ],
    ids=["rank", "no steps", "no samples", "fewer labels", "dtype", "too large", "negative"],
)
@pytest.mark.parametrize("name", LOSSES)
def test_wrong_shapes_and_labels_are_named(name: str, outputs, given, named: str) -> None:
    with pytest.raises(SpikeletError, match=named):
        loss(name)(outputs, given)
