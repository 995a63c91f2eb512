"""Quality of the tokens by training: fewer steps, fewer photographs, less capacity.

    crlsc-train data
    python benchmarks/learning_curve.py --data data [--work runs/learning_curve] [--seed 0]

Each training is the first phase of the default recipe's reconstruction with one thing changed, and is measured as the
recipe's is: crops of held-out photographs, at one and at four levels. A training that was cut off goes on. Bits per
pixel are those of the tokens alone: 9 bits a level for 64 pixels.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import bench
import numpy as np
import torch
from torch import Tensor

from crlsc_phy.data import CropSampler
from crlsc_phy.images import UInt8Image
from crlsc_phy.quality.intervals import mean_interval
from crlsc_phy.semantic.detail import DetailCoder, DetailConfig
from crlsc_phy.train.heldout import CROPS_EACH, heldout_crops
from crlsc_phy.train.loop import fit
from crlsc_phy.train.pictures import photographs, squares
from crlsc_phy.train.recipe import Recipe, load_recipe
from crlsc_phy.train.tasks.reconstruction import DetailTraining

PHOTOGRAPHS = 88
STEPS = 1000
POINTS = (
    *((steps, PHOTOGRAPHS, 1.0) for steps in (250, 500, STEPS, 2000)),
    *((STEPS, photos, 1.0) for photos in (22, 44)),
    (STEPS, PHOTOGRAPHS, 0.5),
)
"""Steps, photographs, and width of the networks over the recipe's."""
LEVELS = (1, 4)


def trained(recipe: Recipe, data: Path, work: Path, point: tuple[int, int, float]) -> tuple[DetailCoder, float]:
    """Train the coder of a point; return it and the CPU-seconds."""
    steps, count, width = point
    photos = list(photographs(recipe.data.photos, data).values())
    # In an order of their own, so that fewer are a part of more.
    chosen = [photos[row] for row in np.random.default_rng(recipe.seed).permutation(len(photos))[:count]]
    crops = CropSampler(chosen, squares(recipe.data.public, data))
    sizes: DetailConfig = recipe.decoder.detail
    sizes = replace(sizes, narrow=round(sizes.narrow * width), wide=round(sizes.wide * width))
    torch.manual_seed(recipe.seed)
    module = DetailTraining(sizes, crops, None, replace(recipe.decoder.alone, steps=steps), recipe.seed)
    fit(module, work / f"{steps}-{count}-{width:g}", threads=1)
    return module.coder.eval(), module.cpu_seconds


@torch.inference_mode()
def psnr_db(coder: DetailCoder, crops: UInt8Image, levels: int) -> list[float]:
    """Return the mean PSNR of crops with an interval over photographs."""
    images = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    parts = [_reconstructed(coder, part, levels) for part in images.split(64)]
    mse = (torch.cat(parts) - images).square().mean(dim=(1, 2, 3))
    return mean_interval(np.asarray(-10 * mse.clamp(min=1e-6).log10(), np.float64), groups=CROPS_EACH)


def _reconstructed(coder: DetailCoder, images: Tensor, levels: int) -> Tensor:
    side = images.shape[-1] // 8
    keep = torch.zeros(len(images), coder.config.levels, side, side, dtype=torch.bool)
    keep[:, :levels] = True
    decoded, _ = coder(
        images, torch.zeros(len(images), coder.config.semantic_dim), keep, torch.zeros(keep.shape, dtype=torch.int64)
    )
    return (255 * decoded.clamp(0, 1)).round() / 255


def draw(benchmark: bench.Benchmark, rows: list[dict[str, Any]]) -> None:
    """Draw PSNR against steps and against photographs."""
    lines = {"steps": (PHOTOGRAPHS, None), "photographs": (None, STEPS)}
    with benchmark.figure(1000, 460) as figure:
        for axes, (name, (photos, steps)) in zip(figure.subplots(1, 2, sharey=True), lines.items(), strict=True):
            line = [row for row in rows if row["width"] == 1 and photos in (None, row["photographs"])]
            line = sorted((row for row in line if steps in (None, row["steps"])), key=lambda row: row[name])
            for side in sorted({row["longest_side"] for row in rows}):
                for levels in LEVELS:
                    here = [row for row in line if (row["longest_side"], row["levels"]) == (side, levels)]
                    values = [row["psnr_db"][0] for row in here]
                    axes.plot([row[name] for row in here], values, "o-", label=f"{side} px, {levels} of 4 levels")
            axes.set(xlabel=name, xscale="log")
            axes.set_xticks(sorted({row[name] for row in line}), [str(v) for v in sorted({row[name] for row in line})])
            axes.minorticks_off()
        figure.axes[0].set(ylabel="PSNR of held-out crops [dB]", title=f"{PHOTOGRAPHS} photographs")
        figure.axes[1].set(title=f"{STEPS} steps")
        figure.axes[0].legend(fontsize=8)


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__, seed=0)
    benchmark.add("--data", Path("data"), "folder that `crlsc-train data` filled")
    benchmark.add("--work", Path("runs/learning_curve"), "folder of checkpoints", quick=Path("out/learning_curve"))
    options = benchmark.parse()

    recipe = load_recipe("default", [f"seed={options.seed}"])
    asked = heldout_crops(recipe, options.data)
    rows: list[dict[str, Any]] = []
    for point in POINTS:
        if options.quick:
            point = (2, *point[1:])
        coder, seconds = trained(recipe, options.data, options.work, point)
        names = dict(zip(("steps", "photographs", "width"), point, strict=True))
        names |= {"parameters": sum(each.numel() for each in coder.parameters()), "cpu_s": round(seconds)}
        rows += [
            names | {"longest_side": int(side), "levels": levels, "psnr_db": psnr_db(coder, crops, levels)}
            for side, crops in asked.items()
            for levels in LEVELS
        ]
    bench.show("Detail coder", rows)
    benchmark.write({"rows": rows})
    draw(benchmark, rows)


if __name__ == "__main__":
    main()
