"""CIFAR-100: the official binary files, by their fine labels."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from spikelet.datasets.base import Arrays, ImageSet, fake_images
from spikelet.datasets.cifar import NUM, SHAPE, SOURCE, read_records, record_bytes
from spikelet.files import write_whole

CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
    maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
    plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail
    snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
    tulip turtle wardrobe whale willow_tree wolf woman worm
"""


class CIFAR100(ImageSet):
    """A hundred kinds of things, 32x32 in colour: 50,000 for training, the last 5,000 of them "val"; 10,000 for "test".

    The labels are the 100 fine ones; the coarse ones, 20 groups, are left out. A download must have the archive's
    published checksum. The files inside have none: unpacked by hand, they are checked by their sizes and labels.
    """

    name = "cifar100"
    classes = tuple(CLASSES.split())
    sensor_size = (32, 32, 3)
    num: ClassVar = NUM
    files: ClassVar = {"train": ("train",), "test": ("test",)}
    folder = "cifar-100-binary"
    places = ("cifar-100-binary/{}.bin", "cifar100/{}.bin", "{}.bin")
    source = replace(
        SOURCE,
        downloads={"cifar-100-binary.tar.gz": ("train", "test")},
        checksums={"cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8"},
        sizes={"train.bin": 50_000 * 3074, "test.bin": 10_000 * 3074},
        megabytes=168.5,
    )

    @classmethod
    def _parse(cls, path: Path, data: bytes) -> Arrays:
        return read_records(data, num_labels=2)

    @classmethod
    def write_fake(cls, root: str | Path, num_train: int = 600, num_test: int = 100, seed: int = 0) -> None:
        for file, num in (("train", num_train), ("test", num_test)):
            images, fine = fake_images(num, SHAPE, seed, len(cls.classes))
            write_whole(Path(root).expanduser() / cls.folder / f"{file}.bin", record_bytes(images, fine // 5, fine))
