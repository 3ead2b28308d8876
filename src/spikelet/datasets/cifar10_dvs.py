"""CIFAR10-DVS: pictures of CIFAR-10 that move on a screen in front of a camera, as AEDAT 2.0 files."""

from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from spikelet.datasets.base import Source
from spikelet.datasets.event_base import EventSet, Protocol, Split
from spikelet.datasets.event_fakes import fake_recording
from spikelet.datasets.layouts import Catalogue, ClassFolders
from spikelet.events.formats import aedat2
from spikelet.files import write_whole

PART = "cifar10-dvs"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FIGSHARE = {  # class to the number of its archive, and the archive's MD5
    "airplane": (7712788, "0afd5c4bf9ae06af762a77b180354fdd"),
    "automobile": (7712791, "8438dfeba3bc970c94962d995b1b9bdd"),
    "bird": (7712794, "a9c207c91c55b9dc2002dc21c684d785"),
    "cat": (7712812, "52c63c677c2b15fa5146a8daf4d56687"),
    "deer": (7712815, "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
    "dog": (7712818, "f379ebdf6703d16e0a690782e62639c3"),
    "frog": (7712842, "cad6ed91214b1c7388a5f6ee56d08803"),
    "horse": (7712851, "e7cbbf77bec584ffbf913f00e682782a"),
    "ship": (7712836, "41c7bd7d6b251be82557c6cce9a7d5c9"),
    "truck": (7712839, "89f3922fd147d9aeff89e76a2b0b70a7"),
}


def _tenth(rows: Catalogue) -> np.ndarray:
    """Which tenth of its class each recording is in, 9 the last, the file names sorted as words: 0, 1, 10, 100, ..."""
    words = np.argsort((rows.indices // len(CLASSES)).astype(str), kind="stable")
    place, size = Catalogue(*(column[words] for column in rows)).places()
    tenth = np.empty(len(words), np.int64)
    tenth[words] = 9 - (size - 1 - place) // np.maximum(size // 10, 1)
    return tenth


@cache
def seeded_split() -> dict[tuple[str, str], frozenset[int]]:
    """(class, "test" or "val") to the numbers of its files, 100 each, from the list in the package.

    >>> sorted(seeded_split()["airplane", "test"])[:5]
    [7, 30, 80, 82, 90]
    """
    lines = (Path(__file__).parent / "official" / "cifar10-dvs.split").read_text().splitlines()
    rows = (line.split() for line in lines if not line.startswith("#"))
    return {(name, split): frozenset(map(int, numbers)) for name, split, *numbers in rows}


def _drawn(rows: Catalogue, split: str) -> np.ndarray:
    """Which recordings the list in the package gives to "test" or to "val"."""
    listed = [n * len(CLASSES) + label for label, name in enumerate(CLASSES) for n in seeded_split()[name, split]]
    return np.isin(rows.indices, listed)


BY_NAME = {
    "train": Split(PART, 8_000, lambda rows: _tenth(rows) < 8),
    "val": Split(PART, 1_000, lambda rows: _tenth(rows) == 8),
    "train+val": Split(PART, 9_000, lambda rows: _tenth(rows) < 9),
    "test": Split(PART, 1_000, lambda rows: _tenth(rows) == 9),
}
SEEDED = {
    "train": Split(PART, 8_000, lambda rows: ~_drawn(rows, "val") & ~_drawn(rows, "test")),
    "val": Split(PART, 1_000, lambda rows: _drawn(rows, "val")),
    "train+val": Split(PART, 9_000, lambda rows: ~_drawn(rows, "test")),
    "test": Split(PART, 1_000, lambda rows: _drawn(rows, "test")),
}


def _parse(data: bytes) -> np.ndarray:
    events = aedat2.parse(data)
    events["t"] -= events["t"][:1]  # cameras count from their start, which may not fit into 32 bits
    return events


class CIFAR10DVS(EventSet):
    """A thousand recordings of each class of CIFAR-10, 128 x 128 pixels, about 1.3 s each.

    There is no official split. Protocols, both with 900 per class for training, 100 of them "val", and 100 for "test":

    full    the file names of a class sorted as words, the last 100 for "test": the split of SpikingJelly's
            ``split_to_train_test_set(0.9, ...)`` without shuffling, which the published numbers of work B are on
    seeded  drawn by hashes of the file names; the list is in the package, ``datasets/official/cifar10-dvs.split``
    """

    name = "cifar10-dvs"
    classes = CLASSES
    sensor_size = (128, 128, 2)
    num: ClassVar = {split: rule.num for split, rule in BY_NAME.items() if rule.num is not None}
    folder = "CIFAR10DVS"
    places = ("CIFAR10DVS", "CIFAR10-DVS", "cifar10-dvs", "")
    layouts: ClassVar = (
        ClassFolders(
            sizes={PART: 10_000},
            folders={PART: ("",)},
            classes=CLASSES,
            pattern=r"cifar10_[a-z]+_(\d+)\.aedat",
            parse=_parse,
        ),
    )
    members = r"[a-z]+/cifar10_[a-z]+_\d+\.aedat"
    protocols: ClassVar = {
        "full": Protocol(tuple(range(10)), BY_NAME),
        "seeded": Protocol(tuple(range(10)), SEEDED),
    }
    source = Source(
        homepage="https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671",
        license="CC BY 4.0",
        citation="Li, Liu, Ji, Li and Shi, CIFAR10-DVS: An Event-Stream Dataset for Object Classification, "
        "Frontiers in Neuroscience 11:309, 2017",
        addresses=("https://api.figshare.com/v2/file/download/", "https://ndownloader.figshare.com/files/"),
        downloads={f"{name}.zip": (f"{PART}/{name}",) for name in CLASSES},
        links={f"{name}.zip": str(number) for name, (number, _) in FIGSHARE.items()},
        checksums={f"{name}.zip": md5 for name, (_, md5) in FIGSHARE.items()},
    )

    @classmethod
    def write_fake(cls, root: str | Path, num_train: int = 600, num_test: int = 100, seed: int = 0) -> None:
        """Write ``num_train`` + ``num_test`` recordings, which the protocols divide nine to one."""
        rng = np.random.default_rng([seed, num_train])
        for i in range(num_train + num_test):
            number, label = divmod(i, 10)
            events = fake_recording(label, rng, cls.sensor_size)
            path = Path(root).expanduser() / cls.folder / CLASSES[label] / f"cifar10_{CLASSES[label]}_{number}.aedat"
            write_whole(path, aedat2.to_bytes(events))
