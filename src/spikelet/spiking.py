"""A converted network in floating point: the form that published float first and last layers need.

Networks whose weights are integers belong in ``spikelet.integer``, which gives the same answers, exactly and faster.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikelet.arguments import check_whole
from spikelet.errors import SpikeletError
from spikelet.integer import Add, MaxPool, Record, SumPool
from spikelet.metrics import effective_fanout, fanout, footprint, macs
from spikelet.neurons import ThresholdWalk


@dataclass(frozen=True, eq=False)
class Folded:
    """A weighted layer in accumulator units, float64.

    ``weight`` [C_out, C_in / groups, kh, kw]: integer codes where ``bits`` is set, else the float weights. A neuron of
    channel c has count >= m exactly where its accumulator is >= first[c] + (m - 1) * step[c]; ``first`` is None for the
    readout, whose accumulators (plus ``bias``) are the logits up to the positive factor ``unit``.
    """

    name: str
    source: int
    weight: Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int
    bits: int | None
    unit: float
    first: Tensor | None = None
    step: Tensor | None = None
    max_count: int = 0
    bias: Tensor | None = None


FloatNode = Folded | SumPool | MaxPool | Add


class SpikingNetwork(nn.Module):
    """Threshold-walk neurons between float weights, simulated step by step in float64.

    ``run`` has the signature of ``IntegerNetwork.run`` and fills the same ``Record``; logits are float64.
    """

    def __init__(self, nodes: list[FloatNode], input_shape: tuple[int, int, int], metadata: dict | None = None) -> None:
        super().__init__()
        self.nodes, self.input_shape, self.metadata = nodes, input_shape, metadata or {}
        self.ops = nn.ModuleDict({str(i): _op(n) for i, n in enumerate(nodes) if isinstance(n, Folded)})
        self.neurons = nn.ModuleDict(
            {
                str(i): ThresholdWalk(n.first, n.step, n.max_count)
                for i, n in enumerate(nodes)
                if isinstance(n, Folded) and n.first is not None and n.step is not None
            }
        )
        self.layers = tuple(nodes[int(i)].name for i in self.neurons)
        self.shapes = self._shapes()
        self._fanouts = {kind: self._fanout_tables(kind) for kind in (fanout, effective_fanout)}

    @torch.no_grad()
    def run(
        self, images, num_steps: int, record: bool = False, counts: bool = False, samples: bool = False, **_: object
    ) -> Record:
        """Present ``images`` [N, C, H, W] (pixels 0..255) at t = 0 and simulate ``num_steps`` steps."""
        x = torch.as_tensor(images).double()
        if x.dim() != 4 or tuple(x.shape[1:]) != tuple(self.input_shape):
            raise SpikeletError(f"images: expected [N, {', '.join(map(str, self.input_shape))}], got {[*x.shape]}")
        check_whole("num_steps", num_steps)
        states: dict[int, object] = {}
        tally = _Tally(self, num_steps, len(x)) if record or samples else None
        logits = []
        for t in range(num_steps):
            outputs = self._step(x if t == 0 else torch.zeros_like(x), states, first=t == 0)
            logits.append(outputs[-1].flatten(1))
            if tally is not None:
                tally.add(t, outputs)
            if t > 0 and not any(bool(out.any()) for out in outputs):
                break  # nobody fired and no input is to come: every further step repeats this one
        final = [states[int(i)][1].to(torch.int8).numpy() for i in self.neurons] if counts else None  # type: ignore[index]
        logits += [torch.zeros_like(logits[0])] * (num_steps - len(logits))
        result = self._record(torch.stack(logits).numpy(), tally if record else None, final)
        if samples and tally is not None:
            result.sample_spikes, result.sample_operations = tally.sample_spikes, tally.sample_operations
        return result

    def forward(self, images: Tensor, num_steps: int = 8) -> Tensor:
        """What each step adds to the logits: [T, N, classes]."""
        return torch.from_numpy(self.run(images, num_steps).logits)

    def describe(self) -> list[dict]:
        """One row per node: name, kind, output shape, neurons, weights, stored bytes, dense MACs per image."""
        rows = []
        for node, shape in zip(self.nodes, self.shapes, strict=True):
            row = {
                "name": node.name,
                "kind": type(node).__name__,
                "shape": shape,
                "neurons": 0,
                "weights": 0,
                "macs": 0,
            }
            if isinstance(node, Folded):
                source = self.input_shape if node.source < 0 else self.shapes[node.source]
                bits = node.bits or 32
                count = node.weight.numel()
                row |= {"weights": count, "nonzero": int((node.weight != 0).sum()), "bits": bits}
                row |= {"weight_bytes": footprint(bits, count), "macs": macs(_op(node), source)}
                row["neurons"] = int(np.prod(shape)) if node.first is not None else 0
            rows.append(row)
        return rows

    def _step(self, x: Tensor, states: dict, first: bool) -> list[Tensor]:
        outputs: list[Tensor] = []
        for i, node in enumerate(self.nodes):
            if isinstance(node, Add):
                outputs.append(outputs[node.sources[0]] + outputs[node.sources[1]])
                continue
            source = x if node.source < 0 else outputs[node.source]
            if isinstance(node, SumPool):
                outputs.append(sum_pool(source, node))
            elif isinstance(node, MaxPool):
                outputs.append(_max_pool_step(source, node, states, i))
            else:
                outputs.append(self._layer_step(i, node, source, states, first))
        return outputs

    def _layer_step(self, i: int, node: Folded, source: Tensor, states: dict, first: bool) -> Tensor:
        current = self.ops[str(i)](source)
        if node.first is None:
            return current + node.bias.reshape(-1, 1, 1) if first and node.bias is not None else current
        neuron = self.neurons[str(i)]
        spikes, states[i] = neuron.step(current, states.get(i) or neuron.init_state(current))  # type: ignore[operator]
        return spikes

    def _shapes(self) -> list[tuple[int, ...]]:
        outputs = self._step(torch.zeros(1, *self.input_shape, dtype=torch.float64), {}, first=True)
        return [tuple(out.shape[1:]) for out in outputs]

    def _fanout_tables(self, kind) -> list[Tensor]:
        """Per node: how many synapses one spike at each site of its output reaches, through pools and sums."""
        tables = [torch.zeros(shape, dtype=torch.float64) for shape in self.shapes]
        for i in reversed(range(len(self.nodes))):
            node = self.nodes[i]
            if isinstance(node, Add):
                for source in node.sources:
                    tables[source] += tables[i]
            elif isinstance(node, Folded) and node.source >= 0:
                tables[node.source] += kind(self.ops[str(i)], self.shapes[node.source])
            elif isinstance(node, SumPool):
                tables[node.source] += _unpool(tables[i], node, self.shapes[node.source])
        return tables

    def _record(self, logits: np.ndarray, tally: "_Tally | None", counts) -> Record:
        neurons = np.array([int(np.prod(self.shapes[int(i)])) for i in self.neurons], np.int64)
        if tally is None:
            return Record(logits, self.layers, neurons, None, None, None, None, counts)
        spikes = (tally.positive, tally.negative)
        return Record(logits, self.layers, neurons, *spikes, tally.operations, tally.effective, counts)


class _Tally:
    """Spikes and operations per layer and step, summed over the batch, and per step and image, over the layers."""

    def __init__(self, network: SpikingNetwork, num_steps: int, number: int) -> None:
        self.network = network
        self.rows = {int(i): row for row, i in enumerate(network.neurons)}
        for i, node in enumerate(network.nodes):  # what a maximum lets through is counted with the layer before it
            if isinstance(node, MaxPool):
                self.rows[i] = self.rows[self._emitter(node.source)]
        shape = (len(network.layers), num_steps)
        self.positive, self.negative, self.operations, self.effective = (np.zeros(shape, np.int64) for _ in range(4))
        self.sample_spikes, self.sample_operations = (np.zeros((num_steps, number), np.int64) for _ in range(2))

    def _emitter(self, i: int) -> int:
        while i not in self.rows:
            node = self.network.nodes[i]
            i = node.sources[1] if isinstance(node, Add) else node.source
        return i

    def add(self, t: int, outputs: list[Tensor]) -> None:
        full, nonzero = self.network._fanouts.values()
        for i, row in self.rows.items():
            spikes = outputs[i]
            if str(i) in self.network.neurons:
                self.positive[row, t] += int((spikes > 0).sum())
                self.negative[row, t] += int((spikes < 0).sum())
                self.sample_spikes[t] += _whole(spikes.abs().sum((1, 2, 3)))
            caused = _whole((spikes.abs() * full[i]).sum((1, 2, 3)))
            self.sample_operations[t] += caused
            self.operations[row, t] += caused.sum()
            self.effective[row, t] += int((spikes.abs().sum(0) * nonzero[i]).sum())


def _whole(numbers: Tensor) -> np.ndarray:
    return numbers.to(torch.int64).numpy()


def _op(node: Folded) -> nn.Conv2d:
    channels, kernel = node.weight.shape[1] * node.groups, tuple(node.weight.shape[2:])
    op = nn.Conv2d(channels, node.weight.shape[0], kernel, node.stride, node.padding, groups=node.groups, bias=False)  # type: ignore[arg-type]
    op = op.double().requires_grad_(False)
    op.weight.copy_(node.weight)
    return op


def sum_pool(x: Tensor, node: SumPool) -> Tensor:
    return functional.avg_pool2d(x, node.kernel, node.stride, node.padding, divisor_override=1)


def _unpool(table: Tensor, node: SumPool, shape: tuple[int, ...]) -> Tensor:
    """Transpose of sum pooling: each site collects the tables of the windows that hold it."""
    x = torch.zeros(1, *shape, dtype=table.dtype, requires_grad=True)
    with torch.enable_grad():
        (sum_pool(x, node)[0] * table).sum().backward()
    assert x.grad is not None
    return x.grad[0]


def _max_pool_step(x: Tensor, node: MaxPool, states: dict, i: int) -> Tensor:
    """The maximum of the counts so far, minus what was passed on before."""
    counts, passed = states.get(i, (torch.zeros_like(x), 0))
    counts = counts + x
    now = functional.max_pool2d(counts, node.kernel, node.stride, node.padding)
    states[i] = (counts, now)
    return now - passed
