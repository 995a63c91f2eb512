"""Analog detail against DeepJSCC: the same pictures, loss, optimiser, schedule and CPU time, then crops over AWGN.

    crlsc-train data
    python benchmarks/deepjscc.py --data data [--minutes 20] [--seed 1] [--work runs/deepjscc]

DeepJSCC is the network of E. Bourtsoulatze et al. (IEEE Trans. Cognitive Communications and Networking 2019) as
``crlsc_phy/semantic/deepjscc.py`` has it. ``tests/link/baselines/test_deepjscc.py`` gives it the weights of Kaira's
encoder and decoder (pykaira 0.2.1) and finds the same symbols and pictures as theirs. With 16 filters it sends 2,048
complex symbols for 64 x 64 pixels, CBR 1/6; another network has 8 and CBR 1/12. Both train on crops of 64 x 64, each
at an Es/N0 of its own within 0 to 20 dB, which the networks are not told. Ours is one network for both rates. It
trains from the best linear code, whose making is in its CPU time, at -5 to 22 dB and through fading and clipping too,
and on crops of 128 x 128 in one batch of five. The bundle's coder, trained longer by its recipe, stands beside them,
through the codec's own encode and decode.

Symbols of a picture have a mean power of 1 in all of them. SNR is Es/N0: N0 is the variance of the complex noise, half
of it in each part. Kaira's channel adds noise to real numbers of power 1, at the ratio of their power to its variance;
two of them make a symbol with twice of both, so its SNR is the same figure. Unlike Kaira's, the receiver of DeepJSCC
gets ``y / (1 + N0)`` for ``y``, here and in the sweeps.

A training that was cut off goes on from the last minute, one that is done is read. Checkpoints in ``--work`` are named
by model, minutes and seed: after a change of code or data, delete them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import bench
import numpy as np
import torch
from numpy.typing import NDArray

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.data import CropSampler
from crlsc_phy.figure import FIRST, INK, MARK, SECOND
from crlsc_phy.files import placed
from crlsc_phy.images import UInt8Image
from crlsc_phy.quality.intervals import mean_interval
from crlsc_phy.semantic.analog import LearnedAnalog
from crlsc_phy.semantic.analog_coder import AnalogCoder, AnalogConfig
from crlsc_phy.train.analog import SIZES, AnalogTraining, analog_psnr_db, picture_quality, start_linear
from crlsc_phy.train.deepjscc import CBRS, DeepJsccTraining, heldout_psnr_db
from crlsc_phy.train.heldout import CROPS_EACH, heldout_crops
from crlsc_phy.train.loop import SEED_STRIDE, StepModule
from crlsc_phy.train.pictures import photographs, squares
from crlsc_phy.train.recipe import LoopRecipe, Recipe

SNRS_DB = (-5, 0, 5, 10, 15, 20)
LOOP = LoopRecipe(batch=32, learning_rate=1e-3)
SYMBOLS = {cbr: 2 * filters for cbr, filters in CBRS.items()}
"""Complex symbols of our coder for 8 x 8 pixels, by CBR."""
CHECKPOINT_S = 60
GOALS_DB = {0: 25.0, 5: 27.5, 10: 30.0, 15: 31.5, 20: 32.5}
"""PSNR that one model shall have at CBR 1/6."""
LEAD_DB = 1.0
"""Goal: lead over DeepJSCC in dB after the same CPU time."""
DEEPJSCC, LINEAR, OURS, BUNDLE = "DeepJSCC", "ours, before training", "ours", "bundle"
COLOURS = {DEEPJSCC: SECOND, OURS: FIRST, BUNDLE: MARK}

Row = dict[str, Any]
Quality = Callable[[UInt8Image, float], NDArray[np.float64]]
"""PSNR of each crop at an Es/N0."""
Scores = dict[tuple[str, str, str, int], NDArray[np.float64]]
"""PSNR of each crop by model, CBR, reduction and Es/N0."""


def train(module: StepModule, minutes: float, work: Path, name: str, spent_s: float = 0.0) -> Row:
    """Train until ``minutes`` of CPU time are spent; the learning rate follows the time, not the steps."""
    groups = [{"lr": module.loop.learning_rate, **group} for group in module.parameter_groups()]
    rates = [group["lr"] for group in groups]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=1e-4)
    checkpoint, step = work / f"{name}-{minutes:g}min-seed{module.seed}.ckpt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        module.load_state_dict(saved["module"])
        optimiser.load_state_dict(saved["optimiser"])
        step, spent_s = saved["step"], saved["spent_s"]

    def save() -> None:
        state = {"module": module.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "spent_s": spent_s}
        with placed(checkpoint) as aside:
            torch.save(state, aside)

    start, saved_s = time.process_time() - spent_s, spent_s
    while (part := spent_s / (60 * minutes)) < 1:
        factor = min(1.0, part / 0.02 + 0.01) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = factor * rate
        optimiser.zero_grad()
        module.step_loss(torch.Generator().manual_seed(module.seed * SEED_STRIDE + step))["loss"].backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        step, spent_s = step + 1, time.process_time() - start
        if spent_s - saved_s > CHECKPOINT_S or spent_s >= 60 * minutes:
            save()
            saved_s = spent_s
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return {"steps": step, "cpu_minutes": round(spent_s / 60, 2), "parameters": parameters}


def scored(model: str, cbr: str, quality: Quality, asked: dict[str, UInt8Image]) -> Scores:
    return {(model, cbr, side, snr): quality(crops, snr) for side, crops in asked.items() for snr in SNRS_DB}


def measured(scores: Scores) -> list[Row]:
    """Return means and crop-by-crop differences with intervals; crops of one photograph are drawn together."""
    rows = []
    for (model, cbr, side, snr), psnr_db in scores.items():
        row: Row = {"model": model, "cbr": cbr, "longest_side": side, "snr_db": snr}
        row["psnr_db"] = mean_interval(psnr_db, CROPS_EACH)
        if model != DEEPJSCC:
            row["over_deepjscc_db"] = mean_interval(psnr_db - scores[DEEPJSCC, cbr, side, snr], CROPS_EACH)
        rows.append(row)
    return rows


def judged(rows: list[Row]) -> list[Row]:
    """Judge the goals, point by point. The bundle had more time than DeepJSCC and is not held to the lead."""
    points = []
    for row in rows:
        if row["model"] not in (OURS, BUNDLE) or row["cbr"] != "1/6" or row["snr_db"] not in GOALS_DB:
            continue
        point = {key: row[key] for key in ("model", "longest_side", "snr_db")}
        point["goal_db"] = GOALS_DB[row["snr_db"]]
        point["psnr_db"], point["over_deepjscc_db"] = row["psnr_db"][0], row["over_deepjscc_db"][0]
        ahead = row["model"] == BUNDLE or point["over_deepjscc_db"] >= LEAD_DB
        points.append({**point, "reached": point["psnr_db"] >= point["goal_db"] and ahead})
    return points


def _of_ours(coder: AnalogCoder, symbols: int, crops: UInt8Image, snr_db: float) -> NDArray[np.float64]:
    images = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    return np.asarray(picture_quality(coder, images, symbols, snr_db).numpy(), np.float64)


def _of_bundle(codec: SemanticCodec, symbols: int, crops: UInt8Image, snr_db: float) -> NDArray[np.float64]:
    return analog_psnr_db(codec, crops, symbols, snr_db)


def draw(benchmark: bench.Benchmark, rows: list[Row]) -> None:
    """Draw PSNR against SNR at both reductions, and below it the difference to DeepJSCC."""
    with benchmark.figure(1000, 800) as figure:
        sides = list(dict.fromkeys(row["longest_side"] for row in rows))
        grid = figure.subplots(2, len(sides), sharex=True, sharey="row", height_ratios=(3, 2))
        for side, (above, below) in zip(sides, grid.T, strict=True):
            here = [row for row in rows if row["longest_side"] == side and row["model"] in COLOURS]
            for model, cbr in dict.fromkeys((row["model"], row["cbr"]) for row in here):
                line = [row for row in here if (row["model"], row["cbr"]) == (model, cbr)]
                look = {"color": COLOURS[model], "label": f"{model}, CBR {cbr}", "markersize": 4}
                look["linestyle"], look["marker"] = ("-", "o") if cbr == "1/6" else (":", "s")
                above.plot(SNRS_DB, [row["psnr_db"][0] for row in line], **look)
                if model == OURS:
                    mean, low, high = np.transpose([row["over_deepjscc_db"] for row in line])
                    below.errorbar(SNRS_DB, mean, (mean - low, high - mean), capsize=3, **look)
            above.plot(list(GOALS_DB), list(GOALS_DB.values()), "_", color=INK, markersize=14, label="goal, CBR 1/6")
            above.set_title(f"Photographs of {side} px, crops of 64 x 64")
            below.axhline(LEAD_DB, color=INK, linewidth=1, label="goal, CBR 1/6")
            below.set_xlabel("Es/N0 [dB]")
        for axes, label in zip(grid[:, 0], ("PSNR [dB]", "ours above DeepJSCC [dB]"), strict=True):
            axes.set_ylabel(label)
            axes.legend(fontsize=8)


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__)
    benchmark.add("--data", Path("data"), "folder that `crlsc-train data` filled")
    benchmark.add("--minutes", 20.0, "CPU time of each training", quick=0.02)
    benchmark.add("--bundle", Path("models/default"), "bundle to show beside")
    benchmark.add("--work", Path("runs/deepjscc"), "folder of checkpoints", quick=Path("out/deepjscc"))
    options = benchmark.parse()

    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    codec, recipe = SemanticCodec.load(options.bundle), Recipe()
    photos = list(photographs(recipe.data.photos, options.data).values())
    crops = [CropSampler(photos, squares(recipe.data.public, options.data), size) for size in SIZES]
    asked = heldout_crops(recipe, options.data)
    trainings: dict[str, Row] = {}
    scores: Scores = {}

    for cbr, filters in CBRS.items():
        theirs = DeepJsccTraining(filters, crops[0], LOOP, options.seed)
        trainings[f"{DEEPJSCC} {cbr}"] = train(theirs, options.minutes, options.work, f"deepjscc-{filters}")
        scores |= scored(DEEPJSCC, cbr, partial(heldout_psnr_db, theirs.network.eval()), asked)

    torch.manual_seed(options.seed)
    ours = AnalogTraining(AnalogConfig(), crops, None, LOOP, options.seed)
    _, spent_s = bench.timed(start_linear, ours.coder, crops[0], options.seed)
    for cbr, symbols in SYMBOLS.items():
        scores |= scored(LINEAR, cbr, partial(_of_ours, ours.coder, symbols), asked)
    trainings[OURS] = train(ours, options.minutes, options.work, "ours", spent_s)
    for cbr, symbols in SYMBOLS.items():
        scores |= scored(OURS, cbr, partial(_of_ours, ours.coder, symbols), asked)
        if isinstance(codec.analog, LearnedAnalog):
            scores |= scored(BUNDLE, cbr, partial(_of_bundle, codec, symbols), asked)

    rows = measured(scores)
    goals = judged(rows)
    bench.show("Analog detail", rows)
    bench.show("Goals at CBR 1/6", goals)
    benchmark.write({"trainings": trainings, "goals": goals, "rows": rows})
    draw(benchmark, rows)


if __name__ == "__main__":
    main()
