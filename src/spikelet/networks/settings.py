"""What a network is made of, in words and numbers."""

import math
from dataclasses import dataclass, field

from spikelet.arguments import check_fields
from spikelet.encoders import check_codes
from spikelet.errors import SpikeletError
from spikelet.integer.check import PIXEL_MAX
from spikelet.networks.layers import CONNECT
from spikelet.quantizers import QUANTIZERS
from spikelet.surrogate import SURROGATES

SPIKING = ("lif", "srm", "trace")
RESETS = ("subtract", "subtract_next", "zero")
CORRECTION = ("threshold", "leak", "gain")


@dataclass
class NetworkSettings:
    """What a network is made of: a quantized one, to be converted, or, with a ``neuron``, a spiking one.

    notation      tokens joined by "-": nCk[sS][pP][gG] convolution of n channels, k x k, stride S, padding P, G groups;
                  MPk[sS][pP], APk[sS][pP] maximum and average pooling, stride k and padding 0 if not said; Pk the
                  pooling that ``pool`` names; GAP average of the whole plane; FCn or n linear; [body] a residual block
                  that is added to its input, [body|shortcut] to its input behind the shortcut's layers. The last token
                  is linear: the classes. Or the name of one of ``networks.PUBLISHED``, such as "7b-net".
                  First in a network for events: TSn[xm]rR, time surfaces of radius R in cells of n x m sites (rows,
                  columns; m = n if not said), and their neurons
    pool          what Pk means: "conv" (the trainable k x k stride-k convolution of works D and E), "max" or "avg"
    k             activation level: values are multiples of 2^-k; None for a plain ReLU
    max_count     upper bound of a hidden activation's count, 1 to 127
    weights       hidden layers: a quantizer, "ternary", "twn", "cbp_binary", "cbp_ternary", "cbp_shift3", "cbp_shift7",
                  "uniform2" to "uniform8"; or "float"
    first, last   "integer" (8-bit weights; the first on raw pixels) or "parity" (float weights, as published)
    first_levels  bound of the first layer's count, whose level is then 0 (unary code); None: like any other layer
    pixel_scale   pixels are divided by it before the first layer

    Spiking networks, trained through time; ``k``, ``max_count`` and ``first_levels`` mean nothing to them:

    neuron        None: not a spiking network; "lif" follows every weighted layer, after batch
                  norm and after the MP and AP that stand behind the layer (they pool currents). SMP and SAP in that
                  place, GAP, and pooling in any other place, such as behind a residual block, pool spikes.
                  "trace" sends the trace of its spikes (``neurons.TraceLIF``); "srm" has two time constants
                  (``neurons.SRM``). Time surfaces are followed by leaky integrate-and-fire neurons, whatever it is
    connect       residual blocks of a = body(x): "add" a + x, "and" a * x, "iand" (1 - a) * x
    num_steps     time steps T: frames of a recording, or how often an image is shown
    stop_after    how many of them are run, the first ones; None: all. Training sets it (``train.min_steps``)
    beta, v_threshold   decay per step and threshold; learned, one number per layer, with ``learn_beta``,
                  ``learn_threshold``
    tau_m, tau_s  of "trace": time constants of membrane and trace, in steps; beta, reset and surrogate are not for it.
                  Of "srm": of membrane and synapse, in the unit of ``dt``; beta and reset are not for it
    dt            duration of a step, of "srm" and of time surfaces; there in seconds, as all times then
    temporal_kernel  of time surfaces: "kt", exp(-t / tau_1), or "ktzs", which sums to zero:
                  exp(-t / tau_1) - exp(-t / tau_2) / 2
    tau_1, tau_2  their time constants, in the unit of ``dt``
    reset         "subtract" the threshold, "subtract_next" (in the next step, snnTorch's) or "zero"
    detach_reset  no gradient flows through the reset
    surrogate     the gradient's shape, and ``slope`` its parameter (alpha or width); None: the one it usually has
    height        of the surrogates "boxcar" and "triangle": the gradient at the threshold; None: so that its area is 1
    norm          "batch" or "none"; then layers have a ``bias``, unless that is false
    init_gain     weights begin as torch's uniform ones, +-1 / sqrt(inputs), times this; sqrt(3) keeps the variance of
                  what goes through, which deep networks without batch norm need
    readout       logits of a step: "spikes" (of "trace": traces) of neurons on the last layer, or its "current"
    coding        codes of images, some of "direct", "rate" and "latency", or of frames, of "event" and "delta", in a
                  learned mix (``encoders.DynamicCode``); none: images are shown, and frames taken, as they are
    coding_gain   the mix of each step is multiplied by a number that is learned from the sample's mean and deviation
    coding_stage  the first layer's currents fade instead of vanishing (``encoders.CodingStage``)
    correction    of "lif", what corrects itself: "threshold", by a neuron's spikes; "leak", by the layer's mean
                  membrane (both: ``neurons.AdaptiveLIF``); "gain", the weights by the channel's firing rate
                  (``networks.RateGain``). The threshold and the decay of those that move are learned, whatever
                  ``learn_threshold`` and ``learn_beta`` say
    adapt_decay, adapt_growth   of thresholds that move: what a step leaves of a rise, and what a spike in each of the
                  last three steps adds
    target_rate, gain_strength  of the gain: spikes per neuron and step, and how strongly it pulls to them
    arithmetic    "float", or "integer": what the integer network computes, to train against before it is converted
    pixel_offset  subtracted from the pixels of an image first: nothing, one whole number, or one per channel
    """

    notation: str = "32C5-P2-64C5-P2-1000C4-FC10"
    pool: str = "conv"
    k: int | None = 0
    max_count: int = 127
    weights: str = "ternary"
    first: str = "integer"
    last: str = "integer"
    first_levels: int | None = 4
    pixel_scale: float = 255.0
    neuron: str | None = None
    connect: str = "add"
    num_steps: int = 10
    stop_after: int | None = None
    beta: float = 0.5
    v_threshold: float = 1.0
    learn_beta: bool = False
    learn_threshold: bool = False
    tau_m: float = 5.0
    tau_s: float = 3.0
    dt: float = 1.0
    temporal_kernel: str = "ktzs"
    tau_1: float = 10.0
    tau_2: float = 20.0
    reset: str = "subtract"
    detach_reset: bool = True
    surrogate: str = "fast_sigmoid"
    slope: float | None = None
    height: float | None = None
    norm: str = "batch"
    bias: bool = True
    init_gain: float = 1.0
    readout: str = "spikes"
    coding: list[str] = field(default_factory=list)
    coding_gain: bool = False
    coding_stage: bool = False
    correction: list[str] = field(default_factory=list)
    adapt_decay: float = 0.9
    adapt_growth: float = 0.1
    target_rate: float = 0.1
    gain_strength: float = 0.1
    arithmetic: str = "float"
    pixel_offset: list[int] = field(default_factory=list)

    def check(self) -> None:
        check_fields("model", self)
        for name, allowed in (
            ("pool", ("conv", "max", "avg")),
            ("weights", (*QUANTIZERS, "float")),
            ("first", ("integer", "parity")),
            ("last", ("integer", "parity")),
            ("neuron", (None, *SPIKING)),
            ("connect", tuple(CONNECT)),
            ("reset", RESETS),
            ("surrogate", tuple(SURROGATES)),
            ("norm", ("batch", "none")),
            ("readout", ("spikes", "current")),
            ("arithmetic", ("float", "integer")),
            ("temporal_kernel", ("kt", "ktzs")),
        ):
            if getattr(self, name) not in allowed:
                raise SpikeletError(
                    f"model.{name}: expected one of {', '.join(map(str, allowed))}, got {getattr(self, name)!r}"
                )
        if self.connect != "add" and self.neuron is None:
            raise SpikeletError(f"model.connect: expected add where there is no model.neuron, got {self.connect!r}")
        for name, low, high in (("k", 0, 6), ("max_count", 1, 127), ("first_levels", 1, 127)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise SpikeletError(f"model.{name}: expected {low} to {high}, got {value}")
        for name in ("pixel_scale", "v_threshold", "init_gain", "dt", "tau_1", "tau_2"):
            if not 0 < getattr(self, name) < math.inf:
                raise SpikeletError(f"model.{name}: expected a positive number, got {getattr(self, name)}")
        if self.slope is not None and (not self.slope > 0 or self.surrogate == "straight_through"):
            expected = "null: it has none" if self.surrogate == "straight_through" else "a positive number"
            raise SpikeletError(f"model.slope: of {self.surrogate}, expected {expected}, got {self.slope}")
        for name in ("pixel_offset", "arithmetic", "init_gain"):
            value = getattr(self, name)
            if self.neuron is None and value not in ([], "float", 1.0):
                raise SpikeletError(f"model.{name}: only for networks trained through time (model.neuron), got {value}")
        if not all(0 <= offset <= 255 for offset in self.pixel_offset):
            raise SpikeletError(f"model.pixel_offset: expected pixels, 0 to 255, got {self.pixel_offset}")
        if self.num_steps < 1:
            raise SpikeletError(f"model.num_steps: expected at least 1, got {self.num_steps}")
        if self.stop_after is not None and not 1 <= self.stop_after <= self.num_steps:
            expected = f"null or 1 to {self.num_steps}, which is model.num_steps"
            raise SpikeletError(f"model.stop_after: expected {expected}, got {self.stop_after}")
        if not 0 <= self.beta <= 1:
            raise SpikeletError(f"model.beta: expected a decay per step in [0, 1], got {self.beta}")
        if self.height is not None and (not self.height > 0 or self.surrogate not in ("boxcar", "triangle")):
            raise SpikeletError(f"model.height: expected a positive number, of boxcar or triangle, got {self.height}")
        if self.neuron == "srm" and not 0 < self.tau_s < self.tau_m < math.inf:
            raise SpikeletError(f"model.tau_m, model.tau_s: expected tau_m > tau_s > 0, got {self.tau_m}, {self.tau_s}")
        if self.temporal_kernel == "ktzs" and not self.tau_1 < self.tau_2:
            raise SpikeletError(f"model.tau_1, model.tau_2: expected tau_1 < tau_2, got {self.tau_1}, {self.tau_2}")
        for name in ("tau_m", "tau_s"):
            if self.neuron == "trace" and not 1 <= getattr(self, name) < math.inf:
                raise SpikeletError(f"model.{name}: expected a number, at least 1 step, got {getattr(self, name)}")
        for name in ("learn_beta", "learn_threshold"):
            if self.neuron in ("trace", "srm") and getattr(self, name):
                raise SpikeletError(f"model.{name}: expected false with model.neuron={self.neuron}, got true")
        self._check_coding()
        self._check_correction()

    def _check_coding(self) -> None:
        for name in ("coding", "coding_gain", "coding_stage"):
            value = getattr(self, name)
            if value and self.neuron in (None, "trace"):
                raise SpikeletError(f"model.{name}: only with model.neuron=lif or srm, not {self.neuron}, got {value}")
        if self.coding_gain and not self.coding:
            raise SpikeletError("model.coding_gain: expected codes in model.coding, such as [direct], got none")
        if not self.coding:
            return
        check_codes("model.coding", self.coding)
        if self.pixel_offset or self.pixel_scale < PIXEL_MAX:
            raise SpikeletError(
                f"model.pixel_offset, model.pixel_scale: model.coding takes values in [0, 1]; expected [] and at least "
                f"{PIXEL_MAX}, got {self.pixel_offset} and {self.pixel_scale:g}"
            )

    def _check_correction(self) -> None:
        parts = self.correction
        if not set(parts) <= set(CORRECTION) or len(set(parts)) < len(parts):
            raise SpikeletError(
                f"model.correction: expected some of {', '.join(CORRECTION)}, each once, got {[*parts]}"
            )
        if parts and self.neuron != "lif":
            raise SpikeletError(f"model.correction: only with model.neuron=lif, not {self.neuron}, got {[*parts]}")
        if {"threshold", "leak"} & {*parts} and self.reset == "subtract_next":
            raise SpikeletError("model.reset: with model.correction, expected subtract or zero, got subtract_next")
        if "leak" in parts and not 0 < self.beta < 1:
            raise SpikeletError(f"model.beta: of a leak that moves, expected between 0 and 1, got {self.beta}")
        for name in ("adapt_decay", "target_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpikeletError(f"model.{name}: expected 0 to 1, got {getattr(self, name)}")
        for name in ("adapt_growth", "gain_strength"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SpikeletError(f"model.{name}: expected at least 0, got {getattr(self, name)}")
