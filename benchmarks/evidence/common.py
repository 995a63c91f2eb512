"""Common parts of the experiments: budgets, the knowledge base and encoders of a seed, intervals, tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from crlsc_phy.data import open_images
from crlsc_phy.files import sha256_of
from crlsc_phy.images import UInt8Image
from crlsc_phy.train import encoder, skb, teacher
from crlsc_phy.train.embed import embed
from crlsc_phy.train.pictures import SIDE
from crlsc_phy.train.pipeline import WORK, Run, run_steps
from crlsc_phy.train.recipe import load_recipe
from crlsc_phy.train.teacher import load_directions

DRAWS = 2000
UNSEEN = "things:fluent"
"""Pictures of the vendor that neither teacher, knowledge base nor encoders have been trained on."""


@dataclass(frozen=True)
class Budget:
    """The budget of an experiment.

    Attributes:
        name: Name of the folder of its runs.
        seeds: Each repeats everything: space, air code, encoders, draws of labels.
        changes: Changes to the default recipe.
        terminal_steps: Training steps of a terminal's encoder whose CPU time is counted, 64 pictures each.
        decoder_steps: Training steps of a decoder that is tuned to an encoder, 32 crops each.
    """

    name: str = "full"
    seeds: tuple[int, ...] = (0, 1, 2)
    changes: tuple[str, ...] = ()
    terminal_steps: int = 150
    decoder_steps: int = 60


FULL = Budget()
QUICK = Budget(
    "quick",
    (0, 1),
    (
        "skb.pixels=[64, 96]",
        "skb.photo_crops=500",
        "skb.steps=100",
        # No experiment has bit errors on the air, which are what the order of centroids is for.
        "skb.order_rounds=1000",
        "encoder.loop.steps=15",
    ),
    5,
    5,
)


@dataclass(frozen=True)
class Lab:
    """The folders and the budget of an experiment.

    Attributes:
        budget: What it may spend.
        data: Folder that ``crlsc-train data`` filled.
        folder: Folder of the results of jobs.
        bundle: The shipped bundle.
    """

    budget: Budget
    data: Path
    folder: Path
    bundle: Path

    def run_of(self, seed: int, jobs: int = 1) -> Run:
        """Return the run of the default recipe with this seed and the budget's changes."""
        recipe = load_recipe("default", (f"seed={seed}", *self.budget.changes))
        return Run(recipe, self.data, self.folder / f"seed-{seed}", jobs)

    def make_base(self, seed: int, jobs: int) -> None:
        """Make teacher and shared knowledge base of a seed, if they are not there."""
        run = self.run_of(seed, jobs)
        features = run.folder / "skb" / WORK / "features"
        if not features.exists():
            # The tower is the same for all seeds, and shards go by the content of the pictures.
            features.parent.mkdir(parents=True, exist_ok=True)
            (self.folder / "features").mkdir(exist_ok=True)
            features.symlink_to((self.folder / "features").resolve(), target_is_directory=True)
        run_steps(run, [*teacher.steps(run.recipe), *skb.steps(run.recipe)])

    def make_encoder(self, seed: int, size: str) -> None:
        """Train a terminal's encoder of a seed, if it is not there."""
        run = self.run_of(seed)
        run_steps(run, [step for step in encoder.steps(run.recipe) if step.name == f"encoder/{size}"])

    def make(self, seed: int, need: str) -> None:
        """Train ``encoder/SIZE`` or ``terminal/SIZE`` of a seed, if it is not there."""
        kind, _, size = need.partition("/")
        {"encoder": self.make_encoder, "terminal": self.terminal_of}[kind](seed, size)

    def terminal_of(self, seed: int, size: str) -> Run:
        """Return a run with an encoder of a terminal's budget and the seed's knowledge base, trained if need be."""
        base = self.run_of(seed)
        changes = (f"seed={seed}", *self.budget.changes, f"encoder.loop.steps={self.budget.terminal_steps}")
        run = Run(load_recipe("default", changes), self.data, self.folder / f"terminal-{seed}")
        run.folder.mkdir(exist_ok=True)
        knowledge = run.folder / "skb"
        if not knowledge.exists():
            knowledge.symlink_to((base.folder / "skb").resolve(), target_is_directory=True)
        run_steps(run, [step for step in encoder.steps(run.recipe) if step.name == f"encoder/{size}"])
        return run

    def squares(self, *names: str) -> UInt8Image:
        """Return all pictures of sets, uint8 [N, SIDE, SIDE, 3]."""
        return np.concatenate([open_images(name, self.data).squares(SIDE) for name in names])


class Experiment(Protocol):
    """The interface of an experiment's module.

    A job is one arm with one seed; its result is plain JSON. ``report`` and ``plot`` are given all results: by arm,
    one a seed.
    """

    TITLE: str
    NEEDS: tuple[str, ...]
    """Steps needed for each seed: ``encoder/SIZE`` or ``terminal/SIZE``; none if the shipped bundle will do."""
    REPEATED: bool
    """True if the result depends on the seed."""

    def arms(self, lab: Lab, /) -> list[str]: ...

    def measure(self, lab: Lab, seed: int, arm: str, /) -> dict[str, Any]: ...

    def report(self, results: Results, budget: Budget, /) -> str: ...

    def plot(self, lab: Lab, results: Results, path: Path, /) -> None: ...


Results = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Space:
    """The shared space of a run, as its server knows it."""

    run: Run

    @cached_property
    def _head(self) -> dict[str, Tensor]:
        return load_file(self.run.folder / "skb/head.safetensors")

    def place(self, images: UInt8Image) -> NDArray[np.float32]:
        """Embed pictures by the teacher, float32 [N, D] of unit norm."""
        recipe = self.run.recipe
        shards = self.run.folder / "skb" / WORK / "features"
        features = embed(images, recipe.teacher.tower, recipe.skb.pixels[-1], shards)
        return self._placed(features - self._head["mean"])

    @property
    def classes(self) -> NDArray[np.float32]:
        """The teacher's classes in the space, float32 [C, D]."""
        return self._placed(load_directions(self.run)[1])

    def _placed(self, directions: Tensor) -> NDArray[np.float32]:
        return np.asarray(F.normalize(directions @ self._head["linear.weight"].T, dim=1))


def cpu_seconds(run: Run, size: str) -> float:
    """Return the CPU time of the training of an encoder."""
    path = run.folder / "encoder" / size / WORK / "cpu_seconds.json"
    return float(json.loads(path.read_text(encoding="utf-8")))


def encode(run: Run, size: str, images: UInt8Image) -> NDArray[np.float32]:
    """Embed pictures by a terminal's encoder, float32 [N, D] of unit norm."""
    return np.asarray(run.load_encoder(size).embed(planes(images)))


def planes(images: UInt8Image) -> Tensor:
    """Turn uint8 [N, H, W, 3] into the networks' uint8 [N, 3, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)


def bundle_arm(lab: Lab) -> str:
    """Name the shipped bundle as an arm: another bundle is another job."""
    return f"{lab.bundle.name}-{sha256_of(lab.bundle / 'manifest.json')[:8]}"


def as_digits(hits: NDArray[np.bool_]) -> str:
    """Write which test pictures an arm got right, a digit each."""
    return "".join("01"[int(hit)] for hit in hits)


def from_digits(digits: Sequence[str]) -> NDArray[np.float64]:
    """Read what :func:`as_digits` wrote of each seed, float64 [S, N]."""
    return np.array([[int(digit) for digit in row] for row in digits], np.float64)


def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return mean and bootstrap 95 % interval of ``values`` [seeds, test pictures]; both are drawn with replacement.

    Not :func:`crlsc_phy.quality.intervals.bootstrap`, which draws along one axis: the pictures are the same with every
    seed, so one draw of them serves all (crossed resampling, Owen 2007).
    """
    rng = np.random.default_rng(0)
    seeds, pictures = values.shape
    means = [
        values[rng.integers(seeds, size=seeds)][:, rng.integers(pictures, size=pictures)].mean() for _ in range(DRAWS)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def percent(values: NDArray[np.float64]) -> str:
    """Format mean and interval of hits, in percent."""
    mean, low, high = (100 * value for value in interval(values))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def spread(values: NDArray[np.float64], digits: int) -> str:
    """Format mean and interval of measurements."""
    mean, low, high = interval(values)
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def signed(values: NDArray[np.float64], digits: int) -> str:
    """Format mean and interval of differences."""
    mean, low, high = interval(values)
    return f"{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
