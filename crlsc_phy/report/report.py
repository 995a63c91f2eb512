"""The report of a sweep: a page, plots for a paper, and a table, made from the rows in its folder."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from crlsc_phy.bundle import Bundle
from crlsc_phy.errors import CrlscError, SweepError
from crlsc_phy.files import short_name, unused_name, write_text
from crlsc_phy.machine import processor
from crlsc_phy.report.charts import chart, counted
from crlsc_phy.report.curves import draw_curves, looks
from crlsc_phy.report.differences import FEWEST_PAIRS, Standing, standings
from crlsc_phy.report.imported import read_imported
from crlsc_phy.report.measures import MEASURES
from crlsc_phy.report.page import figure, ranges, typeset, write_page
from crlsc_phy.report.results import CONFIG, RESULTS, Curve, LineResults, Result, SweepRun, read_run

__all__ = ["write_report"]

REPORT, TABLE, PLOTS = "report.html", "results.csv", "plots"
COLUMNS = (
    "curve", "channel", "chain", "snr_db", "measure", "value", "low", "high", "n", "events", "replicas", "cpu_s",
)  # fmt: skip
_WORST_FIRST = ("behind", "level", "ahead")
_VERSIONS = ("crlsc-phy", "numpy", "scipy", "numba", "onnxruntime", "torch", "sionna-no-rt")


def write_report(folder: str | Path, width: str = "column") -> Path:
    """Write ``report.html``, ``results.csv`` and ``plots/MEASURE-CHANNEL`` as PNG and PDF into a run's folder.

    Args:
        folder: Folder of a run, which may still be going on.
        width: Width of the plots, a key of :data:`crlsc_phy.report.curves.WIDTHS`.

    Returns:
        Path of the page.

    Raises:
        SweepError: If the folder holds no run, no results, or damaged ones.
        CrlscError: If a library is not installed, or a file cannot be written.
    """
    run = read_run(folder).configured()
    shown = _Shown(run)
    if not shown.measures:
        raise SweepError(f"{run.folder / RESULTS}: holds no results yet; wait for the first one, or read its errors")
    try:
        write_text(run.folder / TABLE, _table(shown))
        _draw(shown, run.folder / PLOTS, width)
    except OSError as error:
        raise CrlscError(f"{run.folder}: cannot be written ({error.strerror})") from None
    write_page(run.folder / REPORT, "report.html", **_page(shown))
    return run.folder / REPORT


class _Shown:
    """A run and the curves imported beside it."""

    def __init__(self, run: SweepRun) -> None:
        self.run, self.imported = run, read_imported(run.folder)
        self.curves: list[Curve] = [*run.lines, *self.imported]
        found = dict.fromkeys(curve.curve for curve in self.curves)
        names = dict.fromkeys([name for name in run.config["curves"] if name in found]) | found
        self.own = {name: run.is_own(name) for name in names}
        self.look = looks(self.own, [curve.curve for curve in self.imported])
        self.channels = list(dict.fromkeys(curve.channel for curve in self.curves))
        self.measures = [measure for measure in MEASURES if any(curve.has(measure) for curve in self.curves)]

    def plots(self) -> Iterator[tuple[str, str, list[Curve]]]:
        """Yield measure, channel and curves of each plot."""
        for measure in self.measures:
            for channel in self.channels:
                if curves := [curve for curve in self.curves if curve.channel == channel and curve.has(measure)]:
                    yield measure, channel, curves

    def snrs(self, curves: Sequence[Curve]) -> list[float]:
        """Return the SNRs of all points of some curves in dB, ascending."""
        return sorted({snr for curve in curves for snr in curve.snrs})


def _table(shown: _Shown) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    chains = {
        name: (options or {}).get("chain", "") for name, options in (shown.run.config.get("curves") or {}).items()
    }
    for curve in shown.curves:
        chain = chains.get(curve.curve, "") if isinstance(curve, LineResults) else "imported"
        for snr in curve.snrs:
            point = curve.points[snr] if isinstance(curve, LineResults) else None
            work = (len(point.results), f"{point.cpu_s:.3f}") if point else ("", "")
            for measure in shown.measures:
                found = curve.estimate(snr, measure)
                events = "" if found.events is None else found.events
                figures = (found.value, found.low, found.high, found.n, events)
                writer.writerow([curve.curve, curve.channel, chain, snr, measure, *figures, *work])
    return text.getvalue()


def _draw(shown: _Shown, folder: Path, width: str) -> None:
    folder.mkdir(exist_ok=True)
    stems = _stems(shown.channels)
    for measure, channel, curves in shown.plots():
        targets = [folder / f"{measure}-{stems[channel]}.{kind}" for kind in ("png", "pdf")]
        draw_curves(targets, curves, measure, shown.look, width)


def _stems(channels: Sequence[str]) -> dict[str, str]:
    """Return a part of a file name for each channel, without characters that shells or LaTeX stumble over."""
    stems: dict[str, str] = {}
    for channel in channels:
        stem = re.sub(r"[^A-Za-z0-9.+-]+", "_", short_name(channel))
        stems[channel] = unused_name(stem, stems.values())
    return stems


def _page(shown: _Shown) -> dict[str, Any]:
    run, measures = shown.run, shown.measures
    leads = list(_leads(shown))
    groups, originals = _pictures(run)
    figures: dict[str, dict[str, Any]] = {measure: {} for measure in measures}
    for measure, channel, curves in shown.plots():
        figures[measure][channel] = chart(curves, measure, shown.look)
    return {
        "name": str(run.config.get("name") or run.folder.resolve().name),
        "summary": _summary(shown),
        "shown": shown,
        "counted": counted,
        "figures": figures,
        "measures": {name: MEASURES[name] for name in measures},
        "channels": shown.channels,
        "look": shown.look,
        "chosen": "psnr_db" if "psnr_db" in measures else measures[0],
        "standings": leads,
        "silent": [name for name in measures if name not in {lead["measure"] for lead in leads}],
        "fewest": FEWEST_PAIRS,
        "pictures": groups,
        "originals": originals,
        "picture_channels": list(dict.fromkeys(group["channel"] for group in groups)),
        "picture_snrs": sorted({group["snr_db"] for group in groups}),
        "failures": run.failures,
        "command": f"crlsc-sweep run {CONFIG} --out NEW_FOLDER",
        "facts": _facts(run),
        "config": (run.folder / CONFIG).read_text(encoding="utf-8"),
    }


def _summary(shown: _Shown) -> str:
    run = shown.run
    counts = [len(point.results) for line in run.lines for point in line.points.values() if point.results]
    if not counts:
        return "Only imported curves."
    snrs = sorted({result.snr_db for result in run.results})
    replicas = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{counts[0]}"
    words = [
        _plural(len({line.curve for line in run.lines}), "curve"),
        f"over {_plural(len({line.channel for line in run.lines}), 'channel')}",
        typeset(f"at {snrs[0]:g} to {snrs[-1]:g} dB"),
    ]
    images = {result.image for result in run.results} - {None}
    parts = [" ".join(words), f"{replicas} replicas per point"]
    return ", ".join(parts + [_plural(len(images), "picture")] * bool(images)) + "."


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _leads(shown: _Shown) -> Iterator[dict[str, Any]]:
    """Yield the ranking for each measure of quality and channel."""
    for measure, channel, curves in shown.plots():
        rows = standings(curves, shown.own, measure) if MEASURES[measure].better else []
        if rows:
            yield {"measure": measure, "channel": channel, "sentence": _sentence(rows, measure), "rows": rows}


def _sentence(rows: Sequence[Standing], measure: str) -> str:
    snrs = [row.snr_db for row in rows]
    compared = [row for row in rows if row.margin]
    if not compared:
        return "No SNR has both curves of this project and others, so there is no margin."
    places: dict[str, list[float]] = {}
    for row in sorted(compared, key=lambda row: (_WORST_FIRST.index(row.verdict.partition(",")[0]), row.verdict)):
        places.setdefault(row.verdict, []).append(row.snr_db)
    parts = [
        f"{verdict.replace(', untested', ' but untested')} at {ranges(at, snrs)}" for verdict, at in places.items()
    ]
    text = f"Against the best of the others, ours is {', '.join(parts)}."
    worst = min(compared, key=lambda row: row.margin.value if row.margin else 0.0)
    if worst.verdict.startswith("behind") and worst.margin and worst.own and worst.other:
        unit = MEASURES[measure].unit
        size = f"{figure(-worst.margin.value)} {unit}".strip()
        pair = f"{worst.own.curve} against {worst.other.curve}"
        text += f" Farthest behind: {size}, {pair} at {ranges([worst.snr_db], snrs)}."
    return text


def _pictures(run: SweepRun) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Return the kept pictures by channel and SNR, and the sent ones in the order of the columns."""
    kept: dict[tuple[str, float], dict[str, dict[str, Result]]] = {}
    names: dict[str, None] = {}
    for line in run.lines:
        for snr, point in line.points.items():
            for result in point.results:
                if result.image is not None and _picture(run, result).is_file():
                    names[result.image] = None
                    curves = kept.setdefault((line.channel, snr), {})
                    curves.setdefault(line.curve, {}).setdefault(result.image, result)
    groups = [
        {
            "channel": channel,
            "snr_db": snr,
            "rows": [
                {"curve": curve, "cells": [_cell(run, name, results.get(name)) for name in names]}
                for curve, results in curves.items()
            ],
        }
        for (channel, snr), curves in kept.items()
    ]
    return groups, [{"name": name, "uri": _uri(run.folder / "originals" / f"{name}.png")} for name in names]


def _picture(run: SweepRun, result: Result) -> Path:
    return run.folder / "pictures" / f"{result.job}.png"


def _cell(run: SweepRun, name: str, result: Result | None) -> dict[str, str]:
    if result is None:
        return {"name": name, "uri": "", "caption": "not kept"}
    parts = []
    if result.counts.get("frames_lost"):
        parts.append("lost")
    if "psnr_db" in result.metrics:
        parts.append(f"{result.metrics['psnr_db']:.1f} dB")
    if "ms_ssim" in result.metrics:
        parts.append(f"MS-SSIM {result.metrics['ms_ssim']:.3f}")
    if "label" in result.metrics:
        parts.append(f"label {'right' if result.metrics['label'] else 'wrong'}")
    return {"name": name, "uri": _uri(_picture(run, result)), "caption": ", ".join(parts)}


def _uri(path: Path) -> str:
    """Return a PNG as a data URI; empty if there is no such file."""
    if not path.is_file():
        return ""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _facts(run: SweepRun) -> dict[str, str]:
    last = datetime.fromtimestamp((run.folder / RESULTS).stat().st_mtime, timezone.utc)
    cpu_s = sum(result.cpu_s for result in run.results)
    facts = {
        "Last result": f"{last:%Y-%m-%d %H:%M} UTC",
        "Jobs": f"{sum(1 for _ in run.results):,} done, {len(run.failures)} failed",
        "CPU time": f"{cpu_s / 3600:.2f} h" if cpu_s >= 3600 else f"{cpu_s:.0f} s",
        "Seed": str(run.config.get("seed", "")),
    }
    bundle = run.config.get("bundle")
    if bundle:
        try:
            facts["Bundle"] = f"{bundle}, id {Bundle.load(bundle).shared_id.hex()}"
        except CrlscError:
            facts["Bundle"] = f"{bundle}, not on this machine"
    installed = {dist.name: dist.version for dist in metadata.distributions()}
    versions = [f"{name} {installed[name]}" for name in _VERSIONS if name in installed]
    facts["Report made on"] = ", ".join([processor(), *versions])
    return facts
