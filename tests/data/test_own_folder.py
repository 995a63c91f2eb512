"""A folder of the user's: its classes, its split, and what cannot be read in it."""

import hashlib
import os
import re
import struct
import zlib

import numpy as np
import pytest
from pictures import encoded, picture
from PIL import Image

from crlsc_phy.data import open_images
from crlsc_phy.data.duplicates import check_splits
from crlsc_phy.errors import DataError


def test_classes_are_sub_folders_and_the_split_is_one_in_ten(classes, tmp_path):
    whole, train, held = (open_images(f"folder:{classes}{split}", tmp_path) for split in ("", "@train", "@heldout"))
    assert whole.classes == ["class-0", "class-1", "class-2"]
    assert set(train.keys) | set(held.keys) == set(whole.keys)
    assert not set(train.keys) & set(held.keys)
    assert 1 <= len(held) <= 15
    assert dict(zip(whole.keys, whole.labels, strict=True))["class-1/04.png"] == "class-1"
    assert check_splits(train, held) == []
    row = whole.keys.index("class-1/04.png")
    assert np.array_equal(whole.photos(80)[row], picture(4))


def test_the_split_stays_when_files_are_added_renamed_and_moved(classes, tmp_path):
    before = set(open_images(f"folder:{classes}@heldout", tmp_path).keys)
    for seed in range(60, 80):
        (classes / "class-0" / f"{seed}.png").write_bytes(encoded(picture(seed)))
    after = open_images(f"folder:{classes}@heldout", tmp_path)
    assert before <= set(after.keys)
    classes.rename(tmp_path / "elsewhere")
    assert open_images(f"folder:{tmp_path / 'elsewhere'}@heldout", tmp_path).keys == after.keys


def test_only_what_is_new_is_read_again(classes, tmp_path, monkeypatch):
    open_images(f"folder:{classes}", tmp_path)
    (classes / "class-0/new.png").write_bytes(encoded(picture(99)))
    from crlsc_phy.data import own

    read = []
    original = own.Folder.read
    monkeypatch.setattr(own.Folder, "read", lambda self, file: read.append(file.name) or original(self, file))
    assert len(open_images(f"folder:{classes}", tmp_path)) == 61
    assert read == ["new.png"]


def test_content_that_is_there_twice_counts_once(classes, tmp_path, caplog):
    (classes / "class-0/again.png").write_bytes((classes / "class-0/00.png").read_bytes())
    images = open_images(f"folder:{classes}", tmp_path)
    assert len(images) == 60
    assert "left out, as another file has their content: class-0/again.png" in caplog.text


def test_near_duplicates_of_held_out_pictures_are_not_trained_on(classes, tmp_path, caplog):
    held = open_images(f"folder:{classes}@heldout", tmp_path).keys
    for name in held:
        seed = int(name[-6:-4])
        for quality in (40, 60, 80):
            lighter = (picture(seed, 90, 120) * 0.8 + 40).astype(np.uint8)
            (classes / f"class-{seed % 3}" / f"{seed:02}-{quality}.jpg").write_bytes(
                encoded(lighter, "jpg", quality=quality)
            )
    train = open_images(f"folder:{classes}@train", tmp_path)
    after = open_images(f"folder:{classes}@heldout", tmp_path)
    assert set(held) <= set(after.keys)
    assert not [key for key in train.keys if key.endswith(".jpg")]
    assert "left out as near-duplicates of held-out pictures" in caplog.text
    assert check_splits(train, after) == []


def test_a_flat_folder_has_no_labels(classes, tmp_path):
    images = open_images(f"folder:{classes / 'class-1'}", tmp_path)
    assert (len(images), images.classes) == (20, [])


def test_one_class_is_told(classes, tmp_path, caplog):
    for name in ("class-1", "class-2"):
        (classes / name).rename(tmp_path / name)
    assert len(open_images(f"folder:{classes}", tmp_path)) == 20
    assert "holds one class, class-0" in caplog.text


def test_classes_missing_from_a_split_are_named(classes, tmp_path, caplog):
    (classes / "rare").mkdir()
    (classes / "rare/one.png").write_bytes(encoded(picture(77)))
    for split in ("train", "heldout"):
        open_images(f"folder:{classes}@{split}", tmp_path)
    assert re.search("has no picture of .*rare", caplog.text)


def test_a_split_that_is_empty_says_so(tmp_path):
    folder = tmp_path / "few"
    folder.mkdir()
    content = encoded(picture(0))
    (folder / "a.png").write_bytes(content)
    # What decides is the content alone, so the test asks it.
    split = "train" if int(hashlib.sha256(content).hexdigest()[:8], 16) < 0.1 * 2**32 else "heldout"
    with pytest.raises(DataError, match="is empty; one picture in ten is held out"):
        open_images(f"folder:{folder}@{split}", tmp_path)


def _bomb() -> bytes:
    """A PNG of 40,000 x 40,000 pixels in a few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 40000, 40000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def _flipped(content: bytes) -> bytes:
    return content[:40] + bytes(byte ^ 0x5A for byte in content[40:80]) + content[80:]


BAD = {
    "zero.png": b"",
    "text.jpg": b"no image at all",
    "cut.jpg": encoded(picture(1), "jpg")[:-200],
    "cut.png": encoded(picture(2))[:-900],
    "corrupt.png": _flipped(encoded(picture(3))),
    "bomb.png": _bomb(),
    "short.webp": encoded(picture(4), "webp")[:20],
}


def test_files_that_are_no_pictures_are_skipped_and_named(classes, tmp_path, caplog):
    for name, content in BAD.items():
        (classes / name).write_bytes(content)
    images = open_images(f"folder:{classes}", tmp_path)
    assert len(images) == 60
    assert len(images.squares(8)) == 60
    lines = [record.message for record in caplog.records if "skipped" in record.message]
    assert len(lines) == 6
    assert all(len(line.splitlines()) == 1 for line in lines)
    assert "bomb.png" in lines[0]
    assert lines[-1].endswith(f"skipped {len(BAD)} files in all")


def test_every_kind_of_picture_comes_out_as_rgb(tmp_path):
    folder = tmp_path / "kinds"
    folder.mkdir()
    base = Image.fromarray(picture(5))
    base.convert("CMYK").save(folder / "cmyk.jpg")
    base.convert("P").save(folder / "palette.png")
    base.convert("LA").save(folder / "grey-alpha.png")
    base.convert("1").save(folder / "bits.png")
    Image.fromarray(np.asarray(base.convert("L")).astype(np.uint16) * 257).save(folder / "sixteen.png")
    base.save(folder / "animated.webp", save_all=True, append_images=[Image.fromarray(picture(6))], lossless=True)
    clear = base.convert("RGBA")
    clear.putalpha(0)
    clear.save(folder / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    base.save(folder / "turned.jpg", exif=exif, quality=95)
    images = open_images(f"folder:{folder}", tmp_path)
    photos = dict(zip(images.keys, images.photos(1000), strict=True))
    assert len(photos) == 8
    assert photos["turned.jpg"].shape == (80, 60, 3)
    assert np.abs(photos["turned.jpg"].astype(int) - np.rot90(picture(5), -1)).mean() < 5
    assert np.abs(photos["cmyk.jpg"].astype(int) - picture(5)).mean() < 5
    assert np.array_equal(photos["sixteen.png"], np.asarray(base.convert("L").convert("RGB")))
    assert np.array_equal(photos["animated.webp"], picture(5))
    assert (photos["clear.png"] == 255).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [({}, "holds no image"), ({"a.png": b"", "b.png": b"x"}, "none of its 2 pictures can be read")],
)
def test_a_folder_without_one_picture_is_refused(tmp_path, content, message):
    folder = tmp_path / "bad"
    folder.mkdir()
    for name, data in content.items():
        (folder / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        open_images(f"folder:{folder}", tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        open_images(f"folder:{tmp_path / 'absent'}", tmp_path)


def test_names_that_are_not_text_and_folders_with_an_at_sign_work(tmp_path):
    folder = tmp_path / "mine@home"
    below = os.fsencode(folder) + b"/kind\xe9"
    os.makedirs(below)  # noqa: PTH103
    with open(below + b"/caf\xe9|1.png", "wb") as file:  # noqa: PTH123
        file.write(encoded(picture(0)))
    (folder / f"{'x' * 236}.png").write_bytes(encoded(picture(1)))
    for _ in range(2):
        images = open_images(f"folder:{folder}", tmp_path)
        assert len(images.squares(8)) == 2
    # Keys and labels become text of knowledge bases, cards and JSON.
    assert "kind\\udce9/caf\\udce9|1.png" in images.keys
    assert "".join((*images.keys, *images.labels)).isascii()


def test_a_file_that_goes_while_it_is_read_is_named(classes, tmp_path):
    images = open_images(f"folder:{classes}", tmp_path)
    (classes / "class-2/59.png").unlink()
    with pytest.raises(DataError, match="cannot be read any more"):
        images.squares(8)
