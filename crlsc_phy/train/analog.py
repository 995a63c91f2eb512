"""The ``analog`` stage: the analog coder learns on crops, through what the modem does to its symbols.

Like the detail coder it trains in two phases: alone, with the zero vector, and then its receiver with the vectors that
the air code of each crop decodes to. What travels is settled in the first.

Results: ``analog/alone/analog.safetensors``, ``analog/conditioned/analog.safetensors``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
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
from crlsc_phy.train.heldout import CROPS_EACH, PSNR_CAP_DB, heldout_crops
from crlsc_phy.train.loop import StepModule, fit
from crlsc_phy.train.networks import BATCH_DIM, export_onnx, save_halved, save_weights
from crlsc_phy.train.pictures import photographs
from crlsc_phy.train.pipeline import WORK, Run, Step
from crlsc_phy.train.recipe import LoopRecipe, Recipe
from crlsc_phy.train.tasks.reconstruction import received_semantics, training_crops

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

SIZES = (64, 128)
"""Sides of the crops: the larger ones, where photographs have them, teach what a larger picture's spectrum is like."""
LARGE_SHARE = 0.2
SILENT_SHARE = 0.1
RATE_SHARES = {1: 0.45, 0.75: 0.1, 0.5: 0.25, 0.375: 0.08, 0.25: 0.07, 0.125: 0.05}
"""How often a picture is sent at a part of the highest rate."""
BLOCKS_RATE, SPECTRUM_RATE = 0.03, 0.2
"""Parts of the learning rate at which the linear frame is trained."""
STATISTICS_CROPS = 3000
SNRS_DB = (-5, 0, 5, 10, 15, 20)


def steps(recipe: Recipe) -> list[Step]:
    """What the stage consists of; nothing without steps of ``analog.alone``."""
    analog, sets = recipe.analog, (*recipe.data.public, *recipe.data.photos)
    if not analog.alone.steps:
        return []
    alone = {"coder": analog.coder, "loop": analog.alone, "seed": recipe.seed}
    conditioned = {"loop": analog.conditioned, "seed": recipe.seed}
    needs = ("analog/alone", "skb", f"encoder/{recipe.encoder_name}")
    return [
        Step("analog/alone", _alone, options=alone, sets=sets, everywhere=True),
        Step("analog/conditioned", _conditioned, options=conditioned, needs=needs, sets=sets, everywhere=True),
    ]


def _alone(run: Run, folder: Path) -> None:
    module = _training(run, run.recipe.analog.alone, None)
    start_linear(module.coder, module.crops[0], run.recipe.seed)
    fit(module, folder / WORK, run.recipe.threads)
    save_weights(module.coder, folder / ANALOG)


def _conditioned(run: Run, folder: Path) -> None:
    semantic = received_semantics(run.load_encoder(), run.air_code)
    module = _training(run, run.recipe.analog.conditioned, semantic)
    module.coder.load_state_dict(load_file(run.folder / "analog/alone" / ANALOG))
    fit(module, folder / WORK, run.recipe.threads)
    save_weights(module.coder, folder / ANALOG)


def _training(run: Run, loop: LoopRecipe, semantic: Callable[[Tensor], Tensor] | None) -> AnalogTraining:
    torch.manual_seed(run.recipe.seed)
    photos = photographs(run.recipe.data.photos, run.data).values()
    largest = max(min(photo.shape[:2]) for photo in photos)
    crops = [training_crops(run, size) for size in SIZES if size <= max(largest, SIZES[0])]
    return AnalogTraining(run.recipe.analog.coder, crops, semantic, loop, run.recipe.seed)


def export(run: Run, folder: Path) -> None:
    """Write what the codec needs of it."""
    coder, made = AnalogCoder(run.recipe.analog.coder), run.folder / "analog/conditioned"
    coder.load_state_dict(load_file(made / ANALOG))
    export_coder(coder, folder, made)


def export_coder(coder: AnalogCoder, folder: Path, made: Path) -> None:
    """Write the files of a bundle's analog coder; its weights are rounded to half precision.

    Args:
        coder: The trained coder.
        folder: The bundle.
        made: Folder that may hold the graphs of these weights already, taken from another bundle.
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
    """PSNR of held-out crops over white noise, by reduction of the photographs, symbols a block and Es/N0 in dB."""
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
    """PSNR of each crop after white noise on its ``rate`` complex symbols a block, the receiver knowing its SNR."""
    generator, noise, result = np.random.default_rng(seed), 10 ** (-snr_db / 10), []
    for crop in crops:
        frame = codec.encode(crop, levels=rate, mode="analog")
        pairs = generator.normal(scale=np.sqrt(noise / 2), size=(len(frame.symbols), 2))
        estimates = (frame.symbols + pairs[:, 0] + 1j * pairs[:, 1]) / (1 + noise)
        received = dataclasses.replace(frame, detail=estimates.astype(SYMBOL).tobytes())
        result.append(min(psnr_db(crop, codec.decode(received, snr_db).image), PSNR_CAP_DB))
    return np.array(result)


class AnalogTraining(StepModule):
    """Trains an :class:`AnalogCoder`.

    Args:
        config: Sizes of the coder.
        crops: Where batches come from, by size of the crop; larger crops come in smaller batches.
        semantic: Crops float32 [N, 3, H, W] to semantic vectors float32 [N, S]; None trains the whole coder with the
            zero vector, otherwise the receiver alone is trained.
        loop: Budget; its batch is of crops of the first size.
        seed: Of the batches.
    """

    def __init__(
        self,
        config: AnalogConfig,
        crops: Sequence[CropSampler],
        semantic: Callable[[Tensor], Tensor] | None,
        loop: LoopRecipe,
        seed: int = 0,
    ) -> None:
        super().__init__(loop, seed)
        self.coder = AnalogCoder(config)
        self.crops, self.semantic = crops, semantic
        self.coder.sender.requires_grad_(semantic is None)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The linear frame is right from the start; a full rate would tear it before the networks know anything."""
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
        """Root mean square error of one batch of crops."""
        config = self.coder.config
        large = len(self.crops) > 1 and bool(torch.rand((), generator=generator) < LARGE_SHARE)
        crops = self.crops[large]
        count = max(1, self.loop.batch * self.crops[0].size ** 2 // crops.size**2)
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
