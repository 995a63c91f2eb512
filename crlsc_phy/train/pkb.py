"""The ``pkb`` stage: a terminal's private knowledge base, filled by its own encoder with its own pictures.

Result: ``pkb/SET/pkb`` for each private set of the recipe, with the air code of the shared knowledge base, so that
codec, block and ``crlsc-kb`` can use it beside that one. It stays at the terminal and is not part of a bundle.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import torch

from crlsc_phy.data import open_images
from crlsc_phy.files import short_name
from crlsc_phy.knowledge import KnowledgeBase
from crlsc_phy.train.pictures import SIDE, entries
from crlsc_phy.train.pipeline import Run, Step
from crlsc_phy.train.recipe import Recipe

__all__ = ["steps"]


def steps(recipe: Recipe) -> list[Step]:
    """Return the steps of the stage, one for each private set."""
    needs = ("skb", f"encoder/{recipe.encoder_name}")
    return [
        Step(f"pkb/{_folder(name)}", partial(_fill, name=name), needs=needs, sets=(name,))
        for name in recipe.data.private
    ]


def _folder(name: str) -> str:
    return short_name(re.sub(r"[^\w.-]+", "-", name).strip("-"))


def _fill(run: Run, folder: Path, name: str) -> None:
    pictures = open_images(name, run.data)
    vectors = run.load_encoder().embed(torch.from_numpy(pictures.squares(SIDE)).permute(0, 3, 1, 2))
    KnowledgeBase.create(folder / "pkb", run.air_code, vectors.numpy(), entries(pictures))
