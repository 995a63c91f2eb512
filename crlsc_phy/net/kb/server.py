"""HTTP server of knowledge bases: the files of their generations, and entries that terminals publish.

    GET  /                              the bases that are served
    GET  /kb/NAME/current               the current generation
    GET  /kb/NAME/files/000002/...      a file listed in the manifest of a generation, or the manifest; ranges work
    POST /kb/NAME/entries               a parcel of entries, see parcel.py

The files of a generation never change, so terminals can read while a base is written to. A file that was deleted by a
compaction gives 404; the terminal then starts again from the current generation.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import KnowledgeBase
from crlsc_phy.knowledge.folder import StoreFolder
from crlsc_phy.knowledge.manifest import FORMAT
from crlsc_phy.manifest import MANIFEST
from crlsc_phy.net.hosts import is_loopback, reason_of
from crlsc_phy.net.kb.parcel import CONTENT_TYPE, LARGEST_PARCEL, unpack

__all__ = ["DEFAULT_PORT", "SERVICE", "running", "serve"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

DEFAULT_PORT = 8423
SERVICE = "crlsc-kb"
# Time that open connections have when the server stops; terminals can resume later.
_PATIENCE_S = 3.0
_LONGEST_UPLOAD_S = 300.0
# Number of manifests whose file names are cached.
_MOST_KNOWN = 4096
_FILE = re.compile(r"[0-9]{6,9}/[a-z_]{1,32}\.[a-z]{1,16}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,1024}")
_log = logging.getLogger(__name__)


class ServedBase:
    """Knowledge base on the server, under its folder's name."""

    def __init__(self, path: str | Path) -> None:
        self.folder = StoreFolder(path)
        self.name = self.folder.path.resolve().name
        self.publishing = asyncio.Lock()
        self._named: dict[tuple[str, int], frozenset[str]] = {}
        # Fails if the folder holds no base.
        self.state()

    def state(self) -> dict[str, Any]:
        """Return the description of the current generation for terminals."""
        manifest, identity = self.folder.read()
        return {
            "service": SERVICE,
            "format": FORMAT,
            "name": self.name,
            "generation": manifest.folder,
            "id": identity,
            "entries": manifest.entries,
            "air_code": manifest.air_code,
            "keeps_vectors": manifest.keep_vectors,
        }

    def find(self, name: str) -> Path | None:
        """Return the path of a manifest or of a file listed in one; None for all other names."""
        if not _FILE.fullmatch(name):
            return None
        folder, file = name.split("/")
        generations = self.folder.generations()
        # The newest first: it lists nearly all files that are requested.
        listed = any(name in self._files(generation) for generation in reversed(generations))
        return self.folder.path / name if listed or (file == MANIFEST and folder in generations) else None

    def _files(self, generation: str) -> frozenset[str]:
        try:
            key = (generation, (self.folder.path / generation / MANIFEST).stat().st_mtime_ns)
            if key not in self._named:
                if len(self._named) >= _MOST_KNOWN:
                    self._named.clear()
                self._named[key] = frozenset(self.folder.read(generation)[0].files)
            return self._named[key]
        except (OSError, KnowledgeBaseError):
            # It is damaged, or was deleted by a compaction.
            return frozenset()

    def receive(self, raw: bytes) -> dict[str, Any]:
        """Add the entries of a parcel, and return the result."""
        try:
            return asdict(KnowledgeBase.open(self.folder.path).receive(unpack(raw)))
        except KnowledgeBaseError as error:
            # Terminals need not know the path on this machine.
            raise KnowledgeBaseError(str(error).replace(str(self.folder.path), self.name)) from None


def _refusal(status: int, reason: str) -> web.Response:
    """Return the answer to a request that is refused."""
    return web.json_response({"error": reason}, status=status)


class _Handlers:
    """Handlers of the requests."""

    def __init__(self, bases: Mapping[str, ServedBase], allow_publish: bool) -> None:
        self._bases, self._allow_publish = bases, allow_publish

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._list),
            web.get("/kb/{name}/current", self._of_base(self._current)),
            web.get("/kb/{name}/files/{file:.+}", self._of_base(self._file)),
            web.post("/kb/{name}/entries", self._of_base(self._entries)),
        ]

    def _of_base(self, handler: Callable[[web.Request, ServedBase], Awaitable[web.StreamResponse]]) -> Handler:
        """Return a handler that finds the base named in the address."""

        async def handle(request: web.Request) -> web.StreamResponse:
            base = self._bases.get(request.match_info["name"])
            return await handler(request, base) if base else _refusal(404, "the server has no such knowledge base")

        return handle

    async def _list(self, _: web.Request) -> web.StreamResponse:
        states = [await asyncio.to_thread(base.state) for base in self._bases.values()]
        return web.json_response({"service": SERVICE, "format": FORMAT, "bases": states})

    async def _current(self, _: web.Request, base: ServedBase) -> web.StreamResponse:
        return web.json_response(await asyncio.to_thread(base.state))

    async def _file(self, request: web.Request, base: ServedBase) -> web.StreamResponse:
        path = await asyncio.to_thread(base.find, request.match_info["file"])
        if path is None:
            return _refusal(404, "no generation of the knowledge base has that file")
        return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})

    async def _entries(self, request: web.Request, base: ServedBase) -> web.StreamResponse:
        if not self._allow_publish:
            return _refusal(403, "publishing is off; start the server with --allow-publish")
        if request.content_type != CONTENT_TYPE:
            return _refusal(415, f"the content type is {request.content_type}; it must be {CONTENT_TYPE}")
        if (request.content_length or 0) > LARGEST_PARCEL:
            return _refusal(413, f"the parcel is too large; at most {LARGEST_PARCEL:,} bytes are allowed")
        # One at a time, since a parcel takes much memory and a base has one writer.
        async with base.publishing:
            try:
                raw = await asyncio.wait_for(request.read(), _LONGEST_UPLOAD_S)
            except asyncio.TimeoutError:
                return _refusal(408, f"the parcel took more than {_LONGEST_UPLOAD_S:g} s")
            try:
                return web.json_response(await asyncio.to_thread(base.receive, raw))
            except KnowledgeBaseError as error:
                return _refusal(409, str(error))


def _application(handlers: _Handlers, token: str | None) -> web.Application:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if token is not None and not hmac.compare_digest(given, f"Bearer {token}".encode()):
            return _refusal(401, "the token is missing or wrong")
        try:
            return await handler(request)
        except KnowledgeBaseError:
            _log.exception("a knowledge base cannot be read")
            return _refusal(503, "the server cannot read the knowledge base")

    application = web.Application(middlewares=[guard], client_max_size=LARGEST_PARCEL)
    application.add_routes(handlers.routes())
    return application


@asynccontextmanager
async def running(
    paths: Sequence[str | Path],
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    token: str | None = None,
    allow_publish: bool = False,
    without_token: bool = False,
) -> AsyncIterator[dict[str, str]]:
    """Run a server while the context is open.

    Args:
        paths: See :func:`serve`.
        host: See :func:`serve`.
        port: See :func:`serve`.
        token: See :func:`serve`.
        allow_publish: See :func:`serve`.
        without_token: See :func:`serve`.

    Yields:
        Address of each base, by name.

    Raises:
        KnowledgeBaseError: See :func:`serve`.
    """
    _check_token(host, token, without_token)
    bases: dict[str, ServedBase] = {}
    for base in map(ServedBase, paths):
        if base.name in bases:
            raise KnowledgeBaseError(
                f"{base.folder.path}: another base has the name {base.name!r} too; rename a folder"
            )
        bases[base.name] = base
    runner = web.AppRunner(_application(_Handlers(bases, allow_publish), token), shutdown_timeout=_PATIENCE_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, UnicodeError) as error:
            raise KnowledgeBaseError(
                f"{host}:{port}: cannot listen there ({reason_of(error)}); choose another address or port"
            ) from None
        taken, number = runner.addresses[0][:2]
        root = f"http://[{taken}]:{number}" if ":" in taken else f"http://{taken}:{number}"
        yield {name: f"{root}/kb/{quote(name)}" for name in bases}
    finally:
        await runner.cleanup()


def serve(
    paths: Sequence[str | Path],
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    token: str | None = None,
    allow_publish: bool = False,
    without_token: bool = False,
    ready: Callable[[dict[str, str]], None] | None = None,
) -> None:
    """Serve knowledge bases until SIGINT or SIGTERM.

    Args:
        paths: Folders of the bases; each base is served under its folder's name.
        host: Address to listen on; by default only this machine can connect.
        port: TCP port; 0 takes a free one.
        token: Token that terminals must send. It is not encrypted: outside a trusted network, use a TLS proxy.
        allow_publish: Whether terminals may add entries.
        without_token: Whether other machines may connect without a token.
        ready: Called with the address of each base, by name, when terminals can connect.

    Raises:
        KnowledgeBaseError: If a folder holds no base, two folders have the same name, the token is missing or
            malformed, or the port is in use.
    """

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        options: dict[str, Any] = {"token": token, "allow_publish": allow_publish, "without_token": without_token}
        async with running(paths, host=host, port=port, **options) as addresses:
            if ready:
                ready(addresses)
            await stop.wait()

    asyncio.run(run())


def _check_token(host: str, token: str | None, without_token: bool) -> None:
    if token is not None and not _TOKEN.fullmatch(token):
        raise KnowledgeBaseError("the token must be 1 to 1024 visible ASCII characters")
    if token is None and not is_loopback(host) and not without_token:
        raise KnowledgeBaseError(
            f"{host}: other machines could connect; set a token (CRLSC_KB_TOKEN, --token-file), or add --without-token"
        )
