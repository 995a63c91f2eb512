"""Pictures that several stages use: squares for all that is semantic, whole photographs, and crops of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
import torch

from crlsc_phy.data import CropSampler, ImageSet, open_images
from crlsc_phy.errors import safe_text
from crlsc_phy.images import UInt8Image, resize
from crlsc_phy.knowledge import Entry
from crlsc_phy.train.recipe import Recipe

__all__ = ["LONGEST", "SIDE", "entries", "photo_crops", "photographs", "squares"]

SIDE = 128
"""Side in pixels of the squares for all that is semantic."""
LONGEST = 1536
"""Longest side of photographs in pixels; training draws crops at several scales."""


def squares(names: Sequence[str], data: Path) -> UInt8Image:
    """Return all pictures of the named sets as squares, uint8 [N, SIDE, SIDE, 3]."""
    return np.concatenate([open_images(name, data).squares(SIDE) for name in names])


def entries(pictures: ImageSet) -> list[Entry]:
    """Return the knowledge base entries of the pictures of a set; a picture without a label has its name as label."""
    source = re.sub(r"@.*", "", pictures.name)
    kind, _, rest = source.partition(":")
    # The path of a folder on this machine is not for those who receive the base.
    short = safe_text(PurePath(rest or kind).name)
    return [
        Entry(f"{short}/{key}", label or key, f"{kind} {short}", pictures.licence)
        for key, label in zip(pictures.keys, pictures.labels, strict=True)
    ]


def photographs(names: Sequence[str], data: Path, longest: int = LONGEST) -> dict[str, UInt8Image]:
    """Return all pictures of picture sets by name, uint8 [H, W, 3] each.

    Args:
        names: Names of the sets.
        data: Folder of the data sets, as ``crlsc-train data`` fills it.
        longest: Longest side in pixels that pictures are reduced to.

    Raises:
        DataError: If a set is missing.
    """
    sets = {name: open_images(name, data) for name in names}
    return {
        f"{name}/{key}": photo
        for name, each in sets.items()
        for key, photo in zip(each.keys, each.photos(longest), strict=True)
    }


def photo_crops(recipe: Recipe, data: Path) -> UInt8Image:
    """Return the crops of training photographs that every semantic stage uses: uint8 [N, SIDE, SIDE, 3].

    Smaller photographs are enlarged, which does not change their meaning.
    """
    photos = [_enlarged(photo, SIDE) for photo in photographs(recipe.data.photos, data).values()]
    sampler = CropSampler(photos, None, size=SIDE)
    crops = sampler.batch(recipe.skb.photo_crops, torch.Generator().manual_seed(recipe.seed))
    return (crops * 255).round().byte().permute(0, 2, 3, 1).numpy()


def _enlarged(photo: UInt8Image, side: int) -> UInt8Image:
    factor = side / min(photo.shape[:2])
    return resize(photo, round(photo.shape[0] * factor), round(photo.shape[1] * factor)) if factor > 1 else photo
