"""What lies in Milvus: a row an entry, and the state of a base and its air code as texts."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge.air_code import AirCode, Codes
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
]

Row = dict[str, Any]

FORMAT = 1
MOST_TEXT = 65_535
"""Bytes of the longest text that Milvus keeps in a field."""
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
"""The texts of a row and their longest sizes in bytes; the name percent-encoded, the code in hex, the thumbnail in
base64."""
_TEXTS = ("label", "source", "licence", "caption", "path", "origin")
KNOWN = ("code", "air_code", *_TEXTS, "thumbnail")
"""The fields that :func:`entry_of` and :func:`codes_of` read, beside the name."""


@dataclass(frozen=True)
class State:
    """What a base behind Milvus says of itself.

    Attributes:
        name: What hits call the base.
        air_code: Hash of the air code.
        index: Of the vectors, as :func:`parse_index` reads it.
        keep_vectors: Whether entries have vectors of their own, or those that their codes decode to.
        aligned_to, tau, threshold: As in :class:`crlsc_phy.knowledge.folder.Manifest`.
        filled_from: What it is being filled from, the id of another base for one; empty once that is done.
        stamp: Another one after each write.
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

    def to_json(self) -> str:
        """The text form."""
        return json.dumps({"format": FORMAT} | asdict(self), sort_keys=True)

    @classmethod
    def parse(cls, text: str, place: str) -> State:
        """Read the text form.

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
            raise KnowledgeBaseError(f"{place}: its state is damaged ({error}); copy the base anew") from None
        if found != FORMAT:
            raise KnowledgeBaseError(f"{place}: has format {found}, this program reads {FORMAT}; update crlsc-phy")
        return state


def key_of(name: str) -> str:
    """The key of the entry with a name: percent-encoded, for pymilvus pastes keys into expressions as they are."""
    return quote(name, safe="/")


def name_of(row: Row) -> str:
    """The name of the entry in a row."""
    return unquote(str(row["name"]))


def row_of(entry: Entry, code: Codes, air_code: str, vector: npt.NDArray[np.float32]) -> Row:
    """An entry as a row.

    Args:
        entry: What is known of it.
        code: uint8 [M].
        air_code: Hash of the air code.
        vector: float32 [D] of unit norm.

    Raises:
        KnowledgeBaseError: If it has no name, or a text is longer than Milvus keeps or cannot be encoded.
    """
    texts = {field: getattr(entry, field) for field in _TEXTS}
    texts["thumbnail"] = base64.b64encode(entry.thumbnail).decode()
    try:
        texts["name"] = key_of(entry.name)
        sizes = {field: len(text.encode()) for field, text in texts.items()}
    except UnicodeEncodeError:
        raise KnowledgeBaseError(f"entry {entry.name!r}: has a text that is no Unicode") from None
    if not entry.name:
        raise KnowledgeBaseError("an entry has no name")
    for field, size in sizes.items():
        if size > FIELDS[field]:
            raise KnowledgeBaseError(
                f"entry {entry.name[:40]!r}: {field} takes {size:,} bytes in Milvus, and may take {FIELDS[field]:,}"
            )
    return texts | {"code": code.tobytes().hex(), "air_code": air_code, "vector": vector}


def entry_of(row: Row) -> Entry:
    """The entry in a row."""
    texts = {field: str(row[field]) for field in _TEXTS}
    return Entry(name=name_of(row), thumbnail=base64.b64decode(row["thumbnail"]), **texts)


def codes_of(rows: list[Row], air_code: AirCode) -> Codes:
    """The codes of rows, uint8 [n, M].

    Raises:
        KnowledgeBaseError: If a row has another air code.
    """
    for row in rows:
        if row["air_code"] != air_code.id or len(row["code"]) != 2 * air_code.size:
            raise KnowledgeBaseError(f"entry {name_of(row)!r} has another air code than its base; remove it")
    return np.frombuffer(bytes.fromhex("".join(row["code"] for row in rows)), np.uint8).reshape(-1, air_code.size)


def pieces_of(air_code: AirCode) -> dict[str, str]:
    """An air code as texts that Milvus keeps, in the order of their names."""
    arrays = {"centroids": air_code.centroids}
    if air_code.rotation is not None:
        arrays["rotation"] = air_code.rotation
    text = base64.b64encode(save(arrays)).decode()
    return {f"air_code/{start:09d}": text[start : start + MOST_TEXT] for start in range(0, len(text), MOST_TEXT)}


def air_code_of(pieces: Mapping[str, str], id: str, place: str) -> AirCode:
    """The air code in such texts.

    Raises:
        KnowledgeBaseError: If they are damaged, or it is not the one of that hash.
    """
    try:
        air_code = AirCode(**load(base64.b64decode("".join(pieces[name] for name in sorted(pieces)))))
    except (ValueError, TypeError, SafetensorError, KnowledgeBaseError) as error:
        raise KnowledgeBaseError(f"{place}: its air code is damaged ({error}); copy the base anew") from None
    if air_code.id != id:
        raise KnowledgeBaseError(f"{place}: its air code is damaged (SHA-256 differs); copy the base anew")
    return air_code
