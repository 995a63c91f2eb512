"""``crlsc-sweep``: curves of links over SNR, from a configuration to a report."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import MISSING, Field, asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from crlsc_phy.channel.models import MODELS
from crlsc_phy.cli import sweep_baseline, sweep_report
from crlsc_phy.cli.verbs import run_verb
from crlsc_phy.errors import SweepError
from crlsc_phy.link.chain import CHAINS, ChainKind
from crlsc_phy.report.report import write_report
from crlsc_phy.sweep.config import load_config, presets
from crlsc_phy.sweep.engine import Summary, check_chains, run_sweep, seconds_a_job
from crlsc_phy.sweep.plan import Plan, make_plan

if TYPE_CHECKING:
    from crlsc_phy.cli.verbs import Subparsers

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 2 (the input's fault), 1 (jobs failed) or 130 (interrupted)."""
    return run_verb(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crlsc-sweep", description="Curves of links over SNR, with intervals.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _add_run(verbs)
    _add_show(verbs)
    listing = verbs.add_parser("list", help="list presets, channels and chains")
    listing.set_defaults(run=_list)
    listing.add_argument("--json", action="store_true", help="print the lists as JSON")
    sweep_report.add_verbs(verbs)
    sweep_baseline.add_verbs(verbs)
    return parser


def _add_run(verbs: Subparsers) -> None:
    run = verbs.add_parser("run", help="run a sweep and write its report; what is done is not done again")
    run.description = (
        "Run a sweep, and write its report. Killed or interrupted and started again, it goes on; with more SNRs, "
        "replicas or curves it adds them to what is there."
    )
    run.set_defaults(run=_run)
    _configuration(run)
    run.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    run.add_argument("--ray", default="", metavar="ADDRESS", help="run on a Ray cluster; local starts one here")
    run.add_argument("--no-report", action="store_true", help="leave out the report; crlsc-sweep report makes it later")
    run.add_argument("--json", action="store_true", help="print what was run as JSON")


def _add_show(verbs: Subparsers) -> None:
    show = verbs.add_parser("show", help="show what would run, and how long it would take")
    show.description = (
        "Show the lines, points and jobs of a sweep; two replicas of each line are run to estimate times."
    )
    show.set_defaults(run=_show)
    _configuration(show)
    show.add_argument("--json", action="store_true", help="print it as JSON")


def _configuration(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("config", metavar="CONFIG", help=f"a YAML file, or a preset: {', '.join(presets())}")
    verb.add_argument("--snr", metavar="SNRS", help="Es/N0 in dB for all curves: 0,5 or a range such as --snr=-5:20:5")
    verb.add_argument(
        "--channel", nargs="+", default=[], metavar="NAME", help="channels for all curves: the file's names, or models"
    )
    verb.add_argument("--images", metavar="SOURCE", help="a folder of pictures, or a set such as photos@heldout")
    verb.add_argument("--data", metavar="DIR", help="folder of the data sets that crlsc-train data has fetched")
    verb.add_argument("--bundle", metavar="DIR", help="folder of the bundle")
    verb.add_argument("--seed", type=int, help="of everything that is drawn")
    verb.add_argument("--replicas", type=int, metavar="N", help="most replicas of a point")
    verb.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="OPTION=VALUE", help="like stop.errors=100"
    )
    verb.add_argument("--jobs", type=int, default=1, metavar="N", help="processes of one thread each (%(default)s)")


def _plan(options: argparse.Namespace) -> Plan:
    """The plan that the options ask for, with every chain looked at."""
    if options.jobs < 1:
        raise SweepError(f"--jobs {options.jobs}: must be 1 or more")
    said = {
        "images.source": options.images,
        "images.heldout": None if options.images is None else False,
        "data": options.data,
        "bundle": options.bundle,
        "seed": options.seed,
        "stop.replicas": options.replicas,
    }
    changes = [f"{name}={json.dumps(value)}" for name, value in said.items() if value is not None]
    plan = make_plan(load_config(options.config, [*changes, *options.set], options.snr, options.channel))
    check_chains(plan)
    return plan


def _run(options: argparse.Namespace) -> int:
    plan = _plan(options)
    summary = run_sweep(plan, options.out, options.jobs, options.ray)
    report = None if options.no_report or not summary.results else write_report(options.out)
    if options.json:
        print(json.dumps(asdict(summary) | {"out": str(options.out), "report": str(report) if report else None}))
    else:
        print(_told(summary, options.out, report))
    if summary.failed:
        print(
            f"crlsc-sweep: {summary.failed} jobs failed; {options.out / 'results.jsonl'} says why, and the same "
            "command tries them again",
            file=sys.stderr,
        )
    return 1 if summary.failed else 0


def _told(summary: Summary, folder: Path, report: Path | None) -> str:
    before = f", {summary.known} were there" if summary.known else ""
    return f"{report or folder}: {summary.points} points, {summary.ran} jobs run{before}"


def _show(options: argparse.Namespace) -> int:
    plan = _plan(options)
    rows: list[dict[str, Any]] = [
        {
            "curve": line.curve,
            "channel": line.channel,
            "line": line.id,
            "snr_db": list(line.snr_db),
            "jobs": len(line.snr_db) * line.stop.replicas,
            "seconds_a_job": seconds_a_job(line),
        }
        for line in plan.lines.values()
    ]
    seconds = sum(row["jobs"] * row["seconds_a_job"] for row in rows) / options.jobs
    total = {"lines": len(rows), "points": plan.points, "jobs": plan.most_jobs, "processes": options.jobs}
    if options.json:
        print(json.dumps({**total, "seconds": seconds, "each": rows}))
        return 0
    table = _table("curve", "channel", "Es/N0 [dB]", "points", "jobs", "s a job")
    for row in rows:
        snrs = row["snr_db"]
        reach = f"{snrs[0]:g} to {snrs[-1]:g}" if len(snrs) > 1 else f"{snrs[0]:g}"
        table.add_row(
            row["curve"], row["channel"], reach, str(len(snrs)), str(row["jobs"]), f"{row['seconds_a_job']:.3g}"
        )
    Console(width=200).print(table)
    print(
        f"{total['lines']} lines, {total['points']} points, at most {total['jobs']} jobs: about {_spoken(seconds)} "
        f"with {options.jobs} {'process' if options.jobs == 1 else 'processes'}"
    )
    return 0


def _spoken(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _list(options: argparse.Namespace) -> int:
    chains: dict[str, dict[str, Any]] = {
        name: {"about": kind.about, "options": _defaults(kind)} for name, kind in CHAINS.items()
    }
    channels = {name: model.source for name, model in MODELS.items()}
    if options.json:
        print(json.dumps({"presets": presets(), "channels": channels, "chains": chains}))
        return 0
    console = Console(width=120)
    for title, rows in (
        ("presets", presets()),
        ("channels", channels),
        ("chains", {name: f"{chain['about']}\n{_options(chain['options'])}" for name, chain in chains.items()}),
    ):
        table = _table(title, "")
        for name, text in rows.items():
            table.add_row(name, text)
        console.print(table)
    return 0


def _defaults(kind: ChainKind) -> dict[str, Any]:
    return {each.name: _default(each) for each in fields(kind.load().Options)}


def _default(option: Field[Any]) -> Any:
    return option.default if option.default is not MISSING else None


def _options(defaults: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {json.dumps(value)}" for name, value in defaults.items())


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold")
    for name in columns:
        table.add_column(name)
    return table


if __name__ == "__main__":
    sys.exit(main())
