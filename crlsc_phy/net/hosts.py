"""Checks of the addresses that a service listens at."""

from __future__ import annotations

import ipaddress
import os

from crlsc_phy.errors import ServiceError

__all__ = ["DEFAULT_CONTROL", "check_private", "is_loopback", "reason_of"]

DEFAULT_CONTROL = "tcp://127.0.0.1:8425"
"""Control address of ``crlsc-channel``, by default."""


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to ``host``, a name or an IP address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def reason_of(error: Exception) -> str:
    """Return why an address cannot be used, without the address, which the messages of asyncio repeat."""
    # The number is negative if a name cannot be resolved.
    number = getattr(error, "errno", None) or 0
    return os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)


def check_private(address: str, keyed: bool, without_keys: bool) -> None:
    """Check that a service is either private to this machine, has keys, or may do without them.

    Args:
        address: ZMQ address that the service listens at, such as ``tcp://127.0.0.1:8424``.
        keyed: Whether it has keys.
        without_keys: Whether the user allows other machines to connect without keys.

    Raises:
        ServiceError: If other machines could connect.
    """
    transport, _, rest = address.partition("://")
    private = transport in ("ipc", "inproc") or (transport == "tcp" and is_loopback(rest.rpartition(":")[0]))
    if not (private or keyed or without_keys):
        raise ServiceError(f"{address}: other machines could connect; give --keys, or --without-keys to let them in")
