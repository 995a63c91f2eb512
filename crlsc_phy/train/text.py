"""Locked-image tuning: a text tower is trained to point to the features of the frozen image tower.

Method: X. Zhai et al., "LiT: zero-shot transfer with locked-image text tuning", CVPR 2022. The pictures of the public
sets have their labels as captions. They are embedded once, at several sizes, which serve as augmentation. The loss is
open_clip's contrastive one, on a batch of different captions with a picture of each.

Results: ``teacher/text/text_tower.safetensors``, ``vocabulary.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from open_clip.loss import ClipLoss
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from crlsc_phy.bundle import TEXT_HEAD
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.data import open_images
from crlsc_phy.errors import TrainingError
from crlsc_phy.quality.intervals import mean_interval
from crlsc_phy.semantic.teacher import has_text
from crlsc_phy.semantic.text import TEXT_TOWER, TextConfig, TextTower, frequent_tokens
from crlsc_phy.train.loop import StepModule, fit
from crlsc_phy.train.networks import save_halved, save_tensors, save_weights
from crlsc_phy.train.pictures import SIDE
from crlsc_phy.train.pipeline import WORK, Run
from crlsc_phy.train.ranks import is_first_rank
from crlsc_phy.train.recipe import TextRecipe

__all__ = ["TEXT", "TextTraining", "export", "measure", "train_text", "zero_shot"]

TEXT = "teacher/text"
TEMPLATES = ("{}", "a picture of {}", "a drawing of {}", "an icon of {}")
ASKED = "a picture of {}"
TEMPERATURE = 0.05


def train_text(
    views: Sequence[Tensor],
    labels: Sequence[str],
    recipe: TextRecipe,
    folder: Path,
    seed: int,
    threads: int,
) -> TextTower:
    """Train a text tower, and write its files.

    Args:
        views: Features of the pictures for each image size, float32 [N, F].
        labels: Label of each picture; "" if unknown.
        recipe: Sizes and budget.
        folder: Folder of the results. Checkpoints and logs are in ``work`` below it, from where an interrupted training
            resumes.
        seed: Seed of weights and batches.
        threads: Threads of the loop.

    Raises:
        TrainingError: If no picture has a label.
    """
    captions = [template.format(label) for label in labels if label for template in TEMPLATES]
    if not captions:
        raise TrainingError("teacher.text: no picture of data.public has a label to learn from; leave it out")
    tokens = frequent_tokens(captions, recipe.vocabulary)
    torch.manual_seed(seed)
    tower = TextTower(TextConfig(views[0].shape[1], recipe.width, recipe.layers, recipe.context, tokens))
    fit(TextTraining(tower, views, labels, recipe, seed), folder / WORK, threads)
    save_weights(tower, folder / TEXT_TOWER)
    if is_first_rank():
        tower.save_config(folder)
    return tower.eval()


class TextTraining(StepModule):
    """Training of a :class:`TextTower`; the arguments are those of :func:`train_text`."""

    def __init__(
        self, tower: TextTower, views: Sequence[Tensor], labels: Sequence[str], recipe: TextRecipe, seed: int
    ) -> None:
        super().__init__(recipe.loop, seed)
        self.tower, self.contrast = tower, ClipLoss()
        mean = views[-1].mean(dim=0)
        # The mean of all pictures tells none apart, and would outweigh the rest.
        self.views = torch.stack([F.normalize(view - mean, dim=1) for view in views])
        names = sorted(set(labels) - {""})
        self.pictures = [torch.tensor([row for row, label in enumerate(labels) if label == name]) for name in names]
        self.captions = torch.stack([tower.tokens([text.format(name) for text in TEMPLATES]) for name in names])

    def step_loss(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return open_clip's contrastive loss on one batch."""

        def choose(count: int) -> int:
            return int(torch.randint(count, (), generator=generator))

        names = torch.randperm(len(self.pictures), generator=generator)[: self.loop.batch]
        rows = torch.stack([self.pictures[name][choose(len(self.pictures[name]))] for name in names.tolist()])
        sizes = torch.randint(len(self.views), (len(names),), generator=generator)
        templates = torch.randint(len(TEMPLATES), (len(names),), generator=generator)
        pictures = self.views[sizes, rows].to(self.device)
        texts = self.tower(self.captions[names, templates].to(self.device))
        return {"loss": self.contrast(pictures, texts, torch.tensor(1 / TEMPERATURE, device=self.device))}


def export(run: Run, folder: Path) -> None:
    """Write the files for searches with words into the folder of a bundle, if the teacher has a text tower."""
    teacher = run.recipe.teacher
    if teacher.text is not None:
        tower = TextTower.load(run.folder / TEXT)
        save_halved(tower, folder / TEXT_TOWER)
        tower.save_config(folder)
    elif not has_text(teacher.tower):
        return
    head = load_file(run.folder / "skb/head.safetensors")
    save_tensors({"weight": head["linear.weight"]}, folder / TEXT_HEAD)


def measure(codec: SemanticCodec, run: Run) -> dict[str, Any]:
    """Measure how often a held-out picture's name is the nearest of its set, or among the five nearest.

    The picture goes through the terminal's encoder, the name through the teacher's text tower. No knowledge base is
    used.
    """
    result: dict[str, Any] = {}
    for name in run.recipe.data.asked:
        pictures = open_images(name, run.data)
        vectors = np.stack([codec.embed(image) for image in pictures.squares(SIDE)])
        result[name] = zero_shot(vectors, codec.bundle.embed_texts, pictures.labels)
    return result


def zero_shot(
    vectors: npt.NDArray[np.float32],
    embed_texts: Callable[[list[str]], npt.NDArray[np.float32]],
    labels: Sequence[str],
    asked: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Measure how often the name of a picture is the nearest of all names, or among the five nearest.

    Args:
        vectors: Vectors of the pictures, float32 [N, D] of unit norm.
        embed_texts: Returns the vectors of texts, float32 [C, D] of unit norm.
        labels: Names of the pictures; those without a name ("") are left out.
        asked: Rows of the pictures that are counted, all by default; the names of the others compete.

    Returns:
        Counts ``asked`` and ``names``, and shares with 95 % intervals, ``top1`` and ``top5``.
    """
    names = sorted(set(labels) - {""})
    rows = [row for row in (range(len(labels)) if asked is None else asked) if labels[row]]
    if not rows:
        return {"asked": 0, "names": len(names), "top1": None, "top5": None}
    texts = embed_texts([ASKED.format(name) for name in names])
    nearest = np.argsort(-vectors[rows] @ texts.T, axis=1)[:, :5]
    right = nearest == np.array([names.index(labels[row]) for row in rows])[:, None]
    shares = {"top1": right[:, 0], "top5": right.any(axis=1)}
    measured = {name: mean_interval(each.astype(np.float64)) for name, each in shares.items()}
    return {"asked": len(rows), "names": len(names), **measured}
