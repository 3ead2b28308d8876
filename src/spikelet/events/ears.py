"""Ears: a waveform becomes events, one neuron per pitch. A front end of our own, a model of no particular cochlea."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from spikelet.errors import SpikeletError
from spikelet.events.arrays import make_events

VERSION = 1  # another one where the events of the same waveform and settings are others
STEP_US = 1_000  # of the spectrum and of the neurons
WINDOW_US = 25_000  # of sound that a spectrum is taken of
HIGHEST_RATE = 1_000_000
MOST_CHANNELS = 2**15  # x is an int16


@dataclass(frozen=True)
class Firing:
    """The neuron of a channel: leaky, with a threshold that jumps at every spike and falls back. Times in us.

    tau_us       of the membrane
    v_threshold  what a constant current must exceed to fire at all; 1 is the loudest of the recording
    jump         what a spike adds to the threshold
    tau_jump_us  how slowly that is forgotten: the onset of a sound is marked by more spikes than what follows
    """

    tau_us: float = 5_000.0
    v_threshold: float = 0.2
    jump: float = 0.3
    tau_jump_us: float = 25_000.0

    def __post_init__(self) -> None:
        for name in ("tau_us", "v_threshold", "tau_jump_us"):
            if not 0 < getattr(self, name) < math.inf:
                raise SpikeletError(f"{name}: expected above 0, got {getattr(self, name)}")
        if not 0 <= self.jump < math.inf:
            raise SpikeletError(f"jump: expected at least 0, got {self.jump}")


@dataclass(frozen=True)
class Ears:
    """How a waveform becomes events.

    channels         neurons, at equal distances in mel from ``low_hz`` to ``high_hz``
    low_hz, high_hz  pitches of the lowest channel, x = 0, and of the highest
    width_mel        from the pitch of a channel to where it hears nothing, on both sides
    range_db         what is quieter than the loudest of the recording by that much is not heard
    firing           the neurons

    >>> Ears(range_db=0)
    Traceback (most recent call last):
        ...
    spikelet.errors.SpikeletError: range_db: expected above 0, got 0
    """

    channels: int = 700
    low_hz: float = 80.0
    high_hz: float = 3_900.0
    width_mel: float = 60.0
    range_db: float = 50.0
    firing: Firing = Firing()

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= MOST_CHANNELS:
            raise SpikeletError(f"channels: expected 1 to {MOST_CHANNELS}, got {self.channels}")
        if not 0 <= self.low_hz < self.high_hz < math.inf:
            raise SpikeletError(f"low_hz, high_hz: expected 0 <= low_hz < high_hz, got {self.low_hz}, {self.high_hz}")
        for name in ("width_mel", "range_db"):
            if not 0 < getattr(self, name) < math.inf:
                raise SpikeletError(f"{name}: expected above 0, got {getattr(self, name)}")


def hear(samples: np.ndarray, sample_rate: float, ears: Ears | None = None) -> np.ndarray:
    """The events of a waveform for a sensor of (channels, 1, 1): x the channel, low pitches first; y and p are 0.

    With a step of h = 1 ms, for k = 0, 1, ... up to the end of the waveform, and channels c:

        P[k, f]  = |spectrum of the 25 ms around k h, under a Hann window|^2, 0 outside the waveform
        E[k, c]  = sum over f of w[c, f] P[k, f],     w a triangle of sum 1:
        w[c, f]  ~ max(0, 1 - |mel(f) - mel(c)| / width_mel),     mel(f) = 1127 ln(1 + f / 700)
        I[k, c]  = max(0, 1 + 10 log10(E[k, c] / max E) / range_db)
        v[k]     = b v[k-1] + (1 - b) I[k],           b = exp(-h / tau),       v[0] = 0
        a[k]     = g a[k-1],                          g = exp(-h / tau_jump),  a[0] = 0
        a spike where v[k] >= v_threshold + a[k]; behind it v[k] = 0, a[k] += jump

    The time of a spike is where a line through v - v_threshold - a at k - 1 and at k crosses 0, in whole us, rounded
    down. How loud the recording is as a whole makes no difference; silence has no events.

    samples      [S], whole or real numbers, of any unit
    sample_rate  in Hz, from 2 high_hz to 1,000,000

    Raises SpikeletError for anything else. A second of sound at 8 kHz takes some 25 MB of memory while it is heard.

    >>> tone = np.sin(2 * np.pi * 1_000 * np.arange(800) / 8_000)  # 100 ms
    >>> events = hear(tone, 8_000, Ears(channels=15, range_db=20))
    >>> np.unique(events["x"]).tolist(), len(events)  # channel 5 is at 770 Hz, 6 at 969 Hz, 7 at 1,194 Hz
    ([6], 12)
    >>> events["t"].tolist()  # the threshold adapts
    [1352, 5342, 11286, 19055, 28139, 37694, 47077, 57053, 67036, 77025, 87018, 97694]
    """
    from spikelet.events import kernels

    ears = ears or Ears()
    samples = np.asarray(samples)
    if samples.ndim != 1 or samples.dtype.kind not in "iuf" or not np.isfinite(samples).all():
        raise SpikeletError(f"samples: expected finite numbers [S], got {samples.dtype} of {samples.shape}")
    if not 2 * ears.high_hz <= sample_rate <= HIGHEST_RATE:
        allowed = f"{2 * ears.high_hz} (twice high_hz) to {HIGHEST_RATE}"
        raise SpikeletError(f"sample_rate: expected {allowed}, got {sample_rate}")
    firing = ears.firing
    decays = math.exp(-STEP_US / firing.tau_us), math.exp(-STEP_US / firing.tau_jump_us)
    currents = _currents(samples.astype(np.float64), sample_rate, ears)
    t, x = kernels.fire(currents, *decays, firing.v_threshold, firing.jump, STEP_US)
    order = np.lexsort((x, t))
    return make_events(t[order], x[order], np.zeros(len(t)), np.zeros(len(t)))


def _currents(samples: np.ndarray, sample_rate: float, ears: Ears) -> np.ndarray:
    """I of ``hear``, float64 [channels, K]."""
    from spikelet.events import kernels

    num_bins, first, weights = _filters(sample_rate, ears)
    peak = np.abs(samples).max(initial=0.0) or 1.0  # in any unit the squares are neither too large nor too small
    energy = kernels.weigh(_power(samples / peak, sample_rate, num_bins), first, weights)
    heard = np.maximum(energy / (energy.max() or 1.0), 10 ** (-ears.range_db / 10))
    return np.maximum(1 + 10 * np.log10(heard) / ears.range_db, 0)


def _power(samples: np.ndarray, sample_rate: float, num_bins: int) -> np.ndarray:
    """P of ``hear``, float64 [num_bins, K]."""
    window = np.hanning(_window(sample_rate))
    num_steps = int(len(samples) * 1e6 / (sample_rate * STEP_US)) + 1
    starts = np.round(np.arange(num_steps) * (STEP_US * sample_rate / 1e6)).astype(np.int64)
    around = np.pad(samples, (len(window) // 2, len(window)))
    pieces = np.lib.stride_tricks.sliding_window_view(around, len(window))[starts]
    spectrum = np.fft.rfft(pieces * window, 2 * (num_bins - 1))
    return np.ascontiguousarray((spectrum.real**2 + spectrum.imag**2).T)


@lru_cache(maxsize=8)
def _filters(sample_rate: float, ears: Ears) -> tuple[int, np.ndarray, np.ndarray]:
    """How many frequencies a spectrum has, and w of ``hear``: for each channel the first frequency that it hears, and
    its weights from there on, float64 [channels, M].

    The spectrum is so fine that the triangle of the lowest channel is at least four frequencies wide.
    """
    narrowest = ears.width_mel * (700 + ears.low_hz) / 1127
    length = 1 << math.ceil(math.log2(max(_window(sample_rate), 2 * sample_rate / narrowest)))
    frequencies = _mel(np.arange(length // 2 + 1) * sample_rate / length)
    centres = np.linspace(_mel(ears.low_hz), _mel(ears.high_hz), ears.channels)
    first = np.searchsorted(frequencies, centres - ears.width_mel)
    most = (np.searchsorted(frequencies, centres + ears.width_mel) - first).max()
    first = np.minimum(first, len(frequencies) - most)
    heard = frequencies[first[:, None] + np.arange(most)]
    weights = np.maximum(0, 1 - np.abs(heard - centres[:, None]) / ears.width_mel)
    return len(frequencies), first, weights / weights.sum(1, keepdims=True)


def _window(sample_rate: float) -> int:
    return max(3, round(WINDOW_US * sample_rate / 1e6))


def _mel(hertz: np.ndarray | float) -> np.ndarray:
    return 1127 * np.log1p(np.asarray(hertz) / 700)
