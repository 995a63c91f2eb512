"""Counts of the reports of UHD's blocks: underruns, overruns, and bursts that have left the device."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pmt

from gr_blocks import pdu
from gr_blocks.block import Block

__all__ = ["usrp_counter"]

_COUNTED = {
    "burst_ack": "acknowledged",
    "underflow": "underruns",
    "underflow_in_packet": "underruns",
    "seq_error": "sequence_errors",
    "seq_error_in_burst": "sequence_errors",
    "time_error": "late",
}


class usrp_counter(Block):  # noqa: N801
    """Count the reports of the UHD sink and source, and delay the end event until the last sample is on the air.

    When a flowgraph ends, the device drops the samples that it has not sent yet. It acknowledges each length-tagged
    packet once the last sample is out, so the end event of the modulator waits here for as many acknowledgements as
    packets, or for ``hold`` seconds, because an acknowledgement may get lost.

    Args:
        hold: Most seconds that the end event waits.
    """

    COUNTERS = ("packets", "acknowledged", "underruns", "overruns", "sequence_errors", "late", "errors")

    def __init__(self, hold: float = 3.0) -> None:
        super().__init__("CRLSC USRP Counter", {"async_msgs": "on_report", "events": "on_event"}, outputs=("feedback",))
        self._hold = hold
        self._lock = threading.Lock()
        self._end: Any = None
        self._timer: threading.Timer | None = None
        self.packets = self.acknowledged = self.underruns = self.overruns = self.sequence_errors = self.late = 0

    def on_report(self, message: Any) -> None:
        """Count an asynchronous message of the UHD sink or source."""
        # The sink sends (uhd_async_msg . {event_code: (code, ...), ...}), the source (uhd_async_msg . {overflows: n}).
        if not (pmt.is_pair(message) and pmt.eq(pmt.car(message), pmt.intern("uhd_async_msg"))):
            self.fail("message is not a report of UHD; connect async_msgs of the UHD sink or source")
            return
        report = pmt.cdr(message)
        if not pmt.is_dict(report):
            self.fail("report of UHD has no dictionary")
            return
        overflows = pmt.dict_ref(report, pmt.intern("overflows"), pmt.PMT_NIL)
        if pmt.is_integer(overflows) or pmt.is_uint64(overflows):
            self.overruns += pmt.to_python(overflows)
        for code in _codes(pmt.dict_ref(report, pmt.intern("event_code"), pmt.PMT_NIL)):
            counter = _COUNTED.get(code)
            if counter is None:
                self.fail(f"report of UHD has the unknown code {code!r}")
            else:
                setattr(self, counter, getattr(self, counter) + 1)
        self._release()

    def on_event(self, message: Any) -> None:
        """Pass a modulator's event on; the end event only when all packets are on the air."""
        event = pdu.read_event(message)
        if event is None:
            self.fail("message is not an event; connect the feedback port of the burst modulator")
            return
        # Each event, the end included, has a length-tagged packet of samples of its own.
        self.packets += 1
        if event["event"] != "end":
            self.publish("feedback", message)
            return
        with self._lock:
            self._end = message
            self._timer = threading.Timer(self._hold, self.attempt, (self._release, True))
            self._timer.daemon = True
            self._timer.start()
        self._release()

    def end(self) -> None:
        """End a run: log the counts."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
        self.logger.info(", ".join(f"{name} {count}" for name, count in self.stats().items()))

    def _release(self, overdue: bool = False) -> None:
        """Pass the end event on if all packets are acknowledged, or if it is ``overdue``."""
        with self._lock:
            if self._end is None or not (overdue or self.acknowledged >= self.packets):
                return
            end, self._end = self._end, None
            if self._timer is not None:
                self._timer.cancel()
        if overdue:
            self.fail(
                f"{self.packets - self.acknowledged} of {self.packets} packets not acknowledged in {self._hold:g} s"
            )
        self.publish("feedback", end)


def _codes(codes: Any) -> Iterator[str]:
    while pmt.is_pair(codes):
        yield str(pmt.car(codes))
        codes = pmt.cdr(codes)
