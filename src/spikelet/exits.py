"""Early exit: rules that say from the logits so far when a sample has decided, and what they would give on a data set.

A rule has a ``score`` of the running sums, a ``threshold`` that it must pass, and ``beyond``, the smallest threshold
that a given score does not pass. A sample that never passes stays for all T steps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from spikelet.errors import SpikeletError

LOWEST = 1e-6  # the lowest threshold of a softmax
SHARES = np.concatenate([[0.0], np.geomspace(1e-4, 0.1, 13), np.linspace(0.15, 1, 18)])  # dense where answers change


@dataclass(frozen=True)
class Softmax(ABC):
    """Rules that read the softmax of the summed logits: a sample exits where its score is above ``threshold``.

    threshold    above 0, at most 1, which no sample passes
    temperature  above 0, in units of the logits, which are divided by it; see ``fit_temperature``
    """

    threshold: float
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise SpikeletError(f"threshold: expected above 0, at most 1, got {self.threshold}")
        if not 0 < self.temperature < math.inf:
            raise SpikeletError(f"temperature: expected above 0 and finite, got {self.temperature}")

    @abstractmethod
    def score(self, sums: np.ndarray) -> np.ndarray:
        """0 to 1, float64 [...], of summed logits [..., C]."""

    def passes(self, score: np.ndarray) -> np.ndarray:
        """Whether samples of this score exit."""
        return score > self.threshold

    def decided(self, sums: np.ndarray) -> np.ndarray:
        """bool [...] of summed logits [..., C]."""
        return self.passes(self.score(sums))

    def beyond(self, score: float) -> Self:
        """The rule with the smallest threshold that ``score`` does not pass."""
        return replace(self, threshold=min(1.0, max(LOWEST, float(score))))


@dataclass(frozen=True)
class Confidence(Softmax):
    """Exit after the first step at which the largest softmax of the summed logits is above ``threshold``.

        max_c exp(S_c / temperature) / sum_c exp(S_c / temperature) > threshold        S: the logits summed so far

    >>> Confidence(0.9).decided(np.array([[2.0, 0.0], [3.0, 0.0]])).tolist()
    [False, True]

    Source: SEENN-I (Li et al., NeurIPS 2023).
    """

    def score(self, sums: np.ndarray) -> np.ndarray:
        """The largest probability, float64 [...], of summed logits [..., C]."""
        return _softmax(sums, self.temperature).max(axis=-1)


@dataclass(frozen=True)
class Entropy(Softmax):
    """Exit after the first step at which the softmax of the summed logits is certain enough.

        1 - H / ln C > threshold,    H = -sum_c p_c ln p_c,    p = softmax(S / temperature)

    >>> Entropy(0.5).decided(np.array([[2.0, 0.0], [3.0, 0.0]])).tolist()
    [False, True]

    Source: DT-SNN (Li et al., DAC 2023).
    """

    def score(self, sums: np.ndarray) -> np.ndarray:
        """1 - H / ln C, float64 [...], of summed logits [..., C]."""
        p = _softmax(sums, self.temperature)
        entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1)
        return np.clip(1 - entropy / math.log(p.shape[-1]), 0, 1)


@dataclass(frozen=True)
class Margin:
    """Exit after the first step at which the best class leads the second best by ``threshold``; in integers only.

        S_best - S_second >= threshold        S: the integer logits summed so far

    threshold  a whole number, at least 1, in units of the logits

    >>> Margin(3).decided(np.array([[7, 5, 1], [5, 1, 2]])).tolist()
    [False, True]
    """

    threshold: int

    def __post_init__(self) -> None:
        given = self.threshold
        if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 1:
            raise SpikeletError(f"threshold: of a margin, expected a whole number of at least 1, got {given!r}")
        object.__setattr__(self, "threshold", int(given))

    def score(self, sums: np.ndarray) -> np.ndarray:
        """The lead of the best class, int64 [...], of summed logits [..., C]."""
        _check_classes(sums)
        if sums.dtype.kind not in "iu":
            raise SpikeletError(f"logits: a margin is one of integers, got {sums.dtype}; take confidence or entropy")
        best = np.partition(sums.astype(np.int64, copy=False), -2, axis=-1)
        return best[..., -1] - best[..., -2]

    def passes(self, score: np.ndarray) -> np.ndarray:
        """Whether samples of this score exit."""
        return score >= self.threshold

    def decided(self, sums: np.ndarray) -> np.ndarray:
        """bool [...] of summed logits [..., C]."""
        return self.passes(self.score(sums))

    def beyond(self, score: float) -> Margin:
        """The rule with the smallest threshold that ``score`` does not pass."""
        return Margin(max(1, int(score) + 1))


Rule = Confidence | Entropy | Margin
RULES: dict[str, type[Rule]] = {"confidence": Confidence, "entropy": Entropy, "margin": Margin}


def running(logits: ArrayLike) -> np.ndarray:
    """The logits [T, N, C] summed up to every step: int64, or float64 of floats."""
    logits = np.asarray(logits)
    if logits.ndim != 3 or not len(logits):
        raise SpikeletError(f"logits: expected [T, N, C] with T >= 1, got {[*logits.shape]}")
    return logits.cumsum(axis=0, dtype=np.int64 if np.issubdtype(logits.dtype, np.integer) else np.float64)


def exit_steps(logits: ArrayLike, rule: Rule) -> np.ndarray:
    """After how many steps each sample exits by ``rule``; int64 [N], 1 to T, forced at T.

    logits  [T, N, C], what each step adds

    >>> exit_steps(np.array([[[5, 0], [1, 0]], [[0, 0], [1, 0]], [[0, 0], [0, 9]]]), Margin(2)).tolist()
    [1, 2]
    """
    return _first(rule.decided(running(logits)))


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The temperature with which softmax of the summed logits says the labels best, over all steps and samples.

        argmin over T' of  -mean over t, n of  ln softmax(S[t, n] / T')[label of n]

    So logits of any scale get confidences that mean what they say: of the samples at 0.9, about nine in ten are right.
    Found within a millionth to a million times the logits' size.

    logits  [T, N, C], what each step adds, of samples that were not trained on; labels int [N]

    >>> logits = np.log([[[3.0, 1.0]] * 4])  # three of four labels are class 0
    >>> [round(fit_temperature(scale * logits, [0, 0, 0, 1]), 3) for scale in (1, 50)]
    [1.0, 50.0]

    Source: temperature scaling (Guo et al., ICML 2017).
    """
    sums, labels = running(logits).astype(np.float64), np.asarray(labels)
    if labels.shape != sums.shape[1:2] or not labels.size:
        raise SpikeletError(f"labels: expected [{sums.shape[1]}], at least one, got {[*labels.shape]}")
    size = float(np.abs(sums).max()) or 1.0
    told = np.take_along_axis(sums, np.broadcast_to(labels[None, :, None], (*sums.shape[:2], 1)), axis=-1).mean()
    low, high = math.log(1e-6 * size), math.log(1e6 * size)
    for _ in range(50):  # the loss is convex in 1 / T', and its slope there is what softmax expects minus what is told
        middle = (low + high) / 2
        expected = (_softmax(sums, math.exp(middle)) * sums).sum(axis=-1).mean()
        low, high = (middle, high) if expected > told else (low, middle)
    return math.exp((low + high) / 2)


def choose(logits: ArrayLike, rule: Rule, loss: float) -> Rule:
    """``rule`` with the smallest threshold from which on at most a fraction ``loss`` of the samples answers otherwise.

    Otherwise than after all T steps: accuracy cannot change by more, and no label is asked. Every larger threshold
    keeps to it as well, so the choice hangs on no lucky one.

    logits  [T, N, C], what each step adds, of samples that the network will not be judged on
    loss    fraction of the samples, 0 to 1

    >>> choose(np.array([[[2, 0], [4, 0], [9, 0]], [[0, 0], [0, 5], [0, 1]]]), Margin(1), loss=0.0)
    Margin(threshold=5)
    """
    if not 0 <= loss <= 1:
        raise SpikeletError(f"loss: expected a fraction of the samples, 0 to 1, got {loss}")
    sums = running(logits)
    scores, answers = rule.score(sums), sums.argmax(axis=-1)
    before = np.maximum.accumulate(scores, axis=0)
    reached = scores[1:] > before[:-1]  # else every threshold that is passed here was passed before
    reached = np.concatenate([np.ones_like(scores[:1], bool), reached])
    astray = reached & (answers != answers[-1])
    worst = np.sort(np.where(astray, scores, -1).max(axis=0))[::-1]
    allowed = int(loss * len(worst) + 1e-9)  # 0.07 of 100 samples are 7, not 6
    return rule.beyond(worst[allowed] if allowed < len(worst) else -1)


@dataclass(frozen=True, eq=False)
class Trial:
    """What N samples would give and have spent, were they to stop after each of T steps.

    scores  [T, N], those of the rules' kind
    right   bool [T, N]: whether the answer is
    spent   [T, N] each: summed up to that step, such as spikes or operations

    >>> logits = np.array([[[5, 0], [1, 0]], [[0, 0], [0, 9]]])
    >>> trial = Trial.of(logits, np.array([0, 1]), Margin(2), {"spikes": np.array([[3, 4], [1, 1]])})
    >>> trial.outcome(Margin(2))
    {'accuracy': 1.0, 'mean_steps': 1.5, 'spikes': 4.0}
    """

    scores: np.ndarray
    right: np.ndarray
    spent: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, logits: ArrayLike, labels: ArrayLike, rule: Rule, spent: dict[str, np.ndarray]) -> Trial:
        """Of logits [T, N, C] and what was spent in each step, [T, N]."""
        sums = running(logits)
        right = sums.argmax(axis=-1) == np.asarray(labels)
        return cls(rule.score(sums), right, {name: np.cumsum(a, axis=0) for name, a in spent.items()})

    @classmethod
    def join(cls, trials: list[Trial]) -> Trial:
        """The samples of all ``trials``."""
        parts = zip(*((t.scores, t.right, *t.spent.values()) for t in trials), strict=True)
        scores, right, *spent = (np.concatenate(part, axis=1) for part in parts)
        return cls(scores, right, dict(zip(trials[0].spent, spent, strict=True)))

    def exits(self, rule: Rule) -> np.ndarray:
        """int64 [N], as ``exit_steps``."""
        return _first(rule.passes(self.scores))

    def outcome(self, rule: Rule) -> dict[str, float]:
        """Per sample, with early exit by ``rule``: accuracy, mean_steps, and each of ``spent``."""
        exits = self.exits(rule)
        at = exits - 1, np.arange(len(exits))
        told = {"accuracy": self.right[at].mean(), "mean_steps": exits.mean()}
        return {name: float(value) for name, value in (told | {n: a[at].mean() for n, a in self.spent.items()}).items()}

    def histogram(self, rule: Rule) -> list[int]:
        """How many samples exit after 1, 2, ... T steps."""
        return np.bincount(self.exits(rule) - 1, minlength=len(self.scores)).tolist()

    def curve(self, rule: Rule) -> list[dict[str, Any]]:
        """``outcome`` by threshold, from the lowest there is to one that no sample passes.

        They lie at quantiles of the scores, most of them among the low ones, where answers still change.
        """
        scores = np.quantile(self.scores[:-1], SHARES, method="lower") if len(self.scores) > 1 else np.empty(0)
        made: set[Rule] = {rule.beyond(score) for score in [-1, *scores.tolist()]}
        in_order = sorted(made, key=lambda rule: rule.threshold)
        return [{"threshold": rule.threshold} | self.outcome(rule) for rule in in_order]


def _first(decided: np.ndarray) -> np.ndarray:
    decided = decided.copy()
    decided[-1] = True
    return decided.argmax(axis=0).astype(np.int64) + 1


def _softmax(sums: np.ndarray, temperature: float) -> np.ndarray:
    _check_classes(sums)
    scaled = sums / temperature
    odds = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def _check_classes(sums: np.ndarray) -> None:
    if sums.shape[-1] < 2:
        raise SpikeletError(f"logits: early exit needs at least 2 classes, got {sums.shape[-1]}")
