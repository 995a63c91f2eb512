"""Metrics of a received picture and its meaning."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crlsc_phy.codec import LARGEST, SMALLEST, SemanticCodec
from crlsc_phy.errors import ImageError, SweepError
from crlsc_phy.images import UInt8Image, check_image
from crlsc_phy.knowledge import Hit
from crlsc_phy.link.burst import Passage
from crlsc_phy.link.chain import Scene, TestImage
from crlsc_phy.quality.metrics import cbr, ms_ssim, psnr_db, ssim
from crlsc_phy.quality.perceptual import lpips
from crlsc_phy.quality.records import EXACT_PSNR_DB

__all__ = ["Scorer", "air_metrics", "frame_counts", "grey", "load_codec", "sent_images"]

RECALL_AT = (1, 5, 10)
GREY = 128


@lru_cache(maxsize=2)
def load_codec(bundle: Path) -> SemanticCodec:
    """Return the codec of a bundle, loaded once per process."""
    return SemanticCodec.load(bundle)


def sent_images(scene: Scene) -> Sequence[TestImage]:
    """Return the pictures of a scene.

    Raises:
        SweepError: If there is none, or the codec does not take the size of one.
    """
    if not scene.images:
        raise SweepError("there is no picture to send; give a folder or a data set as images.source")
    for picture in scene.images:
        _check(picture)
    return scene.images


def _check(picture: TestImage) -> None:
    try:
        check_image(picture.image, SMALLEST, LARGEST)
    except ImageError as error:
        raise SweepError(f"picture {picture.name}: {error}") from None


def grey(image: UInt8Image) -> UInt8Image:
    """Return mid-grey of the size of ``image``, which a receiver shows in place of a lost picture."""
    return np.full_like(image, GREY)


class Scorer:
    """Comparison of received pictures with the sent ones.

    Args:
        codec: Codec whose first encoder embeds the pictures.
    """

    def __init__(self, codec: SemanticCodec) -> None:
        self._codec = codec
        self._meanings: dict[str, npt.NDArray[np.float32]] = {}

    def likeness(self, sent: TestImage, shown: UInt8Image) -> dict[str, float]:
        """Return the metrics of likeness of a shown picture, uint8 [H, W, 3]; LPIPS only where it is installed."""
        found = {
            "psnr_db": min(psnr_db(sent.image, shown), EXACT_PSNR_DB),
            "ssim": ssim(sent.image, shown),
            "ms_ssim": ms_ssim(sent.image, shown),
        }
        distance = lpips(sent.image, shown)
        return found if distance is None else found | {"lpips": distance}

    def meaning(
        self,
        sent: TestImage,
        label: str = "",
        neighbours: Sequence[Hit] = (),
        vector: npt.NDArray[np.float32] | None = None,
    ) -> dict[str, float]:
        """Return the metrics of a received meaning; without the optional arguments those of a lost one.

        Args:
            sent: The sent picture. Metrics of labels are left out if its labels are not known.
            label: Label found by the receiver.
            neighbours: Nearest entries of the knowledge base, best first.
            vector: Semantic vector as received, float32 [S]. The cosine of None or of zeros is 0.
        """
        cosine = 0.0
        if vector is not None and vector.any():
            if sent.name not in self._meanings:
                self._meanings[sent.name] = self._codec.embed(sent.image)
            cosine = float(vector @ self._meanings[sent.name] / np.linalg.norm(vector))
        found = {"cosine": cosine}
        if sent.labels:
            found["label"] = float(label in sent.labels)
            for count in RECALL_AT:
                found[f"recall_{count}"] = float(any(hit.label in sent.labels for hit in neighbours[:count]))
        return found

    def meaning_shown(self, sent: TestImage, shown: UInt8Image) -> dict[str, float]:
        """Return the metrics of a receiver that finds the meaning in the picture that it shows, uint8 [H, W, 3]."""
        vector = self._codec.embed(shown)
        label, _, neighbours = self._codec.look_up(vector)
        return self.meaning(sent, label, neighbours, vector)


def air_metrics(sent: TestImage, uses: float, snr_db: float, passage: Passage | None = None) -> dict[str, float]:
    """Return the metrics of what was sent over the air.

    Args:
        sent: The sent picture.
        uses: Channel uses, with all overhead.
        snr_db: Es/N0 in dB.
        passage: Passage of the frame, for airtime and estimated SNR; None leaves them out.
    """
    found = {
        "cbr": cbr(uses, *sent.image.shape[:2]),
        "channel_uses": float(uses),
        "energy": float(uses * 10 ** (snr_db / 10)),
    }
    if passage and passage.airtime_s is not None:
        found["airtime_s"] = passage.airtime_s
    if passage and passage.burst:
        found["snr_db_estimated"] = passage.burst.snr_db
    return found


def frame_counts(lost: bool, passage: Passage | None = None) -> dict[str, int]:
    """Return the counts of one frame, with those of its detail segments if its ``passage`` has any."""
    counts = {"frames": 1, "frames_lost": int(lost)}
    if passage and passage.segments:
        counts |= {"blocks": passage.segments, "block_errors": passage.segment_failures}
    return counts
