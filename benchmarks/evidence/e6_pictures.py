"""E6: animals and faces, reconstructed.

The shipped bundle, which has seen neither set, sends the held-out pictures of both at 1 and at 4 levels of the detail
layer, with no side above 128 pixels. Bits per pixel count the whole frame. The sheet of pictures below is like the
paper's figure 4: what arrives at 1 level, at 4 levels, and what was sent. It shows animals whose licence lets a page do
so. The faces' terms are not stated; their sheet, like figure 5, stays in `runs/evidence/full`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import Budget, Lab, Results, bundle_arm, spread, table
from PIL import Image

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.data import open_images
from crlsc_phy.data.listed import key_of, rows_of
from crlsc_phy.figure import FIRST, INK, drawing
from crlsc_phy.images import UInt8Image, save_png
from crlsc_phy.quality.metrics import ms_ssim, psnr_db

TITLE = "Reconstruction of animals and of faces"
NEEDS: tuple[str, ...] = ()
REPEATED = False

SETS = {"animals": "animals@heldout", "faces": "faces@heldout"}
LEVELS = (1, 4)
LONGEST, SMALLEST = 128, 64
SHOWN, SHEET = 8, "e6-animals.jpg"
SHARED = "CC-BY-SA"
"""The pictures' licence with which this page may show them."""


def arms(lab: Lab) -> list[str]:
    """Name the only arm, the bundle."""
    return [bundle_arm(lab)]


def measure(lab: Lab, seed: int, arm: str) -> dict[str, Any]:
    codec = SemanticCodec.load(lab.bundle)
    found: dict[str, dict[str, Any]] = {}
    for name, spec in SETS.items():
        opened = open_images(spec, lab.data)
        known = {key_of(row): row for row in rows_of(name, "heldout")}
        every = zip(opened.keys, opened.photos(LONGEST), strict=True)
        rows, pictures = zip(
            *((known[key], each) for key, each in every if min(each.shape[:2]) >= SMALLEST), strict=True
        )
        shared = [number for number, row in enumerate(rows) if row["licence"].startswith(SHARED)]
        shown = np.random.default_rng(seed).permutation(shared or len(pictures))[:SHOWN]
        found[name] = {"pictures": len(pictures), "levels": {}}
        found[name]["shown"] = [
            {key: rows[row].get(key, "") for key in ("label", "author", "licence")} for row in shown
        ]
        strips = []
        for levels in LEVELS:
            frames = [codec.encode(picture, levels=levels) for picture in pictures]
            decoded = [codec.decode(frame).image for frame in frames]
            pairs = list(zip(pictures, decoded, strict=True))
            bits = [8 * len(frame.to_bytes()) / (frame.header.height * frame.header.width) for frame in frames]
            found[name]["levels"][str(levels)] = {
                "psnr_db": [round(psnr_db(*pair), 3) for pair in pairs],
                "ms_ssim": [round(ms_ssim(*pair), 4) for pair in pairs],
                "bits_per_pixel": round(float(np.mean(bits)), 3),
            }
            strips.append(_row([decoded[row] for row in shown]))
        strips.append(_row([pictures[row] for row in shown]))
        save_png(_sheet(lab, arm, name), np.concatenate(strips))
    return {"bundle": arm, "sets": found}


def _sheet(lab: Lab, arm: str, name: str) -> Path:
    return lab.folder / f"E6-{arm}-{name}.png"


def _row(pictures: list[UInt8Image]) -> UInt8Image:
    """Put pictures side by side, each in the middle of a white square."""
    row = np.full((LONGEST + 4, len(pictures) * (LONGEST + 4), 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        top, left = (LONGEST - height) // 2, (LONGEST - width) // 2 + number * (LONGEST + 4)
        row[top : top + height, left : left + width] = picture
    return row


def report(results: Results, _budget: Budget) -> str:
    (rows,) = results.values()
    lines = [
        [
            f"{name}, {each['pictures']} pictures",
            levels,
            f"{figures['bits_per_pixel']:.2f}",
            spread(np.array([figures["psnr_db"]]), 2),
            spread(np.array([figures["ms_ssim"]]), 3),
        ]
        for name, each in rows[0]["sets"].items()
        for levels, figures in each["levels"].items()
    ]
    head = ["set", "levels", "bit/pixel", "PSNR [dB]", "MS-SSIM"]
    shown = rows[0]["sets"]["animals"]["shown"]
    terms: dict[str, list[str]] = {}
    for each in shown:
        terms.setdefault(f"{each['author']}, {each['licence']}", []).append(each["label"])
    named = "; ".join(f"{', '.join(labels)} ({author})" for author, labels in terms.items())
    return (
        f"Bundle {rows[0]['bundle']}; intervals over pictures.\n\n{table(head, lines)}\n\n"
        f"![Animals: at 1 level, at 4 levels, as sent]({SHEET})\n\n"
        f"Pictures by: {named}. The sheet is under the same licences."
    )


def plot(lab: Lab, results: Results, path: Path) -> None:
    (arm, rows), *_ = results.items()
    Image.open(_sheet(lab, arm, "animals")).save(path.with_name(SHEET), quality=90)
    names = [f"{name}, {levels}" for name in SETS for levels in LEVELS]
    with drawing(path, 820, 380) as figure:
        for axes, metric, unit in zip(
            figure.subplots(1, 2), ("psnr_db", "ms_ssim"), ("PSNR [dB]", "MS-SSIM"), strict=True
        ):
            values = [rows[0]["sets"][name]["levels"][str(levels)][metric] for name in SETS for levels in LEVELS]
            boxes = axes.boxplot(values, tick_labels=names, patch_artist=True, medianprops={"color": INK})
            for box in boxes["boxes"]:
                box.set(facecolor=FIRST, edgecolor=FIRST, alpha=0.5)
            axes.set(xlabel="set, levels sent", title=unit)
