"""A spiking network that is trained through time."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikelet.arguments import check_whole
from spikelet.encoders import DynamicCode
from spikelet.errors import SpikeletError
from spikelet.events import Binned
from spikelet.integer import Record
from spikelet.metrics import effective_fanout, fanout, footprint, macs
from spikelet.networks.layers import Residual, Shape, SpikingBlock, SurfaceBlock
from spikelet.networks.settings import NetworkSettings
from spikelet.neurons import Neuron
from spikelet.quantizers import weight_quantizer


class SNN(nn.Module):
    """A spiking network: ``network(x) -> logits [T, N, classes]``, what each step adds.

    x is a batch of images [N, C, H, W], pixels 0..255, shown for ``num_steps`` steps, or of frames of events
    [T, N, C, H, W], counts; of a network that begins with time surfaces, ``events.Binned``. The answer at a step is the
    argmax of the logits' sum so far. ``run`` has the signature of
    ``IntegerNetwork.run`` and fills the same ``Record``. ``metadata`` is anything that JSON can hold; ``networks.save``
    writes it into the file.
    """

    def __init__(self, layers: nn.Sequential, settings: NetworkSettings, input_shape: Shape) -> None:
        super().__init__()
        self.layers, self.settings, self.input_shape = layers, settings, input_shape
        self.coding = (
            DynamicCode(settings.coding, settings.num_steps, settings.coding_gain) if settings.coding else None
        )
        self.metadata: dict[str, Any] = {}
        if len(settings.pixel_offset) not in (0, 1, input_shape[0]):
            expected = f"none, one or {input_shape[0]}, one per channel"
            raise SpikeletError(f"model.pixel_offset: expected {expected}, got {len(settings.pixel_offset)}")

    def forward(self, x: Tensor | Binned, num_steps: int | None = None) -> Tensor:
        self._check(x)
        if num_steps is None:
            num_steps = self.settings.stop_after
        else:
            check_whole("num_steps", num_steps)
        out = self._first_layer(x, num_steps)
        for layer in [*self.layers][1:]:
            out = layer(out)
        return out

    def _first_layer(self, x: Tensor | Binned, num_steps: int | None) -> Tensor:
        if isinstance(x, Binned):
            return self.layers[0](x if num_steps is None else x.until(num_steps))
        if x.dim() == 4:
            return self._shown(x, num_steps or self.num_steps)
        frames = self._until(x, num_steps)
        if self.coding is not None:
            return self.layers[0](frames.to(next(self.parameters()).dtype), code=self.coding)
        return self.layers[0](self.neuron().signal(frames) if self.settings.neuron == "trace" else frames)

    def pixels(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] as the first layer sees them: (pixel - offset) / scale."""
        pixels = images.to(next(self.parameters()).dtype)
        if self.settings.pixel_offset:
            pixels = pixels - pixels.new_tensor(self.settings.pixel_offset).reshape(-1, 1, 1)
        return pixels / self.settings.pixel_scale

    def _shown(self, images: Tensor, num_steps: int) -> Tensor:
        pixels = self.pixels(images)
        if self.coding is not None:
            return self.layers[0](pixels, num_steps, self.coding)
        if self.settings.neuron != "trace":
            return self.layers[0](pixels, num_steps)
        rising = self.neuron().signal(pixels.expand(num_steps, *pixels.shape))  # so no step's currents are another's
        return self.layers[0](rising)

    def _until(self, frames: Tensor, num_steps: int | None) -> Tensor:
        """The first ``num_steps`` frames of a recording."""
        if num_steps is not None and not 1 <= num_steps <= len(frames):
            raise SpikeletError(f"num_steps: expected 1 to {len(frames)}, the number of frames, got {num_steps}")
        return frames[:num_steps]

    def _check(self, x: Tensor | Binned) -> None:
        channels, height, width = self.input_shape
        if self.surface is not None:
            given = x.sensor_size if isinstance(x, Binned) else [*x.shape]
            if given != (width, height, channels):
                raise SpikeletError(f"x: expected events.Binned of a sensor {(width, height, channels)}, got {given}")
            return
        if not isinstance(x, Tensor | Binned):
            raise SpikeletError(f"x: expected a tensor, got {type(x).__name__}")
        if isinstance(x, Binned):
            raise SpikeletError("x: expected images or frames, got events.Binned; a network for them begins in TS")
        if x.dim() not in (4, 5) or tuple(x.shape[-3:]) != self.input_shape or not x.numel():
            shape = ", ".join(map(str, self.input_shape))
            raise SpikeletError(f"x: expected images [N, {shape}] or frames [T, N, {shape}], got {[*x.shape]}")
        if self.coding is not None and self.coding.of_frames != (x.dim() == 5):
            kind = "frames" if x.dim() == 5 else "images"
            raise SpikeletError(f"x: model.coding={self.settings.coding} takes no {kind}, got {[*x.shape]}")

    @property
    def num_steps(self) -> int:
        """The time steps that it is run for, where nobody says how many."""
        return self.settings.stop_after or self.settings.num_steps

    def blocks(self) -> dict[str, SpikingBlock]:
        """The weighted layers by name, in order."""
        return {name: module for name, module in self.layers.named_modules() if isinstance(module, SpikingBlock)}

    @property
    def surface(self) -> SurfaceBlock | None:
        """What turns events into the first layer's spikes, where the network begins with time surfaces."""
        return self.layers[0] if isinstance(self.layers[0], SurfaceBlock) else None

    def spiking(self) -> dict[str, SpikingBlock | SurfaceBlock]:
        """The layers that have neurons by name, in order."""
        kinds = SpikingBlock | SurfaceBlock
        named = ((name, module) for name, module in self.layers.named_modules() if isinstance(module, kinds))
        return {name: block for name, block in named if block.neuron is not None}

    def neuron(self) -> Neuron:
        """One of its neurons: what is sent from layer to layer is the same kind of signal everywhere."""
        return next(block.neuron for block in self.blocks().values() if block.neuron is not None)

    @torch.no_grad()
    def run(
        self, x: Tensor | Binned, num_steps: int | None = None, record: bool = False, samples: bool = False, **_: object
    ) -> Record:
        """Logits of a batch and, with ``record``, its spikes and synaptic operations; with ``samples`` those of each
        sample, too. In evaluation mode.
        """
        training, num_steps = self.training, self.settings.stop_after if num_steps is None else num_steps
        x = x.to(next(self.parameters()).device)
        self.eval()
        try:
            tally = _Tally(self, samples)
            logits = tally.watch(x, num_steps) if record or samples else self(x, num_steps)
        finally:
            self.train(training)
        return tally.record(logits.float().cpu().numpy())

    def describe(self) -> list[dict]:
        """One row per weighted layer: name, neurons, weights, stored bytes, dense MACs of one step."""
        rows = []
        if self.surface is not None:
            rows.append(self.surface.describe() | {"name": next(iter(self.spiking()))})
        for name, block in self.blocks().items():
            quantizer, count = weight_quantizer(block.op), block.op.weight.numel()
            bits = quantizer.bits if quantizer else 32
            row = {"name": name, "kind": type(block.op).__name__, "weights": count, "bits": bits}
            row |= {"nonzero": int((block.op.weight != 0).sum()), "weight_bytes": footprint(bits, count)}
            row |= {"macs": macs(block.op, block.input_shape)}
            rows.append(row)
        return rows


class _Tally:
    """Spikes of each layer with neurons, and the operations that they cause in the next, per step, summed over N.

    With ``samples`` the same of every sample, summed over the layers but for what the input causes. What leaves a
    residual block is counted with the last layer of its body.
    """

    def __init__(self, network: SNN, samples: bool) -> None:
        self.network, self.blocks, self.neuron = network, network.blocks(), network.neuron()
        self.surface = network.surface
        self.spikes: dict[str, np.ndarray] = {}
        self.neurons: dict[str, int] = {}
        self.operations: dict[str, np.ndarray] = {}
        self.events: np.ndarray | None = None
        self.samples = samples
        self.sample_spikes: list[np.ndarray] = []
        self.sample_operations: dict[str, np.ndarray] = {}
        self.sample_events: np.ndarray | None = None

    def watch(self, x: Tensor | Binned, num_steps: int | None) -> Tensor:
        hooks = [block.register_forward_hook(self._hook(name)) for name, block in self.blocks.items()]
        if isinstance(x, Binned):
            self.events = _numpy(x.per_step()[:num_steps])
            self.sample_events = _numpy(x.per_recording()[:num_steps])
            assert self.surface is not None
            hooks.append(self.surface.register_forward_hook(self._look))
        elif x.dim() == 5:
            self.events = _numpy(x[:num_steps].flatten(1).sum(1, dtype=torch.float64))
        try:
            return self.network(x, num_steps)
        finally:
            for hook in hooks:
                hook.remove()

    def _hook(self, name: str):
        def hook(block: SpikingBlock, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            arrived = self._arrived(name, inputs[0], len(output))
            if arrived is not None:
                full, nonzero = (kind(block.op, block.input_shape) for kind in (fanout, effective_fanout))
                self.operations[name] = np.stack([_operations(arrived, t, block.input_unit) for t in (full, nonzero)])
                if self.samples:
                    self.sample_operations[name] = _sample_operations(arrived, full, block.input_unit)
            if block.neuron is not None:
                self._count(name, self.neuron.spikes(output))

        return hook

    def _arrived(self, name: str, x: Tensor, num_steps: int) -> Tensor | None:
        """The spikes [T, N, ...] that reach a layer; None where that is a picture alone."""
        if name != next(iter(self.blocks)) or (self.network.coding is None and self.events is not None):
            return self.neuron.spikes(x)
        sent = None if self.network.coding is None else self.network.coding.spikes(x, num_steps)
        if sent is not None and self.events is None:
            self.events = _numpy(sent.flatten(1).sum(1, dtype=torch.float64))
        return sent

    def _look(self, surface: SurfaceBlock, inputs: tuple[Binned, ...], output: Tensor) -> None:
        """What happens in the time surfaces; each of their events weighs a patch."""
        name = next(iter(self.network.spiking()))
        assert self.events is not None and self.sample_events is not None
        self.operations[name] = np.stack(2 * [self.events * surface.patch])
        self.sample_operations[name] = self.sample_events * surface.patch
        self._count(name, output)

    def _count(self, name: str, spikes: Tensor) -> None:
        self.spikes[name] = _numpy(spikes.flatten(1).sum(1, dtype=torch.float64))
        self.neurons[name] = spikes[0, 0].numel()
        if self.samples:
            self.sample_spikes.append(_numpy(spikes.flatten(2).sum(2, dtype=torch.float64)))

    def record(self, logits: np.ndarray) -> Record:
        names = tuple(self.spikes)
        if not names:
            return Record(logits, names, np.zeros(0, np.int64))
        sources: dict[str, str] = {}
        _sources(self.network.layers, "", "", sources)
        caused = {name: np.zeros((2, len(logits)), np.int64) for name in ("", *names)}
        for name, operations in self.operations.items():
            caused[sources[name]] += operations
        entering = caused.pop("") if self.events is not None else None
        full, nonzero = np.stack([caused[name] for name in names], axis=1)
        positive = np.stack([*self.spikes.values()])
        neurons = np.array([*self.neurons.values()], np.int64)
        result = Record(
            logits, names, neurons, positive, np.zeros_like(positive), full, nonzero, None, self.events, entering
        )
        if self.samples:
            result.sample_spikes = np.sum(self.sample_spikes, axis=0)
            spent = np.zeros((2, *result.sample_spikes.shape), np.int64)
            for name, operations in self.sample_operations.items():
                spent[int(not sources[name])] += operations
            result.sample_operations = spent[0]
            result.sample_input = spent[1] if self.events is not None else None
        return result


def _sources(layers: nn.Module, prefix: str, source: str, found: dict[str, str]) -> str:
    """Finds, for each weighted layer, the name of the one before it, "" for the first; returns the last one's.

    Behind a residual block that is the last layer of its body.
    """
    for key, layer in layers.named_children():
        if isinstance(layer, SpikingBlock | SurfaceBlock):
            found[prefix + key] = source
            source = prefix + key
        elif isinstance(layer, Residual):
            if layer.shortcut is not None:
                _sources(layer.shortcut, f"{prefix}{key}.shortcut.", source, found)
            source = _sources(layer.body, f"{prefix}{key}.body.", source, found)
    return source


def _operations(x: Tensor, table: Tensor, unit: float) -> np.ndarray:
    """Per step: spikes [T, N, ...] of value ``unit`` times how many synapses each site reaches, ``table`` [...]."""
    x = x if unit == 1 else (x.double() / unit).round()
    return _numpy(x.sum(1).flatten(1).double() @ table.flatten().to(x.device, torch.float64))


def _sample_operations(x: Tensor, table: Tensor, unit: float) -> np.ndarray:
    """The same per step and sample."""
    table = table.flatten().to(x.device, torch.float64)
    return _numpy(torch.stack([(step.flatten(1).double() / unit).round() @ table for step in x]))


def _numpy(counts: Tensor) -> np.ndarray:
    return counts.round().long().cpu().numpy()
