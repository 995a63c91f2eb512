"""Separate source and channel coding: an image codec, 5G LDPC and QAM within a number of channel uses.

    picture -> JPEG, WebP, AVIF or HEIC at the highest quality that fits -> LDPC, QAM -> modem or grid -> picture

A file that does not arrive whole shows a mid-grey picture, or by option one of the mean colour, and is counted like any
other. What a picture means its receiver finds by the bundle's encoder from the picture that it shows; from nothing
received it finds nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from crlsc_phy.errors import SweepError
from crlsc_phy.frame import FrameHeader, SemanticFrame
from crlsc_phy.images import UInt8Image
from crlsc_phy.link.baselines.fitting import Fitted, Fitting
from crlsc_phy.link.baselines.image_codecs import CODECS, image_codec
from crlsc_phy.link.budget import check_cbr, check_mcs
from crlsc_phy.link.burst import BurstOptions, Passage
from crlsc_phy.link.chain import ImageResult, Outcome, Scene, Trial
from crlsc_phy.link.frame_links import frame_link
from crlsc_phy.link.score import Scorer, air_metrics, grey, load_codec, sent_images
from crlsc_phy.phy import MCS_TABLE, Mcs

__all__ = ["SeparateChain", "SeparateOptions"]

GENIE, CAPACITY = "genie", "capacity"
COUNTS = ("whole", "stripped")
CONCEALMENTS = ("grey", "mean")
# What an estimate of the SNR may be below the truth.
_DOUBT_DB = 1.0
# No limit allows more.
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class SeparateOptions(BurstOptions):
    """Options of :class:`SeparateChain`.

    Attributes:
        codec: A name of :data:`crlsc_phy.link.baselines.image_codecs.CODECS`.
        cbr: Most channel uses a source value, all overhead counted.
        mcs: A name of ``MCS_TABLE``, sent at any SNR: the cliff. ``genie``: for each realisation the MCS of the highest
            rate that arrives, as if the sender had known it. ``capacity``: no code; as many bytes as the capacity of
            the realised channel allows in all channel uses, without overhead and without error: a bound.
        count: ``whole`` files, or ``stripped`` of their containers, see :mod:`crlsc_phy.link.baselines.image_codecs`.
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


@dataclass(frozen=True)
class _Attempt:
    """A file on its way: what it shows, what became of it, and its bytes as received; None if any of them is lost."""

    fitted: Fitted
    passage: Passage
    data: bytes | None


class SeparateChain:
    """A picture by an image codec and a channel code of their own.

    Raises:
        SweepError: If the scene has no picture or one that a codec does not take, what the codec or the air needs is
            not installed, or the limit does not even pay for what comes with every burst.
        BundleError: If the bundle, whose encoder finds meanings, cannot be used.
    """

    Options = SeparateOptions

    def __init__(self, options: SeparateOptions, scene: Scene) -> None:
        self._options = options
        self._images = sent_images(scene)
        self._codec = load_codec(scene.bundle)
        self._scorer = Scorer(self._codec)
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
            vector = self._codec.embed(shown)
            label, _, neighbours = self._codec.look_up(vector)
            meaning = self._scorer.meaning(sent, label, neighbours, vector)
        else:
            shown = self._concealed(sent.image)
            meaning = self._scorer.meaning(sent, "", (), None)
        decode_s = time.process_time() - start
        metrics = self._scorer.likeness(sent, shown) | meaning | {"outage": float(data is None)}
        metrics |= air_metrics(sent, attempt.passage if attempt else None, trial.snr_db)
        metrics["air_bytes"] = float(attempt.fitted.coded.size if attempt else 0)
        metrics["encode_s"] = attempt.fitted.encode_s + attempt.passage.modulate_s if attempt else 0.0
        metrics["decode_s"] = decode_s + (attempt.passage.receive_s if attempt else 0)
        counts = {"frames": 1, "frames_lost": int(data is None)}
        if attempt and attempt.passage.segments:
            counts |= {"blocks": attempt.passage.segments, "block_errors": attempt.passage.segment_failures}
        return Outcome(counts, ImageResult(sent.name, metrics, shown))

    def _uses(self, number: int) -> float:
        """Channel uses within the limit."""
        return self._options.cbr * self._images[number].image.size

    def _find_room(self, number: int, mcs: Mcs) -> int:
        """Bytes that may be sent of picture ``number``."""
        low, high = 0, _MOST_BYTES
        while low < high:
            middle = (low + high + 1) // 2
            if self._link.channel_uses(self._header(number, middle), mcs) <= self._uses(number):
                low = middle
            else:
                high = middle - 1
        return low

    def _header(self, number: int, size: int) -> FrameHeader:
        """A frame for a file: it tells the picture's size, and has no semantic layer."""
        height, width = self._images[number].image.shape[:2]
        return FrameHeader(bytes(4), height, width, semantic_bytes=0, detail_bytes=size)

    def _sent(self, number: int, trial: Trial) -> _Attempt | None:
        """The last attempt that was made; None if nothing fits at any MCS."""
        last: _Attempt | None = None
        reach = np.inf
        for mcs in self._table:
            fitted = self._fitting.fit(number, self._room(number, mcs))
            # By Jensen's inequality no burst carries more than a channel without fading of its mean SNR.
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
        """As :meth:`_sent`, without error at the capacity of the realised channel."""
        uses = int(self._uses(number))
        size = int(uses * self._link.capacity(uses, trial.snr_db, trial.seed) / 8)
        fitted = self._fitting.fit(number, size)
        passage = Passage(None, 0, 0, uses, None, 0.0, 0.0)
        return _Attempt(fitted, passage, fitted.coded.sent) if fitted else None

    def _concealed(self, image: UInt8Image) -> UInt8Image:
        if self._options.conceal == "grey":
            return grey(image)
        return np.broadcast_to(image.mean(axis=(0, 1)).round().astype(np.uint8), image.shape).copy()
