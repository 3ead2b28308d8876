"""MNIST and Fashion-MNIST: the idx format, packed (.gz) or not."""

import gzip
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np

from spikelet.datasets.base import Arrays, ImageSet, Source, fake_images
from spikelet.files import write_whole

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
DOWNLOADS = {f"{file}.gz": (file,) for part in FILES.values() for file in part}


def _places(*folders: str) -> tuple[str, ...]:
    return tuple(f"{folder}{{}}{suffix}" for folder in folders for suffix in (".gz", ""))


def read_idx(data: bytes, num_dims: int) -> np.ndarray:
    """The uint8 array of an idx file; raises ValueError with the reason where ``data`` is none.

    Format: bytes 0, 0, 8 (unsigned byte), number of dimensions, each dimension as big-endian int32, then the values.

    >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]), num_dims=1).tolist()
    [7, 8, 9]
    """
    start = 4 + 4 * num_dims
    if data[:4] != bytes((0, 0, 8, num_dims))[: len(data)]:
        raise ValueError(
            f"it starts with {data[:4].hex(' ')}, an idx file with {num_dims} dimensions with 00 00 08 0{num_dims}"
        )
    shape = np.frombuffer(data[4 : start if len(data) >= start else 4], ">u4").tolist()
    expected = start + int(np.prod(shape, dtype=np.int64)) if shape else start
    if len(data) < expected:
        raise ValueError(f"truncated: it holds {len(data)} of {expected} bytes")
    if len(data) > expected:
        raise ValueError(f"it holds {len(data)} bytes where its header promises {expected}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def idx_bytes(array: np.ndarray) -> bytes:
    """An idx file that holds a uint8 array: the inverse of ``read_idx``."""
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


class _Idx(ImageSet):
    """The reader of both; the members are tables."""

    sensor_size = (28, 28, 1)
    num: ClassVar = {"train": 55_000, "val": 5_000, "train+val": 60_000, "test": 10_000}
    files = FILES

    @classmethod
    def _parse(cls, path: Path, data: bytes) -> Arrays:
        if path.suffix == ".gz":
            try:
                data = gzip.decompress(data)
            except EOFError as error:
                raise ValueError(f"truncated: the compressed data ends early, after {len(data)} bytes") from error
            except (zlib.error, gzip.BadGzipFile) as error:
                raise ValueError(f"corrupted: {error}") from error
        if "labels" in path.name:
            return {"labels": read_idx(data, 1)}
        images = read_idx(data, 3)
        if images.shape[1:] != (28, 28):
            raise ValueError(f"images of {images.shape[1]}x{images.shape[2]} pixels, expected 28x28")
        return {"images": images[:, None]}

    @classmethod
    def write_fake(cls, root: str | Path, num_train: int = 600, num_test: int = 100, seed: int = 0) -> None:
        for part, num in (("train", num_train), ("test", num_test)):
            images, labels = fake_images(num, (1, 28, 28), seed)
            for file, array in zip(FILES[part], (images[:, 0], labels), strict=True):
                data = gzip.compress(idx_bytes(array), compresslevel=1, mtime=0)
                write_whole(Path(root).expanduser() / cls.folder / f"{file}.gz", data)


class MNIST(_Idx):
    """Handwritten digits, 28x28 grey: 60,000 for training, the last 5,000 of them "val"; 10,000 for "test"."""

    name = "mnist"
    classes = tuple("0123456789")
    folder = "MNIST/raw"
    places = _places("MNIST/raw/", "MNIST/", "mnist/", "")
    source = Source(
        homepage="http://yann.lecun.com/exdb/mnist/",
        license="CC BY-SA 3.0",
        citation="LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998",
        addresses=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ),
        downloads=DOWNLOADS,
        checksums={
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
        megabytes=11.6,
    )


class FashionMNIST(_Idx):
    """Articles of clothing in MNIST's format: 60,000 for training, the last 5,000 of them "val"; 10,000 for "test".

    No checksums of the unpacked files are published: those are checked by their sizes and labels.
    """

    name = "fashion-mnist"
    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    folder = "FashionMNIST/raw"
    places = _places("FashionMNIST/raw/", "FashionMNIST/", "fashion-mnist/", "")
    source = Source(
        homepage="https://github.com/zalandoresearch/fashion-mnist",
        license="MIT",
        citation="Xiao, Rasul and Vollgraf, Fashion-MNIST: a novel image dataset, arXiv 1708.07747, 2017",
        addresses=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        downloads=DOWNLOADS,
        checksums={
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
        sizes={
            "train-images-idx3-ubyte": 16 + 60_000 * 28 * 28,
            "train-labels-idx1-ubyte": 8 + 60_000,
            "t10k-images-idx3-ubyte": 16 + 10_000 * 28 * 28,
            "t10k-labels-idx1-ubyte": 8 + 10_000,
        },
        megabytes=30.9,
    )
