"""Data sets: official files to uint8 images, or to frames of events.

To add images: a file here with a subclass of ImageSet. To add recordings: a subclass of EventSet, which is a table of
how the files lie (``layouts``), what the splits are and where the files come from. Then a line below.
"""

from spikelet.datasets import transforms
from spikelet.datasets.base import SPLITS, EpochSampler, ImageSet, OfficialSet, Source, default_root, loader
from spikelet.datasets.cifar10 import CIFAR10
from spikelet.datasets.cifar10_dvs import CIFAR10DVS
from spikelet.datasets.cifar100 import CIFAR100
from spikelet.datasets.digits import Digits
from spikelet.datasets.dvs_gesture import DVSGesture
from spikelet.datasets.event_base import EventSet
from spikelet.datasets.examine import Findings, examine
from spikelet.datasets.frame_set import BinnedSet, FrameSet
from spikelet.datasets.fsdd import FSDD
from spikelet.datasets.mnist import MNIST, FashionMNIST
from spikelet.datasets.moving_bars import MovingBars
from spikelet.datasets.n_cars import NCARS
from spikelet.datasets.nmnist import NMNIST
from spikelet.datasets.poker_dvs import PokerDVS
from spikelet.datasets.shd import SHD

IMAGE_SETS: dict[str, type[ImageSet]] = {
    member.name: member for member in (Digits, MNIST, FashionMNIST, CIFAR10, CIFAR100)
}
EVENT_SETS: dict[str, type[EventSet]] = {
    member.name: member for member in (NMNIST, DVSGesture, NCARS, SHD, CIFAR10DVS, PokerDVS, FSDD, MovingBars)
}
DATASETS: dict[str, type[OfficialSet]] = {**IMAGE_SETS, **EVENT_SETS}

__all__ = [
    "CIFAR10",
    "CIFAR10DVS",
    "CIFAR100",
    "DATASETS",
    "EVENT_SETS",
    "FSDD",
    "IMAGE_SETS",
    "MNIST",
    "NCARS",
    "NMNIST",
    "SHD",
    "SPLITS",
    "BinnedSet",
    "DVSGesture",
    "Digits",
    "EpochSampler",
    "EventSet",
    "FashionMNIST",
    "Findings",
    "FrameSet",
    "ImageSet",
    "MovingBars",
    "OfficialSet",
    "PokerDVS",
    "Source",
    "default_root",
    "examine",
    "loader",
    "transforms",
]
