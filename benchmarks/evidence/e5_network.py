"""E5: any terminal's encoder with any terminal's decoder.

Three unlike encoders were each trained against the SKB, apart from each other. A head that tells the classes of E1
apart is trained on the vectors of one of them, as they come out of the air code, for all labelled pictures of the
unseen vendor; then it is given those of another, for the test pictures. The control has the same three networks with
the same start and public pictures, but each learns alone, by SimCLR for a tenth of the CPU time, and so has a space of
its own; its vectors travel without loss.

For pictures, the decoder of the shipped bundle is tuned to the vectors of one encoder, and then given those of another.
The pictures are crops of held-out photographs, reduced to a longest side of 192 pixels, at 1 level and at 4. Their
control is no vector at all.
"""

from __future__ import annotations

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
    interval,
    percent,
    planes,
    signed,
    spread,
    table,
)
from decoders import decoded_psnr_db, tuned_decoder
from numpy.typing import NDArray
from terminal import Terminal, new_encoder, open_terminal, train_simclr, views
from torch import Tensor

from crlsc_phy.link.plots import drawing
from crlsc_phy.train.data import fixed_crops
from crlsc_phy.train.pictures import photographs
from crlsc_phy.train.pipeline import Run
from crlsc_phy.train.tasks.classification import VIEWS, train_head

TITLE = "Unlike encoders with each other's decoders"
SIZES = ("small", "medium", "large")
NEEDS = tuple(f"encoder/{size}" for size in SIZES)
REPEATED = True
HEAD_STEPS = 300
GOAL = 3

CRLSC, ALONE, PICTURES = "crlsc", "alone", "pictures"
LEVELS = ("1", "4")
GOAL_DB = 0.5
HELD_OUT, LONGEST, CROPS_EACH = "photos@heldout", 192, 4
NO_VECTOR = "none"


def arms(_lab: Lab) -> list[str]:
    """Classes with the SKB and without, and pictures with it."""
    return [CRLSC, ALONE, PICTURES]


def measure(lab: Lab, seed: int, arm: str) -> dict[str, Any]:
    if arm == PICTURES:
        return _pictures(lab, seed)
    run, terminal = lab.run_of(seed), open_terminal(lab)
    vectors = {size: _vectors(lab, run, terminal, seed, size, arm) for size in SIZES}
    rows = terminal.labelled(0, seed)
    targets, count = terminal.targets[rows].repeat(VIEWS), len(terminal.classes)
    heads = {
        size: train_head(seen[:, rows].flatten(0, 1), targets, count, HEAD_STEPS) for size, seen in vectors.items()
    }
    hits = {}
    for sender, receiver in product(SIZES, SIZES):
        weight, bias = heads[receiver]
        scores = vectors[sender][0, terminal.test] @ weight.T + bias
        hits[f"{sender} {receiver}"] = as_digits(np.asarray(scores.argmax(dim=1) == terminal.targets[terminal.test]))
    most = int(terminal.targets[terminal.test].bincount().max())
    return {"asked": len(terminal.test), "chance": most / len(terminal.test), "hits": hits}


def _pictures(lab: Lab, seed: int) -> dict[str, Any]:
    """PSNR by sender, receiver and level: a value a photograph, the mean of its crops."""
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


def _vectors(lab: Lab, run: Run, terminal: Terminal, seed: int, size: str, arm: str) -> Tensor:
    """Vectors of the terminal's pictures and of altered views, float32 [VIEWS, N, D], as a receiver has them."""
    config = run.recipe.encoder.sizes[size]
    if arm == CRLSC:
        encoder = run.load_encoder(size)
    else:
        # Unlike terminals draw unlike batches.
        own = 10 * seed + SIZES.index(size)
        torch.manual_seed(own)
        encoder = new_encoder(config, pretrained=True)
        public = planes(lab.squares(*run.recipe.data.public))
        train_simclr(encoder, config.pixels, public, cpu_seconds(run, size) / 10, own)
    found = views(encoder.eval(), terminal.images, config.pixels, VIEWS, seed)
    if arm == CRLSC:
        found = torch.from_numpy(run.air_code.decode(run.air_code.encode(found.numpy())))
    return found.reshape(VIEWS, len(terminal.images), -1)


def _of(rows: list[dict[str, Any]], pairs: list[tuple[str, str]]) -> NDArray[np.float64]:
    return np.asarray(np.mean([from_digits([row["hits"][f"{a} {b}"] for row in rows]) for a, b in pairs], axis=0))


def report(results: Results, _budget: Budget) -> str:
    some = results[CRLSC][0]
    same = [(size, size) for size in SIZES]
    other = [(a, b) for a, b in product(SIZES, SIZES) if a != b]
    parts = [f"{some['asked']} test pictures; always naming the largest class gets {100 * some['chance']:.1f} % right."]
    for arm, name in ((CRLSC, "Encoders in the shared space"), (ALONE, "Control: encoders trained alone")):
        rows = [[a, *(percent(_of(results[arm], [(a, b)])) for b in SIZES)] for a in SIZES]
        matrix = table(["encoder, accuracy [%]", *(f"head of {size}" for size in SIZES)], rows)
        diagonal, rest = _of(results[arm], same), _of(results[arm], other)
        mean, low, high = (100 * value for value in interval(rest - diagonal))
        goal = f"; goal: within {GOAL}, {'reached' if mean >= -GOAL else 'missed'}" if arm == CRLSC else ""
        parts.append(
            f"{name}:\n\n{matrix}\n\nDiagonal {percent(diagonal)}, off it {percent(rest)}: "
            f"{mean:+.1f} points ({low:+.1f} to {high:+.1f}){goal}."
        )
        if arm == CRLSC:
            losses = {
                (a, b): float((_of(results[arm], [(a, b)]) - _of(results[arm], [(b, b)])).mean()) for a, b in other
            }
            (sender, receiver), most = min(losses.items(), key=lambda item: item[1])
            parts.append(f"The worst pair is {sender} with the head of {receiver}, {100 * most:+.1f} points.")
    for level in LEVELS:
        found = {
            (a, b): np.array([row["psnr_db"][f"{a} {b} {level}"] for row in results[PICTURES]])
            for a, b in product([*SIZES, NO_VECTOR], SIZES)
        }
        rows = [[a, *(spread(found[a, b], 2) for b in SIZES)] for a in [*SIZES, NO_VECTOR]]
        diagonal = np.mean([found[pair] for pair in same], axis=0)
        rest = np.mean([found[pair] for pair in other], axis=0)
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
