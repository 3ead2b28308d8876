"""Early exit: images that have decided are not run any further.

Layers keep nothing between runs, so those that go on begin again. That is cheap where most images decide at the first
step, and keeps every kernel as it is: a run of h steps is the beginning of any longer one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from spikelet.integer.network import Asked, Record, Rule

Run = Callable[[np.ndarray, int, Asked], Record]
SUMMED = ("positive", "negative", "synaptic_operations", "effective_operations", "input_events", "input_operations")
BY_SAMPLE = ("logits", "sample_spikes", "sample_operations", "sample_input")


def run_early(run: Run, images: np.ndarray, num_steps: int, asked: Asked, rule: Rule, gradual: bool) -> Record:
    """``images`` by ``rule``: for one step, and then the undecided ones again for all of them.

    ``gradual``, where every step is as much work as the first: for twice as many steps as before, while that promises
    to be less work than all at once, should as many of them decide as did before.
    """
    steps = 1
    found = run(images, steps, Asked())
    number, classes = found.logits.shape[1:]
    logits = np.zeros((num_steps, number, classes), np.int32)
    logits[0] = found.logits[0]
    exits, left = np.ones(number, np.int64), np.flatnonzero(~rule.decided(found.logits[0].astype(np.int64)))
    share = 1 - len(left) / max(number, 1)
    while len(left) and steps < num_steps:
        steps = 2 * steps if gradual and 2 * steps < share * num_steps else num_steps
        again = run(chosen(images, left), steps, Asked()).logits
        exits[left], decided = first_decided(again, rule)
        logits[:steps, left] = again * (np.arange(steps)[:, None] < exits[left])[:, :, None]
        share = decided.sum() / len(left)
        left = left[~decided]
    if asked != Asked():
        return by_steps(run, images, num_steps, exits, asked)
    found.logits, found.exit_steps = logits, exits
    return found


def first_decided(logits: np.ndarray, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """After how many steps each image has decided, int64 [N], all of them where it has not, and whether, bool [N]."""
    passed = rule.decided(logits.cumsum(axis=0, dtype=np.int64))
    decided: np.ndarray = passed.max(axis=0)
    return np.where(decided, passed.argmax(axis=0) + 1, len(logits)), decided


def by_steps(run: Run, images: np.ndarray, num_steps: int, exits: np.ndarray, asked: Asked) -> Record:
    """Each image run for as many steps as ``exits`` [N] says, and all that is ``asked`` put together."""
    total: Record | None = None
    for steps in np.unique(exits).tolist() or [num_steps]:
        who = np.flatnonzero(exits == steps)
        part = run(chosen(images, who), steps, asked)
        if total is None:
            total = _blank(part, num_steps, len(exits))
        for name in SUMMED:
            if (whole := getattr(total, name)) is not None:
                whole[..., :steps] += getattr(part, name)
        for name in BY_SAMPLE:
            if (whole := getattr(total, name)) is not None:
                whole[:steps, who] = getattr(part, name)
        for whole, counts in zip(total.counts or [], part.counts or [], strict=True):
            whole[who] = counts
    assert total is not None
    return replace(total, exit_steps=exits)


def _blank(like: Record, num_steps: int, number: int) -> Record:
    """A record of zeros for so many steps and images, with what ``like`` has."""

    def zeros(name: str, shape: Callable[[np.ndarray], tuple[int, ...]]) -> np.ndarray | None:
        array = getattr(like, name)
        return None if array is None else np.zeros(shape(array), array.dtype)

    summed = {name: zeros(name, lambda a: (*a.shape[:-1], num_steps)) for name in SUMMED}
    by_sample = {name: zeros(name, lambda a: (num_steps, number, *a.shape[2:])) for name in BY_SAMPLE}
    counts = None if like.counts is None else [np.zeros((number, *a.shape[1:]), a.dtype) for a in like.counts]
    return replace(like, **summed, **by_sample, counts=counts)  # type: ignore[arg-type]


def chosen(images: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The images or recordings of these indices, in order; all of them without a copy."""
    return images if len(which) == images.shape[-4] else np.ascontiguousarray(images.take(which, axis=-4))
