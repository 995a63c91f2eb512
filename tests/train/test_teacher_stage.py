"""The teacher stage with towers that can name nothing, and what the shared space makes of that."""

import pytest
import timm
import torch
from safetensors.torch import load_file

from crlsc_phy.cli.train import main
from crlsc_phy.data import open_images
from crlsc_phy.errors import TrainingError
from crlsc_phy.knowledge import KnowledgeBase
from crlsc_phy.train.recipe import TextRecipe, load_recipe
from crlsc_phy.train.skb import directions_of_names
from crlsc_phy.train.teacher import steps


@pytest.fixture
def arguments(tiny_data, tiny_recipe, tmp_path):
    """A run of the first two stages, up to the options of --set."""
    stages = ["run", str(tiny_recipe), "--data", str(tiny_data), "--stages", "teacher", "skb"]
    return [*stages, "--work", str(tmp_path), "--set", "data.private=[]"]


def tower(tmp_path, name: str, classes: int) -> str:
    torch.manual_seed(0)
    torch.save(timm.create_model(name, num_classes=classes).state_dict(), tmp_path / f"{classes}.pt")
    return f"timm:{name}:{tmp_path / f'{classes}.pt'}"


@pytest.mark.parametrize("classes", [0, 1000])
def test_the_knowledge_base_has_the_classes_that_there_are(arguments, tmp_path, classes):
    assert main([*arguments, f"teacher.tower={tower(tmp_path, 'test_resnet', classes)}"]) == 0
    entries = KnowledgeBase.open(tmp_path / "skb/skb").entries
    assert [entry.name.startswith("class/") for entry in entries] == [False] * 60 + [True] * classes
    assert (tmp_path / "teacher/classes.json").exists() == (classes == 1000)
    assert load_file(tmp_path / "skb/head.safetensors")["linear.weight"].shape == (16, 96)


def test_the_shards_of_features_are_the_teachers(arguments, tmp_path):
    arguments.append(f"teacher.tower={tower(tmp_path, 'test_resnet', 0)}")
    assert main(arguments) == 0
    shards = {path: path.stat().st_mtime_ns for path in (tmp_path / "teacher/work/features").iterdir()}
    # Pictures and crops, once each: this tower has a size of its own, so that two make no difference.
    assert len(shards) == 2
    arguments.remove("teacher")
    assert main([*arguments, "--force"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "teacher/work/features").iterdir()} == shards


def test_a_space_of_more_dimensions_than_features_is_refused(arguments, tmp_path, capsys):
    larger = ["decoder.detail.semantic_dim=128", "analog.coder.semantic_dim=128"]
    larger += [f"encoder.sizes.{name}.dim=128" for name in ("wide", "narrow")]
    assert main([*arguments, f"teacher.tower={tower(tmp_path, 'test_resnet', 0)}", *larger]) == 2
    assert "teacher: its features have 96 dimensions, fewer than the 128 of the space" in capsys.readouterr().err


def test_names_are_the_means_of_their_pictures(tiny_data):
    sets = [open_images(f"pictograms:{vendor}", tiny_data) for vendor in ("google", "twitter")]
    generator = torch.Generator().manual_seed(0)
    things = torch.randn(30, 64, generator=generator).repeat(2, 1)
    features = things + 0.01 * torch.randn(60, 64, generator=generator)
    directions = directions_of_names(sets, features)
    assert directions.shape == (30, 64)
    nearest = ((features - features.mean(dim=0)) @ directions.T).argmax(dim=1)
    names = sorted(set(sets[0].labels))
    assert [names[row] for row in nearest.tolist()] == [*sets[0].labels, *sets[1].labels]


def test_a_recipe_asks_for_a_text_tower_or_not(tmp_path):
    (tmp_path / "r.yaml").write_text("teacher: {text: {}}")
    recipe = load_recipe(tmp_path / "r.yaml")
    assert recipe.teacher.text == TextRecipe()
    assert [step.name for step in steps(recipe)] == ["teacher", "teacher/text"]
    recipe = load_recipe(tmp_path / "r.yaml", ["teacher.text=null"])
    assert recipe.teacher.text is None
    assert [step.name for step in steps(recipe)] == ["teacher"]
    with pytest.raises(TrainingError, match="text: unknown option 'widht'"):
        load_recipe(tmp_path / "r.yaml", ["teacher.text.widht=3"])
    with pytest.raises(TrainingError, match="has a text tower of its own; leave it out"):
        steps(load_recipe(tmp_path / "r.yaml", ["teacher.tower=open_clip:ViT-B-32:openai"]))
