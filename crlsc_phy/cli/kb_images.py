"""Images to entries of a knowledge base with the encoder of a bundle, images and texts to vectors to search for."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.progress import track

from crlsc_phy.bundle import Bundle
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.images import UInt8Image, find_images, load_image
from crlsc_phy.knowledge import AirCode, Entry

__all__ = ["DEFAULT_BUNDLE", "embed_images", "embedded", "embedded_text"]

DEFAULT_BUNDLE = Path("models/default")

THUMBNAIL = 64


def embed_images(bundle: Path, folder: Path) -> tuple[Bundle, npt.NDArray[np.float32], list[Entry]]:
    """Embed the images below a folder.

    An entry has the image's path below the folder as its name, the name of the folder that it is in as its label, or
    its own if it lies at the top, and a small picture.

    Returns:
        The bundle, vectors float32 [N, S] of unit norm, and entries.

    Raises:
        ImageError: If there is none, or one cannot be read.
    """
    codec = SemanticCodec.load(bundle)
    vectors, entries = [], []
    for path in track(find_images(folder), description="images", console=Console(stderr=True)):
        image = load_image(path)
        place = path.relative_to(folder)
        label = place.parent.name or place.stem
        vectors.append(codec.embed(image))
        entries.append(Entry(place.as_posix(), label, path=str(path.resolve()), thumbnail=_thumbnail(image)))
    return codec.bundle, np.stack(vectors), entries


def embedded(bundle: Path, path: Path, code: AirCode) -> npt.NDArray[np.float32]:
    """The vector of one image, float32 [1, S].

    Raises:
        KnowledgeBaseError: If the bundle has another air code than ``code``.
    """
    codec = SemanticCodec.load(bundle)
    _check_air_code(bundle, codec.bundle.knowledge.air_code, code)
    return codec.embed(load_image(path))[None]


def embedded_text(bundle: Path, text: str, code: AirCode) -> npt.NDArray[np.float32]:
    """The vector of a text, float32 [1, S], by the text tower of the bundle's teacher.

    Raises:
        KnowledgeBaseError: If the bundle has another air code than ``code``.
        BundleError: If the teacher has no text, or its libraries are missing.
        TrainingError: If the teacher's weights cannot be had, or it knows no word of the text.
    """
    opened = Bundle.load(bundle)
    _check_air_code(bundle, opened.knowledge.air_code, code)
    return opened.embed_texts([text])


def _check_air_code(bundle: Path, has: AirCode, wanted: AirCode) -> None:
    if has.id != wanted.id:
        raise KnowledgeBaseError(f"{bundle} has another air code than the base that is to be searched")


def _thumbnail(image: UInt8Image) -> bytes:
    picture = Image.fromarray(image)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "webp", quality=60)
    return file.getvalue()
