"""The pictures that a sweep sends, from a folder or from a data set."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

from pydantic import Field

from crlsc_phy.errors import CrlscError, SweepError
from crlsc_phy.files import short_name, unused_name
from crlsc_phy.images import UInt8Image, find_images, fit_within, load_image, read_heldout, read_labels
from crlsc_phy.link.chain import TestImage
from crlsc_phy.options import checked

__all__ = ["ImagesConfig", "identity_of_images", "open_sent"]


@checked(SweepError)
@dataclass(frozen=True)
class ImagesConfig:
    """Choice of the pictures to send.

    Attributes:
        source: A folder, or a data set as :func:`crlsc_phy.data.open_images` takes it; empty for none.
        longest: Longest side in pixels; larger pictures are reduced to it.
        count: Number of pictures, the first of the source; 0 for all.
        heldout: Whether to take only pictures of a folder whose ``index.json`` keeps them out of training.

    Raises:
        SweepError: If a value is out of range.
    """

    source: str = ""
    longest: Annotated[int, Field(ge=1)] = 256
    count: Annotated[int, Field(ge=0)] = 0
    heldout: bool = False


def open_sent(config: ImagesConfig, data: Path) -> tuple[TestImage, ...]:
    """Read the pictures to send, with names that are unique and can be file names.

    Args:
        config: Choice of the pictures.
        data: Folder of the data sets.

    Raises:
        SweepError: If there is no such folder or data set, or it holds no picture.
    """
    if not config.source:
        raise SweepError("images: a curve sends pictures; give a folder or a data set as images.source or --images")
    try:
        # Names of data sets have a colon or end with a split.
        named = re.search(r":|@(train|heldout)$", config.source) and not Path(config.source).is_dir()
        found = _of_set(config, data) if named else _of_folder(config)
        pictures = list(islice(found, config.count or None))
    except CrlscError as error:
        raise SweepError(f"images: {error}") from None
    sent: dict[str, TestImage] = {}
    for key, image, labels in pictures:
        name = unused_name(short_name(re.sub(r"[^\w.-]+", "-", key).strip("-.")) or "picture", sent)
        sent[name] = TestImage(name, fit_within(image, config.longest), labels)
    return tuple(sent.values())


def identity_of_images(images: Sequence[TestImage]) -> str:
    """Return the SHA-256 in hex of names, labels and pixels."""
    digest = hashlib.sha256()
    for sent in images:
        digest.update(repr((sent.name, sent.labels, sent.image.shape)).encode())
        digest.update(sent.image.tobytes())
    return digest.hexdigest()


_Picture = tuple[str, UInt8Image, tuple[str, ...]]


def _of_folder(config: ImagesConfig) -> Iterator[_Picture]:
    folder = Path(config.source)
    paths = find_images(folder)
    if config.heldout:
        kept = read_heldout(folder)
        paths = [path for path in paths if path.name in kept]
        if not paths:
            raise SweepError(f"{folder}: index.json marks no picture as held out; set heldout: false to send them all")
    labels = read_labels(folder)
    return ((path.stem, load_image(path), tuple(labels.get(path.name, ()))) for path in paths)


def _of_set(config: ImagesConfig, data: Path) -> Iterator[_Picture]:
    if config.heldout:
        raise SweepError("heldout is for folders; name the split of a data set instead, such as photos@heldout")
    try:
        from crlsc_phy.data import open_images
    except ModuleNotFoundError as error:
        raise SweepError(f"{error.name} is not installed; pip install 'crlsc-phy[train]'") from None
    found = open_images(config.source, data)
    return (
        (key, image, (label,) if label else ())
        for key, image, label in zip(found.keys, found.decode(), found.labels, strict=True)
    )
