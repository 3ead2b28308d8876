"""What happens to pixels between the file and the network: augmentation, cropping, standardisation.

Everything works on a batch [N, C, H, W] at once, on whatever device it is. Pixels are floats in 0..255. All randomness
comes from the ``generator`` that is given. The deployed network sees uint8, so the result of an augmentation is
rounded and clipped to 0..255; ``augment.raw`` leaves that out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from spikelet.errors import SpikeletError

Range = tuple[float, float]


def to_pixels(images: Tensor) -> Tensor:
    """Round to integers and clip to 0..255, what a uint8 image can hold; the type stays.

    >>> to_pixels(torch.tensor([-3.0, 0.4, 254.6, 300.0])).tolist()
    [0.0, 0.0, 255.0, 255.0]
    """
    return images.round().clamp_(0, 255)


def _uniform(images: Tensor, generator: torch.Generator, low: float, high: float) -> Tensor:
    """One number per image, [N]."""
    values = torch.rand(len(images), generator=generator, device=generator.device) * (high - low) + low
    return values.to(images)


def _integers(images: Tensor, generator: torch.Generator, stop: int) -> Tensor:
    """One of 0 .. stop - 1 per image, [N]."""
    values = torch.randint(stop, (len(images),), generator=generator, device=generator.device)
    return values.to(images.device)


def random_affine(
    images: Tensor, generator: torch.Generator, degrees: float, shift: float, scale: Range, shear: float
) -> Tensor:
    """Rotate, shear, scale and shift each image about its centre, in one bilinear sampling; outside is 0.

    degrees  rotation, uniform in +-degrees
    shift    uniform in +-shift x the image's width and height
    scale    uniform in [low, high]; above 1 the picture grows
    shear    horizontal, uniform in +-shear degrees
    """
    height, width = images.shape[-2:]
    angle = torch.deg2rad(_uniform(images, generator, -degrees, degrees))
    slant = torch.deg2rad(_uniform(images, generator, -shear, shear)).tan()
    shrink = 1 / _uniform(images, generator, *scale)
    cos, sin = angle.cos() * shrink, angle.sin() * shrink
    matrix = images.new_empty(len(images), 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 1] = cos, (cos * slant - sin) * (height / width)
    matrix[:, 1, 0], matrix[:, 1, 1] = sin * (width / height), sin * slant + cos
    matrix[:, 0, 2] = 2 * _uniform(images, generator, -shift, shift)
    matrix[:, 1, 2] = 2 * _uniform(images, generator, -shift, shift)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def random_crop(images: Tensor, generator: torch.Generator, size: int, pad: int = 0) -> Tensor:
    """A ``size`` x ``size`` window of each image, anywhere in it after ``pad`` zeros on every side."""
    images = functional.pad(images, (pad, pad, pad, pad)) if pad else images
    _check_size(images, size)
    windows = images.unfold(2, size, 1).unfold(3, size, 1)
    top = _integers(images, generator, windows.shape[2])
    left = _integers(images, generator, windows.shape[3])
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror every other image, on average, left to right."""
    mirror = _integers(images, generator, 2).bool().reshape(-1, 1, 1, 1)
    return torch.where(mirror, images.flip(3), images)


def random_colour(images: Tensor, generator: torch.Generator, brightness: float, contrast: Range) -> Tensor:
    """Add one number in +-brightness to each image, then stretch each channel about its mean by one in ``contrast``."""
    images = images + _uniform(images, generator, -brightness, brightness).reshape(-1, 1, 1, 1)
    mean = images.mean((2, 3), keepdim=True)
    return mean + (images - mean) * _uniform(images, generator, *contrast).reshape(-1, 1, 1, 1)


def center_crop(images: Tensor, size: int) -> Tensor:
    """The ``size`` x ``size`` window in the middle; any dtype.

    >>> center_crop(torch.arange(16).reshape(1, 1, 4, 4), 2).tolist()
    [[[[5, 6], [9, 10]]]]
    """
    _check_size(images, size)
    top, left = (images.shape[-2] - size) // 2, (images.shape[-1] - size) // 2
    return images[..., top : top + size, left : left + size].contiguous()


def standardize(images: Tensor) -> Tensor:
    """(x - mean) / max(std, 1/sqrt(M)) over the M values of each image: float, no longer pixels. Source: reference 4.2.

    >>> standardize(torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]])).flatten().tolist()  # mean 3, std sqrt(5)
    [-1.3416407108306885, -0.4472135901451111, 0.4472135901451111, 1.3416407108306885]
    """
    images = images.float()
    mean = images.mean((1, 2, 3), keepdim=True)
    std = images.std((1, 2, 3), correction=0, keepdim=True)
    return (images - mean) / std.clamp(min=images[0].numel() ** -0.5)


def _check_size(images: Tensor, size: int) -> None:
    height, width = images.shape[-2:]
    if height < size or width < size:
        raise SpikeletError(f"images: expected at least {size}x{size} pixels to crop from, got {height}x{width}")


def _same(images: Tensor, generator: torch.Generator) -> Tensor:
    return images


def _affine(images: Tensor, generator: torch.Generator) -> Tensor:
    return random_affine(images, generator, degrees=12, shift=2 / 28, scale=(0.88, 1.12), shear=8)


def _affine_light(images: Tensor, generator: torch.Generator) -> Tensor:
    return random_affine(images, generator, degrees=6, shift=1 / 28, scale=(0.94, 1.06), shear=4)


def _digits(images: Tensor, generator: torch.Generator) -> Tensor:
    return random_affine(images, generator, degrees=6, shift=0.6 / 8, scale=(0.95, 1.05), shear=0)


def _crop_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    return random_flip(random_crop(images, generator, size=32, pad=4), generator)


def _crop24_color(images: Tensor, generator: torch.Generator) -> Tensor:
    images = random_flip(random_crop(images, generator, size=24), generator)
    return random_colour(images, generator, brightness=63, contrast=(0.2, 1.8))


def _center24(images: Tensor) -> Tensor:
    return center_crop(images, 24)


def _unchanged(images: Tensor) -> Tensor:
    return images


@dataclass(frozen=True)
class Augment:
    """An augmentation of training images: ``augment(images, generator)`` are pixels again, integers in 0..255.

    ``raw`` is the function without the rounding and clipping; ``size`` the side of its result, None where it stays.
    """

    raw: Callable[[Tensor, torch.Generator], Tensor]
    size: int | None = None

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if images.dim() != 4:
            raise SpikeletError(f"images: expected [N, C, H, W], got shape {tuple(images.shape)}")
        images = images if images.is_floating_point() else images.float()
        return to_pixels(self.raw(images, generator))

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what comes out for images of ``height`` x ``width``."""
        return (self.size, self.size) if self.size else (height, width)


@dataclass(frozen=True)
class EvalTransform:
    """What is done to images that a network is judged on: nothing random, any dtype, the dtype stays."""

    function: Callable[[Tensor], Tensor]
    size: int | None = None

    def __call__(self, images: Tensor) -> Tensor:
        return self.function(images)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what comes out for images of ``height`` x ``width``."""
        return (self.size, self.size) if self.size else (height, width)


AUGMENTS: dict[str, Augment] = {
    "none": Augment(_same),
    "affine": Augment(_affine),
    "affine_light": Augment(_affine_light),
    "digits": Augment(_digits),
    "crop_flip": Augment(_crop_flip, size=32),
    "crop24_color": Augment(_crop24_color, size=24),
}

EVAL_TRANSFORMS: dict[str, EvalTransform] = {
    "none": EvalTransform(_unchanged),
    "center24": EvalTransform(_center24, size=24),
}
