"""Tiny data sets, a recipe that trains in seconds, and the bundle of it that the tests of the trainer share."""

from pathlib import Path

import numpy as np
import pytest

from crlsc_phy.cli.train import main
from crlsc_phy.data import OBJECT_CATEGORIES

RECIPE = """
name: tiny
data: {private: ["things:fluent"]}
skb: {pixels: [32, 48], photo_crops: 200, steps: 2, order_rounds: 100, code_bytes: 8}
encoder:
  sizes:
    wide: {pixels: 32, dim: 16, stages: 3, width: 16}
    narrow: {pixels: 32, dim: 16, stages: 2, width: 16}
  loop: {steps: 2, batch: 4}
decoder:
  detail: {semantic_dim: 16, latent_dim: 8, levels: 2, codebook_bits: 4, narrow: 16, wide: 16}
  alone: {steps: 2, batch: 4}
  conditioned: {steps: 2, batch: 4}
  head_steps: 2
analog:
  coder: {semantic_dim: 16, symbols: 8, narrow: 8, wide: 16, sender_blocks: 1, receiver_blocks: 1}
  alone: {steps: 2, batch: 4}
  conditioned: {steps: 2, batch: 4}
"""


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """Pictograms of three vendors and photographs, of noise, where ``crlsc-train data`` puts the real ones."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    ids = np.array([f"{i:x}" for i in range(30)])
    for vendor in ("google", "twitter", "fluent"):
        np.savez(
            folder / f"pictograms-{vendor}.npz",
            images=generator.integers(0, 256, (30, 128, 128, 3), np.uint8),
            ids=ids,
            names=np.array([f"thing {i}" for i in ids]),
            categories=np.array([OBJECT_CATEGORIES[0]] * 30),
        )
    for split, count in (("train", 3), ("heldout", 2)):
        photos = {f"set/{i}": generator.integers(0, 256, (200, 260, 3), np.uint8) for i in range(count)}
        np.savez(folder / f"photos-{split}.npz", **photos)
    return folder


@pytest.fixture(scope="session")
def trained(tiny_data, tiny_recipe, shared) -> Path:
    """A folder with a run of the whole recipe, ``run``, and its bundle, ``bundle``."""

    def make(folder: Path) -> None:
        arguments = ["run", str(tiny_recipe), "--data", str(tiny_data), "--run", str(folder / "run")]
        assert main([*arguments, "--out", str(folder / "bundle")]) == 0

    return shared("trained", make)
