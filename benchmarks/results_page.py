"""The published results: three sweeps, and the page that shows them.

    python benchmarks/results_page.py [--jobs 2] [--data data] [--work runs/results] [--out docs/results]

The sweeps are the YAML files beside the page. They go on where they were cut off; the folders in ``--work`` hold every
row, the received pictures and an interactive report each. The page gets the figures, and a table of all points as CSV.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import bench
import numpy as np
from PIL import Image

from crlsc_phy.cli import sweep
from crlsc_phy.figure import INK, drawing
from crlsc_phy.files import write_text
from crlsc_phy.images import UInt8Image
from crlsc_phy.report.curves import draw_curves, looks
from crlsc_phy.report.differences import Difference, Standing, difference, standings
from crlsc_phy.report.measures import MEASURES
from crlsc_phy.report.results import LineResults, SweepRun, read_run
from crlsc_phy.sweep.store import ORIGINALS, PICTURES

SWEEPS = ("pictures", "meaning", "bits")
PLOTS = {"pictures": ("psnr_db", "ms_ssim"), "meaning": ("label", "frame_loss"), "bits": ("ber", "bler")}
RATES = {"pictures": [("1/12",), ("1/8", "1/6")]}
"""Curves of these share a figure, by their names."""
INTRODUCTION = Path(__file__).with_name("results_introduction.md")
BOUND = "at capacity"
SHOWN = ("hybrid 1/12", "WebP genie 1/12", "WebP QPSK 1/2, 1/12", "DeepJSCC 1/8")
CLEAN_DB = 20


def line(run: SweepRun, curve: str, channel: str) -> LineResults:
    return next(each for each in run.lines if (each.curve, each.channel) == (curve, channel))


def where_behind(run: SweepRun, rate: str, channel: str) -> str:
    """Say at which SNRs the best of ours is ahead, level or behind the best of the others at a rate, by PSNR."""
    curves = [each for each in run.lines if each.channel == channel and rate in each.curve and BOUND not in each.curve]
    rows = standings(curves, {each.curve: run.is_own(each.curve) for each in curves}, "psnr_db")
    parts = [part for verdict in ("behind", "level", "ahead") if (part := _places(rows, verdict))]
    return f"- CBR {rate}, {channel}: {'; '.join(parts)}."


def _places(rows: Sequence[Standing], verdict: str) -> str:
    found = [row for row in rows if row.verdict.partition(",")[0] == verdict]
    if not found:
        return ""
    margins = [row.margin.value for row in found if row.margin]
    snrs = ", ".join(f"{row.snr_db:g}" for row in found)
    return f"**{verdict}** at {snrs} dB ({min(margins):+.1f} to {max(margins):+.1f} dB)"


def goals(pictures: SweepRun, meaning: SweepRun) -> str:
    """Return the table of the goals that these sweeps are held against."""
    ours = line(pictures, "hybrid 1/12", "awgn")
    rows = []
    for name in ("WebP genie 1/12", "WebP genie 1/12, stripped"):
        other = line(pictures, name, "awgn")
        low = {snr: difference(ours, other, snr, "psnr_db") for snr in ours.snrs if snr <= 3}
        worst = min(low.values(), key=lambda found: found.value)
        said = ", ".join(f"{found.value:+.1f} at {snr:g} dB" for snr, found in low.items())
        rows.append((f"ahead of {name} at 3 dB and below, AWGN", said, worst.value > 0))
        ten = difference(ours, other, 10, "psnr_db")
        rows.append((f"at most 2 dB behind {name} at 10 dB, AWGN", _margin(ten), ten.value >= -2))
    for channel in pictures.config["channels"]:
        mine, theirs = (line(pictures, name, channel) for name in ("hybrid 1/8", "DeepJSCC 1/8"))
        least = min((difference(mine, theirs, snr, "psnr_db") for snr in mine.snrs), key=lambda found: found.value)
        rows.append(
            (
                f"at least 1 dB ahead of DeepJSCC everywhere at its rate, {channel}",
                f"least {_margin(least)}",
                least.value >= 1,
            )
        )
    semantic = line(meaning, "semantic", "awgn")
    shares = [semantic.estimate(snr, "label").value for snr in (-5, CLEAN_DB)]
    size = semantic.estimate(-5, "air_bytes").value
    kept = shares[0] / shares[1]
    said = f"{100 * kept:.1f} % ({100 * shares[0]:.1f} of {100 * shares[1]:.1f} %), {size:.0f} bytes"
    rows.append(
        ("names at -5 dB, AWGN: 95 % of the clean accuracy, 48 bytes at most", said, kept >= 0.95 and size <= 48)
    )
    return _table(
        ["goal", "found", ""], [[goal, found, "reached" if met else "**missed**"] for goal, found, met in rows]
    )


def _margin(found: Difference) -> str:
    return f"{found.value:+.2f} dB ({found.low:+.2f} to {found.high:+.2f})"


def measured(run: SweepRun, measure: str, channel: str, digits: int) -> str:
    """Return the table of a measure of every curve over a channel at every SNR, with intervals."""
    lines = [each for each in run.lines if each.channel == channel]
    rows = []
    for each in lines:
        cells = [each.estimate(snr, measure) for snr in lines[0].snrs]
        cbr = [each.estimate(snr, "cbr").value for snr in each.snrs]
        shown = [
            f"{e.value:.{digits}f} ±{(e.high - e.low) / 2:.{digits}f}" if math.isfinite(e.value) else "" for e in cells
        ]
        rows.append([each.curve, f"{np.nanmax(cbr):.4f}", *shown])
    return _table([f"{measure}, {channel}", "CBR", *(f"{snr:g} dB" for snr in lines[0].snrs)], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def draw_sheet(run: SweepRun, channel: str, number: int, target: Path) -> None:
    """Draw one picture as sent, and as received by each curve at the SNRs whose pictures were kept."""
    snrs = run.config["keep"]["snr_db"]
    lines = [line(run, name, channel) for name in SHOWN]
    name = lines[0].points[snrs[0]].results[number].image
    sent = _read(run.folder / ORIGINALS / f"{name}.png")
    tiles = [[*(_received(run, each, snr, name) for snr in snrs), sent] for each in lines]
    titles = [*(f"{snr:g} dB" for snr in snrs), "as sent"]
    height, width = tiles[0][0].shape[:2]
    drawn = target.with_suffix(".png")
    with drawing(drawn, 215 * len(titles), 40 + round(215 * height / width + 14) * len(lines)) as figure:
        grid = figure.subplots(len(lines), len(titles), squeeze=False)
        for row, (each, shown) in enumerate(zip(lines, tiles, strict=True)):
            for column, (title, image) in enumerate(zip(titles, shown, strict=True)):
                axes = grid[row][column]
                axes.imshow(image)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                if not row:
                    axes.set_title(title, loc="center")
            grid[row][0].set_ylabel(each.curve, fontsize=9, color=INK)
    Image.open(drawn).convert("RGB").save(target, quality=88)
    drawn.unlink()


def _received(run: SweepRun, each: LineResults, snr: float, name: str | None) -> UInt8Image:
    found = next(result for result in each.points[snr].results if result.image == name)
    return _read(run.folder / PICTURES / f"{found.job}.png")


def _read(path: Path) -> UInt8Image:
    return np.asarray(Image.open(path).convert("RGB"))


def draw_plots(run: SweepRun, name: str, out: Path) -> list[str]:
    """Draw the figures of a sweep, and return their lines of Markdown."""
    shown = []
    for measure, channel, rates in product(PLOTS[name], run.config["channels"], RATES.get(name, [("",)])):
        lines = [each for each in run.lines if each.channel == channel and any(rate in each.curve for rate in rates)]
        known = [each for each in lines if any(math.isfinite(each.estimate(snr, measure).value) for snr in each.snrs)]
        # No two curves of a figure share a colour, which all of a run's would.
        look = looks({each.curve: run.is_own(each.curve) for each in lines}, [])
        stem = "-".join([name, measure, channel, *(rate.replace("/", "") for rate in rates if rate)])
        target = out / f"{stem}.png"
        draw_curves([target], known, measure, look, "double")
        # Few colours, a third of the bytes.
        Image.open(target).convert("RGB").quantize(64).save(target, optimize=True)
        at = f", CBR {' and '.join(rates)}" if rates[0] else ""
        shown.append(f"**{MEASURES[measure].title}, {channel}{at}**\n\n![{measure}, {channel}{at}]({target.name})")
    return shown


def write_page(runs: dict[str, SweepRun], out: Path) -> None:
    """Write the page, its figures and the tables of points."""
    pictures, meaning = runs["pictures"], runs["meaning"]
    channels = list(pictures.config["channels"])
    figures = {name: draw_plots(run, name, out) for name, run in runs.items()}
    for number in range(2):
        for channel in channels:
            draw_sheet(pictures, channel, number, out / f"sheet-{channel}-{number + 1}.jpg")
    for name, run in runs.items():
        shutil.copyfile(run.folder / "results.csv", out / f"{name}.csv")
    minutes_of = {name: sum(result.cpu_s for result in run.results) / 60 for name, run in runs.items()}
    here = bench.machine()
    spent = ", ".join(f"{name} {minutes:.0f}" for name, minutes in minutes_of.items())
    behind = "\n".join(where_behind(pictures, rate, channel) for rate in ("1/12", "1/8", "1/6") for channel in channels)
    text = INTRODUCTION.read_text(encoding="utf-8").rstrip()
    for key, value in {
        "behind": behind,
        "goals": goals(pictures, meaning),
        "psnr": "\n\n".join(measured(pictures, "psnr_db", channel, 1) for channel in channels),
        "ms_ssim": "\n\n".join(measured(pictures, "ms_ssim", channel, 3) for channel in channels),
        "label": "\n\n".join(measured(meaning, "label", channel, 2) for channel in meaning.config["channels"]),
        "machine": f"{here['processor']}, {here['cores']} cores, {here['date']}; CPU-minutes: {spent}",
        **{f"figures of {name}": "\n\n".join(lines) for name, lines in figures.items()},
        "sheets": "\n\n".join(
            f"![Received at four SNRs, {channel}](sheet-{channel}-{number + 1}.jpg)"
            for channel in channels
            for number in range(2)
        ),
    }.items():
        text = text.replace(f"{{{key}}}", value)
    write_text(out / "README.md", text + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the status of the first sweep that fails, or 0."""
    benchmark = bench.Benchmark(__file__, __doc__, seed=None, jobs=2, out=Path("docs/results"), quick=False)
    benchmark.add("--data", Path("data"), "folder that `crlsc-train data` filled")
    benchmark.add("--work", Path("runs/results"), "folder of the sweeps")
    options = benchmark.parse(arguments)
    for name in SWEEPS:
        called = ["run", str(options.out / f"{name}.yaml"), "--out", str(options.work / name)]
        status = sweep.main([*called, "--jobs", str(options.jobs), "--data", str(options.data)])
        if status:
            return status
    write_page({name: read_run(options.work / name).configured() for name in SWEEPS}, options.out)
    print(f"wrote {options.out}/README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
