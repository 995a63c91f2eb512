"""``make demo``: images through the codec, the modem and a channel, in GNU Radio."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from crlsc_phy.cli import flowgraphs
from crlsc_phy.cli.arguments import finite, make_folder
from crlsc_phy.cli.verbs import run_verb
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import CrlscError

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 2 (the input's fault) or 130 (interrupted)."""
    return run_verb(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m crlsc_phy.cli.demo", description=__doc__)
    add = parser.add_argument
    add(
        "--snr", dest="snr_db", type=finite, default=12, metavar="DB", help="Es/N0 on an occupied carrier (%(default)s)"
    )
    text = "one of Sionna's models, such as tdl-a (GNU Radio's, with five taps)"
    add("--channel", default="", metavar="MODEL", help=text)
    add("--speed", type=finite, default=3, metavar="M/S", help="speed of the terminal with --channel (%(default)s)")
    text = "delay spread of --channel, where it scales (%(default)s)"
    add("--delay-spread", type=finite, default=100e-9, metavar="S", help=text)
    add("--cfo-hz", type=finite, default=1000, metavar="HZ", help="frequency offset (%(default)s)")
    add("--sro-ppm", type=finite, default=5, metavar="PPM", help="sample rate offset (%(default)s)")
    add("--seed", type=int, default=1, help="seed of channel and noise (%(default)s)")
    flowgraphs.add_sender_options(parser)
    add("--out", type=Path, default=Path("out/demo"), help="folder for the results (%(default)s)")
    add("--taps", type=Path, metavar="FOLDER", help="record the receiver's internal signals, for crlsc-modem plot")
    flowgraphs.add_codec_options(parser)
    parser.set_defaults(run=_demonstrate)
    return parser


def _demonstrate(options: argparse.Namespace) -> int:
    make_folder(options.out)
    count = flowgraphs.count_images(options.images)
    bundle_id = SemanticCodec.load(options.bundle, runtime=options.runtime).bundle.shared_id.hex()
    loopback = flowgraphs.compile_flowgraph("loopback_sionna" if options.channel else "loopback_sim")
    names = ("snr_db", "cfo_hz", "sro_ppm", "seed", *(("channel", "speed", "delay_spread") if options.channel else ()))
    settings = {name: getattr(options, name) for name in names}
    settings |= flowgraphs.sender_settings(options) | flowgraphs.codec_settings(options)
    taps = str(options.taps.resolve()) if options.taps else ""
    flowgraph = loopback(out=str(options.out.resolve()), taps=taps, **settings)
    source, sink = flowgraph.image_source_0, flowgraph.image_sink_0
    seconds = flowgraphs.run(flowgraph, lambda: int(sink.images + sink.lost + source.errors), count)
    if not sink.records:
        raise CrlscError(f"no image was sent: {'; '.join(source.messages) or 'none found'}")
    given = {"images": str(options.images), "bundle": str(options.bundle), "bundle_id": bundle_id}
    flowgraphs.finish(flowgraph, options, seconds, settings | given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
