"""Sound files: one channel of samples, as the standard library reads and writes them."""

import io
import wave

import numpy as np

from spikelet.errors import SpikeletError

TYPES = {1: "u1", 2: "<i2", 4: "<i4"}  # by bytes per sample; those of one byte are unsigned
HIGHEST_RATE = 2**31 - 1


def parse_wav(data: bytes) -> tuple[np.ndarray, int]:
    """Samples [S] and their rate in Hz; raises ValueError with the reason where the file is damaged.

    Whole numbers of 8, 16 or 32 bits (int8, int16, int32), one channel.

    >>> samples, rate = parse_wav(wav_bytes(np.array([0, 5, -7], np.int16), 8_000))
    >>> samples.tolist(), rate
    ([0, 5, -7], 8000)
    """
    try:
        with wave.open(io.BytesIO(data)) as file:
            kind, samples = file.getparams(), file.readframes(file.getnframes())
    except (wave.Error, EOFError, RuntimeError) as error:
        raise ValueError(f"no wave file, or its header is damaged: {str(error) or 'it ends too early'}") from error
    if kind.nchannels != 1 or kind.sampwidth not in TYPES:
        raise ValueError(f"{kind.nchannels} channels of {8 * kind.sampwidth} bits, expected 1 of 8, 16 or 32")
    if kind.framerate < 1:
        raise ValueError(f"a sample rate of {kind.framerate} Hz")
    if len(samples) != kind.nframes * kind.sampwidth:
        raise ValueError(f"truncated, it holds {len(samples) // kind.sampwidth} of {kind.nframes} samples")
    found = np.frombuffer(samples, TYPES[kind.sampwidth])
    return (found ^ 128).view(np.int8) if kind.sampwidth == 1 else found, kind.framerate  # less 128, in as many bytes


def wav_bytes(samples: np.ndarray, sample_rate: int) -> bytes:
    """A file of ``samples``, int8, int16 or int32 [S]: the inverse of ``parse_wav``; SpikeletError for any others."""
    size = samples.dtype.itemsize
    if samples.ndim != 1 or samples.dtype.kind != "i" or size not in TYPES:
        raise SpikeletError(f"samples: expected int8, int16 or int32 [S], got {samples.dtype} of {samples.shape}")
    if not 1 <= sample_rate <= HIGHEST_RATE:
        raise SpikeletError(f"sample_rate: expected 1 to {HIGHEST_RATE}, got {sample_rate}")
    stored = samples.astype(np.int16) + 128 if size == 1 else samples
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(size)
        file.setframerate(sample_rate)
        file.writeframes(stored.astype(TYPES[size]).tobytes())
    return buffer.getvalue()
