"""Parcel of entries as bytes: a safetensors file, whose content is never executed.

It has these arrays:

    codes       uint8 [N, M]
    vectors     float32 [N, D], if the base stores vectors
    thumbnails  uint8, those of all entries one after another
    entries     uint8, JSON: origin, air code, and the texts and the length of the thumbnail of each entry
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import Entry, Parcel

__all__ = ["CONTENT_TYPE", "LARGEST_PARCEL", "pack", "split", "unpack"]

# A web page cannot send this type to another site without its consent (CORS).
CONTENT_TYPE = "application/vnd.safetensors"
LARGEST_PARCEL = 64 << 20
LONGEST_TEXT = 4096
LARGEST_THUMBNAIL = 1 << 20
_ASIDE = 1024
"""Limit of the bytes of an entry's JSON beside its texts."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_TEXTS = ("name", "label", "source", "licence", "caption", "path", "origin")


def pack(parcel: Parcel) -> bytes:
    """Return the bytes of a parcel."""
    listed = [
        {text: getattr(entry, text) for text in _TEXTS} | {"thumbnail": len(entry.thumbnail)}
        for entry in parcel.entries
    ]
    content = {"origin": parcel.origin, "air_code": parcel.air_code, "entries": listed}
    arrays = {
        "codes": np.ascontiguousarray(parcel.codes),
        "thumbnails": _bytes(b"".join(entry.thumbnail for entry in parcel.entries)),
        "entries": _bytes(json.dumps(content, ensure_ascii=False).encode()),
    }
    if parcel.vectors is not None:
        arrays["vectors"] = np.ascontiguousarray(parcel.vectors, np.float32)
    return bytes(save(arrays))


def unpack(raw: bytes) -> Parcel:
    """Read a parcel from the bytes that :func:`pack` returns. The values of its arrays are not checked here.

    Raises:
        KnowledgeBaseError: If they are damaged.
    """
    try:
        arrays = load(raw)
        content = json.loads(arrays["entries"].tobytes())
        thumbnails = memoryview(arrays["thumbnails"].tobytes())
        entries = []
        for given in content["entries"]:
            size = given.pop("thumbnail")
            if not isinstance(size, int) or not 0 <= size <= min(len(thumbnails), LARGEST_THUMBNAIL):
                raise ValueError(f"a thumbnail of {size!r} bytes")
            entries.append(Entry(**_texts(given), thumbnail=bytes(thumbnails[:size])))
            thumbnails = thumbnails[size:]
        heads = _texts({name: content[name] for name in ("origin", "air_code")})
        return Parcel(**heads, codes=arrays["codes"], entries=entries, vectors=arrays.get("vectors"))
    except (SafetensorError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise KnowledgeBaseError(f"the parcel is damaged ({error}); publish again") from None


def split(parcel: Parcel, keep_vectors: bool, largest: int = LARGEST_PARCEL // 2) -> Iterator[Parcel]:
    """Split a parcel.

    Args:
        parcel: Parcel to split.
        keep_vectors: Whether to keep its vectors.
        largest: Size limit of each part in bytes. An entry that exceeds it makes a part of its own.

    Raises:
        KnowledgeBaseError: If an entry is larger than a server takes.
    """
    if not keep_vectors:
        parcel = replace(parcel, vectors=None)
    places: list[int] = []
    size = 0
    for place, entry in enumerate(parcel.entries):
        _check_sendable(entry)
        # UTF-8 takes up to 4 bytes for a character.
        texts = sum(4 * len(getattr(entry, text)) for text in _TEXTS) + _ASIDE
        vector = 0 if parcel.vectors is None else parcel.vectors[place].nbytes
        needed = parcel.codes[place].nbytes + vector + texts + len(entry.thumbnail)
        if places and size + needed > largest:
            yield parcel.part(places)
            places, size = [], 0
        places.append(place)
        size += needed
    if places:
        yield parcel.part(places)


def _bytes(raw: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(raw, np.uint8)


def _check_sendable(entry: Entry) -> None:
    try:
        for text in _TEXTS:
            _check_text(text, getattr(entry, text))
        if len(entry.thumbnail) > LARGEST_THUMBNAIL:
            raise ValueError(f"its thumbnail has more than {LARGEST_THUMBNAIL} bytes")
    except ValueError as error:
        raise KnowledgeBaseError(f"{entry.name[:80]!r} cannot be sent: {error}") from None


def _texts(given: dict[str, Any]) -> dict[str, str]:
    for name, text in given.items():
        _check_text(name, text)
    return given


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str) or len(text) > LONGEST_TEXT:
        raise ValueError(f"its {name} is not a text of up to {LONGEST_TEXT} characters")
    # Terminals would obey some of them, and SQLite cannot store lone surrogates.
    if _CONTROL.search(text):
        raise ValueError(f"its {name} contains control characters")
