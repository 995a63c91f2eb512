"""Stage 2, reconstruction: train the detail coder on crops.

The coder trains in two phases. Alone, with a zero semantic vector, it needs nothing of the semantic stages and can
run beside them. Then its decoder alone is fine-tuned with the vectors that the air code of each crop decodes to: what
travels, the analysis and the codebooks, stays as it is, and any decoder made for it still fits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from crlsc_phy.semantic.detail import DetailCoder, DetailConfig
from crlsc_phy.train.data import CropSampler
from crlsc_phy.train.loop import StepModule

__all__ = ["DetailTraining"]

COMMITMENT_WEIGHT = 0.05
SILENT_SHARE = 0.1
WHOLE_SHARE = 0.7
"""Part of a batch trained with every token; the rest loses levels or tokens, and learns to degrade gently."""


class DetailTraining(StepModule):
    """Trains a :class:`DetailCoder`.

    Args:
        config: Sizes of the coder.
        crops: Where batches come from.
        semantic: Crops float32 [N, 3, H, W] to semantic vectors float32 [N, S]; None trains the coder alone.
        batch: Crops a step.
        steps, learning_rate, seed: As for :class:`StepModule`.
    """

    def __init__(
        self,
        config: DetailConfig,
        crops: CropSampler,
        semantic: Callable[[Tensor], Tensor] | None = None,
        batch: int = 32,
        steps: int = 1000,
        learning_rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__(steps, learning_rate, seed)
        self.coder = DetailCoder(config)
        self.crops, self.semantic, self.batch = crops, semantic, batch
        self.sender = torch.nn.ModuleList([self.coder.analysis, self.coder.quantiser])
        self.sender.requires_grad_(semantic is None)

    def step_loss(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Root mean square error and commitment on one batch of crops."""
        self.sender.train(self.semantic is None)
        images = self.crops.batch(self.batch, generator)
        if self.semantic is None:
            vectors = torch.zeros(self.batch, self.coder.config.semantic_dim)
        else:
            with torch.no_grad():
                vectors = self.semantic(images)
            # Some frames lose their semantic layer; zero is the vector that says so.
            vectors[torch.rand(self.batch, generator=generator) < SILENT_SHARE] = 0
        size = images.shape[-1] // 8
        keep = erasure_mask(self.batch, self.coder.config.levels, size, generator)
        decoded, commitment = self.coder(images, vectors, keep)
        mse = (decoded - images).square().mean(dim=(1, 2, 3))
        # The root weighs a smooth crop and a busy one alike, as the mean of PSNRs does.
        loss = (mse + 1e-5).sqrt().mean() + COMMITMENT_WEIGHT * commitment
        whole = keep.flatten(1).all(dim=1)
        return {"loss": loss, "commitment": commitment, "psnr_db": -10 * mse.detach()[whole].log10().mean()}


def erasure_mask(count: int, levels: int, size: int, generator: torch.Generator) -> Tensor:
    """Which tokens arrive: bool [count, levels, size, size].

    Most samples are whole; of the others, half lose a suffix of the levels (a lower rate) and half lose tokens at
    random places, each taking the finer levels of its place with it.
    """
    keep = torch.ones(count, levels, size, size, dtype=torch.bool)
    for index in range(round(count * WHOLE_SHARE), count):
        if torch.rand((), generator=generator) < 0.5:
            keep[index, int(torch.randint(levels, (), generator=generator)) :] = False
        else:
            share = torch.rand((), generator=generator)
            keep[index] = torch.rand(levels, size, size, generator=generator) > 0.5 * share
    return keep.cumprod(dim=1).bool()
