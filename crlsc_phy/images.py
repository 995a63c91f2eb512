"""Reading, checking, resizing and writing of images, uint8 [H, W, 3]."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from crlsc_phy.errors import ImageError, brief
from crlsc_phy.files import placed

__all__ = [
    "IMAGE_SUFFIXES",
    "check_image",
    "decode_image",
    "find_images",
    "fit_within",
    "load_image",
    "pad_to_stride",
    "read_heldout",
    "read_labels",
    "resize",
    "save_png",
]

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

UInt8Image = npt.NDArray[np.uint8]

_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Read by content, whatever a file is called. Pillow knows more, and runs Ghostscript for one of them (EPS)."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transposition for each value of the EXIF tag Orientation."""

_LARGEST_UNIT = 2
"""Largest value of float pixels that are taken for 0 to 1; resampling may exceed 1."""
_SAMPLE_FORMAT, _UNSIGNED = 339, 1


def load_image(path: str | Path) -> UInt8Image:
    """Read an image file as uint8 [H, W, 3], as :func:`decode_image` does.

    Raises:
        ImageError: If the file is missing, is not an image, or is cut short.
    """
    try:
        return decode_image(Path(path).read_bytes(), str(path))
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from None


def decode_image(content: bytes, name: str) -> UInt8Image:
    """Decode an image as uint8 [H, W, 3].

    The first frame is taken, turned as its EXIF orientation says, and transparency is laid on white. Pixels of 16 bits
    are scaled from 0..65535. The range of 32-bit integers and floats follows from their largest value: 0..1 (floats up
    to 2), 0..255, 0..65535, or 0 to the largest value.

    Args:
        content: Bytes of an image file.
        name: Name of the image in error messages.

    Raises:
        ImageError: If ``content`` is not an image, is cut short, or has more pixels than Pillow accepts.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as file:
            image = _turned(file)
            if image.mode.startswith(("I", "F")):
                # Pillow clips 16-bit and float pixels at 255 instead of scaling them.
                image = Image.fromarray(_to_8_bit(_pixels(file, image)))
            if not image.has_transparency_data:
                return np.asarray(image.convert("RGB"))
            rgba = image.convert("RGBA")
    except UnidentifiedImageError:
        # Pillow's own words name the buffer, which tells nobody anything.
        raise ImageError(f"{name}: not a readable image (in no known format)") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files.
        raise ImageError(f"{name}: not a readable image ({brief(error)})") from None
    white = Image.new("RGBA", rgba.size, "white")
    return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))


def _turned(file: Image.Image) -> Image.Image:
    """Return an image turned as its EXIF orientation says."""
    # ImageOps.exif_transpose also writes the other tags anew, and raises an exception where one has an unusual type.
    file.load()
    method = _TURNS.get(file.getexif().get(ExifTags.Base.Orientation, 1))
    return file if method is None else file.transpose(method)


def _pixels(file: Image.Image, image: Image.Image) -> npt.NDArray[np.generic]:
    """Return the pixels of a greyscale image in its own range: uint16, int32, uint32 or float32."""
    pixels: npt.NDArray[np.generic] = np.asarray(image)
    if pixels.dtype != np.int32:
        return pixels
    if not isinstance(file, TiffImagePlugin.TiffImageFile):
        # Pillow widens 16-bit pixels of other formats.
        return np.clip(pixels, 0, 65535).astype(np.uint16)
    unsigned = file.tag_v2.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED
    return pixels.view(np.uint32) if unsigned else pixels


def _to_8_bit(pixels: npt.NDArray[np.generic]) -> UInt8Image:
    values = np.nan_to_num(pixels.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(values.max(initial=0))
    if pixels.dtype.itemsize == 2:
        white = 65535.0
    elif pixels.dtype.kind == "f" and largest <= _LARGEST_UNIT:
        white = 1.0
    else:
        white = next((white for white in (255.0, 65535.0) if largest <= white), largest)
    return np.clip(values / white * 255, 0, 255).round().astype(np.uint8)


def find_images(folder: str | Path) -> list[Path]:
    """Return the image files below ``folder``, sorted by path.

    Raises:
        ImageError: If ``folder`` is not a folder or holds no image file.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ImageError(f"{folder}: no such folder")
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not found:
        raise ImageError(f"{folder}: holds no image file ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def read_labels(path: Path) -> dict[str, list[str]]:
    """Return the right labels of each image file, from the ``index.json`` beside them.

    Args:
        path: The folder of the images, or one of them.

    Returns:
        The labels by file name: ``label``, then those of ``also``, a list or one label. Empty without a readable
        ``index.json``, because labels only serve the comparison of results.
    """
    return {str(entry["file"]): _texts(entry.get("label")) + _texts(entry.get("also")) for entry in _read_index(path)}


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(each) for each in values if isinstance(each, (str, int, float)) and each != ""]


def read_heldout(folder: Path) -> set[str]:
    """Return the files of a folder that its ``index.json`` marks as held out of training."""
    return {str(entry["file"]) for entry in _read_index(folder) if entry.get("heldout")}


def _read_index(path: Path) -> list[dict[str, Any]]:
    index = (path if path.is_dir() else path.parent) / "index.json"
    try:
        # Windows editors put a byte order mark before the text.
        entries = json.loads(index.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return []
    if not isinstance(entries, list):
        return []
    return [entry for entry in entries if isinstance(entry, dict) and "file" in entry]


def check_image(image: npt.NDArray[np.generic], smallest: int = 1, largest: int = 4096) -> UInt8Image:
    """Return ``image`` if it is uint8 [H, W, 3] with sides of ``smallest`` to ``largest`` pixels.

    Args:
        image: Array of any library.
        smallest: Least height and width in pixels.
        largest: Greatest height and width in pixels.

    Raises:
        ImageError: If it has another type, shape or size.
    """
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ImageError(f"image is {array.dtype} {list(array.shape)}; it must be uint8 [H, W, 3]")
    if not all(smallest <= side <= largest for side in array.shape[:2]):
        raise ImageError(
            f"image is {array.shape[1]}x{array.shape[0]} pixels; sides must be within {smallest} to {largest}"
        )
    return array.astype(np.uint8, copy=False)


def pad_to_stride(image: UInt8Image, stride: int) -> UInt8Image:
    """Return ``image`` with its last row and column repeated until both sides are multiples of ``stride``."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, -height % stride), (0, -width % stride), (0, 0)), mode="edge")


def resize(image: UInt8Image, height: int, width: int) -> UInt8Image:
    """Resample an image, with an antialiasing filter where it shrinks.

    Args:
        image: uint8 [H, W, 3].
        height: New height in pixels.
        width: New width in pixels.

    Returns:
        uint8 [height, width, 3].
    """
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def fit_within(image: UInt8Image, longest: int) -> UInt8Image:
    """Reduce ``image`` so that no side is longer than ``longest`` pixels; return a smaller one as it is."""
    factor = longest / max(image.shape[:2])
    if factor >= 1:
        return image
    return resize(image, max(1, round(image.shape[0] * factor)), max(1, round(image.shape[1] * factor)))


def save_png(path: str | Path, image: UInt8Image) -> None:
    """Write ``image``, uint8 [H, W, 3], as a PNG file: aside first, then in place."""
    with placed(Path(path)) as aside:
        Image.fromarray(image).save(aside, format="PNG")
