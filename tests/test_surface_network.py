"""Networks behind time surfaces in integers: the same spikes as trained, one file, convert and evaluate."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikelet import NetworkSettings, SpikeletError, build, cli, load, to_integer
from spikelet.convert import check_trained
from spikelet.datasets import NMNIST
from spikelet.errors import FormatError
from spikelet.evaluate import evaluate
from spikelet.events import Binned
from spikelet.integer import IntegerNetwork
from spikelet.networks import SNN, SurfaceNetwork

SHAPE = (2, 7, 9)
FIELDS = {
    "notation": st.sampled_from(["TS3r1-FC20-FC10", "TS2x3r1-6C2-12-FC10", "TS3r1-FC10"]),
    "weights": st.sampled_from(["cbp_binary", "cbp_ternary"]),
    "last": st.sampled_from(["integer", "parity"]),
    "neuron": st.sampled_from(["srm", "srm", "lif"]),
    "norm": st.sampled_from(["batch", "none"]),
    "temporal_kernel": st.sampled_from(["kt", "ktzs"]),
    "num_steps": st.integers(1, 30),
}
DTS = {"dt": 0.005, "tau_m": 0.06, "tau_s": 0.02, "tau_1": 0.05, "tau_2": 0.1, "v_threshold": 0.05, "init_gain": 2.3}
SAME = ("layers", "logits", "neurons", "positive", "negative", "synaptic_operations")
SAME += ("input_events", "input_operations")


def network(fields: dict, seed: int = 1, arithmetic: str = "integer") -> SNN:
    torch.manual_seed(seed)
    fields = DTS | {"neuron": "srm", "norm": "none", "weights": "cbp_ternary"} | fields
    if fields["neuron"] == "lif":
        fields |= {"tau_m": 5.0, "tau_s": 3.0, "beta": 0.9}
    if fields["notation"].count("-") == 1:  # no layer between the first and the last
        fields |= {"weights": "float"}
    return build(NetworkSettings(**fields, arithmetic=arithmetic), SHAPE).eval()


def binned(num_steps: int, number: int = 4, seed: int = 1) -> Binned:
    width, height, polarities = SHAPE[2], SHAPE[1], SHAPE[0]
    drawn = torch.rand(number, num_steps, polarities * height * width, generator=torch.Generator().manual_seed(seed))
    recordings, steps, sites = torch.nonzero(drawn < 0.1, as_tuple=True)
    starts = torch.nn.functional.pad(torch.bincount(recordings, minlength=number).cumsum(0), (1, 0))
    return Binned(steps.int(), sites.int(), starts, num_steps, (width, height, polarities))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries(FIELDS), st.integers(0, 2**31))
def test_in_integer_arithmetic_everything_is_equal(fields, seed) -> None:
    trained, x = network(fields, seed), binned(fields["num_steps"], seed=seed % 1000)
    converted = to_integer(trained)
    assert isinstance(converted, SurfaceNetwork)
    expected, found = trained.run(x, record=True), converted.run(x, record=True)
    for name in SAME:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    assert (found.effective_operations <= found.synaptic_operations).all()
    steps = max(1, fields["num_steps"] // 2)
    np.testing.assert_array_equal(converted.run(x, steps).logits, expected.logits[:steps])
    agreement = check_trained(trained, converted, [(x, torch.zeros(4, dtype=torch.int64))])
    assert agreement["neurons"] == agreement["answers"] == 1
    assert list(agreement["per_layer"]) == list(trained.spiking())


@settings(max_examples=10, deadline=None)
@given(st.fixed_dictionaries(FIELDS), st.integers(0, 2**31))
def test_a_file_stands_alone(fields, seed) -> None:
    import tempfile

    converted, x = to_integer(network(fields, seed), metadata={"seed": seed}), binned(fields["num_steps"])
    with tempfile.TemporaryDirectory() as folder:
        path = converted.save(Path(folder) / "network.safetensors")
        again, body = load(path), IntegerNetwork.load(path)
        assert isinstance(again, SurfaceNetwork) and again.metadata["seed"] == seed
        assert load(again.save(path)).describe() == converted.describe()
    assert body.frames == 1 and body.describe() == again.describe()[1:]
    expected, found = (net.run(x, record=True, counts=True) for net in (converted, again))
    for name in SAME:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    for a, b in zip(found.counts, expected.counts, strict=True):
        np.testing.assert_array_equal(a, b)


def test_arithmetic_changes_little() -> None:
    plain, x = network({"notation": "TS3r1-FC50-FC10", "num_steps": 40}, arithmetic="float"), binned(40, 20)
    agreement = check_trained(plain, to_integer(plain), [(x, torch.zeros(20, dtype=torch.int64))])
    assert agreement["per_layer"]["TS3r1"] == 1 and agreement["neurons"] > 0.97


def test_long_recordings_are_compared_to_the_end() -> None:
    trained, x = network({"notation": "TS3r1-FC10-FC10", "num_steps": 300, "v_threshold": 0.02}), binned(300, 2)
    assert max(int(counts.max()) for counts in to_integer(trained).run(x, counts=True).counts) > 127
    assert check_trained(trained, to_integer(trained), [(x, torch.zeros(2, dtype=torch.int64))])["neurons"] == 1


def test_the_report_multiplies_in_the_surfaces_and_adds_behind_them() -> None:
    trained, x = network({"notation": "TS3r1-FC20-FC10", "num_steps": 20}), binned(20)
    loader = [(x, torch.zeros(4, dtype=torch.int64))]
    ours, theirs = evaluate(to_integer(trained), loader, 20), evaluate(trained, loader, 20)
    for key in ("accuracy_per_step", "spikes_per_sample", "neurons", "input", "weight_bytes_float32"):
        assert ours[key] == theirs[key], key
    total = ours["synaptic_operations_per_sample"]["total"]
    assert total == theirs["synaptic_operations_per_sample"]["total"]
    multiplied = ours["input"]["events_per_sample"] * 9
    assert ours["synaptic_operations_per_sample"]["per_layer"]["input"] == multiplied
    spent = multiplied * 4.6e-12 + (total - multiplied) * 0.1e-12
    assert ours["energy_per_sample_joule"]["snn"] == pytest.approx(spent)
    with pytest.raises(SpikeletError, match="input_noise: events in front of time surfaces"):
        evaluate(to_integer(trained), loader, 20, input_noise=0.5)


def test_what_does_not_fit_is_one_clear_error(tmp_path: Path) -> None:
    converted = to_integer(network({"notation": "TS3r1-FC20-FC10", "num_steps": 5}))
    with pytest.raises(SpikeletError, match=r"events: expected events\.Binned, for time surfaces, got Tensor"):
        converted.run(torch.zeros(5, 2, *SHAPE), 5)
    with pytest.raises(SpikeletError, match="num_steps: expected 1 to 5, got 6"):
        converted.run(binned(5), 6)
    with pytest.raises(SpikeletError, match="events: expected sensor_size"):
        converted.run(Binned(*(torch.zeros(k, dtype=torch.int64) for k in (0, 0, 2)), 5, (3, 3, 2)), 5)
    with pytest.raises(SpikeletError, match="body: expected an integer network of frames"):
        SurfaceNetwork(converted.front, to_integer(build("4C3-FC10", (1, 8, 8))), "TS3r1")
    file = converted.save(tmp_path / "net.safetensors")
    body = IntegerNetwork.load(file)
    for key, value in (("weight", [[0.0]]), ("encoder", {}), ("neuron", {"beta": 3.0})):
        body.metadata["time_surfaces"] = IntegerNetwork.load(file).metadata["time_surfaces"] | {key: value}
        with pytest.raises(FormatError, match=r"bad\.safetensors: its time surfaces are not valid"):
            load(body.save(tmp_path / "bad.safetensors"))


@pytest.fixture
def at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    NMNIST.write_fake(tmp_path / "data", num_train=24, num_test=6)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPIKELET_DATA", str(tmp_path / "data"))
    return tmp_path


def train(recipe: str, *words: str) -> int:
    short = ["data.verify=false", "train.num_epochs=1", "train.batch_size=4", "trainer.limit_train_batches=2"]
    short += ["trainer.limit_val_batches=1", "trainer.enable_progress_bar=false", "num_threads=1", "evaluate.samples=0"]
    return cli.main(["train", f"recipe={recipe}", *short, "model.num_steps=12", *words])


@pytest.mark.parametrize("weights", ["cbp_ternary", "cbp_binary"])
def test_convert_and_evaluate_a_run(weights, at_work, capsys) -> None:
    given = [f"model.weights={weights}", "model.notation=TS6r1-FC40-FC10"]
    assert train("nmnist-dts", *given, "exp_id=plain") == 0
    assert cli.main(["convert", "plain"]) == 0
    assert "agreement: " in capsys.readouterr().out
    report = json.loads((at_work / "runs/plain/report.json").read_text())
    assert report["agreement"]["per_layer"]["TS6r1"] == 1 and report["agreement"]["neurons"] > 0.9
    assert load("plain").body.nodes[0].bits == (1 if weights == "cbp_binary" else 2)
    file = "runs/plain/network.safetensors"
    assert cli.main(["evaluate", file, "data.verify=false", "num_threads=1", "output=alone", "num_steps=7"]) == 0
    alone = json.loads((at_work / "alone/report.json").read_text())
    assert alone["num_samples"] == 6 and alone["num_steps"] == 7 and len(alone["accuracy_per_step"]) == 7


def test_a_run_in_integer_arithmetic_agrees_in_every_neuron(at_work, capsys) -> None:
    given = ["model.weights=cbp_ternary", "model.notation=TS6r1-FC40-FC10", "model.arithmetic=integer", "exp_id=exact"]
    assert train("nmnist-dts", *given) == 0
    assert "every neuron of the integer network fires as trained" in capsys.readouterr().out
    assert cli.main(["evaluate", "exact"]) == 0
    again = json.loads((at_work / "runs/exact/report.json").read_text())["agreement"]
    assert again["neurons"] == again["answers"] == 1


def test_convert_a_run_on_frames(at_work, capsys) -> None:
    assert train("nmnist-csnn", "model.weights=cbp_ternary", "exp_id=pooled") == 0
    assert cli.main(["convert", "pooled"]) == 2
    assert "layer 12C5: pooled currents have no integer form" in capsys.readouterr().err
    given = ["model.weights=cbp_ternary", "model.notation=4C5-P2-6C5-P2-FC10", "data.frame_us=20000"]
    assert train("nmnist-csnn", *given, "model.arithmetic=integer", "model.v_threshold=0.2", "exp_id=frames") == 0
    report = json.loads((at_work / "runs/frames/report.json").read_text())
    assert report["agreement"]["neurons"] == report["agreement"]["answers"] == 1
    assert report["spikes_per_sample"]["total"] > 0 and report["input"]["events_per_sample"] > 0
    file = "runs/frames/network.safetensors"
    assert load(file).frames == 255
    assert cli.main(["evaluate", file, "data.verify=false", "num_threads=1", "output=alone"]) == 0
    alone = json.loads((at_work / "alone/report.json").read_text())
    for key in ("accuracy_per_step", "spikes_per_sample", "input", "synaptic_operations_per_sample"):
        assert alone[key] == report[key], key
