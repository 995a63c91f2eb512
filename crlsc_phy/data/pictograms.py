"""Pictograms of three vendors, who draw the same things, identified by code point."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from crlsc_phy.data.store import open_arrays
from crlsc_phy.images import load_image

__all__ = ["OBJECT_CATEGORIES", "VENDORS", "Pictograms", "load_pictograms", "read_pictograms"]

OBJECT_CATEGORIES = ("Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects")
"""Unicode categories whose pictograms show a thing, and so can be told apart across vendors."""

NAMES = "emoji-datasource-google"
VENDORS = {
    "google": "emoji-datasource-google",
    "twitter": "emoji-datasource-twitter",
    "fluent": "@lobehub/fluent-emoji-3d",
}
"""Package of each vendor. Google's has the names of all pictograms."""

PICTOGRAM_PIXELS = 128


@dataclass(frozen=True)
class Pictograms:
    """Pictograms of one vendor.

    Attributes:
        images: uint8 [N, 128, 128, 3], on white.
        ids: Code points of each, such as ``1f600``, the same for all vendors.
        names: Readable names.
        categories: Unicode categories.
    """

    images: npt.NDArray[np.uint8]
    ids: list[str]
    names: list[str]
    categories: list[str]

    def things(self, ids: Container[str]) -> Pictograms:
        """Return those that show a thing and whose code points are among ``ids``."""
        kinds = zip(self.ids, self.categories, strict=True)
        rows = [row for row, (name, kind) in enumerate(kinds) if kind in OBJECT_CATEGORIES and name in ids]
        columns = ([column[row] for row in rows] for column in (self.ids, self.names, self.categories))
        return Pictograms(self.images[rows], *columns)


def load_pictograms(folder: Path, vendor: str) -> Pictograms:
    """Read the pictograms of ``vendor`` (``google``, ``fluent`` or ``twitter``) from the data folder.

    Raises:
        DataError: If they are missing.
    """
    with open_arrays(folder / f"pictograms-{vendor}.npz") as arrays:
        return Pictograms(
            arrays["images"], arrays["ids"].tolist(), arrays["names"].tolist(), arrays["categories"].tolist()
        )


def read_pictograms(trees: Mapping[str, Path], vendor: str) -> dict[str, npt.NDArray[np.generic]]:
    """Read the columns of :class:`Pictograms` from unpacked packages (folders by name)."""
    entries = json.loads((trees[NAMES] / "package/emoji.json").read_text(encoding="utf-8"))
    rows = []
    for entry in entries:
        if entry["category"] == "Component":
            continue
        path = _path(trees[VENDORS[vendor]], vendor, entry)
        if path is not None:
            name = entry["name"].lower() or entry["short_name"]
            rows.append((_square(path), entry["unified"].lower(), name, entry["category"]))
    images, ids, names, categories = zip(*rows, strict=True)
    return {
        "images": np.stack(images),
        "ids": np.array(ids),
        "names": np.array(names),
        "categories": np.array(categories),
    }


def _path(tree: Path, vendor: str, entry: dict[str, str]) -> Path | None:
    if vendor == "fluent":
        point = entry["unified"].lower()
        # The two packages differ in where they keep the variation selector.
        stems = (point, point.replace("-fe0f", ""), point + "-fe0f")
        places = [tree / f"package/assets/{stem}.webp" for stem in stems]
    else:
        places = [tree / f"package/img/{vendor}/64" / entry["image"]]
    return next((place for place in places if place.exists()), None)


def _square(path: Path) -> npt.NDArray[np.uint8]:
    size = (PICTOGRAM_PIXELS, PICTOGRAM_PIXELS)
    return np.asarray(Image.fromarray(load_image(path)).resize(size, Image.Resampling.BICUBIC))
