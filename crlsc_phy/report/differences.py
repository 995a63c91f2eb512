"""Differences between two curves at an SNR, with their 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.quality.intervals import bootstrap, difference_interval
from crlsc_phy.report.measures import MEASURES
from crlsc_phy.report.results import Curve, LineResults

__all__ = ["FEWEST_PAIRS", "Difference", "Standing", "difference", "standings"]

FEWEST_PAIRS = 6
"""Fewest images for a test. With fewer, equal signs in all of them are too likely by chance: 2 * 0.5**5 > 0.05."""


@dataclass(frozen=True)
class Difference:
    """Difference of two estimates.

    Attributes:
        value: The difference; NaN if either estimate is unknown.
        low, high: Its 95 % interval; NaN if there are too few results for one.
        pairs: Number of images that both sent and that were compared one by one; 0 if the estimates are taken as
            independent.
    """

    value: float
    low: float
    high: float
    pairs: int = 0

    @property
    def tested(self) -> bool:
        """True if there is an interval, and from enough images."""
        return not math.isnan(self.low) and (not self.pairs or self.pairs >= FEWEST_PAIRS)

    @property
    def significant(self) -> bool:
        """True if the interval excludes 0."""
        return self.tested and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Standing:
    """The leading curves at one SNR.

    Attributes:
        snr_db: Es/N0 in dB.
        leaders: Names of the curves with the best value.
        own, other: Best curve of ours and best of the others; None if there is none.
        margin: Advantage of ours, negative where it is behind; None without curves of both kinds.
    """

    snr_db: float
    leaders: tuple[str, ...]
    own: Curve | None
    other: Curve | None
    margin: Difference | None

    @property
    def verdict(self) -> str:
        """``ahead`` or ``behind``, ``level`` if the interval includes 0, or empty without a margin.

        The verdict ends in ``, untested`` if it rests on values without an interval, or on too few images.
        """
        if self.margin is None:
            return ""
        direction = "level" if self.margin.value == 0 else "ahead" if self.margin.value > 0 else "behind"
        if not self.margin.tested:
            return f"{direction}, untested"
        return direction if self.margin.significant else "level"


def difference(one: Curve, other: Curve, snr_db: float, measure: str) -> Difference:
    """Return ``one - other`` at an SNR.

    Where both sent the same images they are compared image by image, which removes the spread between images.

    Args:
        one: A curve.
        other: The curve to subtract.
        snr_db: Es/N0 in dB.
        measure: A key of :data:`~crlsc_phy.report.measures.MEASURES`.
    """
    if MEASURES[measure].kind != "count" and isinstance(one, LineResults) and isinstance(other, LineResults):
        pairs = _pairs(one, other, snr_db, measure)
        if len(pairs) > 1:
            return Difference(float(pairs.mean()), *bootstrap(pairs), len(pairs))
    a, b = (curve.estimate(snr_db, measure) for curve in (one, other))
    ends = difference_interval((a.value, a.low, a.high), (b.value, b.low, b.high))
    return Difference(a.value - b.value, *ends)


def _pairs(one: LineResults, other: LineResults, snr_db: float, measure: str) -> NDArray[np.float64]:
    if snr_db not in one.points or snr_db not in other.points:
        return np.empty(0)
    a, b = (line.points[snr_db].by_image(measure) for line in (one, other))
    return np.array([np.mean(a[name]) - np.mean(b[name]) for name in a if name in b])


def standings(curves: Sequence[Curve], own: Mapping[str, bool], measure: str) -> list[Standing]:
    """Return the leading curves at each SNR at which two curves or more have a value.

    Args:
        curves: Curves over the same channel.
        own: True for the names of our curves, False for the others.
        measure: A measure of quality: one whose ``better`` is not empty.
    """
    higher = MEASURES[measure].better == "higher"
    found = []
    for snr_db in sorted({snr for curve in curves for snr in curve.snrs}):
        ranked = [curve for curve in curves if not math.isnan(curve.estimate(snr_db, measure).value)]
        ranked.sort(key=lambda curve: curve.estimate(snr_db, measure).value, reverse=higher)
        if len(ranked) < 2:
            continue
        best = ranked[0].estimate(snr_db, measure).value
        leaders = tuple(curve.curve for curve in ranked if curve.estimate(snr_db, measure).value == best)
        ours = next((curve for curve in ranked if own[curve.curve]), None)
        theirs = next((curve for curve in ranked if not own[curve.curve]), None)
        margin = None
        if ours and theirs:
            margin = difference(*((ours, theirs) if higher else (theirs, ours)), snr_db, measure)
        found.append(Standing(snr_db, leaders, ours, theirs, margin))
    return found
