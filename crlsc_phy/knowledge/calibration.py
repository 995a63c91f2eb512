"""Calibration of soft repair: tau and the threshold, from pictures whose meaning is known.

Each calibration picture's code is sent over a channel of bit errors (BPSK over AWGN) and repaired with many values of
tau; the one that names the most of them rightly is taken. The threshold is the likelihood ratio that tells right
answers from wrong ones best: the share of the right ones that are believed, less that of the wrong ones, is largest
(Youden 1950).
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
"""Values of tau that are tried, in parts of the base's present one."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a base was calibrated to.

    Attributes:
        tau: Of soft repair.
        threshold: Log-likelihood ratio from which an entry is believed.
        right: Share of the pictures with a label that were named rightly, 0 to 1.
        believed: Share of all pictures whose entry is believed.
        wrong: Share of these that are wrong.
    """

    tau: float
    threshold: float
    right: float
    believed: float
    wrong: float

    def summary(self, ber: float = 0.05) -> str:
        """It in words, for the bit error rate that it was found at."""
        return (
            f"tau {self.tau:g}, threshold {self.threshold:g} nats; at {100 * ber:g} % bit errors names "
            f"{self.right:.1%} of the calibration pictures, believes {self.believed:.1%}, wrong {self.wrong:.1%}"
        )


def noisy_llrs(codes: Codes, ber: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """LLRs float32 [N, 8 M] of codes uint8 [N, M] sent as BPSK over AWGN at a bit error rate, 0 < ``ber`` < 0.5."""
    signs = 2.0 * np.unpackbits(codes, axis=1) - 1
    sigma = 1 / norm.isf(ber)
    return np.asarray(2 * (signs + sigma * rng.standard_normal(signs.shape)) / sigma**2, np.float32)


def calibrate(
    base: KnowledgeBase,
    codes: Codes,
    labels: Sequence[str],
    *,
    ber: float = 0.05,
    seed: int = 0,
) -> Calibration:
    """Find tau and the threshold for a base; it is not changed, see :meth:`KnowledgeBase.configure`.

    Args:
        base: With entries.
        codes: uint8 [N, M], of pictures that are not what the base was made of.
        labels: What each shows; an answer is right if its entry has this label. Empty for what the base lacks, so that
            every answer is wrong.
        ber: Bit error rate of the codes, above 0 and below 0.5.
        seed: Of the noise.

    Raises:
        KnowledgeBaseError: If the base is empty, codes and labels do not fit, or no label is one of the base.
    """
    if not len(base):
        raise KnowledgeBaseError("an empty knowledge base repairs nothing")
    if not 0 < ber < 0.5:
        raise KnowledgeBaseError(f"a bit error rate of {ber:g} is not between 0 and 0.5")
    check_codes(codes, len(labels), base.air_code.size)
    known = np.array([entry.label for entry in base.entries])
    asked = np.array(labels)
    in_base = np.isin(asked, known) & (asked != "")
    if not in_base.any():
        raise KnowledgeBaseError("no calibration picture has a label that the knowledge base knows")
    llrs = noisy_llrs(codes, ber, np.random.default_rng(seed))
    best = None
    for part in _PARTS:
        found = Repairer(base.air_code, base.codes, part * base.tau).find(llrs)
        good = in_base & (known[found.rows] == asked)
        if best is None or good.sum() > best[1].sum():
            best = part * base.tau, good, found.ratios
    assert best is not None
    tau, good, ratios = best
    order = np.argsort(-ratios, kind="stable")
    # If all are right, all are believed.
    gain = np.cumsum(good[order]) / max(good.sum(), 1) - np.cumsum(~good[order]) / max((~good).sum(), 1)
    # Nothing is believed that is less likely than an unknown code, however often it would be right.
    threshold = max(float(ratios[order[int(np.argmax(gain))]]), 0.0)
    believed = ratios >= threshold
    return Calibration(
        tau=round(tau, 6),
        threshold=np.floor(1000 * threshold) / 1000,
        right=float(good[in_base].mean()),
        believed=float(believed.mean()),
        wrong=float((~good[believed]).mean()) if believed.any() else 0.0,
    )
