"""The ``skb`` stage, the server's part: the shared space, its air code and the shared knowledge base.

A linear head maps the frozen tower's features into the space. It is trained with three losses:

- open_clip's contrastive loss on pairs of public pictures that show the same thing, such as one pictogram drawn by two
  vendors (A. Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021);
- distillation on photographs, which have no names: in the space they must lie relative to the tower's classes as they
  do among its features;
- the classes keep apart from each other.

If the tower has no classes, the names of the public pictures are used, each at the mean of its pictures.

Results: ``skb/``, the shared knowledge base, with one named entry for each public picture and each class of the tower;
``codes.safetensors``, the air codes of the photographs' crops; ``head.safetensors``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from open_clip.loss import ClipLoss
from torch import Tensor, nn
from torch.nn import functional as F

from crlsc_phy.data import ImageSet, open_images
from crlsc_phy.errors import TrainingError
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase
from crlsc_phy.train.networks import save_tensors
from crlsc_phy.train.pictures import SIDE, entries, photo_crops
from crlsc_phy.train.pipeline import Run, Step
from crlsc_phy.train.recipe import Recipe
from crlsc_phy.train.teacher import load_directions, tower_features

__all__ = ["Pairs", "SpaceHead", "steps", "train_head"]

TEMPERATURE = 0.07
CLASS_TEMPERATURE = 0.02
DROPOUT = 0.2
PHOTO_WEIGHT = 3.0
SPREAD_WEIGHT = 1.0
PHOTO_BATCH = 1000
PAIR_BATCH = 2048


def steps(recipe: Recipe) -> list[Step]:
    """Return the step of the stage."""
    options = {"skb": recipe.skb, "teacher": {"tower": recipe.teacher.tower}, "dim": recipe.dim, "seed": recipe.seed}
    sets = (*recipe.data.public, *recipe.data.photos)
    return [Step("skb", _make, options=options, needs=("teacher",), sets=sets)]


def _make(run: Run, folder: Path) -> None:
    recipe, code_size = run.recipe.skb, run.recipe.skb.code_bytes
    sets = [open_images(name, run.data) for name in run.recipe.data.public]
    pictures = np.concatenate([each.squares(SIDE) for each in sets])
    views = [tower_features(run, pictures, pixels) for pixels in recipe.pixels]
    photo_features = tower_features(run, photo_crops(run.recipe, run.data), recipe.pixels[-1])
    classes, directions = load_directions(run) or ([], directions_of_names(sets, views[-1]))
    if directions.shape[1] != photo_features.shape[1]:
        raise TrainingError(
            f"teacher {run.recipe.teacher.tower}: its features have {photo_features.shape[1]} dimensions, but its "
            f"classes have {directions.shape[1]}; run crlsc-train teacher --force"
        )
    head = train_head(views, Pairs.of(sets), photo_features, directions, run.recipe.dim, recipe.steps, run.recipe.seed)
    save_tensors(head.state_dict(), folder / "head.safetensors")
    with torch.inference_mode():
        at_sizes = [head(view) for view in views]
        photos, placed = head(photo_features), head.place(directions)
    known = torch.cat([*at_sizes, photos, placed]).numpy()
    code = AirCode.train(known, code_size, run.recipe.seed, rounds=recipe.order_rounds)
    # A terminal is given codes, not vectors. Photographs have no names, and so no entries.
    save_tensors({"photos": torch.from_numpy(code.encode(photos.numpy()))}, folder / "codes.safetensors")
    of_teacher = f"classes of {run.recipe.teacher.tower}"
    named = [entry for each in sets for entry in entries(each)]
    named += [Entry(f"class/{i}", name, of_teacher, "Apache-2.0") for i, name in enumerate(classes)]
    KnowledgeBase.create(folder / "skb", code, torch.cat([at_sizes[-1], placed[: len(classes)]]).numpy(), named)


def directions_of_names(sets: Sequence[ImageSet], features: Tensor) -> Tensor:
    """Return the centred mean of the features, float32 [N, F], of each name's pictures: float32 [C, F] of unit norm."""
    names = [label or f"{each.name}/{key}" for each in sets for key, label in zip(each.keys, each.labels, strict=True)]
    _, rows = np.unique(names, return_inverse=True)
    sums = torch.zeros(rows.max() + 1, features.shape[1])
    return F.normalize(sums.index_add(0, torch.from_numpy(rows), features - features.mean(dim=0)), dim=1)


@dataclass(frozen=True)
class Pairs:
    """Pairs of pictures of different sets that show the same thing.

    Attributes:
        rows: Rows of the two pictures of each pair, int64 [P, 2], sorted by thing.
        first: Index in ``rows`` of the first pair of each thing, int64 [G].
        count: Number of pairs of each thing, int64 [G].
    """

    rows: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]

    @classmethod
    def of(cls, sets: Sequence[ImageSet]) -> Pairs:
        """Return the pairs of pictures of different sets and one group; if there are none, each picture with itself."""
        members: dict[str, list[tuple[int, int]]] = {}
        row = 0
        for number, each in enumerate(sets):
            for group in each.groups:
                if group:
                    members.setdefault(group, []).append((number, row))
                row += 1
        things = [
            [(a, b) for (set_a, a), (set_b, b) in combinations(rows, 2) if set_a != set_b] for rows in members.values()
        ]
        things = [pairs for pairs in things if pairs] or [[(i, i)] for i in range(row)]
        count = np.array([len(pairs) for pairs in things], np.int64)
        return cls(np.array([pair for pairs in things for pair in pairs], np.int64), count.cumsum() - count, count)

    def draw(self, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """Draw a pair of each of up to ``PAIR_BATCH`` things, int64 [G, 2]."""
        things = generator.permutation(len(self.count))[:PAIR_BATCH]
        drawn: npt.NDArray[np.int64] = self.rows[self.first[things] + generator.integers(self.count[things])]
        return drawn


class SpaceHead(nn.Module):
    """Linear map of features float32 [N, F] to shared-space vectors float32 [N, D] of unit norm.

    It starts as the principal components of the features and classes, which keep similar pictures close.

    Args:
        features: Features of pictures, float32 [N, F].
        classes: Directions of classes, float32 [C, F] of unit norm.
        dim: Size of the space, D.

    Raises:
        TrainingError: If there are fewer features than dimensions of the space.
    """

    mean: Tensor

    def __init__(self, features: Tensor, classes: Tensor, dim: int) -> None:
        super().__init__()
        if features.shape[1] < dim:
            has = features.shape[1]
            raise TrainingError(f"teacher: its features have {has} dimensions, fewer than the {dim} of the space")
        self.register_buffer("mean", features.mean(dim=0))
        self.linear = nn.Linear(features.shape[1], dim, bias=False)
        centred = features - self.mean
        spread = torch.cat([centred, classes * centred.norm(dim=1).mean()])
        _, _, components = torch.linalg.svd(spread, full_matrices=False)
        self.linear.weight.data.copy_(components[:dim])

    def place(self, directions: Tensor) -> Tensor:
        """Map directions among the features, float32 [N, F], into the space: float32 [N, D] of unit norm."""
        return F.normalize(self.linear(directions), dim=1)

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.linear(F.dropout(features - self.mean, DROPOUT, self.training)), dim=1)


def train_head(
    views: list[Tensor], pairs: Pairs, photos: Tensor, classes: Tensor, dim: int, steps: int, seed: int
) -> SpaceHead:
    """Train the head.

    Args:
        views: Features of the public pictures for each image size, float32 [N, F]; the sizes serve as augmentation.
        pairs: Pairs of them that show the same thing.
        photos: Features of photographs, float32 [P, F].
        classes: Directions of the tower's classes, float32 [C, F] of unit norm.
        dim: Size of the space.
        steps: Optimiser steps.
        seed: Seed of the order and of dropout.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    known = torch.cat([views[-1], photos])
    head = SpaceHead(known, classes, dim).train()
    # Centred, since some classes are close to every picture of a kind that the tower was not trained on.
    nearness = photos @ classes.T - (known @ classes.T).mean(dim=0)
    likely = (nearness / CLASS_TEMPERATURE).softmax(dim=1)
    each_class = torch.arange(len(classes))
    loss = ClipLoss()
    optimiser = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.05)
    for _ in range(steps):
        sizes, same = generator.integers(len(views), size=2), torch.from_numpy(pairs.draw(generator))
        first, second = (views[size][same[:, side]] for side, size in enumerate(sizes))
        rows = torch.from_numpy(generator.permutation(len(photos))[:PHOTO_BATCH])
        placed = head.place(classes)
        value = (
            loss(head(first), head(second), torch.tensor(1 / TEMPERATURE))
            + PHOTO_WEIGHT * F.cross_entropy(head(photos[rows]) @ placed.T / TEMPERATURE, likely[rows])
            + SPREAD_WEIGHT * F.cross_entropy(placed @ placed.T / TEMPERATURE, each_class)
        )
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    return head.eval()
