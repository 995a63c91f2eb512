"""The machine: the processor that a figure was measured on, and code compiled for it."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["compiled", "processor"]

F = TypeVar("F", bound=Callable[..., Any])


def processor() -> str:
    """Return the processor's name, or its architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def compiled(**options: Any) -> Callable[[F], F]:
    """Return a decorator that compiles a function by numba at its first call.

    The machine code is kept in $NUMBA_CACHE_DIR, beside the source or in the user's cache. Where none of them can be
    written, each process compiles for itself.

    Args:
        **options: Options of ``numba.njit``, such as ``nogil``.
    """
    from numba import njit

    def decorate(function: F) -> F:
        try:
            function_compiled: F = njit(cache=True, **options)(function)
        except RuntimeError:
            # numba has found no place for the code.
            function_compiled = njit(**options)(function)
        return function_compiled

    return decorate
