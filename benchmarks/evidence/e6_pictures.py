"""E6: animals and faces, reconstructed.

The shipped bundle, which has seen neither set, sends the held-out pictures of both at 1 and at 4 levels of the detail
layer, with no side above 128 pixels. Bits per pixel count the whole frame. The command leaves sheets of pictures like
figures 4 and 5 of the paper in `runs/evidence/full`: odd rows show what is reconstructed and even rows the originals,
the first pair of rows at 1 level, the second at 4. They are not shipped, for the terms of the faces are not stated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import Budget, Lab, Results, bundle_arm, spread, table

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.images import UInt8Image, save_png
from crlsc_phy.link.metrics import ms_ssim, psnr_db
from crlsc_phy.link.plots import drawing
from crlsc_phy.train.data import open_images

TITLE = "Reconstruction of animals and of faces"
NEEDS: tuple[str, ...] = ()
REPEATED = False

SETS = {"animals": "animals@heldout", "faces": "faces@heldout"}
LEVELS = (1, 4)
LONGEST, SMALLEST = 128, 64
SHOWN = 8


def arms(lab: Lab) -> list[str]:
    """The bundle."""
    return [bundle_arm(lab)]


def measure(lab: Lab, seed: int, arm: str) -> dict[str, Any]:
    codec = SemanticCodec.load(lab.bundle)
    found: dict[str, dict[str, Any]] = {}
    for name, spec in SETS.items():
        pictures = [each for each in open_images(spec, lab.data).photos(LONGEST) if min(each.shape[:2]) >= SMALLEST]
        shown = np.random.default_rng(seed).permutation(len(pictures))[:SHOWN]
        found[name] = {"pictures": len(pictures), "levels": {}}
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
            strips += [_row([decoded[row] for row in shown]), _row([pictures[row] for row in shown])]
        save_png(_sheet(lab, arm, name), np.concatenate(strips))
    return {"bundle": arm, "sets": found}


def _sheet(lab: Lab, arm: str, name: str) -> Path:
    return lab.folder / f"E6-{arm}-{name}.png"


def _row(pictures: list[UInt8Image]) -> UInt8Image:
    """Pictures side by side, each in the middle of a white square."""
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
    return f"Bundle {rows[0]['bundle']}; intervals over pictures.\n\n{table(head, lines)}"


def plot(_lab: Lab, results: Results, path: Path) -> None:
    (rows,) = results.values()
    names = [f"{name}, {levels}" for name in SETS for levels in LEVELS]
    with drawing(path, 820, 380) as figure:
        for axes, metric, unit in zip(
            figure.subplots(1, 2), ("psnr_db", "ms_ssim"), ("PSNR [dB]", "MS-SSIM"), strict=True
        ):
            values = [rows[0]["sets"][name]["levels"][str(levels)][metric] for name in SETS for levels in LEVELS]
            axes.boxplot(values, tick_labels=names)
            axes.set(xlabel="set, levels", title=unit)
