"""The frozen integer network: its layers, what makes them valid, and how to run and keep it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from spikelet.arguments import check_whole
from spikelet.errors import SpikeletError

if TYPE_CHECKING:
    from spikelet.integer.engine import Engine

IMAGE = -1
MOST_COUNTED = 2**15 - 1
BACKENDS = ("auto", "events", "dense", "bits", "reference")


@dataclass(frozen=True, eq=False)
class Neuron:
    """A threshold-walk neuron per output channel, in fixed point.

    With the membrane V = (W . counts) << fraction_bits, the count settles at 0 below ``first``, else at
    ``min(1 + (V - first) // step, max_count)``.

    first, step    int32 [C_out], step >= 1
    fraction_bits  binary places of the thresholds, 0 to 30
    max_count      1 to 127
    """

    first: np.ndarray
    step: np.ndarray
    fraction_bits: int
    max_count: int


@dataclass(frozen=True, eq=False)
class LIF:
    """A leaky integrate-and-fire neuron per output channel, in fixed point. Per step, from V = 0:

        V = floor(V * leak / 2^shift) + (W . spikes << fraction_bits) + bias
        a spike where V >= threshold; there V = 0 (reset "zero") or V = V - threshold ("subtract")

    bias, threshold  int32 [C_out], threshold >= 1
    leak, shift      the decay per step as a dyadic fraction, 0 <= leak <= 2^shift, shift 0 to 15; where it is 1,
                     membranes have room for 1024 steps
    fraction_bits    binary places of V, bias and threshold, 0 to 30
    reset            "zero" or "subtract"
    """

    bias: np.ndarray
    threshold: np.ndarray
    leak: int
    shift: int
    fraction_bits: int
    reset: str


@dataclass(frozen=True, eq=False)
class SRM:
    """A neuron with two leaky traces per output channel, in fixed point. Per step, from m = c = 0:

        x = (W . spikes << fraction_bits) + bias
        m = floor(m * leak / 2^shift) + x
        c = floor(c * synapse_leak / 2^synapse_shift) + x
        a spike where m - c >= threshold; there m = c = 0

    All as in ``LIF``, twice; the second trace is forgotten faster: its fraction is the smaller one.
    """

    bias: np.ndarray
    threshold: np.ndarray
    leak: int
    shift: int
    fraction_bits: int
    synapse_leak: int
    synapse_shift: int


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution of spikes (or of the input) with integer weights; a linear layer is one whose kernel is the plane.

    name     what errors and reports call it
    source   index of an earlier node, or -1 for the input, image or frames
    weight   int8 [C_out, C_in // groups, kh, kw]; int16 where bits are more than 8
    bits     storage width: 1 (binary: -1 and 1) to 16 (two's complement)
    neuron   None: the readout, whose sums are the logits
    bias     int32 [C_out], readout only; added once, at t = 0, but behind leaky neurons at every step
    """

    name: str
    source: int
    weight: np.ndarray
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int
    bits: int
    neuron: Neuron | LIF | SRM | None
    bias: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class SumPool:
    """Sum of the spikes in each window: average pooling, whose 1 / area belongs to the unit of the counts."""

    name: str
    source: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class MaxPool:
    """Maximum of the counts in each window; passes on its changes as signed spikes."""

    name: str
    source: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class Add:
    """Residual sum: passes on the spikes of both sources, which have equal shapes."""

    name: str
    sources: tuple[int, int]


Node = Conv | SumPool | MaxPool | Add


class Rule(Protocol):
    """When an image has decided; ``spikelet.exits.Margin`` is one that knows no float."""

    def decided(self, sums: np.ndarray) -> np.ndarray:
        """bool [...], of the logits summed so far, int64 [..., classes]."""
        ...


@dataclass(frozen=True)
class Asked:
    """What a run is to keep beside its logits; see ``IntegerNetwork.run``."""

    record: bool = False
    counts: bool = False
    samples: bool = False


@dataclass
class Record:
    """What a run gave, summed over the batch where no N is named. L layers with neurons, T steps, N images.

    logits                int32 [T, N, classes], what each step adds
    layers                names of the L layers, in order
    neurons               int64 [L]
    positive, negative    int64 [L, T], spikes of +1 and of -1 (None without ``record``, as the next two)
    synaptic_operations   int64 [L, T], |spikes| times true fan-out into all consumers; what a maximum passes on is
                          counted with the layer in front of it
    effective_operations  int64 [L, T], the same, non-zero weights only
    counts                int8 [N, C, H, W] per layer, the final counts, int16 of leaky neurons (None without
                          ``counts``)
    input_events          int64 [T], what the input's frames hold (None where the input is an image, or not recorded)
    input_operations      int64 [2, T], those events times true fan-out, and the same, non-zero weights only
    sample_spikes         int64 [T, N], spikes of either sign, of all layers (None without ``samples``, as the next two)
    sample_operations     int64 [T, N], their synaptic operations
    sample_input          int64 [T, N], the synaptic operations of the input's frames (None where it is an image)
    exit_steps            int64 [N], 1 to T: the steps that each image was run for (None without ``exit``)
    """

    logits: np.ndarray
    layers: tuple[str, ...]
    neurons: np.ndarray
    positive: np.ndarray | None = None
    negative: np.ndarray | None = None
    synaptic_operations: np.ndarray | None = None
    effective_operations: np.ndarray | None = None
    counts: list[np.ndarray] | None = None
    input_events: np.ndarray | None = None
    input_operations: np.ndarray | None = None
    sample_spikes: np.ndarray | None = None
    sample_operations: np.ndarray | None = None
    sample_input: np.ndarray | None = None
    exit_steps: np.ndarray | None = None


@dataclass(eq=False)
class IntegerNetwork:
    """Frozen layers of integer arrays: uint8 images or frames of events in, integer logits out, not one float between.

    All its neurons are threshold-walk neurons, then an image is presented once; or all are leaky, LIF or SRM, then it
    is presented at every step, or a frame of events arrives there, and the last layer may have neurons, whose spikes
    are the logits.

    nodes         in order; each reads the input (-1, convolutions only) or earlier nodes; the last is the readout,
                  whose output is C x 1 x 1
    input_shape   (C, H, W)
    metadata      anything that JSON can hold; saved with the network
    pixel_offset  of leaky networks, what is subtracted from an image's pixels first: nothing, or 0 to 255 per channel
    frames        0: the input is an image; else frames of events, of which a site counts so many at most, up to 255

    Raises ConversionError, naming the node and why, for anything that does not fit together or could overflow int32.

    >>> weight = np.array([1, -1], np.int8).reshape(2, 1, 1, 1)
    >>> neuron = Neuron(np.array([100, 100], np.int32), np.array([100, 100], np.int32), 0, 4)
    >>> hidden = Conv("hidden", -1, weight, (1, 1), (0, 0), 1, 2, neuron)
    >>> readout = Conv("out", 0, np.eye(2, dtype=np.int8).reshape(2, 2, 1, 1), (1, 1), (0, 0), 1, 2, None)
    >>> network = IntegerNetwork([hidden, readout], (1, 1, 1))
    >>> network
    IntegerNetwork(hidden, out; input 1 x 1 x 1)
    >>> network.run(np.array([[[[250]]]], np.uint8), num_steps=3).logits[:, 0].tolist()
    [[1, 0], [1, 0], [0, 0]]
    """

    nodes: Sequence[Node]
    input_shape: tuple[int, int, int]
    metadata: dict[str, Any] = field(default_factory=dict)
    pixel_offset: tuple[int, ...] = ()
    frames: int = 0

    def __post_init__(self) -> None:
        from spikelet.integer.check import check, check_frames, check_offset

        self.nodes = tuple(self.nodes)
        self.input_shape = tuple(int(size) for size in self.input_shape)  # type: ignore[assignment]
        self.pixel_offset = check_offset(self.pixel_offset, self.input_shape, self.leaky and not self.frames)
        self.frames = check_frames(self.frames, self.leaky)
        self.shapes: tuple[tuple[int, int, int], ...] = check(self.nodes, self.input_shape, self.frames)
        self._engine: Engine | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        names = ", ".join(node.name for node in self.nodes)
        kinds = {type(node.neuron).__name__ for node in self.nodes if isinstance(node, Conv) and _leaks(node)}
        told = [("frames " if self.frames else "input ") + " x ".join(map(str, self.input_shape)), *sorted(kinds)]
        return f"IntegerNetwork({names}; {', '.join(told)})"

    def __getstate__(self) -> dict[str, Any]:
        kept = "nodes", "input_shape", "metadata", "pixel_offset", "frames"
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def layers(self) -> tuple[int, ...]:
        """Indices of the nodes that have neurons."""
        return tuple(i for i, node in enumerate(self.nodes) if isinstance(node, Conv) and node.neuron is not None)

    @property
    def leaky(self) -> bool:
        """Whether its neurons leak."""
        return any(isinstance(node, Conv) and _leaks(node) for node in self.nodes)

    def run(
        self,
        images: np.ndarray,
        num_steps: int,
        record: bool = False,
        counts: bool = False,
        backend: str = "auto",
        num_threads: int | None = None,
        samples: bool = False,
        exit: Rule | None = None,
    ) -> Record:
        """Present ``images`` once, at t = 0 (to leaky neurons: at every step), and walk ``num_steps`` steps.

        images       uint8 [N, C, H, W], pixels 0 to 255; of a network for ``frames``: uint8 [T, N, C, H, W], the events
                     at each site in each step, of which the first ``num_steps`` are taken
        record       count spikes and operations
        counts       keep the final count of every neuron: of leaky ones, how often it fired, up to 32,767 times
        backend      "events", "dense", "bits", "auto" (whichever is fastest at the density found, layer by layer) or
                     "reference" (plain numpy); all give the same numbers
        num_threads  None: all that this process may use
        samples      count spikes and operations of each image, too
        exit         such as ``exits.Margin(100)``: an image that has decided is not run any further; what it would have
                     added to logits and counts later is 0
        """
        images = self._frames(images) if self.frames else self._images(images)
        check_whole("num_steps", num_steps)
        if backend not in BACKENDS:
            raise SpikeletError(f"backend: expected one of {', '.join(BACKENDS)}, got {backend!r}")
        if num_threads is not None:
            check_whole("num_threads", num_threads)
        self._check_steps(int(num_steps), counts)
        if self.frames and num_steps > len(images):
            raise SpikeletError(f"num_steps: expected 1 to {len(images)}, the number of frames, got {num_steps}")
        if exit is not None and not hasattr(exit, "decided"):
            raise SpikeletError(f"exit: expected None or a rule such as exits.Margin(100), got {exit!r}")
        asked = Asked(record, counts, samples)
        if backend == "reference":
            from spikelet.integer import reference

            return reference.run(self, images, int(num_steps), asked, exit)
        return self._compiled().run(images, int(num_steps), asked, backend, num_threads, exit)

    def _check_steps(self, num_steps: int, counts: bool) -> None:
        """Raise SpikeletError for more steps than the counts, or membranes without a leak, have room for."""
        from spikelet.integer.check import MOST_STEPS, decays

        if counts and self.leaky and num_steps > MOST_COUNTED:
            raise SpikeletError(f"counts: leaky neurons are counted over at most {MOST_COUNTED} steps, got {num_steps}")
        leaks = [pair for node in self.nodes if isinstance(node, Conv) for pair in decays(node.neuron)]
        if num_steps > MOST_STEPS and any(leak == 1 << shift for leak, shift in leaks):
            raise SpikeletError(f"num_steps: neurons without a leak take at most {MOST_STEPS}, got {num_steps}")

    def predict(
        self, images: np.ndarray, num_steps: int, num_threads: int | None = None, exit: Rule | None = None
    ) -> np.ndarray:
        """The class of each image after ``num_steps`` steps or at its exit: argmax of the summed logits, int64 [N]."""
        run = self.run(images, num_steps, num_threads=num_threads, exit=exit)
        return run.logits.sum(axis=0, dtype=np.int64).argmax(axis=1)

    def describe(self) -> list[dict[str, Any]]:
        """One row per node: name, kind, shape (C, H, W), neurons, weights (and how many are not 0), bits,
        weight_bytes as stored, macs (dense multiply-accumulates per image, borders honoured) and max_potential
        (what no membrane or logit can exceed, in the units of the thresholds).
        """
        from spikelet.integer.check import describe

        return describe(self)

    def save(self, path: str | Path) -> Path:
        """Write one ``.safetensors`` file: weights at their widths in bits, the architecture as JSON in its header."""
        from spikelet.integer import format

        return format.save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> IntegerNetwork:
        """Read what ``save`` wrote; FormatError, naming the file, for anything else."""
        from spikelet.integer import format

        return format.load(path)

    def _images(self, images: np.ndarray) -> np.ndarray:
        expected = f"uint8 [N, {', '.join(map(str, self.input_shape))}]"
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != self.input_shape:
            raise SpikeletError(f"images: expected {expected}, got {images.dtype} {list(images.shape)}")
        return np.require(images, requirements=["C", "W"])

    def _frames(self, frames: np.ndarray) -> np.ndarray:
        expected = f"uint8 [T, N, {', '.join(map(str, self.input_shape))}], events in each step"
        frames = np.asarray(frames)
        if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[2:] != self.input_shape:
            raise SpikeletError(f"frames: expected {expected}, got {frames.dtype} {list(frames.shape)}")
        if frames.max(initial=0) > self.frames:
            raise SpikeletError(f"frames: expected counts up to {self.frames}, got {frames.max()}")
        return np.require(frames, requirements=["C", "W"])

    def _compiled(self) -> Engine:
        with self._lock:
            if self._engine is None:
                from spikelet.integer.engine import Engine

                self._engine = Engine(self)
            return self._engine


def _leaks(node: Conv) -> bool:
    return isinstance(node.neuron, LIF | SRM)


def load(path: str | Path) -> IntegerNetwork:
    """Read an integer network from a file that ``IntegerNetwork.save`` wrote; FormatError for anything else."""
    return IntegerNetwork.load(path)
