"""Samples to frame PDUs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pmt

from crlsc_phy.phy.adaptation import LinkReport
from crlsc_phy.phy.modem import Burst, BurstModem
from crlsc_phy.phy.numerology import Numerology
from crlsc_phy.phy.taps import Taps
from gr_blocks import pdu
from gr_blocks.block import Block

__all__ = ["burst_receiver"]

_TIME_TAG = "rx_time"
"""UHD's source puts it on the first sample of all, and on the first behind each overrun."""


class burst_receiver(Block):  # noqa: N801
    """Find bursts in a stream of complex samples and send each as a semantic frame.

    Events that a modulator has put into the stream as tags leave in order behind the frames. Over a real radio there
    are none. UHD's source marks where samples are missing with a tag; these gaps are counted.

    Args:
        numerology: Name of a preset, such as ``64``; that of the sender.
        sample_rate: Samples/s; 0 for that of the preset.
        network: Receivers ignore the bursts of other networks; 0 to 65535.
        taps: Folder to record the receiver's internal signals in, for ``crlsc-modem plot``; empty for none.
        taps_most: Most bursts to record.

    Raises:
        ModemError: If there is no such preset, or the folder cannot be written.
    """

    COUNTERS = ("frames", "damaged", "gaps", "errors")

    def __init__(
        self,
        numerology: str = "64",
        sample_rate: float = 0.0,
        network: int = 0,
        taps: str = "",
        taps_most: int = 100,
    ) -> None:
        super().__init__(
            "CRLSC Burst Receiver", {"feedback": "on_feedback"}, ("frames", "reports"), in_sig=[np.complex64]
        )
        waveform = Numerology.preset(str(numerology), sample_rate or None, network)
        self._taps = Taps(taps, taps_most) if taps else None
        self._modem = BurstModem(waveform, taps=self._taps)
        self.frames = 0
        self.damaged = 0
        self.gaps = 0
        self._ended = False

    def on_feedback(self, message: Any) -> None:
        """End with the end event that comes back; a radio's samples never end by themselves."""
        if (pdu.read_event(message) or {}).get("event") == "end":
            # The scheduler's own message for this does not end a block with stream inputs.
            self._ended = True

    def start(self) -> bool:
        """Begin a run."""
        self._ended = False
        return True

    def work(self, inputs: list[npt.NDArray[np.complex64]], _outputs: list[Any]) -> int:
        """Receive what has come, and pass events on at their places."""
        if self._ended:
            return -1  # WORK_DONE
        samples, start, done = inputs[0], self.nitems_read(0), 0
        tags = self.get_tags_in_window(0, 0, len(samples), pmt.intern(pdu.EVENT_TAG))
        for tag in sorted(tags, key=lambda tag: tag.offset):
            place = tag.offset - start
            self._send(self._modem.receive(samples[done:place]))
            done = place
            event = pdu.event_from_tag(tag.value)
            if (pdu.read_event(event) or {}).get("event") == "end":
                self._send(self._modem.receive(samples[done:]))
                self._send(self._modem.flush())
                done = len(samples)
            self.publish("frames", event)
        self._send(self._modem.receive(samples[done:]))
        times = self.get_tags_in_window(0, 0, len(samples), pmt.intern(_TIME_TAG))
        self.gaps += sum(tag.offset > 0 for tag in times)
        return len(samples)

    def stats(self) -> dict[str, int]:
        """The counters of the block and of its modem."""
        return super().stats() | dataclasses.asdict(self._modem.counters)

    def stop(self) -> bool:
        """Say what could not be recorded."""
        if self._taps and self._taps.errors:
            self.fail(f"taps: {self._taps.errors} files could not be written, the first: {self._taps.first_error}")
        return True

    def _send(self, bursts: Iterable[Burst]) -> None:
        for burst in bursts:
            estimates = {name: float(getattr(burst, name)) for name in ("snr_db", "detail_snr_db", "cfo_hz", "evm_db")}
            # What the knowledge base may still make sense of.
            names = ("semantic_llr", "semantic_coded_llr") if burst.frame.semantic is None else ()
            soft = {name: getattr(burst, name) for name in names}
            message = pdu.frame_to_pdu(burst.frame, **estimates, **soft)
            self.frames += 1
            self.damaged += not burst.frame.complete
            self.publish("frames", message)
            self.publish("reports", pdu.report_event(LinkReport.of(burst)))
