"""E5: any terminal's encoder with any terminal's decoder.

Three unlike encoders were each trained against the SKB, apart from each other. A head that tells the classes of E1
apart is trained on the vectors of one of them, as they come out of the air code, for all labelled pictures of the
unseen vendor; then it is given those of another, for the test pictures. It reads what the receiver's SKB recalls of a
vector: the mean of its entries, each weighted by its nearness. The control has the same three networks with the same
start and public pictures, but each learns alone, by SimCLR for a tenth of the CPU time, and so has a space of its own;
its vectors travel without loss, and a receiver recalls from its own vectors of the public pictures. Heads that read
vectors as they come are told of as well.

Penalty and temperature were chosen with the shipped encoders, by halves of the labelled pictures alone and by pictures
of the vendor that are no things.

For pictures, the decoder of the shipped bundle is tuned to the vectors of one encoder, and then given those of another.
The pictures are crops of held-out photographs, reduced to a longest side of 192 pixels, at 1 level and at 4. Their
control is no vector at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import (
    Budget,
    Lab,
    Results,
    as_digits,
    cpu_seconds,
    encode,
    from_digits,
    percent,
    planes,
    signed,
    spread,
    table,
)
from decoders import decoded_psnr_db, tuned_decoder
from numpy.typing import NDArray
from terminal import Terminal, new_encoder, open_terminal, outputs, train_simclr, views
from torch import Tensor

from crlsc_phy.data import fixed_crops
from crlsc_phy.figure import drawing
from crlsc_phy.knowledge.recall import recall
from crlsc_phy.train.pictures import photographs
from crlsc_phy.train.tasks.classification import VIEWS, train_head

TITLE = "Unlike encoders with each other's decoders"
SIZES = ("small", "medium", "large")
SAME = [(size, size) for size in SIZES]
OTHER = [(a, b) for a, b in product(SIZES, SIZES) if a != b]
NEEDS = tuple(f"encoder/{size}" for size in SIZES)
REPEATED = True
HEAD_STEPS = 300
GOAL = 3

CRLSC, ALONE, PICTURES = "crlsc", "alone", "pictures"
LEVELS = ("1", "4")
GOAL_DB = 0.5
RECALLED, PLAIN = "recalled", "plain"
HELD_OUT, LONGEST, CROPS_EACH = "photos@heldout", 192, 4
NO_VECTOR = "none"


def arms(_lab: Lab) -> list[str]:
    """Name the arms: classes with the SKB and without, and pictures with it."""
    return [CRLSC, ALONE, PICTURES]


def measure(lab: Lab, seed: int, arm: str) -> dict[str, Any]:
    if arm == PICTURES:
        return _pictures(lab, seed)
    terminal = open_terminal(lab)
    ends = {size: _end(lab, terminal, seed, size, arm) for size in SIZES}
    rows, asked = terminal.labelled(0, seed), terminal.targets[terminal.test]
    targets = terminal.targets[rows].repeat(VIEWS)
    hits: dict[str, dict[str, str]] = {RECALLED: {}, PLAIN: {}}
    for how, receiver in product(hits, SIZES):
        known = ends[receiver].known if how == RECALLED else None
        weight, bias = train_head(ends[receiver].seen(rows, known), targets, len(terminal.classes), HEAD_STEPS)
        for sender in SIZES:
            scores = ends[sender].asked(terminal.test, known) @ weight.T + bias
            hits[how][f"{sender} {receiver}"] = as_digits(np.asarray(scores.argmax(dim=1) == asked))
    return {"asked": len(asked), "chance": int(asked.bincount().max()) / len(asked), "hits": hits}


@dataclass(frozen=True)
class _End:
    """A terminal with its encoder.

    Attributes:
        vectors: What a receiver has of its pictures and of altered views, float32 [VIEWS, N, D].
        known: What it knows when it receives, float32 [B, D].
    """

    vectors: NDArray[np.float32]
    known: NDArray[np.float32]

    def seen(self, rows: NDArray[np.int64], known: NDArray[np.float32] | None) -> Tensor:
        """Return all views of pictures, float32 [VIEWS * R, D], as a receiver with this knowledge recalls them."""
        return _read(self.vectors[:, rows].reshape(-1, self.vectors.shape[-1]), known)

    def asked(self, rows: NDArray[np.int64], known: NDArray[np.float32] | None) -> Tensor:
        """Return pictures as they are, float32 [R, D], recalled in the same way."""
        return _read(self.vectors[0, rows], known)


def _read(vectors: NDArray[np.float32], known: NDArray[np.float32] | None) -> Tensor:
    return torch.from_numpy(vectors if known is None else recall(known, vectors))


def _end(lab: Lab, terminal: Terminal, seed: int, size: str, arm: str) -> _End:
    run = lab.run_of(seed)
    config = run.recipe.encoder.sizes[size]
    if arm == CRLSC:
        code = run.air_code
        found = views(run.load_encoder(size), terminal.images, config.pixels, VIEWS, seed).numpy()
        found, known = code.decode(code.encode(found)), code.decode(run.knowledge.codes)
    else:
        # Unlike terminals draw unlike batches.
        own = 10 * seed + SIZES.index(size)
        torch.manual_seed(own)
        encoder = new_encoder(config, pretrained=True)
        public = planes(lab.squares(*run.recipe.data.public))
        train_simclr(encoder, config.pixels, public, cpu_seconds(run, size) / 10, own)
        found = views(encoder.eval(), terminal.images, config.pixels, VIEWS, seed).numpy()
        known = outputs(encoder, public, config.pixels).numpy()
    return _End(found.reshape(VIEWS, len(terminal.images), -1), known)


def _pictures(lab: Lab, seed: int) -> dict[str, Any]:
    """Return PSNR by sender, receiver and level: a value per photograph, the mean of its crops."""
    run = lab.run_of(seed)
    crops = fixed_crops(photographs((HELD_OUT,), lab.data, LONGEST), CROPS_EACH)
    code = run.air_code
    vectors = {size: code.decode(code.encode(encode(run, size, crops))) for size in SIZES}
    vectors[NO_VECTOR] = np.zeros_like(vectors[SIZES[0]])
    found = {}
    for receiver in SIZES:
        coder = tuned_decoder(lab, run, receiver, lab.folder / "E5" / f"decoder-{receiver}-{seed}")
        for sender, level in product(vectors, LEVELS):
            values = decoded_psnr_db(coder, crops, vectors[sender], int(level)).reshape(-1, CROPS_EACH).mean(axis=1)
            found[f"{sender} {receiver} {level}"] = [round(float(value), 4) for value in values]
    return {"photographs": len(crops) // CROPS_EACH, "psnr_db": found}


def _of(rows: list[dict[str, Any]], pairs: list[tuple[str, str]], how: str = RECALLED) -> NDArray[np.float64]:
    """Return the share of pairs that got each picture right, float64 [seeds, pictures]."""
    return np.asarray(np.mean([from_digits([row["hits"][how][f"{a} {b}"] for row in rows]) for a, b in pairs], axis=0))


def _compared(rows: list[dict[str, Any]], how: str) -> str:
    """Compare pairs of one encoder with pairs of two."""
    same, other = _of(rows, SAME, how), _of(rows, OTHER, how)
    return f"diagonal {percent(same)}, off it {percent(other)}: {_points(other - same)}"


def _lost(rows: list[dict[str, Any]], sender: str) -> NDArray[np.float64]:
    """Return the accuracy of an encoder with the heads of others, less that with its own."""
    return _of(rows, [(sender, size) for size in SIZES if size != sender]) - _of(rows, [(sender, sender)])


def _points(differences: NDArray[np.float64]) -> str:
    return f"{signed(100 * differences, 1)} points"


def report(results: Results, _budget: Budget) -> str:
    some = results[CRLSC][0]
    parts = [f"{some['asked']} test pictures; always naming the largest class gets {100 * some['chance']:.1f} % right."]
    for arm, name in ((CRLSC, "Encoders in the shared space"), (ALONE, "Control: encoders trained alone")):
        rows = [[a, *(percent(_of(results[arm], [(a, b)])) for b in SIZES)] for a in SIZES]
        matrix = table(["encoder, accuracy [%]", *(f"head of {size}" for size in SIZES)], rows)
        rest = _of(results[arm], OTHER)
        mean = 100 * float((rest - _of(results[arm], SAME)).mean())
        goal = f" Goal: within {GOAL}, {'reached' if mean >= -GOAL else 'missed'}." if arm == CRLSC else ""
        parts.append(
            f"{name}:\n\n{matrix}\n\nBy what is recalled, {_compared(results[arm], RECALLED)}.{goal} "
            f"By vectors as they come, {_compared(results[arm], PLAIN)}."
        )
        if arm == CRLSC:
            losses = ", ".join(f"{size} {_points(_lost(results[arm], size))}" for size in SIZES)
            own = {size: _of(results[arm], [(size, size)]) for size in SIZES}
            weaker = [min(pair, key=lambda size: float(own[size].mean())) for pair in OTHER]
            ceiling = np.mean([own[size] for size in weaker], axis=0)
            parts.append(
                f"What an encoder loses on average when others' heads read it, not its own: {losses}. "
                f"Against the weaker of its two with its own head, a pair is at {_points(rest - ceiling)}."
            )
    for level in LEVELS:
        found = {
            (a, b): np.array([row["psnr_db"][f"{a} {b} {level}"] for row in results[PICTURES]])
            for a, b in product([*SIZES, NO_VECTOR], SIZES)
        }
        rows = [[a, *(spread(found[a, b], 2) for b in SIZES)] for a in [*SIZES, NO_VECTOR]]
        diagonal = np.mean([found[pair] for pair in SAME], axis=0)
        rest = np.mean([found[pair] for pair in OTHER], axis=0)
        matrix = table(["encoder, PSNR [dB]", *(f"decoder of {size}" for size in SIZES)], rows)
        verdict = "reached" if float((rest - diagonal).mean()) >= -GOAL_DB else "missed"
        parts.append(
            f"Pictures at {level} level{'s' if level != '1' else ''}:\n\n{matrix}\n\nOff the diagonal "
            f"{signed(rest - diagonal, 3)} dB; goal: within {GOAL_DB}, {verdict}. No vector costs "
            f"{signed(np.mean([found[NO_VECTOR, b] for b in SIZES], axis=0) - diagonal, 3)} dB."
        )
    return "\n\n".join(parts)


def plot(_lab: Lab, results: Results, path: Path) -> None:
    with drawing(path, 820, 400) as figure:
        for axes, (arm, name) in zip(figure.subplots(1, 2), ((CRLSC, "Shared space"), (ALONE, "Alone")), strict=True):
            values = 100 * np.array([[_of(results[arm], [(a, b)]).mean() for b in SIZES] for a in SIZES])
            axes.imshow(values, vmin=0, vmax=100, cmap="Blues")
            for (row, column), value in np.ndenumerate(values):
                axes.text(column, row, f"{value:.0f} %", ha="center", va="center", color="w" if value > 55 else "k")
            axes.set_xticks(range(len(SIZES)), SIZES)
            axes.set_yticks(range(len(SIZES)), SIZES)
            axes.set(xlabel="head trained with", ylabel="encoder", title=name)
            axes.grid(False)
