"""Images per second of a network trained through time, in the integer engine, beside itself in floating point.

    python benchmarks/trained_engine.py RUN --json FILE

RUN is a run folder (or an exp_id under runs/) of images and LIF neurons that reset to zero, such as those of the
mnist-stbp recipes. The float network runs in spikelet, snnTorch and SpikingJelly with the same quantized weights; the
currents of the first layer, which do not change, are computed once by all. Before the race, the answers are compared.
Rounds, turns and medians are those of integer_engine.py. Peers need ``make bench``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _command import command, keep, positive, seconds
from integer_engine import ENGINE, activity, allocator, best_variants, find_images, race
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from spikelet import doctor, runs
from spikelet.convert import to_integer
from spikelet.networks import SNN, SpikingBlock

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def arguments() -> argparse.Namespace:
    parser = command(__doc__, rounds=5)
    parser.add_argument("run", help="a run folder, or the name of one under runs/")
    parser.add_argument("--data", type=Path, help="data root with the MNIST files (default: where spikelet finds them)")
    parser.add_argument("--batch", type=positive, nargs="+", default=[100, 1])
    parser.add_argument("--seconds", type=seconds, default=0.25, help="of each turn")
    return parser.parse_args()


def plain(network: SNN) -> bool:
    """Whether the peers can be given the same network."""
    settings, blocks = network.settings, [*network.layers.children()]
    same = settings.reset == "zero" and settings.pixel_scale == 255 and not settings.pixel_offset
    return same and settings.norm == "none" and all(isinstance(b, SpikingBlock) and not len(b.pool) for b in blocks)


def plain_layers(network: SNN) -> list[nn.Module]:
    """Its weighted layers as a peer's user would have them: torch's own, with the quantized weights."""
    made = []
    for block in network.blocks().values():
        op = block.op
        if isinstance(op, nn.Linear):
            layer: nn.Module = nn.Linear(op.in_features, op.out_features)
        else:
            layer = nn.Conv2d(op.in_channels, op.out_channels, op.kernel_size, op.stride, op.padding)  # type: ignore[arg-type]
        layer.load_state_dict({"weight": op.weight.detach(), "bias": op.bias.detach()})
        made.append(layer)
    return made


def snntorch(network: SNN, memory_format: torch.memory_format) -> Any:
    """A loop over steps."""
    import snntorch as library

    first, *rest = (layer.to(memory_format=memory_format) for layer in plain_layers(network))
    settings, reset = network.settings, {"reset_mechanism": "zero", "reset_delay": False}
    neurons = [library.Leaky(beta=settings.beta, threshold=settings.v_threshold, **reset) for _ in (first, *rest)]

    def forward(images: Tensor) -> Tensor:
        current = first(images.contiguous(memory_format=memory_format))
        membranes, total = [neuron.init_leaky() for neuron in neurons], torch.zeros(())
        for _ in range(settings.num_steps):
            x, membranes[0] = neurons[0](current, membranes[0])
            for i, layer in enumerate(rest, 1):
                x = layer(x.flatten(1) if isinstance(layer, nn.Linear) else x)
                x, membranes[i] = neurons[i](x, membranes[i])
            total = total + x
        return total

    return forward


def spikingjelly(network: SNN, memory_format: torch.memory_format) -> Any:
    """Multi-step mode: layers see all steps at once, the fastest form that it has on a CPU."""
    from spikingjelly.activation_based import functional as library
    from spikingjelly.activation_based import layer, neuron

    first, *rest = (made.to(memory_format=memory_format) for made in plain_layers(network))
    settings = network.settings

    def lif() -> nn.Module:
        decay = {"tau": 1 / (1 - settings.beta), "decay_input": False, "v_reset": 0.0}
        return neuron.LIFNode(**decay, v_threshold=settings.v_threshold, step_mode="m")

    parts: list[nn.Module] = [lif()]
    for made in rest:
        flat = [nn.Flatten()] if isinstance(made, nn.Linear) else []
        parts += [layer.SeqToANNContainer(*flat, made), lif()]
    later = nn.Sequential(*parts)

    def forward(images: Tensor) -> Tensor:
        library.reset_net(later)
        current = first(images.contiguous(memory_format=memory_format))
        return later(current.expand(settings.num_steps, *current.shape)).sum(0)

    return forward


def contenders(network: SNN, given: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Everything that takes part, by name: spikes of the last layer, summed over time, of images divided by 255."""
    integer, steps = to_integer(network), network.settings.num_steps

    def ours(images: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(images) * 255).sum(0).numpy()

    found: dict[str, Any] = {
        ENGINE: lambda images: integer.run(images, steps, num_threads=given.threads).logits.sum(0),
        "float SNN, spikelet": ours,
    }
    missing = []
    for name, build in {"float SNN, snnTorch": snntorch, "float SNN, SpikingJelly": spikingjelly}.items():
        for kind, memory_format in FORMATS.items():
            try:
                forward = build(network, memory_format)
            except ImportError as error:
                missing.append(f"{name}: {error}; make bench")
                break
            found[f"{name} ({kind})"] = lambda images, forward=forward: forward(torch.from_numpy(images)).numpy()
    return found, missing


def agreement(found: dict[str, Any], images: np.ndarray) -> dict[str, float]:
    """The share of answers equal to those of the float network in spikelet."""
    scaled = (images / 255).astype(np.float32)
    told = {name: run(images if name == ENGINE else scaled).argmax(1) for name, run in found.items()}
    return {name: float((answer == told["float SNN, spikelet"]).mean()) for name, answer in told.items()}


@torch.no_grad()
def main() -> None:
    given = arguments()
    doctor.prepare(given.threads)
    target = runs.find(given.run)
    network = target.network()
    if not isinstance(network, SNN) or not plain(network):
        raise SystemExit(f"run: {given.run} is no plain network of LIF neurons that reset to zero, without batch norm")
    images, kind = find_images(given.data)
    found, missing = contenders(network, given)
    equal, table = agreement(found, images[:1000]), []
    for batch in given.batch:
        best = best_variants(race(found, images, batch, given.rounds, given.seconds))
        for name, (variant, rate) in best.items():
            full = f"{name} ({variant})" if variant else name
            row = {"contender": name, "variant": variant, "batch": batch, "images_per_second": rate}
            table.append(row | {"engine_is": best[ENGINE][1] / rate, "equal_answers": equal[full]})
    spent = activity(to_integer(network).run(images[:1000], network.settings.num_steps, record=True), 1000)
    facts = {"run": given.run, "weights": network.settings.weights, "num_steps": network.settings.num_steps, **spent}
    facts |= {"images": kind, "threads": given.threads, "rounds": given.rounds, "processor": doctor.processor()}
    keep(facts | {"rows": table, "left_out": missing}, given.json)
    show(facts, table, missing)


def show(facts: dict[str, Any], table: list[dict[str, Any]], missing: list[str]) -> None:
    console = Console(width=max(110, Console().width))
    for line in missing:
        console.print(f"[yellow]left out: {line}[/]")
    spent = f"{facts['spikes']:,.0f} spikes, {facts['operations'] / 1e6:.3f} M synaptic operations per image"
    view = Table(title=f"{facts['run']} ({facts['weights']}), T = {facts['num_steps']}: {spent}")
    view.caption = f"{facts['processor']}; {allocator()}; {facts['threads']} threads, {facts['rounds']} rounds"
    for column in ("contender", "batch", "images/s", "engine is", "equal answers"):
        view.add_column(column, justify="left" if column == "contender" else "right")
    for row in table:
        rate, times = row["images_per_second"], f"{row['engine_is']:.1f} x"
        cells = f"{row['contender']} [dim]{row['variant']}[/]", str(row["batch"]), f"{rate:,.0f}"
        view.add_row(*cells, "" if row["contender"] == ENGINE else times, f"{100 * row['equal_answers']:.1f} %")
    console.print(view)


if __name__ == "__main__":
    main()
