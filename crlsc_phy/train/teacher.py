"""The ``teacher`` stage: the server's large model, the classes that it can name, and its text tower.

Results: ``classes.safetensors``, a direction among the tower's features for each class, and ``classes.json``, their
names, where the tower has any; ``text/``, a text tower for an image tower that has none (:mod:`crlsc_phy.train.text`).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from crlsc_phy.data import open_images
from crlsc_phy.errors import TrainingError
from crlsc_phy.files import write_text
from crlsc_phy.images import UInt8Image
from crlsc_phy.semantic.teacher import has_text, load_classes
from crlsc_phy.train.embed import embed
from crlsc_phy.train.networks import save_tensors
from crlsc_phy.train.pictures import SIDE
from crlsc_phy.train.pipeline import WORK, Run, Step
from crlsc_phy.train.ranks import is_first_rank, wait_for_all
from crlsc_phy.train.recipe import Recipe
from crlsc_phy.train.text import TEXT, train_text

__all__ = ["load_directions", "steps", "tower_features"]


def steps(recipe: Recipe) -> list[Step]:
    """Return the steps of the stage.

    Raises:
        TrainingError: If the recipe trains a text tower for a tower that has one.
    """
    teacher = recipe.teacher
    found = [Step("teacher", _prepare, options={"tower": teacher.tower})]
    if teacher.text is None:
        return found
    if has_text(teacher.tower):
        raise TrainingError(f"teacher.text: {teacher.tower} has a text tower of its own; leave it out")
    options = {"text": teacher.text, "pixels": recipe.skb.pixels, "seed": recipe.seed}
    text = Step(TEXT, _tune, options=options, needs=("teacher",), sets=recipe.data.public, everywhere=True)
    return [*found, text]


def _prepare(run: Run, folder: Path) -> None:
    classes = load_classes(run.recipe.teacher.tower)
    if classes is not None:
        save_tensors({"directions": classes[1]}, folder / "classes.safetensors")
        write_text(folder / "classes.json", json.dumps(classes[0]))


def _tune(run: Run, folder: Path) -> None:
    recipe, text = run.recipe, run.recipe.teacher.text
    assert text is not None
    sets = [open_images(name, run.data) for name in recipe.data.public]
    pictures = np.concatenate([each.squares(SIDE) for each in sets])
    if is_first_rank():
        for pixels in recipe.skb.pixels:
            tower_features(run, pictures, pixels)
    wait_for_all()
    views = [tower_features(run, pictures, pixels) for pixels in recipe.skb.pixels]
    labels = [label for each in sets for label in each.labels]
    train_text(views, labels, text, folder, recipe.seed, recipe.threads)


def tower_features(run: Run, images: UInt8Image, pixels: int) -> Tensor:
    """Return the features of pictures; every stage uses the shards that another one has computed.

    Args:
        run: Recipe and its folders.
        images: uint8 [N, H, W, 3].
        pixels: Side in pixels at which the tower sees them, see :func:`crlsc_phy.train.embed.embed`.

    Returns:
        float32 [N, F] of unit norm.
    """
    shards = run.folder / "teacher" / WORK / "features"
    return embed(images, run.recipe.teacher.tower, pixels, shards, run.jobs, run.ray, run.recipe.threads)


def load_directions(run: Run) -> tuple[list[str], Tensor] | None:
    """Return names of the tower's classes and directions float32 [C, F] of unit norm; None if it has no classes."""
    folder = run.folder / "teacher"
    try:
        names: list[str] = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return names, load_file(folder / "classes.safetensors")["directions"]
