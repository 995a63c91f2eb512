"""``crlsc-kb calibrate``: calibrate the soft repair of a knowledge base."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crlsc_phy.cli.kb_images import DEFAULT_BUNDLE, embed_images
from crlsc_phy.cli.verbs import show
from crlsc_phy.knowledge import KnowledgeBase
from crlsc_phy.knowledge.calibration import calibrate

if TYPE_CHECKING:
    from crlsc_phy.cli.verbs import Subparsers

__all__ = ["add_parsers"]


def add_parsers(subparsers: Subparsers) -> None:
    """Add the verb ``calibrate``."""
    verb = subparsers.add_parser("calibrate", help="calibrate repair (tau and threshold) with pictures")
    verb.description = (
        "Send the air codes of pictures over a simulated channel and repair them. Find the tau of soft repair that "
        "gives the right label most often, and the threshold that separates right and wrong answers best. Store both "
        "in the base. The pictures must be others than those of the base."
    )
    verb.add_argument("path", type=Path, metavar="PATH", help="folder of the knowledge base")
    verb.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="other pictures of what the base holds; the label of a picture is the name of its subfolder, as in build",
    )
    verb.add_argument("--unknown", type=Path, metavar="FOLDER", help="pictures of what the base does not hold")
    verb.add_argument("--ber", type=float, default=0.05, help="bit error rate of the channel (%(default)s)")
    verb.add_argument("--seed", type=int, default=0, help="seed of the noise (%(default)s)")
    verb.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, metavar="FOLDER", help="encoder of the pictures")
    verb.add_argument("--json", action="store_true", help="print the result as JSON")
    verb.set_defaults(run=_calibrate)


def _calibrate(options: argparse.Namespace) -> int:
    base = KnowledgeBase.open(options.path)
    folders = (options.images, options.unknown)
    sets = [embed_images(options.bundle, folder, base.air_code) for folder in folders if folder]
    labels = [entry.label for entry in sets[0].entries]
    labels += ["" for unknown in sets[1:] for _ in unknown.entries]
    codes = base.air_code.encode(np.concatenate([one.vectors for one in sets]))
    found = calibrate(base, codes, labels, ber=options.ber, seed=options.seed)
    base.configure(tau=found.tau, threshold=found.threshold)
    skipped = sum(one.skipped for one in sets)
    without = f"; {skipped} images skipped" if skipped else ""
    text = f"{options.path}: {found.summary(options.ber)}{without}"
    return show(options, asdict(found) | {"skipped": skipped}, text)
