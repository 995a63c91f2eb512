"""``crlsc-kb serve``, ``pull`` and ``publish``: knowledge bases between machines."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, ProgressColumn, TransferSpeedColumn

from crlsc_phy.cli.verbs import show
from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import KnowledgeBase

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["add_parsers"]

TOKEN = "CRLSC_KB_TOKEN"
DEFAULT_PORT = 8423


def add_parsers(verbs: Any) -> None:
    """Add the verbs to the subparsers of ``crlsc-kb``."""
    serve = verbs.add_parser("serve", help="serve knowledge bases to other machines")
    serve.description = "Serve knowledge bases over HTTP, each under its folder's name, until interrupted."
    serve.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="folder of a knowledge base")
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (%(default)s: only this machine can connect)"
    )
    serve.add_argument("--port", type=_port, default=DEFAULT_PORT, help="TCP port; 0 takes a free one (%(default)s)")
    serve.add_argument("--allow-publish", action="store_true", help="allow clients to add entries")
    serve.add_argument("--without-token", action="store_true", help="allow other machines to connect without a token")
    serve.set_defaults(run=_serve)

    pull = verbs.add_parser("pull", help="copy a knowledge base from a server, or update the copy")
    pull.description = "Copy a knowledge base from a server, or update the copy. Only missing files are fetched."
    pull.add_argument("url", metavar="URL", help="address of the base, such as http://host:8423/kb/NAME")
    pull.add_argument("path", type=Path, metavar="PATH", help="folder of the copy")
    pull.set_defaults(run=_pull)

    publish = verbs.add_parser("publish", help="add entries to a knowledge base on a server")
    publish.description = "Add entries to a knowledge base on a server. Entries that it has already are left out."
    publish.add_argument("path", type=Path, metavar="PATH", help="folder of the knowledge base with the entries")
    publish.add_argument("url", metavar="URL", help="address of the base, such as http://host:8423/kb/NAME")
    which = publish.add_mutually_exclusive_group()
    which.add_argument("--names", nargs="+", metavar="NAME", help="names of the entries (by default all)")
    which.add_argument("--label", help="the entries with this label")
    publish.set_defaults(run=_publish)

    for verb in (serve, pull, publish):
        verb.add_argument(
            "--token-file",
            type=Path,
            metavar="FILE",
            help=f"file with the token of the server (by default ${TOKEN}, if set)",
        )
        verb.add_argument("--json", action="store_true", help="print the result as JSON")


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise ValueError(f"{text} is not a port; choose 0 to 65535")
    return value


def _serve(options: argparse.Namespace) -> int:
    def ready(addresses: dict[str, str]) -> None:
        show(options, {"serving": addresses}, *(f"{name}: {address}" for name, address in addresses.items()))
        sys.stdout.flush()

    _net().serve(
        options.paths,
        host=options.host,
        port=options.port,
        token=_token(options),
        allow_publish=options.allow_publish,
        without_token=options.without_token,
        ready=ready,
    )
    return 0


def _pull(options: argparse.Namespace) -> int:
    net, token = _net(), _token(options)
    with _bar("pull", (DownloadColumn(), TransferSpeedColumn()), options.json) as progress:
        pulled = net.pull(options.url, options.path, token=token, progress=progress)
    state = f"generation {pulled.generation}, {pulled.entries:,} entries, id {pulled.id[:12]}"
    done = f"{pulled.files:,} fetched" if pulled.files else "up to date"
    return show(options, asdict(pulled), f"{options.path}: {state}; {done}, {pulled.received:,} bytes received")


def _publish(options: argparse.Namespace) -> int:
    net, token = _net(), _token(options)
    base = KnowledgeBase.open(options.path)
    names = options.names
    if options.label is not None:
        names = base.named(options.label)
        if not names:
            raise KnowledgeBaseError(f"{options.path}: has no entry with the label {options.label!r}")
    with _bar("publish", (MofNCompleteColumn(),), options.json) as progress:
        merged = net.publish(base, options.url, names, token=token, progress=progress)
    alike = (f"  {name} has the same label and code as {there}" for name, there in merged.alike)
    text = f"{options.url}: {merged.added:,} added, {merged.duplicates:,} duplicates left out"
    return show(options, asdict(merged), text, *alike)


@contextmanager
def _bar(what: str, columns: tuple[ProgressColumn, ...], quiet: bool) -> Iterator[Callable[[int, int], None]]:
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    with Progress(what, BarColumn(), *columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _token(options: argparse.Namespace) -> str | None:
    if options.token_file is None:
        return os.environ.get(TOKEN) or None
    try:
        token = str(options.token_file.read_text(encoding="utf-8-sig").strip())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise KnowledgeBaseError(f"{options.token_file}: cannot be read ({reason})") from None
    if not token:
        raise KnowledgeBaseError(f"{options.token_file}: is empty; write a token into it")
    return token


def _net() -> ModuleType:
    # aiohttp takes a while to load, and terminals without a network need not have it.
    try:
        from crlsc_phy import net
        from crlsc_phy.net.kb import server  # noqa: F401
    except ModuleNotFoundError as error:
        raise KnowledgeBaseError(f"{error.name} is not installed; run pip install 'crlsc-phy[net]'") from None
    return net
