"""N-Cars: cars and what is not a car, seen from behind a windscreen for 100 ms."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from spikelet.datasets.base import Source
from spikelet.datasets.event_base import EventSet, Protocol, Split, everything
from spikelet.datasets.event_fakes import fake_recording
from spikelet.datasets.layouts import Catalogue, ClassFolders
from spikelet.events.formats import dat
from spikelet.files import write_whole

TRAIN, TEST = "n-cars_train", "n-cars_test"
CLASSES = ("background", "cars")


def _is_val(rows: Catalogue) -> np.ndarray:
    """The last tenth of each class, by number: neighbours come from one drive, which must not be cut in many places."""
    place, size = rows.places()
    return place >= size - size // 10


class NCARS(EventSet):
    """Cars (label 1) and background (label 0), 120 x 100 pixels, 100 ms each, in Prophesee's .dat files.

    15,422 recordings are for training and 8,607 for "test", the official split; of each class of the former, the last
    tenth by file number is "val". Prophesee gives Prophesee_Dataset_n_cars.zip to people only; the two archives in it
    may be left packed.
    """

    name = "n-cars"
    classes = ("background", "car")
    sensor_size = (120, 100, 2)
    num: ClassVar = {"train": 13_880, "val": 1_542, "train+val": 15_422, "test": 8_607}
    folder = "N-Cars"
    places = ("N-Cars", "NCARS", "")
    layouts: ClassVar = (
        ClassFolders(
            sizes={TRAIN: 15_422, TEST: 8_607},
            folders={TRAIN: (TRAIN, "train"), TEST: (TEST, "test")},
            classes=CLASSES,
            pattern=r"(?:obj_)?(\d+)(?:_td)?\.dat",
            parse=dat.parse,
        ),
    )
    members = r"(?:n-cars_)?(?:train|test)/(?:background|cars)/\w+\.dat"
    protocols: ClassVar = {
        "full": Protocol(
            (0, 1),
            {
                "train": Split(TRAIN, 13_880, lambda rows: ~_is_val(rows)),
                "val": Split(TRAIN, 1_542, _is_val),
                "train+val": Split(TRAIN, 15_422, everything),
                "test": Split(TEST, 8_607, everything),
            },
        )
    }
    source = Source(
        homepage="https://www.prophesee.ai/2018/03/13/dataset-n-cars/",
        license="Prophesee's own terms, on its page",
        citation="Sironi, Brambilla, Bourdis, Lagorce and Benosman, HATS: Histograms of Averaged Time Surfaces for "
        "Robust Event-Based Object Classification, CVPR 2018",
        by_hand={"n-cars_train.zip": (TRAIN,), "n-cars_test.zip": (TEST,)},
        checksums={
            "n-cars_train.zip": "976d126a651b95d81800b05a3093337b",
            "n-cars_test.zip": "3b5e8e9a5bffeb95614b8c0a2ba4e511",
        },
    )

    @classmethod
    def write_fake(cls, root: str | Path, num_train: int = 600, num_test: int = 100, seed: int = 0) -> None:
        rng = np.random.default_rng([seed, num_train])
        for part, num in ((TRAIN, num_train), (TEST, num_test)):
            for i in range(num):
                number, label = divmod(i, 2)
                events = fake_recording(label, rng, cls.sensor_size, 2)
                events["t"] //= 3  # in 100 ms
                path = Path(root).expanduser() / cls.folder / part / CLASSES[label] / f"obj_{number:06d}_td.dat"
                write_whole(path, dat.to_bytes(events))
