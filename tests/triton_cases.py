"""The Triton kernels against the reference. Run as a script, in Triton's interpreter: TRITON_INTERPRET=1."""

import itertools

import torch
from torch import Tensor

from spikelet.kernels import fused, reference
from spikelet.kernels.reference import Decay, Reset
from spikelet.surrogate import SURROGATES, Surrogate


def check_lif(device: str, x: Tensor, reset: Reset, spike: Surrogate, beta: float, num_steps: int | None) -> None:
    """Spikes bit for bit; gradients to 1e-5 of the largest (float32), of the numbers to 1e-5 of what is summed."""
    from spikelet.kernels import gpu

    x = (x if num_steps is None else x[0]).to(device).detach().requires_grad_()
    wide = x.detach().float().requires_grad_()
    repeated = wide if num_steps is None else wide.expand(num_steps, *wide.shape)
    numbers = [torch.tensor(value, device=device, requires_grad=True) for value in (beta, 0.75)]
    each = [n.detach().expand(repeated.shape[1:]).clone().requires_grad_() for n in numbers]
    found = fused.run(fused.Layer(spike, reset), gpu, x, num_steps, *numbers)
    expected = reference.lif(repeated, *each, spike, reset)
    assert torch.equal(found.float(), expected), "spikes"
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).to(device, x.dtype)
    of_x, *of_numbers = torch.autograd.grad((found * weight).sum(), [x, *numbers])
    wanted, *per_neuron = torch.autograd.grad((expected * weight.float()).sum(), [wide, *each])
    tolerance = 1e-5 if x.dtype == torch.float32 else 2**-7
    assert (of_x.float() - wanted).abs().max() <= tolerance * wanted.abs().max() + 1e-30, "gradient of x"
    for one, many in zip(of_numbers, per_neuron, strict=True):
        assert (one.double() - many.double().sum()).abs() <= 1e-5 * many.double().abs().sum() + 1e-30, "of a number"
    plain = fused.run(fused.Layer(spike, reset), gpu, x, num_steps, beta, 0.75)
    assert torch.equal(plain, found), "numbers that are not learned"


def check_srm(device: str, x: Tensor, detached: bool, spike: Surrogate, num_steps: int | None) -> None:
    """Spikes bit for bit; gradients to 1e-5 of the largest (float32)."""
    from spikelet.kernels import gpu

    x = (x if num_steps is None else x[0]).to(device).detach().requires_grad_()
    wide = x.detach().float().requires_grad_()
    repeated = wide if num_steps is None else wide.expand(num_steps, *wide.shape)
    decay = Decay(0.92004, 0.77880, 1.5)
    found = fused.run(fused.Layer(spike, Reset(0.0, detached), decay), gpu, x, num_steps, 0.0, 0.25)
    expected = reference.srm(repeated, decay, 0.25, spike, detached)
    assert torch.equal(found.float(), expected), "spikes"
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).to(device, x.dtype)
    of_x, wanted = (
        torch.autograd.grad((s * weight).sum(), given)[0].float() for s, given in ((found, x), (expected, wide))
    )
    tolerance = 1e-5 if x.dtype == torch.float32 else 2**-7
    assert (of_x - wanted).abs().max() <= tolerance * wanted.abs().max() + 1e-30, "gradient of x"


def main() -> None:
    x = 1.5 * torch.randn(6, 2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    x = torch.where(x > 0.5, (8 * x).round() / 8, x)
    last = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (6, 2))
    resets = [Reset(*r) for r in itertools.product([None, -0.25], [True, False], [True, False])]
    for reset, make in itertools.product(resets, SURROGATES.values()):
        check_lif("cpu", x, reset, make(), 0.9, None)
        check_lif("cpu", x, reset, make(), 1.0, 5)
    for given in (last, x.bfloat16(), last.half()):
        check_lif("cpu", given, Reset(), SURROGATES["atan"](), 0.9, None)
        check_lif("cpu", given, Reset(0.0), SURROGATES["sigmoid"](), 0.5, 4)
        check_srm("cpu", given, True, SURROGATES["atan"](), None)
    for make, detached, held in itertools.product(SURROGATES.values(), [True, False], [None, 5]):
        check_srm("cpu", x, detached, make(), held)


if __name__ == "__main__":
    main()
