"""Pictures as the stages take them: odd sides, long paths."""

import numpy as np
from PIL import Image

from crlsc_phy.train.heldout import heldout_crops
from crlsc_phy.train.pkb import steps
from crlsc_phy.train.recipe import DataRecipe, Recipe


def test_a_held_out_line_of_pixels_is_left_out(tmp_path):
    (tmp_path / "mine").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mine/a.png")
    Image.fromarray(pixels[:1]).save(tmp_path / "mine/line.png")
    recipe = Recipe(data=DataRecipe(heldout=(f"folder:{tmp_path / 'mine'}",)))
    assert {side: len(crops) for side, crops in heldout_crops(recipe, tmp_path).items()} == {"192": 8, "384": 8}


def test_private_sets_of_long_paths_have_folders_of_their_own():
    paths = [f"folder:/{'deep/' * 100}{name}" for name in "ab"]
    names = [step.name for step in steps(Recipe(data=DataRecipe(private=(*paths, "things:fluent"))))]
    assert names[2] == "pkb/things-fluent"
    assert len({*names}) == 3
    assert all(len(name) < 255 for name in names)
