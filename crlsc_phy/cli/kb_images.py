"""Embedding of images and texts with a bundle, for entries of a knowledge base and for queries."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.progress import track

from crlsc_phy.bundle import Bundle
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import ImageError, KnowledgeBaseError, safe_text
from crlsc_phy.images import UInt8Image, find_images, load_image
from crlsc_phy.knowledge import AirCode, Entry

__all__ = ["DEFAULT_BUNDLE", "EmbeddedImages", "embed_images", "embedded", "embedded_text"]

DEFAULT_BUNDLE = Path("models/default")

THUMBNAIL = 64
# One line a message, whatever the terminal's width.
_WIDE = 4096


@dataclass(frozen=True, slots=True)
class EmbeddedImages:
    """The images of a folder as vectors and entries.

    Attributes:
        bundle: The bundle whose encoder was used.
        vectors: float32 [N, D] of unit norm.
        entries: One for each vector.
        skipped: How many image files could not be read.
    """

    bundle: Bundle
    vectors: npt.NDArray[np.float32]
    entries: Sequence[Entry]
    skipped: int


def embed_images(bundle: Path, folder: Path, code: AirCode | None = None) -> EmbeddedImages:
    """Embed the images below a folder; one that cannot be read is reported on standard error and skipped.

    The name of an entry is the image's path below the folder. Its label is the name of the subfolder that holds the
    image, or the image's own name if it lies at the top. Each entry has a thumbnail.

    Args:
        bundle: Folder of the bundle whose encoder is used.
        folder: Folder of the images.
        code: Air code that the bundle must have; any by default.

    Raises:
        ImageError: If the folder holds no image that can be read.
        KnowledgeBaseError: If the bundle has another air code.
    """
    codec, console = SemanticCodec.load(bundle), Console(stderr=True, width=_WIDE)
    _check_air_code(codec.bundle, code)
    vectors, entries, skipped = [], [], 0
    for path in track(find_images(folder), description="images", console=console):
        try:
            image = load_image(path)
        except ImageError as error:
            console.print(f"skipped: {safe_text(str(error))}", markup=False, highlight=False)
            skipped += 1
            continue
        place = path.relative_to(folder)
        name, label, origin = (
            safe_text(text) for text in (place.as_posix(), place.parent.name or place.stem, str(path.resolve()))
        )
        vectors.append(codec.embed(image))
        entries.append(Entry(name, label, path=origin, thumbnail=_thumbnail(image)))
    if not entries:
        raise ImageError(f"{folder}: none of its {skipped} images can be read")
    return EmbeddedImages(codec.bundle, np.stack(vectors), entries, skipped)


def embedded(bundle: Path, path: Path, code: AirCode) -> npt.NDArray[np.float32]:
    """Return the vector of an image, float32 [1, D].

    Args:
        bundle: Folder of the bundle whose encoder is used.
        path: Image file.
        code: Air code of the base that is searched.

    Raises:
        ImageError: If the image cannot be read.
        KnowledgeBaseError: If the bundle has another air code.
    """
    codec = SemanticCodec.load(bundle)
    _check_air_code(codec.bundle, code)
    return codec.embed(load_image(path))[None]


def embedded_text(bundle: Path, text: str, code: AirCode) -> npt.NDArray[np.float32]:
    """Return the vector of a text, float32 [1, D], from the text tower of the bundle's teacher.

    Args:
        bundle: Folder of the bundle.
        text: The text.
        code: Air code of the base that is searched.

    Raises:
        KnowledgeBaseError: If the bundle has another air code.
        BundleError: If the teacher has no text tower, or its libraries are not installed.
        TrainingError: If the teacher's weights are not available, or it knows none of the words.
    """
    opened = Bundle.load(bundle)
    _check_air_code(opened, code)
    return opened.embed_texts([text])


def _check_air_code(bundle: Bundle, wanted: AirCode | None) -> None:
    if wanted is not None and bundle.knowledge.air_code.id != wanted.id:
        raise KnowledgeBaseError(
            f"{bundle.folder}: has another air code than the base; use the bundle that the base was made with"
        )


def _thumbnail(image: UInt8Image) -> bytes:
    picture = Image.fromarray(image)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "webp", quality=60)
    return file.getvalue()
