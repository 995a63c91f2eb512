"""``make demo-zmq``: a sender, a channel and a receiver as three programs that talk over ZMQ."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from crlsc_phy.channel import MODELS, ChannelSettings
from crlsc_phy.cli import flowgraphs
from crlsc_phy.cli.arguments import finite, make_folder
from crlsc_phy.cli.flowgraphs import ROOT
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import CrlscError, ServiceError
from crlsc_phy.phy import Numerology
from crlsc_phy.processes import end_process

__all__ = ["main"]

SENDER, RECEIVER = "tcp://127.0.0.1:8426", "tcp://127.0.0.1:8427"
STALL_S = 60
STOP_S = 10


def main(argv: list[str] | None = None) -> int:
    """Run the demonstration; returns the exit status: 0, 2 (the input's fault) or 130 (interrupted)."""
    options = _parser().parse_args(argv)
    try:
        return _demonstrate(options, Console(stderr=True))
    except CrlscError as error:
        print(f"demo-zmq: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("demo-zmq: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m crlsc_phy.cli.demo_zmq", description=__doc__)
    parser.add_argument("--channel", choices=tuple(MODELS), default="tdl-a", metavar="MODEL", help="(%(default)s)")
    parser.add_argument("--snr", type=finite, default=15, metavar="DB", help="Es/N0 on a carrier (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the channel (%(default)s)")
    flowgraphs.add_sender_options(parser)
    parser.add_argument("--out", type=Path, default=Path("out/demo_zmq"), help="folder for the results (%(default)s)")
    flowgraphs.add_codec_options(parser)
    return parser


def _demonstrate(options: argparse.Namespace, console: Console) -> int:
    make_folder(options.out)
    count = flowgraphs.count_images(options.images)
    # What is wrong with a channel or a bundle is told before three programs stumble over it.
    ChannelSettings(model=options.channel, snr_db=options.snr, seed=options.seed)
    SemanticCodec.load(options.bundle, runtime=options.runtime)
    for name in ("zmq_tx", "zmq_rx"):
        flowgraphs.compile_flowgraph(name, console)
    waveform = Numerology.preset("64")
    settings = {"snr_db": options.snr, "occupied": waveform.occupied / waveform.fft_size, "seed": options.seed}
    both = [f"--bundle={options.bundle.resolve()}", f"--runtime={options.runtime}"]
    sent = [f"--images={options.images.resolve()}", f"--mode={options.mode}", f"--mcs={options.mcs}"]
    program = [sys.executable, str(ROOT / "build/zmq_rx.py"), f"--address={RECEIVER}"]
    channel = [sys.executable, "-m", "crlsc_phy.cli.channel", "run", "--json", "--control", "tcp://127.0.0.1:*"]
    channel += ["--tx", f"pull+tags:{SENDER}", "--rx", f"push+tags:{RECEIVER}", "--model", options.channel]
    began = time.monotonic()
    with ExitStack() as stack:
        emulator = stack.enter_context(_Program([*channel, *(f"--set={k}={v}" for k, v in settings.items())]))
        receiver = stack.enter_context(_Program([*program, f"--out={options.out.resolve()}", *both]))
        program = [sys.executable, str(ROOT / "build/zmq_tx.py"), f"--address={SENDER}", f"--papr-db={options.papr}"]
        sender = stack.enter_context(_Program([*program, *sent, *both]))
        console.print(f"sender, {options.channel} and receiver are running", highlight=False)
        moved, done = time.monotonic(), 0
        while receiver.runs:
            if not emulator.runs:
                raise ServiceError(f"the channel has ended: {emulator.said()}")
            now = len(list((options.out / "received").glob("*.png")))
            moved, done = (time.monotonic(), now) if now != done else (moved, done)
            if time.monotonic() - moved > STALL_S:
                raise CrlscError(f"{done} of {count} images have come, and none for {STALL_S} s: {sender.said()}")
            time.sleep(0.1)
    metrics = json.loads((options.out / "metrics.json").read_text(encoding="utf-8"))
    metrics |= {"images_sent": count, "seconds": round(time.monotonic() - began, 3), "left_out": [], "problems": []}
    if options.json:
        print(json.dumps(metrics, indent=2))
    else:
        flowgraphs.report(metrics, options.out)
    return 0


class _Program:
    """A program that ends with its context; what it says is kept."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def said(self) -> str:
        """Its last line; ends it."""
        end_process(self._process, STOP_S)
        assert self._process.stdout
        lines = self._process.stdout.read().strip().splitlines()
        return lines[-1] if lines else "it says nothing"

    def __enter__(self) -> _Program:
        return self

    def __exit__(self, *_: object) -> None:
        end_process(self._process, STOP_S)


if __name__ == "__main__":
    sys.exit(main())
