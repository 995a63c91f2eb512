"""What a bundle achieves on data that no stage has seen."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.frame import SYMBOL
from crlsc_phy.images import UInt8Image, resize
from crlsc_phy.link.metrics import psnr_db
from crlsc_phy.train.crops import fixed_crops
from crlsc_phy.train.data import load_photos, load_pictograms
from crlsc_phy.train.stages import Run

__all__ = ["analog", "analog_psnr_db", "crops_of", "evaluate", "interval", "recognition", "reconstruction"]

HELD_OUT_VENDOR = "fluent"
LONGEST_SIDES = (192, 384)
"""Held-out photographs are reduced to these sides; in the smaller, a crop of 64 pixels shows more and is harder."""
CROPS_EACH = 8
ANALOG_SNRS_DB = (-5, 0, 5, 10, 15, 20)
PSNR_CAP_DB = 60.0
"""An exact copy has no finite PSNR, and one would outweigh all others in a mean."""


def evaluate(codec: SemanticCodec, run: Run) -> dict[str, Any]:
    """Recognition of a vendor that was held out, and reconstruction of held-out photographs."""
    photos = load_photos(run.data, "heldout")
    return {
        "recognition": recognition(codec, run),
        "reconstruction": {str(side): reconstruction(codec, photos, side) for side in LONGEST_SIDES},
        "analog": {str(side): analog(codec, photos, side) for side in LONGEST_SIDES},
    }


def recognition(codec: SemanticCodec, run: Run) -> dict[str, Any]:
    """Whether the nearest entries of a held-out vendor's pictogram, after the air code, show the same pictogram.

    All entries of the knowledge base compete; only pictograms that show a thing are asked for.
    """
    known = {entry.name.partition("/")[2] for entry in codec.bundle.knowledge.entries}
    asked = load_pictograms(run.data, HELD_OUT_VENDOR).things(known)
    first, among_five = [], []
    for image, name in zip(asked.images, asked.ids, strict=True):
        frame = codec.encode(image, levels=0)
        assert frame.semantic is not None
        vector = codec.bundle.knowledge.air_code.decode(np.frombuffer(frame.semantic, np.uint8)[None])
        found = [hit.name.partition("/")[2] for hit in codec.bundle.knowledge.search(vector, 5)[0]]
        first.append(found[0] == name)
        among_five.append(name in found)
    return {
        "vendor": HELD_OUT_VENDOR,
        "asked": len(first),
        "entries": len(codec.bundle.knowledge),
        "top1": interval(np.array(first, np.float64)),
        "top5": interval(np.array(among_five, np.float64)),
    }


def reconstruction(codec: SemanticCodec, photos: dict[str, UInt8Image], longest: int) -> dict[str, Any]:
    """PSNR of held-out 64x64 crops by the number of levels sent, and of WebP at no more bytes than the whole frame.

    Bits per pixel count the complete frame: header, air code, tokens and CRCs.
    """
    crops = crops_of(photos, longest)
    result: dict[str, Any] = {"photos": len(crops) // CROPS_EACH, "crops": len(crops), "levels": {}}
    for levels in range(codec.levels + 1):
        frames = [codec.encode(crop, levels=levels) for crop in crops]
        psnr = [
            min(psnr_db(crop, codec.decode(frame).image), PSNR_CAP_DB)
            for crop, frame in zip(crops, frames, strict=True)
        ]
        size = len(frames[0].to_bytes())
        result["levels"][str(levels)] = {
            "bytes": size,
            "bits_per_pixel": round(8 * size / 4096, 4),
            "psnr_db": interval(np.array(psnr), groups=CROPS_EACH),
        }
    webp = [_webp_psnr(crop, result["levels"][str(codec.levels)]["bytes"]) for crop in crops]
    fit = np.array([value for value in webp if value is not None])
    result["webp"] = {"fit": len(fit), "psnr_db": interval(fit) if len(fit) else None}
    return result


def analog(codec: SemanticCodec, photos: dict[str, UInt8Image], longest: int) -> dict[str, Any]:
    """PSNR of analog detail on the same crops over white noise, by complex symbols a block and Es/N0 in dB."""
    crops = crops_of(photos, longest)
    return {
        str(rate): {
            str(snr): interval(analog_psnr_db(codec, crops, rate, snr), groups=CROPS_EACH) for snr in ANALOG_SNRS_DB
        }
        for rate in (codec.analog.most // 2, codec.analog.most)
    }


def analog_psnr_db(
    codec: SemanticCodec, crops: UInt8Image, rate: int, snr_db: float, seed: int = 0
) -> npt.NDArray[np.float64]:
    """PSNR of each crop after white noise on its ``rate`` complex symbols a block, the receiver knowing its SNR."""
    generator, noise, result = np.random.default_rng(seed), 10 ** (-snr_db / 10), []
    for crop in crops:
        frame = codec.encode(crop, levels=rate, mode="analog")
        pairs = generator.normal(scale=np.sqrt(noise / 2), size=(len(frame.symbols), 2))
        estimates = (frame.symbols + pairs[:, 0] + 1j * pairs[:, 1]) / (1 + noise)
        received = dataclasses.replace(frame, detail=estimates.astype(SYMBOL).tobytes())
        result.append(min(psnr_db(crop, codec.decode(received, snr_db).image), PSNR_CAP_DB))
    return np.array(result)


def crops_of(photos: dict[str, UInt8Image], longest: int) -> UInt8Image:
    """``CROPS_EACH`` crops of each photograph that is large enough at this reduction: uint8 [N, 64, 64, 3]."""
    small = {name: _reduce(photo, longest) for name, photo in photos.items()}
    return fixed_crops({name: photo for name, photo in small.items() if min(photo.shape[:2]) >= 64}, CROPS_EACH)


def interval(values: npt.NDArray[np.float64], groups: int = 1, seed: int = 0) -> list[float]:
    """Mean with a bootstrap 95 % interval, ``[mean, low, high]``.

    ``groups`` values in a row come from one photograph and are drawn together: they are not independent.
    """
    means = values.reshape(-1, groups).mean(axis=1) if groups > 1 else values
    generator = np.random.default_rng(seed)
    drawn = means[generator.integers(len(means), size=(2000, len(means)))].mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return [round(float(value), 4) for value in (values.mean(), low, high)]


def _reduce(photo: UInt8Image, longest: int) -> UInt8Image:
    factor = longest / max(photo.shape[:2])
    return resize(photo, round(photo.shape[0] * factor), round(photo.shape[1] * factor))


def _webp_psnr(image: UInt8Image, limit: int) -> float | None:
    """PSNR of the best WebP file of at most ``limit`` bytes; None if the smallest is larger."""
    best = None
    for quality in range(0, 101, 2):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "webp", quality=quality, method=6)
        if file.tell() <= limit:
            value = min(psnr_db(image, np.asarray(Image.open(file).convert("RGB"))), PSNR_CAP_DB)
            best = value if best is None else max(best, value)
    return best
