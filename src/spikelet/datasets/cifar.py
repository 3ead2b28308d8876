"""What CIFAR-10 and CIFAR-100 share: the binary records, how many there are, and where they come from."""

import numpy as np

from spikelet.datasets.base import Arrays, Source

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
NUM = {"train": 45_000, "val": 5_000, "train+val": 50_000, "test": 10_000}
SOURCE = Source(
    homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
    license="none stated; cite the report",
    citation="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, technical report, 2009",
    addresses=("https://www.cs.toronto.edu/~kriz/", "http://www.cs.toronto.edu/~kriz/"),
)


def read_records(data: bytes, num_labels: int) -> Arrays:
    """Images uint8 [N, 3, 32, 32] and labels uint8 [N] of a binary file; raises ValueError where ``data`` is none.

    Format: records of ``num_labels`` bytes, the coarsest label first, then the red, the green and the blue plane, row
    by row. The finest label is the one that is returned. Source: the page of ``SOURCE``.

    >>> arrays = read_records(bytes([11, 19]) + bytes(3072), num_labels=2)
    >>> arrays["images"].shape, arrays["labels"].tolist()
    ((1, 3, 32, 32), [19])
    """
    record = num_labels + PIXELS
    if len(data) % record or not data:
        raise ValueError(f"truncated: it holds {len(data)} bytes, no multiple of {record}")
    records = np.frombuffer(data, np.uint8).reshape(-1, record)
    return {"images": records[:, num_labels:].reshape(-1, *SHAPE), "labels": records[:, num_labels - 1]}


def record_bytes(images: np.ndarray, *labels: np.ndarray) -> bytes:
    """A binary file of uint8 images [N, 3, 32, 32] and labels [N], the coarsest first: inverse of ``read_records``."""
    columns = [label.astype(np.uint8)[:, None] for label in labels]
    return np.concatenate([*columns, images.reshape(len(images), -1)], axis=1).tobytes()
