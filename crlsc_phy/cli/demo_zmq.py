"""``make demo-zmq``: a sender, a channel and a receiver as three programs that talk over ZMQ."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from crlsc_phy.channel import MODELS, ChannelSettings
from crlsc_phy.cli import flowgraphs
from crlsc_phy.cli.arguments import finite, make_folder
from crlsc_phy.cli.verbs import run_verb
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import CrlscError, ServiceError
from crlsc_phy.phy import Numerology
from crlsc_phy.processes import end_process

__all__ = ["main"]

STALL_S = 60
STOP_S = 10


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 2 (the input's fault) or 130 (interrupted)."""
    return run_verb(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m crlsc_phy.cli.demo_zmq", description=__doc__)
    add = parser.add_argument
    add("--channel", choices=tuple(MODELS), default="tdl-a", metavar="MODEL", help="channel model (%(default)s)")
    add("--snr", type=finite, default=15, metavar="DB", help="Es/N0 on a carrier (%(default)s)")
    add("--seed", type=int, default=1, help="seed of the channel (%(default)s)")
    flowgraphs.add_sender_options(parser)
    add("--out", type=Path, default=Path("out/demo_zmq"), help="folder for the results (%(default)s)")
    flowgraphs.add_codec_options(parser)
    parser.set_defaults(run=_demonstrate)
    return parser


def _demonstrate(options: argparse.Namespace) -> int:
    make_folder(options.out)
    count = flowgraphs.count_images(options.images)
    # A wrong channel or bundle is reported here, once, instead of by three programs.
    ChannelSettings(model=options.channel, snr_db=options.snr, seed=options.seed)
    SemanticCodec.load(options.bundle, runtime=options.runtime)
    for name in ("zmq_tx", "zmq_rx"):
        flowgraphs.compile_flowgraph(name)
    began = time.monotonic()
    results = options.out / "metrics.json"
    results.unlink(missing_ok=True)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="crlsc-"))
        # The receiver is the last to start, and its end ends the run.
        programs = [stack.enter_context(_Program(command)) for command in _commands(options, folder)]
        Console(stderr=True).print(f"sender, {options.channel} and receiver are running", highlight=False)
        _wait(programs, options.out / "received", count)
        if not results.is_file():
            raise CrlscError(f"the receiver has ended without results: {programs[-1].last_line()}")
    metrics = json.loads(results.read_text(encoding="utf-8"))
    metrics |= {"images_sent": count, "seconds": round(time.monotonic() - began, 3), "left_out": [], "problems": []}
    flowgraphs.report(metrics, options)
    return 0


def _commands(options: argparse.Namespace, folder: str) -> list[list[str]]:
    """Return the commands of channel, sender and receiver, which meet at sockets in ``folder``."""
    sender, receiver = f"ipc://{folder}/sender", f"ipc://{folder}/receiver"
    waveform = Numerology.preset("64")
    settings = {"snr_db": options.snr, "occupied": waveform.occupied / waveform.fft_size, "seed": options.seed}
    channel = [sys.executable, "-m", "crlsc_phy.cli.channel", "run", "--json", "--control", f"ipc://{folder}/control"]
    channel += ["--tx", f"pull+tags:{sender}", "--rx", f"push+tags:{receiver}", "--model", options.channel]
    both = _arguments(flowgraphs.codec_settings(options))
    tx, rx = ([sys.executable, str(flowgraphs.build_folder() / f"zmq_{end}.py")] for end in ("tx", "rx"))
    return [
        [*channel, *(f"--set={name}={value}" for name, value in settings.items())],
        [*tx, f"--address={sender}", *_arguments(flowgraphs.sender_settings(options)), *both],
        [*rx, f"--address={receiver}", f"--out={options.out.resolve()}", *both],
    ]


def _arguments(settings: dict[str, Any]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


def _wait(programs: list[_Program], received: Path, count: int) -> None:
    """Wait for the receiver to end.

    Raises:
        CrlscError: If the channel ends first, or no image comes any more.
    """
    emulator, sender, receiver = programs
    moved, done = time.monotonic(), 0
    while receiver.runs:
        if not emulator.runs:
            raise ServiceError(f"the channel has ended: {emulator.last_line()}")
        now = len(list(received.glob("*.png")))
        moved, done = (time.monotonic(), now) if now != done else (moved, done)
        if time.monotonic() - moved > STALL_S:
            raise CrlscError(f"{done} of {count} images have come, and none for {STALL_S} s: {sender.last_line()}")
        time.sleep(0.1)


class _Program:
    """A program that ends with its context, and whose output is kept."""

    def __init__(self, command: list[str]) -> None:
        # A file, because a pipe that nobody reads stops the program once it is full.
        self._output = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(command, stdout=self._output, stderr=subprocess.STDOUT, text=True)

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def last_line(self) -> str:
        """End the program and return the last line that it printed."""
        end_process(self._process, STOP_S)
        self._output.seek(0)
        lines = self._output.read().strip().splitlines()
        return lines[-1] if lines else "it printed nothing"

    def __enter__(self) -> _Program:
        return self

    def __exit__(self, *_: object) -> None:
        end_process(self._process, STOP_S)
        self._output.close()


if __name__ == "__main__":
    sys.exit(main())
