"""Channel that runs under another Python, for a GNU Radio that needs another numpy than Sionna."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from numpy.typing import ArrayLike, NDArray

from crlsc_phy.channel.settings import ChannelSettings
from crlsc_phy.errors import ServiceError
from crlsc_phy.net.channel.control import ask
from crlsc_phy.processes import end_process
from crlsc_phy.scalars import as_json

__all__ = ["ProcessChannel"]

_ANSWER_S = 30
_STOP_S = 5


class ProcessChannel:
    """Channel like :class:`crlsc_phy.channel.StreamChannel` that ``crlsc-channel`` runs under another interpreter.

    Args:
        python: The interpreter; crlsc-phy with Sionna and pyzmq must be installed there.
        settings: Settings of the channel, with one antenna at each end.

    Attributes:
        settings: Settings for the next sample.

    Raises:
        ServiceError: If the channel does not start there.
    """

    def __init__(self, python: str, settings: ChannelSettings) -> None:
        self.settings = settings
        self._folder = tempfile.TemporaryDirectory(prefix="crlsc-channel-")
        place = f"ipc://{self._folder.name}"
        self._control = f"{place}/control"
        config = {
            "radios": {"a": {"tx": f"pull@{place}/in"}, "b": {"rx": f"push:{place}/out"}},
            "links": [{"from": "a", "to": "b"} | asdict(settings)],
            "control": self._control,
        }
        file = Path(self._folder.name) / "config.yaml"
        # JSON is YAML too.
        file.write_text(json.dumps(config, default=as_json), encoding="utf-8")
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._process = subprocess.Popen(
                [python, "-m", "crlsc_phy.cli.channel", "run", str(file), "--json"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        except OSError as error:
            self._end()
            raise ServiceError(f"{python}: cannot be run ({error.strerror})") from None
        assert self._process.stdout and self._process.stderr
        if not self._process.stdout.readline():
            line = self._process.stderr.read().strip().splitlines()
            self.close()
            raise ServiceError(f"{python}: the channel does not start: {line[-1] if line else 'no message'}")
        self._push, self._pull = (self._context.socket(kind) for kind in (zmq.PUSH, zmq.PULL))
        self._pull.rcvtimeo = 1000 * _ANSWER_S
        self._push.connect(f"{place}/in")
        self._pull.connect(f"{place}/out")

    def __call__(self, iq: ArrayLike) -> NDArray[np.complex64]:
        """Pass samples, complex [n] or [1, n], through, and return new ones, complex64 [n].

        Raises:
            ServiceError: If the process has ended.
        """
        samples = np.ascontiguousarray(iq, np.complex64).reshape(-1)
        out = np.empty_like(samples)
        done = 0
        if len(samples):
            self._push.send(samples.tobytes())
        while done < len(samples):
            try:
                part = np.frombuffer(self._pull.recv(), np.complex64)
            except zmq.Again:
                raise ServiceError(f"the process of the channel sent nothing for {_ANSWER_S} s") from None
            out[done : done + len(part)] = part
            done += len(part)
        return out

    def set(self, **changes: Any) -> None:
        """Change settings, fields of :class:`crlsc_phy.channel.ChannelSettings`, while the channel runs.

        Raises:
            ChannelError: If a setting is unknown, of another type or out of range.
            ServiceError: If the channel refuses the change.
        """
        settings = self.settings.changed(**changes)
        ask({"do": "set"} | changes, self._control)
        self.settings = settings

    @property
    def slips(self) -> int:
        """Number of times that the sampling clock has repeated or skipped samples."""
        return int(ask({"do": "stats"}, self._control)["slips"]["a>b"])

    def close(self) -> None:
        """End the process."""
        with self._process:  # Closes its pipes.
            end_process(self._process, _STOP_S)
        self._end()

    def _end(self) -> None:
        self._context.destroy(linger=0)
        self._folder.cleanup()
