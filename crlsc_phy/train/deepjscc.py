"""Training of the DeepJSCC baseline, with the crops, loss, optimiser and schedule of our analog coder.

The SNR of each picture is drawn from 0 to 20 dB. The receiver is given linear (MMSE) estimates ``y / (1 + noise)``.
Over AWGN they are the same information; over fading, equalised symbols would have unbounded noise.

Source: E. Bourtsoulatze, D. Burth Kurka and D. Gunduz, "Deep joint source-channel coding for wireless image
transmission", IEEE Trans. Cognitive Communications and Networking 5(3), 2019.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crlsc_phy.data import CropSampler
from crlsc_phy.errors import TrainingError
from crlsc_phy.images import UInt8Image
from crlsc_phy.semantic.deepjscc import DeepJscc
from crlsc_phy.train.air import plain_noise
from crlsc_phy.train.coders import picture_errors
from crlsc_phy.train.loop import StepModule, fit
from crlsc_phy.train.pictures import photographs, squares
from crlsc_phy.train.recipe import DataRecipe, LoopRecipe

__all__ = ["CBRS", "BaselineRecipe", "DeepJsccTraining", "heldout_psnr_db", "train_baseline"]

CBRS = {"1/12": 8, "1/6": 16}
"""Filters of the network by its CBR."""
SNRS_DB = (0.0, 20.0)
CROP = 64


@dataclass(frozen=True)
class BaselineRecipe:
    """Recipe of the baseline.

    Attributes:
        cbr: Channel uses per source value, one of :data:`CBRS`.
        data: Picture sets, of which ``photos`` and ``public`` are used.
        loop: Budget.
        seed: Seed of weights and batches.
        threads: Threads of torch.

    Raises:
        TrainingError: If there is no baseline of this CBR.
    """

    cbr: str = "1/12"
    data: DataRecipe = field(default_factory=DataRecipe)
    loop: LoopRecipe = field(default_factory=lambda: LoopRecipe(steps=10_000, batch=32))
    seed: int = 1
    threads: int = 1

    def __post_init__(self) -> None:
        if self.cbr not in CBRS:
            raise TrainingError(f"no baseline of CBR {self.cbr!r}; choose one of {', '.join(CBRS)}")


class DeepJsccTraining(StepModule):
    """Training of a :class:`DeepJscc` from random weights.

    Args:
        filters: Filters of the network.
        crops: Sampler of the batches.
        loop: Budget.
        seed: Seed of weights and batches.
    """

    def __init__(self, filters: int, crops: CropSampler, loop: LoopRecipe, seed: int) -> None:
        super().__init__(loop, seed)
        torch.manual_seed(seed)
        self.network = DeepJscc(filters)
        self.crops = crops

    def step_loss(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the root mean square error of one batch of crops, each at an SNR of its own, and its PSNR in dB."""
        images = self.crops.batch(self.loop.batch, generator).to(self.device)
        low, high = SNRS_DB
        snrs_db = low + (high - low) * torch.rand(len(images), generator=generator)
        loss, mse = picture_errors(_send(self.network, images, snrs_db, generator), images)
        return {"loss": loss, "psnr_db": -10 * mse.detach().log10().mean()}


def train_baseline(recipe: BaselineRecipe, data: Path, out: Path) -> DeepJsccTraining:
    """Train the baseline and write its weights; an interrupted training resumes from its last checkpoint.

    Args:
        recipe: Recipe of the baseline.
        data: Folder of the data sets, as ``crlsc-train data`` fills it.
        out: File of the weights. Checkpoints are in the folder of this name without its suffix.

    Returns:
        The finished training, with the network.

    Raises:
        DataError: If the pictures are not in ``data``.
    """
    photos = list(photographs(recipe.data.photos, data).values())
    crops = CropSampler(photos, squares(recipe.data.public, data), CROP)
    module = DeepJsccTraining(CBRS[recipe.cbr], crops, recipe.loop, recipe.seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    fit(module, out.with_suffix(""), recipe.threads)
    module.network.save(out)
    return module


@torch.no_grad()
def heldout_psnr_db(network: DeepJscc, crops: UInt8Image, snr_db: float, seed: int = 0) -> NDArray[np.float64]:
    """Measure the PSNR of crops that are sent over white noise.

    Args:
        network: Network to measure.
        crops: uint8 [N, H, W, 3].
        snr_db: Es/N0 in dB.
        seed: Seed of the noise.

    Returns:
        PSNR in dB, float64 [N].
    """
    images = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    snrs_db = torch.full((len(images),), float(snr_db))
    decoded = _send(network, images, snrs_db, torch.Generator().manual_seed(seed))
    mse = (decoded - images).square().mean(dim=(1, 2, 3))
    return np.asarray(-10 * mse.clamp(min=1e-6).log10(), np.float64)


def _send(network: DeepJscc, images: Tensor, snrs_db: Tensor, generator: torch.Generator) -> Tensor:
    estimates, _ = plain_noise(network.encode(images), snrs_db, generator)
    return network.decode(estimates, *images.shape[2:])
