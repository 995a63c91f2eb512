"""Training of a coder of pictures in two phases: alone, and then conditioned on the received semantic vector.

Alone, with a zero semantic vector, a coder needs nothing of the semantic stages and can be trained beside them. In the
second phase only the receiver's networks are trained, with the vectors that the air code of each crop decodes to. What
is transmitted stays as the first phase left it, so that any receiver made for it still fits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from crlsc_phy.data import CropSampler
from crlsc_phy.knowledge import AirCode
from crlsc_phy.semantic.encoder import LocalEncoder
from crlsc_phy.train.loop import StepModule, fit
from crlsc_phy.train.networks import save_weights
from crlsc_phy.train.pictures import photographs, squares
from crlsc_phy.train.pipeline import WORK, Run, Step
from crlsc_phy.train.recipe import LoopRecipe, Recipe

__all__ = ["CoderTraining", "Semantics", "picture_errors", "received_semantics", "training_crops", "two_phases"]

Semantics = Callable[[Tensor], Tensor]
"""Maps crops float32 [N, 3, H, W] in 0..1 to semantic vectors float32 [N, S]."""
SILENT_SHARE = 0.1
"""Fraction of a batch whose semantic layer is lost."""


class CoderTraining(StepModule):
    """Base of the trainings of a coder that a semantic vector conditions.

    Args:
        coder: Coder to train; its ``config`` has the size of the vector, ``semantic_dim``.
        semantic: Semantic vectors of crops; None trains the whole coder with the zero vector.
        loop: Budget.
        seed: Seed of the batches.
    """

    def __init__(self, coder: nn.Module, semantic: Semantics | None, loop: LoopRecipe, seed: int) -> None:
        super().__init__(loop, seed)
        self.coder, self.semantic = coder, semantic

    def received(self, images: Tensor, semantic_dim: int, generator: torch.Generator) -> Tensor:
        """Return what a receiver knows of the meaning of crops.

        Args:
            images: float32 [N, 3, H, W] in 0..1, on the CPU.
            semantic_dim: Size of a semantic vector, S.
            generator: Chooses the crops whose semantic layer is lost.

        Returns:
            float32 [N, S]; zero where the layer is lost, and everywhere in the first phase.
        """
        if self.semantic is None:
            return torch.zeros(len(images), semantic_dim)
        with torch.no_grad():
            vectors = self.semantic(images)
        vectors[torch.rand(len(images), generator=generator) < SILENT_SHARE] = 0
        return vectors


def picture_errors(decoded: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of decoded images, a scalar, and the mean square error of each, float32 [N]."""
    mse = (decoded - images).square().mean(dim=(1, 2, 3))
    # The root weighs a smooth crop and a busy one alike, as the mean of PSNRs does.
    return (mse + 1e-5).sqrt().mean(), mse


def training_crops(run: Run, size: int = 64) -> CropSampler:
    """Return a sampler of crops of ``size`` pixels from the training photographs and the public pictures."""
    photos = photographs(run.recipe.data.photos, run.data)
    return CropSampler(list(photos.values()), squares(run.recipe.data.public, run.data), size)


def received_semantics(encoder: LocalEncoder, code: AirCode) -> Semantics:
    """Return a function that gives the semantic vectors of crops as a receiver has them, after the air code."""
    return lambda images: torch.from_numpy(code.decode(code.encode(encoder.embed(images).numpy())))


def two_phases(
    recipe: Recipe,
    names: tuple[str, str],
    file: str,
    training: Callable[[Run, Semantics | None], CoderTraining],
    options: tuple[dict[str, Any], dict[str, Any]],
) -> list[Step]:
    """Return the two steps that train a coder.

    Args:
        recipe: Recipe of the bundle.
        names: Names of the steps.
        file: Name of the file of weights in the folder of each step.
        training: Makes the module of a phase, given the semantic vectors in the second one.
        options: What determines the result of each step.
    """
    sets = (*recipe.data.public, *recipe.data.photos)
    needs = (names[0], "skb", f"encoder/{recipe.encoder_name}")
    alone = partial(_train, file=file, training=training)
    conditioned = partial(alone, start=f"{names[0]}/{file}")
    return [
        Step(names[0], alone, options=options[0], sets=sets, everywhere=True),
        Step(names[1], conditioned, options=options[1], needs=needs, sets=sets, everywhere=True),
    ]


def _train(
    run: Run, folder: Path, file: str, training: Callable[[Run, Semantics | None], CoderTraining], start: str = ""
) -> None:
    semantic = received_semantics(run.load_encoder(), run.air_code) if start else None
    torch.manual_seed(run.recipe.seed)
    module = training(run, semantic)
    if start:
        module.coder.load_state_dict(load_file(run.folder / start))
    fit(module, folder / WORK, run.recipe.threads)
    save_weights(module.coder, folder / file)
