"""Reconstruction: the detail coder, a residual VQ-VAE conditioned on the semantic vector that a receiver decodes.

The coder is trained in the two phases of :mod:`crlsc_phy.train.coders`. The second one leaves the analysis and the
codebooks as they are.

Results: ``decoder/alone/detail.safetensors``, ``decoder/reconstruction/detail.safetensors``.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from crlsc_phy.bundle import CODEBOOKS, DETAIL
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.data import CropSampler
from crlsc_phy.images import UInt8Image
from crlsc_phy.quality.intervals import mean_interval
from crlsc_phy.quality.metrics import psnr_db
from crlsc_phy.semantic.detail import DetailCoder, DetailConfig
from crlsc_phy.train.coders import CoderTraining, Semantics, picture_errors, training_crops, two_phases
from crlsc_phy.train.heldout import CROPS_EACH, PSNR_CAP_DB, heldout_crops
from crlsc_phy.train.networks import BATCH_DIM, export_onnx, save_halved, save_tensors
from crlsc_phy.train.pipeline import Run, Step
from crlsc_phy.train.recipe import LoopRecipe, Recipe

__all__ = ["DetailTraining", "export", "measure", "steps"]

PHASES = ("decoder/alone", "decoder/reconstruction")
COMMITMENT_WEIGHT = 0.05
WHOLE_SHARE = 0.7
"""Fraction of a batch that keeps every token. The rest loses levels or tokens, so that the decoder degrades gently."""
HIGHEST_BIT_ERROR_RATE = 0.02


def steps(recipe: Recipe) -> list[Step]:
    """Return the training steps of the task."""
    decoder = recipe.decoder
    shared = {"broken_share": decoder.broken_share, "seed": recipe.seed}
    alone = {"detail": decoder.detail, "loop": decoder.alone, **shared}
    conditioned = {"loop": decoder.conditioned, **shared}
    return two_phases(recipe, PHASES, DETAIL, _training, (alone, conditioned))


def _training(run: Run, semantic: Semantics | None) -> DetailTraining:
    decoder = run.recipe.decoder
    loop = decoder.alone if semantic is None else decoder.conditioned
    return DetailTraining(decoder.detail, training_crops(run), semantic, loop, run.recipe.seed, decoder.broken_share)


def export(run: Run, folder: Path) -> None:
    """Write the codebooks, weights and graphs of the detail coder into the folder of a bundle."""
    made = run.folder / PHASES[1]
    detail = DetailCoder(run.recipe.decoder.detail).eval()
    detail.load_state_dict(load_file(made / DETAIL))
    save_tensors({"codebooks": detail.quantiser.codebooks}, folder / CODEBOOKS)
    save_halved(detail, folder / DETAIL, leave_out="quantiser.")
    height, width = (torch.export.Dim(name, min=1, max=4096) for name in ("h", "w"))
    image, shape = {"image": torch.zeros(2, 3, 64, 48)}, {0: BATCH_DIM, 2: 8 * height, 3: 8 * width}
    export_onnx(detail.analysis, image, (shape,), folder / "analysis.onnx", made / "analysis.onnx")
    latent, semantic = torch.zeros(2, detail.config.latent_dim, 8, 6), torch.zeros(2, detail.config.semantic_dim)
    inputs, shapes = {"latent": latent, "semantic": semantic}, ({0: BATCH_DIM, 2: height, 3: width}, {0: BATCH_DIM})
    export_onnx(detail.synthesis, inputs, shapes, folder / "synthesis.onnx", made / "synthesis.onnx")


def measure(codec: SemanticCodec, run: Run) -> dict[str, Any]:
    """Return what :func:`reconstruction` measures on held-out crops, by the longest side of the photographs."""
    return {side: reconstruction(codec, crops) for side, crops in heldout_crops(run.recipe, run.data).items()}


def reconstruction(codec: SemanticCodec, crops: UInt8Image) -> dict[str, Any]:
    """Measure the PSNR of crops by the number of levels sent, and that of WebP files of at most as many bytes.

    Args:
        codec: Codec of the bundle.
        crops: uint8 [N, H, W, 3], ``CROPS_EACH`` of each photograph.

    Returns:
        Bytes, bits per pixel and PSNR in dB by levels. Bytes are those of the complete frame: header, air code, tokens
        and CRCs.
    """
    result: dict[str, Any] = {"photos": len(crops) // CROPS_EACH, "crops": len(crops), "levels": {}}
    for levels in range(codec.levels + 1):
        frames = [codec.encode(crop, levels=levels) for crop in crops]
        psnr = [
            min(psnr_db(crop, codec.decode(frame).image), PSNR_CAP_DB)
            for crop, frame in zip(crops, frames, strict=True)
        ]
        size = len(frames[0].to_bytes())
        result["levels"][str(levels)] = {
            "bytes": size,
            "bits_per_pixel": round(8 * size / crops[0, ..., 0].size, 4),
            "psnr_db": mean_interval(np.array(psnr), groups=CROPS_EACH),
        }
    webp = [_webp_psnr(crop, result["levels"][str(codec.levels)]["bytes"]) for crop in crops]
    fit = np.array([value for value in webp if value is not None])
    result["webp"] = {"fit": len(fit), "psnr_db": mean_interval(fit) if len(fit) else None}
    return result


def _webp_psnr(image: UInt8Image, limit: int) -> float | None:
    """Return the PSNR in dB of the best WebP file of at most ``limit`` bytes; None if the smallest is larger."""
    best = None
    for quality in range(0, 101, 2):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "webp", quality=quality, method=6)
        if file.tell() <= limit:
            value = min(psnr_db(image, np.asarray(Image.open(file).convert("RGB"))), PSNR_CAP_DB)
            best = value if best is None else max(best, value)
    return best


class DetailTraining(CoderTraining):
    """Training of a :class:`DetailCoder`.

    Args:
        config: Sizes of the coder.
        crops: Sampler of the batches.
        semantic: Semantic vectors of crops. If None, the whole coder is trained with the zero vector, otherwise the
            decoder alone.
        loop: Budget.
        seed: Seed of the batches.
        broken_share: Fraction of a batch in which bits of the tokens are flipped.
    """

    coder: DetailCoder

    def __init__(
        self,
        config: DetailConfig,
        crops: CropSampler,
        semantic: Semantics | None,
        loop: LoopRecipe,
        seed: int = 0,
        broken_share: float = 0.0,
    ) -> None:
        super().__init__(DetailCoder(config), semantic, loop, seed)
        self.crops, self.broken_share = crops, broken_share
        self.sender = torch.nn.ModuleList([self.coder.analysis, self.coder.quantiser])
        self.sender.requires_grad_(semantic is None)

    def step_loss(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return root mean square error plus commitment of one batch of crops, the commitment, and the PSNR in dB."""
        self.sender.train(self.semantic is None and self.training)
        batch, config = self.loop.batch, self.coder.config
        images = self.crops.batch(batch, generator)
        vectors = self.received(images, config.semantic_dim, generator)
        keep = erasure_mask(batch, config.levels, images.shape[-1] // 8, generator)
        flips = bit_errors(round(batch * self.broken_share), keep, config.codebook_bits, generator)
        images, vectors, keep, flips = (part.to(self.device) for part in (images, vectors, keep, flips))
        decoded, commitment = self.coder(images, vectors, keep, flips)
        error, mse = picture_errors(decoded, images)
        whole = keep.flatten(1).all(dim=1) & (flips == 0).flatten(1).all(dim=1)
        psnr = -10 * mse.detach()[whole].log10().mean()
        return {"loss": error + COMMITMENT_WEIGHT * commitment, "commitment": commitment, "psnr_db": psnr}


def erasure_mask(count: int, levels: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw which tokens arrive.

    Most samples are whole. Half of the others lose a suffix of the levels (a lower rate). The other half lose tokens at
    random places, each with the finer levels of its place.

    Args:
        count: Number of samples, N.
        levels: Residual codebooks, L.
        size: Tokens along each side of a crop.
        generator: Source of all choices.

    Returns:
        bool [N, L, size, size], False where a token is lost.
    """
    keep = torch.ones(count, levels, size, size, dtype=torch.bool)
    for index in range(round(count * WHOLE_SHARE), count):
        if torch.rand((), generator=generator) < 0.5:
            keep[index, int(torch.randint(levels, (), generator=generator)) :] = False
        else:
            share = torch.rand((), generator=generator)
            keep[index] = torch.rand(levels, size, size, generator=generator) > 0.5 * share
    return keep.cumprod(dim=1).bool()


def bit_errors(broken: int, keep: Tensor, bits: int, generator: torch.Generator) -> Tensor:
    """Draw which bits of the tokens arrive flipped, as in a receiver that passes on blocks whose CRC fails.

    Args:
        broken: Number of samples with errors, the first ones, at rates of up to ``HIGHEST_BIT_ERROR_RATE``.
        keep: Tokens that arrive, bool [N, L, h, w].
        bits: Bits of a token.
        generator: Source of all choices.

    Returns:
        Mask of the flipped bits of each token, int64 [N, L, h, w].
    """
    flips = torch.zeros(keep.shape, dtype=torch.int64)
    for index in range(broken):
        rate = HIGHEST_BIT_ERROR_RATE * torch.rand((), generator=generator)
        wrong = torch.rand(*keep.shape[1:], bits, generator=generator) < rate
        flips[index] = (wrong << torch.arange(bits)).sum(dim=3)
    return flips
