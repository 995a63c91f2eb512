"""Held-out pictures for the benchmarks, and other views of them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageEnhance

from crlsc_phy.images import UInt8Image

__all__ = ["HELD_OUT", "another_view"]

HELD_OUT = "fluent"
"""The vendor of pictograms that no training and no calibration has seen."""


def another_view(image: UInt8Image, rng: np.random.Generator) -> UInt8Image:
    """Turn a picture by up to 12 degrees, move it, cut up to a tenth of each side, change its light, and use JPEG."""
    picture, side = Image.fromarray(image), image.shape[1]
    background = tuple(int(value) for value in image[0, 0])
    moved = tuple(rng.uniform(-6, 6, 2) * side / 128)
    picture = picture.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, translate=moved, fillcolor=background)
    margin = int(side * rng.uniform(0, 0.1))
    picture = picture.crop((margin, margin, side - margin, side - margin)).resize((side, side))
    for light in (ImageEnhance.Brightness, ImageEnhance.Contrast):
        picture = light(picture).enhance(rng.uniform(0.8, 1.2))
    file = io.BytesIO()
    picture.save(file, "jpeg", quality=60)
    return np.asarray(Image.open(file).convert("RGB"))
