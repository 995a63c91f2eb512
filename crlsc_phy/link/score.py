"""What a received picture and its meaning are worth."""

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

__all__ = ["Scorer", "air_metrics", "grey", "load_codec", "sent_images"]

RECALL_AT = (1, 5, 10)
GREY = 128


@lru_cache(maxsize=2)
def load_codec(bundle: Path) -> SemanticCodec:
    """The codec of a bundle, loaded once a process."""
    return SemanticCodec.load(bundle)


def sent_images(scene: Scene) -> Sequence[TestImage]:
    """The pictures of a scene.

    Raises:
        SweepError: If there is none, or one that a codec does not take.
    """
    if not scene.images:
        raise SweepError("there is no picture to send; name a folder or a set under images: source")
    for picture in scene.images:
        _check(picture)
    return scene.images


def _check(picture: TestImage) -> None:
    try:
        check_image(picture.image, SMALLEST, LARGEST)
    except ImageError as error:
        raise SweepError(f"picture {picture.name}: {error}") from None


def grey(image: UInt8Image) -> UInt8Image:
    """What a receiver shows in place of a picture of the size of ``image`` that is lost: mid-grey."""
    return np.full_like(image, GREY)


class Scorer:
    """Compares what was received with what was sent.

    Args:
        codec: Its first encoder says what the sent pictures mean.
    """

    def __init__(self, codec: SemanticCodec) -> None:
        self._codec = codec
        self._meanings: dict[str, npt.NDArray[np.float32]] = {}

    def likeness(self, sent: TestImage, shown: UInt8Image) -> dict[str, float]:
        """How like the shown picture is to the sent one; LPIPS only where it is installed."""
        found = {
            "psnr_db": min(psnr_db(sent.image, shown), EXACT_PSNR_DB),
            "ssim": ssim(sent.image, shown),
            "ms_ssim": ms_ssim(sent.image, shown),
        }
        distance = lpips(sent.image, shown)
        return found if distance is None else found | {"lpips": distance}

    def meaning(
        self, sent: TestImage, label: str, neighbours: Sequence[Hit], vector: npt.NDArray[np.float32] | None
    ) -> dict[str, float]:
        """Whether the receiver has understood.

        Args:
            sent: The picture. Without known labels there is no right label either, and none is counted.
            label: What the receiver takes it for; empty if nothing was received.
            neighbours: The nearest entries, best first; empty likewise.
            vector: Semantic vector as received, float32 [S]; None or zero if it was lost, which is a cosine of 0.
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


def air_metrics(sent: TestImage, passage: Passage | None, snr_db: float) -> dict[str, float]:
    """What a passage has cost, and what its receiver took the SNR for; nothing was spent on None."""
    height, width = sent.image.shape[:2]
    uses = passage.channel_uses if passage else 0.0
    found = {
        "cbr": cbr(uses, height, width),
        "channel_uses": float(uses),
        "energy": float(uses * 10 ** (snr_db / 10)),
    }
    if passage and passage.airtime_s is not None:
        found["airtime_s"] = passage.airtime_s
    if passage and passage.burst:
        found["snr_db_estimated"] = passage.burst.snr_db
    return found
