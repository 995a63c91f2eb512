"""The ``teacher`` stage: the server's large model is there, and says what it can name.

Result: ``classes.safetensors``, a direction among the tower's features for each class; ``classes.json``, their names.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from crlsc_phy.files import write_text
from crlsc_phy.semantic.teacher import load_classes
from crlsc_phy.train.networks import save_tensors
from crlsc_phy.train.pipeline import Run, Step
from crlsc_phy.train.recipe import Recipe

__all__ = ["load_directions", "steps"]


def steps(recipe: Recipe) -> list[Step]:
    """What the stage consists of."""
    return [Step("teacher", _prepare, options=recipe.teacher)]


def _prepare(run: Run, folder: Path) -> None:
    names, directions = load_classes(run.recipe.teacher.tower)
    save_tensors({"directions": directions}, folder / "classes.safetensors")
    write_text(folder / "classes.json", json.dumps(names))


def load_directions(run: Run) -> tuple[list[str], Tensor]:
    """Names of the classes, and directions float32 [C, F] of unit norm."""
    folder = run.folder / "teacher"
    names: list[str] = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
    return names, load_file(folder / "classes.safetensors")["directions"]
