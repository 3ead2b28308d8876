"""The contract of every neuron, the fixtures, and bad input."""

import math
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from spikelet import NetworkSettings, SpikeletError, build, kernels
from spikelet.neurons import (
    IF,
    LIF,
    NEURONS,
    PLIF,
    SRM,
    Adaptation,
    AdaptiveLIF,
    Neuron,
    Primed,
    ThresholdWalk,
    TraceLIF,
    beta_from_tau,
)
from spikelet.surrogate import SURROGATES, atan, boxcar, fast_sigmoid

MEMBERS = {
    "adaptive": lambda: AdaptiveLIF(beta=0.5, v_threshold=0.8, detach_reset=False),
    "if": lambda: IF(),
    "lif": lambda: LIF(beta=0.5, surrogate="fast_sigmoid", detach_reset=False),
    "plif": lambda: PLIF(tau=2.0, v_reset=0.0, delay_reset=True),
    "primed": lambda: Primed(LIF(beta=0.5), torch.tensor([[0.5], [0.0], [-1.0]])),
    "srm": lambda: SRM(v_threshold=0.5),
    "threshold_walk": lambda: ThresholdWalk(torch.tensor([0.5, 0.7, 0.2]), torch.tensor([1.0, 0.5, 0.3]), 5),
    "trace": lambda: TraceLIF(tau_m=5.0, tau_s=3.0),
}
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


@pytest.fixture(params=sorted(NEURONS))
def neuron(request) -> Neuron:
    return MEMBERS[request.param]()


def currents(t: int = 6, n: int = 4, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(t, n, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def stream(neuron: Neuron, x: torch.Tensor) -> torch.Tensor:
    state = neuron.init_state(x[0])
    spikes = []
    for current in x:
        s, state = neuron.step(current, state)
        spikes.append(s)
    return torch.stack(spikes)


def test_every_member_is_here() -> None:
    assert MEMBERS.keys() == NEURONS.keys()


@pytest.mark.parametrize("dtype", DTYPES)
def test_rest_at_every_call(neuron: Neuron, dtype: torch.dtype) -> None:
    x = currents(dtype=dtype)
    spikes = neuron.to(dtype)(x)
    assert spikes.shape == x.shape and spikes.dtype == dtype and spikes.any()
    assert torch.equal(spikes, neuron(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_step_equals_multi_step(neuron: Neuron, dtype: torch.dtype) -> None:
    x = currents(dtype=dtype)
    assert torch.equal(neuron.to(dtype)(x), stream(neuron, x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_hold_equals_forward_on_the_repeated_input(neuron: Neuron, dtype: torch.dtype) -> None:
    neuron, (x, y) = neuron.to(dtype), (currents(dtype=dtype)[0].requires_grad_() for _ in range(2))
    held, repeated = neuron.hold(x, 7), neuron(y.expand(7, *y.shape))
    assert torch.equal(held, repeated)
    if held.requires_grad:
        (held * held.detach().cumsum(0)).sum().backward()
        (repeated * held.detach().cumsum(0)).sum().backward()
        tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5  # of 16 bits, seven are rounded and then added up
        assert x.grad is not None and y.grad is not None
        assert (x.grad - y.grad).abs().max() <= tolerance * y.grad.abs().max()


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_sent_tells_the_spikes(neuron: Neuron, dtype: torch.dtype) -> None:
    sent = neuron.to(dtype)(currents(dtype=dtype))
    spikes = neuron.spikes(sent)
    assert spikes.dtype == dtype and spikes.any() and set(spikes.unique().tolist()) <= {-1, 0, 1}
    assert torch.equal(neuron.signal(spikes), sent)
    assert torch.equal(neuron.spikes(sent + sent.flip(1)), spikes + spikes.flip(1))


def test_batch_independence(neuron: Neuron) -> None:
    x = currents()
    assert torch.equal(neuron(x)[:, 1:2], neuron(x[:, 1:2]))


def test_neurons_stand_in_a_sequential(neuron: Neuron) -> None:
    network = nn.Sequential(nn.Linear(5, 5), neuron.float(), nn.Flatten(2), nn.Linear(15, 2))
    logits = network(currents(dtype=torch.float32))
    logits.sum().backward()
    assert logits.shape == (6, 4, 2) and network[3].weight.grad is not None
    assert repr(neuron)


def test_nothing_is_kept_where_no_gradient_is_asked_for(neuron: Neuron) -> None:
    x = currents(dtype=torch.float32).requires_grad_()
    with torch.inference_mode():
        spikes = neuron.float()(x)
    with torch.no_grad():
        assert torch.equal(neuron(x), spikes) and not neuron(x).requires_grad


@pytest.mark.parametrize("name", sorted(NEURONS.keys() - {"threshold_walk"}))  # conversion's: it has no gradient
def test_checkpoint_and_autocast(name: str) -> None:
    network = nn.Sequential(nn.Linear(5, 5), MEMBERS[name]())
    with torch.autocast("cpu", torch.bfloat16):
        spikes = network(currents(dtype=torch.float32))
        again = checkpoint(network, currents(dtype=torch.float32), use_reentrant=False)
    assert spikes.dtype == torch.bfloat16 and torch.equal(spikes, again)
    again.float().square().sum().backward()
    assert network[0].weight.grad is not None and network[0].weight.grad.any()


@pytest.mark.parametrize(
    "name", sorted(NEURONS.keys() - {"primed", "threshold_walk", "trace"})
)  # no surrogate of theirs
@pytest.mark.parametrize("surrogate", sorted(SURROGATES))
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_finite_and_not_zero_at_threshold(name: str, surrogate: str, dtype: torch.dtype) -> None:
    member = SRM(1.0, 0.5, math.log(2), 0.5, surrogate) if name == "srm" else type(MEMBERS[name]())(surrogate=surrogate)
    x = torch.tensor([[1.0], [0.0], [0.3]], dtype=dtype, requires_grad=True)  # SRM: 2 * (1 / 2 - 1 / 4) at t = 1
    spikes = member(x)
    spikes.sum().backward()
    assert spikes.any() and x.grad is not None and x.grad.isfinite().all() and x.grad[0].item() != 0


# ---------------------------------------------------------------- fixtures (reference, section 9)


def trace(neuron: Neuron, x: float, num_steps: int) -> list[tuple[float, float]]:
    """(membrane, spike) per step; where the reset is delayed, the membrane that fires is the state."""
    current = torch.full((1,), x, dtype=torch.float64)
    state, found = neuron.init_state(current), []
    for _ in range(num_steps):
        s, state = neuron.step(current, state)
        found.append((state[0].item(), s.item()))
    return found


def check(found: list[tuple[float, float]], membranes: list[float], spikes: list[float]) -> None:
    assert [v for v, _ in found] == pytest.approx(membranes, abs=1e-4)
    assert [s for _, s in found] == spikes


def test_leaky_as_in_snntorch() -> None:
    found = trace(LIF(beta=0.5, delay_reset=True), 0.7, 8)
    check(found, [0.7, 1.05, 0.225, 0.8125, 1.1062, 0.2531, 0.8266, 1.1133], [0, 1, 0, 0, 1, 0, 0, 1])


def test_leaky_reset_in_the_same_step() -> None:
    spikes = LIF(beta=0.5)(torch.full((8, 1), 0.7))  # one step earlier than snnTorch's
    assert spikes.flatten().tolist() == [0, 1, 0, 1, 0, 1, 0, 1]


def test_stbp() -> None:
    stbp = {"v_threshold": 0.5, "v_reset": 0.0, "surrogate": boxcar(1.0), "detach_reset": False, "delay_reset": True}
    found = trace(LIF(0.25, **stbp), 0.3, 8)
    check(found, [0.3, 0.375, 0.3937, 0.3984, 0.3996, 0.3999, 0.4, 0.4], [0] * 8)
    check(trace(LIF(0.8, **stbp), 0.3, 4), [0.3, 0.54, 0.3, 0.54], [0, 1, 0, 1])


def test_plif() -> None:
    check(trace(PLIF(2.0, v_reset=0.0, delay_reset=True).double(), 1.6 / 2, 4), [0.8, 1.2, 0.8, 1.2], [0, 1, 0, 1])


def test_srm() -> None:
    neuron = SRM(tau_m=60, tau_s=20, dt=5, v_threshold=0.05)
    x = torch.tensor([0.1, 0, 0, 0, 0, 0, 0], dtype=torch.float64).reshape(-1, 1)
    state, membranes = neuron.init_state(x[0]), []
    for current in x[:4]:
        _, state = neuron.step(current, state)
        membranes.append(1.5 * (state[0] - state[1]).item())
    assert membranes == pytest.approx([0, 0.02119, 0.03599, 0.04597], abs=1e-5)
    assert neuron(x).flatten().tolist() == [0, 0, 0, 0, 1, 0, 0]
    assert neuron(3 * x[:3]).flatten().tolist() == [0, 1, 0]


class Window(torch.autograd.Function):
    """DTS-SNN's spike: strictly above 0.05; slope 1 where the membrane is less than that away from it."""

    @staticmethod
    def forward(ctx, u: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(u)
        return (u > 0.05).to(u.dtype)

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> torch.Tensor:
        (u,) = ctx.saved_tensors
        return grad * ((u - 0.05).abs() < 0.05)


def srm_as_published(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Membranes and spikes of reference 3.6, whose reset comes with the next step and is not detached."""
    m = c = s = torch.zeros_like(x[0])
    membranes, spikes = [], []
    for current in x:
        m = math.exp(-5 / 60) * m * (1 - s) + current
        c = math.exp(-5 / 20) * c * (1 - s) + current
        u = 60 / (60 - 20) * (m - c)
        s = Window.apply(u)
        membranes.append(u)
        spikes.append(s)
    return torch.stack(membranes), torch.stack(spikes)


def test_srm_fires_and_learns_as_published() -> None:
    x = torch.tensor([0.1, 0, 0, 0, 0, 0, 0], dtype=torch.float64).reshape(-1, 1)
    membranes, _ = srm_as_published(x)
    assert membranes.flatten().tolist() == pytest.approx([0, 0.02119, 0.03599, 0.04597, 0.0523, 0, 0], abs=1e-5)
    assert srm_as_published(3 * x)[0][:3].flatten().tolist() == pytest.approx([0, 0.06356, 0], abs=1e-5)
    published = SRM(tau_m=60, tau_s=20, dt=5, surrogate=boxcar(2 * 0.05, height=1), detach_reset=False)
    for dtype in (torch.float32, torch.float64):
        given = 0.05 * torch.randn(300, 4, 40, generator=torch.Generator().manual_seed(2), dtype=dtype)
        inputs = [given.clone().requires_grad_() for _ in range(2)]
        found, expected = published(inputs[0]), srm_as_published(inputs[1])[1]
        assert found.any() and torch.equal(found, expected)  # none of these is at the threshold itself
        for spikes in (found, expected):
            (spikes * torch.arange(300.0, dtype=dtype)[:, None, None].sin()).sum().backward()
        of_found, of_expected = (given.grad for given in inputs)
        assert of_expected is not None and torch.allclose(of_found, of_expected, rtol=0, atol=1e-5 * of_expected.max())


def test_srm_keeps_its_input_and_no_membranes() -> None:
    x, kept = torch.randn(300, 2, 40).requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        SRM()(x)
    assert [t.data_ptr() for t in kept] == [x.data_ptr()]


def test_an_adaptive_threshold_settles_at_its_rate() -> None:
    for decay, growth in ((0.9, 0.1), (0.5, 0.2)):
        neuron = AdaptiveLIF(beta=0.5, v_threshold=0.7, adaptation=Adaptation(True, False, decay, growth)).double()
        for rate, inputs in ((0.0, [0.0, 0.0, 0.0]), (1 / 3, [9.0, -9.0, 0.0]), (1.0, [9.0, 9.0, 9.0])):
            state = neuron.init_state(torch.zeros(1, dtype=torch.float64))
            for x in inputs * 100:
                _, state = neuron.step(torch.full((1,), x, dtype=torch.float64), state)
            assert state[1].item() == pytest.approx(0.7 + growth * rate / (1 - decay), abs=1e-6)


@pytest.mark.parametrize("held", [False, True])
def test_an_adaptive_neuron_without_its_parts_is_lif(held: bool) -> None:
    found, expected = [], []
    for values, make in ((found, AdaptiveLIF), (expected, LIF)):
        beta, v_threshold = (nn.Parameter(torch.tensor(value)) for value in (0.7, 0.6))
        off = {"adaptation": Adaptation(threshold=False, leak=False)} if make is AdaptiveLIF else {}
        neuron = make(beta, v_threshold, surrogate="sigmoid", **off)
        x = currents(dtype=torch.float32).requires_grad_()
        spikes = neuron.hold(x[0], 9) if held else neuron(x)
        (spikes * spikes.detach().cumsum(0)).sum().backward()
        values += [spikes, x.grad, beta.grad, v_threshold.grad]
    assert torch.equal(found[0], expected[0]) and found[0].any()
    for one, other in zip(found[1:], expected[1:], strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)


def test_what_an_adaptive_neuron_learns() -> None:
    neuron = AdaptiveLIF(beta=0.9, v_threshold=0.3)
    assert {name for name, _ in neuron.named_parameters()} == {"w", "b", "theta"}
    plain = AdaptiveLIF(beta=0.9, v_threshold=0.3, adaptation=Adaptation(leak=False))
    x = currents(dtype=torch.float32)
    assert neuron.threshold().item() == pytest.approx(0.3) and torch.equal(neuron(x), plain(x))  # b begins at 0
    neuron(x).sum().backward()
    assert all(p.grad is not None and p.grad != 0 for p in neuron.parameters())
    with torch.no_grad():
        neuron.theta.sub_(100.0)
    assert neuron.threshold() > 0
    assert not neuron(torch.zeros(3, 4)).any()


def test_beta_from_tau() -> None:
    decay = SRM(tau_m=60, tau_s=20, dt=5).decay
    assert decay == pytest.approx((0.92004, 0.77880, 1.5), abs=1e-5)
    assert LIF.from_tau(tau=60, dt=5, v_threshold=2.0).decay() == beta_from_tau(60, 5)


@pytest.mark.parametrize("mechanism", ["subtract", "zero"])
def test_equals_snntorch(mechanism: str) -> None:
    snntorch = pytest.importorskip("snntorch")
    theirs = snntorch.Leaky(0.8, 0.7, snntorch.surrogate.fast_sigmoid(25), reset_mechanism=mechanism)
    ours = LIF(0.8, 0.7, None if mechanism == "subtract" else 0.0, fast_sigmoid(25), delay_reset=True)
    x, y = (torch.randn(9, 50, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    v, spikes = theirs.reset_mem(), []
    for current in x:
        s, v = theirs(current, v)
        spikes.append(s)
    expected, found = torch.stack(spikes), ours(y)
    assert torch.equal(found, expected) and found.any()
    weight = torch.randn_like(found)
    (expected * weight).sum().backward()
    (found * weight).sum().backward()
    assert torch.allclose(y.grad, x.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("detach_reset", [True, False])
def test_equals_spikingjelly(detach_reset: bool) -> None:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    theirs = neuron.LIFNode(tau=2.0, decay_input=False, detach_reset=detach_reset, step_mode="m")
    ours = LIF(1 - 1 / 2.0, v_reset=0.0, surrogate="sigmoid", detach_reset=detach_reset)
    x, y = (torch.randn(9, 50, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    expected, found = theirs(x), ours(y)
    assert torch.equal(found, expected) and found.any()
    (expected * 0.5).square().sum().backward()
    (found * 0.5).square().sum().backward()
    assert torch.allclose(y.grad, x.grad, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- learning


def test_decay_and_threshold_are_learned_and_kept_in_range() -> None:
    beta, v_threshold = nn.Parameter(torch.tensor(0.95)), nn.Parameter(torch.tensor(0.05))
    neuron = LIF(beta, v_threshold)
    assert {name for name, _ in neuron.named_parameters()} == {"beta", "v_threshold"}
    neuron(currents(dtype=torch.float32)).sum().backward()
    assert beta.grad is not None and v_threshold.grad is not None and beta.grad != 0 and v_threshold.grad != 0
    with torch.no_grad():
        beta.add_(1.0), v_threshold.sub_(1.0)
    assert neuron.decay() == 1 and neuron.threshold() > 0
    assert not neuron(torch.zeros(3, 4)).any()


def test_a_parameter_per_neuron() -> None:
    beta = torch.tensor([0.2, 0.5, 0.9])[:, None]
    together = LIF(nn.Parameter(beta))(currents(dtype=torch.float32))
    for channel, value in enumerate(beta.flatten().tolist()):
        assert torch.equal(together[:, :, channel], LIF(value)(currents(dtype=torch.float32)[:, :, channel]))


def test_parameters_of_a_plif_move_its_decay() -> None:
    neuron = PLIF(tau=4.0)
    assert neuron.decay().item() == pytest.approx(0.75)
    neuron(currents(dtype=torch.float32)).sum().backward()
    assert neuron.w.grad is not None and neuron.w.grad != 0


def test_a_surrogate_of_ones_own() -> None:
    x = torch.ones(3, 2, requires_grad=True)
    LIF(surrogate=lambda v: v.sigmoid())(x).sum().backward()
    assert x.grad is not None and x.grad.all()


# ---------------------------------------------------------------- threshold walk


def test_threshold_walk_kernel_is_the_neuron() -> None:
    walk = MEMBERS["threshold_walk"]().double()
    first, step = walk.first.reshape(-1, 1), walk.step_size.reshape(-1, 1)
    assert torch.equal(kernels.threshold_walk(currents(), first, step, 5), walk(currents()))


@pytest.mark.parametrize("k", [0, 1, 2])
def test_threshold_walk_settles_at_the_quantized_activation(k: int) -> None:
    g = torch.Generator().manual_seed(k)
    rand = lambda: torch.rand(20_000, generator=g, dtype=torch.float64)  # noqa: E731
    gamma, beta, mu, sigma = 0.2 + rand(), rand() - 0.5, rand() - 0.5, 0.5 + rand()
    final = 4 * rand() - 1
    parts = torch.randn(12, 20_000, generator=g, dtype=torch.float64)
    x = torch.cat([parts, (final - parts.sum(0))[None], torch.zeros(60, 20_000, dtype=torch.float64)])
    count = ((final - mu) / sigma * gamma + beta).clamp_min(0).mul(2**k).add(0.5).floor()
    first, step = (2.0 ** -(k + 1) - beta) * sigma / gamma + mu, 2.0**-k * sigma / gamma
    assert torch.equal(kernels.threshold_walk(x, first, step, 127).sum(0), count)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("x", [torch.zeros(3), torch.zeros(0, 2, 3)])
def test_bad_rank_is_one_clear_error(neuron: Neuron, x: torch.Tensor) -> None:
    with pytest.raises(SpikeletError, match=r"x: expected \[T, N, ...\] with T >= 1, got shape"):
        neuron(x)


def test_bad_hold_is_one_clear_error(neuron: Neuron) -> None:
    with pytest.raises(SpikeletError, match="num_steps: expected a whole number of at least 1, got 0"):
        neuron.hold(torch.zeros(2, 3), 0)
    with pytest.raises(SpikeletError, match=r"x: expected \[N, ...\], got shape \(\)"):
        neuron.hold(torch.zeros(()), 3)


def test_counts_are_no_currents(neuron: Neuron) -> None:
    with pytest.raises(SpikeletError, match=r"x: expected a floating dtype, got torch\.uint8"):
        neuron(torch.zeros(3, 2, 3, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LIF(beta=1.5), r"beta: expected a decay per step in \[0, 1\], got 1.5"),
        (lambda: LIF(beta=nn.Parameter(torch.tensor(-0.1))), "beta: expected a decay"),
        (lambda: LIF(beta=math.nan), "beta: expected a decay"),
        (lambda: LIF(v_threshold=0), "v_threshold: expected a number above 0, got 0"),
        (lambda: LIF(v_reset="zero"), "v_reset: expected a number or None, got 'zero'"),
        (lambda: LIF(surrogate="arctan"), "surrogate: expected one of atan, .* got 'arctan'"),
        (lambda: LIF(surrogate=2.0), "surrogate: expected a name or a spikelet.surrogate, got 2.0"),
        (lambda: LIF.from_tau(tau=0, dt=1), "tau: expected a positive time, got 0"),
        (lambda: PLIF(tau=1.0), "tau: expected a number, more than 1 step, got 1.0"),
        (lambda: AdaptiveLIF(beta=1.0), "beta: of a leak that moves, expected more than 0 and less than 1, got 1.0"),
        (lambda: AdaptiveLIF(beta=-1.0), r"beta: expected a decay per step in \[0, 1\], got -1.0"),
        (lambda: AdaptiveLIF(v_threshold=0), "v_threshold: expected a number above 0, got 0"),
        (lambda: AdaptiveLIF(v_threshold=nn.Parameter(torch.ones(()))), "v_threshold: of a part that moves, expected"),
        (lambda: AdaptiveLIF(v_reset="zero"), "v_reset: expected a number or None, got 'zero'"),
        (lambda: AdaptiveLIF(adaptation=Adaptation(decay=2.0)), r"adaptation.decay: expected a decay in \[0, 1\]"),
        (lambda: SRM(tau_m=20, tau_s=20), "tau_m, tau_s: expected tau_m > tau_s > 0, got 20 and 20"),
        (lambda: SRM(v_threshold=-1), "v_threshold: expected a number above 0, got -1"),
        (lambda: ThresholdWalk(torch.tensor(0.0), torch.tensor(0.0)), "step: expected positive threshold distances"),
    ],
)
def test_bad_settings(call, message: str) -> None:
    with pytest.raises(SpikeletError, match=message):
        call()


def test_kernels_take_plain_arguments() -> None:
    x = currents()
    assert torch.equal(kernels.lif(x, 0.5, 1.0, None, atan()), LIF(beta=0.5)(x))


# ---------------------------------------------------------------- numbers that are learned, and their bounds


@pytest.mark.parametrize("make", [lambda n: LIF(beta=n), lambda n: AdaptiveLIF(n, adaptation=Adaptation(leak=False))])
def test_a_decay_that_left_its_bounds_comes_back(make) -> None:
    beta = nn.Parameter(torch.tensor(0.9))
    neuron, x = make(beta), torch.rand(6, 4, 30, generator=torch.Generator().manual_seed(1))
    for value in (1.0, 1.4):
        with torch.no_grad():
            beta.fill_(value)
        outward, inward = (torch.autograd.grad(sign * neuron(x).sum(), beta)[0] for sign in (-1, 1))
        assert outward == 0 and inward > 0  # what descends the one would go further out
    assert torch.equal(neuron(x), LIF(beta=1.0)(x)) or isinstance(neuron, AdaptiveLIF)


@pytest.mark.parametrize(("shape", "allowed"), [((5, 2, 64), "[2, 64]"), ((3, 64), "[2, 64]"), ((4,), "[2, 64]")])
def test_numbers_that_do_not_fit_the_currents(shape: tuple[int, ...], allowed: str) -> None:
    x = torch.rand(5, 2, 64)
    names, still = ("beta", "v_threshold"), Adaptation(threshold=False, leak=False)
    kinds = [(name, kind) for name in names for kind in (LIF, partial(AdaptiveLIF, adaptation=still))]
    for name, kind in kinds:
        neuron = kind(**{name: nn.Parameter(torch.full(shape, 0.5))})
        for call in (lambda n: n(x), lambda n: n.hold(x[0], 5), lambda n: n.init_state(x[0])):
            with pytest.raises(SpikeletError, match=f"{name}: .*{re.escape(allowed)}.*{re.escape(str([*shape]))}"):
                call(neuron)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_element_of_any_shape_is_a_number(dtype: torch.dtype) -> None:
    x, one = torch.rand(5, 2, 4, dtype=dtype), nn.Parameter(torch.full((1, 1, 1, 1), 0.5))
    still = Adaptation(threshold=False, leak=False)
    for neuron in (LIF(one, one), AdaptiveLIF(one, one, adaptation=still)):
        assert torch.equal(neuron(x), LIF(0.5, 0.5)(x))
        assert neuron.step(x[0], neuron.init_state(x[0]))[0].shape == x[0].shape


class _Held(nn.Module):
    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.neuron.hold(x[0], x.shape[0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("neuron", [LIF(), LIF(nn.Parameter(torch.tensor(0.9))), SRM(), AdaptiveLIF()])
def test_torch_compiles_traces_and_saves_the_reference(neuron: Neuron, tmp_path: Path) -> None:
    x = 3 * torch.rand(5, 3, 4, generator=torch.Generator().manual_seed(1))
    expected = neuron(x)
    assert expected.any()
    assert torch.equal(torch.compile(neuron, backend="eager")(x), expected)
    torch.jit.trace(neuron, x).save(tmp_path / "traced.pt")
    assert torch.equal(torch.jit.load(tmp_path / "traced.pt")(x), expected)
    assert torch.equal(torch.jit.trace(_Held(neuron), x)(x), neuron.hold(x[0], 5))


@pytest.mark.filterwarnings("ignore")
def test_torch_compiles_and_traces_whole_networks() -> None:
    settings = {"weights": "float", "first": "parity", "last": "parity", "norm": "none"}
    torch.manual_seed(1)
    network = build(NetworkSettings("4C3-MP2-FC5", neuron="lif", **settings), (2, 8, 8)).eval()
    x = 30.0 * (torch.rand(3, 2, 2, 8, 8) < 0.2)
    with torch.no_grad():
        expected = network(x)
        assert expected.any()
        assert torch.allclose(torch.compile(network, backend="eager")(x), expected)
        assert torch.allclose(torch.jit.trace(network, x)(x), expected)
