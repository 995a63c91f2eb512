"""The burst modem: semantic frames to complex baseband and back."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crlsc_phy.errors import ModemError
from crlsc_phy.frame import FrameHeader, SemanticFrame
from crlsc_phy.phy.demodulator import Demodulator
from crlsc_phy.phy.fec import DECODERS, Decoder
from crlsc_phy.phy.layout import Layout, carries, pack_header
from crlsc_phy.phy.mcs import Mcs, find_mcs
from crlsc_phy.phy.numerology import Numerology
from crlsc_phy.phy.ofdm import Ofdm
from crlsc_phy.phy.papr import check_papr, clip_and_filter
from crlsc_phy.phy.preamble import Preamble
from crlsc_phy.phy.receiver import Burst, Counters, Receiver
from crlsc_phy.phy.taps import Taps

__all__ = ["Burst", "BurstModem", "Counters", "Mode"]

MAX_BURST_SAMPLES = 1 << 21
"""Longest burst by default, and so what a lying header can make a receiver hold: 16 MiB."""

Mode = Literal["digital", "analog"]
_DEFAULT_MCS: dict[Mode, str] = {"digital": "qpsk-1/2", "analog": "analog-1/1"}


class BurstModem:
    """Modulates frames and receives bursts from a stream of samples.

    Args:
        numerology: Shared by sender and receiver.
        mcs: Name or index, in ``MCS_TABLE`` or ``ANALOG_TABLE``, of how the detail layer is sent; ``qpsk-1/2`` or
            ``analog-1/1`` if None. Frames of any MCS are received.
        mode: ``"digital"``: the detail layer is coded bits. ``"analog"``: complex numbers, sent as they are at unit
            mean power.
        max_burst_samples: Longest burst sent or received.
        papr_db: Clip what is sent behind the preamble to this peak over its mean power; None leaves it as it is.
        ldpc: ``"min-sum"``, or ``"sionna"`` for Sionna's belief propagation, the slow reference.
        taps: Where the receiver dumps its internal signals, or None.

    Attributes:
        numerology: As given.
        mode: As given.

    Raises:
        ModemError: If there is no such MCS, mode or decoder, if MCS and mode contradict each other, or ``papr_db`` is
            out of range.
    """

    def __init__(
        self,
        numerology: Numerology | None = None,
        mcs: int | str | None = None,
        mode: Mode = "digital",
        max_burst_samples: int = MAX_BURST_SAMPLES,
        *,
        papr_db: float | None = None,
        ldpc: Decoder = "min-sum",
        taps: Taps | None = None,
    ) -> None:
        if mode not in _DEFAULT_MCS:
            raise ModemError(f"no mode {mode!r}; choose one of {', '.join(_DEFAULT_MCS)}")
        if ldpc not in DECODERS:
            raise ModemError(f"no LDPC decoder {ldpc!r}; choose one of {', '.join(DECODERS)}")
        self.numerology = numerology or Numerology()
        self.mode = mode
        self.max_burst_samples = max_burst_samples
        self.mcs = _DEFAULT_MCS[mode] if mcs is None else mcs
        self._papr_db = None if papr_db is None else check_papr(papr_db)
        self._ofdm = Ofdm(self.numerology)
        self._preamble = Preamble(self._ofdm)
        self._demodulator = Demodulator(self._ofdm, self._preamble)
        self._receiver = Receiver(
            self._ofdm, self._preamble, self._demodulator, max_burst_samples, decoder=ldpc, taps=taps
        )

    @property
    def mcs(self) -> Mcs:
        """How the detail layer of the next burst is sent; set it by name or index."""
        return self._mcs

    @mcs.setter
    def mcs(self, mcs: int | str | Mcs) -> None:
        chosen = mcs if isinstance(mcs, Mcs) else find_mcs(mcs)
        if chosen.analog != (self.mode == "analog"):
            raise ModemError(f"MCS {chosen.name} does not go with mode {self.mode!r}")
        self._mcs = chosen

    @property
    def counters(self) -> Counters:
        """What the receiver has seen since the modem was made."""
        return self._receiver.counters

    def burst_samples(self, header: FrameHeader, mcs: Mcs | None = None) -> int:
        """Samples of the burst for a frame with ``header``, guard left out."""
        symbols = Layout.of(self.numerology, header, mcs or self.mcs).symbols
        return len(self._preamble.waveform) + symbols * self.numerology.symbol_length

    def channel_uses(self, header: FrameHeader, mcs: Mcs | None = None) -> float:
        """Complex channel uses of that burst: samples times the occupied part of the band, everything counted."""
        return self.burst_samples(header, mcs) * self.numerology.occupied / self.numerology.fft_size

    def modulate(self, frame: SemanticFrame) -> NDArray[np.complex64]:
        """The burst for a frame.

        Args:
            frame: Complete, without erasures.

        Returns:
            complex64 [n], unit mean power, the guard behind the burst included.

        Raises:
            ModemError: If the frame has holes, has detail of the other mode, has analog detail that is not finite or
                has no power, or needs a burst longer than the limit.
        """
        if frame.semantic is None or frame.detail is None or frame.erasures:
            raise ModemError("frame has lost layers or erasures; only a complete frame can be sent")
        if not carries(self.mcs, frame.header):
            raise ModemError(
                f"frame has a detail layer of mode {frame.header.mode.name.lower()}; this modem sends {self.mode}"
            )
        samples = self.burst_samples(frame.header)
        if samples > self.max_burst_samples:
            raise ModemError(
                f"frame needs a burst of {samples} samples with {self.mcs.name}; the limit is "
                f"{self.max_burst_samples}: take a higher MCS or a smaller image"
            )
        layout = Layout.of(self.numerology, frame.header, self.mcs)
        header = layout.header.modulate(pack_header(frame.header, self.mcs))
        grid = self._ofdm.grid(np.concatenate((header, layout.modulate(frame))))
        if self._papr_db is not None:
            grid = clip_and_filter(grid, self._ofdm.carriers, self.numerology.fft_size, self._papr_db)
        symbols = self._ofdm.waveform(grid, self.numerology.cp_length)
        # A receiver whose clock is off reaches beyond the last symbol: it shall not have to wait for more.
        guard = max(self.numerology.guard, self._demodulator.samples_needed(layout.symbols) - samples)
        burst = np.concatenate((self._preamble.waveform, symbols.ravel(), np.zeros(guard, np.complex64)))
        power = float(np.vdot(burst, burst).real) / len(burst)
        return np.asarray(burst / np.float32(np.sqrt(power)), np.complex64)

    def receive(self, iq: ArrayLike) -> list[Burst]:
        """Take in samples and hand out the bursts that they complete.

        State is kept: how a stream is cut into calls does not matter.

        Args:
            iq: complex64 [n], any n.

        Raises:
            ModemError: If ``iq`` is not a one-dimensional array of numbers.
        """
        return self._receiver.receive(iq)

    def flush(self) -> list[Burst]:
        """End the stream: hand out what the samples at hand allow, and start afresh.

        A burst that is cut short after its header comes with what was lost of it missing.
        """
        return self._receiver.flush()
