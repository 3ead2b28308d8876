"""POKER-DVS: the symbols of playing cards that are browsed in front of a camera, in tonic's numpy files."""

import io
from pathlib import Path
from typing import ClassVar

import numpy as np

from spikelet.datasets.base import Source
from spikelet.datasets.event_base import EventSet, Protocol, Split, everything
from spikelet.datasets.event_fakes import fake_recording
from spikelet.datasets.layouts import Catalogue, ClassFolders
from spikelet.events import make_events
from spikelet.events.formats import numpy_files
from spikelet.files import write_whole

TRAIN, TEST = "pips_train", "pips_test"
CLASSES = ("cl", "he", "di", "sp")


def _is_val(rows: Catalogue) -> np.ndarray:
    """The last sixth of each class, by file name."""
    place, size = rows.places()
    return place >= size - size // 6


def parse(data: bytes) -> np.ndarray:
    """The events of a file, an array [E, 4] of t in us, x, y, p; raises ValueError with the reason where it is none.

    >>> parse(to_bytes(make_events([25], [3], [4], [1]))).tolist()
    [(25, 3, 4, 1)]
    """
    columns = numpy_files.columns_of(data)
    with np.errstate(invalid="ignore"):
        whole = columns.astype(np.int64)
    most = np.array([[2**62], [2**15], [2**15], [2]])
    if not ((whole == columns).all() and ((whole >= 0) & (whole < most)).all()):
        raise ValueError("it holds numbers that are no times, columns, rows and polarities")
    if (whole[0, 1:] < whole[0, :-1]).any():
        raise ValueError("time runs back")
    return make_events(*whole)


def to_bytes(events: np.ndarray) -> bytes:
    """A file of ``events``: the inverse of ``parse``."""
    file = io.BytesIO()
    np.save(file, np.stack([events[name].astype(np.int64) for name in "txyp"], axis=1))
    return file.getvalue()


class PokerDVS(EventSet):
    """Clubs, hearts, diamonds and spades, 35 x 35 pixels, 10 to 30 ms each.

    48 recordings are for training and 20 for "test", the split of tonic's archives; of each class of the former, the
    last sixth by file name is "val". The 131 files of the authors' page have no split, and are not read.
    """

    name = "poker-dvs"
    classes = ("club", "heart", "diamond", "spade")
    sensor_size = (35, 35, 2)
    num: ClassVar = {"train+val": 48, "test": 20}
    folder = "POKERDVS"
    places = ("POKERDVS", "poker-dvs", "")
    layouts: ClassVar = (
        ClassFolders(
            sizes={TRAIN: 48, TEST: 20},
            folders={TRAIN: (TRAIN,), TEST: (TEST,)},
            classes=CLASSES,
            pattern=r".+\.npy",
            parse=parse,
        ),
    )
    members = r"pips_(?:train|test)/\w\w/[^/]+\.npy"
    protocols: ClassVar = {
        "full": Protocol(
            tuple(range(4)),
            {
                "train": Split(TRAIN, None, lambda rows: ~_is_val(rows)),
                "val": Split(TRAIN, None, _is_val),
                "train+val": Split(TRAIN, None, everything),
                "test": Split(TEST, None, everything),
            },
        )
    }
    source = Source(
        homepage="http://www2.imse-cnm.csic.es/caviar/POKERDVS.html",
        license="non-commercial; name the source",
        citation="Serrano-Gotarredona and Linares-Barranco, Poker-DVS and MNIST-DVS. Their History, How They Were "
        "Made, and Other Details, Frontiers in Neuroscience 9:481, 2015",
        addresses=(
            "https://raw.githubusercontent.com/neuromorphs/tonic/d6f0a56421008c8e5700ca52abda193f9ff29836/tonic/datasets/",
        ),
        downloads={"pips_train.tar.gz": (TRAIN,), "pips_test.tar.gz": (TEST,)},
        checksums={
            "pips_train.tar.gz": "412bcfb96826e4fcb290558e8c150aae",
            "pips_test.tar.gz": "eef2bf7d0d3defae89a6fa98b07c17af",
        },
    )

    @classmethod
    def write_fake(cls, root: str | Path, num_train: int = 600, num_test: int = 100, seed: int = 0) -> None:
        rng = np.random.default_rng([seed, num_train])
        for part, num in ((TRAIN, num_train), (TEST, num_test)):
            for i in range(num):
                number, label = divmod(i, 4)
                events = fake_recording(label, rng, cls.sensor_size, 4)
                events["t"] //= 10  # in 30 ms
                path = Path(root).expanduser() / cls.folder / part / CLASSES[label] / f"{number:03d}.npy"
                write_whole(path, to_bytes(events))
