"""``make demo``: images through the codec, the modem and a channel, in GNU Radio."""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from crlsc_phy import __version__
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import CrlscError
from crlsc_phy.files import write_text
from crlsc_phy.images import find_images
from crlsc_phy.link.records import ImageRecord, mean_of_known, summarise

__all__ = ["main"]

ROOT = Path(__file__).parents[2]
FLOWGRAPHS = ROOT / "flowgraphs"
STALL_S = 300
STOP_S = 30


@dataclass(frozen=True)
class _Outcome:
    """A run of the flowgraph: what became of each image, which were left out before it, and the time it took."""

    records: list[ImageRecord]
    left_out: list[str]
    problems: list[str]
    seconds: float


def main(argv: list[str] | None = None) -> int:
    """Run the demonstration; returns the exit status: 0, 1 (our fault), 2 (the input's) or 130 (interrupted)."""
    options = _parser().parse_args(argv)
    console = Console(stderr=True)
    try:
        return _demonstrate(options, console)
    except CrlscError as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("interrupted; what had arrived by then is in the output folder", highlight=False)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m crlsc_phy.cli.demo", description=__doc__)
    parser.add_argument(
        "--snr", type=_finite, default=12, metavar="DB", help="Es/N0 on an occupied carrier (%(default)s)"
    )
    parser.add_argument(
        "--channel", default="", metavar="MODEL", help="one of Sionna's, such as tdl-a (GNU Radio's, with five taps)"
    )
    parser.add_argument("--speed", type=_finite, default=3, metavar="M/S", help="over it (%(default)s)")
    parser.add_argument(
        "--delay-spread", type=_finite, default=100e-9, metavar="S", help="of it, where it scales (%(default)s)"
    )
    parser.add_argument("--cfo-hz", type=_finite, default=1000, metavar="HZ", help="frequency offset (%(default)s)")
    parser.add_argument("--sro-ppm", type=_finite, default=5, metavar="PPM", help="sample rate offset (%(default)s)")
    parser.add_argument("--images", type=Path, default=ROOT / "flowgraphs" / "images", help="a folder, or one file")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for the results (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the noise (%(default)s)")
    parser.add_argument("--mode", choices=("digital", "analog"), default="digital", help="detail layer (%(default)s)")
    parser.add_argument(
        "--mcs", default="", help="how it is sent, by name; auto to follow the channel (qpsk-1/2 or analog-1/1)"
    )
    parser.add_argument("--papr", type=_finite, default=0, metavar="DB", help="clip peaks there (not at all)")
    parser.add_argument("--taps", type=Path, metavar="FOLDER", help="record what the receiver saw, for crlsc-modem")
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "default", help="the trained model")
    parser.add_argument("--runtime", choices=("onnx", "torch"), default="onnx", help="(%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON instead of a table")
    return parser


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _demonstrate(options: argparse.Namespace, console: Console) -> int:
    # GNU Radio is the only part that pip cannot bring, so its absence gets a line of its own.
    try:
        from gnuradio import gr

        from gr_blocks.flowgraph import load_flowgraph
    except ImportError as error:
        raise CrlscError(f"GNU Radio is not there ({error}); run `make setup`, then `make doctor`") from None
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CrlscError(
            f"{options.out}: cannot be made ({error.strerror}); choose another folder with --out"
        ) from None
    if not options.images.exists():
        raise CrlscError(f"{options.images}: no such file or folder; give one with --images")
    count = len(find_images(options.images)) if options.images.is_dir() else 1
    bundle_id = SemanticCodec.load(options.bundle, runtime=options.runtime).bundle.shared_id.hex()
    file = FLOWGRAPHS / ("loopback_sionna.grc" if options.channel else "loopback_sim.grc")
    console.print(f"compiling {file.name}", highlight=False)
    loopback = load_flowgraph(file, ROOT / "build")
    settings = {
        "snr_db": options.snr,
        "cfo_hz": options.cfo_hz,
        "sro_ppm": options.sro_ppm,
        "seed": options.seed,
        "mode": options.mode,
        "mcs": options.mcs,
        "papr_db": options.papr,
        "images": str(options.images.resolve()),
        "bundle": str(options.bundle.resolve()),
        "runtime": options.runtime,
    }
    if options.channel:
        settings |= {"channel": options.channel, "speed": options.speed, "delay_spread": options.delay_spread}
    taps = str(options.taps.resolve()) if options.taps else ""
    outcome = _run(loopback(out=str(options.out.resolve()), taps=taps, **settings), count, console)
    if not outcome.records:
        raise CrlscError(f"no image was sent: {'; '.join(outcome.left_out) or 'none found'}")
    metrics = summarise(outcome.records) | {
        "seconds": round(outcome.seconds, 3),
        "left_out": outcome.left_out,
        "problems": outcome.problems,
        "configuration": settings
        | {"images": str(options.images), "bundle": str(options.bundle), "bundle_id": bundle_id},
        "versions": {
            "crlsc_phy": __version__,
            "gnuradio": gr.version(),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    write_text(options.out / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    if options.json:
        print(json.dumps(metrics, indent=2))
    else:
        _report(metrics, options.out)
    return 0


def _run(flowgraph: Any, count: int, console: Console) -> _Outcome:
    """Run the flowgraph to its end, with a progress bar."""
    source, sink = flowgraph.image_source_0, flowgraph.image_sink_0
    blocks = [block for block in vars(flowgraph).values() if hasattr(block, "messages")]
    for block in blocks:
        # What they log is told at the end; in between it would tear the progress bar.
        block.logger.set_level("crit")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    began = moved = time.monotonic()
    flowgraph.start()
    # An event, for a thread whose join is interrupted counts as ended while it still runs (Python up to 3.12).
    ended = threading.Event()

    def wait() -> None:
        flowgraph.wait()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    try:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("images over the air", total=count)
            done = 0
            while not ended.wait(0.1):
                now = sink.images + sink.lost + source.errors
                if now != done:
                    done, moved = now, time.monotonic()
                    progress.update(bar, completed=done)
                elif time.monotonic() - moved > STALL_S:
                    raise RuntimeError(f"the flowgraph has made no progress for {STALL_S} s")
            progress.update(bar, completed=count)
    finally:
        flowgraph.stop()
        ended.wait(STOP_S)
    problems = [f"{block.name()}: {line}" for block in blocks if block is not source for line in block.messages]
    return _Outcome(list(sink.records), list(source.messages), problems, time.monotonic() - began)


def _report(metrics: dict[str, Any], out: Path) -> None:
    console = Console(highlight=False)
    table = Table(show_header=False, box=None)
    table.add_column(style="dim")
    labels = [right for right in metrics["label_correct"] if right is not None]
    for name, value, form in (
        ("images received", metrics["images_received"], f"{{}} of {metrics['images_sent']}"),
        ("PSNR, mean", mean_of_known(metrics["psnr_db"]), "{:.1f} dB"),
        ("MS-SSIM, mean", mean_of_known(metrics["ms_ssim"]), "{:.3f}"),
        ("labels right", sum(labels) if labels else None, f"{{}} of {len(labels)}"),
        ("SNR, estimated", metrics["snr_db_estimated"], "{:.1f} dB"),
        ("channel uses per colour value (CBR)", metrics["cbr"], "{:.3f}"),
        ("bytes on air per image", metrics["air_bytes_mean"], "{:.0f}"),
        ("time", metrics["seconds"], "{:.1f} s"),
    ):
        table.add_row(name, "-" if value is None else form.format(value))
    console.print(table)
    for line in metrics["left_out"]:
        console.print(f"left out: {line}", style="yellow", markup=False)
    for line in metrics["problems"]:
        console.print(f"problem: {line}", style="yellow", markup=False)
    for row in metrics["rows"]:
        if not row["received"]:
            console.print(f"lost: {row['name']} ({row['reason'] or 'not received'})", style="yellow", markup=False)
    console.print(f"wrote {out / 'gallery.png'} and {out / 'metrics.json'}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
