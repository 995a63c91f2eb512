"""What a spec opens, and what is said when it opens nothing."""

import numpy as np
import pytest
from pictures import encoded, picture

from crlsc_phy.data import open_images, opened_once
from crlsc_phy.data.listed import key_of, rows_of
from crlsc_phy.data.store import save_arrays
from crlsc_phy.errors import DataError
from crlsc_phy.images import find_images


def test_pictograms_are_grouped_by_code_point(tmp_path):
    arrays = {
        "images": np.stack([picture(seed, 128, 128) for seed in range(3)]),
        "ids": np.array(["1f600", "1f431", "1f436"]),
        "names": np.array(["grin", "cat", "dog"]),
        "categories": np.array(["Smileys & Emotion", "Animals & Nature", "Animals & Nature"]),
    }
    save_arrays(tmp_path / "pictograms-fluent.npz", arrays)
    images = open_images("pictograms:fluent", tmp_path)
    assert images.groups == images.keys == ("1f600", "1f431", "1f436")
    assert images.labels == ("grin", "cat", "dog")
    assert images.licence == "MIT"
    assert np.array_equal(images.squares(128), arrays["images"])


def test_listed_sets_have_the_labels_of_their_table(tmp_path):
    rows = rows_of("animals", "heldout")[:4]
    save_arrays(tmp_path / "animals-heldout.npz", {key_of(row): picture(i) for i, row in enumerate(rows)})
    images = open_images("animals@heldout", tmp_path)
    assert images.labels == images.groups == tuple(row["label"] for row in rows)
    assert [photo.shape for photo in images.photos(40)] == [(30, 40, 3)] * 4


def test_another_content_is_another_set(tmp_path):
    squares = []
    for seed in range(2):
        save_arrays(tmp_path / "photos-train.npz", {"a": picture(seed)})
        squares.append(open_images("photos@train", tmp_path).squares(16))
    assert not np.array_equal(*squares)


@pytest.mark.parametrize(
    "spec",
    ["", "photos", "photos@test", "photos:x@train", "pictograms:apple", "pictograms:google@train", "folder:",
     "torchvision:CIFAR10", "sketches@train"],
)  # fmt: skip
def test_a_wrong_spec_is_told_the_right_forms(tmp_path, spec):
    with pytest.raises(DataError, match="is unknown; use pictograms:VENDOR, things:VENDOR, photos@SPLIT") as caught:
        open_images(spec, tmp_path)
    assert repr(spec) in str(caught.value)


@pytest.mark.parametrize("spec", ["pictograms:google", "faces@train"])
def test_a_set_that_was_not_fetched_says_how(tmp_path, spec):
    with pytest.raises(DataError, match="no such data set; run crlsc-train data"):
        open_images(spec, tmp_path)


def test_a_damaged_set_is_named(tmp_path):
    save_arrays(tmp_path / "photos-train.npz", {"a": picture(0)})
    whole = (tmp_path / "photos-train.npz").read_bytes()
    for content in (b"", whole[:-40], whole[:200] + bytes(100) + whole[300:]):
        (tmp_path / "photos-train.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"photos-train\.npz: is damaged"):
            open_images("photos@train", tmp_path).squares(8)


def test_within_a_block_a_set_is_opened_once(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.png").write_bytes(encoded(picture(0)))
    spec, looks = f"folder:{tmp_path / 'mine'}", []
    monkeypatch.setattr("crlsc_phy.data.own.find_images", lambda root: looks.append(root) or find_images(root))
    with opened_once():
        assert open_images(spec, tmp_path) is open_images(spec, tmp_path)
    assert len(looks) == 1
    assert open_images(spec, tmp_path) is not open_images(spec, tmp_path)
    assert len(looks) == 3
