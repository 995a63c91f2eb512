"""Near-duplicates are found, and pictures that only hash alike are not."""

import numpy as np
import pytest
from pictures import encoded, picture
from PIL import Image

from crlsc_phy.data.duplicates import Fingerprints, near_pairs
from crlsc_phy.images import decode_image, resize


def prints(*images: np.ndarray) -> Fingerprints:
    return Fingerprints.of(np.stack([resize(image, 64, 64) for image in images]))


def _turned_grey(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).convert("L").convert("RGB"))


CHANGES = {
    "compressed": lambda image: decode_image(encoded(image, "jpg", quality=15), ""),
    "smaller": lambda image: resize(image, 40, 70),
    "larger": lambda image: resize(image, 300, 420),
    "brighter": lambda image: np.clip(image * 0.9 + 30, 0, 255).astype(np.uint8),
    "noisy": lambda image: np.clip(image + np.random.default_rng(0).normal(0, 8, image.shape), 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found_among_others(photo, change):
    originals = [photo, *(picture(seed, 200, 300) for seed in range(10))]
    copies = [CHANGES[change](image) for image in originals]
    pairs = near_pairs(prints(*copies), prints(*originals))
    assert sorted((pair.first, pair.second) for pair in pairs) == [(row, row) for row in range(11)]
    assert [pair.levels for pair in pairs] == sorted(pair.levels for pair in pairs)


def test_flat_pictures_that_hash_alike_are_told_apart():
    left, right = np.full((2, 64, 64, 3), 128, np.uint8)
    left[:, 32:, 0] = 255
    right[:, 32:, 2] = 255
    assert near_pairs(prints(left), prints(right)) == []
    assert len(near_pairs(prints(left), prints(left))) == 1


def test_none_among_none(photo):
    nothing = Fingerprints.of(np.empty((0, 64, 64, 3), np.uint8))
    assert near_pairs(nothing, prints(photo)) == near_pairs(prints(photo), nothing) == []
