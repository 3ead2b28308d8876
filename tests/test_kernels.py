"""The fused kernels against the reference: spikes bit for bit, gradients to 1e-5 of the largest."""

import inspect
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from math import isfinite
from pathlib import Path

import pytest
import torch
from hypothesis import assume, currently_in_test_context, given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikelet import kernels
from spikelet.kernels import cpu, fused, reference, threads
from spikelet.kernels.reference import Adaptation, Decay, Reset
from spikelet.neurons import LIF, SRM, AdaptiveLIF
from spikelet.surrogate import SURROGATES, Surrogate, atan

DECAY = Decay(0.92004, 0.77880, 1.5)
LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2]),
    "batch_first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "sliced": lambda x: torch.cat([x, x], 4)[..., : x.shape[4]],
    "every_other_step": lambda x: torch.stack([x, x], 1).flatten(0, 1)[::2],
    "held": lambda x: x[:1].expand_as(x),
}
NUM_STEPS = st.integers(1, 9) | st.sampled_from([16, 17, 33, 50])  # around what the CPU's passes take at a time
SHAPES = st.tuples(NUM_STEPS, st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
RESETS = st.builds(Reset, st.sampled_from([None, 0.0, -0.25, 0.5]), st.booleans(), st.booleans())
RULES = st.builds(Adaptation, st.booleans(), st.booleans(), st.sampled_from([0.9, 0.5]), st.just(0.2))
CASES = {
    "shape": SHAPES,
    "layout": st.sampled_from(sorted(LAYOUTS)),
    "reset": RESETS,
    "spike": st.sampled_from([make() for make in SURROGATES.values()]),
    "dtype": st.sampled_from([torch.float32, torch.bfloat16]),
    "seed": st.integers(0, 2**31),
}


def currents(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """Currents that meet the threshold exactly now and then, so that ``>=`` is tested as well."""
    x = 1.5 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.where(x > 0.5, (8 * x).round() / 8, x).to(dtype)


def grads(spikes: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weight = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(7)).to(spikes.dtype)
    return list(torch.autograd.grad((spikes * weight).sum(), inputs))


def assert_close(found: Tensor, expected: Tensor, scale: Tensor | float, dtype: torch.dtype = torch.float32) -> None:
    if currently_in_test_context():
        assume(isfinite(scale))  # through 50 steps of a reset with a steep slope, gradients can outgrow float32
    tolerance = 1e-5 if dtype == torch.float32 else 2**-7
    error = (found.double() - expected.double()).abs().max()
    assert error <= tolerance * scale + 1e-30, (error.item(), float(scale))


@settings(max_examples=150, deadline=None)
@given(**CASES, beta=st.sampled_from([0.0, 0.5, 0.9, 1.0]), v_threshold=st.sampled_from([0.5, 1.0]))
def test_lif_equals_the_reference(shape, layout, reset, spike, dtype, seed, beta, v_threshold) -> None:
    x = LAYOUTS[layout](currents(shape, dtype, seed)).requires_grad_()
    numbers = [torch.tensor(beta, requires_grad=True), torch.tensor(v_threshold, requires_grad=True)]
    each = [number.detach().expand(shape[1:]).clone().requires_grad_() for number in numbers]
    found = kernels.lif(x, *numbers, reset.value, spike, reset.detached, reset.delayed)
    expected = reference.lif(x, *each, spike, reset)
    assert torch.equal(found, expected) and found.dtype == dtype
    of_x, *of_numbers = grads(found, [x, *numbers])
    wanted, *per_neuron = grads(expected, [x, *each])
    assert_close(of_x, wanted, wanted.abs().max(), dtype)
    for one, many in zip(of_numbers, per_neuron, strict=True):
        assert_close(one, many.double().sum(), many.double().abs().sum())


@settings(max_examples=60, deadline=None)
@given(**CASES, v_threshold=st.sampled_from([0.25, 1.0]))
def test_srm_equals_the_reference(shape, layout, reset, spike, dtype, seed, v_threshold) -> None:
    x = LAYOUTS[layout](currents(shape, dtype, seed)).requires_grad_()
    found = kernels.srm(x, DECAY, v_threshold, spike, reset.detached)
    expected = reference.srm(x, DECAY, v_threshold, spike, reset.detached)
    assert torch.equal(found, expected) and found.dtype == dtype
    (of_x,), (wanted,) = grads(found, [x]), grads(expected, [x])
    assert_close(of_x, wanted, wanted.abs().max(), dtype)


@settings(max_examples=60, deadline=None)
@given(**CASES, num_steps=NUM_STEPS, kind=st.sampled_from(["lif", "srm"]))
def test_hold_equals_the_reference_on_the_repeated_input(
    shape, layout, reset, spike, dtype, seed, num_steps, kind
) -> None:
    x = LAYOUTS[layout](currents(shape, dtype, seed))[0].detach().requires_grad_()
    repeated = x.detach().float().expand(num_steps, *x.shape).clone().requires_grad_()  # not in 16 bits
    if kind == "lif":
        found = kernels.lif_hold(x, num_steps, 0.75, 1.0, reset.value, spike, reset.detached, reset.delayed)
        expected = reference.lif(repeated, 0.75, 1.0, spike, reset)
    else:
        found = kernels.srm_hold(x, num_steps, DECAY, 0.5, spike, reset.detached)
        expected = reference.srm(repeated, DECAY, 0.5, spike, reset.detached)
    assert torch.equal(found.float(), expected)
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(7)).to(dtype)
    (of_x,) = torch.autograd.grad((found * weight).sum(), [x])
    (per_step,) = torch.autograd.grad((expected * weight.float()).sum(), [repeated])
    assert_close(of_x, per_step.double().sum(0), per_step.abs().sum(0).max(), dtype)  # the steps may cancel


@settings(max_examples=150, deadline=None)
@given(**CASES, rule=RULES, held=st.sampled_from([None, 1, 6]))
def test_adaptive_equals_the_reference(shape, layout, reset, spike, dtype, seed, rule, held) -> None:
    given = LAYOUTS[layout](currents(shape, dtype, seed))
    x = (given if held is None else given[0]).requires_grad_()
    wide = x.detach().float().requires_grad_()  # held, the steps' gradients are added up: not in 16 bits
    repeated = wide if held is None else wide.expand(held, *wide.shape)
    numbers, theirs = (moving(rule) for _ in range(2))
    found = kernels.adaptive(x, numbers, rule, spike, reset, held)
    expected = reference.adaptive(repeated, theirs, rule, spike, reset)
    assert torch.equal(found.float(), expected) and found.dtype == dtype
    of_x, *of_numbers = grads(found, [x, *learned(numbers)])
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(7)).to(dtype).float()
    wanted, *of_theirs = torch.autograd.grad((expected * weight).sum(), [wide, *learned(theirs)])
    assert_close(of_x, wanted, wanted.abs().max(), dtype)
    for one, other in zip(of_numbers, of_theirs, strict=True):
        assert_close(one, other, 10 * wanted.abs().sum() + other.abs())  # neurons and steps may cancel


def moving(rule: Adaptation) -> list:
    """Numbers of an adaptive layer; b is one only where the leak moves."""
    values = (0.3, 0.4, 0.75) if rule.leak else (0.8, 0.0, 0.75)
    return [torch.tensor(v, requires_grad=True) if v else v for v in values]


def learned(numbers: list) -> list[Tensor]:
    return [number for number in numbers if isinstance(number, Tensor)]


@pytest.mark.parametrize("value", [None, 0.0])
@pytest.mark.parametrize("leak", [False, True])
def test_adaptive_in_many_blocks(leak: bool, value: float | None) -> None:
    x = currents((12, 3, 7000), torch.float32, 1).requires_grad_()
    rule, reset, count = Adaptation(leak=leak), Reset(value, False), torch.get_num_threads()
    numbers = moving(rule)
    expected = reference.adaptive(x, numbers, rule, atan(), reset)
    wanted = grads(expected, [x, *learned(numbers)])
    try:
        for threads_used in (1, 3):
            torch.set_num_threads(threads_used)
            found = kernels.adaptive(x, numbers, rule, atan(), reset)
            assert torch.equal(found, expected)
            of_x, *of_numbers = grads(found, [x, *learned(numbers)])
            assert_close(of_x, wanted[0], wanted[0].abs().max())
            for one, other in zip(of_numbers, wanted[1:], strict=True):
                assert_close(one, other, wanted[0].abs().sum())
    finally:
        torch.set_num_threads(count)


def test_in_float64_adaptive_gradients_are_those_of_differences() -> None:
    spike = lambda u: torch.sigmoid(3 * u)  # noqa: E731  (smooth, so that differences have a limit)
    numbers = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.3, 0.4, 0.75)]
    x = currents((5, 2, 3), torch.float64, 1).requires_grad_()
    for value in (None, 0.2):
        run = lambda x, *numbers: kernels.adaptive(x, numbers, Adaptation(), spike, Reset(value, False))  # noqa: B023, E731
        assert torch.autograd.gradcheck(run, (x, *numbers))


@pytest.mark.parametrize("spike", [make() for make in SURROGATES.values()], ids=list(SURROGATES))
@pytest.mark.parametrize("value", [None, 0.0])
def test_many_blocks_many_steps(spike: Surrogate, value: float | None) -> None:
    x = currents((40, 3, 5000), torch.float32, 1).requires_grad_()
    reset = Reset(value)
    found, expected = kernels.lif(x, 0.9, 1.0, value, spike), reference.lif(x, 0.9, 1.0, spike, reset)
    assert torch.equal(found, expected)
    (of_x,), (wanted,) = grads(found, [x]), grads(expected, [x])
    assert_close(of_x, wanted, wanted.abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("neurons", [32, 4 * 4096 + 96, 1000])
@pytest.mark.parametrize("num_steps", [5, 20])
def test_spikes_past_the_caches_are_the_same(num_steps: int, neurons: int, dtype: torch.dtype, monkeypatch) -> None:
    x = currents((num_steps, neurons), dtype, seed=3)
    expected = LIF(beta=0.9)(x)
    monkeypatch.setattr(cpu, "STREAM", 0)
    assert torch.equal(LIF(beta=0.9)(x), expected)


def test_the_layout_is_kept_and_nothing_but_the_input_is_saved() -> None:
    x = LAYOUTS["channels_last"](currents((4, 2, 3, 8, 8), torch.float32, 0)).requires_grad_()
    spikes = kernels.lif(x, 0.9, 1.0, None, atan())
    assert spikes.stride() == x.stride() and spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    (saved,) = spikes.grad_fn.saved_tensors
    assert saved.data_ptr() == x.data_ptr()
    assert grads(spikes, [x])[0].stride() == x.stride()


def test_a_held_input_is_not_repeated() -> None:
    x = currents((2, 3), torch.float32, 0).requires_grad_()
    for spikes in (kernels.lif_hold(x, 100, 0.9, 1.0, None, atan()), kernels.srm_hold(x, 100, DECAY, 1.0, atan())):
        (saved,) = spikes.grad_fn.saved_tensors
        assert saved.untyped_storage().nbytes() == x.untyped_storage().nbytes()
    steps = x.detach().expand(100, 2, 3)
    assert fused._dense(steps, held=False).data_ptr() == x.data_ptr()


def test_what_has_no_kernel_goes_to_the_reference() -> None:
    double = torch.zeros(3, 2, dtype=torch.float64)
    assert kernels._backend(double, atan(), 0.5, 1.0) is None
    assert kernels._backend(double.float(), torch.sigmoid, 0.5, 1.0) is None
    assert kernels._backend(double.float(), atan(), torch.tensor([0.5, 0.6]), 1.0) is None
    assert kernels._backend(double.half(), atan(), 0.5, 1.0) is None
    assert kernels._backend(double.float(), atan(), torch.tensor([0.5]), 1.0) is cpu
    assert kernels.lif(double.half(), 0.5, 1.0, None, atan()).dtype == torch.float16


def test_in_float64_gradients_are_the_formulas() -> None:
    x = currents((5, 2, 3), torch.float64, 3).requires_grad_()
    spike = SURROGATES["sigmoid"](1.0)
    weight = torch.linspace(0, 1, x.numel(), dtype=torch.float64).reshape(x.shape)
    (found,) = torch.autograd.grad((kernels.lif(x, 0.8, 1.0, None, spike) * weight).sum(), [x])
    u, v, carry = [], torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    for current in x.detach():
        u.append(0.8 * v + current)
        v = u[-1] - (u[-1] >= 1).double()
    for t in range(4, -1, -1):
        carry = 0.8 * carry + weight[t] * spike.slope(u[t] - 1)
        assert (found[t] - carry).abs().max() <= 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 0, 4), (1, 1), (2, 1, 0)])
def test_nothing_and_nearly_nothing(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, beta = torch.ones(shape, dtype=dtype, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    spikes = kernels.lif(x, beta, 1.0, None, atan())
    spikes.sum().backward()
    assert spikes.shape == shape and x.grad is not None and x.grad.shape == shape and beta.grad is not None


def test_numbers_that_are_none_do_not_crash() -> None:
    x = torch.tensor([[float("nan")], [float("inf")], [float("-inf")], [1.0]], requires_grad=True)
    spikes = kernels.lif(x, 0.5, 1.0, 0.0, atan())
    assert torch.equal(spikes, reference.lif(x, 0.5, 1.0, atan(), Reset(0.0)))
    spikes.sum().backward()
    assert x.grad is not None and x.grad.isnan().any()


# ---------------------------------------------------------------- threads


def with_threads(count: int) -> tuple[Tensor, ...]:
    x = currents((8, 40_000), torch.float32, 5).requires_grad_()
    beta, v_threshold = torch.tensor(0.9, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        spikes = kernels.lif(x, beta, v_threshold, None, atan())
        return spikes.detach(), *grads(spikes, [x, beta, v_threshold])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("team", [threads.team, lambda: threads._python], ids=["openmp", "python"])
def test_results_do_not_depend_on_threads(team, monkeypatch) -> None:
    alone = with_threads(1)
    monkeypatch.setattr(threads, "team", team)
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(alone, with_threads(3), strict=True))


def test_several_threads_of_python_at_once() -> None:
    x = currents((8, 40_000), torch.float32, 5)
    expected = kernels.lif(x, 0.9, 1.0, None, atan())
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: kernels.lif(x, 0.9, 1.0, None, atan()), range(40)))
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(spikes, expected) for spikes in found)


def test_numba_is_not_imported_before_it_is_needed() -> None:
    code = "import spikelet, sys; spikelet.LIF; assert 'numba' not in sys.modules and 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def fire_all():
    """Spikes and gradients of each kind of neuron, in both dtypes."""
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        for neuron in (LIF(0.9), SRM(v_threshold=0.2), AdaptiveLIF(0.9)):
            x = torch.randn(20, 3, 100, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
            spikes = neuron(x)
            spikes.backward(spikes)
            found += [spikes.detach(), x.grad]
    return found


@pytest.mark.skipif("x86" not in platform.machine() and "AMD" not in platform.machine(), reason="not that processor")
def test_narrower_registers_give_the_same(tmp_path: Path) -> None:
    code = f"{inspect.getsource(fire_all)}\ntorch.save(fire_all(), 'found.pt')"
    features = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma", "NUMBA_CACHE_DIR": str(tmp_path)}
    head = "import torch\nfrom spikelet import LIF, SRM, AdaptiveLIF\n"
    subprocess.run([sys.executable, "-c", head + code], check=True, cwd=tmp_path, env=os.environ | features)
    for found, expected in zip(torch.load(tmp_path / "found.pt"), fire_all(), strict=True):
        assert torch.equal(found, expected)


# ---------------------------------------------------------------- GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@settings(max_examples=60, deadline=None)
@given(**CASES, beta=st.sampled_from([0.0, 0.9, 1.0]), num_steps=st.sampled_from([None, 5]))
def test_gpu_lif_equals_the_reference(shape, layout, reset, spike, dtype, seed, beta, num_steps) -> None:
    from triton_cases import check_lif

    check_lif("cuda", LAYOUTS[layout](currents(shape, dtype, seed)), reset, spike, beta, num_steps)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@settings(max_examples=40, deadline=None)
@given(**CASES, num_steps=st.sampled_from([None, 5]))
def test_gpu_srm_equals_the_reference(shape, layout, reset, spike, dtype, seed, num_steps) -> None:
    from triton_cases import check_srm

    check_srm("cuda", LAYOUTS[layout](currents(shape, dtype, seed)), reset.detached, spike, num_steps)


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU is tested itself")
def test_gpu_kernels_in_tritons_interpreter() -> None:
    script = Path(__file__).parent / "triton_cases.py"
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, str(script)], check=True, env=environment)
