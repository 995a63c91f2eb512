"""Several knowledge bases of one space, searched as one: a terminal's private base beside the shared one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge.air_code import Vectors
from crlsc_phy.knowledge.base import Hit, KnowledgeSource, Repair, Rule
from crlsc_phy.knowledge.local import KnowledgeBase

__all__ = ["joint_repair", "joint_search"]


def joint_search(bases: Sequence[KnowledgeSource], vectors: Vectors, k: int) -> list[list[Hit]]:
    """The nearest entries among several bases; each hit tells its base.

    Args:
        bases: With one air code.
        vectors: float32 [N, D].
        k: How many for each.

    Raises:
        KnowledgeBaseError: If the air codes differ, or the vectors do not fit.
    """
    _one_air_code(bases)
    found = [base.search(vectors, k) for base in bases if len(base)]
    together = ([hit for hits in row for hit in hits] for row in zip(*found, strict=True))
    return [sorted(hits, key=lambda hit: -hit.score)[:k] for hits in together]


def joint_repair(bases: Sequence[KnowledgeBase], received: npt.ArrayLike, rule: Rule | None = None) -> Repair:
    """Which entry of several bases was meant by a received code; see :meth:`KnowledgeBase.repair`."""
    _one_air_code(bases)
    found = [base.repair(received, rule) for base in bases if len(base)]
    if not found:
        raise KnowledgeBaseError("empty knowledge bases repair nothing")
    return min(found, key=lambda repair: (not repair.known, repair.distance))


def _one_air_code(bases: Sequence[KnowledgeSource]) -> None:
    codes = {base.air_code.id for base in bases}
    if len(codes) != 1:
        raise KnowledgeBaseError(
            f"the knowledge bases have {len(codes)} air codes; bases that are searched together must share one"
        )
