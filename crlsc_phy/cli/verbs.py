"""Shared entry of the commands: exit status, error lines and terminals that cannot show every character."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from crlsc_phy.errors import CrlscError

if TYPE_CHECKING:
    # What argparse calls it is private.
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["accept_any_text", "run_verb", "show"]


def accept_any_text() -> None:
    """Make standard output and error escape the characters that the terminal's encoding lacks.

    Otherwise a minus sign on a Latin-1 terminal, or a file name that is not UTF-8, ends the command.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def show(options: argparse.Namespace, result: dict[str, Any], *lines: str) -> int:
    """Print a result, as JSON with ``--json`` and as ``lines`` otherwise, and return the exit status 0."""
    print(json.dumps(result) if options.json else "\n".join(lines))
    return 0


def run_verb(parser: argparse.ArgumentParser, arguments: list[str] | None) -> int:
    """Parse the command line and call the ``run`` that the parser has set as a default.

    Args:
        parser: Its ``prog`` begins the error line. If it sets ``extra`` as a default, a missing module is reported with
            the command that installs this extra.
        arguments: Words of the command line; those of the process if None.

    Returns:
        The exit status: that of ``run``, 2 if the input is at fault, 130 if interrupted, or 1 if nobody reads the
        output any more.
    """
    accept_any_text()
    options = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        status = run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader, such as head, has what it wants. What is left in the buffer has no other place to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        if "extra" not in options:
            raise
        hint = f"pip install 'crlsc-phy[{options.extra}]' or run make setup"
        print(f"{parser.prog}: {error.name} is not installed; {hint}", file=sys.stderr)
        return 2
    except CrlscError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130
