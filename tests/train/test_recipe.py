"""Recipes are validated before anything runs."""

import sys

import pytest

from crlsc_phy.cli.train import STAGES, main
from crlsc_phy.errors import TrainingError
from crlsc_phy.train.recipe import Recipe, load_recipe
from crlsc_phy.train.stages import all_steps


def test_the_shipped_recipe_loads():
    recipe = load_recipe("default")
    assert recipe.name == "default"
    assert recipe.data.public == ("pictograms:google", "pictograms:twitter")


def test_an_empty_recipe_is_all_defaults(tmp_path):
    (tmp_path / "r.yaml").write_text("")
    assert load_recipe(tmp_path / "r.yaml") == Recipe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz: 3", "unknown option 'stepz'; choose one of analog"),
        ("encoder: {sizes: {a: {dimm: 3}}}", r"encoder\.sizes\.a: unknown option 'dimm'; choose one of dim, pixels"),
        ("encoder: {sizes: {}}", "encoder.sizes is empty"),
        ("encoder: {loop: {steps: true}}", r"encoder\.loop\.steps is True; it must be a whole number"),
        ("data: {public: photos}", r"data\.public is 'photos'; it must be a list"),
        ("decoder: {tasks: [cooking]}", "no task 'cooking'; choose among reconstruction"),
        ("decoder: {tasks: [retrieval]}", "lacks reconstruction"),
        ("seed: many", "seed is 'many'; it must be a whole number"),
        ("encoder: 3", "encoder is 3; it must be a mapping of options"),
        ("encoder: {sizes: {a: {dim: 32}}}", "detail.semantic_dim is 64"),
        ("skb: {code_bytes: 7}", "skb.code_bytes is 7; it must divide detail.semantic_dim, 64"),
        ("skb: {code_bytes: 0}", "skb.code_bytes is 0; it must be 1 or more"),
        ("skb: {code_bytes: 64}", "skb.code_bytes is 64; it must be 63 or less"),
        ("encoder: {loop: {learning_rate: .nan}}", "encoder.loop.learning_rate is nan; it must be a finite number"),
        ("decoder: {broken_share: 2}", "decoder.broken_share is 2; it must be 1 or less"),
        ("a: [", "not YAML"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path, capsys, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(TrainingError, match=message):
        all_steps(load_recipe(tmp_path / "r.yaml"), STAGES)
    assert main(["run", str(tmp_path / "r.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["default", "animals", "faces"])
def test_every_shipped_recipe_has_steps(name):
    steps = [step.name for step in all_steps(load_recipe(name), STAGES)]
    assert steps[0] == "teacher"
    assert steps.index("skb") < steps.index("encoder/medium")
    assert steps[-1] == "evaluate"
    assert len(set(steps)) == len(steps)


def test_options_take_the_place_of_the_files():
    recipe = load_recipe("default", ["seed=3", "encoder.loop.learning_rate=1", "data.private=['folder:x']"])
    assert (recipe.seed, recipe.encoder.loop.learning_rate, recipe.data.private) == (3, 1.0, ("folder:x",))
    assert recipe.encoder.loop.steps == load_recipe("default").encoder.loop.steps


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed", "write OPTION=VALUE, such as"),
        ("seed.x=3", "seed has no options; it is a value itself"),
        ("encoder.loop.stepz=3", "encoder.loop: unknown option 'stepz'; choose one of steps"),
        ("seed=[", "--set seed=\\[: not YAML"),
    ],
)
def test_a_wrong_option_is_refused(change, message):
    with pytest.raises(TrainingError, match=message):
        load_recipe("default", [change])


def test_a_missing_recipe_is_named(capsys):
    assert main(["run", "absent.yaml"]) == 2
    assert "absent.yaml" in capsys.readouterr().err


def test_missing_data_says_how_to_get_it(tmp_path, capsys):
    assert main(["run", "default", "--data", str(tmp_path), "--run", str(tmp_path / "run")]) == 2
    assert "run crlsc-train data" in capsys.readouterr().err


def test_without_the_trainer_s_packages_it_says_how_to_install_them(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "crlsc_phy.train.pipeline", None)
    assert main(["run", "default"]) == 2
    assert "is not installed; pip install 'crlsc-phy[train]'" in capsys.readouterr().err
