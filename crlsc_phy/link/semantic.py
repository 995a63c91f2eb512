"""The semantic chains: a picture through codec, modem, channel and knowledge base.

    digital    semantic layer and tokens, LDPC coded
    semantic   the semantic layer alone
    analog     semantic layer, and symbols without quantisation
    hybrid     digital or analog, whichever gives the better picture at the SNR

A lost burst counts as a mid-grey picture without a label.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np
from pydantic import Field

from crlsc_phy.codec import DecodeResult
from crlsc_phy.errors import SweepError
from crlsc_phy.frame import SYMBOL, SemanticFrame
from crlsc_phy.link.budget import Budget, Rate
from crlsc_phy.link.burst import BurstOptions
from crlsc_phy.link.chain import ImageResult, Outcome, Scene, Trial
from crlsc_phy.link.frame_links import frame_link
from crlsc_phy.link.score import Scorer, air_metrics, frame_counts, grey, load_codec, sent_images
from crlsc_phy.options import checked, one_of
from crlsc_phy.phy import ANALOG_TABLE, MCS_TABLE, Burst
from crlsc_phy.phy.mcs import find_mcs
from crlsc_phy.quality.metrics import psnr_db

__all__ = [
    "AnalogChain",
    "AnalogOptions",
    "DigitalChain",
    "DigitalOptions",
    "HybridChain",
    "HybridOptions",
    "SemanticChain",
    "SemanticOptions",
]

ADAPTED = "adapted"
_FRAMES_KEPT = 128
_LEAST = Rate("digital", 0, MCS_TABLE[0])
_Cbr = Annotated[float, Field(gt=0)]


@checked(SweepError)
@dataclass(frozen=True)
class SemanticOptions(BurstOptions):
    """Options of :class:`SemanticChain`."""


@checked(SweepError)
@dataclass(frozen=True)
class DigitalOptions(BurstOptions):
    """Options of :class:`DigitalChain`.

    Attributes:
        mcs: A name of ``MCS_TABLE``. ``adapted`` chooses by the true SNR and the thresholds of the link adapter, which
            are those of AWGN; see :meth:`Budget.adapted`.
        levels: Largest number of codebook levels; None for all that the bundle has.
        cbr: Largest number of channel uses per source value; as many levels are sent as fit. None for no limit.
        margin_db: Margin in dB that ``adapted`` keeps above a threshold, for channels that fade.
    """

    mcs: Annotated[str, one_of((ADAPTED, *(mcs.name for mcs in MCS_TABLE)))] = ADAPTED
    levels: Annotated[int, Field(ge=0)] | None = None
    cbr: _Cbr | None = None
    margin_db: float = 0.0


@checked(SweepError)
@dataclass(frozen=True)
class AnalogOptions(BurstOptions):
    """Options of :class:`AnalogChain`.

    Attributes:
        mcs: A name of ``ANALOG_TABLE``, which decides how often each symbol is sent.
        symbols: Complex symbols for 8 x 8 pixels; None for as many as ``cbr`` allows, or all that the bundle has.
        cbr: Largest number of channel uses per source value, instead of ``symbols``.
        snr_error_db: Error in dB that is added to the SNR estimate for the decoder.
    """

    mcs: Annotated[str, one_of([mcs.name for mcs in ANALOG_TABLE])] = "analog-1/1"
    symbols: Annotated[int, Field(ge=1)] | None = None
    cbr: _Cbr | None = None
    snr_error_db: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.symbols is not None and self.cbr is not None:
            raise SweepError("symbols and cbr both limit what is sent; give only one of them")


@checked(SweepError)
@dataclass(frozen=True)
class HybridOptions(BurstOptions):
    """Options of :class:`HybridChain`.

    Attributes:
        cbr: Largest number of channel uses per source value; None for no limit.
        margin_db: See :class:`DigitalOptions`.
        snr_error_db: See :class:`AnalogOptions`.
    """

    cbr: _Cbr | None = None
    margin_db: float = 0.0
    snr_error_db: float = 0.0


class PictureChain(ABC):
    """A picture through codec, modem and channel; subclasses choose the rate.

    Args:
        scene: Scene with pictures.
        papr_db: See :class:`BurstOptions`.
        cbr: Largest number of channel uses per source value; None for no limit.
        snr_error_db: See :class:`AnalogOptions`.

    Raises:
        SweepError: If the scene has no picture, a picture has a size that the codec does not take, the link cannot
            carry the channel, or the limit is too low for a picture.
        BundleError: If the bundle cannot be used.
    """

    def __init__(
        self, scene: Scene, papr_db: float | None = None, cbr: float | None = None, snr_error_db: float = 0.0
    ) -> None:
        self._images = sent_images(scene)
        self._codec = load_codec(scene.bundle)
        self._link = frame_link(scene, papr_db)
        self._budget = Budget(self._codec, self._link, cbr)
        self._scorer = Scorer(self._codec)
        self._snr_error_db = snr_error_db
        # Replicas repeat pictures.
        self._encoded = lru_cache(maxsize=_FRAMES_KEPT)(self._encode)

    @abstractmethod
    def _rate(self, number: int, snr_db: float) -> Rate:
        """Return the rate for picture ``number`` at an SNR."""

    def run(self, trial: Trial) -> Outcome:
        """Send a picture once."""
        number = trial.replica % len(self._images)
        sent = self._images[number]
        rate = self._rate(number, trial.snr_db)
        frame, encode_s = self._encoded(number, rate)
        passage = self._link.send(frame, rate.mcs, trial.snr_db, trial.seed)
        start = time.process_time()
        result = self._decode(passage.burst) if passage.burst else None
        decode_s = time.process_time() - start + passage.receive_s
        shown = result.image if result else grey(sent.image)
        metrics = self._scorer.likeness(sent, shown)
        metrics |= self._scorer.meaning(sent, *((result.label, result.neighbours, result.vector) if result else ()))
        metrics |= air_metrics(sent, passage.channel_uses, trial.snr_db, passage)
        metrics |= {
            "outage": float(result is None),
            "encode_s": encode_s + passage.modulate_s,
            "decode_s": decode_s,
            "air_bytes": float(frame.coded_bytes),
        }
        return Outcome(frame_counts(result is None, passage), ImageResult(sent.name, metrics, shown))

    def _needed(self, number: int, rate: Rate | None, least: Rate) -> Rate:
        """Return a rate, or raise the error for picture ``number`` of which not even ``least`` fits the limit."""
        if rate:
            return rate
        sent = self._images[number]
        height, width = sent.image.shape[:2]
        raise SweepError(
            f"cbr is too low for picture {sent.name} of {width}x{height} pixels, which takes at least "
            f"{self._budget.cbr(sent.image, least):.4f}; raise cbr or take larger pictures"
        )

    def _encode(self, number: int, rate: Rate) -> tuple[SemanticFrame, float]:
        """Return the frame, and the CPU time in seconds that it took."""
        start = time.process_time()
        frame = self._codec.encode(self._images[number].image, levels=rate.levels, mode=rate.mode)
        return frame, time.process_time() - start

    def _decode(self, burst: Burst) -> DecodeResult:
        return self._codec.decode(
            burst.frame, burst.detail_snr_db + self._snr_error_db, burst.semantic_llr, burst.semantic_coded_llr
        )


class SemanticChain(PictureChain):
    """The semantic layer alone, 42 bytes with the header and its CRC; the knowledge base helps to decode it.

    The picture is what the decoder makes of the meaning alone.
    """

    Options = SemanticOptions

    def __init__(self, options: SemanticOptions, scene: Scene) -> None:
        super().__init__(scene, options.papr_db)

    def _rate(self, number: int, snr_db: float) -> Rate:  # noqa: ARG002
        return _LEAST


class DigitalChain(PictureChain):
    """Semantic layer and tokens, at a fixed MCS or at one that the sender chooses by the true SNR."""

    Options = DigitalOptions

    def __init__(self, options: DigitalOptions, scene: Scene) -> None:
        super().__init__(scene, options.papr_db, options.cbr)
        if options.levels is not None and options.levels > self._codec.levels:
            raise SweepError(
                f"levels is {options.levels}; bundle {scene.bundle} has {self._codec.levels}; give no more than that"
            )
        self._options = options
        for number in range(len(self._images)):
            self._rate(number, -np.inf)

    def _rate(self, number: int, snr_db: float) -> Rate:
        image, options = self._images[number].image, self._options
        if options.mcs == ADAPTED:
            rate = self._budget.adapted(image, snr_db - options.margin_db, options.levels)
        else:
            rate = self._budget.highest(image, "digital", find_mcs(options.mcs), options.levels)
        return self._needed(number, rate, _LEAST)


class AnalogChain(PictureChain):
    """Semantic layer and analog symbols; the decoder gets the SNR that the receiver estimated."""

    Options = AnalogOptions

    def __init__(self, options: AnalogOptions, scene: Scene) -> None:
        super().__init__(scene, options.papr_db, options.cbr, options.snr_error_db)
        most = self._codec.analog.most
        if options.symbols is not None and options.symbols > most:
            raise SweepError(f"symbols is {options.symbols}; bundle {scene.bundle} has {most}; give no more than that")
        mcs = find_mcs(options.mcs)
        rates = [self._budget.highest(sent.image, "analog", mcs, options.symbols) for sent in self._images]
        self._rates = [self._needed(number, rate, Rate("analog", 1, mcs)) for number, rate in enumerate(rates)]

    def _rate(self, number: int, snr_db: float) -> Rate:  # noqa: ARG002
        return self._rates[number]


class HybridChain(PictureChain):
    """Digital or analog under one limit, chosen by the sender for each picture and true SNR.

    The digital rate is the one that the thresholds of the link adapter allow at the SNR. The analog rates send as many
    symbols as fit, once or repeated. The sender has the receiver's decoder, and chooses the rate with the highest PSNR
    over a channel of that SNR without fading.
    """

    Options = HybridOptions

    def __init__(self, options: HybridOptions, scene: Scene) -> None:
        super().__init__(scene, options.papr_db, options.cbr, options.snr_error_db)
        self._margin_db = options.margin_db
        for number in range(len(self._images)):
            self._rate_of(number, -np.inf)
        self._chosen = lru_cache(maxsize=_FRAMES_KEPT)(self._choose)

    def _rate(self, number: int, snr_db: float) -> Rate:
        return self._chosen(number, snr_db)

    def _choose(self, number: int, snr_db: float) -> Rate:
        image = self._images[number].image
        offered = [self._budget.highest(image, "analog", mcs) for mcs in ANALOG_TABLE]
        rates = [self._rate_of(number, snr_db), *(rate for rate in offered if rate)]
        return max(rates, key=lambda rate: self._promise_db(number, rate, snr_db))

    def _rate_of(self, number: int, snr_db: float) -> Rate:
        rate = self._budget.adapted(self._images[number].image, snr_db - self._margin_db)
        return self._needed(number, rate, _LEAST)

    def _promise_db(self, number: int, rate: Rate, snr_db: float) -> float:
        """Return the PSNR in dB over a channel without fading that loses no digital layer."""
        frame, _ = self._encoded(number, rate)
        if rate.mode == "analog":
            snr_db += 10 * np.log10(rate.mcs.rate[1])
            frame = _noisy(frame, snr_db)
        return psnr_db(self._images[number].image, self._codec.decode(frame, snr_db).image)


def _noisy(frame: SemanticFrame, snr_db: float) -> SemanticFrame:
    """Return an analog frame as received: noise is added, and the symbols are scaled to LMMSE estimates."""
    rng, noise = np.random.default_rng(0), 10 ** (-snr_db / 10)
    parts = rng.normal(0, np.sqrt(noise / 2), (len(frame.symbols), 2))
    symbols = (frame.symbols + parts[:, 0] + 1j * parts[:, 1]) / (1 + noise)
    return SemanticFrame(frame.header, frame.semantic, symbols.astype(SYMBOL).tobytes())
