"""The learned mix of codes, its gain, the coding stage, and networks that have them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spikelet import NetworkSettings, SpikeletError, build
from spikelet.convert import to_integer
from spikelet.encoders import FRAME_CODES, IMAGE_CODES, CodingStage, DynamicCode, delta, latency, rate
from spikelet.errors import ConversionError
from spikelet.networks import SNN
from spikelet.recipes import build as recipe
from spikelet.recipes import schema

SHAPE = (2, 6, 5)
IMAGES = st.lists(st.sampled_from(IMAGE_CODES), min_size=1, unique=True)
FRAMES = st.lists(st.sampled_from(FRAME_CODES), min_size=1, unique=True)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(seed: int = 0, number: int = 3) -> Tensor:
    return torch.rand(number, *SHAPE, generator=seeded(seed))


def frames(num_steps: int = 5) -> Tensor:
    return torch.poisson(torch.full((num_steps, 3, *SHAPE), 0.4), generator=seeded(0))


def taught(code: DynamicCode) -> DynamicCode:
    """With a mix and a gain that were not what they begin as."""
    for parameter in code.parameters():
        nn.init.normal_(parameter)
    return code


# ---------------------------------------------------------------- the code


@settings(max_examples=30, deadline=None)
@given(IMAGES, st.integers(1, 6), st.booleans(), st.integers(0, 2**31))
def test_untrained_it_is_the_mean_of_its_codes(codes: list[str], num_steps: int, gain: bool, seed: int) -> None:
    x = images(seed)
    bank = {
        "direct": x.expand(num_steps, *x.shape),
        "latency": latency(x, num_steps),
        "rate": rate(x, num_steps, seeded(seed)),
    }
    found = DynamicCode(codes, num_steps, gain)(x, generator=seeded(seed))
    assert torch.allclose(found, torch.stack([bank[name] for name in codes]).mean(0), atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(FRAMES, st.integers(1, 6), st.booleans())
def test_frames_are_mixed_with_their_changes(codes: list[str], num_steps: int, gain: bool) -> None:
    x = frames(num_steps)
    bank = {"event": x, "delta": delta(x)}
    found = DynamicCode(codes, 4, gain)(x)
    assert torch.allclose(found, torch.stack([bank[name] for name in codes]).mean(0), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(IMAGES, st.integers(1, 6), st.integers(1, 9), st.booleans())
def test_fewer_steps_are_the_first_ones(codes: list[str], num_steps: int, asked: int, gain: bool) -> None:
    code, x = taught(DynamicCode(codes, num_steps, gain)).eval(), images()
    found, whole = code(x, asked), code(x)
    assert len(found) == asked
    if asked <= num_steps:
        assert torch.equal(found, whole[:asked])
    elif "rate" not in codes:
        assert torch.equal(found[:num_steps], whole)


def test_the_mix_is_a_softmax_and_the_gain_depends_on_the_sample() -> None:
    x = images()
    code = taught(DynamicCode(["direct", "latency"], 4, gain=True))
    shares = code.a.softmax(0)
    mixed = shares[0] * x + shares[1] * latency(x, 4)
    ratio = (code(x) / mixed).flatten(2)
    assert torch.allclose(ratio, ratio[..., :1].expand_as(ratio), rtol=1e-4)
    told = torch.stack([x.flatten(1).mean(1), x.flatten(1).std(1, correction=0)], 1)
    assert torch.allclose(ratio[..., 0], 2 * code.gain(told).sigmoid().T, rtol=1e-4)
    alone = torch.cat([code(one[None]) for one in x], dim=1)
    assert torch.allclose(alone, code(x))
    code(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in code.parameters())


def test_draws_are_a_function_of_seed_and_pass() -> None:
    torch.manual_seed(3)
    code, x = DynamicCode(["rate"], 4), images()
    same = DynamicCode(["rate"], 4)
    trained = [code(x) for _ in range(2)]
    assert not torch.equal(*trained) and torch.equal(trained[0], same(x))
    same.load_state_dict(code.state_dict())
    assert torch.equal(code(x), same(x))
    judged = code.eval()(x)
    assert torch.equal(judged, code(x)) and torch.equal(judged, same.eval()(x))
    torch.manual_seed(4)
    assert not torch.equal(judged, DynamicCode(["rate"], 4).eval()(x))


@pytest.mark.parametrize("codes", [[], ["morse"], ["direct", "event"], ["rate", "rate"]])
def test_what_is_no_bank_is_refused(codes: list[str]) -> None:
    with pytest.raises(SpikeletError, match="codes: expected some of direct, latency, rate, or of delta, event"):
        DynamicCode(codes, 4)


# ---------------------------------------------------------------- the stage


def test_the_stage_is_its_sum() -> None:
    stage, x = CodingStage(3).double(), torch.randn(6, 2, 3, 4, generator=seeded(1), dtype=torch.float64)
    nn.init.normal_(stage.w)
    lam = stage.w.sigmoid()[:, None]
    for t in range(6):
        expected = sum(lam ** (t - s) * x[s] for s in range(t + 1))
        assert torch.allclose(stage(x)[t], expected)
    assert torch.autograd.gradcheck(lambda x, w: torch.func.functional_call(stage, {"w": w}, (x,)), (x, stage.w))


# ---------------------------------------------------------------- networks


def network(notation: str = "4C3-MP2-FC10", **chosen) -> SNN:
    torch.manual_seed(1)
    floats = {"weights": "float", "first": "parity", "last": "parity"}
    given = {"neuron": "lif", "num_steps": 5, "v_threshold": 0.3} | floats
    made = build(NetworkSettings(notation, **(given | chosen)), SHAPE)
    assert isinstance(made, SNN)
    return made


def pixels() -> Tensor:
    return torch.randint(256, (3, *SHAPE), generator=seeded(5), dtype=torch.uint8)


def test_the_weights_begin_as_without_a_code() -> None:
    coded = network(coding=["direct", "rate"], coding_gain=True, coding_stage=True)
    for key, value in network().state_dict().items():
        assert torch.equal(coded.state_dict()[key], value)


@pytest.mark.parametrize("neuron", ["lif", "srm"])
def test_the_image_itself_is_a_code(neuron: str) -> None:
    plain, coded = (network(neuron=neuron, norm="none", coding=codes).eval() for codes in ([], ["direct"]))
    assert plain(pixels()).any() and torch.equal(plain(pixels()), coded(pixels()))


def test_a_stage_that_forgets_at_once_is_none() -> None:
    plain, staged = (network(coding_stage=stage).eval() for stage in (False, True))
    nn.init.constant_(staged.blocks()["4C3"].stage.w, -1e9)
    assert torch.equal(plain(pixels()), staged(pixels()))
    assert plain(frames()).any() and torch.equal(plain(frames()), staged(frames()))


@pytest.mark.parametrize(
    ("codes", "given"),
    [(["direct", "rate", "latency"], pixels), (["event", "delta"], frames)],
    ids=["images", "frames"],
)
@pytest.mark.parametrize("readout", ["spikes", "current"])
def test_gradients_reach_every_parameter(codes: list[str], given, readout: str) -> None:
    snn = network(coding=codes, coding_gain=True, coding_stage=True, surrogate="atan", readout=readout)
    snn(given()).mean(0).logsumexp(1).sum().backward()
    assert not [n for n, p in snn.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert snn.coding.a.grad.any() and snn.layers[0].stage.w.grad.any()


def test_a_run_of_frames_counts_what_enters_the_first_layer() -> None:
    run = network(coding=["event", "delta"]).run(frames(), record=True)
    entered = (frames() != 0) | (delta(frames()) != 0)
    assert run.input_operations is not None
    weights = entered.double().sum(1).flatten(1).sum(1)
    assert (run.input_operations[0] <= 4 * 9 * weights.numpy()).all() and run.input_operations[0].any()


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"coding": ["direct", "event"]}, "model.coding: expected some of direct, latency, rate, or of delta, event"),
        ({"coding": ["direct"], "neuron": "trace"}, "model.coding: only with model.neuron=lif or srm, not trace"),
        ({"coding_stage": True, "neuron": None}, "model.coding_stage: only with model.neuron=lif or srm, not None"),
        ({"coding_gain": True}, r"model.coding_gain: expected codes in model.coding, such as \[direct\], got none"),
        ({"coding": ["rate"], "pixel_scale": 100.0}, r"model.pixel_scale: .* at least 255, got \[\] and 100"),
        ({"coding": ["rate"], "notation": "TS2r1-FC10"}, r"model.coding, .*: time surfaces \(TS2r1\) are a code"),
        ({"coding": ["rate"], "arithmetic": "integer"}, "model.coding: a learned mix of codes has no integer form"),
    ],
)
def test_bad_settings_are_refused_by_name(chosen: dict, said: str) -> None:
    with pytest.raises(SpikeletError, match=said):
        build(NetworkSettings(**({"notation": "4C3-FC10", "neuron": "lif"} | chosen)), SHAPE)


def test_codes_are_of_what_the_network_is_given() -> None:
    with pytest.raises(SpikeletError, match=r"x: model.coding=\['rate'\] takes no frames"):
        network(coding=["rate"])(frames())
    with pytest.raises(SpikeletError, match=r"x: model.coding=\['event'\] takes no images"):
        network(coding=["event"])(pixels())


@pytest.mark.parametrize(("data", "code", "what"), [("mnist", "event", "images"), ("nmnist", "rate", "recordings")])
def test_codes_are_of_what_the_data_hold(data: str, code: str, what: str) -> None:
    config = schema.Config()
    config.data.name, config.model.neuron, config.model.coding = data, "lif", [code]
    with pytest.raises(SpikeletError, match=rf"model.coding: {data} holds {what}; expected some of"):
        recipe.check(config)


@pytest.mark.parametrize("chosen", [{"coding": ["latency"]}, {"coding_stage": True}])
def test_there_is_no_integer_form(chosen: dict) -> None:
    with pytest.raises(ConversionError, match=f"model.{next(iter(chosen))}"):
        to_integer(network("4C3-FC10", **chosen).eval())
