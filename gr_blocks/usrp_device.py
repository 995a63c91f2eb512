"""Check for a USRP before a flowgraph needs it."""

from __future__ import annotations

import sys

from crlsc_phy.errors import RadioError

__all__ = ["check_device", "exit_without"]


def check_device(arguments: str) -> None:
    """Check that UHD finds a device with these device arguments; empty for any device.

    Raises:
        RadioError: If UHD is not installed, cannot read the arguments, or finds no device.
    """
    try:
        from gnuradio import uhd
    except ImportError as error:
        raise RadioError(
            f"GNU Radio's UHD cannot be imported ({error}); run `make setup`, then `make doctor`"
        ) from None
    try:
        found = uhd.find(uhd.device_addr(arguments))
    except RuntimeError as error:
        raise RadioError(
            f"device arguments {arguments!r} are not readable for UHD ({error}); "
            "give some such as type=b200,serial=30AB12C or addr=192.168.10.2"
        ) from None
    if not found:
        raise RadioError(
            f"no USRP found with the device arguments {arguments!r}; "
            "uhd_find_devices (of the package uhd-host) lists the devices that are connected"
        )


def exit_without(arguments: str) -> None:
    """Exit with status 2 and one line on standard error if there is no device.

    The programs that GNU Radio Companion generates call it, because they show every exception as a traceback.
    """
    try:
        check_device(arguments)
    except RadioError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
