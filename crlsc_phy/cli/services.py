"""What the commands of ZMQ services share: running one until it is told to stop, its keys, and what it needs."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from crlsc_phy.errors import ServiceError

if TYPE_CHECKING:
    from types import ModuleType

    from crlsc_phy.cli.verbs import Subparsers

__all__ = ["add_keys", "net", "run_service", "show_log"]


class Service(Protocol):
    """Runs until it is stopped."""

    def run(self) -> None:
        """Until :meth:`stop`."""
        ...

    def stop(self) -> None:
        """From any thread, or a signal's handler."""
        ...


def net(module: str) -> ModuleType:
    """A module of :mod:`crlsc_phy.net`, which need not be installed for the rest of a command.

    Raises:
        ServiceError: If a library is missing.
    """
    try:
        return import_module(f"crlsc_phy.net.{module}")
    except ModuleNotFoundError as error:
        raise ServiceError(f"{error.name} is missing; pip install 'crlsc-phy[net]'") from None


def show_log() -> None:
    """Show what services log, with the time."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)


def run_service(service: Service, addresses: dict[str, str], as_json: bool, word: str) -> int:
    """Say where a service listens, as JSON under ``word`` if so told, and run it until SIGINT or SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: service.stop())
    if as_json:
        print(json.dumps({word: addresses}), flush=True)
    else:
        for name, address in addresses.items():
            print(f"{name}: {address}", flush=True)
    service.run()
    return 0


def add_keys(subparsers: Subparsers, whose: str) -> argparse.ArgumentParser:
    """Add the verb ``keys``, which makes those of ``whose``."""
    keys = subparsers.add_parser("keys", help=f"make the keys of {whose}")
    keys.add_argument("folder", type=Path, metavar="FOLDER", help="where to; it must hold none yet")
    keys.set_defaults(run=_keys)
    return keys


def _keys(options: argparse.Namespace) -> int:
    files = [str(file) for file in net("curve").make_keys(options.folder)]
    print(json.dumps({"files": files}) if options.json else "\n".join(files))
    return 0
