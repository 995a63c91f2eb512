"""Copies of knowledge bases between folders and Milvus: codes bit for bit, nothing is encoded anew.

A copy can be stopped and started again. It is not seen before it is whole: in Milvus it cannot be opened, and a folder
grows beside its place and is renamed. Then it has been read back and compared.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.files import sync
from crlsc_phy.knowledge.base import Batch
from crlsc_phy.knowledge.folder import StoreFolder, storing
from crlsc_phy.knowledge.local import KnowledgeBase
from crlsc_phy.knowledge.milvus import MilvusKnowledgeBase

__all__ = ["AnyBase", "migrate", "milvus_place", "open_base"]

AnyBase = KnowledgeBase | MilvusKnowledgeBase

_PREFIX = "milvus:"
# Each addition to a folder is a generation; to Milvus it takes two writes of the state.
_A_SHARD = 16_384
_AN_ADDITION = 2_048


def milvus_place(place: str | Path) -> tuple[str, str] | None:
    """URI and collection of ``milvus:URI#COLLECTION``, None for a folder.

    Raises:
        KnowledgeBaseError: If one of the two is missing.
    """
    text = str(place)
    if not text.startswith(_PREFIX):
        return None
    uri, _, collection = text.removeprefix(_PREFIX).rpartition("#")
    if not uri or not collection:
        raise KnowledgeBaseError(
            f"{text}: is no base; say milvus:URI#COLLECTION, as in milvus:http://localhost:19530#pictures"
        )
    return uri, collection


def open_base(place: str | Path, *, token: str = "", timeout: float = 10.0) -> AnyBase:
    """Open a base.

    Args:
        place: A folder, or ``milvus:URI#COLLECTION``.
        token: For Milvus, ``user:password`` or a key.
        timeout: For Milvus, of each request in seconds.

    Raises:
        KnowledgeBaseError: If there is none, or it is damaged.
    """
    milvus = milvus_place(place)
    return MilvusKnowledgeBase.open(*milvus, token=token, timeout=timeout) if milvus else KnowledgeBase.open(place)


def migrate(
    source: AnyBase,
    target: str | Path,
    *,
    index: str = "",
    token: str = "",
    timeout: float = 10.0,
    progress: Callable[[int], None] | None = None,
) -> AnyBase:
    """Copy a base; started again it goes on where it was stopped.

    Codes and all that is known of the entries stay as they are. Kept vectors are rounded to int8 in a folder.

    Args:
        source: What to copy. One in a folder is copied as it was opened.
        target: The new base: a folder, or ``milvus:URI#COLLECTION``.
        index: Search index of the copy in its own words; chosen by default.
        token: For Milvus, ``user:password`` or a key.
        timeout: For Milvus, of each request in seconds.
        progress: Told how many entries were copied more, then how many were compared more.

    Returns:
        The copy, opened.

    Raises:
        KnowledgeBaseError: If there is a base already, an entry is larger than Milvus keeps, the source was written to
            meanwhile, or the copy is not like it; the target is then not there, or cannot be opened.
    """
    tell = progress or _quiet
    milvus = milvus_place(target)
    if milvus is None:
        return _to_folder(source, Path(target), index, tell)
    return _to_milvus(source, milvus, index, token, timeout, tell)


def _to_milvus(
    source: AnyBase, place: tuple[str, str], index: str, token: str, timeout: float, tell: Callable[[int], None]
) -> MilvusKnowledgeBase:
    empty = np.empty((0, source.air_code.dim), np.float32)
    copy = MilvusKnowledgeBase.create(
        *place,
        source.air_code,
        empty,
        [],
        index=index,
        filled_from=source.id,
        token=token,
        timeout=timeout,
        **_settings(source),
    )
    wanted = _fill(copy, _batches(source, _AN_ADDITION), tell)
    copy.flush()
    _compare(source, wanted, copy, copy.place, tell)
    copy.finish()
    return copy


def _to_folder(source: AnyBase, path: Path, index: str, tell: Callable[[int], None]) -> KnowledgeBase:
    if StoreFolder(path).exists():
        raise KnowledgeBaseError(f"{path}: there is a knowledge base already; choose another folder")
    # The name says which state of the source it is filled from; what is left of another is worth nothing.
    prefix = f".{hashlib.sha256(path.name.encode(errors='surrogateescape')).hexdigest()[:16]}.from-"
    aside = path.with_name(prefix + source.id[:16])
    with storing(path):
        for left in path.parent.glob(f"{prefix}*"):
            if left != aside:
                shutil.rmtree(left)
    batches = _batches(source, _A_SHARD)
    if StoreFolder(aside).exists():
        copy = KnowledgeBase.open(aside)
    else:
        # The largest number of its vectors sets the scale of all.
        first = next(batches, _empty(source))
        copy = KnowledgeBase.create(
            aside, source.air_code, first.vectors, first.entries, codes=first.codes, index=index, **_settings(source)
        )
        batches = chain([first], batches)
    wanted = _fill(copy, batches, tell)
    _compare(source, wanted, copy, str(path), tell)
    with storing(path):
        aside.rename(path)
        sync(path.parent)
    return KnowledgeBase.open(path)


def _fill(copy: AnyBase, batches: Iterator[Batch], tell: Callable[[int], None]) -> int:
    """Add to a copy what it lacks; returns the digest of all of it."""
    digest = 0
    for batch in batches:
        digest += _digest(batch)
        there = copy.known([entry.name for entry in batch.entries])
        fresh = [place for place, entry in enumerate(batch.entries) if entry.name not in there]
        copy.add(batch.vectors[fresh], [batch.entries[place] for place in fresh], codes=batch.codes[fresh])
        tell(len(batch.entries))
    return digest


def _compare(source: AnyBase, wanted: int, copy: AnyBase, place: str, tell: Callable[[int], None]) -> None:
    """Read a copy back.

    Raises:
        KnowledgeBaseError: If it is not like its source.
    """
    if isinstance(source, MilvusKnowledgeBase) and source.refresh():
        raise KnowledgeBaseError(f"{source.place}: was written to while it was copied; copy it again")
    found = 0
    for batch in _batches(copy, _A_SHARD):
        found += _digest(batch)
        tell(len(batch.entries))
    if found != wanted or len(copy) != len(source):
        raise KnowledgeBaseError(f"{place}: is not like what was copied; delete it and copy again")


def _digest(batch: Batch) -> int:
    """A sum over entries and their codes that does not depend on their order."""
    records = (repr((code.tobytes(), *astuple(entry))) for code, entry in zip(batch.codes, batch.entries, strict=True))
    return sum(int.from_bytes(hashlib.sha256(record.encode()).digest(), "big") for record in records)


def _batches(base: AnyBase, size: int) -> Iterator[Batch]:
    if isinstance(base, KnowledgeBase):
        return base.batches(size)
    return _gathered(base.batches(), size)


def _gathered(batches: Iterator[Batch], size: int) -> Iterator[Batch]:
    """Small batches as larger ones."""
    held: list[Batch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += len(batch.entries)
        if count >= size:
            yield _joined(held)
            held, count = [], 0
    if held:
        yield _joined(held)


def _joined(batches: Sequence[Batch]) -> Batch:
    return Batch(
        np.concatenate([batch.codes for batch in batches]),
        [entry for batch in batches for entry in batch.entries],
        np.concatenate([batch.vectors for batch in batches]),
    )


def _empty(base: AnyBase) -> Batch:
    code = base.air_code
    return Batch(np.empty((0, code.size), np.uint8), [], np.empty((0, code.dim), np.float32))


def _settings(base: AnyBase) -> dict[str, Any]:
    """What a copy says of itself, as its source does."""
    said: Any = base.manifest if isinstance(base, KnowledgeBase) else base.state
    kept = bool(said.vector_scale) if isinstance(base, KnowledgeBase) else said.keep_vectors
    settings = {name: getattr(said, name) for name in ("name", "aligned_to", "tau", "threshold")}
    return settings | {"keep_vectors": kept}


def _quiet(_: int) -> None:
    pass
