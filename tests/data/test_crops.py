"""Crops of photographs, also of small ones."""

import numpy as np
import pytest
import torch
from pictures import picture

from crlsc_phy.data import CropSampler, fixed_crops
from crlsc_phy.errors import DataError


def test_a_batch_has_crops_of_photographs_and_pictograms():
    photos = [picture(0, 300, 400), picture(1, 70, 100), picture(2, 20, 30)]
    sampler = CropSampler(photos, np.stack([picture(3, 128, 128)]))
    # Four scales of the first, the second as it is, none of the third.
    assert sorted(tuple(level.shape[:2]) for level in sampler.levels) == [
        (70, 100), (96, 128), (144, 192), (192, 256), (288, 384),
    ]  # fmt: skip
    batch, again = (sampler.batch(10, torch.Generator().manual_seed(5)) for _ in range(2))
    assert batch.shape == (10, 3, 64, 64)
    assert 0 <= batch.min() <= batch.max() <= 1
    assert torch.equal(batch, again)


def test_fixed_crops_pass_over_what_is_too_small():
    photos = {"a": picture(0, 100, 90), "b": picture(1, 20, 30)}
    crops = fixed_crops(photos, 3)
    assert crops.shape == (3, 64, 64, 3)
    assert np.array_equal(crops, fixed_crops({"a": photos["a"]}, 3))


def test_photographs_that_are_all_too_small_are_refused():
    with pytest.raises(DataError, match="none of 1 photographs has 64 pixels on both sides"):
        CropSampler([picture(0, 30, 100)], None)
    with pytest.raises(DataError, match="none of 1 photographs"):
        fixed_crops({"a": picture(0, 30, 100)}, 2)
