"""Folder of a knowledge base: immutable generations, and a pointer to the current one.

    current                  name of the current generation
    000001/manifest.json     settings, shards, and size and SHA-256 of each file
    000001/air_code.safetensors, codes.npy, entries.sqlite, vectors.npy
    000002/manifest.json     a later generation adds a shard or removed.npy, or writes everything anew;
    000002/...               its manifest also lists the files of earlier ones that it still needs
    cache/                   search indexes, and the list of files already hashed; may be deleted
    lock                     held by the writer

A generation is written under a temporary name, synced to the disk and renamed. Then the pointer is replaced. Readers
need no lock, because the files they have open never change. If a writer is killed, the pointer still names a complete
generation, and the next writer removes what was left behind.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.files import sha256_of, sync, write_text
from crlsc_phy.knowledge.manifest import FileFact, Manifest, folder_name, is_folder_name
from crlsc_phy.manifest import MANIFEST

__all__ = ["CACHE", "CURRENT", "LARGEST_MANIFEST", "StoreFolder", "storing"]

CURRENT, CACHE, LOCK = "current", "cache", "lock"
LARGEST_MANIFEST = 16 << 20
# Larger files are hashed once, and then recognised by size and modification time.
_HASHED_EACH_TIME = 8 << 20


class StoreFolder:
    """Folder of one knowledge base; it need not exist yet."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def exists(self) -> bool:
        """Return whether the folder holds a knowledge base."""
        return (self.path / CURRENT).exists()

    def check_new(self) -> None:
        """Raise a :class:`KnowledgeBaseError` if the folder holds a knowledge base."""
        if self.exists():
            raise KnowledgeBaseError(
                f"{self.path}: there is a knowledge base already; add to it, or choose another folder"
            )

    def current(self) -> str:
        """Return the name of the current generation.

        Raises:
            KnowledgeBaseError: If there is no knowledge base, or the pointer is damaged.
        """
        try:
            with (self.path / CURRENT).open("rb") as file:
                name = file.read(32).decode("ascii", "replace").strip()
        except OSError:
            old = (self.path / MANIFEST).exists()
            hint = "; it has the format of an earlier version, build it again" if old else ""
            raise KnowledgeBaseError(f"{self.path}: holds no knowledge base{hint}") from None
        if not is_folder_name(name):
            raise KnowledgeBaseError(f"{self.path}: {CURRENT} is damaged; run crlsc-kb verify --repair")
        return name

    def read(self, name: str | None = None) -> tuple[Manifest, str]:
        """Return the manifest of a generation, by default the current one, and its SHA-256 in hex.

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
            raise KnowledgeBaseError(
                f"{self.path}: {name}/{MANIFEST} is damaged: it has more than {LARGEST_MANIFEST >> 20} MiB"
            )
        manifest = Manifest.parse(raw, f"{self.path}/{name}")
        if manifest.folder != name:
            raise KnowledgeBaseError(f"{self.path}: {name} holds the manifest of {manifest.folder}")
        return manifest, hashlib.sha256(raw).hexdigest()

    def written(self) -> list[str]:
        """Return the names of the generations that have a manifest here, oldest first."""
        names = (path.parent.name for path in self.path.glob(f"*/{MANIFEST}"))
        return sorted(filter(is_folder_name, names), key=int)

    def generations(self) -> list[str]:
        """Return the names of the generations up to the current one, oldest first."""
        newest = int(self.current())
        return [name for name in self.written() if int(name) <= newest]

    def check(self, manifest: Manifest, thorough: bool = False) -> None:
        """Raise a :class:`KnowledgeBaseError` for the first of the :meth:`faults` of a generation, if any."""
        for name, fault in self.faults(manifest, thorough).items():
            raise KnowledgeBaseError(f"{self.path}: {name} {fault}; fetch the base again")

    def faults(self, manifest: Manifest, thorough: bool = False) -> dict[str, str]:
        """Return the damage of each damaged file of a generation, by file name.

        Large files whose size and modification time have not changed are hashed only if the check is ``thorough``.
        """
        try:
            seen = json.loads((self.path / CACHE / "hashed.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            seen = None
        seen = seen if isinstance(seen, dict) else {}
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
            # On a read-only medium the files are hashed at every opening.
            with suppress(OSError):
                (self.path / CACHE).mkdir(exist_ok=True)
                write_text(self.path / CACHE / "hashed.json", json.dumps(stamps, indent=1))
        return faults

    @contextmanager
    def writing(self, sweep: bool = True) -> Iterator[None]:
        """Hold the writer's lock, and first remove what a killed writer left behind if ``sweep`` is true.

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
            left = path.name.startswith(".new") or (is_folder_name(path.name) and int(path.name) > newest)
            if left and path.is_dir():
                shutil.rmtree(path)
            elif path.match(".*.part"):
                path.unlink()

    def publish(self, number: int, fill: Callable[[Path], Manifest]) -> None:
        """Write a generation and make it the current one. The caller holds the lock.

        ``fill`` writes its files into a folder and returns the manifest, which lists the files of earlier generations
        only.
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
            complete.check()
            (aside / MANIFEST).write_text(complete.to_json(), encoding="utf-8")
            sync(aside / MANIFEST)
            sync(aside)
            aside.rename(self.path / folder_name(number))
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        sync(self.path)
        self.point_to(folder_name(number))

    def place(self, files: Mapping[str, Path]) -> None:
        """Move files from elsewhere on the same disk to their places below the folder. The caller holds the lock."""
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
        """Delete all but the newest ``keep`` generations and the files that these need; return the deleted folders.

        The caller holds the lock. Readers can go on reading the files that they have open.
        """
        names = sorted((path.name for path in self.path.iterdir() if is_folder_name(path.name)), key=int)
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
    """Turn errors of the file system into a :class:`KnowledgeBaseError` that names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise KnowledgeBaseError(f"{path}: the disk is full; nothing was changed") from None
        raise KnowledgeBaseError(f"{path}: cannot be written ({error.strerror or error})") from None
