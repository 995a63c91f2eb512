"""Comparison of two runs: the points that changed, and the curves that only one of them has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crlsc_phy.errors import SweepError
from crlsc_phy.report.charts import chart
from crlsc_phy.report.curves import looks
from crlsc_phy.report.differences import FEWEST_PAIRS, Difference, difference
from crlsc_phy.report.imported import ImportedLine, read_imported
from crlsc_phy.report.measures import MEASURES, check_measure
from crlsc_phy.report.page import write_page
from crlsc_phy.report.results import Curve, Estimate, read_run

__all__ = ["Change", "Comparison", "as_json", "compare_runs", "write_comparison"]


@dataclass(frozen=True)
class Change:
    """A point that both runs have.

    Attributes:
        curve, channel: Names of the curve and of the channel.
        snr_db: Es/N0 in dB.
        before, after: Estimates of the first and of the second run.
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
    """Comparison of two runs by one measure.

    Attributes:
        measure: Name of the measure.
        changes: Points that both runs have.
        only_before, only_after: Curve and channel of the lines that only the first or only the second run has.
        alone: Number of points that one run lacks, on lines that both have.
    """

    measure: str
    changes: tuple[Change, ...]
    only_before: tuple[tuple[str, str], ...]
    only_after: tuple[tuple[str, str], ...]
    alone: int


def compare_runs(before: str | Path, after: str | Path, measure: str = "psnr_db") -> Comparison:
    """Compare the points of two runs that have the same curve, channel and SNR; imported curves are included.

    Args:
        before: Folder of the first run.
        after: Folder of the second run.
        measure: A key of :data:`~crlsc_phy.report.measures.MEASURES`.

    Raises:
        SweepError: If a folder holds no run, the measure is unknown, or the runs share no point that has it.
    """
    check_measure(measure)
    first, second = (
        {(curve.curve, curve.channel): curve for curve in _curves(folder) if curve.has(measure)}
        for folder in (before, after)
    )
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
        raise SweepError(
            f"{before} and {after} share no point with {measure}; choose another --measure, or compare other runs"
        )
    return Comparison(
        measure,
        tuple(changes),
        tuple(names for names in first if names not in second),
        tuple(names for names in second if names not in first),
        alone,
    )


def _curves(folder: str | Path) -> list[Curve]:
    run = read_run(folder)
    return [*run.lines, *read_imported(run.folder)]


def write_comparison(path: Path, comparison: Comparison, before: str | Path, after: str | Path) -> None:
    """Write a comparison as a page in one file.

    Args:
        path: HTML file to write.
        comparison: The comparison.
        before: Name of the first run on the page.
        after: Name of the second run on the page.

    Raises:
        CrlscError: If Jinja or plotly is not installed, or the file cannot be written.
    """
    measure = comparison.measure
    curves = _differences(comparison)
    look = looks({curve.curve: True for curve in curves}, [])
    channels = list(dict.fromkeys(curve.channel for curve in curves))
    title = MEASURES[measure].title
    # Differences have both signs, and no bounds.
    axis = replace(MEASURES[measure], title=f"{title}, second minus first", kind="mean", logarithmic=False)
    over = {channel: [curve for curve in curves if curve.channel == channel] for channel in channels}
    write_page(
        path,
        "compare.html",
        figures={measure: {channel: chart(over[channel], measure, look, axis) for channel in channels}},
        measures={measure: axis},
        channels=channels,
        look=look,
        chosen=measure,
        title=title,
        comparison=comparison,
        before=str(before),
        after=str(after),
        fewest=FEWEST_PAIRS,
    )


def _differences(comparison: Comparison) -> list[Curve]:
    """Return the differences as curves, for the plots."""
    lines: dict[tuple[str, str], dict[tuple[str, float], Estimate]] = {}
    for change in comparison.changes:
        found = change.difference
        estimate = Estimate(found.value, found.low, found.high, found.pairs)
        lines.setdefault((change.curve, change.channel), {})[comparison.measure, change.snr_db] = estimate
    return [ImportedLine(*names, estimates) for names, estimates in lines.items()]


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as JSON values: NaN becomes null."""
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
