"""Recordings of your own to an integer network: arrays of events, time surfaces, a plain training loop, conversion.

Here the recordings are made up: a dot that moves right or left over a sensor of 32 x 32 pixels.
"""

import numpy as np
import torch

import spikelet
from spikelet.events import bin_batch, make_events, pack
from spikelet.training.losses import MSERate

SENSOR = (32, 32, 2)  # width, height, polarities
STEPS, DT = 40, 0.005  # steps of 5 ms

SETTINGS = spikelet.NetworkSettings(
    notation="TS8r2-FC64-FC2",  # time surfaces in cells of 8 x 8 pixels, radius 2; then two layers
    neuron="srm",
    num_steps=STEPS,
    dt=DT,  # seconds, as all times below
    tau_1=0.050,
    tau_2=0.100,
    tau_m=0.060,
    tau_s=0.020,
    v_threshold=0.05,
    surrogate="boxcar",
    slope=0.1,
    height=1.0,
    detach_reset=False,
    weights="float",
    first="parity",
    last="parity",
    norm="none",
    bias=False,
    init_gain=2.3,
)


def record(label: int, rng: np.random.Generator, num_events: int = 400) -> np.ndarray:
    """A dot that moves right (0) or left (1) within 200 ms; times in whole microseconds, never running back."""
    t = np.sort(rng.integers(0, 200_000, num_events))
    place = t / 200_000 * 28
    x = (place if label == 0 else 28 - place).astype(int) + rng.integers(0, 4, num_events)
    y = rng.integers(4, 28) + rng.integers(0, 4, num_events)
    return make_events(t, x, y, p=rng.integers(0, 2, num_events))


def main(num_updates: int = 60, num: int = 128) -> float:
    rng = np.random.default_rng(1)
    labels = torch.arange(num) % 2
    packed = pack([record(int(label), rng) for label in labels], SENSOR)
    torch.manual_seed(1)
    network = spikelet.build(SETTINGS, input_shape=(2, 32, 32))  # polarities, height, width
    optimizer, loss = torch.optim.Adam(network.parameters(), lr=0.003), MSERate()
    for _ in range(num_updates):
        chosen = rng.integers(0, num - 32, 32)  # the last 32 are for testing
        events = bin_batch(packed, chosen, STEPS, dt_us=round(1e6 * DT))
        optimizer.zero_grad()
        loss(network(events), labels[chosen]).backward()
        optimizer.step()
    integer = spikelet.to_integer(network)  # behind the time surfaces, integers only
    run = integer.run(bin_batch(packed, np.arange(num - 32, num), STEPS, dt_us=round(1e6 * DT)))
    accuracy = float((run.logits.sum(0).argmax(1) == labels[-32:].numpy()).mean())
    print(f"{100 * accuracy:.1f} % of 32 recordings that were not trained on")
    return accuracy


if __name__ == "__main__":
    main()
