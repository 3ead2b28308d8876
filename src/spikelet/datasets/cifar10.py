"""CIFAR-10: the official binary batches, or the official Python batches, read without trusting them."""

import io
import pickle
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from spikelet.datasets.base import Arrays, ImageSet, fake_images
from spikelet.datasets.cifar import NUM, PIXELS, SHAPE, SOURCE, read_records, record_bytes
from spikelet.errors import SpikeletError
from spikelet.files import write_whole

BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))


class _Dtype:
    def __init__(self, code: bytes, align: int, copy: int) -> None:
        if code != b"u1":
            raise ValueError(f"it holds an array of type {code!r}, expected unsigned bytes")

    def __setstate__(self, state: Any) -> None:
        """The byte order: of no consequence for bytes."""


class _Array:
    """Stands in for the array while the pickle is read: keeps shape, order and bytes, and runs nothing of numpy's."""

    shape: tuple[int, ...] = ()
    data = b""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, _, fortran, self.data = state
        self.order = "F" if fortran else "C"


class _Unpickler(pickle.Unpickler):
    """Knows the three names that occur in the official files, and refuses every other."""

    ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): lambda kind, shape, code: _Array(),
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 batch needs")
        return self.ALLOWED[module, name]


def read_python(data: bytes) -> Arrays:
    """As ``read_records``, of a pickled dictionary with b"data" [N, 3072] and b"labels"; no code in it is run."""
    try:
        batch = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        array, labels = batch[b"data"], np.array(batch[b"labels"])
        if not isinstance(array, _Array) or labels.ndim != 1 or labels.dtype.kind != "i":
            raise ValueError("it holds no CIFAR-10 batch")
        images = np.frombuffer(array.data, np.uint8).reshape(array.shape, order=array.order)  # type: ignore[call-overload]
        if images.shape != (len(labels), PIXELS) or labels.min(initial=0) < 0:
            raise ValueError(f"images of shape {images.shape} and {len(labels)} labels")
    except (EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"truncated or no CIFAR-10 batch: {error}") from error
    except ValueError:
        raise
    except Exception as error:  # foreign bytes make the pickle machine stumble in many ways
        raise ValueError(f"no CIFAR-10 batch ({type(error).__name__}: {error})") from error
    return {"images": images.reshape(-1, *SHAPE), "labels": labels}


def python_bytes(images: np.ndarray, labels: np.ndarray) -> bytes:
    """A Python batch, opcode by opcode as Python 2 wrote the official ones: the inverse of ``read_python``."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    dtype = (
        b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNN" + number(-1) * 2 + b"K\x00tb"
    )
    shape = number(len(images)) + number(PIXELS) + b"\x86"
    raw = images.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    array += b"(K\x01" + shape + dtype + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels.tolist()) + b"e"
    return b"\x80\x02}(" + text(b"labels") + listed + text(b"data") + array + b"u."


class CIFAR10(ImageSet):
    """Ten kinds of things, 32x32 in colour: 50,000 for training, the last 5,000 of them "val"; 10,000 for "test"."""

    name = "cifar10"
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    sensor_size = (32, 32, 3)
    num: ClassVar = NUM
    files: ClassVar = {"train": BATCHES, "test": ("test_batch",)}
    folder = "cifar-10-batches-bin"
    places = (
        "cifar-10-batches-bin/{}.bin",
        "cifar10/{}.bin",
        "{}.bin",
        "cifar-10-batches-py/{}",
        "cifar10/{}",
        "{}",
    )
    source = replace(
        SOURCE,
        downloads={"cifar-10-binary.tar.gz": (*BATCHES, "test_batch")},
        checksums={
            "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
            "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
            "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
            "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
            "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
            "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
            "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
        },
        megabytes=170.1,
    )

    @classmethod
    def _parse(cls, path: Path, data: bytes) -> Arrays:
        return read_records(data, num_labels=1) if path.suffix == ".bin" else read_python(data)

    @classmethod
    def write_fake(
        cls, root: str | Path, num_train: int = 600, num_test: int = 100, seed: int = 0, layout: str = "bin"
    ) -> None:
        """Write small batches, binary (``layout`` "bin") or Python ("py"); read them with ``verify=False``."""
        if layout not in ("bin", "py"):
            raise SpikeletError(f"layout: expected bin or py, got {layout!r}")
        if min(num_train, num_test) < len(BATCHES):
            raise SpikeletError(f"num_train, num_test: expected at least {len(BATCHES)}, got {num_train}, {num_test}")
        place = f"cifar-10-batches-{layout}"
        to_bytes, suffix = (record_bytes, ".bin") if layout == "bin" else (python_bytes, "")
        for files, num in ((BATCHES, num_train), (("test_batch",), num_test)):
            images, labels = fake_images(num, SHAPE, seed)
            shares = zip(np.array_split(images, len(files)), np.array_split(labels, len(files)), strict=True)
            for file, share in zip(files, shares, strict=True):
                write_whole(Path(root).expanduser() / place / f"{file}{suffix}", to_bytes(*share))
