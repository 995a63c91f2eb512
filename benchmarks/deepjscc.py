"""Analog detail against Kaira's DeepJSCC: the same crops, loss, optimiser and CPU time, then held-out crops over AWGN.

    pip install --no-deps pykaira compressai torch-geometric torchaudio ...   # its own dependencies are many
    python benchmarks/deepjscc.py --data data [--minutes 20] [--seed 1] [--out benchmarks/results/deepjscc.json]

Kaira's model is that of E. Bourtsoulatze et al. (IEEE Trans. Cognitive Communications and Networking 2019) as pykaira
0.2.1 publishes it, with 16 filters: at stride 4 they are 2,048 complex symbols for 64 x 64 pixels, CBR 1/6. It has no
input for the SNR and trains at a new one within 0 to 20 dB each step. Ours trains from scratch for the same CPU time
through its whole set of impairments, which AWGN is not the half of, and for all rates. The bundle's coder, trained
longer by its recipe, stands beside them, through the codec's own encode and decode.

SNR is Es/N0 of a complex symbol. Kaira's channel adds noise to real numbers at the ratio of their power to its
variance; two of them make a symbol, with twice of both, so that its SNR is the same figure.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lab
import numpy as np
import torch
from numpy.typing import NDArray
from report import machine, write_json
from torch import Tensor

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.images import UInt8Image
from crlsc_phy.link.intervals import mean_interval
from crlsc_phy.link.plots import drawing
from crlsc_phy.semantic.analog import LearnedAnalog
from crlsc_phy.semantic.analog_coder import AnalogCoder, AnalogConfig
from crlsc_phy.train.analog import SIZES, AnalogTraining, analog_psnr_db, picture_quality, start_linear
from crlsc_phy.train.data import CropSampler, load_photos, load_pictograms
from crlsc_phy.train.heldout import CROPS_EACH, heldout_crops
from crlsc_phy.train.loop import StepModule
from crlsc_phy.train.recipe import LoopRecipe, Recipe

SNRS_DB = (-5, 0, 5, 10, 15, 20)
FILTERS = 16
LOOP = LoopRecipe(batch=32, learning_rate=1e-3)
RATES = {"1/6": 32, "1/12": 16}

Quality = Callable[[UInt8Image, float], NDArray[np.float64]]
"""PSNR of each crop at an Es/N0."""


class KairaTraining(StepModule):
    """Kaira's DeepJSCC, trained as ours is."""

    def __init__(self, crops: CropSampler, loop: LoopRecipe, seed: int) -> None:
        from kaira.channels import AWGNChannel
        from kaira.constraints import AveragePowerConstraint
        from kaira.models import DeepJSCCModel
        from kaira.models.image import Bourtsoulatze2019DeepJSCCDecoder, Bourtsoulatze2019DeepJSCCEncoder

        super().__init__(loop, seed)
        self.crops = crops
        self.channel = AWGNChannel(snr_db=10.0)
        self.model = DeepJSCCModel(
            Bourtsoulatze2019DeepJSCCEncoder(FILTERS),
            AveragePowerConstraint(1.0),
            self.channel,
            Bourtsoulatze2019DeepJSCCDecoder(FILTERS),
        )

    def step_loss(self, generator: torch.Generator) -> dict[str, Tensor]:
        images = self.crops.batch(self.loop.batch, generator)
        self.channel.snr_db = 20 * float(torch.rand((), generator=generator))
        mse = (self.model(images) - images).square().mean(dim=(1, 2, 3))
        return {"loss": (mse + 1e-5).sqrt().mean()}

    def quality(self, crops: UInt8Image, snr_db: float) -> NDArray[np.float64]:
        """PSNR of each crop."""
        images = _planes(crops)
        self.channel.snr_db = float(snr_db)
        torch.manual_seed(self.seed)
        with torch.no_grad():
            mse = (self.model(images) - images).square().mean(dim=(1, 2, 3))
        return np.asarray(-10 * mse.clamp(min=1e-6).log10(), np.float64)


def train(module: StepModule, minutes: float) -> dict[str, Any]:
    """Steps for ``minutes`` of CPU time with the learning rate of the recipes, along the time instead of the steps."""
    groups = [{"lr": module.loop.learning_rate, **group} for group in module.parameter_groups()]
    rates = [group["lr"] for group in groups]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=1e-4)
    start, step = time.process_time(), 0
    while (part := (time.process_time() - start) / (60 * minutes)) < 1:
        factor = min(1.0, part / 0.02 + 0.01) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = factor * rate
        optimiser.zero_grad()
        torch.manual_seed(module.seed * 1_000_003 + step)
        module.step_loss(torch.Generator().manual_seed(module.seed * 1_000_003 + step))["loss"].backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        step += 1
    return {
        "steps": step,
        "cpu_minutes": round((time.process_time() - start) / 60, 2),
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
    }


def measure(name: str, cbr: str, quality: Quality, crops: dict[str, UInt8Image]) -> list[dict[str, Any]]:
    """Mean PSNR and interval at every SNR and reduction."""
    return [
        {
            "model": name,
            "cbr": cbr,
            "longest_side": side,
            "snr_db": snr,
            "psnr_db": mean_interval(quality(images, snr), groups=CROPS_EACH),
        }
        for side, images in crops.items()
        for snr in SNRS_DB
    ]


def _of_coder(coder: AnalogCoder, rate: int, crops: UInt8Image, snr_db: float) -> NDArray[np.float64]:
    return np.asarray(picture_quality(coder, _planes(crops), rate, snr_db).numpy(), np.float64)


def _of_bundle(codec: SemanticCodec, rate: int, crops: UInt8Image, snr_db: float) -> NDArray[np.float64]:
    return analog_psnr_db(codec, crops, rate, snr_db)


def _planes(crops: UInt8Image) -> Tensor:
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def draw(rows: list[dict[str, Any]], target: Path) -> None:
    """PSNR against SNR at both reductions."""
    with drawing(target, 1000, 460) as figure:
        sides = list(dict.fromkeys(row["longest_side"] for row in rows))
        for axes, side in zip(figure.subplots(1, len(sides), sharey=True), sides, strict=True):
            here = [row for row in rows if row["longest_side"] == side]
            for name, cbr in dict.fromkeys((row["model"], row["cbr"]) for row in here):
                line = [row for row in here if (row["model"], row["cbr"]) == (name, cbr)]
                style = "s--" if name.startswith("Kaira") else "o-" if cbr == "1/6" else "o:"
                axes.plot(
                    [row["snr_db"] for row in line],
                    [row["psnr_db"][0] for row in line],
                    style,
                    markersize=4,
                    label=f"{name}, CBR {cbr}",
                )
            axes.set(xlabel="Es/N0 [dB]", title=f"Photographs of {side} px, crops of 64 x 64")
        figure.axes[0].set(ylabel="PSNR [dB]")
        figure.axes[0].legend(fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of crlsc-train data (%(default)s)")
    parser.add_argument("--minutes", type=float, default=20.0, help="CPU time of each training (%(default)g)")
    parser.add_argument("--bundle", type=Path, default=Path("models/default"), help="bundle to show (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/deepjscc.json"))
    options = parser.parse_args()

    torch.set_num_threads(1)
    codec = SemanticCodec.load(options.bundle)
    photos = list(load_photos(options.data, "train").values())
    pictograms = np.concatenate([load_pictograms(options.data, vendor).images for vendor in ("google", "twitter")])
    crops = [CropSampler(photos, pictograms, size) for size in SIZES]
    asked = heldout_crops(Recipe(), options.data)
    rows: list[dict[str, Any]] = []
    trainings: dict[str, Any] = {}

    torch.manual_seed(options.seed)
    theirs = KairaTraining(crops[0], LOOP, options.seed)
    trainings["Kaira DeepJSCC"] = train(theirs, options.minutes)
    rows += measure("Kaira DeepJSCC", "1/6", theirs.eval().quality, asked)

    torch.manual_seed(options.seed)
    ours = AnalogTraining(AnalogConfig(), crops, None, LOOP, options.seed)
    start_linear(ours.coder, crops[0], options.seed)
    models = {"ours, before training": None, "ours": options.minutes}
    for name, minutes in models.items():
        if minutes is not None:
            trainings[name] = train(ours, minutes)
        for cbr, rate in RATES.items():
            rows += measure(name, cbr, partial(_of_coder, ours.coder, rate), asked)

    if isinstance(codec.analog, LearnedAnalog):
        for cbr, rate in RATES.items():
            rows += measure("bundle", cbr, partial(_of_bundle, codec, rate), asked)

    lab.show("Analog detail", [{**row, "psnr_db": row["psnr_db"][0]} for row in rows])
    write_json(options.out, {"machine": machine(), "seed": options.seed, "trainings": trainings, "rows": rows})
    draw(rows, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
