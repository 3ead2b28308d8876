"""Files of events, one module per format: ``parse`` reads one, ``to_bytes`` writes one, ``read_events`` picks."""

from pathlib import Path

import numpy as np

from spikelet.errors import DataError
from spikelet.events.formats import aedat2, aedat3, atis, dat, numpy_files, shd

__all__ = ["aedat2", "aedat3", "atis", "dat", "numpy_files", "read_events", "shd"]

ONE_RECORDING = {".bin": atis.parse, ".dat": dat.parse, ".npy": numpy_files.parse}
AEDAT = aedat2.VERSION, aedat3.VERSION
SUFFIXES = (".aedat", *ONE_RECORDING, ".h5", ".hdf5")


def read_events(path: str | Path, index: int = 0, orientation: str = "cifar10-dvs") -> np.ndarray:
    """The recording in a file, as an array of EVENT; ``index``: which one, of a file that holds many.

    .aedat      AEDAT 3.1, as of DVS Gesture, or AEDAT 2.0, turned upright as CIFAR10-DVS needs it; as the sensor sent
                it with ``orientation`` "sensor"
    .dat        Prophesee, version 2, as of N-Cars
    .bin        ATIS, as of N-MNIST
    .npy        DVS Gesture as tonic distributes it, times in milliseconds
    .h5, .hdf5  SHD and SSC: many recordings, x is the channel

    Times are those of the file, in microseconds. No sensor is assumed: coordinates are only known not to be negative.
    Raises DataError, with the path and what is wrong, for a file that is missing, damaged or of another kind.

    >>> read_events("missing.bin")
    Traceback (most recent call last):
        ...
    spikelet.errors.DataError: missing.bin: there is no such file
    """
    path = Path(path)
    try:
        return _read(path, index, orientation)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _read(path: Path, index: int, orientation: str) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix == ".aedat4":
        raise ValueError("AEDAT 4 is not read, only AEDAT 2.0 and 3.1")
    if suffix not in SUFFIXES:
        raise ValueError(f"expected a name that ends with {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ValueError("it is no file" if path.exists() else "there is no such file")
    if suffix in (".h5", ".hdf5"):
        return shd.parse_one(path, index)
    if index != 0:
        raise ValueError(f"it holds one recording, index {index} is none")
    data = path.read_bytes()
    return _aedat(data, orientation) if suffix == ".aedat" else ONE_RECORDING[suffix](data)


def _aedat(data: bytes, orientation: str) -> np.ndarray:
    first = data[:64].split(b"\n")[0].rstrip(b"\r")
    if first not in AEDAT:
        raise ValueError(f"expected #!AER-DAT2.0 or #!AER-DAT3.1 as its first line, got {first[:20]!r}")
    return aedat2.parse(data, orientation) if first == aedat2.VERSION else aedat3.parse(data)
