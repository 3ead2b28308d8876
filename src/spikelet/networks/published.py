"""Networks of publications by name: ``model.notation=7b-net``."""

from typing import NamedTuple


class Published(NamedTuple):
    """A network's notation, and what it is: its input, the settings that belong to it, its source."""

    notation: str
    what: str


def _sew(channels: int, pool: str = "") -> str:
    return f"[{channels}C3p1-{channels}C3p1]-{pool}"


def _stage(channels: int) -> str:
    """Two blocks, the first of which halves the picture."""
    return f"[{channels}C3s2p1-{channels}C3p1|{channels}C1s2]-{_sew(channels)}"


_STBP = "expects 3 x 32 x 32 (CIFAR-10), norm=none, readout=spikes. Yoo & Jeong, CBP-QSNN, IEEE JETCAS 2023, its STBP"
_SEW = "readout=current, whose mean over time is a linear layer on mean features. SEW, Fang et al., NeurIPS 2021"

PUBLISHED: dict[str, Published] = {
    "stbp-7conv-3fc": Published(
        "128C3p1-256C3s2p1-256C3p1-512C3s2p1-512C3p1-1024C3p1-2048C3s2p1-FC1024-FC512-FC10",
        f"7 convolutions, strides instead of pooling, and 3 linear layers; {_STBP}",
    ),
    "stbp-7conv-3fc-narrow": Published(
        "16C3p1-32C3s2p1-32C3p1-64C3s2p1-64C3p1-128C3p1-256C3s2p1-FC128-FC64-FC10",
        f"an eighth of the channels of stbp-7conv-3fc, not published; {_STBP}",
    ),
    "7b-net": Published(
        "32C3p1-" + 7 * _sew(32, "MP2-") + "FC11",
        f"7 residual blocks for 2 x 128 x 128 (DVS128 Gesture); {_SEW}",
    ),
    "wide-7b-net": Published(
        "64C3p1-" + 4 * _sew(64, "MP2-") + "128C3p1-" + 3 * _sew(128, "MP2-") + "FC10",
        f"7 wider residual blocks for 2 x 128 x 128 (CIFAR10-DVS); {_SEW}",
    ),
    "sew-resnet18": Published(
        "64C7s2p3-SMP3s2p1-" + 2 * _sew(64) + _stage(128) + _stage(256) + _stage(512) + "GAP-FC1000",
        f"ResNet-18 for 3 x 224 x 224 (ImageNet); {_SEW}",
    ),
}


def expanded(notation: str) -> str:
    """The notation of a published network for its name; anything else as it is.

    >>> expanded("stbp-7conv-3fc-narrow")[:22], expanded("4C3-FC10")
    ('16C3p1-32C3s2p1-32C3p1', '4C3-FC10')
    """
    return PUBLISHED[notation].notation if notation in PUBLISHED else notation
