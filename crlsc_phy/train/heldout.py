"""Crops of held-out photographs, on which both kinds of detail are measured."""

from __future__ import annotations

from pathlib import Path

from crlsc_phy.data import fixed_crops
from crlsc_phy.images import UInt8Image, resize
from crlsc_phy.train.pictures import photographs
from crlsc_phy.train.recipe import Recipe

__all__ = ["CROPS_EACH", "PSNR_CAP_DB", "heldout_crops"]

LONGEST_SIDES = (192, 384)
"""Longest sides in pixels of resized held-out photographs. In a smaller one a crop shows more and is harder."""
HELD_OUT_LONGEST = 512
CROP = 64
CROPS_EACH = 8
PSNR_CAP_DB = 60.0
"""Limit in dB: an exact copy has an infinite PSNR, which would outweigh all others in a mean."""


def heldout_crops(recipe: Recipe, data: Path) -> dict[str, UInt8Image]:
    """Return ``CROPS_EACH`` crops of each photograph, uint8 [N, 64, 64, 3], by the longest side of the photographs.

    Photographs that are then smaller than a crop are left out.

    Args:
        recipe: Recipe with the held-out photographs.
        data: Folder of the data sets, as ``crlsc-train data`` fills it.

    Raises:
        DataError: If no photograph is large enough.
    """
    photos = photographs(recipe.data.heldout, data, HELD_OUT_LONGEST)
    return {
        str(longest): fixed_crops({name: _resized(photo, longest) for name, photo in photos.items()}, CROPS_EACH, CROP)
        for longest in LONGEST_SIDES
    }


def _resized(photo: UInt8Image, longest: int) -> UInt8Image:
    factor = longest / max(photo.shape[:2])
    height, width = (max(1, round(side * factor)) for side in photo.shape[:2])
    return resize(photo, height, width)
