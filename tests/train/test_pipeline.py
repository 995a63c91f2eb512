"""All stages on a tiny set: two steps a loop, the real tower, the real export."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from crlsc_phy.bundle import Bundle
from crlsc_phy.cli.train import main
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import TrainingError
from crlsc_phy.knowledge import KnowledgeBase
from crlsc_phy.train.data import OBJECT_CATEGORIES
from crlsc_phy.train.recipe import load_recipe
from crlsc_phy.train.restore import restore_run
from crlsc_phy.train.stages import Run

RECIPE = """
name: tiny
space: {pixels: [32, 48], photo_crops: 200, steps: 2, order_rounds: 100, code_bytes: 8}
encoder: {pixels: 32, dim: 16, stages: 2, width: 16}
encoder_loop: {steps: 2, batch: 4}
detail: {semantic_dim: 16, latent_dim: 8, levels: 2, codebook_bits: 4, narrow: 16, wide: 16}
detail_alone: {steps: 2, batch: 4}
detail_conditioned: {steps: 2, batch: 4}
analog: {semantic_dim: 16, symbols: 8, narrow: 8, wide: 16, sender_blocks: 1, receiver_blocks: 1}
analog_alone: {steps: 2, batch: 4}
analog_conditioned: {steps: 2, batch: 4}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
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
    for split in ("train", "heldout"):
        photos = {f"set/{i}": generator.integers(0, 256, (200, 260, 3), np.uint8) for i in range(3)}
        np.savez(folder / f"photos-{split}.npz", **photos)
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.yaml").write_text(RECIPE)
    arguments = ["run", str(folder / "tiny.yaml"), "--data", str(data), "--run", str(folder / "run")]
    assert main([*arguments, "--out", str(folder / "bundle")]) == 0
    return folder


def test_the_bundle_works_and_both_runtimes_agree(trained):
    image = np.random.default_rng(1).integers(0, 256, (45, 60, 3), np.uint8)
    results = []
    for runtime in ("onnx", "torch"):
        codec = SemanticCodec.load(trained / "bundle", runtime)
        results.append(codec.decode(codec.encode(image)).image.astype(int))
    assert results[0].shape == image.shape
    assert np.abs(results[0] - results[1]).max() <= 1


def test_analog_detail_goes_through_the_trained_coder(trained):
    image = np.random.default_rng(1).integers(0, 256, (45, 60, 3), np.uint8)
    codecs = [SemanticCodec.load(trained / "bundle", runtime) for runtime in ("onnx", "torch")]
    assert codecs[0].analog.most == 8
    results = [codec.decode(codec.encode(image, mode="analog")).image.astype(int) for codec in codecs]
    assert np.abs(results[0] - results[1]).max() <= 1


def test_a_run_is_restored_from_its_bundle(trained, tmp_path):
    recipe = load_recipe(trained / "tiny.yaml")
    run = Run(recipe, tmp_path, tmp_path / "run")
    restore_run(Bundle.load(trained / "bundle"), run)
    assert run.air_code.id == Run(recipe, tmp_path, trained / "run").air_code.id
    before, after = (load_file(each / "detail/detail.safetensors") for each in (trained / "run", run.folder))
    assert before.keys() == after.keys()
    assert torch.equal(before["quantiser.codebooks"], after["quantiser.codebooks"])
    assert torch.allclose(before["analysis.wide.3.weight"], after["analysis.wide.3.weight"], atol=1e-3)
    run.load_encoder()
    with pytest.raises(TrainingError, match="holds a run"):
        restore_run(Bundle.load(trained / "bundle"), run)


def test_metrics_and_card_come_with_it(trained):
    metrics = json.loads((trained / "bundle/metrics.json").read_text())
    assert metrics["recognition"]["asked"] == 30
    assert max(metrics["parity"].values()) <= 1e-4
    card = (trained / "bundle/MODEL_CARD.md").read_text()
    assert "60 named entries" in card
    assert Bundle.load(trained / "bundle").manifest["recipe"]["name"] == "tiny"


def test_a_second_run_trains_nothing(trained, data):
    before = {path: path.stat().st_mtime_ns for path in (trained / "run").rglob("*.safetensors")}
    arguments = ["run", str(trained / "tiny.yaml"), "--data", str(data), "--run", str(trained / "run")]
    assert main([*arguments, "--stages", "space", "encoder", "detail", "analog"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (trained / "run").rglob("*.safetensors")}


def test_the_networks_do_not_tell_where_they_were_made(trained):
    for path in (trained / "bundle").glob("*.onnx"):
        assert b"site-packages" not in path.read_bytes()
        assert b"crlsc_phy/" not in path.read_bytes()


def test_repair_is_calibrated_also_by_its_own_command_without_held_out_data(trained, data, tmp_path, capsys):
    made = KnowledgeBase.open(trained / "bundle/skb")
    metrics = json.loads((trained / "bundle/metrics.json").read_text())
    assert (made.tau, made.manifest.threshold) == (metrics["repair"]["tau"], metrics["repair"]["threshold"])
    bundle = shutil.copytree(trained / "bundle", tmp_path / "bundle")
    KnowledgeBase.open(bundle / "skb").configure(tau=1.0, threshold=3.0)
    trained_on = tmp_path / "data"
    trained_on.mkdir()
    for name in ("pictograms-google.npz", "pictograms-twitter.npz", "photos-train.npz"):
        shutil.copy(data / name, trained_on)
    assert main(["calibrate", str(bundle), "--data", str(trained_on), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    again = KnowledgeBase.open(bundle / "skb")
    assert (again.tau, again.manifest.threshold) == (told["tau"], told["threshold"])
    assert again.codes.tobytes() == made.codes.tobytes()
    assert main(["calibrate", str(bundle), "--data", str(trained_on)]) == 0
    assert "nats; at 5 % bit errors names" in capsys.readouterr().out


@pytest.mark.parametrize(("bundle", "sets", "message"), [
    ("nowhere", "data", "nowhere: holds no manifest.json"), ("bundle", "empty", "no such data set"),
])  # fmt: skip
def test_calibration_says_what_is_missing(trained, data, tmp_path, capsys, bundle, sets, message):
    folder = data if sets == "data" else tmp_path
    assert main(["calibrate", str(trained / bundle), "--data", str(folder)]) == 2
    assert message in capsys.readouterr().err
