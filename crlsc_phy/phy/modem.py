"""The burst modem: semantic frames to complex baseband and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crlsc_phy.errors import ModemError
from crlsc_phy.frame import FrameHeader, ModeName, SemanticFrame
from crlsc_phy.phy.demodulator import Demodulator
from crlsc_phy.phy.fec import DECODERS, Decoder
from crlsc_phy.phy.layout import Layout, carries, pack_header
from crlsc_phy.phy.mcs import ANALOG_TABLE, MCS_TABLE, Mcs, find_mcs
from crlsc_phy.phy.numerology import Numerology
from crlsc_phy.phy.ofdm import Ofdm
from crlsc_phy.phy.papr import check_papr, clip_and_filter
from crlsc_phy.phy.preamble import Preamble
from crlsc_phy.phy.receiver import Burst, Counters, Receiver
from crlsc_phy.phy.taps import Taps
from crlsc_phy.scalars import plain

__all__ = ["Burst", "BurstModem", "Counters"]

MAX_BURST_SAMPLES = 1 << 21
"""Longest burst by default. It bounds what a header that lies makes a receiver keep: 16 MiB of samples."""

_DEFAULT_MCS: dict[ModeName, str] = {"digital": "qpsk-1/2", "analog": "analog-1/1"}


class BurstModem:
    """Modem that sends frames as bursts, and receives bursts from a stream of samples.

    Args:
        numerology: Waveform, the same at sender and receiver; ``Numerology()`` if None.
        mcs: Modulation and code rate of the detail layer, a name or index of ``MCS_TABLE`` or ``ANALOG_TABLE``;
            ``qpsk-1/2`` or ``analog-1/1`` if None. Bursts of any MCS are received.
        mode: ``"digital"`` sends the detail layer as coded bits, ``"analog"`` as complex numbers of unit mean power.
            Bursts of either mode are received.
        max_burst_samples: Longest burst sent or received, in samples.
        papr_db: Peak power over mean power in dB to which the burst is clipped behind the preamble; None leaves it as
            it is.
        ldpc: ``"min-sum"``, or ``"sionna"`` for Sionna's belief propagation, the slow reference.
        taps: Where the receiver dumps its internal signals, or None.

    Attributes:
        numerology: The waveform.
        mode: Mode of the bursts that are sent.

    Raises:
        ModemError: If there is no such MCS, mode or decoder, if the MCS is one of the other mode, or ``papr_db`` is out
            of range.

    Example:
        >>> from crlsc_phy.frame import FrameHeader, SemanticFrame
        >>> header = FrameHeader(kb_id=b"kb-1", height=64, width=64, semantic_bytes=16, detail_bytes=100)
        >>> modem = BurstModem(Numerology.preset("64"), mcs="16qam-1/2")
        >>> iq = modem.modulate(SemanticFrame(header, semantic=bytes(16), detail=bytes(100)))
        >>> [burst] = modem.receive(iq)
        >>> burst.frame.complete, burst.mcs.name
        (True, '16qam-1/2')
    """

    def __init__(
        self,
        numerology: Numerology | None = None,
        mcs: int | str | None = None,
        mode: ModeName = "digital",
        max_burst_samples: int = MAX_BURST_SAMPLES,
        *,
        papr_db: float | None = None,
        ldpc: Decoder = "min-sum",
        taps: Taps | None = None,
    ) -> None:
        if mode not in _DEFAULT_MCS:
            raise ModemError(f"mode {mode!r} is unknown; choose one of {', '.join(_DEFAULT_MCS)}")
        if ldpc not in DECODERS:
            raise ModemError(f"LDPC decoder {ldpc!r} is unknown; choose one of {', '.join(DECODERS)}")
        self.numerology = numerology or Numerology()
        self.mode = mode
        self.max_burst_samples = plain(max_burst_samples)
        self.mcs = _DEFAULT_MCS[mode] if mcs is None else mcs
        self._papr_db = None if papr_db is None else check_papr(plain(papr_db))
        self._ofdm = Ofdm(self.numerology)
        self._preamble = Preamble(self._ofdm)
        self._demodulator = Demodulator(self._ofdm, self._preamble)
        self._receiver = Receiver(
            self._ofdm, self._preamble, self._demodulator, self.max_burst_samples, decoder=ldpc, taps=taps
        )

    @property
    def mcs(self) -> Mcs:
        """Modulation and code rate of the next burst's detail layer; set it by name, index or entry."""
        return self._mcs

    @mcs.setter
    def mcs(self, mcs: int | str | Mcs) -> None:
        chosen = mcs if isinstance(mcs, Mcs) else find_mcs(mcs)
        if chosen.analog != (self.mode == "analog"):
            table = ANALOG_TABLE if self.mode == "analog" else MCS_TABLE
            names = ", ".join(entry.name for entry in table)
            raise ModemError(f"MCS {chosen.name} is not one of mode {self.mode!r}; choose one of {names}")
        self._mcs = chosen

    @property
    def counters(self) -> Counters:
        """Counters of the receiver since the modem was made."""
        return self._receiver.counters

    def burst_samples(self, header: FrameHeader, mcs: Mcs | None = None) -> int:
        """Return the samples of the burst for a frame with ``header``, guard left out; with :attr:`mcs` if None."""
        symbols = Layout.of(self.numerology, header, mcs or self.mcs).symbols
        return len(self._preamble.waveform) + symbols * self.numerology.symbol_length

    def channel_uses(self, header: FrameHeader, mcs: Mcs | None = None) -> float:
        """Return the complex channel uses of that burst: samples times the occupied part of the band."""
        return self.burst_samples(header, mcs) * self.numerology.occupied / self.numerology.fft_size

    def modulate(self, frame: SemanticFrame) -> NDArray[np.complex64]:
        """Modulate a frame.

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
                f"frame has a detail layer of mode {frame.header.mode.name.lower()}; this modem sends {self.mode}: "
                "encode the image in that mode, or make the modem with the other"
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
        # A receiver whose clock is off reads beyond the last symbol, and must not have to wait for more samples.
        guard = max(self.numerology.guard, self._demodulator.samples_needed(layout.symbols) - samples)
        burst = np.concatenate((self._preamble.waveform, symbols.ravel(), np.zeros(guard, np.complex64)))
        power = float(np.vdot(burst, burst).real) / len(burst)
        return np.asarray(burst / np.float32(np.sqrt(power)), np.complex64)

    def receive(self, iq: ArrayLike) -> list[Burst]:
        """Receive samples, and return the bursts that they complete.

        State is kept: how a stream is cut into calls does not matter.

        Args:
            iq: complex64 [n], any n; an array of any type, which may be filled anew afterwards.

        Raises:
            ModemError: If ``iq`` is not a one-dimensional array of numbers.
        """
        return self._receiver.receive(iq)

    def flush(self) -> list[Burst]:
        """End the stream: return the bursts still in the samples, and start afresh.

        A burst that is cut short behind its header lacks the layers and segments that were cut off.
        """
        return self._receiver.flush()
