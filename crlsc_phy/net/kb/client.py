"""What a terminal does with a server's knowledge base: pull it into a folder, and publish entries to it.

A pull keeps what it has fetched in ``.pull`` in the folder of the base, goes on from there the next time, and moves it
to its place when all of it has been checked. Killed at any moment, it leaves the generation that was there before.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import KnowledgeBase, Merged
from crlsc_phy.knowledge.folder import FileFact, Manifest, StoreFolder
from crlsc_phy.knowledge.generation import Generation
from crlsc_phy.manifest import MANIFEST
from crlsc_phy.net.kb.connection import GoneError, Offer, Remote, printable
from crlsc_phy.net.kb.parcel import pack, split

__all__ = ["Progress", "Pulled", "publish", "pull"]

Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is to do."""

ASIDE = ".pull"
PULLED = "pulled"
"""In the folder of a generation that came from a server: nothing was added to it here."""
_ROUNDS = 20
"""Generations that may replace each other on the server while one is pulled."""
# For the manifest and what the file system needs itself.
_ROOM = 32 << 20


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull did.

    Attributes:
        id: Of the generation that is here now.
        generation: Its number.
        entries: In it.
        files: How many were fetched; 0 if all was here.
        received: Bytes of content that arrived for it.
    """

    id: str
    generation: int
    entries: int
    files: int
    received: int


def pull(url: str, path: str | Path, *, token: str | None = None, progress: Progress | None = None) -> Pulled:
    """Make the folder ``path`` a copy of a server's knowledge base, or bring such a copy up to date.

    Only files that are missing or damaged are fetched. Older generations that are no longer needed are deleted.

    Args:
        url: ``http://HOST:PORT/kb/NAME``, or without ``/kb/NAME`` where one base is served.
        path: The folder; it need not exist.
        token: What the server wants to be shown.
        progress: Called with the bytes that are here, and those that are needed.

    Raises:
        KnowledgeBaseError: If the server cannot be reached, refuses, or sends what does not fit; if the folder holds
            another base or entries of its own; or if the disk is full. The base is then as it was.
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
    """Add entries of a base to a server's by the rules of :meth:`KnowledgeBase.merge`; each keeps where it came from.

    Large selections go in parts. What arrived before an error stays; to publish again does no harm.

    Args:
        base: Where they are.
        url: As of :func:`pull`.
        names: Which entries; all by default.
        token: What the server wants to be shown.
        progress: Called with the entries that are sent, and all.

    Raises:
        KnowledgeBaseError: If there is no such entry, the air codes differ, or the server cannot be reached or refuses.
    """
    return asyncio.run(_publish(base, url, names, token, progress))


async def _pull(url: str, folder: StoreFolder, token: str | None, progress: Progress | None) -> Pulled:
    async with Remote(url, token) as remote:
        gone: tuple[Offer, str] | None = None
        for _ in range(_ROUNDS):
            offer = await remote.offer()
            if gone and gone[0] == offer:
                raise KnowledgeBaseError(f"{gone[1]}; have the server's base verified")
            here = _state(folder)
            if here and here[1] == offer.id and not folder.faults(here[0]):
                return Pulled(offer.id, here[0].number, here[0].entries, 0, remote.received)
            try:
                manifest, raw = await remote.manifest(offer)
                with folder.writing():
                    await _refuse_another(remote, folder, manifest, offer.id)
                    task = _Pull(remote, folder, manifest, raw, progress)
                    await task.fetch()
                    return task.adopt()
            except GoneError as error:
                gone = offer, str(error)
        raise KnowledgeBaseError(f"{remote.url}: changes faster than it can be pulled; try again later")


def _state(folder: StoreFolder) -> tuple[Manifest, str] | None:
    """What is in a folder; None if there is nothing, or what the server can replace."""
    if not folder.exists():
        return None
    name = folder.current()
    try:
        return folder.read(name)
    except KnowledgeBaseError:
        if (folder.path / name / PULLED).exists():
            return None
        raise


async def _refuse_another(remote: Remote, folder: StoreFolder, theirs: Manifest, their_id: str) -> None:
    """Refuse to overwrite what did not come from the server's base."""
    here = _state(folder)
    if here is None:
        return
    mine, my_id = here
    if mine.air_code != theirs.air_code:
        raise KnowledgeBaseError(
            f"{folder.path}: has the air code {mine.air_code[:8]}, {remote.url} has {theirs.air_code[:8]}; "
            "pull into another folder"
        )
    then = their_id if mine.number == theirs.number else await remote.id_of(mine.folder)
    # Where the server has compacted away what is here, it is known that it came from there and nothing was added.
    copied = (folder.path / mine.folder / PULLED).exists() and mine.name == theirs.name
    of_theirs = then == my_id or (then is None and copied and mine.number < theirs.number)
    # Files never change: other ones of the same name would break the generation that is here.
    if of_theirs and all(theirs.files.get(name, fact) == fact for name, fact in mine.files.items()):
        return
    raise KnowledgeBaseError(
        f"{folder.path}: its generation {mine.folder} is not one of {remote.url}; pull into another folder, "
        "and merge or publish what was added here"
    )


@dataclass
class _Pull:
    """A generation on its way into a folder whose lock is held."""

    remote: Remote
    folder: StoreFolder
    manifest: Manifest
    raw: bytes
    progress: Progress | None
    wanted: dict[str, FileFact] = field(init=False)

    def __post_init__(self) -> None:
        faults = self.folder.faults(self.manifest)
        self.wanted = {name: fact for name, fact in self.manifest.files.items() if name in faults}

    @property
    def _aside(self) -> Path:
        return self.folder.path / ASIDE

    def _part(self, name: str) -> Path:
        # The hash: what is left of another file of that name must not be taken for the beginning of this one.
        return self._aside / f"{name.replace('/', '-')}-{self.wanted[name].sha256[:16]}"

    async def fetch(self) -> None:
        """Fetch all that is missing."""
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

            await self.remote.fetch(name, fact, parts[name], tell)
            before += fact.size

    def adopt(self) -> Pulled:
        """Put what was fetched into its place and make it the current generation."""
        name = self.manifest.folder
        placed = {file: self._part(file) for file in self.wanted}
        for file, content in ((PULLED, self.remote.url.encode()), (MANIFEST, self.raw)):
            placed[f"{name}/{file}"] = self._aside / file
            placed[f"{name}/{file}"].write_bytes(content)
        self.folder.place(placed)
        manifest, identity = self.folder.read(name)
        self._try_out(manifest, identity)
        self.folder.point_to(name)
        self.folder.prune()
        shutil.rmtree(self._aside)
        return Pulled(identity, manifest.number, manifest.entries, len(self.wanted), self.remote.received)

    def _try_out(self, manifest: Manifest, identity: str) -> None:
        """Each file is what the server says; this shows whether they are what a base needs, and fit together."""
        try:
            Generation(self.folder, manifest, identity)
        except Exception as error:
            # Not KnowledgeBaseError alone: what is made to be wrong finds other ways.
            raise KnowledgeBaseError(
                f"{self.remote.url}: its generation {manifest.folder} does not open ({error}); have it verified there"
            ) from None


async def _publish(
    base: KnowledgeBase, url: str, names: Iterable[str] | None, token: str | None, progress: Progress | None
) -> Merged:
    async with Remote(url, token) as remote:
        offer = await remote.offer()
        parcel = base.parcel(names)
        if parcel.air_code != offer.air_code:
            raise KnowledgeBaseError(
                f"{base.path}: has the air code {parcel.air_code[:8]}, {remote.url} has {offer.air_code[:8]}; "
                "encode its images anew"
            )
        merged, sent = Merged(), 0
        for part in split(parcel, offer.keeps_vectors):
            answer = await remote.publish(pack(part))
            try:
                alike = tuple((printable(name), printable(there)) for name, there in answer["alike"])
                merged += Merged(int(answer["added"]), int(answer["duplicates"]), alike)
            except (LookupError, TypeError, ValueError):
                raise KnowledgeBaseError(f"{remote.url}: answers in a way that is not understood") from None
            sent += len(part)
            if progress:
                progress(sent, len(parcel))
        return merged
