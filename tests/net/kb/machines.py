"""Servers and wires for the tests: real sockets, on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase

CODE = AirCode(np.random.default_rng(0).normal(size=(4, 256, 4)).astype(np.float32))


def unit(count: int, seed: int = 1) -> np.ndarray:
    """float32 [count, 16]."""
    vectors = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def named(start: int, stop: int) -> list[Entry]:
    return [Entry(f"e/{i}", f"label {i % 7}", "made for this test", "CC0-1.0") for i in range(start, stop)]


def make(
    path: Path, start: int = 0, stop: int = 2000, code: AirCode = CODE, keep_vectors: bool = True
) -> KnowledgeBase:
    """A base whose entry e/i always has the same vector."""
    return KnowledgeBase.create(path, code, unit(5000)[start:stop], named(start, stop), keep_vectors=keep_vectors)


def add(base: KnowledgeBase, start: int, stop: int) -> None:
    base.add(unit(5000)[start:stop], named(start, stop))


@contextmanager
def serving(*paths: Path, **options: Any) -> Iterator[str]:
    """A server in a thread; the address of its first base."""
    from crlsc_phy.net.kb.server import running

    loop, ready, addresses = asyncio.new_event_loop(), threading.Event(), []
    stop = asyncio.Event()

    async def run() -> None:
        async with running(paths, port=0, **options) as found:
            addresses.extend(found.values())
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield addresses[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


class Wire:
    """Stands between a terminal and a server, and does to what the server sends what a test wants.

    Attributes:
        received: Bytes that went to terminals.
        cuts: After how many more bytes connections break, one after another.
        dead: Whether new connections are refused once there are no more cuts.
        flips: How many blocks beyond 4 kB get a wrong byte.
    """

    def __init__(self, url: str) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, self._path = url.removeprefix("http://").split("/", 1)
        name, port = host.split(":")
        self._server = name, int(port)
        self.received, self.cuts, self.dead, self.flips = 0, [], False, 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/{self._path}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                terminal, _ = self._listener.accept()
                if self.dead and not self.cuts:
                    terminal.close()
                    continue
                server = socket.create_connection(self._server)
                threading.Thread(target=self._up, args=(terminal, server), daemon=True).start()
                threading.Thread(target=self._down, args=(server, terminal), daemon=True).start()

    def _up(self, terminal: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := terminal.recv(1 << 16):
                server.sendall(block)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _down(self, server: socket.socket, terminal: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := bytearray(server.recv(1 << 14)):
                if self.flips and len(block) > 4096:
                    self.flips -= 1
                    block[len(block) // 2] ^= 1
                cut = bool(self.cuts) and len(block) >= self.cuts[0]
                if cut:
                    del block[self.cuts.pop(0) :]
                elif self.cuts:
                    self.cuts[0] -= len(block)
                self.received += len(block)
                terminal.sendall(block)
                if cut:
                    break
        for end in (server, terminal):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def pretending(answers: dict[str, bytes], status: int = 200) -> Iterator[str]:
    """A server that answers paths with bytes, whatever they are."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path)
            self.send_response(status if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/kb/skb"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(
    url: str,
    method: str = "GET",
    path: str | None = None,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    """A request whose path no library tidies up."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    connection.request(method, parts.path if path is None else path, body, headers or {})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


def same(copy: Path, base: KnowledgeBase) -> bool:
    """Whether a folder holds what a base does, every byte of it."""
    KnowledgeBase.open(copy)._folder.check(base.manifest, thorough=True)
    opened = KnowledgeBase.open(copy)
    return opened.id == base.id and list(opened.entries) == list(base.entries)
