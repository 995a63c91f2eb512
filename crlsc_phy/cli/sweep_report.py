"""The verbs ``report``, ``compare`` and ``import`` of ``crlsc-sweep``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from crlsc_phy.errors import SweepError
from crlsc_phy.report.compare import Comparison, as_json, compare_runs, write_comparison
from crlsc_phy.report.curves import WIDTHS
from crlsc_phy.report.imported import import_curves
from crlsc_phy.report.measures import MEASURES
from crlsc_phy.report.page import figure, signed
from crlsc_phy.report.report import write_report
from crlsc_phy.report.results import read_run

if TYPE_CHECKING:
    from crlsc_phy.cli.verbs import Subparsers

__all__ = ["add_verbs", "new_table", "print_table"]


def add_verbs(subparsers: Subparsers) -> None:
    """Add the verbs ``report``, ``compare`` and ``import``."""
    report = subparsers.add_parser("report", help="write the report of a run again")
    report.description = "Write report.html, results.csv and plots/ from the results in a run's folder."
    report.add_argument("folder", type=Path, metavar="DIR", help="folder of a run: its --out")
    report.add_argument("--width", choices=WIDTHS, default="column", help="width of the plots (default: %(default)s)")
    report.set_defaults(run=_report)

    compare = subparsers.add_parser("compare", help="compare two runs")
    compare.description = (
        "Compare the points that have the same curve, channel and SNR in both runs, and mark those whose difference "
        "has a 95 % interval without 0."
    )
    compare.add_argument("before", type=Path, metavar="RUN1", help="folder of the first run")
    compare.add_argument("after", type=Path, metavar="RUN2", help="folder of the second run")
    compare.add_argument(
        "--measure", default="psnr_db", metavar="NAME", help=f"one of {', '.join(MEASURES)} (default: %(default)s)"
    )
    compare.add_argument("--out", type=Path, metavar="FILE", help="also write an HTML page")
    compare.set_defaults(run=_compare)

    take = subparsers.add_parser("import", help="add curves of another tool to the report of a run")
    take.description = (
        "Copy curves from a CSV file in UTF-8 with a header into a run's folder; its report shows them dashed. The "
        "columns are snr_db and measures, or with --measure snr_db and one column per curve."
    )
    take.add_argument("file", type=Path, metavar="FILE", help="CSV file")
    take.add_argument("--as", dest="name", required=True, metavar="NAME", help="name of the curves in the report")
    take.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    take.add_argument(
        "--columns", default="", metavar="NAME=COLUMN,...", help="columns of the file with the SNR (snr) or a measure"
    )
    take.add_argument("--measure", default="", metavar="NAME", help="measure in all columns, for one column per curve")
    take.add_argument(
        "--channel", default="", metavar="NAME", help="channel of the curves, if the run has several and the file none"
    )
    take.set_defaults(run=_import)

    for verb in (report, compare, take):
        verb.add_argument("--json", action="store_true", help="print the result as JSON")


def _report(options: argparse.Namespace) -> int:
    path = write_report(options.folder, options.width)
    print(json.dumps({"report": str(path)}) if options.json else path)
    return 0


def _compare(options: argparse.Namespace) -> int:
    comparison = compare_runs(options.before, options.after, options.measure)
    if options.out:
        write_comparison(options.out, comparison, options.before, options.after)
    if options.json:
        print(json.dumps(as_json(comparison)))
    else:
        _show(comparison, options)
    return 0


def _show(comparison: Comparison, options: argparse.Namespace) -> None:
    table = new_table("curve", "channel", "Es/N0 [dB]", "first", "second", "difference", "95 % interval", "")
    for column in table.columns[2:7]:
        column.justify = "right"
    for change in comparison.changes:
        found = change.difference
        known = found.low == found.low
        table.add_row(
            change.curve,
            change.channel,
            f"{change.snr_db:g}",
            figure(change.before.value),
            figure(change.after.value),
            signed(found.value),
            f"{signed(found.low)} to {signed(found.high)}" if known else "",
            "changed" if found.significant else "",
        )
    print_table(table)
    for folder, lines in ((options.before, comparison.only_before), (options.after, comparison.only_after)):
        for curve, channel in lines:
            print(f"only in {folder}: {curve} over {channel}")
    if comparison.alone:
        print(f"{comparison.alone} further points of these curves are in one run only")
    changed = sum(change.difference.significant for change in comparison.changes)
    print(f"{comparison.measure}: {changed} of {len(comparison.changes)} points have changed")


def _import(options: argparse.Namespace) -> int:
    channels = list(read_run(options.out).config["channels"])
    if options.channel and options.channel not in channels:
        raise SweepError(f"{options.out} has no channel {options.channel!r}; choose one of {', '.join(channels)}")
    channel = options.channel or (channels[0] if len(channels) == 1 else "")
    lines = import_curves(options.file, options.out, options.name, channel, _columns(options.columns), options.measure)
    known = [{"curve": line.curve, "channel": line.channel, "points": len(line.snrs)} for line in lines]
    if options.json:
        print(json.dumps({"imported": known}))
    else:
        for line in known:
            print(f"{line['curve']} over {line['channel']}: {line['points']} points")
        print(f"crlsc-sweep report {options.out} shows them")
    return 0


def _columns(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    for ours, _, theirs in pairs:
        if not theirs:
            raise SweepError(f"--columns {text}: give NAME=COLUMN, such as snr=SNR,psnr_db=PSNR")
        if ours not in ("snr", "snr_db", "curve", "channel", *MEASURES):
            raise SweepError(
                f"--columns: {ours!r} is unknown; choose one of snr, curve, channel, {', '.join(MEASURES)}"
            )
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def new_table(*columns: str) -> Table:
    """Return an empty table with columns of these names."""
    table = Table(box=None, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def print_table(table: Table, width: int = 200) -> None:
    """Print a table whose text is shown as it is: ``[dB]`` is not markup, and ``:x:`` not an emoji."""
    Console(width=width, markup=False, emoji=False, highlight=False).print(table)
