"""Shared parts of the commands of ZMQ services: running a service, making its keys, importing its libraries."""

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
    """A service that runs until it is stopped."""

    def run(self) -> None:
        """Answer until :meth:`stop` is called."""

    def stop(self) -> None:
        """End :meth:`run`; any thread or signal handler may call it."""


def net(module: str) -> ModuleType:
    """Import a module of :mod:`crlsc_phy.net`, whose libraries need not be installed for the rest of a command.

    Raises:
        ServiceError: If a library is missing.
    """
    try:
        return import_module(f"crlsc_phy.net.{module}")
    except ModuleNotFoundError as error:
        raise ServiceError(f"{error.name} is missing; pip install 'crlsc-phy[net]'") from None


def show_log() -> None:
    """Print the log lines of services to standard error, with the time."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)


def run_service(service: Service, addresses: dict[str, str], as_json: bool, word: str) -> int:
    """Print the addresses of a service and run it until SIGINT or SIGTERM.

    Args:
        service: The service.
        addresses: Its addresses, by name.
        as_json: Whether to print the addresses as JSON.
        word: Key of the addresses in the JSON object.

    Returns:
        The exit status, 0.
    """
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
    """Add the verb ``keys``, which makes the keys of ``whose``."""
    keys = subparsers.add_parser("keys", help=f"make the keys of {whose}")
    keys.add_argument("folder", type=Path, metavar="FOLDER", help="folder for the keys, without any yet")
    keys.set_defaults(run=_keys)
    return keys


def _keys(options: argparse.Namespace) -> int:
    files = [str(file) for file in net("curve").make_keys(options.folder)]
    print(json.dumps({"files": files}) if options.json else "\n".join(files))
    return 0
