"""Ears: a waveform becomes events; against the formula written out, and by what must hold for any waveform."""

import cmath
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelet.errors import SpikeletError
from spikelet.events import Ears, Firing, check_events, hear

RATE = 4_000
FEW = Ears(channels=6, low_hz=100, high_hz=1_900, width_mel=200)


def noise(seed: int, num: int = 200) -> np.ndarray:
    """``num`` samples of noise that grows and fades, whole numbers."""
    rng = np.random.default_rng(seed)
    return np.round(rng.normal(0, 1_000, num) * np.abs(np.sin(np.arange(num) / rng.uniform(10, 60)))).astype(np.int64)


def tone(hertz: float, seconds: float, rate: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def mel(hertz: float) -> float:
    return 1127 * math.log(1 + hertz / 700)


def pitches(ears: Ears) -> np.ndarray:
    """The pitch of each channel in Hz."""
    mels = np.linspace(mel(ears.low_hz), mel(ears.high_hz), ears.channels)
    return 700 * (np.exp(mels / 1127) - 1)


# ---------------------------------------------------------------- the formula, written out


def spectrum(samples: np.ndarray, rate: int, middle: int, num_bins: int) -> list[float]:
    """P at one time, by the definition of the Fourier transform."""
    size, length = round(0.025 * rate), 2 * (num_bins - 1)
    power = []
    for f in range(num_bins):
        total = 0j
        for n in range(size):
            at = middle - size // 2 + n
            sample = float(samples[at]) if 0 <= at < len(samples) else 0.0
            total += (
                sample
                * (0.5 - 0.5 * math.cos(2 * math.pi * n / (size - 1)))
                * cmath.exp(-2j * math.pi * f * n / length)
            )
        power.append(abs(total) ** 2)
    return power


def currents(samples: np.ndarray, rate: int, ears: Ears, num_bins: int) -> list[list[float]]:
    """I of every channel, step by step."""
    num_steps = int(len(samples) * 1_000 / rate) + 1
    frequencies = [mel(f * rate / (2 * (num_bins - 1))) for f in range(num_bins)]
    power = [spectrum(samples, rate, round(k * rate / 1_000), num_bins) for k in range(num_steps)]
    energy = []
    for pitch in pitches(ears):
        w = [max(0.0, 1 - abs(f - mel(pitch)) / ears.width_mel) for f in frequencies]
        energy.append([sum(a * b for a, b in zip(w, p, strict=True)) / sum(w) for p in power])
    loudest = max(max(row) for row in energy)
    return [[max(0.0, 1 + 10 * math.log10(max(e / loudest, 1e-99)) / ears.range_db) for e in row] for row in energy]


def spikes(current: list[float], firing: Firing) -> list[float]:
    """Times in ms of one neuron's spikes."""
    v, a, times, before = 0.0, 0.0, [], -firing.v_threshold
    b, g = math.exp(-1_000 / firing.tau_us), math.exp(-1_000 / firing.tau_jump_us)
    for k, value in enumerate(current[1:], 1):
        v, a = b * v + (1 - b) * value, g * a
        now = v - firing.v_threshold - a
        if now >= 0:
            times.append(k - 1 + before / (before - now))
            v, a = 0.0, a + firing.jump
        before = v - firing.v_threshold - a
    return times


@pytest.mark.parametrize("seed", range(4))
def test_events_follow_the_formula(seed: int) -> None:
    samples = noise(seed)
    expected = [
        (math.floor(1_000 * time), channel)
        for channel, current in enumerate(currents(samples, RATE, FEW, num_bins=65))
        for time in spikes(current, FEW.firing)
    ]
    events = hear(samples, RATE, FEW)
    assert len(expected) > 20 and [(int(t), int(x)) for t, x in zip(events["t"], events["x"], strict=True)] == sorted(
        expected
    )


# ---------------------------------------------------------------- any waveform

WAVES = st.builds(noise, st.integers(0, 2**32), st.integers(0, 600))


@settings(max_examples=50, deadline=None)
@given(WAVES, st.integers(-900, 900))
def test_events_are_a_recording_whatever_the_loudness(samples: np.ndarray, octaves: int) -> None:
    events = hear(samples, RATE, FEW)
    if len(events):
        check_events(events, (FEW.channels, 1, 1))
        assert events["t"].min() >= 0 and events["t"].max() <= len(samples) * 1e6 / RATE
    keys = events["t"] * FEW.channels + events["x"]
    assert (np.diff(keys) >= 0).all(), "in the order of time, then of channels"
    assert np.array_equal(hear(samples * 2.0**octaves, RATE, FEW), events)
    assert np.array_equal(hear(-samples, RATE, FEW), events)


@settings(max_examples=50, deadline=None)
@given(WAVES, st.integers(0, 50))
def test_a_later_sound_is_heard_later(samples: np.ndarray, wait_ms: int) -> None:
    """Behind silence that the window at t = 0 does not look beyond."""
    first = hear(np.pad(samples, (13 * RATE // 1_000, 0)), RATE, FEW)
    late = hear(np.pad(samples, ((13 + wait_ms) * RATE // 1_000, 0)), RATE, FEW)
    assert np.array_equal(late["x"], first["x"]) and np.array_equal(late["t"], first["t"] + 1_000 * wait_ms)


@settings(max_examples=30, deadline=None)
@given(st.floats(150, 1_800), st.sampled_from([1, 2, 11]))
def test_a_tone_is_heard_at_its_pitch_whatever_the_rate(hertz: float, times: int) -> None:
    ears = Ears(channels=200, low_hz=100, high_hz=1_900, range_db=20)
    events = hear(tone(hertz, 0.3, times * RATE), times * RATE, ears)
    middle = events[(events["t"] > 100_000) & (events["t"] < 200_000)]
    counts = np.bincount(middle["x"], minlength=200)
    heard = counts @ pitches(ears) / counts.sum()
    assert abs(mel(heard) - mel(hertz)) < 25 and counts[np.abs(pitches(ears) - hertz).argmin()] == counts.max()


def test_an_onset_is_marked() -> None:
    """In a tone that goes on, every channel fires most at first: the threshold adapts."""
    ears = Ears(channels=50, low_hz=100, high_hz=1_900)
    events = hear(tone(700, 0.5), RATE, ears)
    rates = np.bincount(events["t"] // 50_000, minlength=10)[:10]
    assert rates[0] > 1.5 * rates[4] and np.ptp(rates[4:9]) <= 0.3 * rates[4]
    tireless = hear(tone(700, 0.5), RATE, Ears(50, 100, 1_900, firing=Firing(jump=0)))
    assert len(tireless) > 3 * len(events)


def test_a_glide_rises_through_the_channels() -> None:
    seconds = np.arange(2 * RATE) / RATE
    glide = np.sin(2 * np.pi * (200 * seconds + 350 * seconds**2))  # from 200 to 1,600 Hz
    events = hear(glide, RATE, Ears(channels=100, low_hz=100, high_hz=1_900, range_db=20))
    assert np.corrcoef(events["t"], events["x"])[0, 1] > 0.98


def test_quiet_beside_loud_is_heard_within_the_range() -> None:
    """A tone 30 dB below another: its channel fires a third as often or more; not at all where it is out of range."""
    both = tone(300, 0.5) + 10 ** (-30 / 20) * tone(1_500, 0.5)
    for range_db in (60, 25):
        ears = Ears(channels=100, low_hz=100, high_hz=1_900, range_db=range_db)
        events = hear(both, RATE, ears)
        events = events[(events["t"] > 100_000) & (events["t"] < 400_000)]
        counts = np.bincount(events["x"], minlength=100)
        loud, quiet = (counts[np.abs(pitches(ears) - hertz).argmin()] for hertz in (300, 1_500))
        assert loud / 3 <= quiet <= loud if range_db == 60 else quiet == 0


def test_silence_has_no_events() -> None:
    for samples in (np.zeros(0), np.zeros(500), np.zeros(500, np.int16)):
        assert len(hear(samples, RATE, FEW)) == 0


def test_whole_numbers_are_as_good_as_real_ones() -> None:
    samples = noise(5, 800)
    for kind in (np.int16, np.int32, np.float32):
        assert np.array_equal(hear(samples.astype(kind), RATE, FEW), hear(samples, RATE, FEW))


@pytest.mark.parametrize("width", [1, 10, 300])
@pytest.mark.parametrize("low_hz", [0, 500])
def test_every_channel_hears_something(width: float, low_hz: float) -> None:
    ears = Ears(channels=300, low_hz=low_hz, high_hz=1_999, width_mel=width, range_db=80)
    events = hear(noise(1, 1_000), RATE, ears)
    assert len(np.unique(events["x"])) == 300


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 0}, "channels: expected 1 to 32768, got 0"),
        ({"channels": 40_000}, "channels: expected 1 to 32768, got 40000"),
        ({"low_hz": 500, "high_hz": 500}, "low_hz, high_hz: expected 0 <= low_hz < high_hz, got 500, 500"),
        ({"low_hz": -1}, "low_hz, high_hz: expected"),
        ({"width_mel": 0}, "width_mel: expected above 0, got 0"),
        ({"range_db": math.nan}, "range_db: expected above 0, got nan"),
    ],
)
def test_bad_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(SpikeletError, match=message):
        Ears(**settings)


def test_bad_waveforms_and_neurons_are_named() -> None:
    with pytest.raises(SpikeletError, match=r"samples: expected finite numbers \[S\], got float64 of \(2, 3\)"):
        hear(np.zeros((2, 3)), RATE, FEW)
    with pytest.raises(SpikeletError, match="samples: expected finite numbers"):
        hear(np.array([0.0, math.inf]), RATE, FEW)
    with pytest.raises(SpikeletError, match=r"sample_rate: expected 7800\.0 \(twice high_hz\) to 1000000, got 4000"):
        hear(np.zeros(9), RATE)
    with pytest.raises(SpikeletError, match=r"sample_rate: expected .* got 4000000000"):
        hear(np.zeros(9), 4_000_000_000)
    with pytest.raises(SpikeletError, match=r"samples: expected finite numbers .* got complex128"):
        hear(np.zeros(9, complex), RATE, FEW)
    with pytest.raises(SpikeletError, match="tau_us: expected above 0, got 0"):
        Firing(tau_us=0)
    with pytest.raises(SpikeletError, match="jump: expected at least 0, got -1"):
        Firing(jump=-1)
