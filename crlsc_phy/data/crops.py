"""Crops of photographs and pictograms for training and measurement."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from crlsc_phy.errors import DataError
from crlsc_phy.images import UInt8Image

__all__ = ["CropSampler", "fixed_crops"]

SCALES = (1536, 1024, 768, 512, 384, 256, 192, 128)


class CropSampler:
    """Sampler of square crops at random scales and places, flipped and with changed light.

    Args:
        photos: Photographs, uint8 [H, W, 3] each; kept at every scale of ``SCALES`` that does not enlarge them.
        pictograms: Pictograms, uint8 [N, 128, 128, 3], or None for photographs alone.
        size: Side of a crop in pixels.
        pictogram_share: Fraction of a batch that comes from ``pictograms``.

    Raises:
        DataError: If no photograph is as large as a crop.
    """

    def __init__(
        self, photos: list[UInt8Image], pictograms: UInt8Image | None, size: int = 64, pictogram_share: float = 0.2
    ) -> None:
        self.size, self.pictogram_share = size, pictogram_share if pictograms is not None else 0.0
        pyramid = [level for photo in photos for level in _pyramid(photo, size)]
        if not pyramid:
            raise DataError(f"none of {len(photos)} photographs has {size} pixels on both sides, as crops need")
        self.levels = [torch.from_numpy(np.array(level)) for level in pyramid]
        # The square root keeps a few very large photographs from filling every batch.
        area = torch.tensor([float(level.shape[0] * level.shape[1]) for level in self.levels]).sqrt()
        self.weights = area / area.sum()
        self.pictograms: list[Tensor] = []
        if pictograms is not None:
            small = [np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.BOX)) for p in pictograms]
            self.pictograms = [torch.from_numpy(np.stack(small)), torch.from_numpy(np.array(pictograms))]

    def batch(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw ``count`` crops: float32 [count, 3, size, size] in 0..1."""
        drawn = round(count * self.pictogram_share)
        choice = torch.multinomial(self.weights, count - drawn, replacement=True, generator=generator)
        sources = [self.levels[int(i)] for i in choice]
        for which in torch.randint(2, (drawn,), generator=generator).tolist():
            stack = self.pictograms[which]
            sources.append(stack[int(torch.randint(len(stack), (), generator=generator))])
        crops = torch.stack([self._crop(source, generator) for source in sources])
        return _relight(crops.permute(0, 3, 1, 2).float() / 255, generator)

    def _crop(self, image: Tensor, generator: torch.Generator) -> Tensor:
        top = int(torch.randint(image.shape[0] - self.size + 1, (), generator=generator))
        left = int(torch.randint(image.shape[1] - self.size + 1, (), generator=generator))
        crop = image[top : top + self.size, left : left + self.size]
        flip, turn = torch.randint(2, (2,), generator=generator).tolist()
        if flip:
            crop = crop.flip(1)
        return crop.transpose(0, 1) if turn else crop


def _pyramid(photo: UInt8Image, size: int) -> list[UInt8Image]:
    levels = []
    for longest in SCALES:
        factor = longest / max(photo.shape[:2])
        height, width = round(photo.shape[0] * factor), round(photo.shape[1] * factor)
        if factor <= 1 and min(height, width) >= size:
            levels.append(np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BOX)))
    # A photograph that is smaller than every scale keeps its own.
    return levels or ([photo] if min(photo.shape[:2]) >= size else [])


def _relight(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Change contrast and brightness mildly and, for one crop in eight, the order of the colours."""
    n = len(crops)
    gain = 1 + 0.2 * (torch.rand(n, 1, 1, 1, generator=generator) - 0.5)
    lift = 0.2 * (torch.rand(n, 1, 1, 1, generator=generator) - 0.5)
    crops = ((crops - 0.5) * gain + 0.5 + lift).clamp(0, 1)
    for index in (torch.rand(n, generator=generator) < 0.125).nonzero()[:, 0].tolist():
        crops[index] = crops[index][torch.randperm(3, generator=generator)]
    return crops


def fixed_crops(photos: dict[str, UInt8Image], each: int, size: int = 64, seed: int = 0) -> UInt8Image:
    """Return crops at random places that depend on the seed alone. Photographs smaller than a crop are left out.

    Args:
        photos: Photographs by name, uint8 [H, W, 3] each.
        each: Number of crops of a photograph.
        size: Side of a crop in pixels.
        seed: Seed of the places.

    Returns:
        uint8 [N, size, size, 3], ``each`` in a row of one photograph, in the order of the names.

    Raises:
        DataError: If no photograph is large enough.
    """
    generator = np.random.default_rng(seed)
    crops = []
    large = sorted(name for name, photo in photos.items() if min(photo.shape[:2]) >= size)
    if not large:
        raise DataError(f"none of {len(photos)} photographs has {size} pixels on both sides, as crops need")
    for name in large:
        photo = photos[name]
        for _ in range(each):
            top = generator.integers(photo.shape[0] - size + 1)
            left = generator.integers(photo.shape[1] - size + 1)
            crops.append(photo[top : top + size, left : left + size])
    return np.stack(crops)
