"""The tasks that decoders are trained for: a module each.

A task is a module in this folder, named in :data:`TASKS`, with three functions:

- ``steps(recipe)``: the training that it takes, as steps of the ``decoder`` stage; none if there is nothing to train;
- ``export(run, folder)``: writes the files that the codec needs of it into the folder of a bundle;
- ``measure(codec, run)``: what a bundle that was loaded as a user would load it achieves at it on held-out data, as
  plain numbers for ``metrics.json``.

Its options go into :class:`crlsc_phy.train.recipe.DecoderRecipe`, what the card says of it into
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
    """What a task's module offers."""

    def steps(self, recipe: Recipe) -> list[Step]: ...

    def export(self, run: Run, folder: Path) -> None: ...

    def measure(self, codec: SemanticCodec, run: Run) -> dict[str, Any]: ...


def tasks(names: Sequence[str]) -> dict[str, Task]:
    """The tasks of these names.

    Raises:
        TrainingError: If there is none of a name, or reconstruction, which every codec needs, is not among them.
    """
    for name in names:
        if name not in TASKS:
            raise TrainingError(f"decoder.tasks: no task {name!r}; choose among {', '.join(TASKS)}")
    if "reconstruction" not in names:
        raise TrainingError("decoder.tasks: lacks reconstruction, without which no codec can decode")
    return {name: cast("Task", import_module(f"{__name__}.{name}")) for name in names}
