"""Two runs side by side: what has changed from one to the other, and what only one has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crlsc_phy.errors import SweepError
from crlsc_phy.report.curves import looks
from crlsc_phy.report.differences import FEWEST_PAIRS, Difference, difference
from crlsc_phy.report.imported import ForeignLine, read_imported
from crlsc_phy.report.measures import MEASURES
from crlsc_phy.report.page import chart_data, write_page
from crlsc_phy.report.results import Curve, Estimate, Run, read_run

__all__ = ["Change", "Comparison", "as_json", "compare_runs", "write_comparison"]


@dataclass(frozen=True)
class Change:
    """A point that both runs have.

    Attributes:
        curve, channel, snr_db: Which.
        before, after: The figures of the first and of the second run.
        difference: ``after - before``.
    """

    curve: str
    channel: str
    snr_db: float
    before: Estimate
    after: Estimate
    difference: Difference


@dataclass(frozen=True)
class Comparison:
    """What two runs have to say about each other.

    Attributes:
        measure: Of which figure.
        changes: Of the points that both have.
        only_before, only_after: Curve and channel of the lines that only the one has.
        alone: How many points of lines in both only one of them has.
    """

    measure: str
    changes: tuple[Change, ...]
    only_before: tuple[tuple[str, str], ...]
    only_after: tuple[tuple[str, str], ...]
    alone: int


def compare_runs(before: str | Path, after: str | Path, measure: str = "psnr_db") -> Comparison:
    """Compare the points with the same curve, channel and SNR, by name; imported curves too.

    Args:
        before: Folder of the first run.
        after: Folder of the second.
        measure: Which figure.

    Raises:
        SweepError: If a folder holds no run, there is no such measure, or the runs share no point that has it.
    """
    if measure not in MEASURES:
        raise SweepError(f"{measure!r} is no measure; there are {', '.join(MEASURES)}")
    first, second = (_with_measure(read_run(folder), measure) for folder in (before, after))
    changes, alone = [], 0
    for names in [names for names in first if names in second]:
        one, other = first[names], second[names]
        for snr in sorted({*one.snrs, *other.snrs}):
            old, new = one.estimate(snr, measure), other.estimate(snr, measure)
            if math.isnan(old.value) or math.isnan(new.value):
                alone += not (math.isnan(old.value) and math.isnan(new.value))
                continue
            changes.append(Change(*names, snr, old, new, difference(other, one, snr, measure)))
    if not changes:
        raise SweepError(f"{before} and {after} share no point with {measure}; say --measure, or compare other runs")
    return Comparison(
        measure,
        tuple(changes),
        tuple(names for names in first if names not in second),
        tuple(names for names in second if names not in first),
        alone,
    )


def _with_measure(run: Run, measure: str) -> dict[tuple[str, str], Curve]:
    curves: Sequence[Curve] = [*run.lines, *read_imported(run.folder)]
    return {
        (curve.curve, curve.channel): curve
        for curve in curves
        if any(not math.isnan(curve.estimate(snr, measure).value) for snr in curve.snrs)
    }


def write_comparison(path: Path, comparison: Comparison, before: str | Path, after: str | Path) -> None:
    """Write a comparison as a page that stands alone.

    Args:
        path: The file.
        comparison: What it shows.
        before: What the first run is called there.
        after: What the second is.

    Raises:
        CrlscError: If the libraries are missing, or the file cannot be written.
    """
    curves = _differences(comparison)
    look = looks({curve.curve: True for curve in curves}, [])
    data = chart_data(curves, [comparison.measure], look)
    shown = data["measures"][comparison.measure]
    # Differences have both signs, and no bounds.
    shown |= {"title": f"{shown['title']}, second less first", "log": False, "rate": False}
    write_page(
        path,
        "compare.html",
        data=data,
        chosen=comparison.measure,
        title=MEASURES[comparison.measure].title,
        comparison=comparison,
        before=str(before),
        after=str(after),
        fewest=FEWEST_PAIRS,
    )


def _differences(comparison: Comparison) -> list[Curve]:
    """The differences as curves, for the plots."""
    lines: dict[tuple[str, str], dict[tuple[str, float], Estimate]] = {}
    for change in comparison.changes:
        found = change.difference
        estimate = Estimate(found.value, found.low, found.high, found.pairs)
        lines.setdefault((change.curve, change.channel), {})[comparison.measure, change.snr_db] = estimate
    return [ForeignLine(*names, estimates) for names, estimates in lines.items()]


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison ready for JSON: NaN becomes null."""
    return {
        "measure": comparison.measure,
        "points": [
            {
                "curve": change.curve,
                "channel": change.channel,
                "snr_db": change.snr_db,
                "before": _plain(vars(change.before)),
                "after": _plain(vars(change.after)),
                "difference": _plain(vars(change.difference)) | {"significant": change.difference.significant},
            }
            for change in comparison.changes
        ],
        "only_before": [list(names) for names in comparison.only_before],
        "only_after": [list(names) for names in comparison.only_after],
        "points_in_one_only": comparison.alone,
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}
