"""Base classes of the blocks: bounded queues, counters, and exceptions that never stop a flowgraph."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import pmt
from gnuradio import gr

from crlsc_phy.errors import CrlscError, brief
from gr_blocks import pdu

__all__ = ["Block", "MessageBlock"]

MOST_MESSAGES = 100
LONGEST_LINE = 1000

_Result = TypeVar("_Result")


class Block(gr.sync_block):  # type: ignore[misc]
    """A block with message ports and counters that turns every exception into a log line and a count.

    The scheduler ends a flowgraph, or hangs, when a block raises an exception. Therefore it only calls methods of this
    class, and these call the methods that subclasses override: the handlers of the ports, :meth:`begin`, :meth:`end`
    and :meth:`process`.

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
        self.errors = self.dropped = 0
        self._threads: list[threading.Thread] = []
        self.messages: deque[str] = deque(maxlen=MOST_MESSAGES)
        """The last errors, a line each."""
        for port, handler in (inputs or {}).items():
            self._register_input(port, getattr(self, handler))
        for port in outputs:
            self.message_port_register_out(pmt.intern(port))

    def _register_input(self, port: str, handler: Callable[[Any], None]) -> None:
        def handle(message: Any) -> None:
            self.attempt(handler, message)

        # GNU Radio looks the handler up by its name, among the attributes of the block.
        handle.__name__ = f"_handle_{port}"
        setattr(self, handle.__name__, handle)
        self.message_port_register_in(pmt.intern(port))
        self.set_msg_handler(pmt.intern(port), handle)

    def start(self) -> bool:
        """Begin a run; called by the scheduler."""
        self.attempt(self.begin)
        return True

    def stop(self) -> bool:
        """End a run; called by the scheduler."""
        self.attempt(self.end)
        while self._threads:
            self._threads.pop().join()
        return True

    def work(self, inputs: list[Any], outputs: list[Any]) -> int:
        """Process samples, an array for each stream port; called by the scheduler.

        Returns:
            The number of samples consumed and produced at each port, or -1 at the end of the stream. If
            :meth:`process` raises an exception, all samples are consumed and zeros produced.
        """
        count: int | None = self.attempt(self.process, inputs, outputs)
        if count is None:
            for output in outputs:
                output[:] = 0
            count = len((inputs or outputs)[0])
        return count

    def begin(self) -> None:
        """Prepare a run. Subclasses override it."""

    def end(self) -> None:
        """Finish a run. Subclasses override it."""

    def process(self, inputs: list[Any], outputs: list[Any]) -> int:
        """Process samples as :meth:`work` says. Subclasses with stream ports override it."""
        raise NotImplementedError

    def stats(self) -> dict[str, int]:
        """Return the counters of the block."""
        return {name: getattr(self, name) for name in self.COUNTERS}

    def publish(self, port: str, message: Any) -> None:
        """Send ``message`` from the output ``port``."""
        self.message_port_pub(pmt.intern(port), message)

    def fail(self, error: BaseException | str) -> None:
        """Count an error and log it in one line; a line that repeats is logged once."""
        self.errors += 1
        foreign = isinstance(error, BaseException) and not isinstance(error, CrlscError)
        line = brief(f"{type(error).__name__}: {error}" if foreign else str(error), LONGEST_LINE)
        if not self.messages or self.messages[-1] != line:
            self.messages.append(line)
            self.logger.warn(line)

    def attempt(self, call: Callable[..., _Result], *arguments: Any) -> _Result | None:
        """Return the result of ``call(*arguments)``, or None after counting and logging any exception of it."""
        try:
            return call(*arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # The panics of libraries in Rust are no Exceptions.
            self.fail(error)
            return None

    def start_thread(self, target: Callable[[], None]) -> None:
        """Run ``target`` in a thread whose exceptions are counted and logged; :meth:`stop` waits for its end."""
        self._threads.append(threading.Thread(target=self.attempt, args=(target,), name=self.name(), daemon=True))
        self._threads[-1].start()

    def overflows(self, port: str) -> bool:
        """Return True, and count a drop, if more messages wait at ``port`` than the queue may hold.

        Messages have no back-pressure. Dropping the oldest keeps a live picture live.
        """
        if self.nmsgs(pmt.intern(port)) < self.queue_size:
            return False
        self.dropped += 1
        return True


class MessageBlock(Block):
    """A block that converts each message of one port into one message of another.

    Events pass through in order. A message that cannot be converted, or is dropped, leaves as a skip event, so that
    the blocks that wait for it go on.

    Args:
        name: Shown in GNU Radio Companion and in log lines.
        source: Message input port.
        target: Message output port.
        queue_size: Most messages that may wait; the oldest are dropped.
    """

    def __init__(self, name: str, source: str, target: str, queue_size: int) -> None:
        super().__init__(name, {source: "on_message"}, (target,), queue_size=queue_size)
        self._source, self._target = source, target

    def convert(self, message: Any) -> Any:
        """Return the message that ``message`` becomes. Subclasses override it; any exception makes a skip event."""
        raise NotImplementedError

    def on_message(self, message: Any) -> None:
        """Convert one message, or pass an event on."""
        if pdu.read_event(message) is not None:
            self.publish(self._target, message)
        elif self.overflows(self._source):
            self._skip(message, "dropped: queue is full")
        elif (converted := self.attempt(self.convert, message)) is not None:
            self.publish(self._target, converted)
        else:
            self._skip(message, self.messages[-1])

    def _skip(self, message: Any, reason: str) -> None:
        sequence = pdu.sequence_of(message)
        if sequence is not None:
            self.publish(self._target, pdu.skip_event(sequence, f"{self.name()}: {reason}"))
