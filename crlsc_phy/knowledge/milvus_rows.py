"""Rows of a knowledge base in Milvus: one for each entry, and texts for the state and the air code."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any
from urllib.parse import quote, unquote

import faiss
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge.air_code import AirCode, Codes, Vectors
from crlsc_phy.knowledge.base import Entry

__all__ = [
    "FIELDS",
    "KNOWN",
    "MOST_TEXT",
    "Row",
    "State",
    "air_code_of",
    "codes_of",
    "entry_of",
    "key_of",
    "name_of",
    "pieces_of",
    "row_of",
    "vectors_of",
]

Row = dict[str, Any]

FORMAT = 1
MOST_TEXT = 65_535
"""Bytes of the longest text that a field of Milvus holds."""
FIELDS = {
    "name": 1_536,
    "code": 128,
    "air_code": 64,
    "label": 2_048,
    "source": 4_096,
    "licence": 1_024,
    "caption": 16_384,
    "path": 4_096,
    "origin": 4_096,
    "thumbnail": MOST_TEXT,
}
"""Text fields of a row and their sizes in bytes at most. The name is percent-encoded, the code in hex, the thumbnail in
base64."""
_TEXTS = ("label", "source", "licence", "caption", "path", "origin")
KNOWN = ("code", "air_code", *_TEXTS, "thumbnail")
"""Fields that :func:`entry_of` and :func:`codes_of` read, beside the name."""


@dataclass(frozen=True)
class State:
    """State of a knowledge base behind Milvus.

    Attributes:
        name: Name of the base in search results.
        air_code: Hash of the air code.
        index: Index of the vectors, as :func:`parse_index` reads it.
        keep_vectors: Whether the vectors of the entries are stored, instead of the decoded codes.
        aligned_to, tau, threshold: See :class:`crlsc_phy.knowledge.manifest.Manifest`.
        filled_from: Source of a base that is not complete yet, such as the id of another base; empty when complete.
        stamp: Random text that every write changes.
    """

    name: str = ""
    air_code: str = ""
    index: str = ""
    keep_vectors: bool = False
    aligned_to: str = ""
    tau: float = 0.0
    threshold: float = 0.0
    filled_from: str = ""
    stamp: str = ""

    @property
    def kept(self) -> tuple[str, ...]:
        """Field of the stored vectors, if they are stored."""
        return ("vector",) if self.keep_vectors else ()

    def to_json(self) -> str:
        """Return the state as JSON."""
        return json.dumps({"format": FORMAT} | asdict(self), sort_keys=True)

    @classmethod
    def parse(cls, text: str, place: str) -> State:
        """Read the output of :meth:`to_json`; error messages name its ``place``.

        Raises:
            KnowledgeBaseError: If it is damaged or newer.
        """
        try:
            content = json.loads(text)
            found = content.pop("format")
            state = cls(**content) if found == FORMAT else cls()
            for one in fields(cls):
                if type(getattr(state, one.name)) is not type(one.default):
                    raise ValueError(f"{one.name} is {getattr(state, one.name)!r}")
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise KnowledgeBaseError(f"{place}: its state is damaged ({error}); copy the base again") from None
        if found != FORMAT:
            raise KnowledgeBaseError(
                f"{place}: has format {found}, but this program reads format {FORMAT}; update crlsc-phy"
            )
        return state


def key_of(name: str) -> str:
    """Return the key of an entry: its name percent-encoded, since pymilvus puts keys into expressions unquoted."""
    return quote(name, safe="/")


def name_of(row: Row) -> str:
    """Return the name of the entry in a row."""
    return unquote(str(row["name"]))


def row_of(entry: Entry, code: Codes, air_code: str, vector: npt.NDArray[np.float32]) -> Row:
    """Return an entry as a row.

    Args:
        entry: The entry.
        code: Its air code, uint8 [M].
        air_code: Hash of the quantiser.
        vector: float32 [D] of unit norm.

    Raises:
        KnowledgeBaseError: If the entry has no name, or a text is too long for Milvus or not valid Unicode.
    """
    texts = {field: getattr(entry, field) for field in _TEXTS}
    texts["thumbnail"] = base64.b64encode(entry.thumbnail).decode()
    try:
        texts["name"] = key_of(entry.name)
        sizes = {field: len(text.encode()) for field, text in texts.items()}
    except UnicodeEncodeError:
        raise KnowledgeBaseError(
            f"entry {entry.name!r}: has a text that is not valid Unicode; escape it with safe_text"
        ) from None
    if not entry.name:
        raise KnowledgeBaseError("an entry has no name")
    for field, size in sizes.items():
        if size > FIELDS[field]:
            raise KnowledgeBaseError(
                f"entry {entry.name[:40]!r}: {field} takes {size:,} bytes in Milvus; the limit is {FIELDS[field]:,}"
            )
    return texts | {"code": code.tobytes().hex(), "air_code": air_code, "vector": vector}


def entry_of(row: Row) -> Entry:
    """Return the entry in a row."""
    texts = {field: str(row[field]) for field in _TEXTS}
    return Entry(name=name_of(row), thumbnail=base64.b64decode(row["thumbnail"]), **texts)


def codes_of(rows: list[Row], air_code: AirCode) -> Codes:
    """Return the codes of rows, uint8 [n, M]; raise a :class:`KnowledgeBaseError` if one has another air code."""
    for row in rows:
        if row["air_code"] != air_code.id or len(row["code"]) != 2 * air_code.size:
            raise KnowledgeBaseError(f"entry {name_of(row)!r} has another air code than its base; remove the entry")
    return np.frombuffer(bytes.fromhex("".join(row["code"] for row in rows)), np.uint8).reshape(-1, air_code.size)


def vectors_of(rows: list[Row], air_code: AirCode, stored: bool) -> Vectors:
    """Return the vectors of rows, float32 [n, D] of unit norm.

    Args:
        rows: Rows with their codes, and vectors if these are stored.
        air_code: Quantiser of the codes.
        stored: Whether to use the stored vectors instead of the decoded codes.
    """
    vectors = air_code.decode(codes_of(rows, air_code))
    if stored:
        vectors = np.array([row["vector"] for row in rows], np.float32).reshape(-1, air_code.dim)
    faiss.normalize_L2(vectors)
    return vectors


def pieces_of(air_code: AirCode) -> dict[str, str]:
    """Return an air code as named texts of sizes that Milvus holds; sorted by name they give the whole."""
    text = base64.b64encode(air_code.to_bytes()).decode()
    return {f"air_code/{start:09d}": text[start : start + MOST_TEXT] for start in range(0, len(text), MOST_TEXT)}


def air_code_of(pieces: Mapping[str, str], id: str, place: str) -> AirCode:
    """Read an air code.

    Args:
        pieces: Texts that :func:`pieces_of` returned.
        id: Hash that it must have.
        place: Address that error messages name.

    Raises:
        KnowledgeBaseError: If the texts are damaged, or the hash is another.
    """
    try:
        air_code = AirCode(**load(base64.b64decode("".join(pieces[name] for name in sorted(pieces)))))
    except (ValueError, TypeError, SafetensorError, KnowledgeBaseError) as error:
        raise KnowledgeBaseError(f"{place}: its air code is damaged ({error}); copy the base again") from None
    if air_code.id != id:
        raise KnowledgeBaseError(f"{place}: its air code is damaged (SHA-256 differs); copy the base again")
    return air_code
