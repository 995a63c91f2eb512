"""A server of knowledge bases over HTTP: their generations as files, and a door for entries that terminals publish.

    GET  /                              the bases that are served
    GET  /kb/NAME/current               the current generation
    GET  /kb/NAME/files/000002/...      a file that the manifest of a generation names, or the manifest; also in part
    POST /kb/NAME/entries               a parcel of entries, see parcels.py

The files of a generation never change, so a terminal may read while a base is written to. A file that compaction has
deleted is gone (404), and the terminal starts again from the current generation.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import KnowledgeBase
from crlsc_phy.knowledge.folder import FORMAT, StoreFolder
from crlsc_phy.manifest import MANIFEST
from crlsc_phy.net.hosts import is_loopback
from crlsc_phy.net.kb.parcel import CONTENT_TYPE, LARGEST_PARCEL, unpack
from crlsc_phy.net.refused import RefusedError

__all__ = ["DEFAULT_PORT", "SERVICE", "running", "serve"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

DEFAULT_PORT = 8423
SERVICE = "crlsc-kb"
# Connections that are still busy when the server stops; a terminal resumes where it was cut off.
_PATIENCE_S = 3.0
_LONGEST_UPLOAD_S = 300.0
# Manifests whose files are kept in mind.
_MOST_KNOWN = 4096
_FILE = re.compile(r"[0-9]{6,9}/[a-z_]{1,32}\.[a-z]{1,16}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,1024}")
_log = logging.getLogger(__name__)


class ServedBase:
    """A base that is served.

    Args:
        path: Its folder; the folder's name is what it is served as.

    Raises:
        KnowledgeBaseError: If there is none.
    """

    def __init__(self, path: str | Path) -> None:
        self.folder = StoreFolder(path)
        self.name = self.folder.path.resolve().name
        self.publishing = asyncio.Lock()
        self._named: dict[tuple[str, int], frozenset[str]] = {}
        self.state()

    def state(self) -> dict[str, Any]:
        """What a terminal is told of the current generation."""
        manifest, identity = self.folder.read()
        return {
            "service": SERVICE,
            "format": FORMAT,
            "name": self.name,
            "generation": manifest.folder,
            "id": identity,
            "entries": manifest.entries,
            "air_code": manifest.air_code,
            "keeps_vectors": bool(manifest.vector_scale),
        }

    def find(self, name: str) -> Path | None:
        """Where a file is that the manifest of a generation names, or such a manifest; None for all else."""
        if not _FILE.fullmatch(name):
            return None
        folder, file = name.split("/")
        generations = self.folder.generations()
        if file == MANIFEST:
            named = folder in generations
        else:
            # The newest first: it names nearly everything that is asked for.
            named = any(name in self._files(generation) for generation in reversed(generations))
        return self.folder.path / name if named else None

    def _files(self, generation: str) -> frozenset[str]:
        try:
            key = (generation, (self.folder.path / generation / MANIFEST).stat().st_mtime_ns)
            if key not in self._named:
                if len(self._named) >= _MOST_KNOWN:
                    self._named.clear()
                self._named[key] = frozenset(self.folder.read(generation)[0].files)
            return self._named[key]
        except (OSError, KnowledgeBaseError):
            # Compacted away meanwhile, or damaged: it names nothing.
            return frozenset()

    def receive(self, raw: bytes) -> dict[str, Any]:
        """Add the entries of a parcel."""
        try:
            return asdict(KnowledgeBase.open(self.folder.path).receive(unpack(raw)))
        except KnowledgeBaseError as error:
            # Where it lies on this machine is nobody else's business.
            raise KnowledgeBaseError(str(error).replace(str(self.folder.path), self.name)) from None


class _Doors:
    """What answers to each address."""

    def __init__(self, bases: Sequence[ServedBase], allow_publish: bool) -> None:
        self._bases = {base.name: base for base in bases}
        self._allow_publish = allow_publish

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._list),
            web.get("/kb/{name}/current", self._current),
            web.get("/kb/{name}/files/{file:.+}", self._file),
            web.post("/kb/{name}/entries", self._entries),
        ]

    def _base(self, request: web.Request) -> ServedBase:
        name = request.match_info["name"]
        if name not in self._bases:
            raise RefusedError(404, "there is no such knowledge base here")
        return self._bases[name]

    async def _list(self, _: web.Request) -> web.StreamResponse:
        states = [await asyncio.to_thread(base.state) for base in self._bases.values()]
        return web.json_response({"service": SERVICE, "format": FORMAT, "bases": states})

    async def _current(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(await asyncio.to_thread(self._base(request).state))

    async def _file(self, request: web.Request) -> web.StreamResponse:
        path = await asyncio.to_thread(self._base(request).find, request.match_info["file"])
        if path is None:
            raise RefusedError(404, "no generation here has that file")
        return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})

    async def _entries(self, request: web.Request) -> web.StreamResponse:
        base = self._base(request)
        if not self._allow_publish:
            raise RefusedError(403, "publishing is off; start the server with --allow-publish")
        if request.content_type != CONTENT_TYPE:
            raise RefusedError(415, f"entries come as {CONTENT_TYPE}")
        if (request.content_length or 0) > LARGEST_PARCEL:
            raise RefusedError(413, f"a parcel has up to {LARGEST_PARCEL:,} bytes")
        # One at a time: a parcel fills memory, and a base has one writer.
        async with base.publishing:
            try:
                raw = await asyncio.wait_for(request.read(), _LONGEST_UPLOAD_S)
            except asyncio.TimeoutError:
                raise RefusedError(408, "the parcel took too long") from None
            try:
                return web.json_response(await asyncio.to_thread(base.receive, raw))
            except KnowledgeBaseError as error:
                raise RefusedError(409, str(error)) from None


def _application(doors: _Doors, token: str | None) -> web.Application:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        try:
            if token is not None and not hmac.compare_digest(given, f"Bearer {token}".encode()):
                raise RefusedError(401, "the token is missing or another")
            return await handler(request)
        except RefusedError as refused:
            return web.json_response({"error": str(refused)}, status=int(refused.code))
        except KnowledgeBaseError:
            _log.exception("a base that is served cannot be read")
            return web.json_response({"error": "the knowledge base cannot be read here"}, status=503)

    application = web.Application(middlewares=[guard], client_max_size=LARGEST_PARCEL)
    application.add_routes(doors.routes())
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
    """A server that runs while the context is open; arguments and errors are those of :func:`serve`.

    Yields:
        Where each base is served: addresses by name.
    """
    _check_token(host, token, without_token)
    bases = [ServedBase(path) for path in paths]
    names = [base.name for base in bases]
    for base in bases:
        if names.count(base.name) > 1:
            raise KnowledgeBaseError(f"{base.folder.path}: another base is named {base.name!r} too; rename a folder")
    runner = web.AppRunner(_application(_Doors(bases, allow_publish), token), shutdown_timeout=_PATIENCE_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, UnicodeError) as error:
            number = getattr(error, "errno", None) or 0
            # asyncio's own words repeat the address; a name that is not found has a negative number.
            reason = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or error
            raise KnowledgeBaseError(f"{host}:{port}: cannot be listened to ({reason}); choose another") from None
        taken, number = runner.addresses[0][:2]
        root = f"http://[{taken}]:{number}" if ":" in taken else f"http://{taken}:{number}"
        yield {name: f"{root}/kb/{quote(name)}" for name in names}
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
        paths: Their folders; each is served under its folder's name.
        host: Address to listen at; by default this machine alone can connect.
        port: Of TCP; 0 takes any.
        token: What terminals must show. It is sent as it is: beyond a trusted network put TLS in front.
        allow_publish: Whether terminals may add entries.
        without_token: Whether others than this machine may connect without one.
        ready: Called with the address of each base, by name, once terminals can connect.

    Raises:
        KnowledgeBaseError: If a folder holds no base, two have one name, a token is missing, or the port is taken.
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
        raise KnowledgeBaseError("a token is 1 to 1024 visible ASCII characters")
    if token is None and not is_loopback(host) and not without_token:
        raise KnowledgeBaseError(
            f"{host}: other machines could connect; set a token (CRLSC_KB_TOKEN, --token-file), or say --without-token"
        )
