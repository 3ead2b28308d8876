"""The neuron that sends traces: fixtures, its gradient beside the reference's, spikes told by traces, learning."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelet import SpikeletError, TrainSettings, build, cli, fit
from spikelet.datasets import DATASETS, loader
from spikelet.kernels.reference import spikes_of_trace, trace
from spikelet.metrics import synaptic_operations
from spikelet.networks import SNN, NetworkSettings, answers, measure_operations, record_spikes
from spikelet.neurons import LIF, TraceLIF
from spikelet.training.losses import loss

CASES = {
    "num_steps": st.integers(1, 9),
    "tau_m": st.floats(1, 12),
    "tau_s": st.floats(1, 12),
    "v_threshold": st.floats(0.1, 2),
    "seed": st.integers(0, 2**31),
}


def numbers(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def gradient(neuron: TraceLIF, x: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(neuron(x), x, grad)[0]


def by_hand(x: np.ndarray, tau_m: float, tau_s: float, theta: float) -> tuple[np.ndarray, ...]:
    """One neuron: (u, du, s, a), step by step."""
    u, du, s, a = np.zeros((4, len(x)))
    for t in range(len(x)):
        left = u[t - 1] * (1 - s[t - 1]) if t else 0.0
        du[t] = x[t] - left / tau_m
        u[t] = (1 - 1 / tau_m) * left + x[t]
        s[t] = u[t] >= theta
        before = a[t - 1] if t else 0.0
        a[t] = before + (s[t] - before) / tau_s
    return u, du, s, a


def literal(x: np.ndarray, G: np.ndarray, tau_m: float, tau_s: float, theta: float) -> np.ndarray:
    """Section 2.7 of the reference word by word, one neuron: the gradient at its currents of that at its traces."""
    u, du, s, a = by_hand(x, tau_m, tau_s, theta)
    T, m, A = len(x), 1 / tau_m, 0.0
    K = [(1 / tau_s) * (1 - 1 / tau_s) ** j for j in range(T)]
    found = np.zeros(T)
    for t in range(T - 1, -1, -1):
        P = s[t] * np.clip(-1 / du[t], -8, 0) if s[t] else 0.0
        D = sum(P * -K[j] * G[t + j] for j in range(T - t))
        if t < T - 1:
            D += A * (-m * u[t] * P + (1 - m) * (1 - s[t]))
        A = D * s[t] + A * (1 - s[t]) * (1 - m)
        f = np.clip((theta - u[t]) / 0.2, -8, 8)
        F = sum(K[j] * G[t + j] for j in range(T - t)) * np.exp(f) / ((1 + np.exp(f)) ** 2 * 0.2)
        found[t] = F if a[t] < 1 / (4 * tau_s) else D
    return found


# ---------------------------------------------------------------- forward


def test_fixture_of_the_reference() -> None:
    neuron, x = TraceLIF(5.0, 3.0, 1.0), torch.full((1,), 0.6, dtype=torch.float64)
    state, found = neuron.init_state(x), []
    for _ in range(5):
        a, state = neuron.step(x, state)
        found.append([round(value.item(), 4) for value in (state[0], state[1], a)])
    assert found == [[0.6, 0, 0], [1.08, 1, 0.3333], [0.6, 0, 0.2222], [1.08, 1, 0.4815], [0.6, 0, 0.3210]]


def test_fixture_of_the_wanted_trace() -> None:
    found = trace(torch.tensor([0, 1, 1, 1, 1], dtype=torch.uint8), 3.0)
    assert [round(a, 4) for a in found.tolist()] == [0, 0.3333, 0.5556, 0.7037, 0.8025]


@settings(max_examples=60, deadline=None)
@given(**CASES)
def test_forward_is_the_formula(num_steps: int, tau_m: float, tau_s: float, v_threshold: float, seed: int) -> None:
    x = numbers(num_steps, 4, seed=seed)
    found = TraceLIF(tau_m, tau_s, v_threshold)(x)
    for n in range(4):
        *_, a = by_hand(x[:, n].numpy(), tau_m, tau_s, v_threshold)
        assert found[:, n].tolist() == pytest.approx(a.tolist(), abs=1e-14)


@settings(max_examples=60, deadline=None)
@given(**CASES, dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
def test_its_spikes_are_those_of_a_lif(
    dtype: torch.dtype, seed: int, num_steps: int, tau_m, tau_s, v_threshold
) -> None:
    x = numbers(num_steps, 9, seed=seed, dtype=dtype)
    neuron = TraceLIF(tau_m, tau_s, v_threshold)
    spikes = LIF(1 - 1 / tau_m, v_threshold, v_reset=0.0)(x)
    assert torch.equal(neuron.spikes(neuron(x)), spikes)
    assert torch.equal(neuron.signal(spikes), neuron(x))


def test_it_fires_at_its_threshold() -> None:
    assert TraceLIF(v_threshold=0.5, tau_s=1.0)(torch.tensor([[0.5]])).item() == 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), power=st.floats(0, 20), wide=st.booleans())
def test_a_trace_tells_its_spikes_up_to_the_documented_tau(seed: int, power: float, wide: bool) -> None:
    dtype, tau_s = (torch.float32, 2**power) if wide else (torch.bfloat16, 2 ** (power / 4))
    spikes = (numbers(50, 20, seed=seed) > seed % 3 - 1).to(dtype)
    assert torch.equal(spikes_of_trace(trace(spikes, tau_s), tau_s), spikes)


def test_the_filter_of_the_input() -> None:
    x, y = numbers(6, 3, seed=1), torch.zeros(3, dtype=torch.float64)
    for t, found in enumerate(trace(x, 3.0)):
        y = (1 - 1 / 3) * y + x[t]
        assert torch.allclose(found, y / 3)


# ---------------------------------------------------------------- backward


@settings(max_examples=150, deadline=None)
@given(**CASES)
def test_backward_is_that_of_the_page(
    num_steps: int, tau_m: float, tau_s: float, v_threshold: float, seed: int
) -> None:
    x, grad = numbers(num_steps, 6, seed=seed), numbers(num_steps, 6, seed=seed + 1)
    found = gradient(TraceLIF(tau_m, tau_s, v_threshold), x, grad)
    for n in range(6):
        expected = literal(x[:, n].numpy(), grad[:, n].numpy(), tau_m, tau_s, v_threshold)
        assert found[:, n].tolist() == pytest.approx(expected.tolist(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("currents", "expected"),
    [
        ([0.5], [0.3505186 / 3]),  # silent: e^2.5 / ((1 + e^2.5)^2 * 0.2), times K[0]
        ([1.2], [1 / 1.2 / 3]),  # fires: 1 / du, times K[0]
        ([0.95, 0.25], [None, 8 / 3]),  # u = 1.01, du = 0.25 - 0.19: 1 / du is clamped to 8
        ([2.0, 0.0, 0.0], [0.5 * (1 / 3 + 2 / 9 + 4 / 27), 0, 0]),  # the trace has not faded: no surrogate, no path
    ],
)
def test_backward_by_hand(currents: list[float], expected: list[float | None]) -> None:
    x = torch.tensor(currents, dtype=torch.float64)[:, None]
    for found, value in zip(gradient(TraceLIF(), x, torch.ones_like(x)).flatten().tolist(), expected, strict=True):
        assert value is None or found == pytest.approx(value, rel=1e-6)


def test_a_trace_that_faded_gets_the_surrogate_again() -> None:
    x = torch.zeros(8, 1, dtype=torch.float64)
    x[0] = 2.0
    neuron = TraceLIF()
    faded = (neuron(x) < 1 / 12).flatten().tolist()
    moved = (gradient(neuron, x, torch.ones_like(x)) != 0).flatten().tolist()
    assert faded == [False] * 4 + [True] * 4 and moved == [True, False, False, False, True, True, True, True]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_gradients_are_finite(dtype: torch.dtype) -> None:
    x = torch.tensor([[0.0, 1.0, -3.0, 1e4, -1e4, 0.8], [1.0, 1.0, 4.0, 0.0, 1e4, 0.2]], dtype=dtype)
    found = gradient(TraceLIF(), x, torch.ones_like(x))
    assert found.dtype == dtype and found.isfinite().all()


def test_samples_of_a_batch_do_not_know_each_other() -> None:
    x, grad, neuron = numbers(7, 4, 3, seed=2), numbers(7, 4, 3, seed=3), TraceLIF()
    assert torch.equal(gradient(neuron, x, grad)[:, 1:2], gradient(neuron, x[:, 1:2], grad[:, 1:2]))


# ---------------------------------------------------------------- in a network


def network(**given) -> SNN:
    torch.manual_seed(1)
    notation, plain = "4C3-MP2-6C3p1-[6C3p1]-FC10", {"weights": "float", "first": "parity", "last": "parity"}
    plain |= {"v_threshold": 0.1}  # untrained weights are small
    made = build(NetworkSettings(notation, neuron="trace", num_steps=5, **(plain | given)), (2, 12, 12))
    assert isinstance(made, SNN)
    return made


def frames() -> torch.Tensor:
    return torch.poisson(torch.ones(5, 3, 2, 12, 12), generator=torch.Generator().manual_seed(2))


def test_signals_are_traces_and_gradients_reach_every_weight() -> None:
    snn = network(norm="none")
    first, second, *_ = snn.blocks().values()
    seen: list[torch.Tensor] = []
    for block in (first, second):
        block.register_forward_pre_hook(lambda block, inputs: seen.append(inputs[0].detach()))
    images = torch.full((1, 2, 12, 12), 255, dtype=torch.uint8)
    snn(images).square().sum().backward()
    assert seen[0][:, 0, 0, 0, 0].tolist() == pytest.approx([1 - (2 / 3) ** (t + 1) for t in range(5)])
    assert torch.equal(first.neuron.signal(first.neuron.spikes(seen[1])), seen[1]) and seen[1].any()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in snn.parameters())
    assert all(block.op.weight.grad.any() for block in snn.blocks().values())


@pytest.mark.parametrize("moving", [True, False])
def test_networks_keep_samples_apart(moving: bool) -> None:
    snn, x = network().eval(), frames() if moving else 100 * frames()[0]
    alone = torch.cat([snn(part) for part in x.split(1, dim=1 if moving else 0)], dim=1)
    assert torch.equal(snn(x), alone) and alone.any()


def test_a_run_counts_spikes_not_traces() -> None:
    snn, x = network().eval(), frames()
    run = snn.run(x, record=True)
    with torch.no_grad(), record_spikes(snn) as spikes:
        logits = snn(x)
    assert run.positive is not None and run.synaptic_operations is not None and run.input_operations is not None
    assert run.input_events is not None and run.input_events.tolist() == x.flatten(1).sum(1).tolist()
    for row, train in enumerate(spikes.values()):
        assert set(train.unique().tolist()) == {0, 1}
        assert run.positive[row].tolist() == train.flatten(1).sum(1).tolist()
    assert torch.equal(torch.from_numpy(run.logits), logits)
    assert torch.equal(snn.neuron().signal(spikes["FC10"]), logits)
    first, second, *_, last = snn.blocks().values()
    operations = run.synaptic_operations.tolist()
    assert run.input_operations[0].tolist() == synaptic_operations(first.op, x).sum(1).tolist()
    assert operations[0] == synaptic_operations(second.op, spikes["4C3"]).sum(1).tolist()
    summed = spikes["6C3p1"] + spikes["residual.body.6C3p1"]  # whose traces are added up
    assert operations[2] == synaptic_operations(last.op, summed.flatten(2)).sum(1).tolist()


def test_operations_can_be_trained_on() -> None:
    snn = network().eval()
    with measure_operations(snn) as meter:
        snn(frames())
    run = snn.run(frames(), record=True)
    assert run.synaptic_operations is not None and meter.total == run.synaptic_operations.sum() > 0
    meter.total.backward()
    assert all(block.op.weight.grad.any() for block in [*snn.blocks().values()][:-1])


def test_it_learns_the_digits() -> None:
    train, test = (DATASETS["digits"](split=split) for split in ("train", "test"))
    torch.manual_seed(1)
    snn = build(NetworkSettings("8C3-FC10", neuron="trace", num_steps=5), (1, 8, 8))
    before = loss("trace")(answers(snn, test.images), test.labels)
    budget = TrainSettings(num_epochs=3, lr=0.02, batch_size=64, loss="trace")
    fit(snn, loader(train, 64, shuffle=True, seed=1), None, budget, trainer={"enable_progress_bar": False})
    out = answers(snn, test.images)
    assert loss("trace")(out, test.labels) < 0.5 * before
    assert (out.sum(0).argmax(1) == test.labels).float().mean() > 0.8


def test_a_recipe_trains_and_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["recipe=digits-demo", "exp_id=traces", "model.neuron=trace", "model.num_steps=5", "train.loss=trace"]
    short = ["train.num_epochs=1", "trainer.limit_train_batches=11", "trainer.enable_progress_bar=false"]
    small = ["model.notation=4C3-P2-FC10", "train.label_smoothing=0", "train.operation_cost=0.1", "num_threads=1"]
    assert cli.main(["train", *words, *short, *small]) == 0
    run = tmp_path / "runs" / "traces"
    report = json.loads((run / "report.json").read_text())
    spikes, rate = report["spikes_per_sample"]["total"], report["firing_rate"]
    assert 0 < rate < 1 and spikes == pytest.approx(rate * report["neurons"]["total"] * 5)
    with (run / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 < float(row["firing_rate"]) < 1 and 0 < float(row["train_operations"]) < 1
    assert len(list((run / "figures").glob("raster_*.png"))) == 3
    assert not list((run / "figures").glob("spike_bar_*"))  # which would call the class with most spikes the answer
    assert cli.main(["evaluate", "runs/traces", "num_steps=3"]) == 0


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tau_m": 0.9}, "tau_m: expected a number, at least 1 step, got 0.9"),
        ({"tau_s": float("nan")}, "tau_s: expected a number, at least 1 step, got nan"),
        ({"v_threshold": 0}, "v_threshold: expected a "),
    ],
)
def test_bad_settings(given: dict, message: str) -> None:
    with pytest.raises(SpikeletError, match=message):
        TraceLIF(**given)
    with pytest.raises(SpikeletError, match=f"model.{message.split(',')[0]}"):
        network(**given)


def test_it_learns_no_decay_and_no_threshold() -> None:
    for key in ("learn_beta", "learn_threshold"):
        with pytest.raises(SpikeletError, match=f"model.{key}: expected false with model.neuron=trace"):
            network(**{key: True})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.neuron=lif"], "model.neuron: with train.loss=trace expected trace, got lif"),
        (["model.neuron=trace", "model.readout=current"], "model.readout: with train.loss=trace expected spikes"),
        (["model.neuron=trace", "model.tau_s=4"], "model.tau_s: with train.loss=trace expected 3.0, its train."),
    ],
)
def test_the_loss_wants_traces_of_its_own_kind(words: list[str], said: str, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "recipe=digits-demo", "train.loss=trace", "train.label_smoothing=0", *words]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "runs").exists()
