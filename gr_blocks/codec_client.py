"""Image PDUs to frame PDUs, or back, through a codec service."""

from __future__ import annotations

from typing import Any, Literal

import pmt

from crlsc_phy.errors import ServiceError
from crlsc_phy.net.codec.client import CodecClient
from crlsc_phy.net.codec.wire import DEFAULT_ADDRESS
from gr_blocks import pdu
from gr_blocks.block import MessageBlock

__all__ = ["codec_client"]

_PORTS = {"encode": ("images", "frames"), "decode": ("frames", "images")}


class codec_client(MessageBlock):  # noqa: N801
    """Encode images, or decode frames, through the service ``crlsc-codec serve``.

    The block replaces :class:`semantic_encoder` or :class:`semantic_decoder`, and has the same ports. Its process loads
    neither torch, faiss nor onnxruntime. While the service cannot be reached, each message is an error and a skip
    event; once it can be, the flow goes on.

    Args:
        operation: ``encode`` or ``decode``.
        address: ZMQ address of the service.
        queue_size: Most messages that may wait; the oldest are dropped.
        timeout_s: Longest wait for an answer, in seconds.
        keys: Folder with ``server.key`` and ``client.key_secret``, for a service with keys; empty for none.

    Raises:
        ServiceError: If ``operation`` is neither of the two.
    """

    COUNTERS = ("answers", "errors", "dropped")

    def __init__(
        self,
        operation: Literal["encode", "decode"] = "encode",
        address: str = DEFAULT_ADDRESS,
        queue_size: int = 64,
        timeout_s: float = 2.0,
        keys: str = "",
    ) -> None:
        if operation not in _PORTS:
            raise ServiceError(f"operation {operation!r} is unknown; choose {' or '.join(_PORTS)}")
        super().__init__("CRLSC Codec Client", *_PORTS[operation], queue_size)
        self._operation, self._address, self._timeout_s, self._keys = operation, address, timeout_s, keys
        self._client: CodecClient | None = None
        self.answers = 0

    def begin(self) -> None:
        """Make the client; the first message shows whether the service can be reached."""
        if self._client is None:
            self._client = CodecClient(self._address, self._timeout_s, self._keys or None)

    def end(self) -> None:
        """Close the connection."""
        if self._client:
            self._client.close()
        self._client = None

    def convert(self, message: Any) -> Any:
        """Return the PDU that the service answers a PDU with."""
        if self._client is None:
            raise ServiceError(f"{self._address}: not connected; the log says why")
        meta, _ = pdu.read_pdu(message, ServiceError)
        if ("height" in meta) != (self._operation == "encode"):
            given, wanted = ("a frame", "an image") if self._operation == "encode" else ("an image", "a frame")
            raise ServiceError(f"message is {given}; {self._operation} takes {wanted}")
        (answer, *_) = self._client.exchange([pmt.serialize_str(message)])
        try:
            made = pmt.deserialize_str(answer)
        except RuntimeError:
            raise ServiceError(f"{self._address}: the answer is not a PMT; is it a codec service?") from None
        event = pdu.read_event(made)
        if event is not None:
            raise ServiceError(f"{self._address}: {event.get('reason', 'the answer is not a PDU')}")
        self.answers += 1
        return made
