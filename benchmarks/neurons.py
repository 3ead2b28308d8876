"""LIF forward and forward + backward, beside other libraries and beside a plain copy of the same bytes.

    python benchmarks/neurons.py --json FILE

All run in one process, in turns within each round, so that a busy moment of the machine meets all of them; the median
over the rounds counts. Each library gets its own layout and its fastest way over all steps; its spikes are compared
with those of the LIF that has its definition. A copy is measured into reused memory (``copy_``) and into fresh memory
(``clone``), where every neuron's output lies as well; on a GPU, which keeps what was freed, both are the same, and a
small shape lies in its cache. Libraries that cannot be imported are left out by name.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import torch
from _command import command, in_rounds, keep, seconds
from _device import check, described, wait
from torch import Tensor

from spikelet import LIF, doctor
from spikelet.surrogate import fast_sigmoid

SHAPES = [(8, 64, 64, 32, 32), (4, 256, 1024)]
DECAY = 0.5
FRESH, REUSED, OURS = "copy, fresh memory", "copy, reused memory", "spikelet"
HALF = "spikelet, bfloat16"
Run = Callable[[Tensor], Tensor]


class Contender(NamedTuple):
    """``run(given(x))`` are the spikes of currents x [T, N, ...], which should be those of ``twin``."""

    run: Run
    given: Run
    twin: LIF | None = None


def spikelet_() -> Contender:
    return Contender(LIF(DECAY), lambda x: x)


def spikelet_bfloat16() -> Contender:
    return Contender(LIF(DECAY), lambda x: x.bfloat16())


def snntorch() -> Contender:
    import snntorch as library

    neuron = library.Leaky(DECAY, spike_grad=library.surrogate.fast_sigmoid(25))

    def run(x: Tensor) -> Tensor:
        v, spikes = neuron.reset_mem(), []
        for current in x:
            s, v = neuron(current, v)
            spikes.append(s)
        return torch.stack(spikes)

    return Contender(run, lambda x: x, LIF(DECAY, surrogate=fast_sigmoid(25), delay_reset=True))


def spikingjelly() -> Contender:
    from spikingjelly.activation_based import functional, neuron, surrogate

    settings: dict[str, Any] = {"decay_input": False, "v_reset": None, "detach_reset": True, "step_mode": "m"}
    node = neuron.LIFNode(tau=1 / (1 - DECAY), surrogate_function=surrogate.ATan(), **settings)

    def run(x: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(x)

    return Contender(run, lambda x: x, LIF(DECAY))


def norse() -> Contender:
    import norse.torch as library
    from norse.torch.functional.lif_box import LIFBoxParameters
    from norse.torch.functional.reset import reset_subtract

    inverse = torch.tensor(1000 * (1 - DECAY))  # its step is a millisecond, and scales the input as well
    cell = library.LIFBoxCell(LIFBoxParameters(tau_mem_inv=inverse, reset_method=reset_subtract))
    neuron = library.Lift(cell)
    return Contender(lambda x: neuron(x)[0], lambda x: x / (1 - DECAY), LIF(DECAY))


def sinabs() -> Contender:
    from sinabs.activation import SingleSpike
    from sinabs.layers import LIF as Layer

    layer = Layer(tau_mem=-1 / math.log(DECAY), spike_fn=SingleSpike, norm_input=False)

    def run(x: Tensor) -> Tensor:
        layer.reset_states()
        return layer(x).transpose(0, 1)

    return Contender(run, lambda x: x.transpose(0, 1).contiguous(), LIF(DECAY))  # batch first


CONTENDERS: dict[str, Callable[[], Contender]] = {
    OURS: spikelet_,
    HALF: spikelet_bfloat16,
    "snnTorch": snntorch,
    "SpikingJelly": spikingjelly,
    "norse": norse,
    "sinabs": sinabs,
}


def arguments() -> argparse.Namespace:
    parser = command(__doc__, rounds=11)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=seconds, default=0.05, help="of each turn, at least one call")
    return parser.parse_args()


def contenders() -> tuple[dict[str, Contender], list[str]]:
    built, missing = {}, []
    for name, build in CONTENDERS.items():
        try:
            built[name] = build()
        except ImportError as error:
            missing.append(f"{name}: {error}")
    return built, missing


def tasks(found: dict[str, Contender], x: Tensor) -> dict[str, dict[str, Callable[[], object]]]:
    """Per kind of work and name a call without arguments."""
    target, half = torch.empty_like(x), x.bfloat16()
    forward: dict[str, Callable[[], object]] = {
        FRESH: x.clone,
        REUSED: lambda: target.copy_(x),
        f"{FRESH}, bfloat16": half.clone,
    }
    both: dict[str, Callable[[], object]] = {}
    for name, contender in found.items():
        given = contender.given(x)
        forward[name] = partial(contender.run, given)
        both[name] = partial(backward, contender.run, given.detach().requires_grad_())
    return {"forward": forward, "forward + backward": both}


def backward(run: Run, given: Tensor) -> Tensor:
    given.grad = None
    spikes = run(given)
    spikes.backward(spikes)  # a dense gradient, at no cost
    assert given.grad is not None
    return given.grad


def race(runs: dict[str, Callable[[], object]], given: argparse.Namespace, grad: bool) -> dict[str, list[float]]:
    """Seconds per call of each contender in each round. A GPU is waited for after every ten calls."""
    results: dict[str, list[float]] = {name: [] for name in runs}
    together = 10 if given.device == "cuda" else 1
    with torch.set_grad_enabled(grad):
        for i in in_rounds(given.rounds + 1):
            for name, run in runs.items():
                wait(given.device)
                calls, start = 0, time.perf_counter()
                while (passed := time.perf_counter() - start) < given.seconds or calls == 0:
                    for _ in range(together):
                        run()
                    wait(given.device)
                    calls += together
                if i > 0:  # the first round warms up
                    results[name].append(passed / calls)
    return results


def differences(found: dict[str, Contender], x: Tensor) -> dict[str, int]:
    """How many neurons, of all steps, spike otherwise than the LIF with the peer's definition."""
    with torch.no_grad():
        pairs = {name: (c.run(c.given(x)), c.twin(x)) for name, c in found.items() if c.twin is not None}
    return {name: int((theirs != ours).sum()) for name, (theirs, ours) in pairs.items()}


def measure(found: dict[str, Contender], shape: tuple[int, ...], given: argparse.Namespace) -> dict[str, Any]:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(given.device)
    result: dict[str, Any] = {"shape": shape, "spikes_that_differ": differences(found, x)}
    with torch.no_grad():
        result["firing_rate"] = LIF(DECAY)(x).mean().item()
    for kind, runs in tasks(found, x).items():
        rounds = race(runs, given, grad=kind != "forward")
        result[kind] = {name: {"seconds": median(times), "rounds": times} for name, times in rounds.items()}
    forward = {name: figures["seconds"] for name, figures in result["forward"].items()}
    result["share_of_copy_speed"] = {
        "fresh": forward[FRESH] / forward[OURS],
        "reused": forward[REUSED] / forward[OURS],
        "fresh, bfloat16": forward[f"{FRESH}, bfloat16"] / forward[HALF],
    }
    return result


def show(results: list[dict[str, Any]], missing: list[str], facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(110, Console().width))
    for line in missing:
        console.print(f"[yellow]left out: {line}[/]")
    for result in results:
        shape, share = list(result["shape"]), result["share_of_copy_speed"]
        view = Table(title=f"LIF on float32 {shape}, {result['firing_rate']:.0%} of neurons firing per step")
        caption = (
            f"forward: {share['fresh']:.0%} of the speed of a copy into fresh memory, {share['reused']:.0%} reused"
        )
        view.caption = f"{caption}\n{facts['processor']}; load {facts['load']:.1f}; {facts['threads']} threads; "
        view.caption += f"{facts['allocator']}; median of {facts['rounds']} interleaved rounds"
        for column in ("", "forward ms", "spikelet is", "forward + backward ms", "spikelet is", "equal spikes"):
            view.add_column(column, justify="right" if column else "left")
        for name in result["forward"]:
            view.add_row(name, *cells(result, name))
        console.print(view)


def cells(result: dict[str, Any], name: str) -> list[str]:
    found = []
    for kind in ("forward", "forward + backward"):
        if name in result[kind]:
            seconds, ours = result[kind][name]["seconds"], result[kind][OURS]["seconds"]
            found += [f"{1e3 * seconds:.2f}", "" if name == OURS else f"{seconds / ours:.2f} x"]
        else:
            found += ["", ""]
    other = result["spikes_that_differ"].get(name)
    return [*found, "" if other is None else f"all but {other}" if other else "all"]


def main() -> None:
    given = arguments()
    check(given.device)
    os.environ.setdefault("OMP_NUM_THREADS", str(given.threads))
    doctor.prepare(given.threads)
    torch.set_num_threads(given.threads)
    facts: dict[str, Any] = {"processor": described(given.device), "device": given.device, "rounds": given.rounds}
    facts |= {"load": os.getloadavg()[0], "threads": torch.get_num_threads()}
    facts |= {"allocator": doctor.allocator().split(",")[0] + ", no trim, no mmap"}
    with torch.device(given.device):  # where every library puts its neurons' numbers
        found, missing = contenders()
    results = [measure(found, shape, given) for shape in SHAPES]
    show(results, missing, facts)
    keep(facts | {"results": results, "left_out": missing}, given.json)


if __name__ == "__main__":
    main()
