"""The ``analog`` stage: the analog coder is trained on crops, through what the modem does to its symbols.

It is trained in the two phases of :mod:`crlsc_phy.train.coders`.

Results: ``analog/alone/analog.safetensors``, ``analog/conditioned/analog.safetensors``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor

from crlsc_phy.bundle import ANALOG
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.data import CropSampler
from crlsc_phy.frame import SYMBOL
from crlsc_phy.images import UInt8Image
from crlsc_phy.quality.intervals import mean_interval
from crlsc_phy.quality.metrics import psnr_db
from crlsc_phy.semantic.analog_coder import AnalogCoder, AnalogConfig
from crlsc_phy.train.air import plain_noise, send, what_a_modem_meets
from crlsc_phy.train.coders import CoderTraining, Semantics, picture_errors, training_crops, two_phases
from crlsc_phy.train.heldout import CROPS_EACH, PSNR_CAP_DB, heldout_crops
from crlsc_phy.train.networks import BATCH_DIM, export_onnx, save_halved
from crlsc_phy.train.pictures import photographs
from crlsc_phy.train.pipeline import Run, Step
from crlsc_phy.train.recipe import LoopRecipe, Recipe

__all__ = [
    "AnalogTraining",
    "analog_psnr_db",
    "export",
    "export_coder",
    "measure",
    "picture_quality",
    "start_linear",
    "steps",
]

PHASES = ("analog/alone", "analog/conditioned")
SIZES = (64, 128)
"""Sides of the crops in pixels. The larger ones show the spectrum of a larger picture, where photographs have them."""
LARGE_SHARE = 0.2
"""Fraction of the batches with large crops."""
RATE_SHARES = {1: 0.45, 0.75: 0.1, 0.5: 0.25, 0.375: 0.08, 0.25: 0.07, 0.125: 0.05}
"""Probability of each rate, as a fraction of the highest rate."""
BLOCKS_RATE, SPECTRUM_RATE = 0.03, 0.2
"""Factors of the learning rate for the linear frame."""
STATISTICS_CROPS = 3000
SNRS_DB = (-5, 0, 5, 10, 15, 20)


def steps(recipe: Recipe) -> list[Step]:
    """Return the steps of the stage; none if ``analog.alone`` has no steps."""
    analog = recipe.analog
    if not analog.alone.steps:
        return []
    alone = {"coder": analog.coder, "loop": analog.alone, "seed": recipe.seed}
    conditioned = {"loop": analog.conditioned, "seed": recipe.seed}
    return two_phases(recipe, PHASES, ANALOG, _training, (alone, conditioned))


def _training(run: Run, semantic: Semantics | None) -> AnalogTraining:
    analog = run.recipe.analog
    loop = analog.alone if semantic is None else analog.conditioned
    photos = photographs(run.recipe.data.photos, run.data).values()
    largest = max(min(photo.shape[:2]) for photo in photos)
    crops = [training_crops(run, size) for size in SIZES if size <= max(largest, SIZES[0])]
    module = AnalogTraining(analog.coder, crops, semantic, loop, run.recipe.seed)
    if semantic is None:
        start_linear(module.coder, module.crops[0], run.recipe.seed)
    return module


def export(run: Run, folder: Path) -> None:
    """Write the files of the analog coder into the folder of a bundle."""
    coder = AnalogCoder(run.recipe.analog.coder)
    coder.load_state_dict(load_file(run.folder / PHASES[1] / ANALOG))
    export_coder(coder, folder, run.folder / PHASES[1])


def export_coder(coder: AnalogCoder, folder: Path, made: Path) -> None:
    """Write the weights of an analog coder, rounded to half precision, and its graphs into the folder of a bundle.

    Args:
        coder: Trained coder.
        folder: Folder of the bundle.
        made: Folder that may have the graphs of these weights already, see
            :func:`crlsc_phy.train.networks.export_onnx`.
    """
    save_halved(coder.eval(), folder / ANALOG)
    height, width = (torch.export.Dim(name, min=1, max=4096) for name in ("h", "w"))
    image, shape = {"image": torch.zeros(2, 3, 64, 48)}, {0: BATCH_DIM, 2: 8 * height, 3: 8 * width}
    export_onnx(coder.sender, image, (shape,), folder / "analog_sender.onnx", made / "analog_sender.onnx")
    inputs = {
        "components": torch.zeros(2, 2 * coder.config.symbols, 8, 6),
        "semantic": torch.zeros(2, coder.config.semantic_dim),
        "state": torch.zeros(2, 3),
    }
    shapes = ({0: BATCH_DIM, 2: height, 3: width}, {0: BATCH_DIM}, {0: BATCH_DIM})
    export_onnx(coder.receiver, inputs, shapes, folder / "analog_receiver.onnx", made / "analog_receiver.onnx")


def measure(codec: SemanticCodec, run: Run) -> dict[str, Any]:
    """Return the PSNR of held-out crops over white noise, by longest side, symbols for 8 x 8 pixels, and Es/N0."""
    return {
        side: {
            str(rate): {
                str(snr): mean_interval(analog_psnr_db(codec, crops, rate, snr), groups=CROPS_EACH) for snr in SNRS_DB
            }
            for rate in (codec.analog.most // 2, codec.analog.most)
        }
        for side, crops in heldout_crops(run.recipe, run.data).items()
    }


def analog_psnr_db(
    codec: SemanticCodec, crops: UInt8Image, rate: int, snr_db: float, seed: int = 0
) -> npt.NDArray[np.float64]:
    """Measure the PSNR of crops that are sent as analog detail over white noise of a known power.

    Args:
        codec: Codec of the bundle.
        crops: uint8 [N, H, W, 3].
        rate: Complex symbols for 8 x 8 pixels.
        snr_db: Es/N0 in dB.
        seed: Seed of the noise.

    Returns:
        PSNR in dB, float64 [N].
    """
    generator, noise, result = np.random.default_rng(seed), 10 ** (-snr_db / 10), []
    for crop in crops:
        frame = codec.encode(crop, levels=rate, mode="analog")
        pairs = generator.normal(scale=np.sqrt(noise / 2), size=(len(frame.symbols), 2))
        estimates = (frame.symbols + pairs[:, 0] + 1j * pairs[:, 1]) / (1 + noise)
        received = dataclasses.replace(frame, detail=estimates.astype(SYMBOL).tobytes())
        result.append(min(psnr_db(crop, codec.decode(received, snr_db).image), PSNR_CAP_DB))
    return np.array(result)


class AnalogTraining(CoderTraining):
    """Training of an :class:`AnalogCoder`.

    Args:
        config: Sizes of the coder.
        crops: Samplers of the batches by size of the crop; larger crops come in smaller batches.
        semantic: Semantic vectors of crops. If None, the whole coder is trained with the zero vector, otherwise the
            receiver alone.
        loop: Budget; its batch is the number of crops of the first size.
        seed: Seed of the batches.
    """

    coder: AnalogCoder

    def __init__(
        self,
        config: AnalogConfig,
        crops: Sequence[CropSampler],
        semantic: Semantics | None,
        loop: LoopRecipe,
        seed: int = 0,
    ) -> None:
        super().__init__(AnalogCoder(config), semantic, loop, seed)
        self.crops = crops
        self.coder.sender.requires_grad_(semantic is None)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameters in groups, of which the linear frame has a lower learning rate.

        The frame is optimal from the start. A full rate would destroy it before the networks have learnt anything.
        """
        groups: dict[float, list[Tensor]] = {}
        for name, parameter in self.coder.named_parameters():
            if parameter.requires_grad:
                part = BLOCKS_RATE if ".blocks." in name else SPECTRUM_RATE if ".spectrum." in name else 1.0
                groups.setdefault(part, []).append(parameter)
        return [
            {"params": group, "lr": part * self.loop.learning_rate, "weight_decay": 1e-4 if part == 1 else 0.0}
            for part, group in groups.items()
        ]

    def step_loss(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the root mean square error of one batch of crops, and its PSNR in dB."""
        config = self.coder.config
        large = len(self.crops) > 1 and bool(torch.rand((), generator=generator) < LARGE_SHARE)
        crops = self.crops[large]
        count = max(1, self.loop.batch * self.crops[0].size ** 2 // crops.size**2)
        images = crops.batch(count, generator)
        vectors = self.received(images, config.semantic_dim, generator)
        rates = (torch.tensor(list(RATE_SHARES)) * config.symbols).long().clamp(min=1)
        rate = rates[torch.multinomial(torch.tensor(list(RATE_SHARES.values())), count, True, generator=generator)]
        images, vectors, rate = (part.to(self.device) for part in (images, vectors, rate))
        # Mixed precision has no complex symbols, and too few digits for a linear code at high SNR.
        with torch.autocast(self.device.type, enabled=False):
            decoded = send(self.coder, images, vectors, rate, lambda symbols: what_a_modem_meets(symbols, generator))
        loss, mse = picture_errors(decoded, images)
        return {"loss": loss, "psnr_db": -10 * mse.detach().log10().mean()}


def start_linear(coder: AnalogCoder, crops: CropSampler, seed: int) -> None:
    """Make a coder the best linear code for crops, from which training starts.

    Args:
        coder: Coder to change.
        crops: Sampler of the crops.
        seed: Seed of the crops.
    """
    coder.start_linear(crops.batch(STATISTICS_CROPS, torch.Generator().manual_seed(seed)))


@torch.no_grad()
def picture_quality(coder: AnalogCoder, images: Tensor, rate: int, snr_db: float, seed: int = 0) -> Tensor:
    """Measure the PSNR of images over white noise, without a semantic vector.

    Args:
        coder: Coder to measure.
        images: float32 [N, 3, H, W] in 0..1.
        rate: Complex symbols for 8 x 8 pixels.
        snr_db: Es/N0 in dB.
        seed: Seed of the noise.

    Returns:
        PSNR in dB, float32 [N].
    """
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.zeros(len(images), coder.config.semantic_dim)
    rates = torch.full((len(images),), rate)
    decoded = send(coder, images, vectors, rates, lambda symbols: plain_noise(symbols, snr_db, generator))
    mse = (decoded.clamp(0, 1) - images).square().mean(dim=(1, 2, 3))
    return -10 * mse.clamp(min=1e-6).log10()
