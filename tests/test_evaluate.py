"""A report's numbers against a count by hand."""

import json

import numpy as np
import pytest
import torch

from spikelet import SpikeletError, build, to_integer, to_spiking
from spikelet.evaluate import add_noise, evaluate, evaluate_ann, provenance, save_report
from spikelet.metrics import EnergyTable
from spikelet.networks import NetworkSettings

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    net = build("4C3-P2-FC3", SHAPE)
    for _ in range(3):
        net(torch.randint(0, 256, (32, *SHAPE)))
    return net.eval()


@pytest.fixture(scope="module")
def batches():
    g = torch.Generator().manual_seed(0)
    return [(torch.randint(0, 256, (n, *SHAPE), generator=g).to(torch.uint8), torch.arange(n) % 3) for n in (5, 5, 2)]


def test_report_against_a_count_by_hand(network, batches, tmp_path) -> None:
    converted = to_integer(network)
    report = evaluate(converted, batches, num_steps=6, network=network, logs_dir=tmp_path)
    run = converted.run(torch.cat([x for x, _ in batches]).numpy(), 6, record=True)
    labels = torch.cat([y for _, y in batches]).numpy()
    answers = run.logits.cumsum(0).argmax(2)
    assert report["accuracy_per_step"] == pytest.approx((answers == labels).mean(1).tolist())
    assert report["num_samples"] == 12 and report["num_steps"] == 6
    spikes = report["spikes_per_sample"]
    assert spikes["positive"] == pytest.approx(run.positive.sum() / 12)
    assert spikes["negative"] == pytest.approx(run.negative.sum() / 12)
    assert spikes["net"] == pytest.approx(spikes["positive"] - spikes["negative"])
    assert report["firing_rate"] == pytest.approx(spikes["total"] / (run.neurons.sum() * 6))
    operations = report["synaptic_operations_per_sample"]
    assert operations["total"] == pytest.approx(run.synaptic_operations.sum() / 12)
    assert sum(operations["per_step"]) == pytest.approx(operations["total"])
    assert operations["effective"] <= operations["total"]
    assert report["macs_per_sample"] == {"total": 4 * 36 * 9 + 9 * 4 * 16 + 36 * 3, "first_layer": 4 * 36 * 9}
    assert report["weight_bytes"] == 36 + 64 // 4 + 108
    evaluate(converted, batches, num_steps=6, logs_dir=tmp_path / "e", first_weight=4)
    by_e = np.loadtxt(tmp_path / "e" / "spike_num.txt").reshape(3, 6)[:, -1].sum()
    assert by_e == (run.positive + run.negative)[1:].sum()
    assert np.loadtxt(tmp_path / "e" / "sop_num.txt").reshape(3, 6)[:, -1].sum() == (
        run.synaptic_operations.sum() + 3 * run.synaptic_operations[0].sum()
    )
    logged = np.loadtxt(tmp_path / "spike_num.txt").reshape(3, 6)
    assert logged[:, -1].sum() == pytest.approx(spikes["total"] * 12)
    assert (np.loadtxt(tmp_path / "accuracy.txt").reshape(3, 6).sum(0) / 12).tolist() == report["accuracy_per_step"]


def test_energy_is_the_tables(network, batches) -> None:
    table = EnergyTable(float_mac=1.0, float_add=2.0, int8_mac=3.0, int_add=5.0)
    report = evaluate(to_integer(network), batches, 4, energy=table)
    macs, sop = report["macs_per_sample"], report["synaptic_operations_per_sample"]["total"]
    energy = report["energy_per_sample_joule"]
    assert energy["snn"] == pytest.approx(3 * macs["first_layer"] + 5 * sop)
    assert energy["ann"] == macs["total"] and energy["ann_int8"] == 3 * macs["total"]
    float_report = evaluate(to_spiking(network), batches, 4, energy=table)
    assert float_report["energy_per_sample_joule"]["snn"] == pytest.approx(macs["first_layer"] + 2 * sop, rel=0.05)


def test_noise_does_not_depend_on_the_batch_size(network, batches) -> None:
    converted = to_integer(network)
    whole = [(torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))]
    a, b = (evaluate(converted, loader, 4, input_noise=0.8, seed=3) for loader in (batches, whole))
    assert a["spikes_per_sample"] == b["spikes_per_sample"]
    assert a["spikes_per_sample"] != evaluate(converted, whole, 4)["spikes_per_sample"]


def test_noise_stays_a_pixel() -> None:
    noisy = add_noise(torch.full((2, 1, 20, 20), 250, dtype=torch.uint8), 1.0, np.random.default_rng(0))
    assert noisy.dtype == torch.uint8 and noisy.max() == 255 and noisy.min() >= 125


def test_full_precision_report(batches) -> None:
    net = build(NetworkSettings("4C3-P2-FC3", k=None, weights="float", first="parity", last="parity"), SHAPE).eval()
    report = evaluate_ann(net, batches)
    assert report["weight_bytes"] == 4 * (36 + 64 + 108) and report["num_samples"] == 12


@pytest.mark.parametrize(("key", "value"), [("num_steps", 0), ("input_noise", -1.0)])
def test_bad_arguments(network, batches, key, value) -> None:
    with pytest.raises(SpikeletError, match=f"{key}: expected"):
        evaluate(to_integer(network), batches, **{key: value})


def test_report_is_json(network, batches, tmp_path) -> None:
    report = evaluate(to_integer(network), batches, 3) | provenance()
    path = save_report(report, tmp_path / "report.json")
    assert json.loads(path.read_text())["accuracy"] == report["accuracy"]
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
