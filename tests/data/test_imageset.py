"""One kind of set for every stage: decoded once, kept on the disk."""

import numpy as np
import pytest

from crlsc_phy.data import ImageSet
from crlsc_phy.errors import DataError


@pytest.fixture
def pictures():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, shape, np.uint8) for shape in ((40, 100, 3), (64, 64, 3), (9, 5, 3))]


@pytest.fixture
def decoded():
    """How often the pictures were decoded."""
    return []


@pytest.fixture
def images(pictures, decoded, tmp_path):
    def decode():
        decoded.append(1)
        yield from pictures

    return ImageSet(
        "set", ("a", "b", "c"), ("x", "", "x"), ("x", "", "x"), "MIT", "f" * 64, tmp_path / "decoded", decode
    )


def test_squares_are_decoded_once_and_mapped(images, decoded):
    first = images.squares(32)
    assert (first.shape, first.dtype) == ((3, 32, 32, 3), np.uint8)
    assert isinstance(images.squares(32), np.memmap)
    assert np.array_equal(images.squares(32), first)
    assert len(decoded) == 1
    assert images.classes == ["x"]


def test_squares_are_what_the_codec_makes_of_a_picture(images, pictures):
    from crlsc_phy.images import resize

    assert np.array_equal(images.squares(48)[0], resize(pictures[0], 48, 48))


def test_writing_into_squares_leaves_the_file_alone(images):
    images.squares(16)[:] = 0
    assert images.squares(16).any()


def test_photos_are_reduced_by_means_and_never_enlarged(images, pictures, decoded):
    for _ in range(2):
        photos = images.photos(50)
        assert [photo.shape for photo in photos] == [(20, 50, 3), (50, 50, 3), (9, 5, 3)]
        assert np.array_equal(photos[2], pictures[2])
        means = pictures[0].reshape(20, 2, 50, 2, 3).mean(axis=(1, 3))
        assert np.abs(photos[0] - means).max() <= 1
    assert len(decoded) == 1


def test_a_set_that_shrinks_while_it_is_read_leaves_nothing(images, pictures):
    pictures.pop()
    with pytest.raises(DataError, match="set: has changed while it was read"):
        images.squares(8)
    assert not [path for path in images.folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(("keys", "message"), [((), "holds no picture"), (("a", "a"), "one key")])
def test_a_set_without_pictures_or_with_one_key_twice_is_refused(tmp_path, keys, message):
    with pytest.raises(DataError, match=message):
        ImageSet("set", keys, keys, keys, "", "0" * 64, tmp_path, lambda: iter(()))
