"""Channel emulator: passes streams of samples from radios over channels to radios; needs pyzmq.

All links advance together, sample by sample. A radio receives the sum of the channels from all senders to it. As many
samples go out as came in, so that radios that wait for each other do not drift apart.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
import zmq
from pydantic import Field

from crlsc_phy.channel import StreamChannel
from crlsc_phy.errors import ChannelError, CrlscError, ServiceError, brief
from crlsc_phy.net.channel.config import OPTIONS, EmulatorConfig
from crlsc_phy.net.channel.streams import SINKS, SOURCES, Place, Samples, Sink, Source, Tag
from crlsc_phy.net.curve import Doorkeeper
from crlsc_phy.scalars import as_json

__all__ = ["ChannelServer"]

_CHUNK = 1 << 16
_TICK_MS = 10
_RATE_OVER_S = 1.0
_MOST_QUESTION = 1 << 16
_LONGEST_RECORD_S = 100
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _RampQuestion:
    setting: str
    to: float
    seconds: Annotated[float, Field(ge=0, le=1e9)]


@dataclass(frozen=True)
class _RecordQuestion:
    file: str
    start: Annotated[int, Field(ge=0, lt=1 << 62)]
    stop: Annotated[int, Field(ge=0, lt=1 << 62)]


@dataclass
class _Ramp:
    """Way of a setting from one value to another, in the time of the stream."""

    begin: int
    end: int
    low: float
    high: float


class ChannelServer:
    """Server that runs the channels of a configuration.

    Args:
        config: Radios and links.

    Attributes:
        position: Number of samples that every stream has advanced.

    Raises:
        ServiceError: If it cannot listen at an address.
        ChannelError: If a channel cannot be made.
    """

    def __init__(self, config: EmulatorConfig) -> None:
        self._config = config
        self.position = 0
        self._channels = {link.name: StreamChannel(**vars(link.settings)) for link in config.links}
        self._ramps: dict[tuple[str, str], _Ramp] = {}
        """By link and setting."""
        self._stopping = threading.Event()
        self._started = self._measured = time.monotonic()
        self._measured_at, self._rate = 0, 0.0
        self._lines: dict[str, str] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sources: dict[str, Source] = {}
        self._sinks: dict[str, Sink] = {}
        self._control: zmq.Socket[bytes] | None = None
        try:
            self._doorkeeper = Doorkeeper(self._context, config.keys or None)
            for name, radio in config.radios.items():
                if radio.tx:
                    socket = radio.tx.open(self._context, SOURCES[radio.tx.form], config.keys)
                    self._sources[name] = Source(radio.tx, socket, config.queue)
                if radio.rx:
                    socket = radio.rx.open(self._context, SINKS[radio.rx.form], config.keys)
                    self._sinks[name] = Sink(radio.rx, socket, config.queue)
            if config.control:
                self._control = Place("rep", config.control, binds=True).open(self._context, zmq.REP, config.keys)
                self._control.maxmsgsize = _MOST_QUESTION
            for socket in self._sockets().values():
                # libzmq has one monitor for each socket; the source of a REQ socket uses it.
                if socket.type != zmq.REQ:
                    self._doorkeeper.watch(socket)
        except BaseException:
            self.close()
            raise

    def addresses(self) -> dict[str, str]:
        """Return the addresses of the sockets by their names: ``control``, ``RADIO.tx`` and ``RADIO.rx``."""
        return {name: each.get_string(zmq.LAST_ENDPOINT).rstrip("\0") for name, each in self._sockets().items()}

    def _sockets(self) -> dict[str, zmq.Socket[bytes]]:
        sockets = {f"{name}.tx": source.socket for name, source in self._sources.items()}
        sockets |= {f"{name}.rx": sink.socket for name, sink in self._sinks.items()}
        return sockets | ({"control": self._control} if self._control else {})

    def run(self) -> None:
        """Pass samples on until :meth:`stop` is called, then close."""
        try:
            idle = True
            while not self._stopping.is_set():
                self._attend(_TICK_MS if idle else 0)
                idle = not self._step()
        finally:
            self.close()

    def stop(self) -> None:
        """End :meth:`run`; may be called from any thread or signal handler."""
        self._stopping.set()

    def close(self) -> None:
        """Close the sockets; needed only if :meth:`run` is never called."""
        self._context.destroy(linger=0)

    def _attend(self, timeout_ms: int) -> None:
        """Receive and send as much as is possible now, and answer questions."""
        for source in self._sources.values():
            source.ask()
        handlers: dict[Any, tuple[int, Callable[[], None]]] = {}
        for source in self._sources.values():
            if source.hungry:
                handlers[source.socket] = zmq.POLLIN, source.fill
        for sink in self._sinks.values():
            if sink.events:
                handlers[sink.socket] = sink.events, sink.flush
        if self._control:
            handlers[self._control] = zmq.POLLIN, self._answer
        for socket in self._doorkeeper.sockets:
            handlers[socket] = zmq.POLLIN, partial(self._doorkeeper.attend, socket)
        ready = zmq.zmq_poll([(socket, events) for socket, (events, _) in handlers.items()], timeout_ms)
        for socket, _ in ready:
            handlers[socket][1]()
        for name, source in self._sources.items():
            self._tell(name, source.last_error)

    def _tell(self, name: str, line: str) -> None:
        """Log a line, unless it was the last one of this name."""
        if line and self._lines.get(name) != line:
            self._lines[name] = line
            _log.warning("%s: %s", name, line)

    def _step(self) -> bool:
        """Advance all streams as far as possible; return whether there was anything to do."""
        if self._config.together and not all(source.samples for source in self._sources.values()):
            return False
        now = time.monotonic()
        # A sender that was heard a moment ago is waited for; one that is silent is not.
        heard = {
            name: source
            for name, source in self._sources.items()
            if source.waiting or now - source.last < self._config.patience_s
        }
        count = min((source.waiting for source in heard.values()), default=0)
        if self._config.full == "wait":
            count = min(count, *(sink.room for sink in self._sinks.values()))
        count = min(count, _CHUNK)
        if not count:
            return False
        self._ramps = {key: ramp for key, ramp in self._ramps.items() if self._advance(*key, ramp)}
        sent: dict[str, Samples] = {}
        tags: dict[str, list[Tag]] = {}
        for name, source in self._sources.items():
            if source.waiting >= count:
                sent[name], tags[name] = source.take(count)
            else:
                sent[name], tags[name] = np.zeros(count, np.complex64), []
        received = {name: np.zeros(count, np.complex64) for name in self._sinks}
        arrived: dict[str, list[Tag]] = {name: [] for name in self._sinks}
        for link in self._config.links:
            received[link.receiver] = received[link.receiver] + self._channels[link.name](sent[link.sender])
            arrived[link.receiver] += tags[link.sender]
        for name, sink in self._sinks.items():
            sink.give(received[name], sorted(arrived[name], key=lambda tag: tag.offset))
        self.position += count
        return True

    def _advance(self, link: str, setting: str, ramp: _Ramp) -> bool:
        """Set the present value of a ramp; return whether the ramp goes on."""
        part = min((self.position - ramp.begin) / max(ramp.end - ramp.begin, 1), 1.0)
        try:
            self._channels[link].set(**{setting: ramp.low + part * (ramp.high - ramp.low)})
        except ChannelError as error:
            self._tell(link, f"the ramp of {setting} ends here: {error}")
            return False
        return self.position < ramp.end

    def _answer(self) -> None:
        """Answer one question at the control socket."""
        assert self._control
        try:
            question = json.loads(self._control.recv(zmq.NOBLOCK))
            if not isinstance(question, dict):
                raise ServiceError('a question must be a JSON object such as {"do": "stats"}')
            answer = {"ok": True} | self._carry_out(question)
        except zmq.Again:
            return
        except (CrlscError, ValueError, RecursionError) as error:
            answer = {"ok": False, "error": " ".join(str(error).split())}
        except Exception as error:
            # A question must not end the streams, whatever it is.
            _log.exception("a question failed")
            answer = {"ok": False, "error": f"internal error ({type(error).__name__}: {brief(error)})"}
        self._control.send_string(json.dumps(answer, default=as_json))

    def _carry_out(self, question: dict[str, Any]) -> dict[str, Any]:
        verbs = {"get": self._get, "set": self._set, "ramp": self._ramp, "record": self._record, "stats": self._stats}
        verb = str(question.pop("do", None))
        if verb == "stop":
            self.stop()
            return {}
        if verb not in verbs:
            raise ServiceError(f"question {verb!r} is unknown; choose one of {', '.join((*verbs, 'stop'))}")
        return verbs[verb](question)

    def _channel(self, question: dict[str, Any]) -> tuple[str, StreamChannel]:
        only = next(iter(self._channels)) if len(self._channels) == 1 else ""
        name = str(question.pop("link", only))
        if name not in self._channels:
            raise ServiceError(f"link {name!r} is unknown; choose one of {', '.join(self._channels)}")
        return name, self._channels[name]

    def _get(self, question: dict[str, Any]) -> dict[str, Any]:
        name, channel = self._channel(question)
        return {"link": name, "settings": asdict(channel.settings), "position": channel.position}

    def _set(self, question: dict[str, Any]) -> dict[str, Any]:
        name, channel = self._channel(question)
        channel.set(**question)
        for setting in question:
            self._ramps.pop((name, setting), None)
        return {"link": name, "position": channel.position}

    def _ramp(self, question: dict[str, Any]) -> dict[str, Any]:
        name, channel = self._channel(question)
        asked = OPTIONS.build(_RampQuestion, question, "ramp")
        low = getattr(channel.settings, asked.setting, None)
        if isinstance(low, bool) or not isinstance(low, int | float):
            raise ServiceError(
                f"ramp: setting {asked.setting!r} is not a number now; name one that is, or set it first"
            )
        channel.check(**{asked.setting: asked.to})
        end = self.position + round(asked.seconds * channel.settings.sample_rate)
        self._ramps[name, asked.setting] = _Ramp(self.position, end, float(low), asked.to)
        return {"link": name, "from": low, "until": end}

    def _record(self, question: dict[str, Any]) -> dict[str, Any]:
        name, channel = self._channel(question)
        asked = OPTIONS.build(_RecordQuestion, question, "record")
        if not 0 < asked.stop - asked.start <= _LONGEST_RECORD_S * channel.settings.sample_rate:
            raise ServiceError(f"record: stop must be above start, by {_LONGEST_RECORD_S} s of samples at most")
        channel.record(asked.file, asked.start, asked.stop)
        return {"link": name, "file": asked.file}

    def _stats(self, _: dict[str, Any]) -> dict[str, Any]:
        now = time.monotonic()
        if now - self._measured >= _RATE_OVER_S:
            self._rate = (self.position - self._measured_at) / (now - self._measured)
            self._measured, self._measured_at = now, self.position
        told = ("samples", "messages", "waiting", "dropped", "errors", "last_error")
        radios: dict[str, dict[str, Any]] = {}
        for end, streams in (("tx", self._sources), ("rx", self._sinks)):
            for name, stream in streams.items():
                radios.setdefault(name, {})[end] = {key: getattr(stream, key) for key in told if hasattr(stream, key)}
        return {
            "seconds": round(now - self._started, 3),
            "position": self.position,
            "samples_per_s": round(self._rate),
            "turned_away": self._doorkeeper.turned_away,
            "radios": radios,
            "slips": {name: channel.slips for name, channel in self._channels.items()},
        }
