"""SHD: spoken digits in English and German, as the spikes of an artificial cochlea with 700 channels."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from spikelet.datasets.base import Source
from spikelet.datasets.event_base import EventSet, Protocol, Split, everything
from spikelet.datasets.event_fakes import fake_recording
from spikelet.datasets.layouts import Catalogue, DamageError, File, Layout, Row, as_file
from spikelet.events.formats import hdf5, shd
from spikelet.files import write_whole

TRAIN, TEST = "shd_train", "shd_test"
CHANNELS, DIGITS = 700, 20
SPEAKER, VAL_SPEAKERS = "extra/speaker", (3, 9)
NOBODY = -1  # the group where the file does not tell the speaker


@dataclass(frozen=True)
class Spoken(Layout):
    """<part>.h5, all recordings of a part in one file, with their labels and, in most, their speakers."""

    def files(self, folder: Path, part: str) -> list[File]:
        path = folder / f"{part}.h5"
        if not path.is_file():
            return []
        try:
            labels, speakers = _told(path)
        except ValueError as error:
            raise DamageError(path, str(error)) from error
        told = zip(labels.tolist(), speakers.tolist(), strict=True)
        return [as_file(path, *(Row(i, label, speaker) for i, (label, speaker) in enumerate(told)))]

    def read(self, file: File) -> Iterator[np.ndarray]:
        with Path(file.path).open("rb") as source:
            yield from shd.Lists(hdf5.Source(source)).events(slice(None))


def _told(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The label and the speaker of each recording, int64 [N]; NOBODY where the file does not tell the speaker."""
    with path.open("rb") as file:
        source = hdf5.Source(file)
        labels = shd.Lists(source).labels
        try:
            speakers, lists = hdf5.load(source, SPEAKER)
        except ValueError as error:
            if str(error) != f"it holds no {SPEAKER}":
                raise
            return labels, np.full(len(labels), NOBODY)
    if lists is not None or speakers.dtype.kind not in "iu" or len(speakers) != len(labels):
        raise ValueError(f"{SPEAKER}: expected {len(labels)} integers, one per recording")
    return labels, speakers.astype(np.int64)


def _is_val(rows: Catalogue) -> np.ndarray:
    """Whole speakers; where the file does not tell them, every tenth recording."""
    return np.where(rows.groups == NOBODY, rows.indices % 10 == 0, np.isin(rows.groups, VAL_SPEAKERS))


class SHD(EventSet):
    """The digits 0 to 9, spoken by twelve people in English (labels 0 to 9) and German (10 to 19), about 0.7 s each.

    A sensor of one row: x is the channel, and there is one polarity. 8,156 recordings
    are for training and 2,264 for "test", the official split, whose "test" has two speakers that nobody is trained on.
    Of the former, all recordings of speakers 3 and 9 are "val".
    """

    name = "shd"
    classes = (
        *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
        *("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"),
    )
    sensor_size = (CHANNELS, 1, 1)
    num: ClassVar = {"train+val": 8_156, "test": 2_264}
    folder = "SHD"
    places = ("SHD", "shd", "hsd", "")
    layouts: ClassVar = (Spoken({TRAIN: 8_156, TEST: 2_264}, {TRAIN: ("",), TEST: ("",)}),)
    members = r"shd_(?:train|test)\.h5"
    protocols: ClassVar = {
        "full": Protocol(
            tuple(range(DIGITS)),
            {
                "train": Split(TRAIN, None, lambda rows: ~_is_val(rows)),
                "val": Split(TRAIN, None, _is_val),
                "train+val": Split(TRAIN, None, everything),
                "test": Split(TEST, None, everything),
            },
        )
    }
    source = Source(
        homepage="https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/",
        license="CC BY 4.0",
        citation="Cramer, Stradmann, Schemmel and Zenke, The Heidelberg Spiking Data Sets for the Systematic "
        "Evaluation of Spiking Neural Networks, IEEE TNNLS 33, 2022",
        addresses=("https://zenkelab.org/datasets/", "https://compneuro.net/datasets/"),
        downloads={"shd_train.h5.zip": (TRAIN,), "shd_test.h5.zip": (TEST,)},
        checksums={
            "shd_train.h5.zip": "f3252aeb598ac776c1b526422d90eecb",
            "shd_test.h5.zip": "1503a5064faa34311c398fb0a1ed0a6f",
        },
    )

    @classmethod
    def write_fake(cls, root: str | Path, num_train: int = 600, num_test: int = 100, seed: int = 0) -> None:
        rng = np.random.default_rng([seed, num_train])
        speakers = {TRAIN: (0, 1, 2, 3, 6, 7, 8, 9, 10, 11), TEST: range(12)}
        for part, num in ((TRAIN, num_train), (TEST, num_test)):
            labels = np.arange(num) % DIGITS
            recordings = [fake_recording(label, rng, cls.sensor_size, DIGITS) for label in labels.tolist()]
            who = np.array(speakers[part])[np.arange(num) // DIGITS % len(speakers[part])]
            write_whole(Path(root).expanduser() / cls.folder / f"{part}.h5", _file(recordings, labels, who))


def _file(recordings: list[np.ndarray], labels: np.ndarray, speakers: np.ndarray) -> bytes:
    """A file with times of 2 bytes, as the official ones have, which are moved to the nearest that they can say."""
    import h5py

    for events in recordings:
        events["t"] = shd.to_us((events["t"] / 1e6).astype(np.float16))
    file = io.BytesIO(shd.to_bytes(recordings, labels, times="f2"))
    with h5py.File(file, "r+") as h5:
        h5[SPEAKER] = speakers.astype(np.uint16)
        h5["extra/keys"] = [name.encode() for name in SHD.classes]
    return file.getvalue()
