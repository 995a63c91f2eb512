"""The best picture that a codec puts into a number of bytes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from crlsc_phy.images import UInt8Image
from crlsc_phy.link.baselines.image_codecs import Coded, ImageCodec
from crlsc_phy.quality.metrics import psnr_db

__all__ = ["Fitted", "Fitting"]


@dataclass(frozen=True)
class Fitted:
    """A picture within its bytes.

    Attributes:
        coded: What is sent.
        psnr_db: Of what it shows.
        encode_s: CPU time to encode it, the search left out.
    """

    coded: Coded
    psnr_db: float
    encode_s: float


class Fitting:
    """Searches for the highest quality that fits, at full size and at halved ones.

    The size is halved again as long as nothing fits, or the picture, brought back to its size, comes nearer to the
    original (PSNR): at few bytes a small picture of better quality wins. Answers are kept.

    Args:
        codec: What encodes.
        stripped: Whether the container is left out of the count.
        images: The pictures, called by their number.
    """

    def __init__(self, codec: ImageCodec, stripped: bool, images: list[UInt8Image]) -> None:
        self._codec, self._stripped, self._images = codec, stripped, images
        self._encoded = lru_cache(maxsize=4096)(self._encode)
        self.fit = lru_cache(maxsize=4096)(self._fit)

    def shown(self, number: int, file: bytes) -> UInt8Image:
        """What a receiver makes of a file: the picture at its size, which the frame's header tells."""
        return _resized(self._codec.decode(file), *self._images[number].shape[:2])

    def _fit(self, number: int, size: int) -> Fitted | None:
        """The best of picture ``number`` within ``size`` bytes on the air; None if nothing fits."""
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
        """The highest quality that fits at one size of the picture, by bisection."""
        low, high = self._codec.lowest, self._codec.highest
        if self._encoded(number, halvings, low)[0].size > size:
            return None
        while low < high:
            middle = (low + high + 1) // 2
            if self._encoded(number, halvings, middle)[0].size <= size:
                low = middle
            else:
                high = middle - 1
        coded, encode_s = self._encoded(number, halvings, low)
        return Fitted(coded, psnr_db(self._images[number], self.shown(number, coded.file)), encode_s)

    def _encode(self, number: int, halvings: int, quality: int) -> tuple[Coded, float]:
        start = time.process_time()
        image = self._images[number]
        height, width = (max(side >> halvings, 1) for side in image.shape[:2])
        coded = self._codec.encode(_resized(image, height, width), quality, self._stripped)
        return coded, time.process_time() - start


def _resized(image: UInt8Image, height: int, width: int) -> UInt8Image:
    """Bicubic, as scalers of pictures are; :func:`crlsc_phy.images.resize` is what the networks are used to."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
