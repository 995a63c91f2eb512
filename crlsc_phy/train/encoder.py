"""The ``encoder`` stage, stage 1 of CRLSC: terminals' encoders are trained from the shared knowledge base alone.

Neither labels nor the teacher are used. Each public image comes with its code in the knowledge base. The encoder is
given an altered image. The similarities of its vector to *all* vectors of the base must be distributed as those of the
true vector (self-supervised distillation, Z. Fang et al., "SEED: self-supervised distillation for visual
representation", ICLR 2021, equation 3). With a cold target that is InfoNCE with the whole base as negatives, but twins
of the image are not pushed away.

Result: ``encoder/NAME/encoder.safetensors`` for each size of the recipe, all in one space.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from crlsc_phy.semantic.encoder import EncoderConfig, LocalEncoder
from crlsc_phy.train.loop import StepModule, fit
from crlsc_phy.train.networks import save_weights
from crlsc_phy.train.pictures import photo_crops, squares
from crlsc_phy.train.pipeline import WORK, Run, Step
from crlsc_phy.train.recipe import LoopRecipe, Recipe

__all__ = ["EncoderTraining", "PublicSet", "public_set", "steps"]

TARGET_TEMPERATURE = 0.05
TEMPERATURE = 0.1


def steps(recipe: Recipe) -> list[Step]:
    """Return the steps of the stage, one for each encoder."""
    sets = (*recipe.data.public, *recipe.data.photos)
    shared = {"trained_stages": recipe.encoder.trained_stages, "loop": recipe.encoder.loop, "seed": recipe.seed}
    return [
        Step(
            f"encoder/{name}",
            partial(_train, config=config),
            options={"size": config, **shared},
            needs=("skb",),
            sets=sets,
            everywhere=True,
        )
        for name, config in recipe.encoder.sizes.items()
    ]


def _train(run: Run, folder: Path, config: EncoderConfig) -> None:
    torch.manual_seed(run.recipe.seed)
    recipe = run.recipe.encoder
    module = EncoderTraining(config, public_set(run), recipe.trained_stages, recipe.loop, run.recipe.seed)
    # Depthwise convolutions run almost twice as fast in this layout.
    module.encoder.to(memory_format=torch.channels_last)
    fit(module, folder / WORK, run.recipe.threads)
    save_weights(module.encoder, folder / "encoder.safetensors")


@dataclass(frozen=True)
class PublicSet:
    """Training data of a terminal.

    Attributes:
        images: Public pictures, uint8 [N, 3, S, S].
        vectors: Decoded air code of each picture, float32 [N, D].
        base: Decoded air codes of all entries of the knowledge base, float32 [B, D].
    """

    images: Tensor
    vectors: Tensor
    base: Tensor


def public_set(run: Run) -> PublicSet:
    """Return the public pictures and the crops of photographs, with their codes in the shared knowledge base."""
    knowledge, photos = run.knowledge, load_file(run.folder / "skb/codes.safetensors")["photos"]
    pictures = squares(run.recipe.data.public, run.data)
    base = torch.from_numpy(knowledge.air_code.decode(knowledge.codes))
    crops = torch.from_numpy(knowledge.air_code.decode(photos.numpy()))
    # The entries of pictures come first, in the order of the sets; those of classes have no picture.
    vectors = torch.cat([base[: len(pictures)], crops])
    images = torch.from_numpy(np.concatenate([pictures, photo_crops(run.recipe, run.data)]))
    return PublicSet(images.permute(0, 3, 1, 2).contiguous(), vectors, base)


class EncoderTraining(StepModule):
    """Training of a :class:`LocalEncoder`.

    Args:
        config: Sizes of the encoder.
        public: Training data.
        trained_stages: Number of the last stages of the trunk that are trained.
        loop: Budget.
        seed: Seed of the batches.
    """

    def __init__(
        self, config: EncoderConfig, public: PublicSet, trained_stages: int, loop: LoopRecipe, seed: int = 0
    ) -> None:
        super().__init__(loop, seed)
        self.encoder = LocalEncoder(config)
        self.encoder.start_from_wheel()
        frozen = max(0, config.stages - trained_stages)
        # The stem and its normalisation come before the stages.
        self.kept = self.encoder.trunk[: frozen + 2] if frozen else torch.nn.Sequential()
        self.kept.requires_grad_(False)
        self.public = public

    def step_loss(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return cross-entropy of the two distributions of similarity plus cosine distance, on one altered batch."""
        self.kept.eval()
        public = self.public
        index = torch.randint(len(public.images), (self.loop.batch,), generator=generator)
        target, base = public.vectors[index].to(self.device), public.base.to(self.device)
        views = alter(public.images[index].float() / 255, self.encoder.config.pixels, generator)
        found = self.encoder(views.to(self.device))
        spread = (target @ base.T / TARGET_TEMPERATURE).softmax(dim=1)
        contrast = F.cross_entropy(found @ base.T / TEMPERATURE, spread)
        cosine = (found * target).sum(dim=1).mean()
        return {"loss": contrast + 2 * (1 - cosine), "cosine": cosine.detach()}


def alter(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Return random views: moved, scaled, rotated, re-coloured, blurred, on another background.

    Args:
        images: float32 [N, 3, S, S] in 0..1.
        pixels: Side of the result, P.
        generator: Source of all choices.

    Returns:
        float32 [N, 3, P, P] in 0..1.
    """
    n = len(images)

    def rand(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    def chance(p: float) -> Tensor:
        return (torch.rand(n, generator=generator) < p).float()

    turn, scale = rand(-0.25, 0.25), rand(0.85, 1.35)
    flip = 1 - 2 * chance(0.3)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = scale * turn.cos() * flip, -scale * turn.sin()
    theta[:, 1, 0], theta[:, 1, 1] = scale * turn.sin() * flip, scale * turn.cos()
    theta[:, :, 2] = torch.stack([rand(-0.15, 0.15), rand(-0.15, 0.15)], dim=1)
    grid = F.affine_grid(theta, [n, 3, pixels, pixels], align_corners=False)
    views = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    # Pictograms lie on white. Some get another background, as those of a new vendor or page may have.
    ground = torch.rand(n, 3, 1, 1, generator=generator)
    white = (views.min(dim=1, keepdim=True).values > 0.97).float() * chance(0.3)[:, None, None, None]
    views = views * (1 - white) + ground * white
    gain = rand(0.7, 1.3)[:, None, None, None] * (1 + 0.2 * (torch.rand(n, 3, 1, 1, generator=generator) - 0.5))
    grey = views.mean(dim=1, keepdim=True)
    mix = rand(0.3, 1.4)[:, None, None, None] * (1 - chance(0.1))[:, None, None, None]
    views = (grey + (views - grey) * mix - 0.5) * gain + 0.5 + rand(-0.1, 0.1)[:, None, None, None]
    soft = F.avg_pool2d(views, 3, stride=1, padding=1, count_include_pad=False)
    blur = rand(-0.5, 1.0).clamp(min=0)[:, None, None, None]
    return (views + (soft - views) * blur).clamp(0, 1)
