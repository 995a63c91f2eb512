"""Keys of a ZMQ service (CURVE, curve25519), which authenticate both ends and encrypt the connection.

    FOLDER/server.key   server.key_secret     the service's keys
    FOLDER/client.key   client.key_secret     a client's keys; every ``*.key`` of the service's folder is let in

A service needs ``server.key_secret`` and the ``*.key``, a client ``server.key`` and ``client.key_secret``.
"""

from __future__ import annotations

from pathlib import Path

import zmq
import zmq.auth
from zmq.utils import z85

from crlsc_phy.errors import ServiceError

__all__ = ["Doorkeeper", "make_keys", "use_client_keys", "use_server_keys"]

# The address of the authenticator in ZAP, ZeroMQ RFC 27.
_ZAP = "inproc://zeromq.zap.01"


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
    of the socket reports it.

    Args:
        context: Context of the service's sockets; it may have one authenticator.
        folder: Folder with the public keys of the clients.

    Attributes:
        sockets: Sockets to poll; call :meth:`attend` with one that is ready.

    Raises:
        ServiceError: If a key cannot be read.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], folder: str | Path) -> None:
        self._clients = {z85.decode(_load(path)[0]) for path in sorted(Path(folder).glob("*.key"))}
        self._questions = context.socket(zmq.REP)
        self._questions.bind(_ZAP)
        self.sockets = [self._questions]

    def watch(self, socket: zmq.Socket[bytes]) -> None:
        """Report failed handshakes at ``socket``, if it has a server's keys."""
        if socket.curve_server:
            self.sockets.append(socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL))

    def attend(self, socket: zmq.Socket[bytes]) -> str:
        """Take one message from one of the sockets; return why a client was turned away, or an empty text."""
        parts = socket.recv_multipart()
        if socket is not self._questions:
            return "it has no keys, or those of another service"
        version, number, _, _, _, mechanism, *credentials = parts
        known = mechanism == b"CURVE" and credentials[0] in self._clients
        status = (b"200", b"OK") if known else (b"400", b"unknown key")
        socket.send_multipart([version, number, *status, b"", b""])
        return "" if known else "its key is not in the service's folder"


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
