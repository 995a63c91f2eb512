"""Keys of a ZMQ service (CURVE, curve25519), which authenticate both ends and encrypt the connection.

    FOLDER/server.key   server.key_secret     the service's keys
    FOLDER/client.key   client.key_secret     a client's keys; every ``*.key`` of the service's folder is let in

A service needs ``server.key_secret`` and the ``*.key``, a client ``server.key`` and ``client.key_secret``.
"""

from __future__ import annotations

import logging
from pathlib import Path

import zmq
import zmq.auth
from zmq.utils import z85

from crlsc_phy.errors import ServiceError

__all__ = ["Doorkeeper", "make_keys", "use_client_keys", "use_server_keys"]

# The address of the authenticator in ZAP, ZeroMQ RFC 27.
_ZAP = "inproc://zeromq.zap.01"
_log = logging.getLogger(__name__)


def make_keys(folder: str | Path) -> list[Path]:
    """Make the keys of a service and a client in ``folder``, readable by their owner alone, and return the files.

    Raises:
        ServiceError: If ``folder`` has keys already, or cannot be written.
    """
    root = Path(folder)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(root.glob("*.key*")):
            raise ServiceError(f"{root}: the folder has keys already; choose another folder")
        files = [Path(file) for name in ("server", "client") for file in zmq.auth.create_certificates(root, name)]
        for file in files:
            file.chmod(0o600)
    except OSError as error:
        raise ServiceError(f"{root}: cannot be written ({error.strerror or error})") from None
    return files


def use_server_keys(socket: zmq.Socket[bytes], folder: str | Path) -> None:
    """Make ``socket`` accept encrypted connections only, with the service's keys in ``folder``."""
    socket.curve_publickey, socket.curve_secretkey = _pair(Path(folder) / "server.key_secret")
    socket.curve_server = True


def use_client_keys(socket: zmq.Socket[bytes], folder: str | Path) -> None:
    """Make ``socket`` connect only to the service whose key is in ``folder``, with the client's keys there."""
    socket.curve_publickey, socket.curve_secretkey = _pair(Path(folder) / "client.key_secret")
    socket.curve_serverkey = _load(Path(folder) / "server.key")[0]


class Doorkeeper:
    """Authenticator of clients (ZAP, ZeroMQ RFC 27) that also learns of failed handshakes.

    A client without keys, or with those of another service, fails before libzmq asks the authenticator; the monitor
    of the socket reports it. Each client that is turned away is counted, and logged unless the line repeats.

    Args:
        context: Context of the service's sockets; it may have one authenticator.
        folder: Folder with the public keys of the clients; None for a service without keys, where nothing is to do.

    Attributes:
        sockets: Sockets to poll; call :meth:`attend` with one that is ready.
        turned_away: Number of attempts to connect without a known key.

    Raises:
        ServiceError: If a key cannot be read.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], folder: str | Path | None) -> None:
        self.sockets: list[zmq.Socket[bytes]] = []
        self.turned_away = 0
        self._said = ""
        if folder is not None:
            self._clients = {z85.decode(_load(path)[0]) for path in sorted(Path(folder).glob("*.key"))}
            self.sockets = [context.socket(zmq.REP)]
            self.sockets[0].bind(_ZAP)

    def watch(self, socket: zmq.Socket[bytes]) -> None:
        """Report failed handshakes at ``socket``, if it has a server's keys."""
        if socket.curve_server:
            self.sockets.append(socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL))

    def attend(self, socket: zmq.Socket[bytes]) -> None:
        """Take one message from one of the sockets."""
        parts = socket.recv_multipart()
        reason = "it has no keys, or those of another service"
        if socket is self.sockets[0]:
            version, number, _, _, _, mechanism, *credentials = parts
            known = mechanism == b"CURVE" and credentials[0] in self._clients
            status = (b"200", b"OK") if known else (b"400", b"unknown key")
            socket.send_multipart([version, number, *status, b"", b""])
            if known:
                return
            reason = "its key is not in the service's folder"
        self.turned_away += 1
        if reason != self._said:
            self._said = reason
            _log.warning("a client was turned away: %s", reason)


def _pair(path: Path) -> tuple[bytes, bytes]:
    public, secret = _load(path)
    if secret is None:
        raise ServiceError(f"{path}: has no secret key; a service needs server.key_secret, a client client.key_secret")
    return public, secret


def _load(path: Path) -> tuple[bytes, bytes | None]:
    if not zmq.has("curve"):
        raise ServiceError("libzmq was built without CURVE; install pyzmq from PyPI")
    try:
        return zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a key file"
        raise ServiceError(f"{path}: cannot be read as a key ({reason}); crlsc-codec keys makes keys") from None
