"""A bundle whose teacher has a text tower, of its own or by locked-image tuning, is searched with words."""

import json

import numpy as np
import open_clip
import pytest
import torch
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, SIMPLE_IMAGENET_TEMPLATES
from safetensors.numpy import load_file
from torch.nn import functional as F

from crlsc_phy.bundle import Bundle
from crlsc_phy.cli import kb
from crlsc_phy.cli.kb_images import embedded_text
from crlsc_phy.cli.train import main
from crlsc_phy.errors import TrainingError
from crlsc_phy.knowledge import KnowledgeBase
from crlsc_phy.train.recipe import LoopRecipe, TextRecipe
from crlsc_phy.train.text import train_text, zero_shot

THINGS = [f"{colour} {thing}" for colour in ("red", "green", "blue") for thing in ("apple", "car", "house", "dog")]
SMALL = TextRecipe(width=32, loop=LoopRecipe(steps=60, batch=12, learning_rate=1e-2))


def views(count: int = 2) -> list[torch.Tensor]:
    """Features as two towers could give them: a direction a thing, much in common, some noise."""
    generator = torch.Generator().manual_seed(0)
    things = torch.randn(len(THINGS), 24, generator=generator).repeat(2, 1)
    noise = torch.randn(count, len(things), 24, generator=generator)
    return [F.normalize(5 + things + 0.2 * part, dim=1) for part in noise]


def test_a_text_tower_learns_the_names_of_features(tmp_path):
    tower = train_text(views(), THINGS * 2, SMALL, tmp_path, seed=0, threads=1)
    (seen,) = views(1)
    pictures = F.normalize(seen - seen.mean(dim=0), dim=1).numpy()
    found = zero_shot(pictures, lambda texts: tower.embed(texts).numpy(), THINGS * 2)
    assert (found["asked"], found["names"]) == (24, 12)
    assert found["top1"][0] > 0.9
    assert (tmp_path / "vocabulary.json").exists()


def test_pictures_without_a_name_are_not_learnt_from(tmp_path):
    with pytest.raises(TrainingError, match="no picture of data.public has a label"):
        train_text(views(), [""] * 24, SMALL, tmp_path, seed=0, threads=1)
    labels = ["", *THINGS[1:]] * 2
    tower = train_text(views(), labels, TextRecipe(width=32, loop=LoopRecipe(2, 4)), tmp_path, seed=0, threads=1)
    assert "apple</w>" in tower.config.tokens
    assert tower.tokens(["red apple"])[0].count_nonzero() == 4


def test_pictures_without_a_name_are_not_asked_about(tmp_path):
    tower = train_text(views(), THINGS * 2, TextRecipe(width=32, loop=LoopRecipe(2, 4)), tmp_path, seed=0, threads=1)
    found = zero_shot(np.ones((3, 24), np.float32), lambda texts: tower.embed(texts).numpy(), [""] * 3)
    assert found == {"asked": 0, "names": 0, "top1": None, "top5": None}


def test_a_text_tower_that_was_cut_off_goes_on_to_the_same(tmp_path, monkeypatch):
    """The loop is the one of all stages; here that the batches of this one depend on the step alone."""
    from crlsc_phy.train import loop

    recipe = TextRecipe(width=32, loop=LoopRecipe(steps=8, batch=6, check_every=4))
    whole = train_text(views(), THINGS * 2, recipe, tmp_path / "whole", seed=0, threads=1)
    step = loop.StepModule.training_step

    def cut(module, batch, index):
        if module.global_step == 6:
            raise RuntimeError("cut off")
        return step(module, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(loop.StepModule, "training_step", cut)
        with pytest.raises(RuntimeError, match="cut off"):
            train_text(views(), THINGS * 2, recipe, tmp_path / "cut", seed=0, threads=1)
    assert (tmp_path / "cut/work/last.ckpt").exists()
    resumed = train_text(views(), THINGS * 2, recipe, tmp_path / "cut", seed=0, threads=1)
    texts = ["red apple", "a drawing of blue dog"]
    assert torch.allclose(resumed.embed(texts), whole.embed(texts), atol=1e-5)


@pytest.mark.slow
def test_a_bundle_with_a_tuned_text_tower_is_searched_with_words(tiny_data, tiny_recipe, tmp_path, capsys):
    arguments = ["run", str(tiny_recipe), "--data", str(tiny_data), "--work", str(tmp_path / "run")]
    arguments += ["--set", "teacher.text={width: 32, loop: {steps: 2, batch: 8}}"]
    assert main([*arguments, "--out", str(tmp_path / "bundle")]) == 0
    capsys.readouterr()
    metrics = json.loads((tmp_path / "bundle/metrics.json").read_text())
    assert metrics["words"]["things:fluent"]["asked"] == 30
    bundle = Bundle.load(tmp_path / "bundle")
    assert (bundle.folder / "text_tower.safetensors").stat().st_size < 1e6
    assert json.loads((bundle.folder / "vocabulary.json").read_text())["dim"] == 1280
    vectors = bundle.embed_texts(["thing 1", "a picture of thing 2"])
    assert vectors.shape == (2, 16)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    search = ["search", str(tmp_path / "bundle/skb"), "--bundle", str(tmp_path / "bundle"), "--json", "--text"]
    assert kb.main([*search, "thing 1"]) == 0
    hits = json.loads(capsys.readouterr().out)
    (expected,) = bundle.knowledge.search(vectors[:1], 5)
    assert [hit["name"] for hit in hits] == [hit.name for hit in expected]
    assert kb.main([*search, "xylophone"]) == 2
    assert "'xylophone': no word of it occurs" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1200)  # CLIP's text tower reads 7,000 sentences.
def test_words_lie_where_the_space_has_their_classes(tiny_data, tiny_recipe, tmp_path, capsys):
    """The teacher is one of open_clip's with random weights: only whether its parts fit together is asked."""
    torch.manual_seed(0)
    torch.save(open_clip.create_model("ViT-S-32-alt").state_dict(), tmp_path / "clip.pt")
    arguments = ["run", str(tiny_recipe), "--data", str(tiny_data), "--work", str(tmp_path / "run")]
    arguments += ["--set", f"teacher.tower=open_clip:ViT-S-32-alt:{tmp_path / 'clip.pt'}", "skb.pixels=[32, 224]"]
    assert main([*arguments, "--out", str(tmp_path / "bundle")]) == 0
    capsys.readouterr()

    # A class's place in the space is that of the mean of its name in several sentences.
    code = KnowledgeBase.open(tmp_path / "bundle/skb").air_code
    texts = [template("teapot") for template in SIMPLE_IMAGENET_TEMPLATES]
    parts = np.concatenate([embedded_text(tmp_path / "bundle", text, code) for text in texts])
    directions = load_file(tmp_path / "run/teacher/classes.safetensors")["directions"]
    weight = load_file(tmp_path / "run/skb/head.safetensors")["linear.weight"]
    placed = weight @ directions[IMAGENET_CLASSNAMES.index("teapot")]
    assert np.abs(np.linalg.norm(parts, axis=1) - 1).max() < 1e-5
    mean = parts.mean(axis=0)
    assert mean @ placed / np.linalg.norm(mean) / np.linalg.norm(placed) > 0.99

    arguments = ["search", tmp_path / "bundle/skb", "--text", texts[0], "--bundle", tmp_path / "bundle", "--json"]
    assert kb.main([str(argument) for argument in arguments]) == 0
    hits = json.loads(capsys.readouterr().out)
    (expected,) = KnowledgeBase.open(tmp_path / "bundle/skb").search(parts[:1], 5)
    assert [hit["name"] for hit in hits] == [hit.name for hit in expected]
