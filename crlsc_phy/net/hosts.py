"""Who can connect to what a service listens at."""

from __future__ import annotations

import ipaddress

from crlsc_phy.errors import ServiceError

__all__ = ["DEFAULT_CONTROL", "check_private", "is_loopback", "is_private"]

DEFAULT_CONTROL = "tcp://127.0.0.1:8425"
"""Where ``crlsc-channel`` is asked, unless told otherwise."""


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can connect to ``host``, a name or a number."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def is_private(address: str) -> bool:
    """Whether nobody but this machine can connect to a ZMQ address, such as ``tcp://127.0.0.1:8424``."""
    transport, _, rest = address.partition("://")
    return transport in ("ipc", "inproc") or (transport == "tcp" and is_loopback(rest.rpartition(":")[0]))


def check_private(address: str, keyed: bool, without_keys: bool) -> None:
    """Make sure that a service lets no stranger in at a ZMQ address.

    Args:
        address: Where it listens.
        keyed: Whether it has keys.
        without_keys: Whether it was said that none are meant.

    Raises:
        ServiceError: If other machines could connect.
    """
    if not (is_private(address) or keyed or without_keys):
        raise ServiceError(f"{address}: other machines could connect; give keys, or say that none are meant")
