"""A run that starts from a bundle: what that holds is taken, heads and private bases are made."""

import json

import pytest
from test_own_images import pictures

from crlsc_phy.bundle import Bundle
from crlsc_phy.cli.train import main
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.knowledge import KnowledgeBase

HELD = ("encoder.safetensors", "encoder-narrow.safetensors", "codebooks.safetensors", "analog.safetensors")


@pytest.fixture
def made(trained):
    return trained / "bundle"


def run(recipe, data, folder, status, *options):
    arguments = ["run", str(recipe), "--data", str(data), "--work", str(folder / "run")]
    assert main([*arguments, "--out", str(folder / "bundle"), *map(str, options)]) == status


def test_a_folder_of_classes_needs_no_other_training(made, tiny_recipe, tmp_path, capsys):
    folder = pictures(tmp_path / "mine", [f"{'ab'[i % 2]}/{i}.png" for i in range(80)])
    options = ("--from", made, "--images", folder, "--set", "name=mine")
    run(tiny_recipe, tmp_path / "data", tmp_path, 0, *options)
    old, new = Bundle.load(made), Bundle.load(tmp_path / "bundle")
    # Both ends of a link may have either.
    assert new.shared_id == old.shared_id
    assert new.knowledge.tau == old.knowledge.tau
    assert [entry.name for entry in new.knowledge.entries] == [entry.name for entry in old.knowledge.entries]
    assert new.manifest["origin"] == {"name": "tiny", "id": old.id}
    assert all(new.manifest["files"][name] == old.manifest["files"][name] for name in HELD)
    private = next((tmp_path / "run/pkb").glob("*/pkb"))
    codec = SemanticCodec.load(tmp_path / "bundle", private=[private])
    assert codec.classes == ("a", "b")
    assert {entry.label for entry in KnowledgeBase.open(private).entries} == {"a", "b"}
    assert f"those of the bundle `tiny` (manifest {old.id[:16]})" in (tmp_path / "bundle/MODEL_CARD.md").read_text()
    capsys.readouterr()
    run(tiny_recipe, tmp_path / "data", tmp_path, 0, *options)
    assert "evaluate: already finished" in capsys.readouterr().err
    run(tiny_recipe, tmp_path / "data", tmp_path, 2, *options[2:], "data.private=[]")
    assert "run/teacher: was made with from tiny" in capsys.readouterr().err


def test_the_same_recipe_ends_with_the_same_figures(made, tiny_recipe, tiny_data, tmp_path, monkeypatch):
    # The graphs are taken too: exporting them again would cost most of the time of such a run.
    monkeypatch.setattr("torch.onnx.export", lambda *_arguments, **_options: pytest.fail("a graph was exported"))
    run(tiny_recipe, tiny_data, tmp_path, 0, "--from", made)
    assert len([*made.glob("*.onnx")]) == 6
    assert all((tmp_path / "bundle" / graph.name).read_bytes() == graph.read_bytes() for graph in made.glob("*.onnx"))
    figures = [json.loads((folder / "metrics.json").read_text()) for folder in (made, tmp_path / "bundle")]
    assert figures[0].keys() == figures[1].keys()
    for name in ("retrieval", "repair", "reconstruction", "analog", "encoders", "cpu_seconds"):
        assert figures[0][name] == figures[1][name], name


@pytest.mark.parametrize(("change", "told"), [
    ("encoder.loop.steps=3", "encoder/wide: {} was made with loop.steps 2, now 3"),
    ("encoder.sizes.huge={pixels: 32, dim: 16, stages: 4, width: 16}", "encoder/huge: {} lacks it"),
    ("decoder.detail.levels=3", "decoder/alone: {} was made with detail.levels 2, now 3"),
])  # fmt: skip
def test_a_recipe_of_another_bundle_is_refused_before_anything_runs(
    made, tiny_recipe, tiny_data, tmp_path, capsys, change, told
):
    run(tiny_recipe, tiny_data, tmp_path, 2, "--from", made, "--set", change)
    assert told.format(made) in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_bundle_is_refused(tiny_recipe, tiny_data, tmp_path, capsys):
    run(tiny_recipe, tiny_data, tmp_path, 2, "--from", tmp_path)
    assert "holds no manifest.json" in capsys.readouterr().err
