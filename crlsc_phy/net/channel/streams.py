"""Streams of complex64 samples over ZMQ, in the forms that GNU Radio and srsRAN use.

    pull, sub    messages of whole samples come from GNU Radio's PUSH or PUB sink
    req          samples are requested of GNU Radio's REP sink, by a uint32: the largest number that may come
    srsran-tx    samples are requested of an srsRAN transmitter, by one byte
    push, pub    messages of whole samples go to GNU Radio's PULL or SUB source
    rep          samples go to GNU Radio's REQ source on request
    srsran-rx    samples go to an srsRAN receiver on request

An address such as ``pull:tcp://127.0.0.1:5555`` gives form and place. As in GNU Radio, sources connect and sinks
listen; ``pull@tcp://...`` and ``push>tcp://...`` reverse that. With ``+tags`` after the form, as in ``pull+tags:tcp://...``,
messages begin with GNU Radio's tag header.

If a message has several parts, as those of GNU Radio's PUB sink with a key, the first part is the key, whatever its
length, and never samples. ``sub+key=NAME:tcp://...`` takes only messages whose key begins with NAME, as GNU Radio's SUB
source does; ``pub+key=NAME:tcp://...`` sends a key with each message.
"""

from __future__ import annotations

import re
import struct
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
import zmq
from numpy.typing import NDArray

from crlsc_phy.errors import ServiceError
from crlsc_phy.net.curve import use_client_keys, use_server_keys
from crlsc_phy.net.pmt_wire import skip

__all__ = ["SINKS", "SOURCES", "Place", "Sink", "Source", "Tag"]

Samples = NDArray[np.complex64]

SOURCES: dict[str, int] = {"pull": zmq.PULL, "sub": zmq.SUB, "req": zmq.REQ, "srsran-tx": zmq.REQ}
# A ROUTER is a REP that learns when the peer that asked is gone; its samples are kept for the next one.
SINKS: dict[str, int] = {"push": zmq.PUSH, "pub": zmq.PUB, "rep": zmq.ROUTER, "srsran-rx": zmq.ROUTER}

_ITEM = 8
_MOST_BYTES = 1 << 24
"""Largest message; libzmq refuses larger ones."""
_MESSAGE = 1 << 14
"""Samples of a message that is sent."""
_MOST_TAGS = 10_000
_HIGH_WATER = 16
_ASK_AGAIN_S = 1.0
_TAG_HEADER = struct.Struct("<HBQQ")
_TAG_MAGIC, _TAG_VERSION = 0x5FF0, 1
_ADDRESS = re.compile(
    r"(?P<form>[a-z-]+)(?P<tags>\+tags)?(\+key=(?P<key>[^:@>]+))?(?P<way>[:@>])(?P<address>[a-z]+://.+)"
)
_KEYED = ("sub", "pub")


@dataclass(frozen=True)
class Tag:
    """Stream tag: its sample, and key, value and source as serialised PMTs."""

    offset: int
    content: bytes


@dataclass(frozen=True)
class Place:
    """Place that a stream comes from or goes to.

    Attributes:
        form: A key of :data:`SOURCES` or :data:`SINKS`.
        address: Address as ZMQ writes it.
        binds: Whether this side listens there.
        tags: Whether messages begin with tags.
        key: Beginning of the key that messages must have, or key that they are sent with; empty for any, or none.
    """

    form: str
    address: str
    binds: bool
    tags: bool = False
    key: bytes = b""

    @classmethod
    def parse(cls, text: str, forms: dict[str, int]) -> Place:
        """Read ``FORM[+tags][+key=NAME]:ADDRESS``, whose FORM is a key of ``forms``: of SOURCES or of SINKS.

        Raises:
            ServiceError: If the text is of another form.
        """
        match = _ADDRESS.fullmatch(text)
        if not match or match["form"] not in forms:
            choices = f"write FORM:tcp://HOST:PORT, where FORM is one of {', '.join(forms)}"
            raise ServiceError(f"stream {text!r} is unknown; {choices}")
        form, way, key = match["form"], match["way"], (match["key"] or "").encode()
        if key and form not in _KEYED:
            raise ServiceError(f"stream {text!r}: only {' and '.join(_KEYED)} have keys; leave out +key=")
        return cls(form, match["address"], forms is SINKS if way == ":" else way == "@", bool(match["tags"]), key)

    def open(self, context: zmq.Context[zmq.Socket[bytes]], kind: int, keys: str = "") -> zmq.Socket[bytes]:
        """Open a socket there.

        Args:
            context: Context of the socket.
            kind: Type of the socket, a value of :data:`SOURCES` or :data:`SINKS`.
            keys: Folder of CURVE keys; empty for none.

        Raises:
            ServiceError: If it cannot listen there, or a CURVE key cannot be read.
        """
        socket = context.socket(kind)
        socket.linger = 0
        socket.maxmsgsize = _MOST_BYTES
        socket.rcvhwm = socket.sndhwm = _HIGH_WATER
        socket.ipv6 = "[" in self.address
        if kind == zmq.SUB:
            socket.subscribe(self.key)
        if kind == zmq.ROUTER:
            socket.router_mandatory = True
        if kind == zmq.REQ:
            # A peer that died before it answered is asked again when it is back; keep-alive tells that it died.
            socket.req_relaxed = True
            socket.tcp_keepalive, socket.tcp_keepalive_idle, socket.tcp_keepalive_intvl = 1, 10, 5
        if keys:
            (use_server_keys if self.binds else use_client_keys)(socket, keys)
        try:
            (socket.bind if self.binds else socket.connect)(self.address)
        except zmq.ZMQError as error:
            raise ServiceError(f"{self.address}: {zmq.strerror(error.errno or 0)}") from None
        return socket


class Source:
    """Receiver of a stream of samples.

    Args:
        place: Place that the stream comes from.
        socket: Socket opened there.
        limit: Number of samples that may wait; more are left with the sender, or with ZMQ.

    Attributes:
        socket: Socket to poll if :attr:`hungry`.
        samples, messages, errors: Counters.
        waiting: Number of samples that wait.
        last: Time of the last samples, of ``time.monotonic``; 0 if there were none.
        last_error: Line about the last error.
        tags: Tags of samples that wait, with offsets counted from the first sample ever.
    """

    def __init__(self, place: Place, socket: zmq.Socket[bytes], limit: int) -> None:
        self.socket, self._place, self._limit = socket, place, limit
        self._waiting: deque[Samples] = deque()
        self.waiting = self.samples = self.messages = self.errors = 0
        self.last = self._asked = 0.0
        self.last_error = ""
        self.tags: deque[Tag] = deque(maxlen=_MOST_TAGS)
        asks = SOURCES[place.form] == zmq.REQ
        self._partings = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED) if asks else None

    @property
    def hungry(self) -> bool:
        """True if more samples may come."""
        return self.waiting < self._limit

    def ask(self) -> None:
        """Request samples, if the form is one of requests."""
        if not self._partings or not self.hungry:
            return
        now, asked = time.monotonic(), self._asked
        if asked and now - asked < _ASK_AGAIN_S:
            return
        left = self._someone_left(self._partings)
        if asked:
            # Only a peer that left is asked again: a slow one would lose its answer by a second question.
            if left:
                # It may have answered before it left.
                self.fill()
            if not left or self._asked != asked:
                return
        question = b"\x00" if self._place.form == "srsran-tx" else struct.pack("<I", self._limit - self.waiting)
        try:
            self.socket.send(question, zmq.NOBLOCK)
            self._asked = now
        except zmq.Again:
            # Nobody is there yet.
            pass

    @staticmethod
    def _someone_left(partings: zmq.Socket[bytes]) -> bool:
        """True if a connection has ended since the last call."""
        left = False
        while partings.poll(0):
            partings.recv_multipart()
            left = True
        return left

    def fill(self) -> None:
        """Receive what has come, up to the limit."""
        while self.hungry and (self._asked or not self._partings):
            try:
                *key, frame = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._asked = 0.0
            # Samples without a key may begin like one, which is all that ZMQ looks at.
            if key or not self._place.key:
                self._take_in(frame.buffer)
            self.ask()

    def _take_in(self, data: memoryview) -> None:
        self.messages += 1
        try:
            data, tags = self._untagged(data) if self._place.tags else (data, [])
        except ServiceError as error:
            self._fail(str(error))
            return
        whole = len(data) // _ITEM * _ITEM
        if whole != len(data):
            self._fail(f"a message ends {len(data) - whole} bytes into a sample")
        samples = np.frombuffer(data[:whole], np.complex64)
        if len(samples):
            self.tags.extend(tag for tag in tags if 0 <= tag.offset - self.samples < len(samples))
            self._waiting.append(samples)
            self.waiting += len(samples)
            self.samples += len(samples)
            self.last = time.monotonic()

    def _untagged(self, data: memoryview) -> tuple[memoryview, list[Tag]]:
        if len(data) < _TAG_HEADER.size:
            raise ServiceError(f"a message of {len(data)} bytes is too short for the header of tags")
        magic, version, offset, count = _TAG_HEADER.unpack_from(data)
        if (magic, version) != (_TAG_MAGIC, _TAG_VERSION):
            raise ServiceError(
                "a message does not begin with the header of tags; set the sender to pass tags, or leave out +tags"
            )
        if count > _MOST_TAGS:
            raise ServiceError(f"a message claims {count} tags; {_MOST_TAGS} is the limit")
        rest, tags = data[_TAG_HEADER.size :], []
        for _ in range(count):
            if len(rest) < 8:
                raise ServiceError("a message ends within its tags")
            (place,) = struct.unpack_from("<Q", rest)
            end = 8
            for _ in range(3):
                end += skip(rest[end:])
            # The sender counts from its own first sample; here the first sample that came is 0.
            tags.append(Tag(place - offset + self.samples, bytes(rest[8:end])))
            rest = rest[end:]
        return rest, tags

    def _fail(self, line: str) -> None:
        self.errors += 1
        self.last_error = f"{self._place.address}: {line}"

    def take(self, count: int) -> tuple[Samples, list[Tag]]:
        """Return the next ``count`` samples of those that wait, complex64 [count], and their tags.

        The offsets of the tags are counted from the first of these samples.
        """
        first_place = self.samples - self.waiting
        tags = []
        while self.tags and self.tags[0].offset < first_place + count:
            tag = self.tags.popleft()
            tags.append(Tag(tag.offset - first_place, tag.content))
        parts = []
        self.waiting -= count
        while count:
            first = self._waiting.popleft()
            if len(first) > count:
                self._waiting.appendleft(first[count:])
                first = first[:count]
            parts.append(first)
            count -= len(first)
        return np.concatenate(parts) if len(parts) != 1 else parts[0], tags


class Sink:
    """Sender of a stream of samples.

    Args:
        place: Place that the stream goes to.
        socket: Socket opened there.
        limit: Number of samples that may wait for the receiver.

    Attributes:
        socket: Socket to poll for :attr:`events`.
        samples, waiting, dropped, errors: Counters.
    """

    def __init__(self, place: Place, socket: zmq.Socket[bytes], limit: int) -> None:
        self.socket, self._place, self._limit = socket, place, limit
        self._waiting: deque[tuple[Samples, list[Tag]]] = deque()
        self.waiting = self.samples = self.dropped = self.errors = 0
        self._offset = 0
        self._asker: list[bytes] | None = None
        self._wanted = 0

    @property
    def room(self) -> int:
        """Number of samples that may be given now."""
        return max(self._limit - self.waiting, 0)

    @property
    def events(self) -> int:
        """Events to poll for, of :mod:`zmq`."""
        if SINKS[self._place.form] == zmq.ROUTER and self._asker is None:
            return zmq.POLLIN
        return zmq.POLLOUT if self._waiting else 0

    def give(self, samples: Samples, tags: list[Tag]) -> None:
        """Send samples, complex64 [n], when the receiver can take them, with tags counted from the first of them.

        Samples that there is no room for are dropped and counted.
        """
        fits = min(len(samples), self.room)
        self.dropped += len(samples) - fits
        for start in range(0, fits, _MESSAGE):
            part = samples[start : min(start + _MESSAGE, fits)]
            here = [Tag(tag.offset - start, tag.content) for tag in tags if 0 <= tag.offset - start < len(part)]
            self._waiting.append((part, here))
            self.waiting += len(part)
        self.flush()

    def flush(self) -> None:
        """Send as much as the receiver takes now."""
        if SINKS[self._place.form] == zmq.ROUTER:
            self._answer()
            return
        while self._waiting:
            samples, tags = self._waiting[0]
            try:
                key = [self._place.key] if self._place.key else []
                self.socket.send_multipart([*key, self._message(samples, tags)], zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._sent(len(samples))
            self._waiting.popleft()

    def _answer(self) -> None:
        """Answer requests as long as there are samples."""
        while self._asker or self._ask():
            if not self._waiting:
                return
            samples, tags = self._waiting[0]
            part = samples[: self._wanted]
            here = [tag for tag in tags if tag.offset < len(part)]
            assert self._asker
            try:
                self.socket.send_multipart([*self._asker, self._message(part, here)], zmq.NOBLOCK)
            except zmq.Again:
                # libzmq does not know yet that earlier answers were read; this one is sent when it does.
                return
            except zmq.ZMQError:
                # The peer is gone: the next one that asks gets the samples.
                self._asker = None
                continue
            self._asker = None
            self._waiting.popleft()
            if len(part) < len(samples):
                rest = [Tag(tag.offset - len(part), tag.content) for tag in tags if tag.offset >= len(part)]
                self._waiting.appendleft((samples[len(part) :], rest))
            self._sent(len(part))

    def _ask(self) -> bool:
        """Receive a request; return whether there was one."""
        try:
            parts = self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        # Identities end at an empty part if there is one; what lies between it and the question is not for the answer.
        ends = parts.index(b"", 1) if b"" in parts[1:-1] else 0
        envelope, question = parts[: ends + 1], parts[-1]
        most = struct.unpack("<I", question)[0] if len(question) == 4 else self._limit
        if len(question) not in (1, 4) or not most:
            self.errors += 1
            most = most or self._limit
        self._asker, self._wanted = envelope, most
        return True

    def _message(self, samples: Samples, tags: list[Tag]) -> bytes | memoryview:
        if not self._place.tags:
            return samples.data.cast("B") if samples.flags.c_contiguous else samples.tobytes()
        parts = [_TAG_HEADER.pack(_TAG_MAGIC, _TAG_VERSION, self._offset, len(tags))]
        parts += [struct.pack("<Q", self._offset + tag.offset) + tag.content for tag in tags]
        return b"".join((*parts, samples.tobytes()))

    def _sent(self, count: int) -> None:
        self._offset += count
        self.samples += count
        self.waiting -= count
