"""``crlsc-modem``: images to a recording of complex samples and back, and pictures of what the receiver saw."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from crlsc_phy.cli.arguments import count, decibels, finite, make_folder
from crlsc_phy.cli.verbs import run_verb
from crlsc_phy.errors import FrameError, ImageError, ModemError
from crlsc_phy.images import find_images, load_image, save_png
from crlsc_phy.phy import PRESETS, Burst, BurstModem, Numerology
from crlsc_phy.phy.recording import CHUNK, RecordingWriter, chunks, open_recording
from crlsc_phy.phy.taps import Taps, read_burst

if TYPE_CHECKING:
    from crlsc_phy.codec import SemanticCodec

__all__ = ["main"]

_FORMATS = "raw complex64, little-endian, I and Q in turn; with the suffix .npy a numpy array of complex64"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 2 (the input's fault) or 130 (interrupted)."""
    return run_verb(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crlsc-modem", description="Send and receive images as recordings of complex samples."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    send = verbs.add_parser(
        "send",
        help="write images to a recording",
        description="Encode images, modulate each into a burst, and write the samples.",
        epilog="example: crlsc-modem send flowgraphs/images/cat.jpg --out air.cf32 --snr 12",
    )
    receive = verbs.add_parser(
        "receive",
        help="read the images of a recording",
        description="Find the bursts in a recording, list them, and decode their images.",
        epilog="example: crlsc-modem receive air.cf32 --out received --taps taps",
    )
    plot = verbs.add_parser(
        "plot",
        help="draw what the receiver saw of one burst",
        description="Draw metric, channel, constellation, tracking, LLRs and EVM of a burst whose taps were recorded.",
        epilog="example: crlsc-modem plot taps --burst 0 --out burst.png",
    )
    _add_send_options(send)
    _add_receive_options(receive)
    for verb in (send, receive):
        _add_link_options(verb)
    plot.add_argument("folder", type=Path, metavar="FOLDER", help="folder that `receive --taps` wrote")
    plot.add_argument("--burst", type=count, metavar="N", help="number of the burst, from 0 (the last one)")
    plot.add_argument("--out", type=Path, metavar="FILE", help="the PNG (FOLDER/burst-N.png)")
    results = ((send, "what was sent"), (receive, "a line for each burst, then the counters"), (plot, "the result"))
    for (verb, what), run in zip(results, (_send, _receive, _plot), strict=True):
        verb.add_argument("--json", action="store_true", help=f"print {what} as JSON")
        verb.set_defaults(run=run)
    return parser


def _add_send_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("images", nargs="+", type=Path, metavar="IMAGE", help="an image file, or a folder of them")
    add("--out", type=Path, required=True, metavar="FILE", help=_FORMATS)
    add("--mode", choices=("digital", "analog"), default="digital", help="how the detail layer is sent (%(default)s)")
    add("--mcs", help="modulation and code rate of the detail layer, by index or name (qpsk-1/2, or analog-1/1)")
    add("--gap", type=count, default=1000, metavar="N", help="zero samples between bursts (%(default)s)")
    add("--papr-db", type=finite, metavar="DB", help="clip peaks to this PAPR (no clipping)")
    add("--snr", type=decibels, metavar="DB", help="add noise, Es/N0 on an occupied carrier (no noise)")
    add("--seed", type=count, default=1, help="seed of the noise (%(default)s)")


def _add_receive_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help=_FORMATS)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, metavar="FOLDER", help="folder for the images, as PNG")
    target.add_argument("--no-images", action="store_true", help="only list the bursts")
    text = "knowledge base of your own to search beside the bundle's; may be given several times"
    add("--private", type=Path, action="append", default=[], metavar="FOLDER", help=text)
    add("--taps", type=Path, metavar="FOLDER", help="record what the receiver saw, for `plot`")


def _add_link_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that sender and receiver must agree on."""
    add = parser.add_argument
    add("--bundle", type=Path, default=Path("models/default"), metavar="FOLDER", help="trained model (%(default)s)")
    add("--numerology", default="64", help=f"number of carriers: {', '.join(PRESETS)} (%(default)s)")
    add("--sample-rate", type=finite, metavar="HZ", help="sample rate (that of the numerology)")
    add("--network", type=count, default=0, metavar="N", help="number of the network, 0 to 65535 (%(default)s)")


def _send(options: argparse.Namespace) -> int:
    numerology = Numerology.preset(options.numerology, options.sample_rate, options.network)
    mcs = int(options.mcs) if (options.mcs or "").isdecimal() else options.mcs
    modem = BurstModem(numerology, mcs, options.mode, papr_db=options.papr_db)
    paths = [path for given in options.images for path in (find_images(given) if given.is_dir() else [given])]
    codec = _load_codec(options.bundle)
    rng = np.random.default_rng(options.seed)
    # Bursts have unit mean power, spread over the occupied carriers only.
    inverse_snr = 0.0 if options.snr is None else 10 ** (-options.snr / 10)
    variance = inverse_snr * numerology.fft_size / numerology.occupied
    sent = []
    with RecordingWriter(options.out) as file:
        for sequence, path in enumerate(paths):
            image = load_image(path)
            try:
                frame = codec.encode(image, sequence, mode=options.mode)
                burst = modem.modulate(frame)
            except (ImageError, ModemError) as error:
                raise type(error)(f"{path}: {error}") from None
            start = file.count + (options.gap if sequence else 0)
            while file.count < start:
                file.write(_noisy(np.zeros(min(start - file.count, CHUNK), np.complex64), variance, rng))
            file.write(_noisy(burst, variance, rng))
            sent.append({"image": str(path), "sequence": frame.header.sequence, "start": start, "samples": len(burst)})
    seconds = file.count / numerology.sample_rate
    told = {"file": str(options.out), "samples": file.count, "seconds": seconds, "bursts": sent}
    words = f"{_number(len(sent), 'burst')}, {file.count:,} samples, {seconds:.3f} s"
    line = f"{options.out}: {words} at {numerology.sample_rate / 1e6:g} MS/s"
    print(json.dumps(told) if options.json else line)
    return 0


def _receive(options: argparse.Namespace) -> int:
    numerology = Numerology.preset(options.numerology, options.sample_rate, options.network)
    samples = open_recording(options.file)
    codec = None if options.no_images else _load_codec(options.bundle, options.private)
    if options.out:
        make_folder(options.out)
    taps = Taps(options.taps) if options.taps else None
    modem = BurstModem(numerology, taps=taps)
    rows: list[dict[str, Any]] = []
    interrupted = False
    try:
        for burst in _bursts(modem, samples, not options.json):
            row = _row(burst)
            if codec:
                row |= _decode(codec, burst, options.out, len(rows))
            rows.append(row)
            if options.json:
                print(json.dumps(row), flush=True)
    except KeyboardInterrupt:
        # Report what came before the interruption.
        interrupted = True
    if options.json:
        print(json.dumps({"counters": asdict(modem.counters)}))
    else:
        _report(rows, modem, options)
    if taps:
        _tell_taps(taps)
    problems = list(dict.fromkeys(row["problem"] for row in rows if row.get("problem")))
    if problems and not any(row["image"] for row in rows):
        raise FrameError(problems[0])
    for problem in problems:
        print(f"crlsc-modem: {problem}", file=sys.stderr)
    if interrupted:
        raise KeyboardInterrupt
    return 0


def _plot(options: argparse.Namespace) -> int:
    from crlsc_phy.phy.tap_figures import plot_taps

    burst = read_burst(options.folder, options.burst).number
    target = options.out or options.folder / f"burst-{burst:06d}.png"
    plot_taps(options.folder, burst, target)
    print(json.dumps({"burst": burst, "file": str(target)}) if options.json else f"{target}: burst {burst}")
    return 0


def _load_codec(bundle: Path, private: Sequence[Path] = ()) -> SemanticCodec:
    # The networks' libraries take a second to load, and a list of bursts does not need them.
    from crlsc_phy.codec import SemanticCodec

    return SemanticCodec.load(bundle, private=private)


def _noisy(samples: NDArray[np.complex64], variance: float, rng: np.random.Generator) -> NDArray[np.complex64]:
    """Add circular Gaussian noise of a mean power of ``variance`` to samples, complex64 [n]."""
    if variance == 0:
        return samples
    noise = rng.standard_normal((len(samples), 2), np.float32) * np.float32(math.sqrt(variance / 2))
    return np.asarray(samples + noise.view(np.complex64)[:, 0], np.complex64)


def _bursts(modem: BurstModem, samples: NDArray[Any], bar_wanted: bool) -> Iterator[Burst]:
    """Yield the bursts of a recording, with a progress bar if one is wanted and standard error is a terminal."""
    console = Console(stderr=True)
    disable = not (bar_wanted and console.is_terminal)
    with Progress(
        console=console, transient=True, disable=disable, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        bar = progress.add_task("receiving", total=len(samples))
        for chunk in chunks(samples):
            yield from modem.receive(chunk)
            progress.advance(bar, len(chunk))
        yield from modem.flush()


def _row(burst: Burst) -> dict[str, Any]:
    header = burst.frame.header
    return {
        "start": burst.start,
        "sequence": header.sequence,
        "snr_db": round(burst.snr_db, 2),
        "cfo_hz": round(burst.cfo_hz, 2),
        "evm_db": round(burst.evm_db, 2),
        "mcs": burst.mcs.name,
        "layers": {
            "semantic": burst.semantic_ok if header.semantic_bytes else None,
            "mode": header.mode.name.lower(),
            "segments": burst.segments,
            "segment_failures": burst.segment_failures,
        },
        "label": None,
        "repaired": False,
    }


def _decode(codec: SemanticCodec, burst: Burst, folder: Path, index: int) -> dict[str, Any]:
    """Decode burst number ``index``, save its image in ``folder`` and return what to add to its row."""
    try:
        result = codec.decode(burst.frame, burst.detail_snr_db, burst.semantic_llr, burst.semantic_coded_llr)
    except FrameError as error:
        return {"image": None, "problem": str(error)}
    if not (result.label or burst.frame.detail):
        # Nothing arrived that the image could be made from.
        return {"image": None, "problem": None}
    # A sender that restarts repeats its sequence numbers; the index keeps it from overwriting earlier images.
    path = folder / f"{index:05d}-sequence-{burst.frame.header.sequence:05d}.png"
    try:
        save_png(path, result.image)
    except OSError as error:
        raise ModemError(f"{path}: cannot be written ({error.strerror}); choose another folder with --out") from None
    return {"label": result.label or None, "repaired": result.repaired, "image": str(path), "problem": None}


def _report(rows: list[dict[str, Any]], modem: BurstModem, options: argparse.Namespace) -> None:
    console = Console(highlight=False)
    if rows:
        table = Table(box=None, header_style="dim", pad_edge=False)
        for name in ("start", "seq.", "Es/N0 dB", "CFO Hz", "EVM dB", "MCS", "layers"):
            table.add_column(name, justify="left" if name in ("MCS", "layers") else "right", no_wrap=True)
        table.add_column("label")
        for row in rows:
            figures = (f"{row[name]:.1f}" for name in ("snr_db", "cfo_hz", "evm_db"))
            label = Text(row["label"] or "-")
            table.add_row(str(row["start"]), str(row["sequence"]), *figures, row["mcs"], _layers(row), label)
        console.print(table)
    counters = modem.counters
    totals = ((counters.samples, "sample"), (counters.detected, "preamble"), (counters.bursts, "burst"))
    parts = [_number(amount, what) for amount, what in totals]
    for events, what in (
        (counters.header_failures, "with a lost header"),
        (counters.oversize, "with a header beyond the longest burst"),
        (counters.truncated, "cut short by the end"),
        (counters.semantic_failures, "without the air code"),
        (counters.segment_failures, f"of {counters.segments:,} segments lost"),
        (counters.bad_samples, "samples not finite"),
    ):
        if events:
            parts.append(f"{events:,} {what}")
    if not rows:
        print(f"{options.file}: no burst found")
    print(", ".join(parts))
    images = sum(bool(row.get("image")) for row in rows)
    if images:
        print(f"{options.out}: {_number(images, 'image')}")


def _number(amount: int, what: str) -> str:
    return f"{amount:,} {what}{'' if amount == 1 else 's'}"


def _layers(row: dict[str, Any]) -> str:
    """Name the layers that arrived, for example ``air code, 7/8``."""
    layers, lost = row["layers"], "air code repaired" if row["repaired"] else "no air code"
    parts = [] if layers["semantic"] is None else ["air code" if layers["semantic"] else lost]
    if layers["segments"]:
        parts.append(f"{layers['segments'] - layers['segment_failures']}/{layers['segments']}")
    elif layers["mode"] == "analog":
        parts.append("analog")
    return ", ".join(parts) or "none"


def _tell_taps(taps: Taps) -> None:
    later = f"; {taps.skipped:,} later ones were left out" if taps.skipped else ""
    print(f"{taps.folder}: taps of {_number(taps.recorded, 'burst')}{later}", file=sys.stderr)
    if taps.errors:
        print(f"crlsc-modem: {taps.errors:,} files of taps could not be written: {taps.first_error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
