"""Tasks that decoders are trained for, one module each.

A task is a module in this folder, named in :data:`TASKS`, with three functions:

- ``steps(recipe)`` returns its training steps, which belong to the ``decoder`` stage; none if nothing is trained;
- ``export(run, folder)`` writes the files that the codec needs into the folder of a bundle;
- ``measure(codec, run)`` measures a bundle on held-out data, loaded as users load it, and returns plain numbers for
  ``metrics.json``.

Its options go into :class:`crlsc_phy.train.recipe.DecoderRecipe`, its text in the model card into
``crlsc_phy/train/card.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import TrainingError
from crlsc_phy.train.pipeline import Run, Step
from crlsc_phy.train.recipe import Recipe

__all__ = ["TASKS", "Task", "tasks"]

TASKS = ("reconstruction", "classification", "retrieval")


class Task(Protocol):
    """Functions of a task's module."""

    def steps(self, recipe: Recipe) -> list[Step]: ...

    def export(self, run: Run, folder: Path) -> None: ...

    def measure(self, codec: SemanticCodec, run: Run) -> dict[str, Any]: ...


def tasks(names: Sequence[str]) -> dict[str, Task]:
    """Return the modules of tasks by name.

    Raises:
        TrainingError: If a name is unknown, or reconstruction, which every codec needs, is missing.
    """
    for name in names:
        if name not in TASKS:
            raise TrainingError(f"decoder.tasks: no task {name!r}; choose among {', '.join(TASKS)}")
    if "reconstruction" not in names:
        raise TrainingError("decoder.tasks: lacks reconstruction, without which no codec can decode")
    return {name: cast("Task", import_module(f"{__name__}.{name}")) for name in names}
