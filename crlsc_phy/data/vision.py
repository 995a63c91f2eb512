"""Data sets of torchvision by name, downloaded if the machine has internet access.

Only data sets that are read without unpickling are supported. CIFAR's files for Python, which torchvision uses, are
pickles; its binary files have the same pictures and are read here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torchvision
from PIL import Image
from torchvision.datasets.utils import download_and_extract_archive

from crlsc_phy.data.imageset import ImageSet, identity_of
from crlsc_phy.data.store import making, watched
from crlsc_phy.errors import DataError
from crlsc_phy.images import UInt8Image

__all__ = ["VISION", "Cifar", "open_vision"]

VISION: dict[str, dict[str, dict[str, Any]]] = {
    "CelebA": {
        "train": {"split": "train", "target_type": "identity"},
        "heldout": {"split": "test", "target_type": "identity"},
    },
    "OxfordIIITPet": {"train": {"split": "trainval"}, "heldout": {"split": "test"}},
    **{
        name: {"train": {"split": "train"}, "heldout": {"split": "test"}}
        for name in ("DTD", "Flowers102", "Food101", "GTSRB", "STL10", "SVHN")
    },
}
"""Arguments of torchvision's own splits. Data sets that it unpickles are left out: CIFAR, ImageNet, LSUN, MNIST."""

CIFAR = {
    "CIFAR10": ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
    "CIFAR100": ("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
}
"""Archive and its MD5, from https://www.cs.toronto.edu/~kriz/cifar.html."""


_MISSING = (OSError, RuntimeError, ValueError, ImportError)
"""Exceptions of torchvision, and of the libraries that it downloads with, if a data set is missing."""


class Pictures(Protocol):
    """Interface of a data set of torchvision."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> tuple[Image.Image, Any]: ...


class Cifar:
    """CIFAR-10 or CIFAR-100 in the binary format (A. Krizhevsky, "Learning multiple layers of features", 2009).

    A record has the label (for CIFAR-100 two: coarse and fine) and 3 x 32 x 32 bytes, by colour plane.

    Args:
        root: Folder of the archive.
        name: ``CIFAR10`` or ``CIFAR100``.
        split: ``train`` or ``heldout``.
        download: Whether to download the archive if it is missing.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is cut short.
    """

    def __init__(self, root: Path, name: str, split: str, download: bool) -> None:
        ten = name == "CIFAR10"
        folder = root / ("cifar-10-batches-bin" if ten else "cifar-100-binary")
        if download and not folder.is_dir():
            archive, md5 = CIFAR[name]
            url = f"https://www.cs.toronto.edu/~kriz/{archive}"
            download_and_extract_archive(url, str(root), filename=archive, md5=md5)
        train = [f"data_batch_{i}.bin" for i in range(1, 6)] if ten else ["train.bin"]
        files = [folder / file for file in (train if split == "train" else ["test_batch.bin" if ten else "test.bin"])]
        size = (1 if ten else 2) + 3 * 32 * 32
        records = [np.frombuffer(file.read_bytes(), np.uint8) for file in files]
        for file, record in zip(files, records, strict=True):
            if not len(record) or len(record) % size:
                raise ValueError(f"{file.name} is cut short")
        self.records = np.concatenate(records).reshape(-1, size)
        names = folder / ("batches.meta.txt" if ten else "fine_label_names.txt")
        self.classes = names.read_text(encoding="utf-8").split()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, row: int) -> tuple[Image.Image, int]:
        record = self.records[row]
        label = int(record[-3 * 32 * 32 - 1])
        return Image.fromarray(record[-3 * 32 * 32 :].reshape(3, 32, 32).transpose(1, 2, 0).copy()), label


def open_vision(name: str, split: str, data: Path, folder: Path) -> ImageSet:
    """Open a data set of torchvision.

    Args:
        name: Name of the data set, one of ``VISION`` and ``CIFAR``.
        split: ``train`` or ``heldout``.
        data: Folder of the data sets; this one is in ``torchvision/NAME`` below it.
        folder: Folder of decoded pictures and labels.

    Raises:
        DataError: If the data set is unknown, or cannot be read or downloaded.
    """
    spec = f"torchvision:{name}@{split}"
    if name not in VISION and name not in CIFAR:
        raise DataError(f"torchvision:{name} is unknown; choose one of {', '.join(sorted({*VISION, *CIFAR}))}")
    root = data / "torchvision" / name
    pictures = _have(spec, name, split, root)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    # Some have tens of gigabytes of files, so that sizes and times are used in place of the content.
    states = (f"{path.relative_to(root)}|{path.stat().st_size}|{path.stat().st_mtime_ns}" for path in files)
    identity = identity_of(spec, *states)
    labels = tuple(_labels(pictures, spec, folder / f"{identity[:32]}-labels.json"))
    keys = tuple(str(row) for row in range(len(labels)))

    def decode() -> Iterator[UInt8Image]:
        for row in range(len(keys)):
            yield _picture(pictures, spec, row)[0]

    return ImageSet(spec, keys, labels, labels, "see the data set", identity, folder, decode)


def _have(spec: str, name: str, split: str, root: Path) -> Pictures:
    try:
        return _read(name, split, root, download=False)
    except _MISSING:
        root.mkdir(parents=True, exist_ok=True)
    try:
        return _read(name, split, root, download=True)
    except _MISSING as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{spec}: cannot be read or downloaded ({reason[:120]}); put its files below {root}") from None


def _read(name: str, split: str, root: Path, download: bool) -> Pictures:
    if name in CIFAR:
        return Cifar(root, name, split, download)
    pictures: Pictures = getattr(torchvision.datasets, name)(str(root), **VISION[name][split], download=download)
    return pictures


def _picture(pictures: Pictures, spec: str, row: int) -> tuple[UInt8Image, str]:
    try:
        image, target = pictures[row]
        names = getattr(pictures, "classes", None)
        return np.asarray(image.convert("RGB")), str(names[int(target)] if names else int(target))
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{spec}: picture {row} cannot be read ({error}); fetch the data set again") from None


def _labels(pictures: Pictures, spec: str, path: Path) -> list[str]:
    if not path.exists():
        rows = watched(range(len(pictures)), f"Reading the labels of {spec}")
        text = json.dumps([_picture(pictures, spec, row)[1] for row in rows])
        with making(path) as aside:
            aside.write_text(text, encoding="utf-8")
    labels: list[str] = json.loads(path.read_text(encoding="utf-8"))
    return labels
