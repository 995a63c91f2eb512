"""Links of random bits: uncoded QAM, or 5G LDPC and QAM, for bit and block error rates.

    bits -> 5G LDPC -> QAM -> link of symbols -> exact LLRs -> decoder -> bits

The link is AWGN or flat fading of synchronous symbols; Sionna's OFDM grid with ``air: grid``; or the modem with
``modem: true``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from crlsc_phy.errors import ModemError, SweepError
from crlsc_phy.link.chain import Outcome, Scene, Trial
from crlsc_phy.link.symbols import over_air, over_symbols
from crlsc_phy.options import checked, one_of
from crlsc_phy.phy.fec import Decoder, LdpcCode, ldpc_code
from crlsc_phy.phy.qam import demap, map_bits

__all__ = ["BITS_PER_SYMBOL", "CodedChain", "CodedOptions"]

BITS_PER_SYMBOL = {"qpsk": 2, "16qam": 4, "64qam": 6}


@checked(SweepError)
@dataclass(frozen=True)
class CodedOptions:
    """Options of :class:`CodedChain`.

    Attributes:
        modulation: ``qpsk``, ``16qam`` or ``64qam``.
        k: Information bits per block.
        n: Coded bits per block; 0 derives them from ``rate``.
        rate: Code rate k / n, with n rounded to whole symbols; 1 sends the bits uncoded.
        blocks: Blocks per replica.
        decoder: ``min-sum`` is this project's, ``sionna`` Sionna's belief propagation.
        iterations: Largest number of iterations of the decoder.
        fading: Coherence of a gain on the link of symbols: one ``symbol``, as after ideal interleaving, or one
            ``block``. Empty for a block with the models ``rayleigh-block`` and ``rician-block``, and a symbol with the
            others. On the grid and the modem each block is a burst, and the speed decides how the channel changes.
        mismatch_db: Error in dB of the receiver's SNR, positive if it is too high. It does not matter to min-sum after
            QPSK, whose decisions do not depend on the scale of the LLRs.
        modem: Whether ``air: modem`` sends each block as the analog symbols of a burst through the modem. Otherwise
            single symbols pass the channel.

    Raises:
        SweepError: If a value is out of range, two contradict each other, or TS 38.212 has no such code.
    """

    modulation: Annotated[str, one_of(BITS_PER_SYMBOL)] = "qpsk"
    k: Annotated[int, Field(ge=1)] = 1024
    n: Annotated[int, Field(ge=0)] = 0
    rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    blocks: Annotated[int, Field(ge=1)] = 100
    decoder: Decoder = "min-sum"
    iterations: Annotated[int, Field(ge=1)] = 20
    fading: Literal["", "symbol", "block"] = ""
    mismatch_db: float = 0.0
    modem: bool = False

    def __post_init__(self) -> None:
        if not self.coded and self.k % self.bits_per_symbol:
            raise SweepError(
                f"k is {self.k}; without a code it must be a multiple of {self.bits_per_symbol}, the bits of a symbol"
            )
        try:
            self.code()
        except ModemError as error:
            raise SweepError(str(error)) from None

    @property
    def bits_per_symbol(self) -> int:
        """Bits per QAM symbol."""
        return BITS_PER_SYMBOL[self.modulation]

    @property
    def coded(self) -> bool:
        """True if the bits are coded."""
        return bool(self.n) or self.rate < 1

    def code(self) -> LdpcCode | None:
        """Return the code; None if the bits are not coded."""
        if not self.coded:
            return None
        bits = self.bits_per_symbol
        return ldpc_code(self.k, self.n or round(self.k / self.rate / bits) * bits, bits)


class CodedChain:
    """A link of random bits.

    Args:
        options: Options of the chain.
        scene: Scene; pictures and bundle are not used.

    Raises:
        SweepError: If the link cannot carry the scene's channel.
    """

    Options = CodedOptions

    def __init__(self, options: CodedOptions, scene: Scene) -> None:
        self._options = options
        self._code = options.code()
        if scene.air == "grid" or options.modem:
            self._link = over_air(scene)
        else:
            fading = options.fading or ("block" if scene.channel.model.endswith("-block") else "symbol")
            self._link = over_symbols(scene, block=fading == "block")

    def run(self, trial: Trial) -> Outcome:
        """Send ``blocks`` blocks of random bits.

        Returns:
            Counts ``bits``, ``bit_errors``, ``blocks`` and ``block_errors``. With min-sum also ``undetected``, the
            number of wrong blocks that fulfil all parity checks.
        """
        options = self._options
        rng = np.random.default_rng(trial.seed)
        bits = rng.integers(0, 2, (options.blocks, options.k), np.uint8)
        sent = self._code.encode(bits) if self._code else bits
        symbols = map_bits(sent.ravel(), options.bits_per_symbol).reshape(len(sent), -1)
        received, noise = self._link.send(symbols, trial.snr_db, rng)
        # Without a code the nearest symbol decides, which the demapper does for little noise.
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
            # LLRs that are all 0 decode to zeros, which fulfil the checks but are no undetected error.
            counts["undetected"] = int((lost & valid & llr.any(axis=1)).sum())
        return Outcome(counts)

    def _decide(self, llr: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Return LLRs of the information bits [blocks, k], and if known whether each block fulfils its checks."""
        if self._code is None:
            return llr, None
        if self._options.decoder == "sionna":
            return self._code.decode_reference(llr, self._options.iterations), None
        posterior, valid, _ = self._code.decode(llr, self._options.iterations)
        return posterior, valid
