"""The crops of held-out photographs that both kinds of detail are measured on."""

from __future__ import annotations

from pathlib import Path

from crlsc_phy.data import fixed_crops
from crlsc_phy.images import UInt8Image, resize
from crlsc_phy.train.pictures import photographs
from crlsc_phy.train.recipe import Recipe

__all__ = ["CROPS_EACH", "PSNR_CAP_DB", "heldout_crops"]

LONGEST_SIDES = (192, 384)
"""Held-out photographs are reduced to these sides; in the smaller, a crop of 64 pixels shows more and is harder."""
HELD_OUT_LONGEST = 512
CROP = 64
CROPS_EACH = 8
PSNR_CAP_DB = 60.0
"""An exact copy has no finite PSNR, and one would outweigh all others in a mean."""


def heldout_crops(recipe: Recipe, data: Path) -> dict[str, UInt8Image]:
    """``CROPS_EACH`` crops of each photograph, uint8 [N, 64, 64, 3], by the longest side that it is reduced to.

    Photographs that are then smaller than a crop are passed over.

    Raises:
        DataError: If all are.
    """
    photos = photographs(recipe.data.heldout, data, HELD_OUT_LONGEST)
    return {
        str(longest): fixed_crops({name: _reduce(photo, longest) for name, photo in photos.items()}, CROPS_EACH, CROP)
        for longest in LONGEST_SIDES
    }


def _reduce(photo: UInt8Image, longest: int) -> UInt8Image:
    factor = longest / max(photo.shape[:2])
    return resize(photo, round(photo.shape[0] * factor), round(photo.shape[1] * factor))
