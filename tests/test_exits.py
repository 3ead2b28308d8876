"""Early exit: rules against their formulas, the integer engine against a run of each image alone, the evaluation."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from test_integer import Builder, assert_same
from test_surface_network import FIELDS, binned
from test_surface_network import network as surfaces

from spikelet import NetworkSettings, SpikeletError, build, to_integer, to_spiking
from spikelet.evaluate import evaluate, fit_exit
from spikelet.exits import RULES, Confidence, Entropy, Margin, choose, exit_steps, fit_temperature
from spikelet.metrics import EnergyTable

FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
BY_SAMPLE = ("logits", "sample_spikes", "sample_operations", "sample_input")
SHAPE = (1, 8, 8)
seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(2, 12))
int_logits = shapes.flatmap(lambda shape: arrays.arrays(np.int32, shape, elements=st.integers(-50, 50)))


def drawn_rule(kind: str, share: float):
    return Margin(1 + int(60 * share)) if kind == "margin" else RULES[kind](max(share, 0.01), temperature=9.0)


rules = st.builds(drawn_rule, st.sampled_from([*RULES]), st.floats(0, 1))


def trained():
    torch.manual_seed(0)
    network = build("4C3-P2-FC3", SHAPE)
    for _ in range(3):
        network(torch.randint(0, 256, (32, *SHAPE)))
    return network.eval()


# The rules


@given(int_logits, rules)
def test_a_sample_exits_at_the_first_step_that_passes(logits, rule) -> None:
    exits = exit_steps(logits, rule)
    for n, steps in enumerate(exits):
        sums = [[int(s) for s in logits[: t + 1, n].sum(0)] for t in range(len(logits))]
        passed = [by_hand(s, rule) for s in sums]
        assert steps == (passed.index(True) + 1 if any(passed[:-1]) else len(sums))


def by_hand(sums: list[int], rule) -> bool:
    if isinstance(rule, Margin):
        best, second = sorted(sums, reverse=True)[:2]
        return best - second >= rule.threshold
    p = torch.tensor(sums, dtype=torch.float64).div(rule.temperature).softmax(0).numpy()
    if isinstance(rule, Confidence):
        return p.max() > rule.threshold
    return 1 + (p * np.log(p)).sum() / np.log(len(p)) > rule.threshold


@given(int_logits, rules, st.floats(0, 1))
def test_a_larger_threshold_is_never_earlier(logits, rule, share) -> None:
    score = rule.score(logits.cumsum(0)).max()
    later = rule.beyond(score)
    assert not later.passes(score) or later.threshold == 1e-6
    if later.threshold >= rule.threshold:
        assert (exit_steps(logits, later) >= exit_steps(logits, rule)).all()
    assert (exit_steps(logits, rule.beyond(-1)) <= exit_steps(logits, rule)).all()


@given(int_logits, rules, st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.randoms())
def test_the_chosen_threshold_and_all_larger_ones_keep_the_answers(logits, rule, loss, random) -> None:
    chosen = choose(logits, rule, loss)
    final = logits.sum(0).argmax(1)
    scores = rule.score(logits.cumsum(0, dtype=np.int64)).ravel().tolist()
    for larger in [chosen, *(rule.beyond(score) for score in random.sample(scores, min(5, len(scores))))]:
        if larger.threshold >= chosen.threshold:
            assert (answers(logits, larger) != final).mean() <= loss
    if isinstance(chosen, Margin) and chosen.threshold > 1:  # one less, and some sample more is astray, or would be
        assert loss < 1


def answers(logits: np.ndarray, rule) -> np.ndarray:
    exits = exit_steps(logits, rule)
    return logits.cumsum(0, dtype=np.int64)[exits - 1, np.arange(len(exits))].argmax(1)


def test_the_smallest_margin_that_keeps_all_answers() -> None:
    generator = np.random.default_rng(1)
    logits = generator.integers(-40, 60, (5, 300, 4)).astype(np.int32)
    kept = [m for m in range(1, 400) if (answers(logits, Margin(m)) == logits.sum(0).argmax(1)).all()]
    smallest = next(m for m in kept if set(range(m, 400)) <= set(kept))
    assert choose(logits, Margin(1), 0.0) == Margin(smallest)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 1000), st.integers(0, 99))
def test_the_temperature_follows_the_scale(scale, seed) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(3, 200, 5))
    odds = np.exp(logits.cumsum(0)[1])
    labels = np.array([generator.choice(5, p=p / p.sum()) for p in odds])
    one = fit_temperature(logits, labels)
    assert fit_temperature(scale * logits, labels) == pytest.approx(scale * one, rel=1e-6)
    assert (
        exit_steps(scale * logits, Confidence(0.6, scale * one)).tolist()
        == exit_steps(logits, Confidence(0.6, one)).tolist()
    )


def test_a_fitted_confidence_is_the_accuracy() -> None:
    generator = np.random.default_rng(2)
    logits = generator.normal(size=(1, 20000, 4)) * 300
    odds = np.exp(logits[0] / 200)
    labels = np.array([generator.choice(4, p=p / p.sum()) for p in odds])
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(200, rel=0.05)
    told = Confidence(0.9, temperature).score(logits[0])
    right = logits[0].argmax(1) == labels
    assert right[told > 0.8].mean() == pytest.approx(told[told > 0.8].mean(), abs=0.02)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Confidence(0.0), "threshold: expected above 0, at most 1, got 0.0"),
        (lambda: Entropy(1.5), "threshold: expected above 0, at most 1, got 1.5"),
        (lambda: Confidence(float("nan")), "threshold: expected above 0, at most 1, got nan"),
        (lambda: Confidence(0.9, 0.0), "temperature: expected above 0 and finite, got 0.0"),
        (lambda: Margin(0), "threshold: of a margin, expected a whole number of at least 1, got 0"),
        (lambda: Margin(1.5), "threshold: of a margin, expected a whole number of at least 1, got 1.5"),
        (lambda: exit_steps(np.zeros((2, 3, 4)), Margin(1)), "logits: a margin is one of integers, got float64"),
        (lambda: exit_steps(np.zeros((2, 3, 1), int), Margin(1)), "logits: early exit needs at least 2 classes, got 1"),
        (
            lambda: exit_steps(np.zeros((2, 3)), Confidence(0.5)),
            r"logits: expected \[T, N, C\] with T >= 1, got \[2, 3\]",
        ),
        (lambda: fit_temperature(np.zeros((2, 3, 4)), [0]), r"labels: expected \[3\], at least one, got \[1\]"),
        (lambda: choose(np.zeros((2, 3, 4), int), Margin(1), 2.0), "loss: expected a fraction of the samples, 0 to 1"),
    ],
)
def test_what_makes_no_sense_is_named(call, said) -> None:
    with pytest.raises(SpikeletError, match=said):
        call()


# The integer engine


@FEW
@given(seeds, st.integers(1, 9), st.integers(1, 8), st.floats(0, 1), st.sampled_from([*RULES]))
def test_the_engine_runs_each_image_to_its_exit(seed, batch, num_steps, share, kind) -> None:
    builder = Builder(seed)
    network = builder.network()
    if network.shapes[-1][0] < 2:
        return
    images = builder.images(batch)
    full = network.run(images, num_steps, record=True, counts=True, samples=True)
    scores = drawn_rule(kind, 0.5).score(full.logits.cumsum(0))
    rule = drawn_rule(kind, 0.5).beyond(np.quantile(scores, share))
    exits = exit_steps(full.logits, rule)
    asked = {"record": True, "counts": True, "samples": True, "exit": rule}
    expected = network.run(images, num_steps, backend="reference", **asked)
    kept = np.arange(num_steps)[:, None] < exits
    np.testing.assert_array_equal(expected.exit_steps, exits)
    for name in BY_SAMPLE[: 4 if network.frames else 3]:
        whole = getattr(full, name)
        np.testing.assert_array_equal(getattr(expected, name), whole * (kept[..., None] if whole.ndim == 3 else kept))
    alone = [network.run(images[..., n : n + 1, :, :, :], int(steps), counts=True) for n, steps in enumerate(exits)]
    for layer, counts in enumerate(expected.counts):
        np.testing.assert_array_equal(counts, np.concatenate([run.counts[layer] for run in alone]))
    for threads in (1, 2):
        found = network.run(images, num_steps, num_threads=threads, **asked)
        assert_same(found, expected)
        for name in ("exit_steps", *BY_SAMPLE[: 4 if network.frames else 3]):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        lean = network.run(images, num_steps, num_threads=threads, exit=rule)
        np.testing.assert_array_equal(lean.logits, expected.logits)
        np.testing.assert_array_equal(lean.exit_steps, exits)


@FEW
@given(seeds, st.integers(0, 5), st.integers(1, 8))
def test_what_samples_spend_adds_up(seed, batch, num_steps) -> None:
    builder = Builder(seed)
    network = builder.network()
    images = builder.images(batch)
    for backend in ("auto", "reference"):
        run = network.run(images, num_steps, record=True, samples=True, backend=backend)
        np.testing.assert_array_equal(run.sample_spikes.sum(1), (run.positive + run.negative).sum(0))
        np.testing.assert_array_equal(run.sample_operations.sum(1), run.synaptic_operations.sum(0))
        assert (run.sample_input is None) == (run.input_operations is None)
        if run.sample_input is not None:
            np.testing.assert_array_equal(run.sample_input.sum(1), run.input_operations[0])
    for n in range(batch):
        alone = network.run(images[..., n : n + 1, :, :, :], num_steps, samples=True)
        np.testing.assert_array_equal(alone.sample_operations[:, 0], run.sample_operations[:, n])


def test_a_batch_of_none_and_a_rule_that_is_none() -> None:
    builder = Builder(3, leaky=False)
    network = builder.network()
    run = network.run(builder.images(0), 4, exit=Margin(1))
    assert run.logits.shape[:2] == (4, 0) and run.exit_steps.shape == (0,)
    with pytest.raises(SpikeletError, match=r"exit: expected None or a rule such as exits.Margin\(100\), got 0.9"):
        network.run(builder.images(1), 4, exit=0.9)


# The other networks that run


def adds_up(run) -> None:
    np.testing.assert_array_equal(run.sample_spikes.sum(1), (run.positive + run.negative).sum(0))
    np.testing.assert_array_equal(run.sample_operations.sum(1), run.synaptic_operations.sum(0))
    if run.input_operations is not None:
        np.testing.assert_array_equal(run.sample_input.sum(1), run.input_operations[0])


@pytest.mark.parametrize("notation", ["4C3-P2-FC5", "3C3p1-[3C3p1]-MP2-FC5"])
@pytest.mark.parametrize("moving", [False, True])
def test_samples_of_a_trained_network(notation, moving) -> None:
    torch.manual_seed(1)
    network = build(NetworkSettings(notation, neuron="lif", num_steps=4, surrogate="atan"), SHAPE)
    x = torch.poisson(torch.full((4, 3, *SHAPE), 0.7)) if moving else torch.randint(0, 256, (3, *SHAPE))
    together = network.run(x, record=True, samples=True)
    adds_up(together)
    for n in range(3):
        alone = network.run(x[:, n : n + 1] if moving else x[n : n + 1], samples=True)
        for name in BY_SAMPLE[: 4 if moving else 3]:
            np.testing.assert_array_equal(getattr(alone, name)[:, 0], getattr(together, name)[:, n], err_msg=name)


def test_samples_of_converted_networks_agree() -> None:
    network, images = trained(), torch.randint(0, 256, (6, *SHAPE), dtype=torch.uint8)
    integer = to_integer(network).run(images.numpy(), 5, record=True, samples=True)
    floating = to_spiking(network).run(images, 5, record=True, samples=True)
    for run in (integer, floating):
        adds_up(run)
    np.testing.assert_array_equal(integer.sample_operations, floating.sample_operations)
    np.testing.assert_array_equal(integer.sample_spikes, floating.sample_spikes)


@settings(max_examples=10, deadline=None)
@given(st.fixed_dictionaries(FIELDS), st.integers(0, 2**31), st.integers(1, 9))
def test_samples_and_exits_behind_time_surfaces(fields, seed, margin) -> None:
    trained, x = surfaces(fields, seed), binned(fields["num_steps"], seed=seed % 1000)
    converted = to_integer(trained)
    expected, found = (
        trained.run(x, record=True, samples=True),
        converted.run(x, record=True, counts=True, samples=True),
    )
    adds_up(expected)
    adds_up(found)
    for name in BY_SAMPLE:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    early = converted.run(x, record=True, counts=True, samples=True, exit=Margin(margin))
    adds_up(early)
    exits = exit_steps(found.logits, Margin(margin))
    np.testing.assert_array_equal(early.exit_steps, exits)
    kept = np.arange(x.num_steps)[:, None] < exits
    np.testing.assert_array_equal(early.sample_input, found.sample_input * kept)
    np.testing.assert_array_equal(early.sample_spikes, found.sample_spikes * kept)
    for n, steps in enumerate(exits):
        alone = converted.run(x[n : n + 1], int(steps), counts=True)
        for layer, counts in zip(early.counts, alone.counts, strict=True):
            np.testing.assert_array_equal(layer[n], counts[0])


# The evaluation


PIXELS = torch.randint(0, 256, (17, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
BATCHES = [(x, torch.arange(len(x)) % 3) for x in PIXELS.split(7)]


@pytest.mark.parametrize("rule", [Margin(300), Confidence(0.7, 200.0), Entropy(0.3, 300.0)])
@pytest.mark.parametrize("convert", [to_integer, to_spiking])
def test_the_report_is_what_a_run_that_stops_gives(rule, convert) -> None:
    integer, table = to_integer(trained()), EnergyTable(int8_mac=3.0, int_add=5.0, float_mac=3.0, float_add=5.0)
    if convert is to_spiking and isinstance(rule, Margin):
        return
    images, labels = (torch.cat(parts) for parts in zip(*BATCHES, strict=True))
    report = evaluate(convert(trained()), BATCHES, 6, exit=rule, energy=table)
    run, told = integer.run(images.numpy(), 6, record=True, exit=rule), report["exit"]
    assert told["accuracy"] == pytest.approx((run.logits.sum(0).argmax(1) == labels.numpy()).mean())
    assert told["mean_steps"] == pytest.approx(run.exit_steps.mean())
    assert told["histogram"] == np.bincount(run.exit_steps - 1, minlength=6).tolist()
    assert told["spikes_per_sample"] == pytest.approx((run.positive + run.negative).sum() / 17)
    operations = told["synaptic_operations_per_sample"]
    assert operations == pytest.approx(run.synaptic_operations.sum() / 17)
    first = report["macs_per_sample"]["first_layer"]
    assert told["energy_per_sample_joule"] == pytest.approx(3 * first + 5 * operations)
    whole = evaluate(convert(trained()), BATCHES, 6, energy=table)
    assert {key: value for key, value in report.items() if key not in ("exit", "seconds")} == {
        key: value for key, value in whole.items() if key != "seconds"
    }
    curve = told["curve"]
    assert curve["mean_steps"] == sorted(curve["mean_steps"]) and curve["threshold"] == sorted(curve["threshold"])
    assert curve["accuracy"][-1] == whole["accuracy"] and curve["mean_steps"][-1] == 6
    assert curve["synaptic_operations_per_sample"][-1] == pytest.approx(
        whole["synaptic_operations_per_sample"]["total"]
    )


@pytest.mark.parametrize("integers", [True, False])
def test_frames_of_a_trained_network_cost_operations_until_the_exit(integers) -> None:
    settings = NetworkSettings("4C3-FC3", neuron="lif", num_steps=5, arithmetic="integer" if integers else "float")
    torch.manual_seed(1)
    network = build(settings, SHAPE)
    x, labels = torch.poisson(torch.full((5, 6, *SHAPE), 0.5)).to(torch.uint8), torch.arange(6) % 3
    ran = to_integer(network, frames=True) if integers else network
    rule = Margin(1) if integers else Confidence(0.6)
    report = evaluate(ran, [(x, labels)], 5, exit=rule)
    full = ran.run(x.numpy() if integers else x, 5, samples=True)
    spent = (full.sample_operations + full.sample_input).cumsum(0)
    exits = exit_steps(full.logits, rule)
    assert report["exit"]["synaptic_operations_per_sample"] == pytest.approx(spent[exits - 1, range(6)].mean())
    assert 0 < report["exit"]["energy_per_sample_joule"] <= report["energy_per_sample_joule"]["snn"]


def test_a_rule_is_fitted_on_the_loader_alone() -> None:
    integer, floating = to_integer(trained()), to_spiking(trained())
    logits = np.concatenate([integer.run(x.numpy(), 6).logits for x, _ in BATCHES], axis=1)
    labels = torch.cat([y for _, y in BATCHES]).numpy()
    fitted = fit_exit(Confidence(0.9), integer, BATCHES, 6)
    assert fitted == Confidence(0.9, fit_temperature(logits, labels))
    assert fit_exit(Margin(1), integer, BATCHES, 6, loss=0.1) == choose(logits, Margin(1), 0.1)
    assert fit_exit(Confidence(0.9, 5.0), floating, BATCHES, 6, temperature=False, loss=0.0).temperature == 5.0
    with pytest.raises(SpikeletError, match="loader: it yields no images"):
        fit_exit(Margin(1), integer, [], 6, loss=0.0)
