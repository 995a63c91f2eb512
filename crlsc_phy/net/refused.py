"""Refusal of a request by a service."""

from __future__ import annotations

from crlsc_phy.errors import safe_text

__all__ = ["RefusedError"]

_LONGEST_REASON = 400


class RefusedError(Exception):
    """A request that a service answers with a code and one line that says why.

    Args:
        code: HTTP status, or a word of the codec service's protocol.
        reason: It may quote the request, so it is cut, and characters that do not print become question marks.
    """

    def __init__(self, code: int | str, reason: str) -> None:
        line = " ".join(safe_text(reason)[:_LONGEST_REASON].split())
        super().__init__("".join(char if char.isprintable() else "?" for char in line))
        self.code = code
