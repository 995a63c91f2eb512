"""Calibration of the soft repair of a bundle's knowledge base."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.data import fixed_crops, open_images
from crlsc_phy.images import UInt8Image
from crlsc_phy.knowledge import KnowledgeBase
from crlsc_phy.knowledge.calibration import Calibration, calibrate
from crlsc_phy.train.pictures import SIDE, photographs
from crlsc_phy.train.pictures import entries as known_as
from crlsc_phy.train.recipe import DataRecipe

__all__ = ["air_codes", "calibrate_bundle"]

CROPS_EACH = 4


def calibrate_bundle(codec: SemanticCodec, recipe: DataRecipe, data: Path) -> Calibration:
    """Calibrate the repair of a bundle's knowledge base, and store the result there. No held-out data is used.

    Known pictures are those of the last public set, by their labels. Their own entries are left out, since new pictures
    have none; if there is no other set, a picture stands in for itself. Unknown pictures are crops of the training
    photographs, nearly all of which the base misnames.

    Args:
        codec: Codec of the bundle.
        recipe: Its picture sets.
        data: Folder of the data sets, as ``crlsc-train data`` fills it.

    Raises:
        DataError: If a set is missing.
    """
    base = codec.bundle.knowledge
    asked = open_images(recipe.public[-1], data)
    photos = fixed_crops(photographs(recipe.photos, data), CROPS_EACH)
    shown = known_as(asked)
    codes = air_codes(codec, [*asked.squares(SIDE), *photos])
    own = {entry.name for entry in shown} if len(recipe.public) > 1 else set()
    entries = list(base.entries)
    others = [i for i, entry in enumerate(entries) if entry.name not in own]
    with tempfile.TemporaryDirectory() as folder:
        rest = KnowledgeBase.create(
            Path(folder) / "rest",
            base.air_code,
            base.air_code.decode(base.codes[others]),
            [entries[i] for i in others],
            codes=base.codes[others],
            tau=base.tau,
        )
        found = calibrate(rest, codes, [*(entry.label for entry in shown), *[""] * len(photos)])
    base.configure(tau=found.tau, threshold=found.threshold)
    return found


def air_codes(codec: SemanticCodec, images: list[UInt8Image]) -> npt.NDArray[np.uint8]:
    """Return the air codes of images uint8 [H, W, 3]: uint8 [N, M]."""
    frames = (codec.encode(image, levels=0).semantic or b"" for image in images)
    return np.stack([np.frombuffer(code, np.uint8) for code in frames])
