"""Reconstruction: the detail coder, a residual VQ-VAE conditioned on the semantic vector that a receiver decodes.

The coder trains in two phases. Alone, with a zero semantic vector, it needs nothing of the semantic stages and can
run beside them. Then its decoder alone is fine-tuned with the vectors that the air code of each crop decodes to: what
travels, the analysis and the codebooks, stays as it is, and any decoder made for it still fits.

Results: ``decoder/alone/detail.safetensors``, ``decoder/reconstruction/detail.safetensors``.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from crlsc_phy.bundle import CODEBOOKS
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.data import CropSampler
from crlsc_phy.images import UInt8Image
from crlsc_phy.knowledge import AirCode
from crlsc_phy.quality.intervals import mean_interval
from crlsc_phy.quality.metrics import psnr_db
from crlsc_phy.semantic.detail import DetailCoder, DetailConfig
from crlsc_phy.semantic.encoder import LocalEncoder
from crlsc_phy.train.heldout import CROPS_EACH, PSNR_CAP_DB, heldout_crops
from crlsc_phy.train.loop import StepModule, fit
from crlsc_phy.train.networks import BATCH_DIM, export_onnx, save_halved, save_tensors, save_weights
from crlsc_phy.train.pictures import photographs, squares
from crlsc_phy.train.pipeline import WORK, Run, Step
from crlsc_phy.train.recipe import LoopRecipe, Recipe

__all__ = ["DetailTraining", "export", "measure", "received_semantics", "steps", "training_crops"]

COMMITMENT_WEIGHT = 0.05
SILENT_SHARE = 0.1
WHOLE_SHARE = 0.7
"""Part of a batch trained with every token; the rest loses levels or tokens, and learns to degrade gently."""

HIGHEST_BIT_ERROR_RATE = 0.02


def steps(recipe: Recipe) -> list[Step]:
    """What training it consists of."""
    decoder, sets = recipe.decoder, (*recipe.data.public, *recipe.data.photos)
    shared = {"broken_share": decoder.broken_share, "seed": recipe.seed}
    alone = {"detail": decoder.detail, "loop": decoder.alone, **shared}
    conditioned = {"loop": decoder.conditioned, **shared}
    needs = ("decoder/alone", "skb", f"encoder/{recipe.encoder_name}")
    return [
        Step("decoder/alone", _alone, options=alone, sets=sets, everywhere=True),
        Step("decoder/reconstruction", _conditioned, options=conditioned, needs=needs, sets=sets, everywhere=True),
    ]


def _alone(run: Run, folder: Path) -> None:
    module = _training(run, run.recipe.decoder.alone, None)
    fit(module, folder / WORK, run.recipe.threads)
    save_weights(module.coder, folder / "detail.safetensors")


def _conditioned(run: Run, folder: Path) -> None:
    semantic = received_semantics(run.load_encoder(), run.air_code)
    module = _training(run, run.recipe.decoder.conditioned, semantic)
    module.coder.load_state_dict(load_file(run.folder / "decoder/alone/detail.safetensors"))
    fit(module, folder / WORK, run.recipe.threads)
    save_weights(module.coder, folder / "detail.safetensors")


def _training(run: Run, loop: LoopRecipe, semantic: Callable[[Tensor], Tensor] | None) -> DetailTraining:
    torch.manual_seed(run.recipe.seed)
    decoder = run.recipe.decoder
    return DetailTraining(decoder.detail, training_crops(run), semantic, loop, run.recipe.seed, decoder.broken_share)


def training_crops(run: Run, size: int = 64) -> CropSampler:
    """Crops of the training photographs and of the public pictures."""
    photos = photographs(run.recipe.data.photos, run.data)
    return CropSampler(list(photos.values()), squares(run.recipe.data.public, run.data), size)


def received_semantics(encoder: LocalEncoder, code: AirCode) -> Callable[[Tensor], Tensor]:
    """What a receiver knows of an image's meaning: the encoder's vector after the air code."""

    def semantic(images: Tensor) -> Tensor:
        size = (encoder.config.pixels,) * 2
        vectors = encoder(F.interpolate(images, size, mode="bilinear", antialias=True))
        return torch.from_numpy(code.decode(code.encode(vectors.numpy())))

    return semantic


def export(run: Run, folder: Path) -> None:
    """Write what the codec needs of it: codebooks, weights, and the graphs of analysis and synthesis."""
    detail = DetailCoder(run.recipe.decoder.detail).eval()
    made = run.folder / "decoder/reconstruction"
    detail.load_state_dict(load_file(made / "detail.safetensors"))
    save_tensors({"codebooks": detail.quantiser.codebooks}, folder / CODEBOOKS)
    save_halved(detail, folder / "detail.safetensors", leave_out="quantiser.")
    height, width = (torch.export.Dim(name, min=1, max=4096) for name in ("h", "w"))
    image, shape = {"image": torch.zeros(2, 3, 64, 48)}, {0: BATCH_DIM, 2: 8 * height, 3: 8 * width}
    export_onnx(detail.analysis, image, (shape,), folder / "analysis.onnx", made / "analysis.onnx")
    latent, semantic = torch.zeros(2, detail.config.latent_dim, 8, 6), torch.zeros(2, detail.config.semantic_dim)
    shapes = ({0: BATCH_DIM, 2: height, 3: width}, {0: BATCH_DIM})
    inputs = {"latent": latent, "semantic": semantic}
    export_onnx(detail.synthesis, inputs, shapes, folder / "synthesis.onnx", made / "synthesis.onnx")


def measure(codec: SemanticCodec, run: Run) -> dict[str, Any]:
    """PSNR of held-out crops by the levels sent, for each size that the photographs are reduced to."""
    return {side: reconstruction(codec, crops) for side, crops in heldout_crops(run.recipe, run.data).items()}


def reconstruction(codec: SemanticCodec, crops: UInt8Image) -> dict[str, Any]:
    """PSNR of crops by the number of levels sent, and of WebP at no more bytes than the whole frame.

    Bits per pixel count the complete frame: header, air code, tokens and CRCs.
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
    """PSNR of the best WebP file of at most ``limit`` bytes; None if the smallest is larger."""
    best = None
    for quality in range(0, 101, 2):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "webp", quality=quality, method=6)
        if file.tell() <= limit:
            value = min(psnr_db(image, np.asarray(Image.open(file).convert("RGB"))), PSNR_CAP_DB)
            best = value if best is None else max(best, value)
    return best


class DetailTraining(StepModule):
    """Trains a :class:`DetailCoder`.

    Args:
        config: Sizes of the coder.
        crops: Where batches come from.
        semantic: Crops float32 [N, 3, H, W] to semantic vectors float32 [N, S]; None trains the coder alone.
        loop: Budget.
        seed: Of the batches.
        broken_share: Part of a batch in which bits of the tokens are flipped.
    """

    def __init__(
        self,
        config: DetailConfig,
        crops: CropSampler,
        semantic: Callable[[Tensor], Tensor] | None,
        loop: LoopRecipe,
        seed: int = 0,
        broken_share: float = 0.0,
    ) -> None:
        super().__init__(loop, seed)
        self.broken_share = broken_share
        self.coder = DetailCoder(config)
        self.crops, self.semantic = crops, semantic
        self.sender = torch.nn.ModuleList([self.coder.analysis, self.coder.quantiser])
        self.sender.requires_grad_(semantic is None)

    def step_loss(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Root mean square error and commitment on one batch of crops."""
        self.sender.train(self.semantic is None and self.training)
        batch, levels = self.loop.batch, self.coder.config.levels
        images = self.crops.batch(batch, generator)
        if self.semantic is None:
            vectors = torch.zeros(batch, self.coder.config.semantic_dim)
        else:
            with torch.no_grad():
                vectors = self.semantic(images)
            # Some frames lose their semantic layer; zero is the vector that says so.
            vectors[torch.rand(batch, generator=generator) < SILENT_SHARE] = 0
        size = images.shape[-1] // 8
        keep = erasure_mask(batch, levels, size, generator)
        flips = bit_errors(round(batch * self.broken_share), keep, self.coder.config.codebook_bits, generator)
        images, vectors, keep, flips = (part.to(self.device) for part in (images, vectors, keep, flips))
        decoded, commitment = self.coder(images, vectors, keep, flips)
        mse = (decoded - images).square().mean(dim=(1, 2, 3))
        # The root weighs a smooth crop and a busy one alike, as the mean of PSNRs does.
        loss = (mse + 1e-5).sqrt().mean() + COMMITMENT_WEIGHT * commitment
        whole = keep.flatten(1).all(dim=1) & (flips == 0).flatten(1).all(dim=1)
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


def bit_errors(broken: int, keep: Tensor, bits: int, generator: torch.Generator) -> Tensor:
    """Which bits of the tokens arrive flipped: int64 in the shape of ``keep``, a mask a token.

    The first ``broken`` samples have them, at rates of up to ``HIGHEST_BIT_ERROR_RATE``: what a receiver sees that
    passes on blocks whose CRC fails.
    """
    flips = torch.zeros(keep.shape, dtype=torch.int64)
    for index in range(broken):
        rate = HIGHEST_BIT_ERROR_RATE * torch.rand((), generator=generator)
        wrong = torch.rand(*keep.shape[1:], bits, generator=generator) < rate
        flips[index] = (wrong << torch.arange(bits)).sum(dim=3)
    return flips
