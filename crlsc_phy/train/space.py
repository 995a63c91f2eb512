"""The server's part: the shared space, its air code and the shared knowledge base.

A linear head maps the frozen tower's features into the space. Three losses shape it:

- open_clip's contrastive loss on pairs of public images that show the same thing: one pictogram drawn by two vendors;
- distillation on photographs, which have no names: in the space they must lie to the tower's classes as they do among
  its features;
- the classes keep apart from each other.

The shared knowledge base holds one named vector a pictogram and one a class.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from open_clip.loss import ClipLoss
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from crlsc_phy.semantic.teacher import load_tower

__all__ = ["SpaceHead", "tower_features", "train_head"]

TEMPERATURE = 0.07
CLASS_TEMPERATURE = 0.02
DROPOUT = 0.2
PHOTO_WEIGHT = 3.0
SPREAD_WEIGHT = 1.0
PHOTO_BATCH = 1000


class SpaceHead(nn.Module):
    """Features float32 [N, F] to shared-space vectors float32 [N, D] of unit norm.

    Starts as the principal components of ``features`` and ``classes``, which already keep near things near.
    """

    mean: Tensor

    def __init__(self, features: Tensor, classes: Tensor, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", features.mean(dim=0))
        self.linear = nn.Linear(features.shape[1], dim, bias=False)
        centred = features - self.mean
        spread = torch.cat([centred, classes * centred.norm(dim=1).mean()])
        _, _, components = torch.linalg.svd(spread, full_matrices=False)
        self.linear.weight.data.copy_(components[:dim])

    def place(self, directions: Tensor) -> Tensor:
        """Where directions among the features, float32 [N, F], lie in the space: float32 [N, D] of unit norm."""
        return F.normalize(self.linear(directions), dim=1)

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.linear(F.dropout(features - self.mean, DROPOUT, self.training)), dim=1)


def tower_features(images: npt.NDArray[np.uint8], tower: str, pixels: int, cache: Path, batch: int = 64) -> Tensor:
    """Features of ``images`` uint8 [N, H, W, 3] as float32 [N, F], kept in the file ``cache``."""
    if cache.exists():
        return torch.from_numpy(np.load(cache, allow_pickle=False))
    network = load_tower(tower, pixels)
    stack = torch.from_numpy(images).permute(0, 3, 1, 2)
    parts = [network(part.float() / 255) for part in track(torch.split(stack, batch), f"{tower} at {pixels} px")]
    features = torch.cat(parts).clone()
    cache.parent.mkdir(parents=True, exist_ok=True)
    aside = cache.with_suffix(".part")
    with aside.open("wb") as file:
        np.save(file, features.numpy())
    aside.replace(cache)
    return features


def train_head(
    views: list[tuple[Tensor, Tensor]], photos: Tensor, classes: Tensor, dim: int, steps: int, seed: int
) -> SpaceHead:
    """Train the head.

    Args:
        views: For each image size the features of the two vendors, float32 [N, F] each, row by row the same thing.
            The sizes serve as augmentation.
        photos: Features of photographs, float32 [P, F].
        classes: Directions of the tower's classes, float32 [C, F] of unit norm.
        dim: Size of the space.
        steps: Full-batch steps.
        seed: Of the order and of dropout.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    known = torch.cat([*views[-1], photos])
    head = SpaceHead(known, classes, dim).train()
    # Centred, since some classes lie near every picture of a kind that the tower has not seen in training.
    nearness = photos @ classes.T - (known @ classes.T).mean(dim=0)
    likely = (nearness / CLASS_TEMPERATURE).softmax(dim=1)
    each_class = torch.arange(len(classes))
    loss = ClipLoss()
    optimiser = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.05)
    for _ in range(steps):
        first, second = (views[i] for i in generator.integers(len(views), size=2))
        rows = torch.from_numpy(generator.permutation(len(photos))[:PHOTO_BATCH])
        placed = head.place(classes)
        value = (
            loss(head(first[0]), head(second[1]), torch.tensor(1 / TEMPERATURE))
            + PHOTO_WEIGHT * F.cross_entropy(head(photos[rows]) @ placed.T / TEMPERATURE, likely[rows])
            + SPREAD_WEIGHT * F.cross_entropy(placed @ placed.T / TEMPERATURE, each_class)
        )
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    return head.eval()
