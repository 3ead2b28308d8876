"""N-MNIST: the digits of MNIST, shown to an ATIS sensor that makes three small jerks."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from spikelet.datasets.base import Source
from spikelet.datasets.event_base import EventSet, Protocol, Split, everything
from spikelet.datasets.event_fakes import fake_recording
from spikelet.datasets.layouts import Catalogue, ClassFolders
from spikelet.events.formats import atis
from spikelet.files import write_whole

# The further samples of four digits: all official training samples of the digit in this range of indices, 2,000 each.
MORE = {6: (30_821, 51_067), 7: (1_001, 20_230), 8: (1_001, 21_709), 9: (1_001, 20_735)}
FIRST = 1_000


def _more(rows: Catalogue) -> np.ndarray:
    chosen = np.zeros(len(rows.indices), bool)
    for digit, (first, last) in MORE.items():
        chosen |= (rows.labels == digit) & (rows.indices >= first) & (rows.indices <= last)
    return chosen


def _turn(rows: Catalogue) -> np.ndarray:
    """Place of each sample of protocol 6789 among those of its digit, by official index, modulo 10; -1 for others."""
    chosen = np.isin(rows.labels, list(MORE)) & (rows.indices <= FIRST) | _more(rows)
    turn = np.full(len(rows.indices), -1)
    for digit in MORE:
        of_digit = chosen & (rows.labels == digit)
        turn[of_digit] = np.arange(of_digit.sum()) % 10
    return turn


FULL = {
    "train": Split("Train", 55_000, lambda rows: rows.indices <= 55_000),
    "val": Split("Train", 5_000, lambda rows: rows.indices > 55_000),
    "train+val": Split("Train", 60_000, everything),
    "test": Split("Test", 10_000, everything),
}
FIRST_1000 = {
    "train": Split("Train", 900, lambda rows: (rows.indices <= FIRST) & (rows.indices % 10 != 0)),
    "val": Split("Train", 100, lambda rows: (rows.indices <= FIRST) & (rows.indices % 10 == 0)),
    "train+val": Split("Train", 1_000, lambda rows: rows.indices <= FIRST),
    "test": Split("Test", 100, lambda rows: rows.indices <= 100),
    "other-6789": Split("Train", 8_000, _more),
}
FOUR_DIGITS = {
    "train": Split("Train", 6_716, lambda rows: _turn(rows) > 1),
    "val": Split("Train", 841, lambda rows: _turn(rows) == 1),
    "train+val": Split("Train", 7_557, lambda rows: _turn(rows) > 0),
    "test": Split("Train", 841, lambda rows: _turn(rows) == 0),
}


class NMNIST(EventSet):
    """Recordings of 34 x 34 pixels, two polarities, about 300 ms and 4,200 events, in Train/<digit>/<index>.bin.

    Sample i is the i-th image of MNIST, counted from 1. Protocols:

    full        the official split, 60,000 / 10,000; of the training samples the last 5,000 are "val"
    first-1000  official training samples 1 to 1,000, those with an index divisible by 10 are "val"; official test
                samples 1 to 100; and "other-6789": 8,000 further training samples of the digits 6 to 9, for testing
    6789        those four digits alone, labels 0 to 3, from the training samples of first-1000 and other-6789: within
                each digit, by official index, number 0, 10, 20, ... is "test", number 1, 11, 21, ... is "val"

    Results of the last two cannot be compared with published ones, which are on the full set.
    """

    name = "nmnist"
    classes = tuple("0123456789")
    sensor_size = (34, 34, 2)
    num: ClassVar = {split: rule.num for split, rule in FULL.items() if rule.num is not None}
    folder = "NMNIST"
    places = ("NMNIST", "N-MNIST", "nmnist", "")
    layouts: ClassVar = (
        ClassFolders(
            sizes={"Train": 60_000, "Test": 10_000},
            folders={"Train": ("Train",), "Test": ("Test",)},
            classes=tuple("0123456789"),
            pattern=r"(\d+)\.bin",
            parse=atis.parse,
            anew=False,
        ),
    )
    members = r"(?:Train|Test)/\d/\d+\.bin"
    protocols: ClassVar = {
        "full": Protocol(tuple(range(10)), FULL),
        "first-1000": Protocol(tuple(range(10)), FIRST_1000),
        "6789": Protocol(tuple(MORE), FOUR_DIGITS),
    }
    source = Source(
        homepage="https://www.garrickorchard.com/datasets/n-mnist",
        license="CC BY-SA 4.0",
        citation="Orchard, Jayawant, Cohen and Thakor, Converting Static Image Datasets to Spiking Neuromorphic "
        "Datasets Using Saccades, Frontiers in Neuroscience 9:437, 2015",
        addresses=("https://data.mendeley.com/public-files/datasets/468j46mzdv/files/",),
        downloads={"Train.zip": ("Train",), "Test.zip": ("Test",)},
        links={
            "Train.zip": "39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded",
            "Test.zip": "05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",
        },
        checksums={
            "Train.zip": "20959b8e626244a1b502305a9e6e2031",
            "Test.zip": "69ca8762b2fe404d9b9bad1103e97832",
        },
    )

    @classmethod
    def write_fake(
        cls, root: str | Path, num_train: int = 600, num_test: int = 100, seed: int = 0, num_more: int = 40
    ) -> None:
        """Write samples 1 to ``num_train`` and 1 to ``num_test``, ``num_train`` // 10 of those that protocol "full"
        validates on, and ``num_more`` of each digit of "other-6789"; sample i shows the digit (i - 1) % 10."""
        rng = np.random.default_rng([seed, num_train])
        wanted = [("Train", i, (i - 1) % 10) for i in range(1, num_train + 1)]
        wanted += [("Train", 55_001 + i, i % 10) for i in range(num_train // 10)]
        wanted += [("Test", i, (i - 1) % 10) for i in range(1, num_test + 1)]
        wanted += [("Train", MORE[digit][0] + 10 * k + digit, digit) for digit in MORE for k in range(num_more)]
        for part, index, digit in wanted:
            path = Path(root).expanduser() / cls.folder / part / str(digit) / f"{index:05d}.bin"
            write_whole(path, atis.to_bytes(fake_recording(digit, rng)))
