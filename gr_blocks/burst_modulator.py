"""Frame PDUs to bursts of samples."""

from __future__ import annotations

from collections import deque
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pmt

from crlsc_phy.errors import ModemError
from crlsc_phy.phy.adaptation import THRESHOLDS_DB, LinkAdapter, LinkReport, analog_thresholds_db
from crlsc_phy.phy.mcs import ANALOG_TABLE, MCS_TABLE
from crlsc_phy.phy.modem import BurstModem
from crlsc_phy.phy.numerology import Numerology
from gr_blocks import pdu
from gr_blocks.block import Block

__all__ = ["burst_modulator"]

ANALOG_SNR_DB = 15.0
"""Es/N0 after repetition that ``auto`` aims at in analog mode: 5 dB more bring 2 dB of PSNR, at twice the air time."""
SILENCE = 16
"""Bursts without a report after which ``auto`` steps down; more than are under way at a time."""

_NOTHING = np.zeros(0, np.complex64)


class burst_modulator(Block):  # noqa: N801
    """Send each semantic frame as a burst of complex samples.

    Each burst is followed by ``guard`` zeros; the first of them bears a stream tag with the burst event. Other events
    that arrive with the frames leave the same way, in order. With ``mcs`` "auto" the reports of a receiver choose the
    MCS; while no report comes, it goes down step by step.

    Args:
        numerology: Name of a preset, such as ``64``.
        sample_rate: Samples/s; 0 for that of the preset.
        network: Receivers ignore the bursts of other networks; 0 to 65535.
        mode: Detail layer sent, ``digital`` or ``analog``; the mode of the encoder.
        mcs: Name such as ``qpsk-1/2`` or ``analog-1/2``, or index, of the MCS of the detail layer; empty for
            ``qpsk-1/2`` or ``analog-1/1``, ``auto`` to follow the reports.
        papr_db: Clip the bursts to this ratio of peak to mean power; 0 for no clipping.
        guard: Zero samples between bursts. They push a burst through filters and the receiver's look-ahead.
        idle: Fill the time between bursts with zeros, for a radio that must not run dry. Without it the block waits.
        queue_size: Most frames that may wait; the oldest are dropped.
        length_tag: Key of a stream tag on the first sample of each burst, with the number of samples of the burst and
            its guard. UHD's sink needs ``packet_len``; empty for none.

    Raises:
        ModemError: If the preset or MCS is unknown, the MCS is not one of the mode, ``papr_db`` is too low, or both
            ``length_tag`` and ``idle`` are given: the zeros between bursts belong to no packet.
    """

    COUNTERS = ("bursts", "samples", "mcs_changes", "errors", "dropped")

    def __init__(
        self,
        numerology: str = "64",
        sample_rate: float = 0.0,
        network: int = 0,
        mode: Literal["digital", "analog"] = "digital",
        mcs: str = "",
        papr_db: float = 0.0,
        guard: int = 1024,
        idle: bool = False,
        queue_size: int = 64,
        length_tag: str = "",
    ) -> None:
        ports = {"frames": "on_frame", "reports": "on_report"}
        super().__init__("CRLSC Burst Modulator", ports, ("feedback",), None, [np.complex64], queue_size)
        if length_tag and idle:
            raise ModemError("burst modulator: length_tag and idle exclude each other; leave one of them out")
        waveform = Numerology.preset(str(numerology), sample_rate or None, network)
        table = ANALOG_TABLE if mode == "analog" else MCS_TABLE
        self._adapter: LinkAdapter | None = None
        chosen: int | str | None = int(mcs) if str(mcs).isdecimal() else mcs or None
        if mcs == "auto":
            self._adapter = LinkAdapter(analog_thresholds_db(ANALOG_SNR_DB) if mode == "analog" else THRESHOLDS_DB)
            chosen = table[self._adapter.choice].index
        self._table = table
        self._modem = BurstModem(waveform, chosen, mode, papr_db=papr_db or None)
        self._unreported = 0
        self._guard, self._idle, self._length_tag = max(1, guard), idle, length_tag
        self._queue: deque[Any] = deque()
        self._samples: npt.NDArray[np.complex64] = _NOTHING
        self._sent = 0
        self._event: tuple[int, Any] | None = None
        self.bursts = self.samples = self.mcs_changes = 0

    def on_frame(self, message: Any) -> None:
        """Queue a frame or an event."""
        self._queue.append(message)
        waiting = [index for index, queued in enumerate(self._queue) if pdu.read_event(queued) is None]
        if len(waiting) > self.queue_size:
            self.dropped += 1
            self._queue[waiting[0]] = self._skip(self._queue[waiting[0]], "dropped: queue is full")

    def on_report(self, message: Any) -> None:
        """Follow a receiver's report on a burst."""
        report = LinkReport.from_dict(pdu.read_event(message))
        self._unreported = 0
        if self._adapter:
            self._choose(self._adapter.update(report))

    def process(self, _inputs: list[Any], outputs: list[npt.NDArray[np.complex64]]) -> int:
        """Write as much of the current burst as there is room for."""
        out = outputs[0]
        if self._sent == len(self._samples) and not self._load():
            if self.finished():
                return -1  # WORK_DONE
            if not self._idle:
                return 0
            out[:] = 0
            return len(out)
        if self._length_tag and self._sent == 0:
            length = pmt.from_long(len(self._samples))
            self.add_item_tag(0, self.nitems_written(0), pmt.intern(self._length_tag), length)
        count = min(len(out), len(self._samples) - self._sent)
        out[:count] = self._samples[self._sent : self._sent + count]
        if self._event is not None and self._event[0] < self._sent + count:
            (place, event), self._event = self._event, None
            offset = self.nitems_written(0) + place - self._sent
            self.add_item_tag(0, offset, pmt.intern(pdu.EVENT_TAG), pdu.event_to_tag(event))
            self.publish("feedback", event)
        self._sent += count
        self.samples += count
        return count

    def _load(self) -> bool:
        """Make the next burst, or the zeros that carry an event; return False if the queue is empty."""
        if not self._queue:
            return False
        message = self._queue.popleft()
        burst = _NOTHING
        if pdu.read_event(message) is None:
            made = self.attempt(self._modulate, message)
            burst, message = made or (_NOTHING, self._skip(message, self.messages[-1]))
        self._samples = np.concatenate((burst, np.zeros(self._guard, np.complex64)))
        self._sent, self._event = 0, (len(burst), message)
        return True

    def _modulate(self, message: Any) -> tuple[npt.NDArray[np.complex64], Any]:
        """Return the burst of a frame PDU and its burst event."""
        frame, _ = pdu.frame_from_pdu(message)
        burst = self._modem.modulate(frame)
        event = pdu.burst_event(frame.header.sequence, len(burst), frame.coded_bytes)
        self.bursts += 1
        self._unreported += 1
        if self._adapter and self._unreported >= SILENCE:
            self._unreported = 0
            self._choose(self._adapter.miss())
        return burst, event

    def _choose(self, choice: int) -> None:
        self.mcs_changes += self._table[choice] != self._modem.mcs
        self._modem.mcs = self._table[choice]

    def _skip(self, message: Any, reason: str) -> Any:
        return pdu.skip_event(pdu.sequence_of(message) or 0, f"{self.name()}: {reason}")
