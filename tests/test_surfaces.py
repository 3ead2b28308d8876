"""Networks that begin with time surfaces: sizes, time, what a run counts, recipes and their words, errors."""

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from spikelet import NetworkSettings, SpikeletError, build, cli
from spikelet.datasets import NMNIST
from spikelet.events import Binned, bin_batch, make_events, pack
from spikelet.networks import SNN, record_spikes
from spikelet.recipes import schema

PLAIN = {"weights": "float", "first": "parity", "last": "parity", "norm": "none", "bias": False}
SRM = {"neuron": "srm", "tau_m": 0.06, "tau_s": 0.02, "dt": 0.005, "tau_1": 0.05, "tau_2": 0.1, "v_threshold": 0.05}
SENSOR = (12, 9, 2)


def network(notation: str = "TS4r1-FC20-FC3", shape: tuple[int, int, int] = (2, 9, 12), **settings) -> SNN:
    torch.manual_seed(1)
    given = SRM | PLAIN | {"num_steps": 8, "init_gain": 3.0, "surrogate": "boxcar", "slope": 0.1, "height": 1.0}
    made = build(NetworkSettings(notation, **(given | settings)), shape)
    assert isinstance(made, SNN)
    return made


def events(num: int = 4, num_steps: int = 8, sensor: tuple[int, int, int] = SENSOR) -> Binned:
    rng = np.random.default_rng(3)
    width, height, polarities = sensor
    recordings = []
    for size in rng.integers(40, 90, num):
        t = np.sort(rng.integers(0, num_steps * 5_000, size))
        x, y, p = (rng.integers(0, n, size) for n in (width, height, polarities))
        recordings.append(make_events(t, x, y, p))
    return bin_batch(pack(recordings, sensor), np.arange(num), num_steps, 5_000)


@pytest.mark.parametrize(
    ("notation", "shape", "sizes"),
    [
        ("TS16r3-FC400-FC11", (2, 128, 128), [3136, 400, 11]),
        ("TS10r2-FC400-FC2", (2, 100, 120), [3000, 400, 2]),
        ("TS20r1-FC128-FC20", (1, 1, 700), [105, 128, 20]),
    ],
)
def test_the_published_networks_have_their_sizes(notation: str, shape: tuple[int, int, int], sizes: list[int]) -> None:
    made = network(notation, shape)
    assert [made.blocks()[name].op.weight.shape[1] for name in made.blocks()] == sizes[:-1]
    hidden = [row["weights"] for row in made.describe()[1:]]
    assert hidden == [a * b for a, b in pairwise(sizes)]


def test_no_step_knows_of_later_ones() -> None:
    made, x = network().eval(), events()
    everything = made(x)
    assert everything.any()
    for steps in (1, 3, 7):
        assert torch.equal(made(x, num_steps=steps), everything[:steps])


def test_samples_of_a_batch_do_not_know_each_other() -> None:
    made, x = network().eval(), events()
    alone = torch.cat([made(x[i : i + 1]) for i in range(len(x))], dim=1)
    assert torch.equal(made(x), alone)


def test_gradients_reach_every_weight() -> None:
    made = network()
    made(events()).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in made.parameters())


def test_a_run_counts_what_really_happened() -> None:
    made, x = network(), events()
    run = made.run(x, record=True)
    with torch.no_grad(), record_spikes(made.eval()) as spikes:
        made(x)
    assert run.layers == tuple(spikes) == ("TS4r1", "FC20", "FC3")
    assert run.positive is not None and run.synaptic_operations is not None and run.input_operations is not None
    for row, train in enumerate(spikes.values()):
        assert run.positive[row].tolist() == train.flatten(1).sum(1).tolist()
    assert run.input_events is not None
    assert run.input_events.tolist() == np.bincount(x.steps, minlength=8).tolist()
    assert run.input_operations[0].tolist() == (9 * run.input_events).tolist()
    assert run.synaptic_operations[0].tolist() == (20 * run.positive[0]).tolist()


def test_a_convolution_may_follow() -> None:
    assert network("TS3r1-6C3p1-MP2-FC3", norm="batch")(events()).shape == (8, 4, 3)


@pytest.mark.parametrize(
    ("made", "x", "said"),
    [
        (network(), torch.zeros(8, 4, 2, 9, 12), "x: expected events.Binned of a sensor"),
        (network(), events(sensor=(12, 8, 2)), "x: expected events.Binned of a sensor"),
        (network("4C3-FC3", neuron="lif", tau_m=5.0, tau_s=3.0), events(), "x: expected images or frames"),
    ],
)
def test_a_wrong_input_is_refused(made: SNN, x: torch.Tensor | Binned, said: str) -> None:
    with pytest.raises(SpikeletError, match=said):
        made(x)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"notation": "4C3-TS4r1-FC3"}, "model.notation: TS4r1 can only come first"),
        ({"notation": "TS4-FC3"}, "model.notation: cannot read 'TS4'"),
        ({"temporal_kernel": "kz"}, "model.temporal_kernel: expected one of kt, ktzs"),
        ({"tau_2": 0.01}, "model.tau_1, model.tau_2: expected tau_1 < tau_2"),
        ({"dt": 0}, "model.dt: expected a positive number"),
        ({"tau_s": 0.06}, "model.tau_m, model.tau_s: expected tau_m > tau_s > 0"),
        ({"height": 1.0, "surrogate": "atan", "slope": None}, "model.height: expected a positive number, of boxcar"),
        ({"learn_beta": True}, "model.learn_beta: expected false with model.neuron=srm"),
    ],
)
def test_bad_settings_are_refused_by_name(settings: dict, said: str) -> None:
    with pytest.raises(SpikeletError, match=said):
        network(**settings)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nmnist")
    NMNIST.write_fake(root, num_train=60, num_test=20)
    return root


SHORT = ["data.verify=false", "num_threads=1", "trainer.enable_progress_bar=false", "train.lr=0.003"]


def test_words_of_the_work_mean_what_they_say(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["recipe=nmnist-dts", f"data.root={recordings}", *SHORT, "exp_id=run", "train.num_epochs=3"]
    assert cli.main(["train", *words, "ds=2", "dt=10", "T=30", "temporal_kernel=kt"]) == 0
    config = schema.load(tmp_path / "runs" / "run" / "config.yaml")
    assert (config.data.downsample, config.model.dt, config.model.num_steps) == (2, 0.01, 30)
    assert config.model.temporal_kernel == "kt"
    report = json.loads((tmp_path / "runs" / "run" / "report.json").read_text())
    assert report["neurons"]["per_layer"]["TS6r2"] == 25 * 3 * 3  # of 17 x 17 pixels
    assert report["num_samples"] == 20 and len(report["accuracy_per_step"]) == 30
    entered = report["input"]["events_per_sample"]
    assert report["macs_per_sample"]["multiplied"] == pytest.approx(25 * entered) and entered > 0
    table = capsys.readouterr().out
    assert re.search(r"first layer.* MAC.* MAC", table) and re.search(r"operations.* MAC.* add", table)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dt=0"], "dt: expected a step's duration in ms, above 0, got '0'"),
        (["dt=0.0001"], "model.dt: of time surfaces, expected whole microseconds"),
        (["model.dt=1"], "model.dt: of time surfaces, expected a step's duration in seconds"),
        (["ds=0"], "data.downsample: expected at least 1, got 0"),
        (["data.frame_us=1000"], "data.frame_us: with time surfaces"),
        (["data.name=mnist"], "model.notation: time surfaces .* are for recordings, mnist holds images"),
        (["model.notation=4C3-FC10", "ds=2", "model.neuron=lif"], "data.downsample: without time surfaces"),
    ],
)
def test_words_that_do_not_fit_are_refused(
    words: list[str], said: str, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "recipe=nmnist-dts", f"data.root={recordings}", *SHORT, *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") <= 2 and re.search(said, error), error
    assert not (tmp_path / "runs").exists()
