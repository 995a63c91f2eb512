"""The one thing that every stage reads pictures from, whichever source they are of."""

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
    """Pictures with what is known of them. All columns have one order.

    Attributes:
        name: The spec that it was opened by, such as ``photos@train``.
        keys: A name for each picture, unique within the set.
        labels: What class each is of; "" where that is not known.
        groups: What each shows, where several sources draw the same things (of pictograms the code point);
            otherwise the label.
        licence: Of the pictures.
        identity: SHA-256 in hex of the content, by which decoded pictures are kept.
        folder: Where decoded pictures are kept.
        decode: Gives every picture once, in order, as uint8 [H, W, 3].
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
        """The labels that there are, sorted."""
        return sorted(set(self.labels) - {""})

    def squares(self, pixels: int) -> npt.NDArray[np.uint8]:
        """All pictures, each resized to a square as the codec does: uint8 [N, pixels, pixels, 3], a memory map.

        Decoded once; later calls map the file that the first has left.

        Raises:
            DataError: If a picture cannot be read any more, or the disk is full.
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
        """All pictures, each uint8 [H, W, 3] with no side longer than ``longest`` pixels; none is enlarged.

        Decoded once; later calls map the files that the first has left.

        Raises:
            DataError: If a picture cannot be read any more, or the disk is full.
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
    """SHA-256 in hex of ``parts``."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def reduced(image: UInt8Image, longest: int) -> UInt8Image:
    """``image`` with no side longer than ``longest`` pixels, by the mean of what falls into a pixel."""
    if max(image.shape[:2]) <= longest:
        return image
    small = Image.fromarray(image)
    small.thumbnail((longest, longest), Image.Resampling.BOX, reducing_gap=None)
    return np.asarray(small)
