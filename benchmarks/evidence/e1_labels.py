"""E1: accuracy of a terminal of the unseen vendor with few labels.

Its pictures of things fall into classes by their Unicode subcategory (those with 20 pictures or more). Half of each
class is the test set; of the other half 1, 2, 5, 10 or all pictures a class have labels, drawn anew with each seed.
All networks are the large encoder's, see pictures of 96x96 pixels altered in the same ways, and are given the same CPU
time at the terminal: that which CRLSC's encoder takes to train. The arms:

- **CRLSC**: the encoder trained against the SKB, on two other vendors' pictures, without labels. Classes by the
  weighted vote of the ten nearest of the labelled pictures in a knowledge base, all in 16-byte codes; or by a linear
  head on the vectors.
- **from scratch**: supervised, random start.
- **SimCLR**: self-supervised (lightly) on all pictures of the terminal but the test half, then a linear head; from a
  random start, and from the weights that CRLSC's encoder starts from.
- **ImageNet**: the weights that CRLSC's encoder starts from too, a linear head on the frozen trunk; and all of it
  fine-tuned, at 5 labels a class.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Budget, Lab, Results, as_digits, cpu_seconds, from_digits, interval, percent, table
from lightly.models.modules import SimCLRProjectionHead
from numpy.typing import NDArray
from terminal import (
    Pooled,
    Terminal,
    new_encoder,
    open_terminal,
    outputs,
    train_classifier,
    train_simclr,
    views,
)
from torch import Tensor, nn
from torch.nn import functional as F

from crlsc_phy.figure import drawing
from crlsc_phy.train.tasks.classification import VIEWS, train_head

TITLE = "Accuracy against labels"
SIZE = "large"
NEEDS = (f"terminal/{SIZE}",)
REPEATED = True
LABELS = (1, 2, 5, 10, 0)
FINE_TUNED = (5,)
NEIGHBOURS = 10
VOTE_TEMPERATURE = 0.07
HEAD_STEPS = 300

NAMES = {
    "crlsc kNN": "CRLSC, kNN on its KB",
    "crlsc linear": "CRLSC, linear head",
    "scratch": "supervised from scratch",
    "simclr": "SimCLR, linear head",
    "simclr from ImageNet": "SimCLR from ImageNet, linear head",
    "imagenet": "ImageNet, linear head",
    "finetuned": "ImageNet, fine-tuned",
}


def arms(_lab: Lab) -> list[str]:
    """Name the ways to make the network."""
    return ["crlsc", "scratch", "simclr", "simclr from ImageNet", "imagenet", "finetuned"]


def measure(lab: Lab, seed: int, arm: str) -> dict[str, Any]:
    terminal, run = open_terminal(lab), lab.terminal_of(seed, SIZE)
    budget_s = cpu_seconds(run, SIZE)
    config = run.recipe.encoder.sizes[SIZE]
    result: dict[str, Any] = {
        "classes": len(terminal.classes),
        "asked": len(terminal.test),
        "budget_s": budget_s,
        "encoder_steps": run.recipe.encoder.loop.steps,
    }
    if arm == "crlsc":
        encoder = run.load_encoder(SIZE)
        vectors = outputs(encoder, terminal.images, config.pixels).numpy()
        coded = torch.from_numpy(run.air_code.decode(run.air_code.encode(vectors)))
        hits = {"crlsc kNN": _by_vote(terminal, coded, seed), "crlsc linear": _by_head(terminal, encoder, seed)}
        return result | {"hits": hits}
    if arm in ("scratch", "finetuned"):
        steps, found = {}, {}
        for count in LABELS if arm == "scratch" else FINE_TUNED:
            rows = terminal.labelled(count, seed)
            network, steps[str(count)] = train_classifier(
                Pooled(new_encoder(config, arm == "finetuned")),
                config,
                terminal.images[rows],
                terminal.targets[rows],
                len(terminal.classes),
                budget_s,
                seed,
            )
            logits = outputs(network, terminal.images[terminal.test], config.pixels)
            found[str(count)] = _digits(terminal, logits)
        return result | {"hits": {arm: found}, "steps": steps}
    encoder = new_encoder(config, arm != "simclr")
    if arm == "imagenet":
        return result | {
            "hits": {arm: _by_head(terminal, Pooled(encoder, with_head=False).eval(), seed, config.pixels)}
        }
    features = Pooled(encoder)
    contrasted = nn.Sequential(features, SimCLRProjectionHead(config.width, 256, 128))
    taken = train_simclr(contrasted, config.pixels, terminal.others, budget_s, seed)
    return result | {
        "hits": {arm: _by_head(terminal, features.eval(), seed, config.pixels)},
        "steps": taken,
    }


def _by_vote(terminal: Terminal, vectors: Tensor, seed: int) -> dict[str, str]:
    """Classify by the nearest labelled pictures, weighed by similarity (Wu et al. 2018, section 3.4)."""
    found = {}
    for count in LABELS:
        rows = terminal.labelled(count, seed)
        near = F.normalize(vectors[terminal.test], dim=1) @ F.normalize(vectors[rows], dim=1).T
        top = near.topk(min(NEIGHBOURS, len(rows)), dim=1)
        votes = torch.zeros(len(near), len(terminal.classes))
        votes.scatter_add_(1, terminal.targets[rows][top.indices], (top.values / VOTE_TEMPERATURE).exp())
        found[str(count)] = _digits(terminal, votes)
    return found


def _by_head(terminal: Terminal, network: nn.Module, seed: int, pixels: int = 96) -> dict[str, str]:
    """Classify by a linear head on centred features of unit norm, of the pictures and of altered views."""
    everything = views(network, terminal.images, pixels, VIEWS, seed).reshape(VIEWS, len(terminal.images), -1)
    found = {}
    for count in LABELS:
        rows = terminal.labelled(count, seed)
        seen, asked = everything[:, rows].flatten(0, 1), everything[0, terminal.test]
        centre = seen.mean(dim=0)
        weight, bias = train_head(
            F.normalize(seen - centre, dim=1),
            terminal.targets[rows].repeat(VIEWS),
            len(terminal.classes),
            HEAD_STEPS,
        )
        found[str(count)] = _digits(terminal, F.normalize(asked - centre, dim=1) @ weight.T + bias)
    return found


def _digits(terminal: Terminal, scores: Tensor) -> str:
    return as_digits(np.asarray(scores.argmax(dim=1) == terminal.targets[terminal.test]))


def _methods(results: Results) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return which pictures were right by method and number of labels, float64 [seeds, pictures]."""
    return {
        method: {count: from_digits([row["hits"][method][count] for row in rows]) for count in counts}
        for rows in results.values()
        for method, counts in rows[0]["hits"].items()
    }


def report(results: Results, _budget: Budget) -> str:
    some, found = results["crlsc"][0], _methods(results)
    head = ["accuracy [%]", *(f"{count or 'all'} a class" for count in LABELS)]
    rows = [
        [name, *(percent(found[key][str(count)]) if str(count) in found[key] else "" for count in LABELS)]
        for key, name in NAMES.items()
    ]
    best, goals = found["crlsc kNN"]["5"], []
    for key, goal in (("scratch", 15), ("simclr", 5), ("simclr from ImageNet", 5), ("imagenet", 0), ("finetuned", 0)):
        mean, low, high = (100 * value for value in interval(best - found[key]["5"]))
        said = f"{mean:+.1f} points ({low:+.1f} to {high:+.1f}) against {NAMES[key]}"
        goals.append(f"- {said}{f'; goal {goal}: {_verdict(mean, goal)}' if goal else ''}")
    seconds = np.mean([row["budget_s"] for row in results["crlsc"]])
    steps = np.mean([row["steps"]["5"] for row in results["scratch"]])
    return (
        f"{some['classes']} classes, {some['asked']} test pictures, chance {100 / some['classes']:.1f} %. "
        f"Each terminal has {seconds:.0f} CPU-seconds: {some['encoder_steps']} steps of CRLSC's encoder, most of whose "
        f"trunk is frozen, or {steps:.0f} of a network of which all is trained.\n\n{table(head, rows)}\n\n"
        "CRLSC's kNN at 5 labels a class, picture by picture:\n\n" + "\n".join(goals) + f"\n\n{_lost(found)}"
    )


def _lost(found: dict[str, dict[str, NDArray[np.float64]]]) -> str:
    """Say where the better of CRLSC's two methods is behind another arm."""
    ours = [counts for key, counts in found.items() if key.startswith("crlsc")]
    behind = []
    for key, counts in found.items():
        for count, values in counts.items():
            gap = values.mean() - max(each[count].mean() for each in ours)
            if not key.startswith("crlsc") and gap > 0:
                behind.append(f"{NAMES[key]} at {count if count != '0' else 'all'} labels ({100 * gap:.1f} points)")
    if behind:
        return f"The better of CRLSC's two is behind {', '.join(behind)}."
    return "CRLSC is ahead of every other arm at every count."


def _verdict(value: float, goal: float) -> str:
    return "reached" if value >= goal else f"missed by {goal - value:.1f}"


def plot(_lab: Lab, results: Results, path: Path) -> None:
    with drawing(path, 820, 480) as figure:
        axes = figure.subplots()
        places = np.arange(len(LABELS))
        for number, (key, counts) in enumerate(_methods(results).items()):
            here = [place for place, count in zip(places, LABELS, strict=True) if str(count) in counts]
            values = 100 * np.array([interval(counts[str(LABELS[place])]) for place in here])
            spread = [values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]
            offset = 0.04 * (number - 3)
            line = "o-" if key.startswith("crlsc") else "s--"
            axes.errorbar(np.array(here) + offset, values[:, 0], spread, fmt=line, ms=4, lw=1.4, label=NAMES[key])
        axes.set_xticks(places, [str(count) if count else "all" for count in LABELS])
        axes.set(xlabel="labels a class", ylabel="accuracy [%]", title="Unseen vendor, equal CPU time at the terminal")
        figure.legend(fontsize=8, loc="outside right upper")
        axes.set_ylim(0, None)
