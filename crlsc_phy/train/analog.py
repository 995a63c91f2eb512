"""Train the analog coder on crops, through what the modem does to its symbols.

Like the detail coder it trains in two phases: alone, with the zero vector, and then its receiver with the vectors that
the air code of each crop decodes to. What travels is settled in the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from crlsc_phy.semantic.analog_coder import AnalogCoder, AnalogConfig
from crlsc_phy.train.air import plain_noise, send, what_a_modem_meets
from crlsc_phy.train.crops import CropSampler
from crlsc_phy.train.data import load_photos, load_pictograms
from crlsc_phy.train.loop import StepModule, fit
from crlsc_phy.train.recipe import LoopRecipe
from crlsc_phy.train.stages import Run, received_semantics

__all__ = ["AnalogTraining", "picture_quality", "start_linear", "train_analog"]

SIZES = (64, 128)
"""Sides of the crops: the larger ones teach what a larger picture's spectrum is like."""
LARGE_SHARE = 0.2
SILENT_SHARE = 0.1
RATE_SHARES = {1: 0.45, 0.75: 0.1, 0.5: 0.25, 0.375: 0.08, 0.25: 0.07, 0.125: 0.05}
"""How often a picture is sent at a part of the highest rate."""
BLOCKS_RATE, SPECTRUM_RATE = 0.03, 0.2
"""Parts of the learning rate at which the linear frame is trained."""
STATISTICS_CROPS = 3000


class AnalogTraining(StepModule):
    """Trains an :class:`AnalogCoder`.

    Args:
        config: Sizes of the coder.
        crops: Where batches come from, by size of the crop; larger crops come in smaller batches.
        semantic: Crops float32 [N, 3, H, W] to semantic vectors float32 [N, S]; None trains the whole coder with the
            zero vector, otherwise the receiver alone is trained.
        batch: Crops a step of the first size.
        steps, learning_rate, seed: As for :class:`StepModule`.
    """

    def __init__(
        self,
        config: AnalogConfig,
        crops: Sequence[CropSampler],
        semantic: Callable[[Tensor], Tensor] | None = None,
        batch: int = 32,
        steps: int = 1000,
        learning_rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__(steps, learning_rate, seed)
        self.coder = AnalogCoder(config)
        self.crops, self.semantic, self.batch = crops, semantic, batch
        self.coder.sender.requires_grad_(semantic is None)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The linear frame is right from the start; a full rate would tear it before the networks know anything."""
        groups: dict[float, list[Tensor]] = {}
        for name, parameter in self.coder.named_parameters():
            if parameter.requires_grad:
                part = BLOCKS_RATE if ".blocks." in name else SPECTRUM_RATE if ".spectrum." in name else 1.0
                groups.setdefault(part, []).append(parameter)
        return [
            {"params": group, "lr": part * self.learning_rate, "weight_decay": 1e-4 if part == 1 else 0.0}
            for part, group in groups.items()
        ]

    def step_loss(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Root mean square error of one batch of crops."""
        config = self.coder.config
        large = len(self.crops) > 1 and bool(torch.rand((), generator=generator) < LARGE_SHARE)
        crops = self.crops[large]
        count = max(1, self.batch * self.crops[0].size ** 2 // crops.size**2)
        images = crops.batch(count, generator)
        if self.semantic is None:
            vectors = torch.zeros(count, config.semantic_dim)
        else:
            with torch.no_grad():
                vectors = self.semantic(images)
            # Some frames lose their semantic layer; zero is the vector that says so.
            vectors[torch.rand(count, generator=generator) < SILENT_SHARE] = 0
        rates = (torch.tensor(list(RATE_SHARES)) * config.symbols).long().clamp(min=1)
        rate = rates[torch.multinomial(torch.tensor(list(RATE_SHARES.values())), count, True, generator=generator)]
        decoded = send(self.coder, images, vectors, rate, lambda symbols: what_a_modem_meets(symbols, generator))
        mse = (decoded - images).square().mean(dim=(1, 2, 3))
        # The root weighs a smooth crop and a busy one alike, as the mean of PSNRs does.
        return {"loss": (mse + 1e-5).sqrt().mean(), "psnr_db": -10 * mse.detach().log10().mean()}


def start_linear(coder: AnalogCoder, crops: CropSampler, seed: int) -> None:
    """Make ``coder`` the best linear code for ``crops``: training then starts from there."""
    coder.start_linear(crops.batch(STATISTICS_CROPS, torch.Generator().manual_seed(seed)))


@torch.no_grad()
def picture_quality(coder: AnalogCoder, images: Tensor, rate: int, snr_db: float, seed: int = 0) -> Tensor:
    """PSNR in dB of each of images float32 [N, 3, H, W] over plain noise without a semantic vector, float32 [N]."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.zeros(len(images), coder.config.semantic_dim)
    rates = torch.full((len(images),), rate)
    decoded = send(coder, images, vectors, rates, lambda symbols: plain_noise(symbols, snr_db, generator))
    mse = (decoded.clamp(0, 1) - images).square().mean(dim=(1, 2, 3))
    return -10 * mse.clamp(min=1e-6).log10()


def train_analog(run: Run) -> None:
    """Train the analog coder, alone and then conditioned, into ``analog/analog.safetensors``; none for 0 steps."""
    folder, recipe = run.folder / "analog", run.recipe
    if not recipe.analog_alone.steps or (folder / "analog.safetensors").exists():
        return
    photos = list(load_photos(run.data, "train").values())
    pictograms = np.concatenate([load_pictograms(run.data, vendor).images for vendor in recipe.space.vendors])
    crops = [CropSampler(photos, pictograms, size) for size in SIZES]

    def training(loop: LoopRecipe, semantic: Callable[[Tensor], Tensor] | None) -> AnalogTraining:
        torch.manual_seed(recipe.seed)
        return AnalogTraining(recipe.analog, crops, semantic, loop.batch, loop.steps, loop.learning_rate, recipe.seed)

    alone = folder / "alone/analog.safetensors"
    if not alone.exists():
        module = training(recipe.analog_alone, None)
        start_linear(module.coder, crops[0], recipe.seed)
        fit(module, alone.parent, recipe.threads)
        save_file(module.coder.state_dict(), alone)
    module = training(recipe.analog_conditioned, received_semantics(run.load_encoder(), run.air_code))
    module.coder.load_state_dict(load_file(alone))
    fit(module, folder / "conditioned", recipe.threads)
    save_file(module.coder.state_dict(), folder / "analog.safetensors")
