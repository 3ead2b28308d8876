"""Correction in the loop: the gain of the weights, networks with it, their training, their integer form."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spikelet import NetworkSettings, SpikeletError, TrainSettings, build, fit, load_network
from spikelet.convert import to_integer
from spikelet.datasets import DATASETS, loader
from spikelet.errors import ConversionError
from spikelet.networks import SNN, RateGain
from spikelet.neurons import LIF, AdaptiveLIF

SHAPE = (1, 8, 8)
NOTATION = "6C3-MP2-8C3p1-FC10"
PARTS = ["threshold", "leak", "gain"]
EVERYTHING = {"correction": PARTS, "coding": ["direct", "rate", "latency"], "coding_gain": True, "coding_stage": True}


def network(notation: str = NOTATION, **chosen) -> SNN:
    torch.manual_seed(1)
    given = {"neuron": "lif", "num_steps": 4, "weights": "float", "surrogate": "atan", "v_threshold": 0.3}
    made = build(NetworkSettings(notation, **(given | chosen)), SHAPE)
    assert isinstance(made, SNN)
    return made


def images(number: int = 3) -> Tensor:
    return torch.randint(256, (number, *SHAPE), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)


# ---------------------------------------------------------------- the gain


@given(st.floats(0, 1), st.floats(0, 100), st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_the_gain_is_clipped(target: float, strength: float, rates: list[float]) -> None:
    gain = RateGain(len(rates), target, strength)
    assert gain().tolist() == [1.0] * len(rates)
    gain.rate.copy_(torch.tensor(rates))
    expected = [min(1.5, max(0.5, 1 + strength * (target - rate))) for rate in rates]
    assert gain().tolist() == pytest.approx(expected, abs=1e-5)


def test_rates_are_means_of_passes_with_momentum() -> None:
    gain, expected = RateGain(3, target=0.1), torch.full((3,), 0.1)
    for seed in range(4):
        spikes = (torch.rand(5, 2, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) < 0.3).float()
        gain.update(spikes)
        expected = 0.9 * expected + 0.1 * spikes.mean((0, 1, 3, 4))
    assert torch.allclose(gain.rate, expected)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_gain_moves_in_training_only_and_scales_the_weights(norm: str) -> None:
    floats = {"norm": norm, "first": "parity", "last": "parity"}
    corrected, plain = (network(**floats, correction=parts) for parts in (["gain"], []))
    assert torch.equal(corrected(images()), plain(images()))  # it begins at 1, and moves after the pass
    corrected.eval(), plain.eval()
    gains = [block.gain for block in corrected.blocks().values()]
    assert all((gain.rate != 0.1).any() for gain in gains)
    before = [gain.rate.clone() for gain in gains]
    for gain in gains:
        gain.strength = 5.0
    answers = corrected(images())
    assert all(torch.equal(gain.rate, rate) for gain, rate in zip(gains, before, strict=True))
    assert answers.any() and not torch.equal(answers, plain(images()))
    with torch.no_grad():
        for block, gain in zip(plain.blocks().values(), gains, strict=True):
            weight = block.op.weight if norm == "none" else block.norm.weight
            weight.mul_(gain().reshape(-1, *[1] * (weight.dim() - 1)))
    assert torch.equal(plain(images()), answers)


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize("parts", [[], ["threshold"], ["leak"], ["gain"], PARTS])
def test_every_part_is_a_switch(parts: list[str]) -> None:
    snn = network(correction=parts)
    kind = AdaptiveLIF if {"threshold", "leak"} & {*parts} else LIF
    for block in snn.blocks().values():
        assert type(block.neuron) is kind and (block.gain is not None) == ("gain" in parts)
        if isinstance(block.neuron, AdaptiveLIF):
            assert block.neuron.adaptation[:2] == ("threshold" in parts, "leak" in parts)
    plain = network().state_dict()
    assert all(torch.equal(snn.state_dict()[key], value) for key, value in plain.items())
    if "threshold" not in parts:  # b begins at 0, the gain at 1
        logits = snn.eval()(images())
        assert logits.any() and torch.equal(logits, network().eval()(images()))


def test_gradients_reach_every_parameter() -> None:
    snn = network(**EVERYTHING)
    snn(images()).mean(0).logsumexp(1).sum().backward()
    assert not [n for n, p in snn.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    learned = [p.grad for block in snn.blocks().values() for p in block.neuron.parameters()]
    assert sum(bool(grad.any()) for grad in learned) >= len(learned) - 3


def test_samples_of_a_batch_do_not_know_each_other() -> None:
    snn = network(correction=PARTS).eval()
    for block in snn.blocks().values():
        nn.init.constant_(block.neuron.b, 0.5)
    alone = torch.cat([snn(image[None]) for image in images()], dim=1)
    assert alone.any() and torch.equal(snn(images()), alone)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"correction": ["weights"]}, r"model.correction: expected some of threshold, leak, gain, each once, got \["),
        ({"correction": ["leak", "leak"]}, "model.correction: expected some of threshold, leak, gain, each once"),
        ({"correction": ["gain"], "neuron": "srm"}, "model.correction: only with model.neuron=lif, not srm"),
        ({"correction": ["gain"], "neuron": None}, "model.correction: only with model.neuron=lif, not None"),
        (
            {"correction": ["leak"], "reset": "subtract_next"},
            "model.reset: with model.correction, expected subtract or",
        ),
        ({"correction": ["leak"], "beta": 1.0}, "model.beta: of a leak that moves, expected between 0 and 1, got 1.0"),
        ({"adapt_decay": 1.5}, "model.adapt_decay: expected 0 to 1, got 1.5"),
        ({"gain_strength": -1.0}, "model.gain_strength: expected at least 0, got -1.0"),
    ],
)
def test_bad_settings_are_refused_by_name(chosen: dict, said: str) -> None:
    with pytest.raises(SpikeletError, match=said):
        network(**chosen)


# ---------------------------------------------------------------- training


def train(run_dir=None, epochs: int = 2, resume: bool = False) -> SNN:
    torch.manual_seed(1)
    batches = loader(DATASETS["digits"](split="train"), 64, shuffle=True, seed=1)
    how = TrainSettings(num_epochs=2, lr=0.01, batch_size=64)
    stop = {"max_epochs": epochs, "enable_progress_bar": False, "limit_train_batches": 6}
    return fit(network("6C3-MP2-FC10", **EVERYTHING), batches, None, how, run_dir=run_dir, resume=resume, trainer=stop)


def test_resumed_equals_uninterrupted_and_is_read_back(tmp_path) -> None:
    whole = train(tmp_path / "whole")
    train(tmp_path / "parts", epochs=1)
    parts = train(tmp_path / "parts", resume=True)
    read = load_network(tmp_path / "parts" / "checkpoints" / "last.ckpt")
    for key, value in whole.state_dict().items():
        assert torch.equal(parts.state_dict()[key], value) and torch.equal(read.state_dict()[key], value), key
    logits = read.run(images()).logits
    assert logits.any() and (whole.run(images()).logits == logits).all()


# ---------------------------------------------------------------- integers


@pytest.mark.parametrize("parts", [["threshold"], ["leak", "gain"]])
def test_what_moves_has_no_integer_form(parts: list[str]) -> None:
    with pytest.raises(ConversionError, match=r"layer 6C3: a threshold or leak that moves \(model.correction\)"):
        to_integer(network("6C3-FC10", correction=parts).eval())


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["batch", "none"]), st.sampled_from(["spikes", "current"]), st.integers(0, 2**31))
def test_a_gain_is_part_of_the_integer_form(norm: str, readout: str, seed: int) -> None:
    chosen = {"correction": ["gain"], "gain_strength": 2.0, "norm": norm, "readout": readout}
    snn = network("6C3-8C3p1-FC10", **chosen, arithmetic="integer").eval()
    for module in snn.modules():
        if isinstance(module, RateGain):
            module.rate.uniform_(0, 0.5, generator=torch.Generator().manual_seed(seed))
    found = to_integer(snn).run(images().numpy(), 4, record=True)
    expected = snn.run(images(), 4, record=True)
    assert expected.positive.any() and (found.positive == expected.positive).all()
    assert (found.logits.sum(0).argmax(1) == expected.logits.sum(0).argmax(1)).all()
