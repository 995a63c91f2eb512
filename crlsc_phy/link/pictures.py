"""The pictures that a sweep sends: of a folder, or of a data set."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from crlsc_phy.errors import CrlscError, SweepError
from crlsc_phy.images import UInt8Image, find_images, fit_within, load_image, read_heldout, read_labels
from crlsc_phy.link.chain import TestImage

__all__ = ["ImagesConfig", "identity_of_images", "open_sent"]


@dataclass(frozen=True)
class ImagesConfig:
    """The pictures that are sent.

    Attributes:
        source: A folder, or a set as :func:`crlsc_phy.data.open_images` takes it; empty for none.
        longest: Larger pictures are reduced until no side has more pixels.
        count: How many, the first ones; 0 for all.
        heldout: Of a folder, only those that its ``index.json`` says are held out of training.
    """

    source: str = ""
    longest: int = 256
    count: int = 0
    heldout: bool = False

    def __post_init__(self) -> None:
        if self.longest < 1 or self.count < 0:
            raise SweepError("longest must be 1 pixel or more, and count 0 or more")


def open_sent(config: ImagesConfig, data: Path) -> tuple[TestImage, ...]:
    """Read the pictures.

    Args:
        config: Which ones.
        data: Folder of the data sets.

    Raises:
        SweepError: If there is no such folder or set, or nothing in it.
    """
    if not config.source:
        raise SweepError("images: a curve sends pictures; name a folder or a set by images.source or --images")
    try:
        found = _of_folder(config) if _is_folder(config.source) else _of_set(config, data)
        pictures = list(islice(found, config.count or None))
    except CrlscError as error:
        raise SweepError(f"images: {error}") from None
    names: dict[str, int] = {}
    sent = []
    for key, image, labels in pictures:
        name = re.sub(r"[^\w.-]+", "-", key).strip("-.") or "picture"
        names[name] = names.get(name, 0) + 1
        unique = name if names[name] == 1 else f"{name}-{names[name]}"
        sent.append(TestImage(unique, fit_within(image, config.longest), labels))
    return tuple(sent)


def identity_of_images(images: Sequence[TestImage]) -> str:
    """SHA-256 in hex of names, labels and pixels."""
    digest = hashlib.sha256()
    for sent in images:
        digest.update(repr((sent.name, sent.labels, sent.image.shape)).encode())
        digest.update(sent.image.tobytes())
    return digest.hexdigest()


_Picture = tuple[str, UInt8Image, tuple[str, ...]]


def _is_folder(source: str) -> bool:
    """Whether it is no name of a set; these have a colon or end with a split."""
    return Path(source).is_dir() or not re.search(r":|@(train|heldout)$", source)


def _of_folder(config: ImagesConfig) -> Iterator[_Picture]:
    folder = Path(config.source)
    paths = find_images(folder)
    if config.heldout:
        kept = read_heldout(folder)
        paths = [path for path in paths if path.name in kept]
        if not paths:
            raise SweepError(f"{folder}: its index.json says of no picture that it is held out; set heldout: false")
    labels = read_labels(folder)
    return ((path.stem, load_image(path), tuple(labels.get(path.name, ()))) for path in paths)


def _of_set(config: ImagesConfig, data: Path) -> Iterator[_Picture]:
    if config.heldout:
        raise SweepError("heldout is for folders; of a set name the split: photos@heldout")
    try:
        from crlsc_phy.data import open_images
    except ModuleNotFoundError as error:
        raise SweepError(f"{error.name} is not installed; pip install 'crlsc-phy[train]'") from None
    found = open_images(config.source, data)
    return (
        (key, image, (label,) if label else ())
        for key, image, label in zip(found.keys, found.decode(), found.labels, strict=True)
    )
