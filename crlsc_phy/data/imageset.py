"""Picture sets, which every stage reads pictures from, whatever their source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from crlsc_phy.data.store import making, watched
from crlsc_phy.errors import DataError
from crlsc_phy.images import UInt8Image, resize

__all__ = ["ImageSet", "identity_of", "reduced"]


@dataclass(frozen=True)
class ImageSet:
    """Pictures with their keys, labels and licence. All columns have the same order.

    Attributes:
        name: Name that the set was opened by, such as ``photos@train``.
        keys: Name of each picture, unique within the set.
        labels: Class of each picture; "" if unknown.
        groups: Thing that each picture shows, if several sources draw the same things (for pictograms the code point);
            otherwise the label.
        licence: Licence of the pictures.
        identity: SHA-256 of the content in hex, which names the files of decoded pictures.
        folder: Folder of decoded pictures.
        decode: Yields every picture once, in order, as uint8 [H, W, 3].

    Raises:
        DataError: If there is no picture, a key occurs twice, or columns differ in length.
    """

    name: str
    keys: tuple[str, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    licence: str
    identity: str
    folder: Path = field(repr=False)
    decode: Callable[[], Iterator[UInt8Image]] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.keys:
            raise DataError(f"{self.name}: holds no picture")
        if not len(self.keys) == len(set(self.keys)) == len(self.labels) == len(self.groups):
            raise DataError(f"{self.name}: two pictures have one key, or labels are missing")

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def classes(self) -> list[str]:
        """Labels of the set, sorted."""
        return sorted(set(self.labels) - {""})

    def squares(self, pixels: int) -> npt.NDArray[np.uint8]:
        """Return all pictures, resized to squares as by the codec: uint8 [N, pixels, pixels, 3], a memory map.

        Pictures are decoded once; later calls map the file of the first one.

        Raises:
            DataError: If a picture can no longer be read, or the disk is full.
        """
        path = self.folder / f"{self.identity[:32]}-squares-{pixels}.npy"
        if not path.exists():
            shape = (len(self), pixels, pixels, 3)
            # Not through a memory map: a disk that fills up would then end the process by a signal.
            with making(path) as aside, aside.open("wb") as file:
                np.lib.format.write_array_header_1_0(  # type: ignore[no-untyped-call]
                    file, {"descr": "|u1", "fortran_order": False, "shape": shape}
                )
                for image in self._pictures():
                    file.write(resize(image, pixels, pixels).tobytes())
        # "c" leaves the file as it is and the array writable, which torch.from_numpy asks for.
        squares: npt.NDArray[np.uint8] = np.load(path, mmap_mode="c", allow_pickle=False)
        return squares

    def photos(self, longest: int) -> list[UInt8Image]:
        """Return all pictures, uint8 [H, W, 3] each, reduced until no side is longer than ``longest`` pixels.

        Pictures are decoded once; later calls map the files of the first one.

        Raises:
            DataError: If a picture can no longer be read, or the disk is full.
        """
        path = self.folder / f"{self.identity[:32]}-photos-{longest}.u8"
        sides = path.with_suffix(".npy")
        if not sides.exists():
            with making(path) as aside, aside.open("wb") as file:
                shapes = []
                for image in self._pictures():
                    small = reduced(image, longest)
                    file.write(small.tobytes())
                    shapes.append(small.shape)
            with making(sides) as aside, aside.open("wb") as file:
                np.save(file, np.array(shapes), allow_pickle=False)
        shapes = [tuple(shape) for shape in np.load(sides, allow_pickle=False).tolist()]
        content = np.memmap(path, np.uint8, mode="c")
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
        return [part.reshape(shape) for part, shape in zip(np.split(content, ends[:-1]), shapes, strict=True)]

    def _pictures(self) -> Iterator[UInt8Image]:
        count = 0
        try:
            for image in watched(self.decode(), f"Reading {self.name}", len(self)):
                count += 1
                yield image
        except OSError as error:
            raise DataError(f"{self.name}: cannot be read any more ({error.strerror or error}); try again") from None
        if count != len(self):
            raise DataError(f"{self.name}: has changed while it was read; try again")


def identity_of(*parts: str) -> str:
    """Return the SHA-256 of ``parts`` in hex."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def reduced(image: UInt8Image, longest: int) -> UInt8Image:
    """Return an image reduced until no side is longer than ``longest`` pixels, by averages over the area of a pixel."""
    if max(image.shape[:2]) <= longest:
        return image
    small = Image.fromarray(image)
    small.thumbnail((longest, longest), Image.Resampling.BOX, reducing_gap=None)
    return np.asarray(small)
