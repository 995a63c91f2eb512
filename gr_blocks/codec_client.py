"""Image PDUs to frame PDUs, or back, by a codec service."""

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
    """Have images encoded, or frames decoded, by ``crlsc-codec serve``: no torch, faiss or onnxruntime in here.

    It stands where :class:`semantic_encoder` or :class:`semantic_decoder` would, and has its ports. While the service
    is away each message is an error and a skip event; when it is back the flow goes on.

    Args:
        operation: ``encode`` or ``decode``.
        address: Where the service listens.
        queue_size: Most messages that may wait; the oldest are dropped.
        timeout_s: How long to wait for an answer.
        keys: Folder with ``server.key`` and ``client.key_secret`` for a service that has keys, or none.

    Raises:
        ServiceError: If there is no such operation.
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
            raise ServiceError(f"no operation {operation!r}; choose {' or '.join(_PORTS)}")
        super().__init__("CRLSC Codec Client", *_PORTS[operation], queue_size)
        self._operation, self._address, self._timeout_s, self._keys = operation, address, timeout_s, keys
        self._client: CodecClient | None = None
        self.answers = 0

    def start(self) -> bool:
        """Get ready to connect; whether the service is there shows with the first message."""
        self._client = self._client or self.attempt(
            lambda: CodecClient(self._address, self._timeout_s, self._keys or None)
        )
        return True

    def stop(self) -> bool:
        """Hang up."""
        if self._client:
            self._client.close()
        self._client = None
        return True

    def convert(self, message: Any) -> Any:
        """What the service makes of a PDU."""
        if self._client is None:
            raise ServiceError(f"{self._address}: not connected")
        meta, _ = pdu.read_pdu(message, ServiceError)
        if ("height" in meta) != (self._operation == "encode"):
            raise ServiceError(f"message is none to {self._operation}")
        (answer, *_) = self._client.exchange([pmt.serialize_str(message)])
        try:
            made = pmt.deserialize_str(answer)
        except RuntimeError:
            raise ServiceError(f"{self._address}: answers what is no PMT") from None
        event = pdu.read_event(made)
        if event is not None:
            raise ServiceError(f"{self._address}: {event.get('reason', 'answers what is no PDU')}")
        self.answers += 1
        return made
