"""What all blocks share: message ports with a bounded backlog, counters, and errors that do not stop the flow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pmt
from gnuradio import gr

from crlsc_phy.errors import CrlscError
from gr_blocks import pdu

__all__ = ["Block", "MessageBlock"]

MOST_MESSAGES = 100


class Block(gr.sync_block):  # type: ignore[misc]
    """A block with message ports and counters.

    Args:
        name: Shown in GNU Radio Companion and in log lines.
        inputs: Message input ports, each with the *name* of the method that handles it.
        outputs: Message output ports.
        in_sig: Item types of the stream inputs.
        out_sig: Item types of the stream outputs.
        queue_size: Most messages that may wait at a port; 1 or more.
    """

    COUNTERS: tuple[str, ...] = ("errors", "dropped")

    def __init__(
        self,
        name: str,
        inputs: dict[str, str] | None = None,
        outputs: tuple[str, ...] = (),
        in_sig: list[Any] | None = None,
        out_sig: list[Any] | None = None,
        queue_size: int = 64,
    ) -> None:
        gr.sync_block.__init__(self, name, in_sig, out_sig)
        self.queue_size = max(1, int(queue_size))
        self.errors = 0
        self.dropped = 0
        self.messages: deque[str] = deque(maxlen=MOST_MESSAGES)
        """The last errors, a line each."""
        for port, handler in (inputs or {}).items():
            self.message_port_register_in(pmt.intern(port))
            self.set_msg_handler(pmt.intern(port), getattr(self, handler))
        for port in outputs:
            self.message_port_register_out(pmt.intern(port))

    def stats(self) -> dict[str, int]:
        """The counters of the block."""
        return {name: getattr(self, name) for name in self.COUNTERS}

    def publish(self, port: str, message: Any) -> None:
        """Send ``message`` from the output ``port``."""
        self.message_port_pub(pmt.intern(port), message)

    def fail(self, error: CrlscError | str) -> None:
        """Count an error and log it in one line, once if it comes again and again."""
        self.errors += 1
        line = " ".join(str(error).split())
        if not self.messages or self.messages[-1] != line:
            self.messages.append(line)
            self.logger.warn(line)

    def attempt(self, load: Callable[[], Any]) -> Any:
        """What ``load`` returns, or None after its error is counted and logged.

        A block that raises in ``start`` leaves all others waiting for it.
        """
        try:
            return load()
        except CrlscError as error:
            self.fail(error)
            return None

    def overflows(self, port: str) -> bool:
        """Whether more messages wait behind the one in hand than the queue may hold; counts the drop.

        Messages have no back-pressure. Dropping the oldest keeps a live picture live.
        """
        if self.nmsgs(pmt.intern(port)) < self.queue_size:
            return False
        self.dropped += 1
        return True


class MessageBlock(Block):
    """A block that turns each message of one port into one message of another.

    Events pass through in order. A message that cannot be converted, or is dropped, leaves as a skip event, so that
    whoever waits for it learns of it.
    """

    def __init__(self, name: str, source: str, target: str, queue_size: int) -> None:
        super().__init__(name, {source: "on_message"}, (target,), queue_size=queue_size)
        self._source, self._target = source, target

    def convert(self, message: Any) -> Any:
        """The message that ``message`` becomes.

        Raises:
            CrlscError: If it cannot be converted.
        """
        raise NotImplementedError

    def on_message(self, message: Any) -> None:
        """Convert one message, or pass an event on."""
        if pdu.read_event(message) is not None:
            self.publish(self._target, message)
            return
        if self.overflows(self._source):
            self._skip(message, "dropped: queue is full")
            return
        try:
            converted = self.convert(message)
        except CrlscError as error:
            self.fail(error)
            self._skip(message, str(error))
            return
        self.publish(self._target, converted)

    def _skip(self, message: Any, reason: str) -> None:
        sequence = pdu.sequence_of(message)
        if sequence is not None:
            self.publish(self._target, pdu.skip_event(sequence, f"{self.name()}: {reason}"))
