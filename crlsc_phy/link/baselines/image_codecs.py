"""Conventional image codecs as baselines.

A file is counted ``whole``, or ``stripped`` of its container, which the receiver then has without cost, as if both
ends had agreed on it:

    JPEG  sent: the coded data of the scan, and Huffman tables (DHT) other than the standard's.
          left out: SOI, APP0, DQT (which follows from the quality), SOF0, DHT with the standard's tables, the header
          of SOS, EOI.
    WebP  sent: the payload of the chunk VP8. left out: the 12 bytes of RIFF, the 8 of the chunk, padding.
    AVIF  sent: the payload of the box mdat, which is all of AV1's units. left out: ftyp, meta, the box's 8 bytes.
    HEIC  sent: the payload of the box mdat, which is the coded slice. left out: ftyp, meta with the parameter sets
          (VPS, SPS, PPS), the box's 8 bytes.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, features

from crlsc_phy.errors import SweepError
from crlsc_phy.images import UInt8Image

__all__ = ["CODECS", "Coded", "ImageCodec", "image_codec"]

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Coded:
    """A picture as a file.

    Attributes:
        file: The whole file.
        spans: Start and stop of the ranges of its bytes that are sent.
    """

    file: bytes
    spans: Spans

    @property
    def sent(self) -> bytes:
        """Bytes that are sent."""
        return b"".join(self.file[start:stop] for start, stop in self.spans)

    @property
    def size(self) -> int:
        """Number of bytes that are sent."""
        return sum(stop - start for start, stop in self.spans)

    def restored(self, sent: bytes) -> bytes:
        """Return the receiver's file, with the bytes that came over the air in their places."""
        file, place = bytearray(self.file), 0
        for start, stop in self.spans:
            file[start:stop] = sent[place : place + stop - start]
            place += stop - start
        return bytes(file)


class ImageCodec(ABC):
    """An image codec with a scale of qualities.

    Attributes:
        lowest, highest: Ends of the scale of qualities.
        smallest: Smallest side in pixels that the codec takes.
    """

    lowest, highest = 0, 100
    smallest = 8

    @abstractmethod
    def files(self, image: UInt8Image, quality: int) -> Iterable[bytes]:
        """Return files that show the same picture; the one with the fewest bytes to send is sent."""

    @abstractmethod
    def decode(self, file: bytes) -> UInt8Image:
        """Return the picture in a file, uint8 [H, W, 3]."""

    def payload(self, file: bytes) -> Spans:
        """Return the ranges of a file that are sent without its container; see this module's documentation.

        By default this is the payload of the box mdat of an ISO base media file (ISO/IEC 14496-12, 4.2 and 8.1.1).
        """
        place = 0
        while file[place + 4 : place + 8] != b"mdat":
            place += int.from_bytes(file[place : place + 4], "big")
        return ((place + 8, place + int.from_bytes(file[place : place + 4], "big")),)

    def encode(self, image: UInt8Image, quality: int, stripped: bool) -> Coded:
        """Encode a picture.

        Args:
            image: Picture, uint8 [H, W, 3].
            quality: Quality from :attr:`lowest` to :attr:`highest`.
            stripped: Whether the container is not sent.
        """
        coded = (Coded(f, self.payload(f) if stripped else ((0, len(f)),)) for f in self.files(image, quality))
        return min(coded, key=lambda each: each.size)


class _Pillow(ImageCodec):
    """A codec of Pillow."""

    format: str

    def decode(self, file: bytes) -> UInt8Image:
        with Image.open(io.BytesIO(file), formats=(self.format,)) as image:
            return np.asarray(image.convert("RGB"))

    def save(self, image: UInt8Image, **options: object) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, self.format, **options)
        return buffer.getvalue()


class Jpeg(_Pillow):
    """Baseline JPEG, 4:2:0, with optimised Huffman tables where they save bytes."""

    format = "JPEG"
    # Pillow takes 0 for its default.
    lowest = 1

    def files(self, image: UInt8Image, quality: int) -> Iterable[bytes]:
        return (self.save(image, quality=quality, subsampling="4:2:0", optimize=own) for own in (True, False))

    def payload(self, file: bytes) -> Spans:
        spans = [
            (start, stop)
            for marker, start, stop in _jpeg_segments(file)
            if marker == _DHT and file[start:stop] not in _standard_tables()
        ]
        *_, (_, _, scan) = _jpeg_segments(file)
        return (*spans, (scan, len(file) - 2))


class WebP(_Pillow):
    """Lossy WebP by its slowest method."""

    format = "WEBP"

    def files(self, image: UInt8Image, quality: int) -> Iterable[bytes]:
        return (self.save(image, quality=quality, method=6),)

    def payload(self, file: bytes) -> Spans:
        place = 12
        while file[place : place + 4] != b"VP8 ":
            place += 8 + -(-int.from_bytes(file[place + 4 : place + 8], "little") // 2) * 2
        return ((place + 8, place + 8 + int.from_bytes(file[place + 4 : place + 8], "little")),)


class Avif(_Pillow):
    """AVIF (AV1), 4:2:0, by one thread."""

    format = "AVIF"

    def __init__(self) -> None:
        if not features.check("avif"):
            raise _missing("avif", "Pillow 11.3 or newer, built with libavif", "pillow>=11.3")

    def files(self, image: UInt8Image, quality: int) -> Iterable[bytes]:
        return (self.save(image, quality=quality, subsampling="4:2:0", speed=4, max_threads=1),)


class Heic(ImageCodec):
    """HEIC: intra pictures of HEVC, as in BPG, 4:2:0, by x265 in pillow-heif."""

    # x265 takes no smaller ones.
    smallest = 16

    def __init__(self) -> None:
        try:
            import pillow_heif
        except ImportError:
            raise _missing("heic", "pillow-heif", "crlsc-phy[baselines]") from None
        self._library = pillow_heif

    def files(self, image: UInt8Image, quality: int) -> Iterable[bytes]:
        buffer = io.BytesIO()
        self._library.from_pillow(Image.fromarray(image)).save(buffer, quality=quality, chroma=420)
        return (buffer.getvalue(),)

    def decode(self, file: bytes) -> UInt8Image:
        return np.asarray(self._library.open_heif(io.BytesIO(file)).to_pillow().convert("RGB"))


CODECS: dict[str, type[ImageCodec]] = {"jpeg": Jpeg, "webp": WebP, "avif": Avif, "heic": Heic}


@lru_cache(maxsize=len(CODECS))
def image_codec(name: str) -> ImageCodec:
    """Return the codec of a name in :data:`CODECS`.

    Raises:
        SweepError: If there is no such codec, or its library is not installed.
    """
    if name not in CODECS:
        raise SweepError(f"image codec {name!r} is unknown; choose one of {', '.join(CODECS)}")
    return CODECS[name]()


def _missing(name: str, needed: str, package: str) -> SweepError:
    return SweepError(f"image codec {name} needs {needed}; pip install '{package}'")


_DHT, _SOS = 0xC4, 0xDA


def _jpeg_segments(file: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment up to the header of the scan (ITU-T T.81, B.1.1)."""
    place, marker = 2, 0
    while marker != _SOS:
        marker, length = file[place + 1], int.from_bytes(file[place + 2 : place + 4], "big")
        yield marker, place, place + 2 + length
        place += 2 + length


@lru_cache(maxsize=1)
def _standard_tables() -> frozenset[bytes]:
    """Return the DHT segments with the tables of ITU-T T.81, K.3."""
    file = Jpeg().save(np.zeros((8, 8, 3), np.uint8), optimize=False)
    return frozenset(file[start:stop] for marker, start, stop in _jpeg_segments(file) if marker == _DHT)
