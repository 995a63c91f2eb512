"""Calibration of soft repair: tau and the threshold, from pictures whose labels are known.

The codes of the calibration pictures are sent over a simulated channel (BPSK over AWGN) and repaired with several
values of tau. The value that finds the right label most often is taken. The threshold maximises Youden's index: the
share of right answers that are trusted, minus the share of wrong answers that are (Youden, "Index for rating diagnostic
tests", 1950).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge.air_code import Codes
from crlsc_phy.knowledge.base import check_codes
from crlsc_phy.knowledge.local import KnowledgeBase
from crlsc_phy.knowledge.repair import Repairer

__all__ = ["Calibration", "calibrate", "noisy_llrs"]

_PARTS = tuple(2.0 ** (step / 2) for step in range(-3, 5))
"""Values of tau to try, relative to the present one of the base."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Result of a calibration.

    Attributes:
        tau: Width of the soft rule, in units of the vectors.
        threshold: Log-likelihood ratio, in nats, from which an entry is trusted.
        right: Share of the labelled pictures that got the right label, 0 to 1.
        believed: Share of all pictures whose entry is trusted, 0 to 1.
        wrong: Share of the trusted entries that are wrong, 0 to 1.
    """

    tau: float
    threshold: float
    right: float
    believed: float
    wrong: float

    def summary(self, ber: float = 0.05) -> str:
        """Return the result in words; ``ber`` is the bit error rate that it was found at."""
        return (
            f"tau {self.tau:g}, threshold {self.threshold:g} nats; at {100 * ber:g} % bit errors names "
            f"{self.right:.1%} of the calibration pictures, believes {self.believed:.1%}, wrong {self.wrong:.1%}"
        )


def noisy_llrs(codes: Codes, ber: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return the LLRs of codes sent as BPSK over AWGN.

    Args:
        codes: uint8 [N, M].
        ber: Bit error rate of hard decisions, above 0 and below 0.5.
        rng: Source of the noise.

    Returns:
        LLRs log p(1)/p(0), most significant bit first, float32 [N, 8 M].
    """
    signs = 2.0 * np.unpackbits(codes, axis=1) - 1
    sigma = 1 / norm.isf(ber)
    return np.asarray(2 * (signs + sigma * rng.standard_normal(signs.shape)) / sigma**2, np.float32)


def calibrate(
    base: KnowledgeBase, codes: Codes, labels: Sequence[str], *, ber: float = 0.05, seed: int = 0
) -> Calibration:
    """Find tau and the threshold for a base. The base is not changed; pass the result to its ``configure``.

    Args:
        base: Knowledge base with entries.
        codes: Codes of pictures that the base was not made of, uint8 [N, M].
        labels: Label of each picture. An entry with this label is right. An empty label marks a picture of something
            that the base does not hold; every entry is then wrong.
        ber: Bit error rate of the channel, above 0 and below 0.5.
        seed: Seed of the noise.

    Raises:
        KnowledgeBaseError: If the base is empty, the numbers of codes and labels differ, or the base has none of the
            labels.
    """
    if not len(base):
        raise KnowledgeBaseError(f"{base.path}: is empty, so it cannot be calibrated")
    if not 0 < ber < 0.5:
        raise KnowledgeBaseError(f"the bit error rate is {ber:g}; it must be above 0 and below 0.5")
    check_codes(codes, len(labels), base.air_code.size)
    known = np.array([entry.label for entry in base.entries])
    asked = np.array(labels)
    in_base = np.isin(asked, known) & (asked != "")
    if not in_base.any():
        raise KnowledgeBaseError("no calibration picture has a label of the knowledge base")
    llrs = noisy_llrs(codes, ber, np.random.default_rng(seed))
    tried = []
    for part in _PARTS:
        found = Repairer(base.air_code, base.codes, part * base.tau).find(llrs)
        tried.append((part * base.tau, in_base & (known[found.rows] == asked), found.ratios))
    tau, good, ratios = max(tried, key=lambda one: int(one[1].sum()))
    order = np.argsort(-ratios, kind="stable")
    # If all are right, all are trusted.
    gain = np.cumsum(good[order]) / max(good.sum(), 1) - np.cumsum(~good[order]) / max((~good).sum(), 1)
    # An entry that is less likely than an unknown code is not trusted, however often it would be right.
    threshold = max(float(ratios[order[int(np.argmax(gain))]]), 0.0)
    believed = ratios >= threshold
    return Calibration(
        tau=round(tau, 6),
        threshold=np.floor(1000 * threshold) / 1000,
        right=float(good[in_base].mean()),
        believed=float(believed.mean()),
        wrong=float((~good[believed]).mean()) if believed.any() else 0.0,
    )
