"""Stage 1 at a terminal: train its encoder against the shared knowledge base, without labels and without the teacher.

Each public image comes with its vector in the knowledge base. The encoder sees the image altered, and its similarity
to *all* vectors of the base must spread as the true vector's does (self-supervised distillation, SEED, Fang et al.
2021, equation 3); with a cold target that is InfoNCE with the whole base as negatives, but a twin of the image is not
pushed away.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from crlsc_phy.semantic.encoder import EncoderConfig, LocalEncoder
from crlsc_phy.train.loop import StepModule

__all__ = ["EncoderTraining"]

TARGET_TEMPERATURE = 0.05
TEMPERATURE = 0.1


class EncoderTraining(StepModule):
    """Trains a :class:`LocalEncoder`.

    Args:
        config: Sizes of the encoder.
        images: uint8 [N, 3, S, S], the public images.
        vectors: float32 [N, D], what the knowledge base holds for each.
        base: float32 [B, D], all vectors of the knowledge base.
        frozen: Stages of the trunk that keep their ImageNet weights: with few photographs to learn from, they would
            forget what the ones not seen look like.
        batch: Images a step.
        steps, learning_rate, seed: As for :class:`StepModule`.
    """

    def __init__(
        self,
        config: EncoderConfig,
        images: Tensor,
        vectors: Tensor,
        base: Tensor,
        frozen: int = 0,
        batch: int = 64,
        steps: int = 1000,
        learning_rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__(steps, learning_rate, seed)
        self.encoder = LocalEncoder(config)
        self.encoder.start_from_wheel()
        # The stem and its normalisation come before the stages.
        self.kept = self.encoder.trunk[: frozen + 2] if frozen else torch.nn.Sequential()
        self.kept.requires_grad_(False)
        self.images, self.vectors, self.base, self.batch = images, vectors, base, batch

    def step_loss(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Cross-entropy of the two spreads of similarity on one batch of altered images."""
        self.kept.eval()
        index = torch.randint(len(self.images), (self.batch,), generator=generator)
        target = self.vectors[index]
        views = alter(self.images[index].float() / 255, self.encoder.config.pixels, generator)
        found = self.encoder(views)
        spread = (target @ self.base.T / TARGET_TEMPERATURE).softmax(dim=1)
        contrast = F.cross_entropy(found @ self.base.T / TEMPERATURE, spread)
        cosine = (found * target).sum(dim=1).mean()
        return {"loss": contrast + 2 * (1 - cosine), "cosine": cosine.detach()}


def alter(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Random views: moved, scaled, turned, re-coloured, blurred, on another ground.

    Args:
        images: float32 [N, 3, S, S] in 0..1.
        pixels: Side of the result.
        generator: Source of all choices.

    Returns:
        float32 [N, 3, pixels, pixels] in 0..1.
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
    # Pictograms lie on white: half of them get the ground of another colour, as a new vendor or a page would.
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
