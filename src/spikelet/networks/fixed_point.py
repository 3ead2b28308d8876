"""Spiking layers in fixed point: what the integer network computes, held by floats, with gradients to train against.

A layer's sums of weights are whole numbers below 2^24, which float32 adds exactly in whatever order; its membranes are
below 2^31, in float64. They count units of the weights' scale (of each output channel's, where a batch norm or float
weights give it one), with ``fraction_bits`` binary places; decays are dyadic fractions. ``integer.LIF`` and
``integer.SRM`` have the formulas.
"""

import math
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from spikelet.encoders import DynamicCode
from spikelet.errors import ConversionError, SpikeletError
from spikelet.integer import LIF as IntegerLIF
from spikelet.integer import SRM as IntegerSRM
from spikelet.integer.check import INT32_MAX, PIXEL_MAX, Decay, leaky_growth, leaky_potential
from spikelet.kernels.conv import conv_max_pool
from spikelet.networks.layers import Op, Shape, SpikePool, SpikingBlock, SurfaceBlock, geometry
from spikelet.networks.snn import SNN
from spikelet.neurons import LIF, SRM, AdaptiveLIF, Neuron
from spikelet.quantizers import latent_weight, weight_quantizer

EXACT = 2**24  # float32 holds every whole number below it
MAX_FRACTION_BITS = 16
MAX_BITS = 16
LEAK_BITS = 6  # binary places of the decay of LIF
TWO_LEAK_BITS = 10  # of SRM, where the difference of two decays makes the membrane
SMALLEST = 1e-12


class Numbers(NamedTuple):
    """A layer in whole numbers, gradients attached.

    weight           codes, of ``bits`` bits, shaped as ``op.weight``
    bias, threshold  [C_out], in units of 2^-fraction_bits accumulators
    unit             [C_out]: the membrane that one of those units stands for
    decays           (leak, shift) of each trace, none where there are no neurons: leak / 2^shift, which is in
                     ``kept``, [] each
    """

    weight: Tensor
    bits: int
    bias: Tensor
    threshold: Tensor
    unit: Tensor
    kept: list[Tensor]
    decays: list[Decay]
    fraction_bits: int

    def neuron(self, reset: str) -> IntegerLIF | IntegerSRM:
        """The neurons of the integer network."""
        bias, threshold = (t.round().to(torch.int32).numpy(force=True) for t in (self.bias, self.threshold))
        return _integer_neuron(bias, threshold, self.decays, self.fraction_bits, reset)


class FixedPointBlock(SpikingBlock):
    """A ``SpikingBlock`` in fixed point; a batch norm keeps the running statistics that it has. Exact on a CPU.

    Float weights, those of the first and the last layer say, become codes of up to 16 bits, with a scale for each
    output channel (one for all on a readout of currents). A gain stands still. A layer with a ``pixel_unit``, the value
    of a grey level, sees the input: pixels, or counts of events of value 1, either up to 255.
    """

    def __init__(
        self,
        op: Op,
        norm: nn.Module | None,
        neuron: Neuron | None,
        input_shape: Shape,
        unit: float = 1.0,
        pixel_unit: float | None = None,
    ) -> None:
        super().__init__(op, norm, neuron, input_shape, unit)
        self.pixel_unit = pixel_unit
        self.peak = round(1 / unit) if pixel_unit is None else PIXEL_MAX

    def forward(self, x: Tensor, num_steps: int | None = None, code: DynamicCode | None = None) -> Tensor:
        """As ``SpikingBlock.forward``."""
        assert code is None, "a mix of codes is refused when the network is built"
        numbers, unit = self.numbers(shown=num_steps is not None), self._unit(num_steps is not None)
        with torch.autocast(x.device.type, enabled=False), torch.backends.cudnn.flags(allow_tf32=False):
            x = x.float() if unit == 1 else _round(x.float() / unit)
            if num_steps is None:
                charge = self._charge(x.flatten(0, 1), numbers).unflatten(0, x.shape[:2])
            else:
                charge = self._charge(x, numbers)
                charge = charge.expand(num_steps, *charge.shape)
            return _logits(charge, numbers) if self.neuron is None else _fire(charge, numbers, self.neuron)

    def check(self) -> None:
        """Raise SpikeletError where the layer has no integer form."""
        neuron = self.neuron
        if len(self.pool) > 0:
            raise SpikeletError("pooled currents have no integer form; use Pk with model.pool=conv, or SAPk")
        if self.stage is not None:
            raise SpikeletError("a coding stage (model.coding_stage) has no integer form")
        if isinstance(neuron, AdaptiveLIF):
            raise SpikeletError(
                "a threshold or leak that moves (model.correction) has no integer form; of its parts, only gain has"
            )
        if isinstance(neuron, SRM):
            (slow, shift), (fast, other) = (_dyadic(neuron, beta) for beta in neuron.decay[:2])
            if slow << other <= fast << shift:
                raise SpikeletError(
                    f"in integers both decays of {neuron} are {slow} / 2^{shift}: its membrane would stay 0; expected "
                    "model.tau_m and model.tau_s further apart"
                )
        elif neuron is not None and not _has_integer_reset(neuron):
            raise SpikeletError(f"integer arithmetic takes SRM, or LIF with reset subtract or zero, got {neuron}")

    def _charge(self, x: Tensor, numbers: Numbers) -> Tensor:
        if isinstance(self.op, nn.Linear):
            return nn.functional.linear(x.flatten(1), numbers.weight)
        return conv_max_pool(x, numbers.weight, None, geometry(self.op), size=1)

    def numbers(self, shown: bool = False) -> Numbers:
        """The layer in whole numbers, as it is now; ``shown`` where it sees the pixels of a picture."""
        betas, threshold, height = _traces(self.neuron)
        decays = [_dyadic(self.neuron, float(beta.detach())) for beta in betas]
        room = float(INT32_MAX / leaky_growth(decays))
        gain, summand = self._gain()
        codes, scale, bits = self._codes(min(EXACT, room / 2))
        gain, summand, scale = gain.double(), summand.double(), scale.double()
        accumulator = scale * gain.abs() * self._unit(shown)
        finest = (summand.abs() + threshold).clamp_min(SMALLEST) / (room / 4)
        finest = finest if self.neuron is not None else finest.amax().expand_as(finest)  # one unit for all logits
        if bits > 1:  # where bias and threshold leave less room, coarser codes
            codes = _round(codes * _column((accumulator / finest).clamp_max(1), codes).to(codes.dtype))
        accumulator = torch.maximum(accumulator, finest)
        places = self._fraction_bits(codes, summand / accumulator, decays)
        unit = accumulator / 2.0**places
        weight = codes * _column(torch.where(gain < 0, -1, 1).to(codes.dtype), codes)
        whole = _round((threshold / unit).clamp(1, INT32_MAX))
        pairs = zip(betas, decays, strict=True)
        kept = [leak / 2.0**shift + (beta - beta.detach()) for beta, (leak, shift) in pairs]
        return Numbers(weight, bits, _round(summand / unit), whole, unit * height, kept, decays, places)

    def _unit(self, shown: bool) -> float:
        """The value of one grey level, or of one spike."""
        return self.pixel_unit if shown and self.pixel_unit is not None else self.input_unit

    def _gain(self) -> tuple[Tensor, Tensor]:
        """What gain, batch norm and bias do to a channel's sum: factor and summand, [C_out]."""
        latent, norm = latent_weight(self.op), self.norm
        bias = self.op.bias if self.op.bias is not None else latent.new_zeros(latent.shape[0])
        factor = torch.ones_like(bias) if self.gain is None else self.gain()
        if norm is None:
            return factor, bias
        gain = factor * norm.weight / (norm.running_var + norm.eps).sqrt()  # type: ignore[operator,arg-type]
        return gain, norm.bias + gain * (bias - norm.running_mean)  # type: ignore[operator,arg-type]

    def _codes(self, most: float) -> tuple[Tensor, Tensor, int]:
        """Codes with the gradient of the weight, the scale of each output channel [C_out], and the bits of a code.

        Sums of the codes that float weights become stay below ``most``.
        """
        weight, quantizer, bits = self.op.weight, weight_quantizer(self.op), 0
        if quantizer is not None:
            latent, bits = latent_weight(self.op).detach(), quantizer.bits
            scale, codes = quantizer.scale(latent).detach(), quantizer.codes(latent).to(weight.dtype)
        else:
            largest = weight.detach().abs().flatten(1).amax(1).clamp_min(SMALLEST)
            largest = largest if self.neuron is not None else largest.amax().expand_as(largest)
            bits = self._bits_of(weight.detach() / _column(largest, weight), most)
            scale = largest / (2 ** (bits - 1) - 1)
            codes = (weight.detach() / _column(scale, weight)).round()
        scale = scale.expand(len(weight))
        exact = weight / _column(scale, weight)
        return codes + (exact - exact.detach()), scale, bits

    def _bits_of(self, weight: Tensor, most: float) -> int:
        """The bits, up to 16, with which no sum of float weights, scaled to [-1, 1], can reach ``most``."""
        rounding = self.peak * weight[0].numel()
        sums = float(weight.abs().flatten(1).sum(1).max()) * self.peak
        return max(2, min(MAX_BITS, 1 + math.floor(math.log2(max(2.0, (most - rounding) / max(sums, SMALLEST))))))

    def _fraction_bits(self, codes: Tensor, summand: Tensor, decays: list[Decay]) -> int:
        """As many binary places, up to 16, as fit int32; none on a readout of currents."""
        reach = (codes.detach().abs().flatten(1).sum(1) * self.peak).long().numpy(force=True)
        largest = summand.detach().abs().double().numpy(force=True)
        for places in range(MAX_FRACTION_BITS if self.neuron is not None else 0, -1, -1):
            bias = np.ceil(largest * 2.0**places)
            neuron = _integer_neuron(bias, bias, decays, places, "zero")
            if bias.max() < INT32_MAX and reach.max() < EXACT and leaky_potential(reach, neuron) < INT32_MAX:
                return places
        raise SpikeletError("in integer arithmetic its sums may reach 2^24, or its membranes 2^31")


def in_integer_arithmetic(network: SNN) -> SNN:
    """A copy of ``network`` that computes what its integer form will: to look at, or to train on.

    Time surfaces and their neurons stay as they are. Raises ConversionError, naming the layer and why, for what has no
    integer form.
    """
    if network.coding is not None:
        raise ConversionError(f"model.coding: a learned mix of codes has no integer form; got {network.coding}")
    exact = deepcopy(network)
    exact.settings = replace(network.settings, arithmetic="integer")
    for i, (name, block) in enumerate(network.blocks().items()):
        parent, _, key = name.rpartition(".")
        pixel_unit = 1 / network.settings.pixel_scale if i == 0 and network.surface is None else None
        made = FixedPointBlock(
            block.op, block.norm, block.neuron, block.input_shape, block.input_unit, pixel_unit=pixel_unit
        )
        made.pool, made.gain, made.stage = block.pool, block.gain, block.stage
        exact.layers.get_submodule(parent).add_module(key, deepcopy(made))
    _check_integer(exact)
    return exact.train(network.training)


def _check_integer(network: SNN) -> None:
    """Raise ConversionError, naming the layer and why, where a network of ``FixedPointBlock`` has no integer form."""
    for name, layer in network.layers.named_children():
        try:
            if isinstance(layer, FixedPointBlock):
                layer.check()
            elif isinstance(layer, SpikePool) and not isinstance(layer.pool, nn.AvgPool2d):
                raise SpikeletError("a maximum of spikes has no integer form; expected an average, SAPk")
            elif not isinstance(layer, SpikePool | SurfaceBlock):
                raise SpikeletError(f"a {type(layer).__name__} has no integer form yet")
        except SpikeletError as error:
            raise ConversionError(f"layer {name}: {error}") from None


def _logits(charge: Tensor, numbers: Numbers) -> Tensor:
    """Whole numbers times a power of two near what they stand for, so that their sums are exact as well."""
    scale = 2.0 ** round(math.log2(float(numbers.unit[0].detach())))
    return (charge + _behind(numbers.bias, charge).to(charge.dtype)) * scale


def _fire(charge: Tensor, numbers: Numbers, neuron: Neuron) -> Tensor:
    """Spikes [T, N, ...] of accumulators ``charge`` [T, N, ...]; the surrogate sees what the membranes stand for."""
    assert isinstance(neuron, LIF | SRM)
    bias, threshold, unit = (_behind(t, charge) for t in (numbers.bias, numbers.threshold, numbers.unit))
    subtracts = isinstance(neuron, LIF) and neuron.v_reset is None
    traces, spikes = [torch.zeros_like(charge[0], dtype=torch.float64) for _ in numbers.kept], []
    for x in charge:
        current = x.double() * 2.0**numbers.fraction_bits + bias
        traces = [_floor(v * kept) + current for v, kept in zip(traces, numbers.kept, strict=True)]
        v = traces[0] if isinstance(neuron, LIF) else traces[0] - traces[1]
        s = neuron.surrogate((v - threshold) * unit)
        r = s.detach() if neuron.detach_reset else s
        traces = [v - r * (threshold if subtracts else v) for v in traces]
        spikes.append(s.to(charge.dtype))
    return torch.stack(spikes)


def _traces(neuron: Neuron | None) -> tuple[list[Tensor], Tensor, float]:
    """What each trace of a neuron keeps per step, []; its threshold, in the unit of its currents, []; and the membrane
    that such a unit stands for.
    """
    if isinstance(neuron, SRM):
        *betas, height = neuron.decay
        slow, fast, threshold = (torch.tensor(x, dtype=torch.float64) for x in (*betas, neuron.v_threshold / height))
        return [slow, fast], threshold, height
    if isinstance(neuron, LIF):
        return [torch.as_tensor(neuron.decay()).double()], torch.as_tensor(neuron.threshold()), 1.0
    return [torch.zeros((), dtype=torch.float64)], torch.zeros(()), 1.0


def _has_integer_reset(neuron: Neuron) -> bool:
    return isinstance(neuron, LIF) and neuron.v_reset in (None, 0.0) and not neuron.delay_reset


def _integer_neuron(
    bias: np.ndarray, threshold: np.ndarray, decays: list[Decay], fraction_bits: int, reset: str
) -> IntegerLIF | IntegerSRM:
    """The neuron of one trace or of two; ``reset`` is for the first."""
    if len(decays) == 2:
        return IntegerSRM(bias, threshold, *decays[0], fraction_bits, *decays[1])
    return IntegerLIF(bias, threshold, *decays[0], fraction_bits, reset)


def _behind(values: Tensor, charge: Tensor) -> Tensor:
    """[C_out], to broadcast with ``charge`` [T, N, C_out, ...] and its steps."""
    return values.reshape(-1, *[1] * (charge.dim() - 3))


def _column(values: Tensor, weight: Tensor) -> Tensor:
    """[C_out] or [], to broadcast with ``weight`` [C_out, ...]."""
    return values.reshape(-1, *[1] * (weight.dim() - 1))


def _dyadic(neuron: Neuron | None, beta: float) -> Decay:
    return dyadic(beta, TWO_LEAK_BITS if isinstance(neuron, SRM) else LEAK_BITS)


def dyadic(beta: float, places: int = LEAK_BITS) -> Decay:
    """The fraction leak / 2^shift with at most so many binary places that is nearest to ``beta``, in lowest terms.

    >>> dyadic(0.25), dyadic(0.8), dyadic(1.0), dyadic(0.0), dyadic(0.92004, places=10)
    ((1, 2), (51, 6), (1, 0), (0, 0), (471, 9))
    """
    leak, shift = round(beta * 2**places), places
    while shift and leak % 2 == 0:
        leak, shift = leak // 2, shift - 1
    return leak, shift


def _round(x: Tensor) -> Tensor:
    """Rounded, with the gradient of ``x``; what is added is exactly 0."""
    return x.detach().round() + (x - x.detach())


def _floor(x: Tensor) -> Tensor:
    return x.detach().floor() + (x - x.detach())
