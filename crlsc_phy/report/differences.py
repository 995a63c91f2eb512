"""Which of two curves is better at an SNR, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.quality.intervals import bootstrap, difference_interval
from crlsc_phy.report.measures import MEASURES
from crlsc_phy.report.results import UNKNOWN, Curve, Estimate, Line

__all__ = ["FEWEST_PAIRS", "Difference", "Standing", "difference", "standings"]

FEWEST_PAIRS = 6
"""With fewer images even a difference of the same sign in all of them happens by chance: 2 * 0.5**6 < 0.05."""


@dataclass(frozen=True)
class Difference:
    """How much larger one figure is than another.

    Attributes:
        value: NaN if either is unknown.
        low, high: Its 95 % interval; NaN if there is too little to say.
        pairs: Images that both sent and that were compared one by one; 0 if the two are taken as independent.
    """

    value: float
    low: float
    high: float
    pairs: int = 0

    @property
    def tested(self) -> bool:
        """Whether there is an interval, and of enough images."""
        return not math.isnan(self.low) and (not self.pairs or self.pairs >= FEWEST_PAIRS)

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.tested and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Standing:
    """Who leads at an SNR.

    Attributes:
        snr_db: Es/N0.
        leaders: Names of the curves with the best value.
        own, other: Names of the best curve of ours and of the best of the others; empty if there is none.
        own_estimate, other_estimate: Their figures.
        margin: How much better ours is, negative where it is behind; None without either.
    """

    snr_db: float
    leaders: tuple[str, ...]
    own: str
    own_estimate: Estimate
    other: str
    other_estimate: Estimate
    margin: Difference | None

    @property
    def verdict(self) -> str:
        """``ahead``, ``behind``, or ``level`` if the data cannot tell; empty without either.

        What rests on values alone ends in ``, untested``.
        """
        if self.margin is None:
            return ""
        direction = "level" if self.margin.value == 0 else "ahead" if self.margin.value > 0 else "behind"
        if not self.margin.tested:
            return f"{direction}, untested"
        return direction if self.margin.significant else "level"


def difference(one: Curve, other: Curve, snr_db: float, measure: str) -> Difference:
    """``one - other``; image by image where both sent the same, which takes the spread between images out."""
    if MEASURES[measure].kind != "count" and isinstance(one, Line) and isinstance(other, Line):
        pairs = _pairs(one, other, snr_db, measure)
        if len(pairs) > 1:
            return Difference(float(pairs.mean()), *bootstrap(pairs), len(pairs))
    a, b = (curve.estimate(snr_db, measure) for curve in (one, other))
    ends = difference_interval((a.value, a.low, a.high), (b.value, b.low, b.high))
    return Difference(a.value - b.value, *ends)


def _pairs(one: Line, other: Line, snr_db: float, measure: str) -> NDArray[np.float64]:
    if snr_db not in one.points or snr_db not in other.points:
        return np.empty(0)
    a, b = (line.points[snr_db].by_image(measure) for line in (one, other))
    return np.array([np.mean(a[name]) - np.mean(b[name]) for name in a if name in b])


def standings(curves: Sequence[Curve], own: Mapping[str, bool], measure: str) -> list[Standing]:
    """Who leads among the curves over one channel, at each SNR at which there are two or more.

    Args:
        curves: Over the same channel.
        own: Of each curve's name, whether it is ours.
        measure: One that is better higher or lower.
    """
    sign = -1.0 if MEASURES[measure].better == "lower" else 1.0
    found = []
    for snr_db in sorted({snr for curve in curves for snr in curve.snrs}):
        ranked = [curve for curve in curves if not math.isnan(curve.estimate(snr_db, measure).value)]
        ranked.sort(key=lambda curve: -sign * curve.estimate(snr_db, measure).value)
        if len(ranked) < 2:
            continue
        best = ranked[0].estimate(snr_db, measure).value
        leaders = tuple(curve.curve for curve in ranked if curve.estimate(snr_db, measure).value == best)
        ours = next((curve for curve in ranked if own[curve.curve]), None)
        theirs = next((curve for curve in ranked if not own[curve.curve]), None)
        margin = _oriented(difference(ours, theirs, snr_db, measure), sign) if ours and theirs else None
        found.append(
            Standing(
                snr_db,
                leaders,
                ours.curve if ours else "",
                ours.estimate(snr_db, measure) if ours else UNKNOWN,
                theirs.curve if theirs else "",
                theirs.estimate(snr_db, measure) if theirs else UNKNOWN,
                margin,
            )
        )
    return found


def _oriented(found: Difference, sign: float) -> Difference:
    return found if sign > 0 else Difference(-found.value, -found.high, -found.low, found.pairs)
