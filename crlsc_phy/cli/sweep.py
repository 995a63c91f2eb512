"""The command ``crlsc-sweep``: measure links against SNR, and report the curves."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crlsc_phy.channel.models import MODELS
from crlsc_phy.cli import sweep_baseline, sweep_report
from crlsc_phy.cli.verbs import run_verb
from crlsc_phy.link.chain import CHAINS
from crlsc_phy.report.report import write_report
from crlsc_phy.sweep.config import load_config, presets
from crlsc_phy.sweep.engine import check_chains, run_sweep, seconds_a_job
from crlsc_phy.sweep.plan import Plan, make_plan

if TYPE_CHECKING:
    from crlsc_phy.cli.verbs import Subparsers

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 (jobs failed), 2 (wrong input) or 130 (interrupted)."""
    return run_verb(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crlsc-sweep", description="Measure links against SNR, with 95 % intervals.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _add_run(verbs)
    show = verbs.add_parser("show", help="show the jobs of a sweep and estimate their time")
    show.description = (
        "Show the lines, points and jobs of a sweep. Two replicas of each line are run to estimate the time."
    )
    show.set_defaults(run=_show)
    _configuration(show)
    show.add_argument("--json", action="store_true", help="print the table as JSON")
    listing = verbs.add_parser("list", help="list presets, channels and chains")
    listing.set_defaults(run=_list)
    listing.add_argument("--json", action="store_true", help="print the lists as JSON")
    sweep_report.add_verbs(verbs)
    sweep_baseline.add_verbs(verbs)
    return parser


def _add_run(verbs: Subparsers) -> None:
    run = verbs.add_parser("run", help="run a sweep, or resume it, and write its report")
    run.description = (
        "Run a sweep and write its report. A run that was killed or interrupted resumes with the same command. With "
        "more SNRs, replicas or curves the command adds them to the results."
    )
    run.set_defaults(run=_run)
    _configuration(run)
    run.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    run.add_argument("--ray", default="", metavar="ADDRESS", help="run on a Ray cluster; 'local' starts one here")
    run.add_argument("--no-report", action="store_true", help="write no report; crlsc-sweep report writes it later")
    run.add_argument("--json", action="store_true", help="print a summary as JSON")


def _configuration(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("config", metavar="CONFIG", help=f"YAML file, or a preset: {', '.join(presets())}")
    verb.add_argument("--snr", metavar="SNRS", help="Es/N0 in dB for all curves: 0,5 or a range such as --snr=-5:20:5")
    channels = "channels for all curves: names in the file, or channel models"
    verb.add_argument("--channel", nargs="+", default=[], metavar="NAME", help=channels)
    verb.add_argument("--images", metavar="SOURCE", help="folder of pictures, or a data set such as photos@heldout")
    verb.add_argument("--data", metavar="DIR", help="folder of the data sets that crlsc-train data has fetched")
    verb.add_argument("--bundle", metavar="DIR", help="folder of the bundle")
    verb.add_argument("--seed", type=int, help="seed of everything that is drawn")
    verb.add_argument("--replicas", type=int, metavar="N", help="largest number of replicas per point")
    changes = "change options of the file, such as stop.errors=100"
    verb.add_argument("--set", nargs="+", action="extend", default=[], metavar="OPTION=VALUE", help=changes)
    processes = (
        "number of processes of one thread each (default: %(default)s); 0 runs the jobs in this process, where a job "
        "that is killed ends the run"
    )
    verb.add_argument("--jobs", type=int, default=1, metavar="N", help=processes)


def _plan(options: argparse.Namespace) -> Plan:
    """Return the plan that the options describe, after every chain was checked."""
    changes = {
        "images.source": options.images,
        "images.heldout": None if options.images is None else False,
        "data": options.data,
        "bundle": options.bundle,
        "seed": options.seed,
        "stop.replicas": options.replicas,
    }
    said = [f"{name}={json.dumps(value)}" for name, value in changes.items() if value is not None]
    plan = make_plan(load_config(options.config, [*said, *options.set], options.snr, options.channel))
    check_chains(plan)
    return plan


def _run(options: argparse.Namespace) -> int:
    plan = _plan(options)
    summary = run_sweep(plan, options.out, options.jobs, options.ray)
    report = None if options.no_report or not summary.results else write_report(options.out)
    if options.json:
        print(json.dumps(asdict(summary) | {"out": str(options.out), "report": str(report) if report else None}))
    else:
        before = f", {summary.known} done before" if summary.known else ""
        print(f"{report or options.out}: {summary.points} points, {summary.ran} jobs run{before}")
    if summary.failed:
        print(
            f"crlsc-sweep: {summary.failed} jobs failed; their errors are in {options.out / 'results.jsonl'}, and the "
            "same command tries them again",
            file=sys.stderr,
        )
    return 1 if summary.failed else 0


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
    processes = max(options.jobs, 1)
    seconds = sum(row["jobs"] * row["seconds_a_job"] for row in rows) / processes
    jobs = sum(row["jobs"] for row in rows)
    total = {"lines": len(rows), "points": plan.points, "jobs": jobs, "processes": processes}
    if options.json:
        print(json.dumps({**total, "seconds": seconds, "each": rows}))
        return 0
    table = sweep_report.new_table("curve", "channel", "Es/N0 [dB]", "points", "jobs", "s a job")
    for row in rows:
        snrs = row["snr_db"]
        reach = f"{snrs[0]:g} to {snrs[-1]:g}" if len(snrs) > 1 else f"{snrs[0]:g}"
        table.add_row(
            row["curve"], row["channel"], reach, str(len(snrs)), str(row["jobs"]), f"{row['seconds_a_job']:.3g}"
        )
    sweep_report.print_table(table)
    print(
        f"{total['lines']} lines, {total['points']} points, at most {total['jobs']} jobs: about {_spoken(seconds)} "
        f"with {processes} {'process' if processes == 1 else 'processes'}"
    )
    return 0


def _spoken(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _list(options: argparse.Namespace) -> int:
    chains: dict[str, dict[str, Any]] = {}
    for name, kind in CHAINS.items():
        known = {each.name: None if each.default is MISSING else each.default for each in fields(kind.load().Options)}
        chains[name] = {"about": kind.about, "options": known}
    channels = {name: model.source for name, model in MODELS.items()}
    if options.json:
        print(json.dumps({"presets": presets(), "channels": channels, "chains": chains}))
        return 0
    told = {}
    for name, chain in chains.items():
        settings = ", ".join(f"{key}: {json.dumps(value)}" for key, value in chain["options"].items())
        told[name] = f"{chain['about']}\n{settings}"
    for title, rows in (("presets", presets()), ("channels", channels), ("chains", told)):
        table = sweep_report.new_table(title, "")
        for name, text in rows.items():
            table.add_row(name, text)
        sweep_report.print_table(table, width=120)
    return 0


if __name__ == "__main__":
    sys.exit(main())
