"""Whether a USRP is there, before a flowgraph asks it for samples."""

from __future__ import annotations

import sys

from crlsc_phy.errors import RadioError

__all__ = ["check_device", "exit_without"]


def check_device(arguments: str) -> None:
    """Look for the device that the UHD device ``arguments`` name; empty for any.

    Raises:
        RadioError: If UHD is not installed, cannot read them, or nothing answers.
    """
    try:
        from gnuradio import uhd
    except ImportError as error:
        raise RadioError(f"GNU Radio's UHD is not there ({error}); run `make setup`, then `make doctor`") from None
    try:
        found = uhd.find(uhd.device_addr(arguments))
    except RuntimeError as error:
        raise RadioError(
            f"device arguments {arguments!r}: UHD does not take them ({error}); "
            "they look like type=b200,serial=30AB12C or addr=192.168.10.2"
        ) from None
    if not found:
        raise RadioError(
            f"no USRP found with the device arguments {arguments!r}; "
            "uhd_find_devices (of the package uhd-host) lists what is connected"
        )


def exit_without(arguments: str) -> None:
    """For the programs that the Companion makes: say in one line that no device is there, and exit with status 2.

    They show any exception as a traceback, so it must not be one.
    """
    try:
        check_device(arguments)
    except RadioError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
