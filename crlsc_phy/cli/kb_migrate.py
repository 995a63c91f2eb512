"""``crlsc-kb migrate``: copy a knowledge base from a folder to Milvus, or back."""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from crlsc_phy.cli.verbs import show
from crlsc_phy.knowledge.migrate import migrate, open_base

if TYPE_CHECKING:
    from crlsc_phy.cli.verbs import Subparsers

__all__ = ["add_parsers"]


def add_parsers(subparsers: Subparsers) -> None:
    """Add the verb ``migrate``."""
    verb = subparsers.add_parser("migrate", help="copy a base from a folder to Milvus, or back")
    verb.description = (
        "Copy a knowledge base and compare the copy with it; codes stay as they are. A base is a folder, or "
        "milvus:URI#COLLECTION. The URI is http://host:19530 for a server or cluster, or the path of a file of "
        "milvus-lite, which ends in .db. An interrupted copy continues when the command is run again. A token for "
        "Milvus is read from the environment variable MILVUS_TOKEN."
    )
    verb.add_argument("source", metavar="SOURCE", help="the base to copy")
    verb.add_argument("target", metavar="TARGET", help="the new base")
    verb.add_argument(
        "--index", default="", metavar="SPEC", help="search index of the copy, in the syntax of the target"
    )
    verb.add_argument(
        "--timeout",
        type=float,
        default=10.0,
        metavar="S",
        help="time limit of each request to Milvus in seconds (%(default)s)",
    )
    verb.add_argument("--json", action="store_true", help="print the result as JSON")
    verb.set_defaults(run=_migrate)


def _migrate(options: argparse.Namespace) -> int:
    start = time.monotonic()
    milvus: dict[str, Any] = {"token": os.environ.get("MILVUS_TOKEN", ""), "timeout": options.timeout}
    source = open_base(options.source, **milvus)
    count = len(source)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = options.json or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        copying = progress.add_task("copying", total=count)
        comparing = progress.add_task("comparing", total=count)

        def tell(more: int) -> None:
            progress.advance(comparing if progress.tasks[copying].finished else copying, more)

        copy = migrate(source, options.target, index=options.index, progress=tell, **milvus)
    seconds = time.monotonic() - start
    result = {"source": source.id, "target": copy.id, "entries": len(copy), "air_code": copy.air_code.id}
    text = f"{options.target}: {len(copy):,} entries copied and compared in {seconds:.1f} s, id {copy.id[:12]}"
    return show(options, result | {"seconds": round(seconds, 3)}, text)
