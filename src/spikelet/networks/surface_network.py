"""A trained network that begins with time surfaces, in integers behind them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikelet.encoders import TimeSurface
from spikelet.errors import FormatError, SpikeletError
from spikelet.events import Binned
from spikelet.integer import IntegerNetwork, Record
from spikelet.networks.layers import SurfaceBlock
from spikelet.neurons import LIF

FRONT = "time_surfaces"  # where the file's metadata has them


class SurfaceNetwork:
    """Time surfaces and their neurons in floating point; from their spikes on, 0 or 1, an integer network.

    ``run`` has the signature of ``IntegerNetwork.run``, takes ``events.Binned`` and fills the same ``Record``. ``save``
    writes the integer network's file, which holds the time surfaces, few numbers, in its metadata.

    front  the network's first layer, named ``name``
    body   reads frames [T, N, R^2, rows, columns] of cells
    """

    def __init__(self, front: SurfaceBlock, body: IntegerNetwork, name: str) -> None:
        if body.frames != 1 or body.input_shape != front.output_shape:
            raise SpikeletError(f"body: expected an integer network of frames {front.output_shape}, got {body}")
        self.front, self.body, self.name = front.eval(), body, name
        self.metadata = body.metadata

    def __repr__(self) -> str:
        return f"SurfaceNetwork({self.name}: {self.front.encoder}; {self.body})"

    @torch.no_grad()
    def run(
        self, events: Binned, num_steps: int | None = None, record: bool = False, counts: bool = False, **options: Any
    ) -> Record:
        """The first ``num_steps`` steps of ``events``, or all; ``options`` are ``IntegerNetwork.run``'s."""
        if not isinstance(events, Binned):
            raise SpikeletError(f"events: expected events.Binned, for time surfaces, got {type(events).__name__}")
        events = events if num_steps is None else events.until(num_steps)
        spikes = self.front(events).to(torch.uint8).numpy()
        found = self.body.run(spikes, events.num_steps, record, counts, **options)
        found.layers = self.name, *found.layers
        found.neurons = np.array([np.prod(self.front.output_shape), *found.neurons], np.int64)
        seen = events.per_recording().numpy()
        if found.exit_steps is not None:
            running = np.arange(events.num_steps)[:, None] < found.exit_steps
            seen, spikes = seen * running, spikes * running[:, :, None, None, None]
        if found.counts is not None:
            found.counts.insert(0, spikes.sum(0, dtype=np.int16))
        if found.positive is not None:
            _tell(found, seen.sum(1), self.front.patch)
        if found.sample_spikes is not None and found.sample_operations is not None:
            found.sample_spikes += spikes.reshape(*seen.shape, -1).sum(2, dtype=np.int64)
            found.sample_operations += found.sample_input
            found.sample_input = seen * self.front.patch
        return found

    def describe(self) -> list[dict[str, Any]]:
        """As ``IntegerNetwork.describe``; first the time surfaces, whose weights are float."""
        return [self.front.describe() | {"name": self.name}, *self.body.describe()]

    def save(self, path: str | Path) -> Path:
        """Write one ``.safetensors`` file, which ``networks.load`` reads; ``IntegerNetwork.load`` reads the body."""
        return replace(self.body, metadata=self.metadata | {FRONT: _told(self.front, self.name)}).save(path)


def load_surfaces(path: str | Path) -> IntegerNetwork | SurfaceNetwork:
    """The network of a file: an integer network, behind time surfaces where the file has them.

    Raises FormatError, naming the file, for anything else.
    """
    body = IntegerNetwork.load(path)
    if FRONT not in body.metadata:
        return body
    told = dict(body.metadata[FRONT])
    try:
        return SurfaceNetwork(_front(told), body, told["name"])
    except (KeyError, TypeError, ValueError, RuntimeError, SpikeletError) as error:
        raise FormatError(f"{path}: its time surfaces are not valid ({error})") from error


def _tell(found: Record, events: np.ndarray, patch: int) -> None:
    """Makes the input of the body the first layer's row of ``found``, and the ``events`` per step the input.

    Each of them costs a ``patch`` of multiplications.
    """
    assert found.positive is not None and found.negative is not None and found.input_events is not None
    entered, caused = found.input_events, found.input_operations
    assert found.synaptic_operations is not None and found.effective_operations is not None and caused is not None
    found.positive = np.vstack([entered, found.positive])
    found.negative = np.vstack([np.zeros_like(entered), found.negative])
    found.synaptic_operations = np.vstack([caused[0], found.synaptic_operations])
    found.effective_operations = np.vstack([caused[1], found.effective_operations])
    found.input_events, found.input_operations = events, np.stack(2 * [events * patch])


def _told(front: SurfaceBlock, name: str) -> dict[str, Any]:
    """The first layer in words and numbers; float32 survives JSON."""
    encoder, neuron = front.encoder, front.neuron
    if not isinstance(neuron, LIF):
        raise SpikeletError(f"layer {name}: the neurons of time surfaces are LIF in a file, got {neuron}")
    surface = encoder.surface
    return {
        "name": name,
        "encoder": {
            "sensor_size": surface.sensor_size,
            "cell": surface.cell,
            "radius": surface.reach[1],
            "kernel": encoder.kernel,
            "tau": encoder.tau,
            "dt": encoder.dt,
        },
        "weight": encoder.weight.tolist(),
        "neuron": {"beta": float(neuron.decay()), "v_threshold": float(neuron.threshold()), "v_reset": neuron.v_reset},
    }


def _front(told: dict[str, Any]) -> SurfaceBlock:
    given: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in told["encoder"].items()}
    encoder = TimeSurface(**given)
    encoder.load_state_dict({"weight": torch.tensor(told["weight"])})
    return SurfaceBlock(encoder, LIF(**told["neuron"]))
