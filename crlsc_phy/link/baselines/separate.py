"""Separate source and channel coding: an image codec, 5G LDPC and QAM within a number of channel uses.

    picture -> JPEG, WebP, AVIF or HEIC at the highest quality that fits -> LDPC, QAM -> modem or grid -> picture

A file that does not arrive whole shows a mid-grey picture, or by option one of the mean colour, and counts like any
other. The receiver finds the meaning in the picture that it shows, by the bundle's encoder; a lost picture has none.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from crlsc_phy.errors import SweepError
from crlsc_phy.frame import FrameHeader, SemanticFrame
from crlsc_phy.link.baselines.fitting import Fitted, Fitting, largest
from crlsc_phy.link.baselines.image_codecs import CODECS, image_codec
from crlsc_phy.link.burst import BurstOptions, Passage
from crlsc_phy.link.chain import ImageResult, Outcome, Scene, Trial
from crlsc_phy.link.frame_links import frame_link
from crlsc_phy.link.score import Scorer, air_metrics, frame_counts, grey, load_codec, sent_images
from crlsc_phy.options import checked, one_of
from crlsc_phy.phy import MCS_TABLE, Mcs

__all__ = ["SeparateChain", "SeparateOptions"]

GENIE, CAPACITY = "genie", "capacity"
# An estimate of the SNR may be so far below the truth.
_DOUBT_DB = 1.0
# No limit allows more.
_MOST_BYTES = 1 << 20


@checked(SweepError)
@dataclass(frozen=True)
class SeparateOptions(BurstOptions):
    """Options of :class:`SeparateChain`.

    Attributes:
        codec: A name of :data:`crlsc_phy.link.baselines.image_codecs.CODECS`.
        cbr: Largest number of channel uses per source value, with all overhead.
        mcs: A name of ``MCS_TABLE``, which is sent at any SNR. ``genie`` takes for each realisation of the channel the
            MCS of the highest rate that arrives, as if the sender knew it. ``capacity`` is a bound: as many bytes as
            the capacity of the realised channel allows in all channel uses, without overhead and without errors.
        count: ``whole`` files, or ``stripped`` of their containers; see
            :mod:`crlsc_phy.link.baselines.image_codecs`.
        conceal: Picture shown in place of a lost one: ``grey``, or ``mean``, its mean colour, which the receiver gets
            without cost.
    """

    codec: Annotated[str, one_of(CODECS)] = "webp"
    cbr: Annotated[float, Field(gt=0)] = 1 / 12
    mcs: Annotated[str, one_of((GENIE, CAPACITY, *(mcs.name for mcs in MCS_TABLE)))] = GENIE
    count: Literal["whole", "stripped"] = "whole"
    conceal: Literal["grey", "mean"] = "grey"


@dataclass(frozen=True)
class _Attempt:
    """An attempt to send a file; ``data`` are its bytes as received, None if any is lost."""

    fitted: Fitted
    passage: Passage
    data: bytes | None


class SeparateChain:
    """A picture by an image codec and a separate channel code.

    Args:
        options: Options of the chain.
        scene: Scene with pictures.

    Raises:
        SweepError: If the scene has no picture, a picture has a size that the codec does not take, a library of the
            codec or the link is not installed, or the limit is below the overhead of a burst.
        BundleError: If the bundle cannot be used.
    """

    Options = SeparateOptions

    def __init__(self, options: SeparateOptions, scene: Scene) -> None:
        self._options = options
        self._images = sent_images(scene)
        self._scorer = Scorer(load_codec(scene.bundle))
        pictures = [sent.image for sent in self._images]
        self._fitting = Fitting(image_codec(options.codec), options.count == "stripped", pictures)
        self._link = frame_link(scene, options.papr_db)
        self._room = lru_cache(maxsize=None)(self._find_room)
        # The highest rate first.
        self._table = [mcs for mcs in reversed(MCS_TABLE) if options.mcs in (mcs.name, GENIE)]
        for number, sent in enumerate(self._images) if self._table else ():
            if not self._room(number, self._table[0]):
                raise SweepError(
                    f"cbr is too low for picture {sent.name}: {self._uses(number):.0f} channel uses carry no byte with "
                    f"{self._table[0].name}; raise cbr or take larger pictures"
                )

    def run(self, trial: Trial) -> Outcome:
        """Send a picture once."""
        number = trial.replica % len(self._images)
        sent = self._images[number]
        attempt = self._bound(number, trial) if self._options.mcs == CAPACITY else self._sent(number, trial)
        start = time.process_time()
        data = attempt.data if attempt else None
        if attempt and data is not None:
            shown = self._fitting.shown(number, attempt.fitted.coded.restored(data))
            meaning = self._scorer.meaning_shown(sent, shown)
        else:
            mean = sent.image.mean(axis=(0, 1)).round().astype(np.uint8)
            shown = np.full_like(sent.image, mean) if self._options.conceal == "mean" else grey(sent.image)
            meaning = self._scorer.meaning(sent)
        decode_s = time.process_time() - start
        passage = attempt.passage if attempt else None
        metrics = self._scorer.likeness(sent, shown) | meaning | {"outage": float(data is None)}
        metrics |= air_metrics(sent, passage.channel_uses if passage else 0.0, trial.snr_db, passage)
        metrics["air_bytes"] = float(attempt.fitted.coded.size if attempt else 0)
        metrics["encode_s"] = attempt.fitted.encode_s + attempt.passage.modulate_s if attempt else 0.0
        metrics["decode_s"] = decode_s + (passage.receive_s if passage else 0.0)
        return Outcome(frame_counts(data is None, passage), ImageResult(sent.name, metrics, shown))

    def _uses(self, number: int) -> float:
        """Return the channel uses within the limit."""
        return self._options.cbr * self._images[number].image.size

    def _find_room(self, number: int, mcs: Mcs) -> int:
        """Return the number of bytes that may be sent for picture ``number``."""

        def fits(size: int) -> bool:
            return self._link.channel_uses(self._header(number, size), mcs) <= self._uses(number)

        return largest(0, _MOST_BYTES, fits)

    def _header(self, number: int, size: int) -> FrameHeader:
        """Return the header of a frame with a file, which tells the picture's size and has no semantic layer."""
        height, width = self._images[number].image.shape[:2]
        return FrameHeader(bytes(4), height, width, semantic_bytes=0, detail_bytes=size)

    def _sent(self, number: int, trial: Trial) -> _Attempt | None:
        """Return the first attempt that arrives, or the last one; None if nothing fits at any MCS."""
        last: _Attempt | None = None
        reach = np.inf
        for mcs in self._table:
            fitted = self._fitting.fit(number, self._room(number, mcs))
            # By Jensen's inequality a burst carries no more than a channel without fading of its mean SNR.
            if fitted is None or mcs.efficiency > reach:
                continue
            data = fitted.coded.sent
            frame = SemanticFrame(self._header(number, len(data)), b"", data)
            passage = self._link.send(frame, mcs, trial.snr_db, trial.seed)
            received = passage.burst.frame if passage.burst else None
            last = _Attempt(fitted, passage, received.detail if received and received.complete else None)
            if last.data is not None:
                break
            if passage.burst:
                reach = np.log2(1 + 10 ** ((passage.burst.snr_db + _DOUBT_DB) / 10))
        return last

    def _bound(self, number: int, trial: Trial) -> _Attempt | None:
        """Return an attempt that arrives without errors at the capacity of the realised channel."""
        uses = int(self._uses(number))
        size = int(uses * self._link.capacity(uses, trial.snr_db, trial.seed) / 8)
        fitted = self._fitting.fit(number, size)
        passage = Passage(None, 0, 0, uses, None, 0.0, 0.0)
        return _Attempt(fitted, passage, fitted.coded.sent) if fitted else None
