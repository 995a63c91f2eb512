"""How a knowledge base lies on disk: immutable generations, and a pointer to the current one.

    current                  name of the current generation
    000001/manifest.json     what the base holds: its shards, and size and SHA-256 of each of their files
    000001/air_code.safetensors, codes.npy, entries.sqlite, vectors.npy
    000002/manifest.json     a later generation adds a shard, or removed.npy, or all anew,
    000002/...               and names the files of earlier ones that it still needs
    cache/                   search indexes, and what was hashed; may be deleted
    lock                     held by the one writer

A generation is written aside, synced to the disk and renamed, then the pointer is replaced. A reader needs no lock:
what it has open never changes. Whatever is killed, and when, the pointer names a whole generation; what a killed writer
left is swept away by the next.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.files import sha256_of, sync, write_text
from crlsc_phy.manifest import MANIFEST

__all__ = ["CACHE", "CURRENT", "FORMAT", "FileFact", "Manifest", "Shard", "StoreFolder"]

FORMAT = 2
CURRENT, CACHE, LOCK = "current", "cache", "lock"
LARGEST_MANIFEST = 16 << 20
MOST_ENTRIES = 1 << 31
_MOST = 1e30
# Larger files are hashed once and then known by size and time of change.
_HASHED_EACH_TIME = 8 << 20
_NAME = re.compile(r"[0-9]{6,9}")
_FILE = re.compile(r"[0-9]{6,9}/[a-z_]{1,32}\.(?:npy|safetensors|sqlite)")
_HASH = re.compile(r"[0-9a-f]{64}")
_KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "str": (str,), "float": (int, float)}


@dataclass(frozen=True, slots=True)
class FileFact:
    """Size in bytes and SHA-256 in hex of a file."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Shard:
    """Entries that were added together: their folder, and how many there are, removed ones included."""

    folder: str
    entries: int


@dataclass(frozen=True)
class Manifest:
    """What a generation holds.

    Attributes:
        number: Of the generation, from 1.
        name: Of the base, as hits show it.
        air_code: Hash of the air code.
        air_code_file: Where the air code is.
        code_bytes, dim: Sizes of codes and vectors.
        entries: Live entries.
        shards: In the order of their entries.
        removed: File with the removed rows, int64, counted through all shards; empty if there are none.
        vector_scale: What kept vectors were multiplied with before they were rounded to int8; 0 if none are kept.
        aligned_to: Id of the air code's shared base that a private one goes with; empty for a shared one.
        index: Specification of the search index; empty to choose by size.
        tau, threshold: Of soft repair, see :mod:`crlsc_phy.knowledge.repair`; 0 if not calibrated.
        files: All files of the generation by their place below the base's folder.
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

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        return json.dumps({"format": FORMAT} | asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def parse(cls, raw: bytes, place: str) -> Manifest:
        """Read and check a manifest; nothing in it is trusted.

        Raises:
            KnowledgeBaseError: If it is damaged, newer, or names files that no knowledge base has.
        """
        try:
            content = json.loads(raw)
            found = content.pop("format")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise KnowledgeBaseError(f"{place}: {MANIFEST} is damaged") from None
        if found != FORMAT:
            other = "update crlsc-phy" if isinstance(found, int) and found > FORMAT else "build it again"
            raise KnowledgeBaseError(f"{place}: has format {found}, this program reads {FORMAT}; {other}")
        try:
            manifest = cls(
                **content
                | {
                    "shards": tuple(Shard(**shard) for shard in content["shards"]),
                    "files": {name: FileFact(**fact) for name, fact in content["files"].items()},
                }
            )
            manifest._check()
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            # Names in it may hold line breaks.
            reason = " ".join(str(error).split())[:500]
            raise KnowledgeBaseError(f"{place}: {MANIFEST} is damaged ({reason})") from None
        return manifest

    def _check(self) -> None:
        for one in fields(self):
            value, default = getattr(self, one.name), one.default
            kind = _KINDS.get(str(one.type))
            if kind and (not isinstance(value, kind) or isinstance(value, bool)):
                raise ValueError(f"{one.name} is {value!r}, not like {default!r}")
            # An int of any size is a number to JSON too; comparing to NaN is False.
            if one.type == "float" and not (0 if one.name != "threshold" else -_MOST) <= value <= _MOST:
                raise ValueError(f"{one.name} is {value!r:.40}")
        rows = 0
        for shard in self.shards:
            if not _NAME.fullmatch(shard.folder) or type(shard.entries) is not int:
                raise ValueError(f"no such shard: {shard}")
            if not 0 <= shard.entries <= MOST_ENTRIES:
                raise ValueError(f"no shard has {shard.entries} entries")
            rows += shard.entries
        if len({shard.folder for shard in self.shards}) < len(self.shards):
            raise ValueError("a shard is named twice")
        if not (0 <= self.entries <= rows <= MOST_ENTRIES and 1 <= self.code_bytes <= 64 and 1 <= self.dim <= 1 << 16):
            raise ValueError(f"{self.entries} entries of {rows} rows, {self.code_bytes} bytes, {self.dim} numbers")
        if not 1 <= self.number < 10**9 or not _HASH.fullmatch(self.air_code):
            raise ValueError("number or hash of the air code is none")
        for name, fact in self.files.items():
            # Also keeps paths inside the folder.
            if not _FILE.fullmatch(name):
                raise ValueError(f"{name!r} is no file of a knowledge base")
            if not isinstance(fact.size, int) or fact.size < 0 or not _HASH.fullmatch(fact.sha256):
                raise ValueError(f"size or hash of {name} is none")
        for name, size in self.expected().items():
            if name not in self.files:
                raise ValueError(f"{name} is not among its files")
            if size is not None and not size <= self.files[name].size <= size + 4096:
                raise ValueError(f"{name} has {self.files[name].size} bytes, its content {size}")

    def expected(self) -> dict[str, int | None]:
        """The files that a generation must have, and how many bytes their arrays take, None where that is open."""
        expected: dict[str, int | None] = {self.air_code_file: None}
        for shard in self.shards:
            expected[f"{shard.folder}/codes.npy"] = shard.entries * self.code_bytes
            expected[f"{shard.folder}/entries.sqlite"] = None
            if self.vector_scale:
                expected[f"{shard.folder}/vectors.npy"] = shard.entries * self.dim
        if self.removed:
            expected[self.removed] = None
        return expected


def folder_name(number: int) -> str:
    """Name of a generation's folder."""
    return f"{number:06d}"


class StoreFolder:
    """The folder of one knowledge base.

    Args:
        path: Where it is, or is to be.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def exists(self) -> bool:
        """Whether there is a knowledge base."""
        return (self.path / CURRENT).exists()

    def current(self) -> str:
        """Name of the current generation.

        Raises:
            KnowledgeBaseError: If there is no knowledge base, or the pointer is damaged.
        """
        try:
            with (self.path / CURRENT).open("rb") as file:
                name = file.read(32).decode("ascii", "replace").strip()
        except OSError:
            old = (self.path / MANIFEST).exists()
            hint = "; it has the form of an earlier version, build it again" if old else ""
            raise KnowledgeBaseError(f"{self.path}: holds no knowledge base{hint}") from None
        if not _NAME.fullmatch(name):
            raise KnowledgeBaseError(f"{self.path}: {CURRENT} is damaged; run crlsc-kb verify --repair")
        return name

    def read(self, name: str | None = None) -> tuple[Manifest, str]:
        """Manifest of a generation, of the current one by default, and its SHA-256 in hex.

        Raises:
            KnowledgeBaseError: If it is missing or damaged.
        """
        name = name or self.current()
        path = self.path / name / MANIFEST
        try:
            with path.open("rb") as file:
                raw = file.read(LARGEST_MANIFEST + 1)
        except OSError:
            raise KnowledgeBaseError(f"{self.path}: {name}/{MANIFEST} is missing; fetch the base again") from None
        if len(raw) > LARGEST_MANIFEST:
            raise KnowledgeBaseError(f"{self.path}: {name}/{MANIFEST} is larger than any")
        manifest = Manifest.parse(raw, f"{self.path}/{name}")
        if manifest.folder != name:
            raise KnowledgeBaseError(f"{self.path}: {name} holds the manifest of {manifest.folder}")
        return manifest, hashlib.sha256(raw).hexdigest()

    def written(self) -> list[str]:
        """Names of the generations whose manifest is here, oldest first."""
        names = (path.parent.name for path in self.path.glob(f"*/{MANIFEST}"))
        return sorted((name for name in names if _NAME.fullmatch(name)), key=int)

    def generations(self) -> list[str]:
        """Those of :meth:`written` up to the current one."""
        newest = int(self.current())
        return [name for name in self.written() if int(name) <= newest]

    def check(self, manifest: Manifest, thorough: bool = False) -> None:
        """Check the files of a generation; see :meth:`faults`.

        Raises:
            KnowledgeBaseError: If one is missing or damaged.
        """
        for name, fault in self.faults(manifest, thorough).items():
            raise KnowledgeBaseError(f"{self.path}: {name} {fault}; fetch the base again")

    def faults(self, manifest: Manifest, thorough: bool = False) -> dict[str, str]:
        """What is wrong with the files of a generation, by their names; empty if nothing is.

        Args:
            manifest: Of the generation.
            thorough: Hash large files too that have not changed in size or time since they were hashed last.
        """
        seen = self._stamps()
        faults, stamps = {}, {}
        for name, fact in manifest.files.items():
            path = self.path / name
            try:
                status = path.stat()
            except OSError:
                faults[name] = "is missing"
                continue
            if status.st_size != fact.size:
                faults[name] = f"is damaged: it has {status.st_size} bytes, not {fact.size}"
                continue
            stamp = [status.st_size, status.st_mtime_ns, status.st_ino, fact.sha256]
            large = fact.size > _HASHED_EACH_TIME
            if (thorough or not large or seen.get(name) != stamp) and sha256_of(path) != fact.sha256:
                faults[name] = "is damaged (SHA-256 differs)"
            elif large:
                stamps[name] = stamp
        if stamps and stamps != seen:
            # Without it, as on a medium that cannot be written, the next opening hashes again.
            with suppress(OSError):
                (self.path / CACHE).mkdir(exist_ok=True)
                write_text(self.path / CACHE / "hashed.json", json.dumps(stamps, indent=1))
        return faults

    def _stamps(self) -> dict[str, Any]:
        try:
            stamps = json.loads((self.path / CACHE / "hashed.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stamps if isinstance(stamps, dict) else {}

    @contextmanager
    def writing(self, sweep: bool = True) -> Iterator[None]:
        """Hold the writer's lock; what a killed writer has left is swept away, unless told otherwise.

        Raises:
            KnowledgeBaseError: If another process writes, or the folder cannot be written.
        """
        with storing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / LOCK).open("a")
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise KnowledgeBaseError(f"{self.path}: another process is writing to it; try again later") from None
            with storing(self.path):
                if sweep:
                    self._sweep()
                yield
        finally:
            lock.close()

    def _sweep(self) -> None:
        newest = int(self.current()) if self.exists() else 0
        for path in self.path.iterdir():
            left = path.name.startswith(".new") or (_NAME.fullmatch(path.name) and int(path.name) > newest)
            if left and path.is_dir():
                shutil.rmtree(path)
            elif path.match(".*.part"):
                path.unlink()

    def publish(self, number: int, fill: Callable[[Path], Manifest]) -> str:
        """Write a generation and make it the current one; the caller holds the lock.

        Args:
            number: Of the generation.
            fill: Writes its files into a folder and returns the manifest, in ``files`` those of earlier generations
                alone.

        Returns:
            The id of the new generation.
        """
        aside = self.path / f".new-{os.getpid()}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            manifest = fill(aside)
            files = dict(manifest.files)
            for path in sorted(aside.iterdir()):
                sync(path)
                files[f"{folder_name(number)}/{path.name}"] = FileFact(path.stat().st_size, sha256_of(path))
            complete = replace(manifest, files=files)
            complete._check()
            text = complete.to_json()
            (aside / MANIFEST).write_text(text, encoding="utf-8")
            sync(aside / MANIFEST)
            sync(aside)
            aside.rename(self.path / folder_name(number))
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        sync(self.path)
        self.point_to(folder_name(number))
        return hashlib.sha256(text.encode()).hexdigest()

    def place(self, files: Mapping[str, Path]) -> None:
        """Move files to their places below the folder, from elsewhere on its disk; the caller holds the lock."""
        for name, source in files.items():
            sync(source)
            target = self.path / name
            target.parent.mkdir(exist_ok=True)
            source.replace(target)
        for folder in {name.split("/")[0] for name in files}:
            sync(self.path / folder)
        sync(self.path)

    def point_to(self, name: str) -> None:
        """Make a generation the current one."""
        write_text(self.path / CURRENT, f"{name}\n", durable=True)

    def prune(self, keep: int = 1) -> list[str]:
        """Delete generations older than the newest ``keep`` ones, but not the files that these need; names the folders.

        The caller holds the lock. What readers have open stays readable to them.
        """
        names = sorted((path.name for path in self.path.iterdir() if _NAME.fullmatch(path.name)), key=int)
        kept = [name for name in names if int(name) <= int(self.current())][-keep:]
        needed = set(kept)
        for name in kept:
            needed.update(file.split("/")[0] for file in self.read(name)[0].files)
        gone = [name for name in names if name not in needed]
        for name in gone:
            shutil.rmtree(self.path / name)
        return gone


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn what a disk refuses into one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise KnowledgeBaseError(f"{path}: the disk is full; nothing was changed") from None
        raise KnowledgeBaseError(f"{path}: cannot be written ({error.strerror or error})") from None
