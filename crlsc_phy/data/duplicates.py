"""Detection of near-duplicates: re-compressed, resized or re-lit pictures, or the next picture of a series.

A perceptual hash finds candidates (``phash`` of ImageHash: the signs of the 64 lowest cosine coefficients of the grey
picture). A comparison of colour thumbnails confirms them, since the hashes of flat pictures are alike whatever they
show. Crops, rotations and mirror images are not found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import faiss
import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

from crlsc_phy.data.imageset import ImageSet
from crlsc_phy.errors import DataError

__all__ = ["FINGERPRINT_PIXELS", "Fingerprints", "Pair", "check_splits", "near_pairs"]

FINGERPRINT_PIXELS = 64
THUMBNAIL_PIXELS = 16
MOST_BITS = 10
"""Candidates differ in at most this many of the 64 bits of the hash."""
MOST_LEVELS = 12.0
"""Confirmed pairs differ by at most this many of 255 levels on average; thumbnails are brought to one mean colour."""


@dataclass(frozen=True)
class Fingerprints:
    """Hashes and thumbnails of pictures, for their comparison.

    Attributes:
        hashes: Perceptual hashes, uint8 [N, 8].
        thumbnails: uint8 [N, 16, 16, 3].
    """

    hashes: npt.NDArray[np.uint8]
    thumbnails: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, squares: npt.NDArray[np.uint8]) -> Fingerprints:
        """Compute the fingerprints of pictures uint8 [N, 64, 64, 3]."""
        small = (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS)
        images = [Image.fromarray(square) for square in squares]
        hashes = [np.packbits(imagehash.phash(image).hash) for image in images]
        thumbnails = [np.asarray(image.resize(small, Image.Resampling.BOX)) for image in images]
        return cls(
            np.reshape(hashes, (-1, 8)).astype(np.uint8), np.reshape(thumbnails, (-1, *small, 3)).astype(np.uint8)
        )


@dataclass(frozen=True)
class Pair:
    """Pair of near-duplicates.

    Attributes:
        first: Row in the first set.
        second: Row in the second set.
        bits: Number of different bits of the hashes, of 64.
        levels: Mean difference of the thumbnails, in levels of 0 to 255.
    """

    first: int
    second: int
    bits: int
    levels: float


def near_pairs(first: Fingerprints, second: Fingerprints) -> list[Pair]:
    """Return the near-duplicates between two sets, the nearest first."""
    return sorted(_confirmed(first, second), key=lambda pair: (pair.levels, pair.bits))


def _confirmed(first: Fingerprints, second: Fingerprints) -> Iterator[Pair]:
    index = faiss.IndexBinaryFlat(64)
    index.add(second.hashes)
    ends, bits, rows = index.range_search(first.hashes, MOST_BITS + 1)
    for row, (start, end) in enumerate(pairwise(ends)):
        apart = second.thumbnails[rows[start:end]].astype(np.float32) - first.thumbnails[row]
        levels = np.abs(apart - apart.mean(axis=(1, 2), keepdims=True)).mean(axis=(1, 2, 3))
        for other, distance, level in zip(rows[start:end], bits[start:end], levels, strict=True):
            if level <= MOST_LEVELS:
                yield Pair(row, int(other), int(distance), round(float(level), 2))


def check_splits(first: ImageSet, second: ImageSet) -> list[Pair]:
    """Return the pairs of equal or near-duplicate pictures of two sets, the nearest first.

    Raises:
        DataError: If both are the same set.
    """
    if first.identity == second.identity:
        raise DataError(f"{first.name} and {second.name} are the same set; name two splits")
    return near_pairs(*(Fingerprints.of(each.squares(FINGERPRINT_PIXELS)) for each in (first, second)))
