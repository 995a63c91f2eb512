"""Who can connect to what a service listens at."""

from __future__ import annotations

import ipaddress

__all__ = ["is_loopback", "is_private"]


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
