"""Manifest of a generation of a knowledge base: its settings, shards and files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.manifest import MANIFEST

__all__ = ["FORMAT", "FileFact", "Manifest", "Shard", "folder_name", "is_folder_name"]

FORMAT = 2
MOST_ENTRIES = 1 << 31
_MOST = 1e30
_NAME = re.compile(r"[0-9]{6,9}")
_FILE = re.compile(r"[0-9]{6,9}/[a-z_]{1,32}\.(?:npy|safetensors|sqlite)")
_HASH = re.compile(r"[0-9a-f]{64}")
_KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "str": (str,), "float": (int, float)}


def folder_name(number: int) -> str:
    """Return the name of the folder of a generation."""
    return f"{number:06d}"


def is_folder_name(name: str) -> bool:
    """Return whether ``name`` is that of a generation's folder."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class FileFact:
    """Size in bytes and SHA-256 in hex of a file."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Shard:
    """Entries that were added together: their folder and their number, removed ones included."""

    folder: str
    entries: int


@dataclass(frozen=True)
class Manifest:
    """Contents of a generation.

    Attributes:
        number: Number of the generation, from 1.
        name: Name of the base in search results.
        air_code: Hash of the air code.
        air_code_file: File of the air code.
        code_bytes: Bytes of an air code, M.
        dim: Size of a vector, D.
        entries: Number of live entries.
        shards: Shards in the order of their entries.
        removed: File with the removed rows, int64, counted through all shards; empty if there are none.
        vector_scale: Factor that stored vectors were multiplied by before they were rounded to int8; 0 if the base
            stores none.
        aligned_to: For a private base, the id of the shared base that it belongs to.
        index: Search index; empty to choose it by size.
        tau: Width of the soft rule of repair; 0 if it is not calibrated.
        threshold: Log-likelihood ratio, in nats, from which repair trusts an entry.
        files: All files of the generation, by their path below the folder of the base.
    """

    number: int
    name: str
    air_code: str
    air_code_file: str
    code_bytes: int
    dim: int
    entries: int
    shards: tuple[Shard, ...] = ()
    removed: str = ""
    vector_scale: float = 0.0
    aligned_to: str = ""
    index: str = ""
    tau: float = 0.0
    threshold: float = 0.0
    files: Mapping[str, FileFact] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Name of the generation's own folder."""
        return folder_name(self.number)

    @property
    def keep_vectors(self) -> bool:
        """True if the base stores vectors."""
        return self.vector_scale > 0

    def to_json(self) -> str:
        """Return the text of ``manifest.json``."""
        return json.dumps({"format": FORMAT} | asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def parse(cls, raw: bytes, place: str) -> Manifest:
        """Read ``manifest.json``, which may come from the untrusted machine at ``place``.

        Raises:
            KnowledgeBaseError: If it is damaged or newer, or names files that no knowledge base has.
        """
        try:
            content = json.loads(raw)
            found = content.pop("format")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise KnowledgeBaseError(f"{place}: {MANIFEST} is damaged; fetch the base again") from None
        if found != FORMAT:
            other = "update crlsc-phy" if isinstance(found, int) and found > FORMAT else "build it again"
            raise KnowledgeBaseError(f"{place}: has format {found}, but this program reads format {FORMAT}; {other}")
        try:
            manifest = cls(
                **content
                | {
                    "shards": tuple(Shard(**shard) for shard in content["shards"]),
                    "files": {name: FileFact(**fact) for name, fact in content["files"].items()},
                }
            )
            manifest.check()
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            # Names in it may hold line breaks.
            reason = " ".join(str(error).split())[:500]
            raise KnowledgeBaseError(f"{place}: {MANIFEST} is damaged ({reason}); fetch the base again") from None
        return manifest

    def check(self) -> None:
        """Raise a ValueError if a type, a range or a name is wrong."""
        self._check_fields()
        rows = self._check_shards()
        if not (0 <= self.entries <= rows <= MOST_ENTRIES and 1 <= self.code_bytes <= 64 and 1 <= self.dim <= 1 << 16):
            raise ValueError(
                f"entries is {self.entries} of {rows} rows, code_bytes {self.code_bytes}, dim {self.dim}; "
                "one is out of range"
            )
        if not 1 <= self.number < 10**9:
            raise ValueError(f"number is {self.number}; it must be 1 to 999,999,999")
        if not _HASH.fullmatch(self.air_code):
            raise ValueError("air_code is not a SHA-256 in hex")
        for name, fact in self.files.items():
            # Also keeps paths inside the folder.
            if not _FILE.fullmatch(name):
                raise ValueError(f"{name!r} is not a file of a knowledge base")
            if not isinstance(fact.size, int) or fact.size < 0 or not _HASH.fullmatch(fact.sha256):
                raise ValueError(f"size or hash of {name} is not valid")
        for name, size in self.expected().items():
            if name not in self.files:
                raise ValueError(f"{name} is missing in files")
            if size is not None and not size <= self.files[name].size <= size + 4096:
                raise ValueError(f"{name} has {self.files[name].size} bytes, but its array takes {size}")

    def _check_fields(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            kind = _KINDS.get(str(one.type))
            if kind and (not isinstance(value, kind) or isinstance(value, bool)):
                raise ValueError(f"{one.name} is {value!r:.40}; its type must be {one.type}")
            # An int of any size is a number to JSON too; comparing to NaN is False.
            if one.type == "float" and not (0 if one.name != "threshold" else -_MOST) <= value <= _MOST:
                raise ValueError(f"{one.name} is {value!r:.40}, out of range")

    def _check_shards(self) -> int:
        """Check the shards, and return the number of their rows."""
        for shard in self.shards:
            if not is_folder_name(shard.folder) or type(shard.entries) is not int:
                raise ValueError(f"{shard} is not a valid shard")
            if not 0 <= shard.entries <= MOST_ENTRIES:
                raise ValueError(f"a shard has {shard.entries} entries, out of range")
        if not self.shards or len({shard.folder for shard in self.shards}) < len(self.shards):
            raise ValueError("there are no shards, or two have the same folder")
        return sum(shard.entries for shard in self.shards)

    def expected(self) -> dict[str, int | None]:
        """Return the files that a generation must have, and the bytes of their arrays; None if the size is open."""
        expected: dict[str, int | None] = {self.air_code_file: None}
        for shard in self.shards:
            expected[f"{shard.folder}/codes.npy"] = shard.entries * self.code_bytes
            expected[f"{shard.folder}/entries.sqlite"] = None
            if self.vector_scale:
                expected[f"{shard.folder}/vectors.npy"] = shard.entries * self.dim
        if self.removed:
            expected[self.removed] = None
        return expected
