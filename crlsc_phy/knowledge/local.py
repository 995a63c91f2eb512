"""A knowledge base as a folder of plain files.

    manifest.json           what it is, and the SHA-256 of each file; the hash of the manifest is the base's id
    air_code.safetensors    the quantiser that the codes were made with
    codes.npy               uint8 [N, M], one air code an entry
    entries.json            name, label, source and licence of each

A base is written once, whole, and is never changed in place.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.files import ManifestError, read_manifest, write_manifest
from crlsc_phy.knowledge.air_code import AirCode

__all__ = ["Entry", "Hit", "KnowledgeBase"]

FORMAT = 1
FILES = ("air_code.safetensors", "codes.npy", "entries.json")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one vector.

    Attributes:
        name: Unique in the base, such as ``google/1f600``.
        label: What it shows; entries may share it.
        source: Where it comes from.
        licence: SPDX identifier of what it was made from.
    """

    name: str
    label: str
    source: str
    licence: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search: an entry and its cosine with the query."""

    name: str
    label: str
    score: float


class KnowledgeBase:
    """Named air codes, searched by the vectors that they decode to.

    Args:
        air_code: The quantiser that the codes were made with.
        codes: uint8 [N, M].
        entries: One a code.
        id: SHA-256 of the manifest in hex.
    """

    def __init__(self, air_code: AirCode, codes: npt.NDArray[np.uint8], entries: Sequence[Entry], id: str) -> None:
        self.air_code, self.codes, self.entries, self.id = air_code, codes, tuple(entries), id
        vectors = air_code.decode(codes)
        # Decoded vectors are not of unit norm; without this, long ones would win every search.
        faiss.normalize_L2(vectors)
        self._index = faiss.IndexFlatIP(air_code.dim)
        self._index.add(vectors)

    def __len__(self) -> int:
        return len(self.entries)

    @classmethod
    def open(cls, path: str | Path) -> KnowledgeBase:
        """Open the base in folder ``path``, checking the hash of every file.

        Raises:
            KnowledgeBaseError: If a file is missing or damaged, or its format is newer.
        """
        folder = Path(path)
        try:
            manifest, identity = read_manifest(folder, FORMAT)
        except ManifestError as error:
            raise KnowledgeBaseError(f"knowledge base {error}") from None
        absent = [name for name in FILES if name not in manifest["files"]]
        if absent:
            raise KnowledgeBaseError(f"knowledge base {folder}: manifest lacks {', '.join(absent)}")
        air_code = AirCode.load(folder / "air_code.safetensors")
        codes = np.load(folder / "codes.npy", allow_pickle=False)
        entries = [Entry(**entry) for entry in json.loads((folder / "entries.json").read_text(encoding="utf-8"))]
        if codes.dtype != np.uint8 or codes.shape != (len(entries), air_code.size):
            raise KnowledgeBaseError(
                f"{folder}: codes are {codes.dtype} {list(codes.shape)}; {len(entries)} entries need "
                f"uint8 [{len(entries)}, {air_code.size}]"
            )
        return cls(air_code, codes, entries, identity)

    @classmethod
    def create(
        cls, path: str | Path, air_code: AirCode, vectors: npt.NDArray[np.float32], entries: Sequence[Entry]
    ) -> KnowledgeBase:
        """Encode ``vectors`` float32 [N, D] and write a base to the new folder ``path``.

        Raises:
            KnowledgeBaseError: If the folder exists, the sizes differ, or two entries share a name.
        """
        folder = Path(path)
        if folder.exists():
            raise KnowledgeBaseError(f"{folder}: exists already; a knowledge base is never changed in place")
        if len(vectors) != len(entries):
            raise KnowledgeBaseError(f"{len(vectors)} vectors for {len(entries)} entries")
        if len({entry.name for entry in entries}) != len(entries):
            raise KnowledgeBaseError("two entries share a name")
        codes = air_code.encode(vectors)
        aside = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        air_code.save(aside / "air_code.safetensors")
        np.save(aside / "codes.npy", codes, allow_pickle=False)
        (aside / "entries.json").write_text(
            json.dumps([asdict(entry) for entry in entries], indent=0), encoding="utf-8"
        )
        write_manifest(aside, FORMAT, {"code_bytes": air_code.size, "entries": len(entries)})
        aside.rename(folder)
        return cls.open(folder)

    def search(self, vectors: npt.NDArray[np.float32], k: int) -> list[list[Hit]]:
        """The ``k`` nearest entries of each of ``vectors`` float32 [N, D] by cosine, best first.

        Raises:
            KnowledgeBaseError: If the vectors have another size.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.air_code.dim:
            raise KnowledgeBaseError(f"vectors are {list(vectors.shape)}; this base takes [N, {self.air_code.dim}]")
        queries = np.array(vectors, np.float32)
        faiss.normalize_L2(queries)
        scores, indices = self._index.search(queries, min(k, len(self)))
        return [
            [Hit(self.entries[i].name, self.entries[i].label, float(s)) for s, i in zip(row, index, strict=True)]
            for row, index in zip(scores, indices, strict=True)
        ]
