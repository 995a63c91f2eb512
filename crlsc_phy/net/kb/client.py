"""Client of a knowledge base server: pull a base into a folder, and publish entries to it.

A pull stores fetched files in ``.pull`` in the folder of the base, and an interrupted pull continues from there. When
all files have been checked they are moved into place. A pull that is killed leaves the previous generation as it was.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import KnowledgeBase, Merged
from crlsc_phy.knowledge.folder import StoreFolder
from crlsc_phy.knowledge.generation import Generation
from crlsc_phy.knowledge.manifest import FileFact, Manifest
from crlsc_phy.manifest import MANIFEST
from crlsc_phy.net.kb.connection import Connection, GoneError, Offer, printable
from crlsc_phy.net.kb.parcel import pack, split

__all__ = ["Progress", "Pulled", "publish", "pull"]

Progress = Callable[[int, int], None]
"""Called with the amount done and the total amount."""

ASIDE = ".pull"
PULLED = "pulled"
"""File in the folder of a generation that came from a server, so nothing was added to it here."""
_ROUNDS = 20
"""Number of times that the server may publish another generation during a pull."""
# Bytes for the manifest and for the file system itself.
_ROOM = 32 << 20


@dataclass(frozen=True, slots=True)
class Pulled:
    """Result of a pull.

    Attributes:
        id: Id of the generation that is now in the folder.
        generation: Its number.
        entries: Its number of entries.
        files: Number of files fetched; 0 if the folder was up to date.
        received: Bytes of content received.
    """

    id: str
    generation: int
    entries: int
    files: int
    received: int


def pull(url: str, path: str | Path, *, token: str | None = None, progress: Progress | None = None) -> Pulled:
    """Copy a knowledge base from a server into a folder, or bring such a copy up to date.

    Only missing or damaged files are fetched. Older generations that are no longer needed are deleted.

    Args:
        url: ``http://HOST:PORT/kb/NAME``; ``/kb/NAME`` may be left out if the server has only one base.
        path: Folder of the copy; it need not exist.
        token: Token of the server.
        progress: Called with the number of bytes fetched and the total.

    Raises:
        KnowledgeBaseError: If the server cannot be reached, refuses or sends wrong data; if the folder holds another
            base or entries of its own; or if the disk is full. The folder then stays as it was.
    """
    return asyncio.run(_pull(url, StoreFolder(path), token, progress))


def publish(
    base: KnowledgeBase,
    url: str,
    names: Iterable[str] | None = None,
    *,
    token: str | None = None,
    progress: Progress | None = None,
) -> Merged:
    """Add entries of a base to a base on a server, by the rules of :meth:`KnowledgeBase.merge`.

    Large selections are sent in parts. Parts that arrived before an error stay; publishing again does no harm.

    Args:
        base: Base that has the entries.
        url: See :func:`pull`.
        names: Names of the entries; all by default.
        token: Token of the server.
        progress: Called with the number of entries sent and the total.

    Raises:
        KnowledgeBaseError: If an entry does not exist, the air codes differ, or the server cannot be reached or
            refuses.
    """
    return asyncio.run(_publish(base, url, names, token, progress))


async def _pull(url: str, folder: StoreFolder, token: str | None, progress: Progress | None) -> Pulled:
    async with Connection(url, token) as connection:
        gone: tuple[Offer, str] | None = None
        for _ in range(_ROUNDS):
            offer = await connection.offer()
            if gone and gone[0] == offer:
                raise KnowledgeBaseError(f"{gone[1]}; verify the base on the server")
            here = _state(folder)
            if here and here[1] == offer.id and not folder.faults(here[0]):
                return Pulled(offer.id, here[0].number, here[0].entries, 0, connection.received)
            try:
                manifest, raw = await connection.manifest(offer)
                with folder.writing():
                    await _refuse_another(connection, folder, manifest, offer.id)
                    task = _Pull(connection, folder, manifest, raw, progress)
                    await task.fetch()
                    return task.adopt()
            except GoneError as error:
                gone = offer, str(error)
        raise KnowledgeBaseError(f"{connection.url}: changes faster than it can be pulled; try again later")


def _state(folder: StoreFolder) -> tuple[Manifest, str] | None:
    """Return manifest and id of the generation in a folder; None if there is none or a pull may replace it."""
    if not folder.exists():
        return None
    name = folder.current()
    try:
        return folder.read(name)
    except KnowledgeBaseError:
        if (folder.path / name / PULLED).exists():
            return None
        raise


async def _refuse_another(connection: Connection, folder: StoreFolder, theirs: Manifest, their_id: str) -> None:
    """Check that the folder holds nothing but an older state of the server's base."""
    here = _state(folder)
    if here is None:
        return
    mine, my_id = here
    if mine.air_code != theirs.air_code:
        raise KnowledgeBaseError(
            f"{folder.path}: has the air code {mine.air_code[:8]}, {connection.url} has {theirs.air_code[:8]}; "
            "pull into another folder"
        )
    then = their_id if mine.number == theirs.number else await connection.id_of(mine.folder)
    # The server may have deleted that generation in a compaction; the marker shows that it came from there.
    copied = (folder.path / mine.folder / PULLED).exists() and mine.name == theirs.name
    of_theirs = then == my_id or (then is None and copied and mine.number < theirs.number)
    # Files never change: others of the same name would damage the generation in the folder.
    if of_theirs and all(theirs.files.get(name, fact) == fact for name, fact in mine.files.items()):
        return
    raise KnowledgeBaseError(
        f"{folder.path}: its generation {mine.folder} is not one of {connection.url}; pull into another folder, "
        "and merge or publish what was added here"
    )


@dataclass
class _Pull:
    """Transfer of a generation into a folder whose lock is held."""

    connection: Connection
    folder: StoreFolder
    manifest: Manifest
    raw: bytes
    progress: Progress | None
    wanted: dict[str, FileFact] = field(init=False)

    def __post_init__(self) -> None:
        faults = self.folder.faults(self.manifest)
        self.wanted = {name: fact for name, fact in self.manifest.files.items() if name in faults}
        self._aside = self.folder.path / ASIDE

    def _part(self, name: str) -> Path:
        # With the hash, so that a part of another file with this name is not continued.
        return self._aside / f"{name.replace('/', '-')}-{self.wanted[name].sha256[:16]}"

    async def fetch(self) -> None:
        """Fetch all missing files."""
        self._aside.mkdir(exist_ok=True)
        parts = {name: self._part(name) for name in self.wanted}
        for left in set(self._aside.iterdir()) - set(parts.values()):
            left.unlink()
        total = sum(fact.size for fact in self.wanted.values())
        done = sum(part.stat().st_size for part in parts.values() if part.exists())
        free = shutil.disk_usage(self.folder.path).free
        needed = total - done + _ROOM
        if needed > free:
            raise KnowledgeBaseError(
                f"{self.folder.path}: {needed / 1e6:,.0f} MB are needed, the disk has {free / 1e6:,.0f} MB; make room"
            )
        before = 0
        for name, fact in self.wanted.items():

            def tell(have: int, before: int = before) -> None:
                if self.progress:
                    self.progress(before + have, total)

            await self.connection.fetch(name, fact, parts[name], tell)
            before += fact.size

    def adopt(self) -> Pulled:
        """Move the fetched files into place, and make the generation the current one."""
        name = self.manifest.folder
        placed = {file: self._part(file) for file in self.wanted}
        for file, content in ((PULLED, self.connection.url.encode()), (MANIFEST, self.raw)):
            placed[f"{name}/{file}"] = self._aside / file
            placed[f"{name}/{file}"].write_bytes(content)
        self.folder.place(placed)
        manifest, identity = self.folder.read(name)
        try:
            # The hashes of its files are right, but their contents may not be those of a base.
            Generation(self.folder, manifest, identity)
        except Exception as error:
            # Files made with bad intent may raise other exceptions than KnowledgeBaseError.
            raise KnowledgeBaseError(
                f"{self.connection.url}: its generation {name} cannot be opened ({error}); verify it there"
            ) from None
        self.folder.point_to(name)
        self.folder.prune()
        shutil.rmtree(self._aside)
        return Pulled(identity, manifest.number, manifest.entries, len(self.wanted), self.connection.received)


async def _publish(
    base: KnowledgeBase, url: str, names: Iterable[str] | None, token: str | None, progress: Progress | None
) -> Merged:
    async with Connection(url, token) as connection:
        offer = await connection.offer()
        parcel = base.parcel(names)
        if parcel.air_code != offer.air_code:
            raise KnowledgeBaseError(
                f"{base.path}: has the air code {parcel.air_code[:8]}, {connection.url} has {offer.air_code[:8]}; "
                "encode its images again"
            )
        merged, sent = Merged(), 0
        for part in split(parcel, offer.keeps_vectors):
            answer = await connection.publish(pack(part))
            try:
                alike = tuple((printable(name), printable(there)) for name, there in answer["alike"])
                merged += Merged(int(answer["added"]), int(answer["duplicates"]), alike)
            except (LookupError, TypeError, ValueError):
                raise KnowledgeBaseError(
                    f"{connection.url}: sends an invalid answer; check the address, or update crlsc-phy"
                ) from None
            sent += len(part)
            if progress:
                progress(sent, len(parcel))
        return merged
