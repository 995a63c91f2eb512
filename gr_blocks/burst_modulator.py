"""Frame PDUs to bursts of samples."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt
import pmt

from crlsc_phy.errors import CrlscError
from crlsc_phy.phy.modem import BurstModem
from crlsc_phy.phy.numerology import Numerology
from gr_blocks import pdu
from gr_blocks.block import Block

__all__ = ["burst_modulator"]

_NOTHING = np.zeros(0, np.complex64)


class burst_modulator(Block):  # noqa: N801
    """Send each semantic frame as a burst of complex samples.

    Behind each burst come ``guard`` zeros, and on the first of them a stream tag with the burst event. Other events
    that arrive with the frames leave the same way, in order.

    Args:
        numerology: Name of a preset, such as ``64``.
        sample_rate: Samples/s; 0 for that of the preset.
        mcs: Name such as ``qpsk-1/2``, or index, of the modulation and coding scheme of the detail layer.
        guard: Zero samples between bursts. They push a burst through filters and the receiver's look-ahead.
        idle: Fill the time between bursts with zeros, for a radio that must not run dry. Without it the block waits.
        queue_size: Most frames that may wait; the oldest are dropped.

    Raises:
        ModemError: If there is no such preset or MCS.
    """

    COUNTERS = ("bursts", "samples", "errors", "dropped")

    def __init__(
        self,
        numerology: str = "64",
        sample_rate: float = 0.0,
        mcs: str = "qpsk-1/2",
        guard: int = 1024,
        idle: bool = False,
        queue_size: int = 64,
    ) -> None:
        super().__init__(
            "CRLSC Burst Modulator",
            {"frames": "on_frame"},
            ("feedback",),
            out_sig=[np.complex64],
            queue_size=queue_size,
        )
        waveform = Numerology.preset(str(numerology), sample_rate or None)
        self._modem = BurstModem(waveform, mcs=int(mcs) if str(mcs).isdecimal() else mcs)
        self._guard, self._idle = max(1, guard), idle
        self._queue: deque[Any] = deque()
        self._samples: npt.NDArray[np.complex64] = _NOTHING
        self._sent = 0
        self._event: tuple[int, Any] | None = None
        self.bursts = 0
        self.samples = 0

    def on_frame(self, message: Any) -> None:
        """Queue a frame or an event."""
        self._queue.append(message)
        waiting = [index for index, queued in enumerate(self._queue) if pdu.read_event(queued) is None]
        if len(waiting) > self.queue_size:
            self.dropped += 1
            self._queue[waiting[0]] = self._skip(self._queue[waiting[0]], "dropped: queue is full")

    def work(self, _inputs: list[Any], outputs: list[npt.NDArray[np.complex64]]) -> int:
        """Write as much as there is room for of the burst in hand."""
        out = outputs[0]
        if self._sent == len(self._samples) and not self._load():
            if self.finished():
                return -1  # WORK_DONE
            if not self._idle:
                return 0
            out[:] = 0
            return len(out)
        count = min(len(out), len(self._samples) - self._sent)
        out[:count] = self._samples[self._sent : self._sent + count]
        if self._event is not None and self._event[0] < self._sent + count:
            self._announce(self.nitems_written(0) + self._event[0] - self._sent, self._event[1])
            self._event = None
        self._sent += count
        self.samples += count
        return count

    def _load(self) -> bool:
        """Make the next burst, or the zeros that carry an event; False if nothing waits."""
        if not self._queue:
            return False
        message = self._queue.popleft()
        burst = _NOTHING
        if pdu.read_event(message) is None:
            try:
                frame, _ = pdu.frame_from_pdu(message)
                air_bytes = len(frame.to_bytes())
                burst = self._modem.modulate(frame)
                message = pdu.burst_event(frame.header.sequence, len(burst), air_bytes)
                self.bursts += 1
            except CrlscError as error:
                self.fail(error)
                message = self._skip(message, str(error))
        self._samples = np.concatenate((burst, np.zeros(self._guard, np.complex64)))
        self._sent, self._event = 0, (len(burst), message)
        return True

    def _skip(self, message: Any, reason: str) -> Any:
        return pdu.skip_event(pdu.sequence_of(message) or 0, f"{self.name()}: {reason}")

    def _announce(self, offset: int, event: Any) -> None:
        self.add_item_tag(0, offset, pmt.intern(pdu.EVENT_TAG), pdu.event_to_tag(event))
        self.publish("feedback", event)
