"""Accuracy of a text tower beside the wheel's image tower: pictures of an unseen vendor, by their names.

    crlsc-train data
    python benchmarks/words.py [--seeds 3] [--cache out/features]

The teacher is lite0 with a text tower of the default sizes (locked-image tuning), the pictures are the things of the
held-out vendor. Each is asked about with the names of all. "teacher" compares among the tower's features, "space" in
the shared space, which a codec's semantic vectors lie in. "seen" has all public names in the training of the text
tower; of "unseen" a tenth of them, drawn by the seed, was left out: only pictures of these are asked about, and all
names compete.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import bench
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from crlsc_phy.data import open_images
from crlsc_phy.images import UInt8Image
from crlsc_phy.semantic.teacher import load_classes
from crlsc_phy.semantic.text import TextTower
from crlsc_phy.train.embed import embed
from crlsc_phy.train.pictures import SIDE, photo_crops
from crlsc_phy.train.recipe import Recipe, TextRecipe, load_recipe
from crlsc_phy.train.skb import Pairs, SpaceHead, train_head
from crlsc_phy.train.text import train_text, zero_shot

Floats = NDArray[np.float32]

HELD_OUT = 0.1
ASKED_AT = (112, 160)


class Sets:
    """The features of all pictures, and the names of those that have one."""

    def __init__(self, recipe: Recipe, data: Path, cache: Path) -> None:
        def features(images: UInt8Image, pixels: int) -> Tensor:
            return embed(images, recipe.teacher.tower, pixels, cache)

        public = [open_images(name, data) for name in recipe.data.public]
        pictures = np.concatenate([each.squares(SIDE) for each in public])
        self.pairs = Pairs.of(public)
        self.labels = [label for each in public for label in each.labels]
        self.views = [features(pictures, pixels) for pixels in recipe.skb.pixels]
        self.photos = features(photo_crops(recipe, data), recipe.skb.pixels[-1])
        (name,) = recipe.data.asked
        asked = open_images(name, data)
        self.asked_labels = list(asked.labels)
        self.asked = {pixels: features(asked.squares(SIDE), pixels) for pixels in ASKED_AT}


def measure(sets: Sets, head: SpaceHead, text: TextRecipe, unseen: set[str], seed: int) -> list[dict[str, Any]]:
    labels = ["" if label in unseen else label for label in sets.labels]
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        tower = train_text(sets.views, labels, text, Path(folder), seed, threads=1)
    cpu_s = round(time.process_time() - start)
    rows = [row for row, label in enumerate(sets.asked_labels) if not unseen or label in unseen]
    shared = {"names_in_training": "unseen" if unseen else "seen", "seed": seed, "cpu_s": cpu_s}
    return [
        {**shared, "space": space, "pixels": pixels, **found}
        for space in ("teacher", "space")
        for pixels, found in ask(sets, tower, head if space == "space" else None, rows).items()
    ]


@torch.inference_mode()
def ask(sets: Sets, tower: TextTower, head: SpaceHead | None, rows: list[int]) -> dict[int, dict[str, Any]]:
    """Ask for pictures by name, at each size; among the tower's features if there is no head."""
    mean = sets.views[-1].mean(dim=0)

    def texts(names: list[str]) -> Floats:
        directions = tower.embed(names)
        return (head.place(directions) if head else directions).numpy()

    return {
        pixels: zero_shot(
            (head(features) if head else F.normalize(features - mean, dim=1)).numpy(), texts, sets.asked_labels, rows
        )
        for pixels, features in sets.asked.items()
    }


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__, seed=None)
    benchmark.add("--data", Path("data"), "folder that `crlsc-train data` filled")
    benchmark.add("--cache", Path("out/features"), "folder of the features")
    benchmark.add("--seeds", 3, "trainings of each kind, each with a seed of its own", quick=1)
    options = benchmark.parse()

    torch.set_num_threads(1)
    recipe, text = load_recipe("default"), TextRecipe()
    if options.quick:
        recipe = load_recipe("default", ["skb.pixels=[32, 48]", "skb.photo_crops=20", "skb.steps=2"])
        text = TextRecipe(loop=replace(text.loop, steps=2))
    sets = Sets(recipe, options.data, options.cache)
    classes = load_classes(recipe.teacher.tower)
    assert classes is not None
    names = sorted(set(sets.labels))
    rows = []
    for seed in range(options.seeds):
        head = train_head(sets.views, sets.pairs, sets.photos, classes[1], recipe.dim, recipe.skb.steps, seed)
        drawn = np.random.default_rng(seed).permutation(len(names))[: round(HELD_OUT * len(names))]
        for unseen in (set[str](), {names[row] for row in drawn}):
            rows += measure(sets, head, text, unseen, seed)
        benchmark.write({"text": asdict(text), "rows": rows})
    bench.show("Names", rows)


if __name__ == "__main__":
    main()
