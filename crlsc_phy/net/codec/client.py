"""A client of the codec service; it needs pyzmq, but neither torch, faiss nor onnxruntime."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zmq

from crlsc_phy.errors import ServiceError
from crlsc_phy.frame import SemanticFrame
from crlsc_phy.images import UInt8Image, check_image
from crlsc_phy.net.codec.wire import DEFAULT_ADDRESS, LARGEST_PART, VERSION, pack, unpack
from crlsc_phy.net.curve import use_client_keys
from crlsc_phy.net.messages import (
    NEIGHBOURS,
    Data,
    Meta,
    frame_from_message,
    frame_to_message,
    image_from_message,
    image_to_message,
)

__all__ = ["CodecClient"]


class CodecClient:
    """A connection to a codec service, for one request at a time from one thread.

    The service may start later, and restart.

    Args:
        address: ZMQ address of the service.
        timeout_s: Longest wait for an answer, in seconds.
        keys: Folder with ``server.key`` and ``client.key_secret``, for a service with keys.

    Raises:
        ServiceError: If the address, the timeout or a key is wrong.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, timeout_s: float = 5.0, keys: str | Path | None = None) -> None:
        if not timeout_s > 0:
            raise ServiceError(f"timeout_s is {timeout_s}; it must be above 0")
        self.address, self._timeout_s, self._keys = address, timeout_s, keys
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._socket = self._connect()
        except BaseException:
            self._context.destroy(linger=0)
            raise

    def __enter__(self) -> CodecClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._context.destroy(linger=0)

    def encode(
        self,
        image: UInt8Image,
        sequence: int = 0,
        levels: int | None = None,
        mode: Literal["digital", "analog"] = "digital",
    ) -> SemanticFrame:
        """Encode an image, as :meth:`SemanticCodec.encode` does.

        Args:
            image: uint8 [H, W, 3], sides of 32 to 1024 pixels.
            sequence: Counter for the header, taken modulo 2**16.
            levels: Rate of the detail layer; the highest by default.
            mode: Whether the detail layer is tokens or analog symbols.

        Raises:
            ImageError: If ``image`` is not an image.
            ServiceError: If the service cannot be reached, is busy, or refuses the image or an option.
        """
        meta, data = image_to_message(check_image(image), sequence, {"mode": mode, "levels": levels})
        return frame_from_message(*self.ask("encode", meta, data))

    def decode(
        self,
        frame: SemanticFrame,
        snr_db: float | None = None,
        semantic_llr: npt.NDArray[np.float32] | None = None,
        semantic_coded_llr: npt.NDArray[np.float32] | None = None,
        neighbours: int = NEIGHBOURS,
    ) -> tuple[UInt8Image, Meta]:
        """Decode a frame, whole or with losses, as :meth:`SemanticCodec.decode` does.

        Args:
            frame: The frame.
            snr_db: SNR in dB of the analog detail layer.
            semantic_llr: LLRs of the bits of a lost air code, float32 [8 M].
            semantic_coded_llr: LLRs of its coded bits, float32 [40 (M + 2)].
            neighbours: Most neighbours wanted.

        Returns:
            The image uint8 [H, W, 3]; and ``label``, ``neighbours`` (``label``, ``name``, ``score``, ``base`` of each),
            ``confidence``, ``repaired``, ``semantic_ok``, ``detail_ok``.

        Raises:
            ServiceError: If the service cannot be reached, is busy, or refuses the frame or an option.
        """
        options = {"neighbours": neighbours, "detail_snr_db": snr_db}
        soft = {"semantic_llr": semantic_llr, "semantic_coded_llr": semantic_coded_llr}
        meta, data = self.ask("decode", *frame_to_message(frame, {**options, **soft}))
        return image_from_message(meta, data), meta

    def stats(self) -> dict[str, Any]:
        """Return the counters of the service.

        Raises:
            ServiceError: If the service cannot be reached.
        """
        return self.ask("stats", {}, np.zeros(0, np.uint8))[0]

    def ask(self, operation: str, meta: Meta, data: Data) -> tuple[Meta, Data]:
        """Ask for any operation of the protocol.

        Args:
            operation: Name of the operation.
            meta: Metadata of the request; scalars and arrays may be those of NumPy.
            data: Bytes of the request, uint8 [n].

        Returns:
            Metadata and bytes of the answer.

        Raises:
            ServiceError: If no answer comes in time, or the answer is an error.
        """
        answer, found = unpack(self.exchange(pack({**meta, "crlsc": VERSION, "op": operation}, data)))
        if answer.get("ok") is not True:
            raise ServiceError(f"{self.address}: {answer.get('reason', 'the answer is not one of a codec service')}")
        return {key: value for key, value in answer.items() if key not in ("crlsc", "ok", "id")}, found

    def exchange(self, parts: list[bytes]) -> list[bytes]:
        """Send the parts of any message and return the parts of its answer.

        Raises:
            ServiceError: If no answer comes in time.
        """
        deadline, what = time.monotonic() + self._timeout_s, "cannot be reached"
        while (left := deadline - time.monotonic()) > 0 and self._socket.poll(_ms(left), zmq.POLLOUT):
            self._forget_breaks()
            try:
                self._socket.send_multipart(parts, zmq.NOBLOCK)
            except zmq.Again:
                continue
            what = "does not answer"
            if self._answers(deadline):
                return self._socket.recv_multipart()
            # The service went away with the request; ask the one that comes in its place.
            self._reconnect()
        # A REQ socket waits for its answer for ever; a late one must not be taken for that of the next request.
        self._reconnect()
        raise ServiceError(
            f"{self.address}: {what} within {self._timeout_s:g} s; is crlsc-codec serve running there, with these keys?"
        )

    def _answers(self, deadline: float) -> bool:
        """Wait for an answer; return False if the connection breaks, or the deadline passes."""
        sockets = [(self._socket, zmq.POLLIN), (self._monitor, zmq.POLLIN)]
        return any(each is self._socket for each, _ in zmq.zmq_poll(sockets, _ms(deadline - time.monotonic())))

    def _forget_breaks(self) -> None:
        """Discard the reports of connections that broke earlier."""
        while self._monitor.poll(0):
            self._monitor.recv_multipart()

    def _reconnect(self) -> None:
        self._socket.disable_monitor()
        self._socket.close(linger=0)
        self._socket = self._connect()

    def _connect(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.REQ)
        # Without a connection a message is not queued: sending waits, and gives up.
        socket.immediate = True
        socket.linger = 0
        socket.maxmsgsize = LARGEST_PART
        socket.reconnect_ivl, socket.reconnect_ivl_max = 20, 100
        socket.ipv6 = "[" in self.address
        if self._keys is not None:
            use_client_keys(socket, self._keys)
        self._monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        try:
            socket.connect(self.address)
        except zmq.ZMQError as error:
            raise ServiceError(
                f"{self.address}: not an address to connect to ({zmq.strerror(error.errno or 0)})"
            ) from None
        return socket


def _ms(seconds: float) -> int:
    return max(0, round(1000 * seconds))
