"""Search and repair in several knowledge bases with one air code, such as a private base beside the shared one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge.air_code import Vectors
from crlsc_phy.knowledge.base import Hit, KnowledgeSource, Repair, Rule
from crlsc_phy.knowledge.local import KnowledgeBase
from crlsc_phy.knowledge.repair import code_or_llrs, extrinsic

__all__ = ["check_one_air_code", "joint_extrinsic", "joint_repair", "joint_search"]


def joint_search(bases: Sequence[KnowledgeSource], vectors: Vectors, k: int) -> list[list[Hit]]:
    """Find the nearest entries in several bases.

    Args:
        bases: Knowledge bases with the same air code.
        vectors: Queries, float32 [N, D].
        k: Number of results for each query.

    Returns:
        Up to ``k`` results for each query, best first. None if all bases are empty.

    Raises:
        KnowledgeBaseError: If the air codes differ, the vectors have another size, or ``k`` is below 1.
    """
    check_one_air_code(bases)
    found = [base.search(vectors, k) for base in bases]
    together = ([hit for hits in row for hit in hits] for row in zip(*found, strict=True))
    return [sorted(hits, key=lambda hit: -hit.score)[:k] for hits in together]


def joint_repair(bases: Sequence[KnowledgeBase], received: npt.ArrayLike, rule: Rule | None = None) -> Repair:
    """Find the entry of several bases that a received code was most likely sent for.

    Args:
        bases: Knowledge bases with the same air code.
        received: See :meth:`KnowledgeBase.repair`.
        rule: See :meth:`KnowledgeBase.repair`.

    Raises:
        KnowledgeBaseError: If the air codes differ, all bases are empty, or ``received`` has another size.
    """
    check_one_air_code(bases)
    found = [base.repair(received, rule) for base in bases if len(base)]
    if not found:
        raise KnowledgeBaseError("the knowledge bases are empty, so they cannot repair codes")
    return min(found, key=lambda repair: (not repair.known, repair.distance))


def joint_extrinsic(bases: Sequence[KnowledgeBase], llrs: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return the extrinsic information of several bases on the bits of a code, float32 [8 M].

    The bases have the same air code; empty ones are left out. ``llrs`` are log p(1)/p(0) of the bits, most significant
    bit first, float32 [8 M]; see :func:`crlsc_phy.knowledge.repair.extrinsic`.

    Raises:
        KnowledgeBaseError: If the air codes differ, all bases are empty, or the LLRs have another size or contain NaN.
    """
    check_one_air_code(bases)
    repairers = [base.repairer for base in bases if len(base)]
    if not repairers:
        raise KnowledgeBaseError("the knowledge bases are empty, so they have no information on a code")
    return extrinsic(repairers, code_or_llrs(np.asarray(llrs, np.float32), bases[0].air_code.size)[0])


def check_one_air_code(bases: Sequence[KnowledgeSource]) -> None:
    """Raise a :class:`KnowledgeBaseError` if the bases have different air codes."""
    codes = {base.air_code.id for base in bases}
    if len(codes) != 1:
        raise KnowledgeBaseError(
            f"the knowledge bases have {len(codes)} air codes; bases that are used together must have the same one"
        )
