"""Samples to frame PDUs."""

from __future__ import annotations

import dataclasses
from collections import Counter
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
"""UHD's source puts it on its very first sample, and on the first sample behind each overrun."""


class burst_receiver(Block):  # noqa: N801
    """Find bursts in a stream of complex samples and send each as a semantic frame.

    Events that a modulator has put into the stream as tags leave in order behind the frames. A real radio does not
    carry them. UHD's source tags the samples before which others are missing; these gaps are counted.

    Args:
        numerology: Name of the sender's preset, such as ``64``.
        sample_rate: Samples/s; 0 for that of the preset.
        network: Receivers ignore the bursts of other networks; 0 to 65535.
        taps: Folder to record the receiver's internal signals in, for ``crlsc-modem plot``; empty for none.
        taps_most: Most bursts to record.

    Raises:
        ModemError: If the preset is unknown, or the folder cannot be written.
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
        ports = {"feedback": "on_feedback"}
        super().__init__("CRLSC Burst Receiver", ports, ("frames", "reports"), in_sig=[np.complex64])
        self._numerology = Numerology.preset(str(numerology), sample_rate or None, network)
        self._taps = Taps(taps, taps_most) if taps else None
        self._modem = BurstModem(self._numerology, taps=self._taps)
        self._counted: Counter[str] = Counter()
        self.frames = self.damaged = self.gaps = 0
        self._ended = False

    def on_feedback(self, message: Any) -> None:
        """End the block at an end event; the samples of a radio never end by themselves."""
        if (pdu.read_event(message) or {}).get("event") == "end":
            # The scheduler's own message for this does not end a block with stream inputs.
            self._ended = True

    def begin(self) -> None:
        """Begin a run."""
        self._ended = False

    def process(self, inputs: list[npt.NDArray[np.complex64]], _outputs: list[Any]) -> int:
        """Receive the samples at hand, and pass events on at their places."""
        if self._ended:
            return -1  # WORK_DONE
        samples, start, done = inputs[0], self.nitems_read(0), 0
        tags = self.get_tags_in_window(0, 0, len(samples), pmt.intern(pdu.EVENT_TAG))
        for tag in sorted(tags, key=lambda tag: tag.offset):
            place = tag.offset - start
            self._receive(samples[done:place])
            done = place
            event = pdu.event_from_tag(tag.value)
            if (pdu.read_event(event) or {}).get("event") == "end":
                self._receive(samples[done:])
                self._receive(None)
                done = len(samples)
            self.publish("frames", event)
        self._receive(samples[done:])
        times = self.get_tags_in_window(0, 0, len(samples), pmt.intern(_TIME_TAG))
        self.gaps += sum(tag.offset > 0 for tag in times)
        return len(samples)

    def stats(self) -> dict[str, int]:
        """Return the counters of the block and of its modem."""
        counters = dataclasses.asdict(self._modem.counters)
        return super().stats() | {name: count + self._counted[name] for name, count in counters.items()}

    def end(self) -> None:
        """Report the recordings that failed."""
        if self._taps and self._taps.errors:
            self.fail(f"taps: {self._taps.errors} files could not be written, the first: {self._taps.first_error}")

    def _receive(self, samples: npt.NDArray[np.complex64] | None) -> None:
        """Send the frames that some samples complete; None ends the stream."""
        bursts = self.attempt(self._modem.flush) if samples is None else self.attempt(self._modem.receive, samples)
        if bursts is None:
            # Its state cannot be trusted after an exception.
            self._counted.update(dataclasses.asdict(self._modem.counters))
            self._modem = BurstModem(self._numerology, taps=self._taps)
        for burst in bursts or ():
            self.attempt(self._send, burst)

    def _send(self, burst: Burst) -> None:
        estimates = {name: float(getattr(burst, name)) for name in ("snr_db", "detail_snr_db", "cfo_hz", "evm_db")}
        # The knowledge base may still repair a lost air code with its soft bits.
        names = ("semantic_llr", "semantic_coded_llr") if burst.frame.semantic is None else ()
        soft = {name: getattr(burst, name) for name in names}
        message = pdu.frame_to_pdu(burst.frame, **estimates, **soft)
        self.frames += 1
        self.damaged += not burst.frame.complete
        self.publish("frames", message)
        self.publish("reports", pdu.report_event(LinkReport.of(burst)))
