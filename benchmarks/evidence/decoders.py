"""Decoders of pictures, each tuned to the vectors of one encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from common import Lab, planes
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from crlsc_phy.bundle import CODEBOOKS, DETAIL
from crlsc_phy.images import UInt8Image
from crlsc_phy.quality.metrics import psnr_db
from crlsc_phy.semantic.detail import STRIDE, DetailCoder
from crlsc_phy.train.coders import received_semantics, training_crops
from crlsc_phy.train.loop import fit
from crlsc_phy.train.pipeline import Run
from crlsc_phy.train.recipe import LoopRecipe
from crlsc_phy.train.tasks.reconstruction import DetailTraining

BATCH, LEARNING_RATE = 32, 7e-4
PSNR_CAP_DB = 60.0


def tuned_decoder(lab: Lab, run: Run, size: str, folder: Path) -> DetailCoder:
    """Tune the decoder of the shipped bundle to an encoder's vectors as they come out of the air code.

    Args:
        lab: The budget and the bundle.
        run: Whose encoder and air code.
        size: Which encoder.
        folder: Of checkpoints; it goes on from there.
    """
    loop = LoopRecipe(lab.budget.decoder_steps, BATCH, LEARNING_RATE)
    semantic = received_semantics(run.load_encoder(size), run.air_code)
    module = DetailTraining(run.recipe.decoder.detail, training_crops(run), semantic, loop, run.recipe.seed)
    state = load_file(lab.bundle / DETAIL) | {"quantiser.codebooks": load_file(lab.bundle / CODEBOOKS)["codebooks"]}
    module.coder.load_state_dict({**module.coder.state_dict(), **{name: each.float() for name, each in state.items()}})
    fit(module, folder, 1)
    return module.coder.eval()


@torch.inference_mode()
def decoded_psnr_db(
    coder: DetailCoder, crops: UInt8Image, vectors: NDArray[np.float32], levels: int
) -> NDArray[np.float64]:
    """Return the PSNR of crops uint8 [N, S, S, 3] with vectors float32 [N, D] at a number of levels, float64 [N]."""
    side = crops.shape[1] // STRIDE
    keep = torch.zeros(len(crops), coder.config.levels, side, side, dtype=torch.bool)
    keep[:, :levels] = True
    images: Tensor = coder(planes(crops).float() / 255, torch.from_numpy(vectors), keep)[0]
    shown = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return np.array([min(psnr_db(*pair), PSNR_CAP_DB) for pair in zip(crops, shown, strict=True)])
