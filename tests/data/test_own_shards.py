"""Shards of a web data set, as tar files."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from pictures import encoded, picture
from webdataset import TarWriter

from crlsc_phy.data import open_images
from crlsc_phy.errors import DataError


@pytest.fixture
def shards(tmp_path):
    """Two shards of 20 samples, whose labels come in every way; the library writes them."""
    for shard in range(2):
        with TarWriter(str(tmp_path / f"set-{shard:04}.tar"), encoder=False) as writer:
            for row in range(20):
                seed = 20 * shard + row
                label = f"kind {seed % 4}"
                parts = {"cls": label, "txt": label, "json": json.dumps({"label": label})}
                suffix = ("png", "webp", "png")[row % 3]
                kind = ("cls", "txt", "json")[row % 3]
                options = {"lossless": True} if suffix == "webp" else {}
                sample = {"__key__": f"{row:03}", suffix: encoded(picture(seed), suffix, **options)}
                writer.write({**sample, kind: parts[kind].encode()})
    return tmp_path / "set-{0000..0001}.tar"


def test_samples_have_labels_and_a_split(shards, tmp_path):
    whole, train, held = (open_images(f"webdataset:{shards}{split}", tmp_path) for split in ("", "@train", "@heldout"))
    assert len(whole) == 40
    assert set(train.keys) | set(held.keys) == set(whole.keys)
    assert len(train) + len(held) == 40
    assert whole.classes == [f"kind {i}" for i in range(4)]
    assert whole.labels[whole.keys.index("set-0001/002")] == "kind 2"
    assert np.array_equal(whole.photos(80)[whole.keys.index("set-0001/002")], picture(22))


def test_samples_without_labels_or_pictures(tmp_path):
    with TarWriter(str(tmp_path / "a.tar"), encoder=False) as writer:
        writer.write({"__key__": "x", "jpg": encoded(picture(0), "jpg")})
        writer.write({"__key__": "y", "txt": b"a picture that is not there"})
        writer.write({"__key__": "z", "png": b"damaged"})
    images = open_images(f"webdataset:{tmp_path / 'a.tar'}", tmp_path)
    assert (images.keys, images.labels) == (("a/x",), ("",))


def test_a_byte_order_mark_is_no_part_of_a_label(tmp_path):
    labels = {"cls": "kind", "txt": "kind", "json": json.dumps({"label": "kind"})}
    with TarWriter(str(tmp_path / "a.tar"), encoder=False) as writer:
        for seed, (suffix, text) in enumerate(labels.items()):
            writer.write({"__key__": suffix, "png": encoded(picture(seed)), suffix: text.encode("utf-8-sig")})
    assert open_images(f"webdataset:{tmp_path / 'a.tar'}", tmp_path).labels == ("kind",) * 3


def test_names_that_are_not_utf_8_are_escaped(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        content = encoded(picture(0))
        member = tarfile.TarInfo("caf\udce9.png")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    images = open_images(f"webdataset:{tmp_path / 'a.tar'}", tmp_path)
    assert images.keys == ("a/caf\\udce9",)
    assert len(images.squares(8)) == 1


class _Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_pickles_among_the_members_are_never_loaded(tmp_path):
    trap = pickle.dumps(_Trap())
    with TarWriter(str(tmp_path / "a.tar"), encoder=False) as writer:
        for seed, suffix in enumerate(("pyd", "pkl", "pickle", "pth", "cls")):
            writer.write({"__key__": suffix, suffix: trap, "png": encoded(picture(seed))})
    images = open_images(f"webdataset:{tmp_path / 'a.tar'}", tmp_path)
    assert len(images.squares(8)) == len(images) == 5


def test_a_damaged_shard_is_one_line(shards, tmp_path):
    (tmp_path / "set-0001.tar").write_bytes((tmp_path / "set-0001.tar").read_bytes()[:3000])
    with pytest.raises(DataError, match=r"set-0001\.tar: is not a readable shard") as caught:
        open_images(f"webdataset:{shards}", tmp_path)
    assert "\n" not in str(caught.value)


def test_one_name_twice_in_a_shard_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for _ in range(2):
            content = encoded(picture(0))
            member = tarfile.TarInfo("x.png")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with pytest.raises(DataError, match="duplicate"):
        open_images(f"webdataset:{tmp_path / 'a.tar'}", tmp_path)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("absent-{0..1}.tar", "absent-0.tar: no such file"), ("{0..1.tar", "do not match|no such file"),
     ("pipe:touch ran", "no such file")],
)  # fmt: skip
def test_shards_that_are_not_there_are_named(tmp_path, monkeypatch, pattern, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        open_images(f"webdataset:{pattern}", tmp_path)
    assert not list(tmp_path.iterdir())
