"""The user's own pictures: a folder, or the shards of a web data set.

Shards are tar files with members ``KEY.jpg``, ``.png`` or ``.webp`` and, if there are labels, ``KEY.cls``, ``.txt`` or
``.json`` (a string, a number, or an object with ``label``), in UTF-8 with or without a byte order mark. The decoders of
webdataset are not used, because they load pickles (``.pyd``).

File names that are not UTF-8 have their other bytes escaped in keys and labels, which are stored as text.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from braceexpand import braceexpand
from webdataset.tariterators import group_by_keys, tar_file_expander

from crlsc_phy.errors import DataError, ImageError, brief, safe_text
from crlsc_phy.images import find_images

__all__ = ["Folder", "Shards"]

SHARD_IMAGES = ("jpg", "jpeg", "png", "webp")


class Folder:
    """Image files below a folder; the sub-folders at the top are the classes.

    Args:
        path: Path of the folder.

    Raises:
        DataError: If there is no such folder, or no image in it.
    """

    def __init__(self, path: str) -> None:
        self.name, self.root = f"folder:{path}", Path(path).absolute()
        try:
            self.files = find_images(self.root)
        except ImageError as error:
            raise DataError(f"folder:{error}") from None

    def read(self, file: Path) -> Iterator[tuple[str, str, bytes]]:
        """Yield key, label and content of the one picture in ``file``."""
        inner = file.relative_to(self.root)
        label = inner.parts[0] if len(inner.parts) > 1 else ""
        yield safe_text(inner.as_posix()), safe_text(label), file.read_bytes()


class Shards:
    """Samples of the shards of a web data set.

    Args:
        pattern: Paths of the shards, with ranges in braces: ``train-{0000..0003}.tar``.

    Raises:
        DataError: If a shard is missing.
    """

    def __init__(self, pattern: str) -> None:
        self.name = f"webdataset:{pattern}"
        try:
            self.files = [Path(path).absolute() for path in braceexpand(pattern)]
        except ValueError:
            raise DataError(f"{self.name}: its braces do not match; write a range as {{0000..0003}}") from None
        for file in self.files:
            if not file.is_file():
                raise DataError(f"webdataset:{file}: no such file")

    def read(self, file: Path) -> Iterator[tuple[str, str, bytes]]:
        """Yield key, label and content of the pictures in the shard ``file``.

        Raises:
            DataError: If it is damaged.
        """
        try:
            # Opened here, as the library would run what a `pipe:` URL says.
            with file.open("rb") as stream:
                for sample in group_by_keys(tar_file_expander([{"url": str(file), "stream": stream}])):
                    image = next((sample[suffix] for suffix in SHARD_IMAGES if suffix in sample), None)
                    if image is not None:
                        yield safe_text(f"{file.stem}/{sample['__key__']}"), safe_text(_label(sample)), image
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            raise DataError(f"webdataset:{file}: is not a readable shard ({brief(error, 120)})") from None


def _label(sample: dict[str, bytes]) -> str:
    for suffix in ("cls", "txt", "json"):
        if suffix in sample:
            text = sample[suffix].decode("utf-8-sig", "replace").strip()
            if suffix != "json":
                return text
            try:
                found = json.loads(text)
            except ValueError:
                return ""
            label = found.get("label", "") if isinstance(found, dict) else found
            return str(label)
    return ""
