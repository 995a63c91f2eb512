"""The frame of a command with verbs: what its exit status says, and where its errors go."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from crlsc_phy.errors import CrlscError

if TYPE_CHECKING:
    # What argparse calls it is private.
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["run_verb"]


def run_verb(parser: argparse.ArgumentParser, arguments: list[str] | None) -> int:
    """Parse, and call the ``run`` that the verb has set; returns 0, 2 (the input's fault) or 130 (interrupted)."""
    options = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except CrlscError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130
