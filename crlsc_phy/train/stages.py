"""Stages of a recipe, in their order, and the steps of each.

- ``teacher``: the server's large model, and the classes that it can name
- ``skb``: the shared space, its air code, the shared knowledge base
- ``encoder``: stage 1 of CRLSC, terminals' encoders, from the knowledge base alone
- ``pkb``: private knowledge bases, filled by such an encoder
- ``decoder``: stage 2, reconstruction, classification, retrieval
- ``analog``: the analog coder, trained through a model of the modem
- ``evaluate``: a draft of the bundle, measured on held-out data
- ``bundle``: the draft with its model card, put in place
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from crlsc_phy.train import analog, encoder, evaluate, pkb, skb, teacher
from crlsc_phy.train.pipeline import Step
from crlsc_phy.train.recipe import Recipe
from crlsc_phy.train.tasks import tasks

__all__ = ["all_steps"]


def all_steps(recipe: Recipe, stages: Sequence[str]) -> list[Step]:
    """Return the steps of some stages of a recipe, in the order in which they can run.

    Raises:
        TrainingError: If the recipe names an unknown task.
    """
    training = chain.from_iterable(task.steps(recipe) for task in tasks(recipe.decoder.tasks).values())
    steps = [
        *teacher.steps(recipe),
        *skb.steps(recipe),
        *encoder.steps(recipe),
        *pkb.steps(recipe),
        *training,
        *analog.steps(recipe),
        *evaluate.steps(recipe),
    ]
    return [step for step in steps if step.stage in stages]
