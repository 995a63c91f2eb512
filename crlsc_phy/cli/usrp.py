"""``crlsc-usrp``: images over the air with USRPs, by the flowgraphs ``usrp_tx``, ``usrp_rx`` and ``usrp_loop``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crlsc_phy.cli import flowgraphs
from crlsc_phy.cli.arguments import count, finite, make_folder, not_negative, positive
from crlsc_phy.cli.verbs import run_verb
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import CrlscError, RadioError
from gr_blocks.usrp_device import check_device

__all__ = ["main"]

RATE_TOLERANCE = 1e-6
"""Relative. The receiver tolerates 40 ppm, of which the clocks of two devices take up to 5."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 2 (the input's fault) or 130 (interrupted)."""
    # UHD prints a banner on standard error; its warnings stay.
    os.environ.setdefault("UHD_LOG_CONSOLE_LEVEL", "warning")
    return run_verb(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crlsc-usrp", description="Send and receive images with USRPs.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    send = verbs.add_parser("tx", help="send images", description="Send images with a USRP.")
    receive = verbs.add_parser("rx", help="receive images", description="Receive the images of `crlsc-usrp tx`.")
    loop = verbs.add_parser("loop", help="both with one device", description="Send images to the device itself.")
    for verb in (send, receive, loop):
        add = verb.add_argument
        add("--device", default="", metavar="ARGS", help="UHD device arguments, such as type=b200 (any device)")
        add("--rate", type=positive, default=1e6, metavar="HZ", help="sample rate (%(default)g)")
        add("--freq", type=positive, default=2.45e9, metavar="HZ", help="carrier frequency (%(default)g)")
    for verb in (send, loop):
        add, power = verb.add_argument, "mean power of a burst; its peaks are 11 to 12 dB above (%(default)s)"
        add("--tx-gain", type=finite, default=20, metavar="DB", help="transmit gain (%(default)s)")
        add("--tx-antenna", default="TX/RX", metavar="NAME", help="transmit antenna (%(default)s)")
        add("--amplitude", type=_dbfs, default=-15, metavar="DBFS", help=power)
        flowgraphs.add_sender_options(verb)
    for verb in (receive, loop):
        add = verb.add_argument
        add("--rx-gain", type=finite, default=30, metavar="DB", help="receive gain (%(default)s)")
        add("--rx-antenna", default="RX2", metavar="NAME", help="receive antenna (%(default)s)")
        add("--taps", type=Path, metavar="FOLDER", help="record the receiver's internal signals, for crlsc-modem plot")
    receive.add_argument("--count", type=count, default=0, metavar="N", help="end after N images (no limit)")
    idle = "end after S without an image; 0 for never (%(default)s)"
    receive.add_argument("--idle", type=not_negative, default=20, metavar="S", help=idle)
    idle = "count an image as lost after S (%(default)s)"
    loop.add_argument("--idle", type=positive, default=5, metavar="S", help=idle)
    for verb, run in ((send, _send), (receive, _receive), (loop, _loop)):
        flowgraphs.add_codec_options(verb)
        verb.set_defaults(run=run)
    receive.add_argument("--out", type=Path, default=Path("out/usrp_rx"), help="folder for the results (%(default)s)")
    loop.add_argument("--out", type=Path, default=Path("out/usrp_loop"), help="folder for the results (%(default)s)")
    return parser


def _dbfs(text: str) -> float:
    value = finite(text)
    if value > 0:
        raise argparse.ArgumentTypeError(f"{text} dBFS is above full scale; give 0 or less")
    return value


def _send(options: argparse.Namespace) -> int:
    images = flowgraphs.count_images(options.images)
    flowgraph = _make("usrp_tx", options, _sender_settings(options))
    source, modulator = flowgraph.image_source_0, flowgraph.burst_modulator_0
    interrupted, seconds = _run(flowgraph, lambda: int(modulator.bursts + source.errors), images, "images on the air")
    if not (source.images or interrupted):
        raise CrlscError(f"no image was sent: {'; '.join(source.messages) or 'none found'}")
    result = {
        "images_sent": source.images,
        "bursts": modulator.bursts,
        "samples": modulator.samples,
        "seconds": round(seconds, 3),
        "usrp": flowgraph.usrp_counter_0.stats(),
        "problems": flowgraphs.problems_of(flowgraph),
    }
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        rows = (("images sent", source.images), ("bursts", modulator.bursts), *_device_rows(flowgraph))
        flowgraphs.print_rows([*rows, ("time", f"{seconds:.1f} s")], result["problems"])
    return _status(interrupted)


def _receive(options: argparse.Namespace) -> int:
    make_folder(options.out)
    settings = _receiver_settings(options) | {"count": options.count}
    flowgraph = _make("usrp_rx", options, settings)
    sink = flowgraph.image_sink_0
    return _report(options, flowgraph, settings, lambda: int(sink.images), options.count or None)


def _loop(options: argparse.Namespace) -> int:
    images = flowgraphs.count_images(options.images)
    make_folder(options.out)
    settings = _sender_settings(options) | _receiver_settings(options)
    flowgraph = _make("usrp_loop", options, settings)
    source, sink = flowgraph.image_source_0, flowgraph.image_sink_0
    return _report(options, flowgraph, settings, lambda: int(sink.images + sink.lost + source.errors), images)


def _common_settings(options: argparse.Namespace) -> dict[str, Any]:
    device = {"device": options.device, "samp_rate": options.rate, "freq": options.freq}
    return device | flowgraphs.codec_settings(options)


def _sender_settings(options: argparse.Namespace) -> dict[str, Any]:
    own = {name: getattr(options, name) for name in ("tx_gain", "tx_antenna", "amplitude")}
    return _common_settings(options) | own | flowgraphs.sender_settings(options)


def _receiver_settings(options: argparse.Namespace) -> dict[str, Any]:
    own = {name: getattr(options, name) for name in ("rx_gain", "rx_antenna", "idle")}
    taps = str(options.taps.resolve()) if options.taps else ""
    return _common_settings(options) | own | {"out": str(options.out.resolve()), "taps": taps}


def _make(name: str, options: argparse.Namespace, settings: dict[str, Any]) -> Any:
    """Return the flowgraph with its device.

    Raises:
        CrlscError: If the bundle, the device or a setting is wrong.
    """
    SemanticCodec.load(options.bundle, runtime=options.runtime)
    check_device(options.device)
    flowgraph_class = flowgraphs.compile_flowgraph(name)
    try:
        flowgraph = flowgraph_class(**settings)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise RadioError(f"the USRP with the device arguments {options.device!r} does not start: {reason}") from None
    for block in (getattr(flowgraph, f"uhd_usrp_{end}_0", None) for end in ("sink", "source")):
        actual = options.rate if block is None else block.get_samp_rate()
        if abs(actual / options.rate - 1) > RATE_TOLERANCE:
            raise RadioError(
                f"the USRP samples at {actual:g} Hz, not at {options.rate:g}; give a --rate that it supports"
            )
    return flowgraph


def _run(
    flowgraph: Any, done: Callable[[], int], total: int | None, task: str = "images over the air"
) -> tuple[bool, float]:
    """Run a flowgraph; return whether it was interrupted, and the duration in seconds."""
    began, interrupted = time.monotonic(), False
    try:
        flowgraphs.run(flowgraph, done, total, task)
    except KeyboardInterrupt:
        interrupted = True
    return interrupted, time.monotonic() - began


def _report(
    options: argparse.Namespace, flowgraph: Any, settings: dict[str, Any], done: Callable[[], int], total: int | None
) -> int:
    interrupted, seconds = _run(flowgraph, done, total)
    counted = {"usrp": flowgraph.usrp_counter_0.stats(), "receiver": flowgraph.burst_receiver_0.stats()}
    flowgraphs.finish(flowgraph, options, seconds, settings, _device_rows(flowgraph), **counted)
    return _status(interrupted)


def _device_rows(flowgraph: Any) -> list[tuple[str, Any]]:
    counted = flowgraph.usrp_counter_0.stats()
    rows: list[tuple[str, Any]] = []
    if hasattr(flowgraph, "uhd_usrp_sink_0"):
        rows += [("packets acknowledged by the device", f"{counted['acknowledged']} of {counted['packets']}")]
        rows += [("underruns", counted["underruns"])]
    if hasattr(flowgraph, "uhd_usrp_source_0"):
        # UHD's source reports overruns at most every 750 ms, and not the last ones; but it tags all of them.
        rows += [("overruns", max(counted["overruns"], flowgraph.burst_receiver_0.gaps))]
    return rows


def _status(interrupted: bool) -> int:
    if interrupted:
        raise KeyboardInterrupt
    return 0


if __name__ == "__main__":
    sys.exit(main())
