"""Several knowledge bases of one space, taken as one: a terminal's private base beside the shared one."""

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
    """The nearest entries among several bases; each hit tells its base.

    Args:
        bases: With one air code.
        vectors: float32 [N, D].
        k: How many for each.

    Raises:
        KnowledgeBaseError: If the air codes differ, or the vectors do not fit.
    """
    check_one_air_code(bases)
    found = [base.search(vectors, k) for base in bases]
    together = ([hit for hits in row for hit in hits] for row in zip(*found, strict=True))
    return [sorted(hits, key=lambda hit: -hit.score)[:k] for hits in together]


def joint_repair(bases: Sequence[KnowledgeBase], received: npt.ArrayLike, rule: Rule | None = None) -> Repair:
    """Which entry of several bases was meant by a received code; see :meth:`KnowledgeBase.repair`."""
    check_one_air_code(bases)
    found = [base.repair(received, rule) for base in bases if len(base)]
    if not found:
        raise KnowledgeBaseError("empty knowledge bases repair nothing")
    return min(found, key=lambda repair: (not repair.known, repair.distance))


def joint_extrinsic(bases: Sequence[KnowledgeBase], llrs: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """What several bases add to what the LLRs of a code's bits say; see :func:`crlsc_phy.knowledge.repair.extrinsic`.

    Args:
        bases: With one air code; empty ones say nothing.
        llrs: log p(1)/p(0) of the code's bits, most significant first, float32 [8 M].

    Raises:
        KnowledgeBaseError: If the air codes differ, all bases are empty, or the LLRs do not fit or hold NaN.
    """
    check_one_air_code(bases)
    repairers = [base.repairer for base in bases if len(base)]
    if not repairers:
        raise KnowledgeBaseError("empty knowledge bases tell nothing of a code")
    return extrinsic(repairers, code_or_llrs(np.asarray(llrs, np.float32), bases[0].air_code.size)[0])


def check_one_air_code(bases: Sequence[KnowledgeSource]) -> None:
    """Make sure that bases go together.

    Raises:
        KnowledgeBaseError: If their air codes differ.
    """
    codes = {base.air_code.id for base in bases}
    if len(codes) != 1:
        raise KnowledgeBaseError(
            f"the knowledge bases have {len(codes)} air codes; bases that are searched together must share one"
        )
