"""HTTP connection to a knowledge base on a server, with errors of one line.

The server is not trusted: answers are read up to a limit of size, and checked before they are used.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.files import sha256_of
from crlsc_phy.knowledge.folder import LARGEST_MANIFEST
from crlsc_phy.knowledge.manifest import FORMAT, FileFact, Manifest, is_folder_name
from crlsc_phy.manifest import MANIFEST
from crlsc_phy.net.hosts import reason_of
from crlsc_phy.net.kb.parcel import CONTENT_TYPE

__all__ = ["Connection", "GoneError", "Offer", "printable"]

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)
# A server that merges a large parcel takes minutes to answer.
_PUBLISH_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=300)
_LARGEST_ANSWER = 16 << 20
_LONGEST_REASON = 300
_PAUSES_S = (0.1, 0.3, 1.0, 2.0, 4.0)
"""Pauses before a file is requested again; they start over when more of it has arrived."""
_FAILURES = (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError)
_BLOCK = 1 << 18
_HASH = re.compile(r"[0-9a-f]{64}")


class GoneError(KnowledgeBaseError):
    """A server no longer has a file, for example after a compaction; its current generation has others."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Current generation of a base on a server.

    Attributes:
        generation: Name of the generation.
        id: SHA-256 of its manifest in hex.
        air_code: Id of the air code.
        keeps_vectors: Whether the base stores vectors beside codes.
    """

    generation: str
    id: str
    air_code: str
    keeps_vectors: bool


class Connection:
    """Connection to a knowledge base on a server; an asynchronous context manager.

    Args:
        url: ``http://HOST:PORT/kb/NAME``; ``/kb/NAME`` may be left out if the server has only one base.
        token: Token of the server.

    Attributes:
        url: Address of the base.
        received: Bytes of content received.

    Raises:
        KnowledgeBaseError: If ``url`` is not an address, or ``token`` has other characters than visible ASCII.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        if not _is_address(url):
            raise KnowledgeBaseError(f"{url}: not an address; give one like http://host:8423/kb/NAME")
        if token is not None and not re.fullmatch(r"[\x21-\x7e]+", token):
            raise KnowledgeBaseError("the token has other characters than visible ASCII; check it")
        self.url = url.rstrip("/")
        self.received = 0
        # No compression: compressed content could not be resumed, and its size would not be known.
        self._headers = {"Accept-Encoding": "identity"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    async def __aenter__(self) -> Connection:
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=_TIMEOUT, auto_decompress=False)
        try:
            if not re.search(r"/kb/[^/]+$", self.url):
                await self._choose()
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def _choose(self) -> None:
        listing = self._parsed(await self._ask("GET", "/", _LARGEST_ANSWER))
        names = [base["name"] for base in listing.get("bases", []) if isinstance(base, dict) and "name" in base]
        if len(names) != 1:
            known = ", ".join(printable(name) for name in names[:20])
            raise KnowledgeBaseError(f"{self.url}: serves {known or 'no base'}; add /kb/NAME to the address")
        self.url += f"/kb/{quote(str(names[0]), safe='')}"

    async def offer(self) -> Offer:
        """Ask for the current generation.

        Raises:
            KnowledgeBaseError: If the server cannot be reached, requires a token, does not have the base, or is not a
                knowledge base server.
        """
        try:
            answer = self._parsed(await self._ask("GET", "/current", 1 << 16))
        except GoneError:
            raise KnowledgeBaseError(f"{self.url}: the server has no such knowledge base") from None
        generation, identity, air_code = (str(answer.get(name)) for name in ("generation", "id", "air_code"))
        if not (is_folder_name(generation) and _HASH.fullmatch(identity) and _HASH.fullmatch(air_code)):
            raise self._not_ours()
        return Offer(generation, identity, air_code, answer.get("keeps_vectors") is True)

    async def manifest(self, offer: Offer) -> tuple[Manifest, bytes]:
        """Fetch and check the manifest of a generation; return it and its bytes.

        Raises:
            GoneError: If the server has another generation now.
            KnowledgeBaseError: If it is damaged.
        """
        raw = await self._ask("GET", f"/files/{offer.generation}/{MANIFEST}", LARGEST_MANIFEST)
        if hashlib.sha256(raw).hexdigest() != offer.id:
            raise GoneError(f"{self.url}: {MANIFEST} arrives damaged (SHA-256 differs); try again")
        manifest = Manifest.parse(raw, self.url)
        if (manifest.folder, manifest.air_code) != (offer.generation, offer.air_code):
            raise KnowledgeBaseError(f"{self.url}: {MANIFEST} is not that of generation {offer.generation}")
        return manifest, raw

    async def id_of(self, generation: str) -> str | None:
        """Return the SHA-256 of the manifest of a generation; None if the server no longer has it."""
        try:
            return hashlib.sha256(
                await self._ask("GET", f"/files/{generation}/{MANIFEST}", LARGEST_MANIFEST)
            ).hexdigest()
        except GoneError:
            return None

    async def fetch(self, name: str, fact: FileFact, target: Path, tell: Callable[[int], None]) -> None:
        """Fetch a file, or the missing part of it, and check its hash.

        Args:
            name: Name of the file on the server.
            fact: Its size and hash.
            target: File to write; a part that is there is continued.
            tell: Called with the number of bytes that are there.

        Raises:
            GoneError: If the server no longer has the file.
            KnowledgeBaseError: If it cannot be fetched, or its size or hash is wrong.
        """
        for _ in range(2):
            await self._fill(name, fact.size, target, tell)
            if await asyncio.to_thread(sha256_of, target) == fact.sha256:
                return
            # The part that was there may have been wrong; the second attempt fetches all of the file.
            target.unlink()
        raise KnowledgeBaseError(
            f"{self.url}: {name} arrives damaged (SHA-256 differs); try again, or verify the base on the server"
        )

    async def _fill(self, name: str, size: int, target: Path, tell: Callable[[int], None]) -> None:
        target.touch()
        failures = 0
        while (have := target.stat().st_size) != size:
            why = await self._continue(name, size, target, tell)
            there = target.stat().st_size
            failures = 0 if there > have else failures + 1
            if failures > len(_PAUSES_S):
                raise KnowledgeBaseError(
                    f"{self.url}: {name} was cut off at {there:,} of {size:,} bytes ({why}); pull again to go on"
                )
            if failures:
                await asyncio.sleep(_PAUSES_S[failures - 1])

    async def _continue(self, name: str, size: int, target: Path, tell: Callable[[int], None]) -> str:
        """Request the missing part of a file, and return why less than all of it arrived."""
        have = target.stat().st_size
        headers = {"Range": f"bytes={have}-"} if 0 < have < size else {}
        url = f"{self.url}/files/{name}"
        try:
            async with self._session.get(url, headers=headers, allow_redirects=False) as response:
                if response.status >= 500:
                    return f"it answers {response.status}"
                await self._check_status(response)
                start = f"bytes {have}-"
                resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(start)
                count = have if resumed else 0
                with target.open("ab" if resumed else "wb") as file:
                    async for block in response.content.iter_chunked(_BLOCK):
                        count += len(block)
                        self.received += len(block)
                        if count > size:
                            raise KnowledgeBaseError(f"{self.url}: sends more than the {size:,} bytes of {name}")
                        file.write(block)
                        tell(count)
        except _FAILURES as error:
            return _reason(error)
        return "it ended"

    async def publish(self, parcel: bytes) -> dict[str, Any]:
        """Send a parcel of entries, and return the answer of the server.

        Raises:
            KnowledgeBaseError: If the server cannot be reached or refuses the parcel.
        """
        options: dict[str, Any] = {"headers": {"Content-Type": CONTENT_TYPE}, "timeout": _PUBLISH_TIMEOUT}
        return self._parsed(await self._ask("POST", "/entries", _LARGEST_ANSWER, data=parcel, **options))

    async def _ask(self, method: str, place: str, largest: int, **options: Any) -> bytes:
        """Send a request, and return its answer of at most ``largest`` bytes."""
        raw = bytearray()
        try:
            url = f"{self.url}{place}"
            async with self._session.request(method, url, allow_redirects=False, **options) as response:
                await self._check_status(response)
                async for block in response.content.iter_chunked(_BLOCK):
                    raw += block
                    self.received += len(block)
                    if len(raw) > largest:
                        raise KnowledgeBaseError(f"{self.url}: answers with more than {largest:,} bytes")
        except _FAILURES as error:
            raise KnowledgeBaseError(
                f"{self.url}: cannot be reached ({_reason(error)}); check the address and whether the server runs"
            ) from None
        return bytes(raw)

    async def _check_status(self, response: aiohttp.ClientResponse) -> None:
        if response.status in (200, 206):
            return
        raw = await response.content.read(_LONGEST_REASON * 4)
        try:
            reason = printable(json.loads(raw)["error"])[:_LONGEST_REASON]
        except (ValueError, LookupError, TypeError, RecursionError):
            reason = printable(response.reason or "")
        if response.status in (404, 410):
            raise GoneError(f"{response.url}: is not there ({reason})")
        if response.status == 401:
            raise KnowledgeBaseError(
                f"{self.url}: {reason}; give the token of the server by --token-file or CRLSC_KB_TOKEN"
            )
        raise KnowledgeBaseError(f"{self.url}: the server refuses: {reason} (status {response.status})")

    def _parsed(self, raw: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise self._not_ours()
        return answer

    def _not_ours(self) -> KnowledgeBaseError:
        return KnowledgeBaseError(f"{self.url}: not a server of knowledge bases of format {FORMAT}; check the address")


def printable(said: object) -> str:
    """Return a text from a server without control characters, which a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in str(said))


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # Asking for the port checks it.
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "it does not answer"
    if isinstance(error, aiohttp.ClientConnectorError):
        return reason_of(error.os_error)
    return str(error) or type(error).__name__
