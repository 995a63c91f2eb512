"""Classification: the label of a picture by a linear head on the received semantic vector.

The head is the alternative to the vote of the nearest entries of a knowledge base, which needs no training. It is
trained on the labels of the private sets if there are any, otherwise of the public ones. Its inputs are altered views
of the pictures after the terminal's encoder and the air code.

Results: ``decoder/classification/classifier.safetensors``, weights float32 [C, D] and bias float32 [C];
``classes.json``, labels.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from crlsc_phy.bundle import CLASSES, CLASSIFIER
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.data import open_images
from crlsc_phy.files import write_text
from crlsc_phy.quality.intervals import mean_interval
from crlsc_phy.train.encoder import alter
from crlsc_phy.train.networks import save_tensors
from crlsc_phy.train.pictures import SIDE, squares
from crlsc_phy.train.pipeline import Run, Step
from crlsc_phy.train.recipe import Recipe

__all__ = ["export", "measure", "steps", "train_head"]

VIEWS, BATCH = 4, 64
LEARNING_RATE = 0.02
PENALTY = 0.015
"""Weight of the squared length of a class's weight vector, averaged over the classes. Without it a head uses directions
in which its encoder's vectors hardly differ, and fails with pictures of another vendor or with another encoder."""


def steps(recipe: Recipe) -> list[Step]:
    """Return the training step of the task."""
    options = {"steps": recipe.decoder.head_steps, "penalty": PENALTY, "seed": recipe.seed}
    needs = ("skb", f"encoder/{recipe.encoder_name}")
    return [Step("decoder/classification", _train, options=options, needs=needs, sets=_labelled(recipe))]


def _labelled(recipe: Recipe) -> tuple[str, ...]:
    return recipe.data.private or recipe.data.public


def _train(run: Run, folder: Path) -> None:
    sets = [open_images(name, run.data) for name in _labelled(run.recipe)]
    labels = [label for each in sets for label in each.labels]
    rows = [row for row, label in enumerate(labels) if label]
    classes = sorted({label for label in labels if label})
    if len(classes) < 2:
        # Pictures without names still make a bundle; it has no head then.
        names = ", ".join(_labelled(run.recipe))
        Console(stderr=True).print(
            f"decoder/classification: left out; it needs 2 classes, and {names} has {len(classes)}",
            highlight=False,
            soft_wrap=True,
        )
        return
    images = torch.from_numpy(squares(_labelled(run.recipe), run.data)[rows]).permute(0, 3, 1, 2)
    encoder, code = run.load_encoder(), run.air_code
    generator = torch.Generator().manual_seed(run.recipe.seed)
    views = [encoder.embed(images)]
    for _ in range(VIEWS - 1):
        parts = [alter(part.float() / 255, encoder.config.pixels, generator) for part in torch.split(images, BATCH)]
        views.append(torch.cat([encoder.embed(part) for part in parts]))
    received = torch.from_numpy(code.decode(code.encode(torch.cat(views).numpy())))
    numbers = {label: number for number, label in enumerate(classes)}
    targets = torch.tensor([numbers[labels[row]] for row in rows]).repeat(VIEWS)
    weight, bias = train_head(received, targets, len(classes), run.recipe.decoder.head_steps)
    save_tensors({"weight": weight, "bias": bias}, folder / CLASSIFIER)
    write_text(folder / CLASSES, json.dumps(classes))


def train_head(vectors: Tensor, targets: Tensor, classes: int, steps: int) -> tuple[Tensor, Tensor]:
    """Train a softmax regression with a penalty on squared weights, by full batches of Adam.

    Args:
        vectors: float32 [N, D].
        targets: int64 [N].
        classes: Number of classes, C.
        steps: Optimiser steps.

    Returns:
        Weights float32 [C, D] and bias float32 [C].
    """
    weight = torch.zeros(classes, vectors.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.Adam([weight, bias], lr=LEARNING_RATE)
    # Unit vectors make for small logits: they are scaled as a cosine classifier's are.
    for _ in range(steps):
        scaled = 10 * weight
        error = F.cross_entropy(vectors @ scaled.T + bias, targets)
        loss = error + PENALTY * scaled.square().sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return (10 * weight).detach(), bias.detach()


def export(run: Run, folder: Path) -> None:
    """Copy the head and its labels into the folder of a bundle, if there is a head."""
    for path in (run.folder / "decoder/classification" / name for name in (CLASSIFIER, CLASSES)):
        if path.exists():
            shutil.copyfile(path, folder / path.name)


def measure(codec: SemanticCodec, run: Run) -> dict[str, Any]:
    """Measure the accuracy of the head and of the entries' vote on held-out pictures whose label the head knows."""
    by_head, by_vote = [], []
    known = set(codec.classes)
    for name in run.recipe.data.asked:
        pictures = open_images(name, run.data)
        for image, label in zip(pictures.squares(SIDE), pictures.labels, strict=True):
            if label in known:
                frame = codec.encode(image, levels=0)
                by_head.append(codec.classify(frame)[0] == label)
                by_vote.append(codec.decode(frame).label == label)
    return {
        "classes": len(known),
        "asked": len(by_head),
        "head": mean_interval(np.array(by_head, np.float64)) if by_head else None,
        "vote": mean_interval(np.array(by_vote, np.float64)) if by_vote else None,
    }
