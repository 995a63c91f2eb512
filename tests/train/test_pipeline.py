"""All stages on a tiny set: two steps a loop, the real tower, the real export."""

import json
import shutil

import numpy as np
import pytest

from crlsc_phy.bundle import Bundle
from crlsc_phy.cli.train import main
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import BundleError
from crlsc_phy.knowledge import KnowledgeBase


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


def test_every_encoder_speaks_to_the_decoder_and_the_head_labels(trained):
    image = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    frames = {}
    for name in ("", "wide", "narrow"):
        codec = SemanticCodec.load(trained / "bundle", encoder=name)
        frames[name] = codec.encode(image)
        label, share = codec.classify(frames[name])
        assert label in codec.classes
        assert 1 / len(codec.classes) <= share <= 1
    receiver = SemanticCodec.load(trained / "bundle")
    assert frames[""] == frames["wide"]
    assert receiver.decode(frames["narrow"]).label
    with pytest.raises(BundleError, match="has no encoder 'huge'; choose wide, narrow"):
        SemanticCodec.load(trained / "bundle", encoder="huge")


def test_the_private_base_is_beside_the_shared_one(trained):
    base = KnowledgeBase.open(trained / "run/pkb/things-fluent/pkb")
    assert len(base) == 30
    assert {entry.name.partition("/")[0] for entry in base.entries} == {"fluent"}
    codec = SemanticCodec.load(trained / "bundle", private=[base.path])
    assert len(codec.bases) == 2


def test_without_a_text_tower_words_are_refused(trained):
    with pytest.raises(BundleError, match="its teacher has no text tower; search with an image or a code"):
        Bundle.load(trained / "bundle").embed_texts(["a cat"])


def test_metrics_and_card_come_with_it(trained):
    metrics = json.loads((trained / "bundle/metrics.json").read_text())
    assert metrics["retrieval"]["asked"] == 30
    assert max(metrics["parity"].values()) <= 1e-4
    card = (trained / "bundle/MODEL_CARD.md").read_text()
    assert "60 named entries" in card
    # The head has learnt from private pictures, and their licence goes with it.
    assert "- 30 of `things:fluent`: MIT" in card.partition("Held out")[0]
    assert Bundle.load(trained / "bundle").manifest["recipe"]["name"] == "tiny"


def test_the_networks_do_not_tell_where_they_were_made(trained):
    for path in (trained / "bundle").glob("*.onnx"):
        assert b"site-packages" not in path.read_bytes()
        assert b"crlsc_phy/" not in path.read_bytes()


def test_repair_is_calibrated_also_by_its_own_command_without_held_out_data(trained, tiny_data, tmp_path, capsys):
    made = KnowledgeBase.open(trained / "bundle/skb")
    metrics = json.loads((trained / "bundle/metrics.json").read_text())
    assert (made.tau, made.manifest.threshold) == (metrics["repair"]["tau"], metrics["repair"]["threshold"])
    bundle = shutil.copytree(trained / "bundle", tmp_path / "bundle")
    KnowledgeBase.open(bundle / "skb").configure(tau=1.0, threshold=3.0)
    trained_on = tmp_path / "data"
    trained_on.mkdir()
    for name in ("pictograms-google.npz", "pictograms-twitter.npz", "photos-train.npz"):
        shutil.copy(tiny_data / name, trained_on)
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
def test_calibration_says_what_is_missing(trained, tiny_data, tmp_path, capsys, bundle, sets, message):
    folder = tiny_data if sets == "data" else tmp_path
    assert main(["calibrate", str(trained / bundle), "--data", str(folder)]) == 2
    assert message in capsys.readouterr().err
