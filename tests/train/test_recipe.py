"""Recipes are validated before anything runs."""

import pytest

from crlsc_phy.cli.train import main
from crlsc_phy.errors import TrainingError
from crlsc_phy.train.recipe import Recipe, load_recipe


def test_the_shipped_recipe_loads():
    from importlib import resources

    recipe = load_recipe(str(resources.files("crlsc_phy.train") / "recipes/default.yaml"))
    assert recipe.name == "default"
    assert recipe.space.vendors == ("google", "twitter")


def test_an_empty_recipe_is_all_defaults(tmp_path):
    (tmp_path / "r.yaml").write_text("")
    assert load_recipe(tmp_path / "r.yaml") == Recipe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz: 3", "unknown option 'stepz'; known are"),
        ("encoder: {dimm: 3}", "encoder: unknown option 'dimm'"),
        ("seed: many", "seed is 'many'; it must be int"),
        ("encoder: 3", "must be a mapping"),
        ("encoder: {dim: 32}", "detail.semantic_dim is 64"),
        ("space: {code_bytes: 7}", "no multiple of code_bytes 7"),
        ("a: [", "not YAML"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path, capsys, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(TrainingError, match=message):
        load_recipe(tmp_path / "r.yaml")
    assert main(["run", str(tmp_path / "r.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_missing_recipe_is_named(capsys):
    assert main(["run", "absent.yaml"]) == 2
    assert "absent.yaml" in capsys.readouterr().err


def test_missing_data_says_how_to_get_it(tmp_path, capsys):
    assert main(["run", "default", "--data", str(tmp_path), "--run", str(tmp_path / "run")]) == 2
    assert "run crlsc-train data" in capsys.readouterr().err
