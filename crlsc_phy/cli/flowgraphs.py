"""Shared parts of the commands that run a flowgraph: compile it, run it to its end, and report its figures."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from crlsc_phy import __version__
from crlsc_phy.cli.arguments import finite
from crlsc_phy.errors import CrlscError
from crlsc_phy.files import write_text
from crlsc_phy.images import find_images
from crlsc_phy.quality.records import mean_of_known, summarise

__all__ = [
    "ROOT",
    "add_codec_options",
    "add_sender_options",
    "build_folder",
    "codec_settings",
    "compile_flowgraph",
    "count_images",
    "finish",
    "print_rows",
    "problems_of",
    "report",
    "run",
    "sender_settings",
]

ROOT = Path(__file__).parents[2]
STALL_S = 300
STOP_S = 30


def add_sender_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a sender."""
    add = parser.add_argument
    text = "folder of images, or one file (those of the checkout)"
    add("--images", type=Path, default=ROOT / "flowgraphs" / "images", help=text)
    add("--mode", choices=("digital", "analog"), default="digital", help="detail layer (%(default)s)")
    add("--mcs", default="", help="MCS of the detail layer; auto to follow the channel (qpsk-1/2 or analog-1/1)")
    add("--papr", type=finite, default=0, metavar="DB", help="clip bursts to this PAPR (no clipping)")


def add_codec_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that sender and receiver share."""
    add = parser.add_argument
    text = "folder of the trained bundle (that of the checkout)"
    add("--bundle", type=Path, default=ROOT / "models" / "default", help=text)
    add("--runtime", choices=("onnx", "torch"), default="onnx", help="library that runs the networks (%(default)s)")
    add("--json", action="store_true", help="print the metrics as JSON instead of a table")


def sender_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters of a flowgraph that the options of a sender give."""
    images = str(options.images.resolve())
    return {"images": images, "mode": options.mode, "mcs": options.mcs, "papr_db": options.papr}


def codec_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters of a flowgraph that the options of sender and receiver give."""
    return {"bundle": str(options.bundle.resolve()), "runtime": options.runtime}


def count_images(path: Path) -> int:
    """Return the number of images in a folder, 1 for a file.

    Raises:
        CrlscError: If ``path`` does not exist, or is a folder without images.
    """
    if not path.exists():
        raise CrlscError(f"{path}: no such file or folder; give one with --images")
    return len(find_images(path)) if path.is_dir() else 1


def build_folder() -> Path:
    """Return the folder for compiled flowgraphs: ``build`` of the checkout, or that of the variable CRLSC_BUILD."""
    return Path(os.environ.get("CRLSC_BUILD") or ROOT / "build")


def compile_flowgraph(name: str) -> Any:
    """Compile ``flowgraphs/NAME.grc`` and return the class of its top block.

    Raises:
        CrlscError: If GNU Radio is not installed, or the file does not compile.
    """
    # GNU Radio is the only part that pip cannot install, so its absence gets a line of its own.
    try:
        importlib.import_module("gnuradio.gr")
        from gr_blocks.flowgraph import load_flowgraph
    except ImportError as error:
        raise CrlscError(f"GNU Radio cannot be imported ({error}); run `make setup`, then `make doctor`") from None
    Console(stderr=True).print(f"compiling {name}.grc", highlight=False)
    return load_flowgraph(ROOT / "flowgraphs" / f"{name}.grc", build_folder())


def _blocks(flowgraph: Any) -> list[Any]:
    return [block for block in vars(flowgraph).values() if hasattr(block, "messages")]


def problems_of(flowgraph: Any, but: Any = None) -> list[str]:
    """Return the last errors of all blocks except ``but``, a line each."""
    return [f"{block.name()}: {line}" for block in _blocks(flowgraph) if block is not but for line in block.messages]


def run(flowgraph: Any, done: Callable[[], int], total: int | None, task: str = "images over the air") -> float:
    """Run a flowgraph to its end, with a progress bar.

    Args:
        flowgraph: The top block.
        done: Returns the number of images finished so far.
        total: Number of images; None if it is unknown, and the run may wait for any time.
        task: Title of the progress bar.

    Returns:
        The duration in seconds.

    Raises:
        RuntimeError: If there is no progress for ``STALL_S`` seconds.
    """
    for block in _blocks(flowgraph):
        # Their errors are printed at the end; log lines would tear the progress bar.
        block.logger.set_level("crit")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    began = moved = time.monotonic()
    flowgraph.start()
    # An event, because a thread whose join is interrupted counts as ended while it still runs (Python up to 3.12).
    ended = threading.Event()

    def wait() -> None:
        flowgraph.wait()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task(task, total=total)
            before = 0
            while not ended.wait(0.1):
                now = done()
                if now != before:
                    before, moved = now, time.monotonic()
                    progress.update(bar, completed=now)
                elif total is not None and time.monotonic() - moved > STALL_S:
                    raise RuntimeError(f"the flowgraph has made no progress for {STALL_S:g} s")
            progress.update(bar, completed=done() if total is None else total)
    finally:
        flowgraph.stop()
        ended.wait(STOP_S)
    return time.monotonic() - began


def finish(
    flowgraph: Any,
    options: argparse.Namespace,
    seconds: float,
    configuration: dict[str, Any],
    rows: Iterable[tuple[str, Any]] = (),
    **more: Any,
) -> None:
    """Write the metrics of a run to ``metrics.json`` and print them.

    Args:
        flowgraph: The top block.
        options: Options of the command.
        seconds: Duration of the run.
        configuration: Parameters of the flowgraph.
        rows: Further rows for the table that is printed, name and value of each.
        **more: Further metrics.

    Raises:
        CrlscError: If the file cannot be written.
    """
    from gnuradio import gr

    source = getattr(flowgraph, "image_source_0", None)
    metrics = summarise(list(flowgraph.image_sink_0.records)) | {
        "seconds": round(seconds, 3),
        "left_out": list(source.messages) if source is not None else [],
        "problems": problems_of(flowgraph, source),
        "configuration": configuration,
        **more,
        "versions": {
            "crlsc_phy": __version__,
            "gnuradio": gr.version(),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    try:
        write_text(options.out / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    except OSError as error:
        raise CrlscError(
            f"{options.out}: cannot be written ({error.strerror}); choose another folder with --out"
        ) from None
    report(metrics, options, rows)


def print_rows(rows: Sequence[tuple[str, Any]], problems: Sequence[str], left_out: Sequence[str] = ()) -> Console:
    """Print a table of names and values, and the errors of a run.

    Args:
        rows: Name and value of each row; None shows as a dash.
        problems: Errors of the blocks, a line each.
        left_out: Images that were not sent, a line each.

    Returns:
        The console, for further lines.
    """
    console = Console(highlight=False)
    table = Table(show_header=False, box=None)
    table.add_column(style="dim")
    for name, value in rows:
        table.add_row(name, "-" if value is None else str(value))
    console.print(table)
    for kind, lines in (("left out", left_out), ("problem", problems)):
        for line in lines:
            console.print(f"{kind}: {line}", style="yellow", markup=False)
    return console


def report(metrics: dict[str, Any], options: argparse.Namespace, extra: Iterable[tuple[str, Any]] = ()) -> None:
    """Print the metrics of a run as JSON, or as a table with its errors and the names of its files.

    Args:
        metrics: Content of ``metrics.json``.
        options: Options of the command.
        extra: Further rows of the table, name and value of each.
    """
    if options.json:
        print(json.dumps(metrics, indent=2))
        return
    labels = [right for right in metrics["label_correct"] if right is not None]
    rows = [
        (name, None if value is None else form.format(value))
        for name, value, form in (
            ("images received", metrics["images_received"], f"{{}} of {metrics['images_sent']}"),
            ("PSNR, mean", mean_of_known(metrics["psnr_db"]), "{:.1f} dB"),
            ("MS-SSIM, mean", mean_of_known(metrics["ms_ssim"]), "{:.3f}"),
            ("labels right", sum(labels) if labels else None, f"{{}} of {len(labels)}"),
            ("SNR, estimated", metrics["snr_db_estimated"], "{:.1f} dB"),
            ("channel uses per colour value (CBR)", metrics["cbr"], "{:.3f}"),
            ("bytes on air per image", metrics["air_bytes_mean"], "{:.0f}"),
            ("time", metrics["seconds"], "{:.1f} s"),
        )
        # A receiver without the originals has no such figures.
        if value is not None or not metrics["images_received"]
    ]
    console = print_rows([*rows, *extra], metrics["problems"], metrics["left_out"])
    for row in metrics["rows"]:
        if not row["received"]:
            console.print(f"lost: {row['name']} ({row['reason'] or 'not received'})", style="yellow", markup=False)
    console.print(f"wrote {options.out / 'gallery.png'} and {options.out / 'metrics.json'}", soft_wrap=True)
