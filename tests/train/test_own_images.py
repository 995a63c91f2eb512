"""A folder of pictures becomes a bundle by one option."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from crlsc_phy.cli.train import main
from crlsc_phy.codec import SemanticCodec

# Without the analog coder, and with one encoder: their graphs take most of the time of a training, and all of them are
# made in test_pipeline.
FEWER = ("analog.alone.steps=0", "encoder.sizes={narrow: {pixels: 32, dim: 16, stages: 2, width: 16}}")


def pictures(folder, names):
    """Distinct pictures of 80 x 100 pixels: smooth random fields, so that none is nearly another."""
    for seed, name in enumerate(names):
        field = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(field).resize((80, 100), Image.Resampling.BICUBIC).save(folder / name)
    return folder


def train(folder, recipe, tmp_path, *options):
    command = ["run", str(recipe), "--images", str(folder), "--data", str(tmp_path / "data"), "--json"]
    command += ["--work", str(tmp_path / "run"), "--out", str(tmp_path / "bundle")]
    # The tiny recipe names a private set of its own.
    return main([*command, "--set", "data.private=[]", "name=mine", *options])


def test_a_folder_of_classes_becomes_a_bundle(tiny_recipe, tmp_path, capsys):
    """Also with a broken picture in it, one of the longest name, and one whose name is not UTF-8."""
    folder = pictures(tmp_path / "mine", [f"{'ab'[i % 2]}/{i}.png" for i in range(80)])
    (folder / "a/broken.png").write_bytes(b"no picture")
    (folder / "a/4.png").rename(folder / f"a/{'x' * 236}.png")
    (folder / "a/2.png").rename(folder / "a" / os.fsdecode(b"caf\xe9.png"))
    assert train(folder, tiny_recipe, tmp_path, *FEWER) == 0
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    codec = SemanticCodec.load(tmp_path / "bundle")
    assert codec.classes == ("a", "b")
    names = [entry.name for entry in codec.bundle.knowledge.entries]
    own = [name for name in names if name.startswith("mine/")]
    assert len(own) + metrics["retrieval"]["asked"] == 80
    assert {f"mine/a/{'x' * 236}.png", "mine/a/caf\\udce9.png"} <= {*own}
    # Where the folder lies is no business of who gets the bundle's knowledge base.
    assert not any(str(tmp_path) in entry.name + entry.source for entry in codec.bundle.knowledge.entries)
    assert "folder:" in (tmp_path / "bundle/MODEL_CARD.md").read_text()


def test_pictures_without_names_make_a_bundle_without_a_head(tiny_recipe, tmp_path, capsys):
    folder = pictures(tmp_path / "mine", [f"{i}.png" for i in range(60)])
    assert train(folder, tiny_recipe, tmp_path, *FEWER) == 0
    assert "classification: left out; it needs 2 classes, and folder:" in capsys.readouterr().err
    codec = SemanticCodec.load(tmp_path / "bundle")
    assert codec.classes == ()
    assert "No held-out pictures were asked for" in (tmp_path / "bundle/MODEL_CARD.md").read_text()


@pytest.mark.parametrize("content", [None, "empty"])
def test_a_folder_that_is_not_there_or_empty_is_refused_before_anything_runs(tiny_recipe, tmp_path, capsys, content):
    if content:
        (tmp_path / "mine").mkdir()
    assert train(tmp_path / "mine", tiny_recipe, tmp_path) == 2
    told = capsys.readouterr().err
    assert "mine" in told.splitlines()[-1]
    assert not (tmp_path / "bundle").exists()
