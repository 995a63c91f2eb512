"""Images at the doors: uint8 [H, W, 3] in, padded to a stride and cropped back."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from crlsc_phy.errors import ImageError
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

_DAMAGE = (OSError, EOFError, SyntaxError, ValueError, IndexError, TypeError, OverflowError, struct.error, zlib.error)
"""What Pillow's decoders raise on damaged files; that a file is no image at all is an ``OSError`` too."""


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
    """Decode an image as uint8 [H, W, 3]; transparency is laid on white, EXIF rotation applied, the first frame taken.

    Args:
        content: What an image file holds.
        name: What the error calls it.

    Raises:
        ImageError: If it is not an image, is cut short, or has more pixels than Pillow takes for honest.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith(("I", "F")):
                # Pillow clips 16-bit and float pixels at 255 instead of scaling them.
                image = Image.fromarray(_to_8_bit(np.asarray(image)))
            if not image.has_transparency_data:
                return np.asarray(image.convert("RGB"))
            rgba = image.convert("RGBA")
    except UnidentifiedImageError:
        # Pillow's own words name the buffer, which tells nobody anything.
        raise ImageError(f"{name}: not a readable image (in no known format)") from None
    except (Image.DecompressionBombError, *_DAMAGE) as error:
        raise ImageError(f"{name}: not a readable image ({' '.join(str(error).split())})") from None
    white = Image.new("RGBA", rgba.size, "white")
    return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))


def _to_8_bit(pixels: npt.NDArray[np.generic]) -> UInt8Image:
    values = pixels.astype(np.float64)
    if np.issubdtype(pixels.dtype, np.floating):
        return np.clip(values * 255, 0, 255).round().astype(np.uint8)
    return np.clip(values / 257, 0, 255).round().astype(np.uint8)


def find_images(folder: str | Path) -> list[Path]:
    """The image files below ``folder``, sorted by path.

    Raises:
        ImageError: If ``folder`` is not a folder or holds no image file.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ImageError(f"{folder}: no such folder")
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not found:
        raise ImageError(f"{folder}: holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def read_labels(path: Path) -> dict[str, list[str]]:
    """The right labels of each file as ``index.json`` of the folder ``path``, or of the file ``path``, has them.

    A folder without a readable index has no labels: they are a comparison, not a part of what is sent.
    """
    return {
        str(entry["file"]): [str(label) for label in (entry.get("label"), *(entry.get("also") or ())) if label]
        for entry in _read_index(path)
    }


def read_heldout(folder: Path) -> set[str]:
    """The files that ``index.json`` of a folder says are held out of training."""
    return {str(entry["file"]) for entry in _read_index(folder) if entry.get("heldout")}


def _read_index(path: Path) -> list[dict[str, Any]]:
    index = (path if path.is_dir() else path.parent) / "index.json"
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if not isinstance(entries, list):
        return []
    return [entry for entry in entries if isinstance(entry, dict) and "file" in entry]


def check_image(image: npt.NDArray[np.generic], smallest: int = 1, largest: int = 4096) -> UInt8Image:
    """Return ``image`` if it is uint8 [H, W, 3] with sides of ``smallest`` to ``largest`` pixels.

    Raises:
        ImageError: If it is not.
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
    """Repeat the last row and column until both sides are multiples of ``stride``."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, -height % stride), (0, -width % stride), (0, 0)), mode="edge")


def resize(image: UInt8Image, height: int, width: int) -> UInt8Image:
    """Resample to ``height`` x ``width`` with a box filter on the way down, bilinear on the way up."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def fit_within(image: UInt8Image, longest: int) -> UInt8Image:
    """Reduce ``image`` until no side is longer than ``longest`` pixels; smaller ones stay as they are."""
    factor = longest / max(image.shape[:2])
    if factor >= 1:
        return image
    return resize(image, max(1, round(image.shape[0] * factor)), max(1, round(image.shape[1] * factor)))


def save_png(path: str | Path, image: UInt8Image) -> None:
    """Write ``image`` uint8 [H, W, 3] as a PNG: aside first, then in place."""
    with placed(Path(path)) as aside:
        Image.fromarray(image).save(aside, format="PNG")
