"""Free Spoken Digits: ten words by six speakers, made events by the package's own ears."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from spikelet.datasets.base import Source
from spikelet.datasets.event_base import EventSet, Protocol, Split
from spikelet.datasets.layouts import Catalogue, File, Layout, Row, as_file, entries
from spikelet.events import Ears, hear, parse_wav, wav_bytes
from spikelet.events.ears import VERSION
from spikelet.files import write_whole

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
DIGITS, TAKES = 10, 50
NAME = rf"(\d)_({'|'.join(SPEAKERS)})_([1-4]?\d)\.wav"
EACH = len(SPEAKERS) * DIGITS  # recordings of a take
PART = "recordings"
FAKE_RATE = 8_000


def _index(digit: int, speaker: int, take: int) -> int:
    """Takes outermost, so that the first recordings by index are of all speakers and digits."""
    return (take * len(SPEAKERS) + speaker) * DIGITS + digit


def _take(rows: Catalogue) -> np.ndarray:
    return rows.indices // EACH


def _speaker(rows: Catalogue) -> np.ndarray:
    return rows.indices // DIGITS % len(SPEAKERS)


@dataclass(frozen=True)
class WavFiles(Layout):
    """<digit>_<speaker>_<take>.wav, all in one folder, heard with ``ears``."""

    ears: Ears = field(default_factory=Ears)

    @property
    def settings(self) -> str:
        return f"{self.ears}, version {VERSION}"

    def files(self, folder: Path, part: str) -> list[File]:
        found = []
        for entry, fit in entries(folder, NAME):
            index = _index(int(fit[1]), SPEAKERS.index(fit[2]), int(fit[3]))
            found.append(as_file(entry, Row(index, int(fit[1]), index)))
        return found

    def read(self, file: File) -> Iterator[np.ndarray]:
        yield hear(*parse_wav(Path(file.path).read_bytes()), self.ears)


FULL = {
    "train": Split(PART, 40 * EACH, lambda rows: _take(rows) > 9),
    "val": Split(PART, 5 * EACH, lambda rows: (_take(rows) > 4) & (_take(rows) <= 9)),
    "train+val": Split(PART, 45 * EACH, lambda rows: _take(rows) > 4),
    "test": Split(PART, 5 * EACH, lambda rows: _take(rows) <= 4),
}
OTHER_SPEAKERS = {
    "train": Split(PART, 4 * TAKES * DIGITS, lambda rows: _speaker(rows) < 4),
    "val": Split(PART, TAKES * DIGITS, lambda rows: _speaker(rows) == 4),
    "train+val": Split(PART, 5 * TAKES * DIGITS, lambda rows: _speaker(rows) < 5),
    "test": Split(PART, TAKES * DIGITS, lambda rows: _speaker(rows) == 5),
}
ALL_DIGITS = tuple(range(DIGITS))
EARS = Ears()


class FSDD(EventSet):
    """3,000 recordings of the digits in English, 50 takes of each by 6 speakers, about 0.4 s at 8 kHz, in
    recordings/<digit>_<speaker>_<take>.wav. ``events.Ears()`` makes about 9,000 events of one, for 700 channels.

    Protocols:

    full     the official rule: takes 0 to 4 are "test"; of the others 5 to 9 are "val"
    speaker  every take, but the speakers differ: yweweler is "test", theo is "val", the other four are "train"

    The index of a recording is (take * 6 + speaker) * 10 + digit, speakers in alphabetical order. The packed file knows
    the settings of the ears, and is made again where they change. For other ears, a subclass with other ``layouts`` and
    ``sensor_size``.
    """

    name = "fsdd"
    classes = tuple("0123456789")
    sensor_size = (EARS.channels, 1, 1)
    num: ClassVar = {"train": 2_400, "val": 300, "train+val": 2_700, "test": 300}
    folder = "fsdd"
    places = ("fsdd", "FSDD", "free-spoken-digit-dataset", "free-spoken-digit-dataset-master", "")
    layouts: ClassVar = (WavFiles(sizes={PART: TAKES * EACH}, folders={PART: (PART,)}, ears=EARS),)
    members = rf"{PART}/{NAME}"
    protocols: ClassVar = {"full": Protocol(ALL_DIGITS, FULL), "speaker": Protocol(ALL_DIGITS, OTHER_SPEAKERS)}
    source = Source(
        homepage="https://github.com/Jakobovski/free-spoken-digit-dataset",
        license="CC BY-SA 4.0",
        citation="Jackson and others, Free Spoken Digit Dataset, https://github.com/Jakobovski/free-spoken-digit-dataset",
        by_hand={"free-spoken-digit-dataset-1.0.10.tar.gz": (PART,)},
    )

    @classmethod
    def write_fake(cls, root: str | Path, num_train: int = 600, num_test: int = 100, seed: int = 0) -> None:
        """Write ``num_test`` recordings from take 0 on, ``num_train`` from take 10 on, a tenth of that from take 5."""
        rng = np.random.default_rng([seed, num_train])
        for first, num in ((0, min(num_test, 5 * EACH)), (5, min(num_train // 10, 5 * EACH)), (10, num_train)):
            for index in range(first * EACH, first * EACH + num):
                take, speaker, digit = index // EACH, index // DIGITS % len(SPEAKERS), index % DIGITS
                path = Path(root).expanduser() / cls.folder / PART / f"{digit}_{SPEAKERS[speaker]}_{take}.wav"
                write_whole(path, wav_bytes(fake_word(digit, speaker, rng), FAKE_RATE))


def fake_word(digit: int, speaker: int, rng: np.random.Generator, num_samples: int = 1_200) -> np.ndarray:
    """A tone that glides, at another pitch and another way for each digit, int16 [S]; speakers differ by a little.

    >>> fake_word(3, 0, np.random.default_rng(0)).shape
    (1200,)
    """
    seconds = np.arange(num_samples) / FAKE_RATE
    share = seconds / seconds[-1]
    start, end = 300 * (1 + digit % 5) * (1 + 0.02 * speaker), (1.5 if digit < 5 else 0.75)
    phase = 2 * np.pi * np.cumsum(start * end**share) / FAKE_RATE + rng.uniform(0, 2 * np.pi)
    loudness = rng.uniform(2_000, 20_000) * np.sin(np.pi * share)
    return np.round(loudness * (np.sin(phase) + 0.02 * rng.normal(size=num_samples))).astype(np.int16)
