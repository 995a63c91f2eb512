"""Links of bits: uncoded QAM, or 5G LDPC and QAM, for bit and block error rates.

    bits -> 5G LDPC -> QAM -> link of symbols -> exact LLRs -> decoder -> bits

The link is the textbooks', AWGN or flat fading between synchronous symbols; with ``air: grid`` Sionna's OFDM grid; or,
where asked for, the modem.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.errors import ModemError, SweepError
from crlsc_phy.link.chain import Outcome, Scene, Trial
from crlsc_phy.link.symbols import SymbolLink, over_air, over_symbols
from crlsc_phy.phy.fec import DECODERS, Decoder, LdpcCode, ldpc_code
from crlsc_phy.phy.qam import demap, map_bits

__all__ = ["BITS_PER_SYMBOL", "CodedChain", "CodedOptions"]

BITS_PER_SYMBOL = {"qpsk": 2, "16qam": 4, "64qam": 6}


@dataclass(frozen=True)
class CodedOptions:
    """What a link of bits sends.

    Attributes:
        modulation: ``qpsk``, ``16qam`` or ``64qam``.
        k: Information bits of a block.
        n: Coded bits of a block; 0 takes them from ``rate``.
        rate: k / n, made whole symbols; 1 sends the bits uncoded.
        blocks: How many a replica sends.
        decoder: ``min-sum``, ours, or ``sionna``, its belief propagation.
        iterations: Of the decoder, at most.
        fading: How long a gain stands on the link of symbols: for a ``symbol``, which is ideal interleaving, or for a
            ``block``. Empty: for a block with the models ``rayleigh-block`` and ``rician-block``, else for a symbol.
            On grid and modem each block is a burst, and the channel moves on as its speed says.
        mismatch_db: By how much the receiver overrates the SNR. Min-sum after QPSK does not notice: its decisions do
            not depend on the scale of its LLRs.
        modem: Whether ``air: modem`` stands for the modem, each block the analog symbols of a burst; else symbols meet
            the channel as they are.

    Raises:
        SweepError: If a value is out of range, two contradict each other, or TS 38.212 has no such code.
    """

    modulation: str = "qpsk"
    k: int = 1024
    n: int = 0
    rate: float = 0.5
    blocks: int = 100
    decoder: Decoder = "min-sum"
    iterations: int = 20
    fading: Literal["", "symbol", "block"] = ""
    mismatch_db: float = 0.0
    modem: bool = False

    def __post_init__(self) -> None:
        for name, choices in (
            ("modulation", tuple(BITS_PER_SYMBOL)),
            ("decoder", DECODERS),
            ("fading", ("", "symbol", "block")),
        ):
            if getattr(self, name) not in choices:
                raise SweepError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(map(repr, choices))}")
        for name, least in (("k", 1), ("n", 0), ("blocks", 1), ("iterations", 1)):
            if getattr(self, name) < least:
                raise SweepError(f"{name} is {getattr(self, name)}; it must be {least} or more")
        if not 0 < self.rate <= 1:
            raise SweepError(f"rate is {self.rate:g}; it must be above 0 and up to 1")
        if not self.coded and self.k % self.bits_per_symbol:
            raise SweepError(f"k is {self.k}; without a code it must be whole symbols of {self.bits_per_symbol} bits")
        try:
            self.code()
        except ModemError as error:
            raise SweepError(str(error)) from None

    @property
    def bits_per_symbol(self) -> int:
        """Bits of a QAM symbol."""
        return BITS_PER_SYMBOL[self.modulation]

    @property
    def coded(self) -> bool:
        """Whether there is a code."""
        return bool(self.n) or self.rate < 1

    def code(self) -> LdpcCode | None:
        """The code; None without one."""
        if not self.coded:
            return None
        bits = self.bits_per_symbol
        return ldpc_code(self.k, self.n or round(self.k / self.rate / bits) * bits, bits)


class CodedChain:
    """A link of bits.

    Raises:
        SweepError: If the link cannot carry the scene's channel.
    """

    Options = CodedOptions

    def __init__(self, options: CodedOptions, scene: Scene) -> None:
        self._options = options
        self._code = options.code()
        self._link = self._make_link(scene)

    def run(self, trial: Trial) -> Outcome:
        """Send ``blocks`` blocks of random bits.

        Returns:
            Counts ``bits``, ``bit_errors``, ``blocks`` and ``block_errors``; with our decoder also ``undetected``, the
            wrong blocks that hold all of the code's checks.
        """
        options = self._options
        rng = np.random.default_rng(trial.seed)
        bits = rng.integers(0, 2, (options.blocks, options.k), np.uint8)
        sent = self._code.encode(bits) if self._code else bits
        symbols = map_bits(sent.ravel(), options.bits_per_symbol).reshape(len(sent), -1)
        received, noise = self._link.send(symbols, trial.snr_db, rng)
        # Without a code the nearest symbol decides, as in textbooks: that is what a demapper says of little noise.
        believed = noise * np.float32(10 ** (-options.mismatch_db / 10)) if self._code else np.full_like(noise, 1e-6)
        llr = demap(received.ravel(), believed.ravel(), options.bits_per_symbol).reshape(sent.shape)
        decided, valid = self._decide(llr)
        wrong = (decided > 0) != bits
        lost = wrong.any(axis=1)
        counts = {
            "bits": bits.size,
            "bit_errors": int(wrong.sum()),
            "blocks": len(bits),
            "block_errors": int(lost.sum()),
        }
        if valid is not None:
            # Without any evidence every bit is 0, which holds the checks and deceives nobody.
            counts["undetected"] = int((lost & valid & llr.any(axis=1)).sum())
        return Outcome(counts)

    def _make_link(self, scene: Scene) -> SymbolLink:
        if scene.air == "grid" or self._options.modem:
            return over_air(scene)
        fading = self._options.fading or ("block" if scene.channel.model.endswith("-block") else "symbol")
        return over_symbols(scene, block=fading == "block")

    def _decide(self, llr: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """LLRs of the information bits [blocks, k], and whether each block holds its checks, if that is known."""
        if self._code is None:
            return llr, None
        if self._options.decoder == "sionna":
            return self._code.decode_reference(llr, self._options.iterations), None
        posterior, valid, _ = self._code.decode(llr, self._options.iterations)
        return posterior, valid
