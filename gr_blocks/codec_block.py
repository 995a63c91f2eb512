"""Base class of the semantic encoder and decoder: it loads the codec of a bundle when the flowgraph starts."""

from __future__ import annotations

from typing import Any

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import BundleError
from gr_blocks.block import MessageBlock

__all__ = ["CodecBlock"]


class CodecBlock(MessageBlock):
    """A message block that uses the codec of a bundle.

    Args:
        name: Shown in GNU Radio Companion and in log lines.
        source: Message input port.
        target: Message output port.
        queue_size: Most messages that may wait; the oldest are dropped.
        bundle: Folder of the bundle.
        **options: Further arguments of :meth:`crlsc_phy.codec.SemanticCodec.load`.
    """

    def __init__(self, name: str, source: str, target: str, queue_size: int, bundle: str, **options: Any) -> None:
        super().__init__(name, source, target, queue_size)
        self._bundle, self._options = bundle, options
        self._codec: SemanticCodec | None = None

    def begin(self) -> None:
        """Load the bundle."""
        if self._codec is None:
            self._codec = SemanticCodec.load(self._bundle, **self._options)

    @property
    def codec(self) -> SemanticCodec:
        """The codec of the bundle.

        Raises:
            BundleError: If the bundle could not be loaded.
        """
        if self._codec is None:
            raise BundleError(f"{self._bundle}: bundle is not loaded; the log says why")
        return self._codec
