"""Data sets: official files to uint8 images. To add one: a file here with a subclass of ImageSet, and a line below."""

from spikelet.datasets import transforms
from spikelet.datasets.base import SPLITS, EpochSampler, ImageSet, Source, default_root, loader
from spikelet.datasets.cifar10 import CIFAR10
from spikelet.datasets.digits import Digits
from spikelet.datasets.mnist import MNIST, FashionMNIST

DATASETS: dict[str, type[ImageSet]] = {member.name: member for member in (Digits, MNIST, FashionMNIST, CIFAR10)}

__all__ = [
    "CIFAR10",
    "DATASETS",
    "MNIST",
    "SPLITS",
    "Digits",
    "EpochSampler",
    "FashionMNIST",
    "ImageSet",
    "Source",
    "default_root",
    "loader",
    "transforms",
]
