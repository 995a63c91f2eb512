"""Retrieval: the entries of the knowledge bases that are nearest to a picture. It needs no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.data import open_images
from crlsc_phy.knowledge.joint import joint_search
from crlsc_phy.quality.intervals import mean_interval
from crlsc_phy.train.pictures import SIDE
from crlsc_phy.train.pipeline import Run, Step
from crlsc_phy.train.recipe import Recipe

__all__ = ["export", "measure", "steps"]

DEPTHS = (1, 5, 10)


def steps(_recipe: Recipe) -> list[Step]:
    """Return no steps."""
    return []


def export(_run: Run, _folder: Path) -> None:
    """Write nothing: every bundle has the knowledge base."""


def measure(codec: SemanticCodec, run: Run) -> dict[str, Any]:
    """Measure recall@k: the share of held-out pictures with an entry of their label among the k nearest.

    Pictures go through the encoder and the air code. All entries of the codec's bases compete. Pictures whose label no
    entry has are left out.
    """
    air_code = codec.bundle.knowledge.air_code
    known = {entry.label for base in codec.bases for entry in base.entries}
    found: list[list[bool]] = []
    for name in run.recipe.data.asked:
        pictures = open_images(name, run.data)
        for image, label in zip(pictures.squares(SIDE), pictures.labels, strict=True):
            if label not in known:
                continue
            code = np.frombuffer(codec.encode(image, levels=0).semantic or b"", np.uint8)[None]
            hits = joint_search(codec.bases, air_code.decode(code), max(DEPTHS))[0]
            found.append([any(hit.label == label for hit in hits[:depth]) for depth in DEPTHS])
    recalls = np.array(found, np.float64).reshape(-1, len(DEPTHS))
    return {
        "sets": list(run.recipe.data.asked),
        "asked": len(recalls),
        "entries": sum(len(base) for base in codec.bases),
        **{f"recall@{depth}": mean_interval(recalls[:, i]) for i, depth in enumerate(DEPTHS) if len(recalls)},
    }
