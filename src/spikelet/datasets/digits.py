"""scikit-learn's 8x8 digits: no file, no download."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from spikelet.datasets.base import Arrays, ImageSet, Source


class Digits(ImageSet):
    """1,797 handwritten digits of 8x8 pixels, values 0..16 scaled to 0..255, inside scikit-learn.

    In scikit-learn's order, images 0, 5, 10, ... are "test"; of the rest, number 0, 10, 20, ... are "val".

    >>> digits = Digits(split="test")
    >>> len(digits), tuple(digits.images.shape), int(digits.images.max())
    (360, (360, 1, 8, 8), 255)
    """

    name = "digits"
    classes = tuple("0123456789")
    sensor_size = (8, 8, 1)
    num: ClassVar = {"train": 1293, "val": 144, "train+val": 1437, "test": 360}
    source = Source(
        homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        license="CC BY 4.0",
        citation="Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998",
    )

    @classmethod
    def where(cls, root: str | Path | None = None) -> str:
        return "inside scikit-learn"

    @classmethod
    def write_fake(cls, root: str | Path, num_train: int = 600, num_test: int = 100, seed: int = 0) -> None:
        """Nothing to write: the real images are always there."""

    @classmethod
    def _parse(cls, path: Path, data: bytes) -> Arrays:
        raise ValueError("digits are read from no file")

    @classmethod
    def _is_val(cls, num: int) -> np.ndarray:
        return np.arange(num) % 10 == 0

    @classmethod
    def _official(cls, root: Path, part: str, verify: bool) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        images = ((pixels.astype(np.int64) * 255 + 8) // 16).astype(np.uint8).reshape(-1, 1, 8, 8)
        chosen = (np.arange(len(labels)) % 5 == 0) == (part == "test")
        return images[chosen], labels[chosen]
