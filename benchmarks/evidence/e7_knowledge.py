"""E7: gain of the decoder from the meaning.

The shipped bundle reconstructs 64x64 crops of held-out photographs and the unseen vendor's pictograms, at 0 to 4 levels
of the detail layer: with the semantic code of the picture, with that of another picture of the set, and with none, as
when the semantic layer is lost and nothing repairs it. Another seed draws other crops and other wrong codes; there is
one bundle, so that the intervals say nothing of another training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import Budget, Lab, Results, bundle_arm, interval, signed, spread, table
from numpy.typing import NDArray

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.data import fixed_crops, open_images
from crlsc_phy.figure import drawing
from crlsc_phy.frame import SemanticFrame
from crlsc_phy.images import UInt8Image, resize
from crlsc_phy.quality.metrics import ms_ssim, psnr_db
from crlsc_phy.train.pictures import photographs

TITLE = "Right, wrong and no meaning"
NEEDS: tuple[str, ...] = ()
REPEATED = True

HELD_OUT, PICTOGRAMS = "photos@heldout", "pictograms:fluent"
LONGEST = 192
CROPS_EACH = 4
PICTURES = 100
SIDE = 64
SETS = {"photos": "photographs", "pictograms": "pictograms"}
MEANINGS = ("right", "wrong", "none")
METRICS = {"psnr_db": "PSNR [dB]", "ms_ssim": "MS-SSIM"}


def arms(lab: Lab) -> list[str]:
    """Name the only arm, the bundle."""
    return [bundle_arm(lab)]


def measure(lab: Lab, seed: int, arm: str) -> dict[str, Any]:
    codec, rng = SemanticCodec.load(lab.bundle), np.random.default_rng(seed)
    photos = photographs((HELD_OUT,), lab.data, LONGEST)
    pictograms = open_images(PICTOGRAMS, lab.data).squares(SIDE * 2)
    rows = np.random.default_rng(0).permutation(len(pictograms))[:PICTURES]
    pictures = {
        "photos": fixed_crops(photos, CROPS_EACH, SIDE, seed),
        "pictograms": np.stack([resize(pictograms[row], SIDE, SIDE) for row in rows]),
    }
    found = {}
    for name, images in pictures.items():
        # Nobody's own: a cycle through all of them in random order.
        order = rng.permutation(len(images))
        others = np.empty_like(order)
        others[order] = np.roll(order, 1)
        each = CROPS_EACH if name == "photos" else 1
        found[name] = {
            str(levels): _at_levels(codec, images, others, levels, each) for levels in range(codec.levels + 1)
        }
    return {"bundle": arm, "sets": found}


def _at_levels(
    codec: SemanticCodec, images: UInt8Image, others: NDArray[np.int64], levels: int, each: int
) -> dict[str, dict[str, list[float]]]:
    frames = [codec.encode(image, levels=levels) for image in images]
    semantics = {
        "right": [frame.semantic for frame in frames],
        "wrong": [frames[other].semantic for other in others],
        "none": [None] * len(frames),
    }
    found: dict[str, dict[str, list[float]]] = {}
    for meaning, codes in semantics.items():
        decoded = [
            codec.decode(SemanticFrame(frame.header, code, frame.detail)).image
            for frame, code in zip(frames, codes, strict=True)
        ]
        pairs = list(zip(images, decoded, strict=True))
        found[meaning] = {
            "psnr_db": _means([min(psnr_db(*pair), 60.0) for pair in pairs], each),
            "ms_ssim": _means([ms_ssim(*pair) for pair in pairs], each),
        }
    return found


def _means(values: list[float], each: int) -> list[float]:
    """Return means over the crops of a photograph, which are not independent."""
    return [round(float(value), 4) for value in np.array(values).reshape(-1, each).mean(axis=1)]


def _of(rows: list[dict[str, Any]], name: str, levels: str, meaning: str, metric: str) -> NDArray[np.float64]:
    return np.array([row["sets"][name][levels][meaning][metric] for row in rows])


def report(results: Results, _budget: Budget) -> str:
    (rows,) = results.values()
    parts = [f"Bundle {rows[0]['bundle']}."]
    for name, said in SETS.items():
        lines = []
        for levels in rows[0]["sets"][name]:
            for metric, unit in METRICS.items():
                digits = 2 if metric == "psnr_db" else 3
                values = {meaning: _of(rows, name, levels, meaning, metric) for meaning in MEANINGS}
                gains = [signed(values["right"] - values[other], digits) for other in ("wrong", "none")]
                lines.append([levels, unit, *(spread(value, digits) for value in values.values()), *gains])
        head = ["levels", said, "right", "wrong", "none", "right over wrong", "right over none"]
        wrong = [
            (_of(rows, name, level, "right", "psnr_db") - _of(rows, name, level, "wrong", "psnr_db")).mean()
            for level in rows[0]["sets"][name]
        ]
        parts.append(
            f"{table(head, lines)}\n\nOn {said} the right meaning is worth {wrong[0]:.2f} dB over a wrong one where "
            f"nothing else is sent, and {wrong[-1]:.2f} dB where all levels are."
        )
    return "\n\n".join(parts)


def plot(_lab: Lab, results: Results, path: Path) -> None:
    (rows,) = results.values()
    with drawing(path, 860, 400) as figure:
        for axes, (name, said) in zip(figure.subplots(1, 2, sharey=True), SETS.items(), strict=True):
            levels = list(rows[0]["sets"][name])
            for meaning, offset in (("wrong", -0.06), ("none", 0.06)):
                gains = [
                    _of(rows, name, level, "right", "psnr_db") - _of(rows, name, level, meaning, "psnr_db")
                    for level in levels
                ]
                values = np.array([interval(each) for each in gains])
                bars = [values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]
                places = [int(level) + offset for level in levels]
                axes.errorbar(places, values[:, 0], bars, fmt="o-", ms=4, capsize=3, label=meaning)
            axes.set_xticks([int(level) for level in levels])
            axes.set(xlabel="levels sent", ylabel="gain in PSNR [dB]", title=said.capitalize())
            axes.legend(title="right meaning against")
