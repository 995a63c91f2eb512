"""The ``pkb`` stage: a terminal's private knowledge base, filled by its own encoder with its own pictures.

Result: ``pkb/SET/pkb`` for each private set of the recipe, with the air code of the shared knowledge base, so that
codec, block and ``crlsc-kb`` take it beside that. It stays at the terminal: a bundle does not carry it.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from crlsc_phy.data import open_images
from crlsc_phy.knowledge import KnowledgeBase
from crlsc_phy.semantic.encoder import LocalEncoder
from crlsc_phy.train.pictures import SIDE, entries
from crlsc_phy.train.pipeline import Run, Step
from crlsc_phy.train.recipe import Recipe

__all__ = ["encode_squares", "steps"]

BATCH = 64


def steps(recipe: Recipe) -> list[Step]:
    """What the stage consists of: a step a private set."""
    needs = ("skb", f"encoder/{recipe.encoder_name}")
    return [
        Step(f"pkb/{_folder(name)}", partial(_fill, name=name), needs=needs, sets=(name,))
        for name in recipe.data.private
    ]


def _folder(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-")


def _fill(run: Run, folder: Path, name: str) -> None:
    pictures = open_images(name, run.data)
    vectors = encode_squares(run.load_encoder(), torch.from_numpy(pictures.squares(SIDE)).permute(0, 3, 1, 2))
    KnowledgeBase.create(folder / "pkb", run.air_code, vectors.numpy(), entries(pictures))


@torch.inference_mode()
def encode_squares(encoder: LocalEncoder, images: Tensor) -> Tensor:
    """Semantic vectors, float32 [N, D] of unit norm, of pictures uint8 [N, 3, S, S]."""
    size = (encoder.config.pixels,) * 2
    parts = (
        encoder(F.interpolate(part.float() / 255, size, mode="bilinear", antialias=True))
        for part in torch.split(images, BATCH)
    )
    return torch.cat(list(parts))
