"""Data sets of torchvision from files in their own formats, and CIFAR without a pickle."""

import hashlib
import inspect
import re

import numpy as np
import pytest
import torchvision
from pictures import encoded, picture

from crlsc_phy.data import open_images
from crlsc_phy.data.vision import CIFAR, VISION
from crlsc_phy.errors import DataError


@pytest.fixture
def offline(monkeypatch):
    """Every download fails at once, as on a machine without internet access."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")


def _planes(seed: int, side: int = 32) -> np.ndarray:
    return picture(seed, side, side).transpose(2, 0, 1)


def test_cifar10_is_read_from_its_binary_files(tmp_path):
    folder = tmp_path / "torchvision/CIFAR10/cifar-10-batches-bin"
    folder.mkdir(parents=True)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    files = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    for number, file in enumerate(files):
        rows = [bytes([(number + row) % 10]) + _planes(2 * number + row).tobytes() for row in range(2)]
        (folder / file).write_bytes(b"".join(rows))
    train, held = (open_images(f"torchvision:CIFAR10@{split}", tmp_path) for split in ("train", "heldout"))
    assert (len(train), len(held)) == (10, 2)
    assert train.labels[:3] == ("airplane", "automobile", "automobile")
    assert held.labels == ("dog", "frog")
    assert np.array_equal(train.squares(32)[3], picture(3, 32, 32))
    (folder / "data_batch_3.bin").write_bytes(bytes(100))
    with pytest.raises(DataError, match=r"data_batch_3\.bin is cut short"):
        open_images("torchvision:CIFAR10@train", tmp_path)


def test_cifar100_has_the_fine_labels(tmp_path):
    folder = tmp_path / "torchvision/CIFAR100/cifar-100-binary"
    folder.mkdir(parents=True)
    (folder / "fine_label_names.txt").write_text("\n".join(f"fine{i}" for i in range(100)))
    (folder / "test.bin").write_bytes(bytes([3, 42]) + _planes(1).tobytes())
    held = open_images("torchvision:CIFAR100@heldout", tmp_path)
    assert held.labels == ("fine42",)
    assert np.array_equal(held.photos(32)[0], picture(1, 32, 32))


def test_stl10_is_read_by_torchvision(tmp_path, monkeypatch):
    folder = tmp_path / "torchvision/STL10/stl10_binary"
    folder.mkdir(parents=True)
    content = {
        "test_X.bin": b"".join(_planes(seed, 96).transpose(0, 2, 1).tobytes() for seed in range(4)),
        "test_y.bin": bytes([1, 2, 3, 10]),
        "class_names.txt": "\n".join(f"class{i}" for i in range(10)).encode(),
    }
    for name, data in content.items():
        (folder / name).write_bytes(data)
    sums = [[name, hashlib.md5(content[name]).hexdigest()] for name in ("test_X.bin", "test_y.bin")]
    monkeypatch.setattr(torchvision.datasets.STL10, "train_list", [])
    monkeypatch.setattr(torchvision.datasets.STL10, "test_list", sums)
    images = open_images("torchvision:STL10@heldout", tmp_path)
    assert images.labels == ("class0", "class1", "class2", "class9")
    assert np.array_equal(images.photos(96)[2], picture(2, 96, 96))


def test_pets_are_read_by_torchvision_and_what_is_damaged_is_named(tmp_path):
    root = tmp_path / "torchvision/OxfordIIITPet/oxford-iiit-pet"
    for part in ("images", "annotations"):
        (root / part).mkdir(parents=True)
    rows = {"trainval": ["Beagle_1 1 2 1", "Persian_7 2 1 2"], "test": ["Beagle_2 1 2 1", "Persian_8 2 1 2"]}
    for split, lines in rows.items():
        (root / f"annotations/{split}.txt").write_text("\n".join(lines) + "\n")
        for seed, line in enumerate(lines):
            (root / f"images/{line.split()[0]}.jpg").write_bytes(encoded(picture(seed), "jpg"))
    train = open_images("torchvision:OxfordIIITPet@train", tmp_path)
    assert train.labels == ("Beagle", "Persian")
    assert train.photos(40)[0].shape == (30, 40, 3)
    (root / "images/Persian_8.jpg").write_bytes(b"damaged")
    with pytest.raises(DataError, match="picture 1 cannot be read"):
        open_images("torchvision:OxfordIIITPet@heldout", tmp_path)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["CIFAR10", "STL10", "Flowers102"])
def test_a_data_set_that_cannot_be_had_is_one_line(tmp_path, name):
    with pytest.raises(
        DataError, match=rf"torchvision:{name}@train: cannot be read or downloaded \(.*put its files below"
    ) as caught:
        open_images(f"torchvision:{name}@train", tmp_path)
    assert "\n" not in str(caught.value)


def test_other_names_are_refused_with_those_that_there_are(tmp_path):
    with pytest.raises(DataError, match=r"torchvision:ImageNet is unknown; choose one of CIFAR10, CIFAR100, CelebA"):
        open_images("torchvision:ImageNet@train", tmp_path)


@pytest.mark.parametrize("name", VISION)
def test_torchvision_reads_these_without_unpickling(name):
    kind = getattr(torchvision.datasets, name)
    sources = [inspect.getsource(inspect.getmodule(each)) for each in kind.__mro__ if "torchvision" in each.__module__]
    assert not re.search(r"pickle\.|torch\.load|allow_pickle=True", "".join(sources))
    assert name not in CIFAR
