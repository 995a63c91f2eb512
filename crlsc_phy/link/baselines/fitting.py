"""Search for the best picture that an image codec can code into a number of bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from crlsc_phy.images import UInt8Image
from crlsc_phy.link.baselines.image_codecs import Coded, ImageCodec
from crlsc_phy.quality.metrics import psnr_db

__all__ = ["Fitted", "Fitting", "largest"]


@dataclass(frozen=True)
class Fitted:
    """A picture that fits its bytes.

    Attributes:
        coded: The coded picture.
        psnr_db: PSNR of the decoded picture in dB.
        encode_s: CPU time to encode it in seconds, without the search.
    """

    coded: Coded
    psnr_db: float
    encode_s: float


class Fitting:
    """Search for the highest quality that fits, at full size and at halved sizes.

    The size is halved while nothing fits, or while the PSNR of the picture at its original size improves: with few
    bytes a small picture of higher quality wins. Answers are cached.

    Args:
        codec: Image codec.
        stripped: Whether the container is left out of the count.
        images: Pictures, uint8 [H, W, 3], which are called by their number.
    """

    def __init__(self, codec: ImageCodec, stripped: bool, images: list[UInt8Image]) -> None:
        self._codec, self._stripped, self._images = codec, stripped, images
        self._encoded = lru_cache(maxsize=4096)(self._encode)
        self.fit = lru_cache(maxsize=4096)(self._fit)

    def shown(self, number: int, file: bytes) -> UInt8Image:
        """Return the picture that a receiver decodes from a file, at the size that the frame's header tells."""
        return _resized(self._codec.decode(file), *self._images[number].shape[:2])

    def _fit(self, number: int, size: int) -> Fitted | None:
        """Return the best of picture ``number`` within ``size`` bytes on the air; None if nothing fits."""
        best: Fitted | None = None
        halvings = 0
        while min(self._images[number].shape[:2]) >> halvings >= self._codec.smallest:
            found = self._at(number, halvings, size)
            if best and (found is None or found.psnr_db <= best.psnr_db):
                break
            best = found
            halvings += 1
        return best

    def _at(self, number: int, halvings: int, size: int) -> Fitted | None:
        """Return the highest quality that fits at one size of the picture."""

        def fits(quality: int) -> bool:
            return self._encoded(number, halvings, quality)[0].size <= size

        if not fits(self._codec.lowest):
            return None
        coded, encode_s = self._encoded(number, halvings, largest(self._codec.lowest, self._codec.highest, fits))
        return Fitted(coded, psnr_db(self._images[number], self.shown(number, coded.file)), encode_s)

    def _encode(self, number: int, halvings: int, quality: int) -> tuple[Coded, float]:
        start = time.process_time()
        image = self._images[number]
        height, width = (max(side >> halvings, 1) for side in image.shape[:2])
        coded = self._codec.encode(_resized(image, height, width), quality, self._stripped)
        return coded, time.process_time() - start


def largest(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number that fits, by bisection.

    Args:
        low: Smallest candidate, which fits.
        high: Largest candidate.
        fits: Predicate that is true up to some number and false beyond it.
    """
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _resized(image: UInt8Image, height: int, width: int) -> UInt8Image:
    """Resize by bicubic interpolation; :func:`crlsc_phy.images.resize` is the networks' own."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
