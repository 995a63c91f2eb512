"""Separate source and channel coding: an image codec, 5G LDPC and QAM within a number of channel uses.

    picture -> JPEG, WebP, AVIF or HEIC at the highest quality that fits -> LDPC, QAM -> modem or grid -> picture

A file that does not arrive whole shows a mid-grey picture, or by option one of the mean colour, and is counted like any
other. What a picture means its receiver finds by the bundle's encoder from the picture that it shows; from nothing
received it finds nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from crlsc_phy.errors import SweepError
from crlsc_phy.images import UInt8Image
from crlsc_phy.link.air import Air, Delivery, GridAir, ModemAir
from crlsc_phy.link.budget import check_cbr, check_mcs
from crlsc_phy.link.burst import BurstLink, BurstOptions
from crlsc_phy.link.chain import ImageResult, Outcome, Scene, TestImage, Trial
from crlsc_phy.link.fitting import Fitted, Fitting
from crlsc_phy.link.image_codecs import CODECS, image_codec
from crlsc_phy.link.metrics import cbr
from crlsc_phy.link.score import Scorer, grey, load_codec, sent_images
from crlsc_phy.link.symbols import over_air
from crlsc_phy.phy import MCS_TABLE

__all__ = ["SeparateChain", "SeparateOptions"]

GENIE, CAPACITY = "genie", "capacity"
COUNTS = ("whole", "stripped")
CONCEALMENTS = ("grey", "mean")
# What an estimate of the SNR may be below the truth.
_DOUBT_DB = 1.0


@dataclass(frozen=True)
class SeparateOptions(BurstOptions):
    """Options of :class:`SeparateChain`.

    Attributes:
        codec: A name of :data:`crlsc_phy.link.image_codecs.CODECS`.
        cbr: Most channel uses a source value, all overhead counted.
        mcs: A name of ``MCS_TABLE``, sent at any SNR: the cliff. ``genie``: for each realisation the MCS of the highest
            rate that arrives, as if the sender had known it. ``capacity``: no code; as many bytes as the capacity of
            the realised channel allows in all channel uses, without overhead and without error: a bound.
        count: ``whole`` files, or ``stripped`` of their containers, see :mod:`crlsc_phy.link.image_codecs`.
        conceal: What a lost picture shows: ``grey``, or ``mean``, its mean colour, told to the receiver for nothing.
    """

    codec: str = "webp"
    cbr: float = 1 / 12
    mcs: str = GENIE
    count: str = "whole"
    conceal: str = "grey"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cbr(self.cbr)
        check_mcs(self.mcs, MCS_TABLE, (GENIE, CAPACITY))
        for name, choices in (("codec", tuple(CODECS)), ("count", COUNTS), ("conceal", CONCEALMENTS)):
            if getattr(self, name) not in choices:
                raise SweepError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}")


class SeparateChain:
    """A picture by an image codec and a channel code of their own.

    Raises:
        SweepError: If the scene has no picture or one that a codec does not take, what the codec or the air needs is
            not installed, or the limit does not even pay for what comes with every burst.
        BundleError: If the bundle, whose encoder finds meanings, cannot be used.
    """

    def __init__(self, options: SeparateOptions, scene: Scene) -> None:
        self._options = options
        self._images = sent_images(scene)
        self._codec = load_codec(scene.bundle)
        self._scorer = Scorer(self._codec)
        pictures = [sent.image for sent in self._images]
        self._fitting = Fitting(image_codec(options.codec), options.count == "stripped", pictures)
        self._air = _air(scene, options)
        # The highest rate first.
        self._table = [mcs for mcs in reversed(MCS_TABLE) if options.mcs in (mcs.name, GENIE)]
        for sent in self._images if self._table else ():
            if not self._air.room(self._uses(sent), self._table[0], _shape(sent)):
                raise SweepError(
                    f"cbr is too low for picture {sent.name}: {self._uses(sent):.0f} channel uses carry no byte with "
                    f"{self._table[0].name}; raise cbr or take larger pictures"
                )

    def run(self, trial: Trial) -> Outcome:
        """Send a picture once."""
        number = trial.replica % len(self._images)
        sent = self._images[number]
        fitted, delivery = self._bound(number, trial) if self._options.mcs == CAPACITY else self._sent(number, trial)
        start = time.process_time()
        if fitted and delivery and delivery.data is not None:
            shown = self._fitting.shown(number, fitted.coded.restored(delivery.data))
            vector = self._codec.embed(shown)
            label, _, neighbours = self._codec.look_up(vector)
            meaning = self._scorer.meaning(sent, label, neighbours, vector)
        else:
            shown = self._concealed(sent.image)
            meaning = self._scorer.meaning(sent, "", (), None)
        decode_s = time.process_time() - start
        lost = delivery is None or delivery.data is None
        metrics = self._scorer.likeness(sent, shown) | meaning | {"outage": float(lost)}
        metrics |= _air_metrics(sent, delivery, trial.snr_db)
        metrics["air_bytes"] = float(fitted.coded.size if fitted else 0)
        metrics["encode_s"] = (fitted.encode_s if fitted else 0) + (delivery.modulate_s if delivery else 0)
        metrics["decode_s"] = decode_s + (delivery.receive_s if delivery else 0)
        counts = {"frames": 1, "frames_lost": int(lost)}
        if delivery and delivery.segments:
            counts |= {"blocks": delivery.segments, "block_errors": delivery.segment_failures}
        return Outcome(counts, ImageResult(sent.name, metrics, shown))

    def _uses(self, sent: TestImage) -> float:
        return self._options.cbr * sent.image.size

    def _sent(self, number: int, trial: Trial) -> tuple[Fitted | None, Delivery | None]:
        """What was sent last and what became of it; None twice if nothing fits at any MCS."""
        sent = self._images[number]
        last: tuple[Fitted | None, Delivery | None] = None, None
        reach = np.inf
        for mcs in self._table:
            fitted = self._fitting.fit(number, self._air.room(self._uses(sent), mcs, _shape(sent)))
            # By Jensen's inequality no burst carries more than a channel without fading of its mean SNR.
            if fitted is None or mcs.efficiency > reach:
                continue
            delivery = self._air.send(fitted.coded.sent, mcs, _shape(sent), trial.snr_db, trial.seed)
            last = fitted, delivery
            if delivery.data is not None:
                break
            if delivery.snr_db is not None:
                reach = np.log2(1 + 10 ** ((delivery.snr_db + _DOUBT_DB) / 10))
        return last

    def _bound(self, number: int, trial: Trial) -> tuple[Fitted | None, Delivery | None]:
        """As :meth:`_sent`, without error at the capacity of the realised channel."""
        uses = int(self._uses(self._images[number]))
        size = int(uses * self._air.capacity(uses, trial.snr_db, trial.seed) / 8)
        fitted = self._fitting.fit(number, size)
        if fitted is None:
            return None, None
        return fitted, Delivery(fitted.coded.sent, 0, 0, uses, None, None, 0.0, 0.0)

    def _concealed(self, image: UInt8Image) -> UInt8Image:
        if self._options.conceal == "grey":
            return grey(image)
        return np.broadcast_to(image.mean(axis=(0, 1)).round().astype(np.uint8), image.shape).copy()


def _air(scene: Scene, options: SeparateOptions) -> Air:
    if scene.air == "modem":
        return ModemAir(BurstLink(scene.channel, options.papr_db))
    return GridAir(over_air(scene))


def _shape(sent: TestImage) -> tuple[int, int]:
    height, width = sent.image.shape[:2]
    return height, width


def _air_metrics(sent: TestImage, delivery: Delivery | None, snr_db: float) -> dict[str, float]:
    """What was spent; nothing, if nothing was sent."""
    uses = delivery.channel_uses if delivery else 0.0
    found = {
        "cbr": cbr(uses, *_shape(sent)),
        "channel_uses": float(uses),
        "energy": float(uses * 10 ** (snr_db / 10)),
    }
    if delivery and delivery.airtime_s is not None:
        found["airtime_s"] = delivery.airtime_s
    if delivery and delivery.snr_db is not None:
        found["snr_db_estimated"] = delivery.snr_db
    return found
