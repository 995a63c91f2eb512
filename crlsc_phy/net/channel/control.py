"""Client of the control socket of a channel emulator: questions and answers in JSON."""

from __future__ import annotations

import json
from typing import Any

import zmq

from crlsc_phy.errors import ServiceError
from crlsc_phy.net.curve import use_client_keys
from crlsc_phy.scalars import as_json

__all__ = ["ask"]


def ask(question: dict[str, Any], address: str, timeout_s: float = 5.0, keys: str = "") -> dict[str, Any]:
    """Send a question to a running emulator.

    Args:
        question: ``do`` is ``get``, ``set``, ``ramp``, ``record``, ``stats`` or ``stop``; the other keys are its
            arguments. Numpy scalars and arrays are sent as numbers.
        address: Address of the control socket.
        timeout_s: Seconds to wait for the answer.
        keys: Folder of CURVE keys; empty for none.

    Returns:
        The answer.

    Raises:
        ServiceError: If there is no answer in time, or the emulator refuses.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        socket = context.socket(zmq.REQ)
        socket.linger = 0
        if keys:
            use_client_keys(socket, keys)
        socket.connect(address)
        socket.send_string(json.dumps(question, default=as_json))
        if not socket.poll(round(1000 * timeout_s)):
            raise ServiceError(f"{address}: nothing answers within {timeout_s:g} s; is crlsc-channel running there?")
        answer: dict[str, Any] = json.loads(socket.recv())
    except zmq.ZMQError as error:
        raise ServiceError(f"{address}: {zmq.strerror(error.errno or 0)}") from None
    finally:
        context.destroy(linger=0)
    if not answer.pop("ok", False):
        raise ServiceError(f"{address}: {answer.get('error', 'refused')}")
    return answer
