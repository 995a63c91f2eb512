"""The pictures that several stages share: squares of the semantic side, whole photographs, crops of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
import torch

from crlsc_phy.data import CropSampler, ImageSet, open_images
from crlsc_phy.images import UInt8Image, resize
from crlsc_phy.knowledge import Entry
from crlsc_phy.train.recipe import Recipe

__all__ = ["LONGEST", "SIDE", "entries", "photo_crops", "photographs", "squares"]

SIDE = 128
"""Pictures are squares of this side for all that is semantic."""
LONGEST = 1536
"""Photographs are reduced to this many pixels; training then draws crops at several scales."""


def squares(names: Sequence[str], data: Path) -> UInt8Image:
    """All pictures of the sets of these names, uint8 [N, SIDE, SIDE, 3]."""
    return np.concatenate([open_images(name, data).squares(SIDE) for name in names])


def entries(pictures: ImageSet) -> list[Entry]:
    """What a knowledge base says of each picture of a set; one without a label goes by its own name."""
    source = re.sub(r"@.*", "", pictures.name)
    kind, _, rest = source.partition(":")
    # Where a folder lies on this machine concerns nobody who is given the base.
    short = PurePath(rest or kind).name
    return [
        Entry(f"{short}/{key}", label or key, f"{kind} {short}", pictures.licence)
        for key, label in zip(pictures.keys, pictures.labels, strict=True)
    ]


def photographs(names: Sequence[str], data: Path, longest: int = LONGEST) -> dict[str, UInt8Image]:
    """All pictures of the sets of these names by name, uint8 [H, W, 3] each, no side above ``longest``."""
    sets = {name: open_images(name, data) for name in names}
    return {
        f"{name}/{key}": photo
        for name, each in sets.items()
        for key, photo in zip(each.keys, each.photos(longest), strict=True)
    }


def photo_crops(recipe: Recipe, data: Path) -> UInt8Image:
    """Crops of the training photographs that every semantic stage shares: uint8 [N, SIDE, SIDE, 3].

    Photographs that are smaller are enlarged: what they mean is the same.
    """
    photos = [_enlarged(photo, SIDE) for photo in photographs(recipe.data.photos, data).values()]
    sampler = CropSampler(photos, None, size=SIDE)
    crops = sampler.batch(recipe.skb.photo_crops, torch.Generator().manual_seed(recipe.seed))
    return (crops * 255).round().byte().permute(0, 2, 3, 1).numpy()


def _enlarged(photo: UInt8Image, side: int) -> UInt8Image:
    factor = side / min(photo.shape[:2])
    return resize(photo, round(photo.shape[0] * factor), round(photo.shape[1] * factor)) if factor > 1 else photo
