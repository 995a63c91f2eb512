"""The codec as a ZMQ service; needs pyzmq.

    REQ, DEALER ─► ROUTER ─┐              ┌─► worker ─┐
                           ├─► queue ─────┼─► worker ─┼─► ROUTER ─► who asked
    PUSH ────────► PULL ───┘ (bounded)    └─► worker ─┘   PUSH ──► who pulls

One thread owns the sockets: it reads, queues, refuses and answers. The workers are threads, because onnxruntime and
faiss release Python's lock. Waiting is bounded: a full queue refuses requests (``busy``), and so does a wait beyond
``timeout_s`` (``timeout``).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import zmq

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import CrlscError, FrameError, ImageError, ServiceError, brief
from crlsc_phy.net.codec.stats import Stats
from crlsc_phy.net.codec.wire import (
    DEFAULT_ADDRESS,
    LARGEST_PART,
    VERSION,
    JsonMessage,
    PduMessage,
    Request,
    message_of,
)
from crlsc_phy.net.curve import Doorkeeper, use_server_keys
from crlsc_phy.net.hosts import check_private
from crlsc_phy.net.messages import Data, Meta, decode_message, encode_message, is_whole
from crlsc_phy.net.refused import RefusedError

__all__ = ["CodecServer"]

_TICK_MS = 50
_LOOK_EVERY_S = 1.0
_LINGER_MS = 500
# Messages that libzmq may hold for a peer, in each direction.
_HIGH_WATER = 32
_CODES = {ImageError: "image", FrameError: "frame", ServiceError: "message"}
_WAKE = "inproc://done"
_log = logging.getLogger(__name__)


@dataclass
class _Job:
    """A request under way; ``envelope`` addresses its answer, None for the PUSH socket."""

    message: JsonMessage | PduMessage
    envelope: list[bytes] | None
    arrived: float
    request: Request | None = None
    parts: list[bytes] | None = None
    error: RefusedError | None = None


class CodecServer:
    """A codec service.

    It binds its addresses when it is made, and answers while :meth:`run` runs, or in a thread of its own within a
    ``with`` block.

    Args:
        codec: The codec that encodes and decodes.
        address: Address for requests, such as ``tcp://127.0.0.1:8424``; port ``*`` takes any free port.
        pull: Address for jobs whose results leave at ``push``; both or neither must be given.
        push: Address for the results of the jobs of ``pull``.
        workers: Threads that encode and decode.
        queue_size: Most requests that may wait for a worker.
        timeout_s: Longest wait of a request for a worker, in seconds.
        keys: Folder of keys (:mod:`crlsc_phy.net.curve`); connections are then encrypted, and clients need a key.
        without_keys: Whether other machines may connect without keys.

    Attributes:
        stats: Counters.

    Raises:
        ServiceError: If an address is wrong or in use, keys are missing, or a number is out of range.
    """

    def __init__(
        self,
        codec: SemanticCodec,
        address: str = DEFAULT_ADDRESS,
        *,
        pull: str | None = None,
        push: str | None = None,
        workers: int = 2,
        queue_size: int = 64,
        timeout_s: float = 5.0,
        keys: str | Path | None = None,
        without_keys: bool = False,
    ) -> None:
        for name, value in (("workers", workers), ("queue_size", queue_size), ("timeout_s", timeout_s)):
            if not value > 0:
                raise ServiceError(f"{name} is {value}; it must be above 0")
        if (pull is None) != (push is None):
            raise ServiceError(
                "only one of pull and push is given; results of jobs from pull leave at push, so give both"
            )
        for where in (address, pull, push):
            if where is not None:
                check_private(where, keys is not None, without_keys)
        self.stats = Stats()
        self._codec, self._keys, self._workers, self._timeout_s = codec, keys, workers, timeout_s
        self._jobs: queue.Queue[_Job | None] = queue.Queue(queue_size)
        self._done: deque[_Job] = deque()
        self._stopping = threading.Event()
        self._last_line = ""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        self._handlers: dict[zmq.Socket[bytes], Callable[[], None]] = {}
        try:
            self._wake = self._context.socket(zmq.PULL)
            # Unlimited: there are never more messages than jobs.
            self._wake.rcvhwm = 0
            self._wake.bind(_WAKE)
            self._handlers[self._wake] = self._on_done
            self._doorkeeper = Doorkeeper(self._context, keys)
            self._router = self._bind("requests", zmq.ROUTER, address, self._on_request)
            self._router.router_mandatory = True
            if pull is not None and push is not None:
                self._bind("pull", zmq.PULL, pull, self._on_pull)
                self._bind("push", zmq.PUSH, push)
            self._handlers |= {each: partial(self._doorkeeper.attend, each) for each in self._doorkeeper.sockets}
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> CodecServer:
        self._thread = threading.Thread(target=self.run, name="codec service")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join()

    @property
    def address(self) -> str:
        """Address for requests."""
        return self.addresses["requests"]

    @property
    def addresses(self) -> dict[str, str]:
        """The bound addresses, by ``requests``, ``pull`` and ``push``."""
        return {name: each.get_string(zmq.LAST_ENDPOINT).rstrip("\0") for name, each in self._sockets.items()}

    def run(self) -> None:
        """Answer until :meth:`stop` is called; then finish the requests that workers have begun, and close."""
        threads = [threading.Thread(target=self._work, name=f"worker {n}") for n in range(self._workers)]
        threads.append(threading.Thread(target=self._look_for_new_entries, name="refresh"))
        for thread in threads:
            thread.start()
        poller = zmq.Poller()
        for socket in self._handlers:
            poller.register(socket, zmq.POLLIN)
        try:
            while not self._stopping.is_set():
                for socket, _ in poller.poll(_TICK_MS):
                    self._handlers[socket]()
        finally:
            self._stopping.set()
            for _ in range(self._workers):
                self._jobs.put(None)
            for thread in threads:
                thread.join()
            self._send_answers()
            self.close()

    def stop(self) -> None:
        """End :meth:`run`; any thread or signal handler may call it."""
        self._stopping.set()

    def close(self) -> None:
        """Release the addresses; needed only if :meth:`run` is never called."""
        self._context.destroy(linger=_LINGER_MS)

    def _bind(self, name: str, kind: int, address: str, handler: Callable[[], None] | None = None) -> zmq.Socket[bytes]:
        socket = self._sockets[name] = self._context.socket(kind)
        socket.maxmsgsize = LARGEST_PART
        socket.rcvhwm = socket.sndhwm = _HIGH_WATER
        # libzmq forgets a peer that no longer answers its heartbeats.
        socket.heartbeat_ivl, socket.heartbeat_timeout = 5000, 15_000
        socket.ipv6 = "[" in address
        if self._keys is not None:
            use_server_keys(socket, self._keys)
            self._doorkeeper.watch(socket)
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            raise ServiceError(f"{address}: cannot be bound ({zmq.strerror(error.errno or 0)})") from None
        if handler:
            self._handlers[socket] = handler
        return socket

    def _on_request(self) -> None:
        parts = self._router.recv_multipart()
        # An empty part ends the envelope. A DEALER may leave it out, and may send an empty part as its data.
        end = next((end for end in (2, 3) if parts[end - 1 : end] == [b""] and len(parts) > end), 1)
        self._take(_Job(message_of(parts[end:]), parts[:end], time.monotonic()))

    def _on_pull(self) -> None:
        self._take(_Job(message_of(self._sockets["pull"].recv_multipart()), None, time.monotonic()))

    def _on_done(self) -> None:
        self._wake.recv()
        self._send_answers()

    def _send_answers(self) -> None:
        while self._done:
            self._reply(self._done.popleft())

    def _take(self, job: _Job) -> None:
        """Answer a request at once if possible, or queue it."""
        try:
            job.request = job.message.read()
            self.stats.requests[job.request.operation] += 1
            if job.request.operation != "stats":
                self._jobs.put_nowait(job)
                return
            job.parts = job.message.answer(self._snapshot(), job.request.data)
        except (RefusedError, ServiceError) as error:
            self.stats.requests["unreadable"] += 1
            job.error = _refusal(error)
        except queue.Full:
            self.stats.dropped += job.envelope is None
            job.error = RefusedError("busy", f"busy: {self._jobs.maxsize} requests wait already; ask again later")
        self._reply(job)

    def _reply(self, job: _Job) -> None:
        """Send the answer or the error of a job."""
        if job.error is not None:
            self.stats.errors[str(job.error.code)] += 1
            self._say(str(job.error))
            parts = job.message.refuse(job.error)
        else:
            assert job.parts is not None
            assert job.request is not None
            self.stats.answered(job.request.operation, job.arrived)
            parts = job.parts
        try:
            if job.envelope is not None:
                self._router.send_multipart([*job.envelope, *parts], zmq.NOBLOCK)
            elif "push" in self._sockets:
                self._sockets["push"].send_multipart(parts, zmq.NOBLOCK)
        except zmq.ZMQError:
            # The client has gone, or does not read.
            self.stats.undelivered += 1

    def _say(self, line: str) -> None:
        """Log a line, once if it repeats."""
        if line != self._last_line:
            self._last_line = line
            _log.warning("%s", line)

    def _snapshot(self) -> Meta:
        return self.stats.snapshot(
            self._doorkeeper.turned_away,
            protocol=VERSION,
            bundle=str(self._codec.bundle.folder),
            kb_id=self._codec.kb_id.hex(),
            workers=self._workers,
            queued=self._jobs.qsize(),
            queue_size=self._jobs.maxsize,
        )

    def _work(self) -> None:
        """Carry out jobs until a None comes."""
        done = self._context.socket(zmq.PUSH)
        done.sndhwm = 0
        done.connect(_WAKE)
        while (job := self._jobs.get()) is not None:
            try:
                job.parts = self._answer(job)
            except (RefusedError, CrlscError) as error:
                job.error = _refusal(error)
            except BaseException as error:  # The next request may be fine. Panics of Rust are no Exceptions.
                _log.exception("a worker failed")
                job.error = RefusedError("internal", f"{type(error).__name__} in the service; see its log")
            self._done.append(job)
            done.send(b"")
        done.close(linger=_LINGER_MS)

    def _answer(self, job: _Job) -> list[bytes]:
        if self._stopping.is_set():
            raise RefusedError("stopping", "the service is stopping; ask again later")
        if time.monotonic() - job.arrived > self._timeout_s:
            raise RefusedError("timeout", f"waited more than {self._timeout_s:g} s for a worker")
        assert job.request is not None
        return job.message.answer(*_carry_out(self._codec, job.request))

    def _look_for_new_entries(self) -> None:
        """Load newer generations of the knowledge bases, without a restart."""
        while not self._stopping.wait(_LOOK_EVERY_S):
            self._refresh()

    def _refresh(self) -> None:
        try:
            for line in self._codec.refresh():
                self._say(line)
        except Exception as error:  # The next attempt may succeed.
            self._say(f"knowledge bases cannot be refreshed ({type(error).__name__}: {brief(error)})")


def _refusal(error: RefusedError | CrlscError) -> RefusedError:
    return error if isinstance(error, RefusedError) else RefusedError(_CODES.get(type(error), "internal"), str(error))


def _carry_out(codec: SemanticCodec, request: Request) -> tuple[Meta, Data]:
    if request.operation == "event":
        return request.meta, request.data
    options: dict[str, Any] = {}
    meta = dict(request.meta)
    if request.operation == "encode":
        options = {name: meta.pop(name) for name in ("mode", "levels") if name in meta}
        return encode_message(codec, meta, request.data, **options)
    if is_whole(meta.get("neighbours")):
        options["neighbours"] = max(0, meta.pop("neighbours"))
    return decode_message(codec, meta, request.data, **options)
