"""Classify pictures of handwritten digits with the network in the box, and watch the answer settle.

python examples/classify_with_packaged_network.py [PICTURE ...]     dark digits on a light ground, any size
"""

import sys

import numpy as np
from PIL import Image, ImageOps

import spikelet


def read(picture: str) -> np.ndarray:
    """The picture as MNIST has it: white on black, the digit's box within 20 x 20, centred in uint8 [1, 28, 28]."""
    grey = ImageOps.autocontrast(ImageOps.invert(Image.open(picture).convert("L")), cutoff=1)
    digit = ImageOps.contain(grey.crop(grey.point(lambda p: 255 * (p > 64)).getbbox()), (20, 20))
    canvas = Image.new("L", (28, 28))
    canvas.paste(digit, ((28 - digit.width) // 2, (28 - digit.height) // 2))
    return np.array(canvas)[None]


def strokes() -> np.ndarray:
    """A one and a seven made of straight strokes, and a ring: uint8 [3, 1, 28, 28]."""
    images = np.zeros((3, 1, 28, 28), np.uint8)
    images[0, 0, 4:24, 13:16] = 255
    images[1, 0, 4:7, 6:20] = images[1, 0, 6:24, 15:18] = 255
    y, x = np.ogrid[:28, :28]
    from_centre = np.hypot((y - 14) / 9, (x - 14) / 7)
    images[2, 0] = 255 * ((from_centre > 0.65) & (from_centre < 1))
    return images


def main(pictures: list[str]) -> np.ndarray:
    """Returns the classes, int64 [N]."""
    network = spikelet.load("mnist-lenet")
    images = np.stack([read(picture) for picture in pictures]) if pictures else strokes()
    run = network.run(images, num_steps=4, record=True)
    answers = run.logits.cumsum(axis=0).argmax(axis=2)  # [T, N]
    for name, over_time in zip(pictures or ["one", "seven", "zero"], answers.T, strict=True):
        print(f"{name}: {over_time[-1]} (step by step: {', '.join(map(str, over_time))})")
    print(f"{(run.positive + run.negative).sum() / len(images):,.0f} spikes per picture")
    return answers[-1]


if __name__ == "__main__":
    main(sys.argv[1:])
