"""A damaged bundle is refused with one clear line."""

import json
import shutil

import numpy as np
import pytest

from crlsc_phy.bundle import BUNDLE_FORMAT, FILES, Bundle
from crlsc_phy.errors import BundleError
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase


@pytest.fixture
def copy(tmp_path, bundle_folder):
    return shutil.copytree(bundle_folder, tmp_path / "bundle")


def test_the_shipped_bundle_is_whole(bundle_folder):
    bundle = Bundle.load(bundle_folder)
    assert len(bundle.id) == 64
    assert len(bundle.shared_id) == 32
    assert len(bundle.knowledge) >= 2000
    assert bundle.knowledge.air_code.size == 16


KNOWLEDGE_FILES = ["skb/000001/codes.npy", "skb/000001/entries.sqlite", "skb/000001/air_code.safetensors"]


@pytest.mark.parametrize("name", [*FILES, *KNOWLEDGE_FILES, "MODEL_CARD.md"])
def test_one_flipped_byte_is_noticed(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 3] ^= 4
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name.removeprefix('skb/')}.* is damaged"):
        Bundle.load(copy)


@pytest.mark.parametrize("name", [*FILES, *KNOWLEDGE_FILES, "manifest.json"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name.removeprefix('skb/')} is missing|holds no {name}"):
        Bundle.load(copy)


def test_the_analog_coder_is_part_of_what_both_ends_share(bundle_folder, learned_bundle, tmp_path):
    assert Bundle.load(learned_bundle).shared_id != Bundle.load(bundle_folder).shared_id
    copy = shutil.copytree(learned_bundle, tmp_path / "bundle")
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["files"]["analog_receiver.onnx"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    (copy / "analog_receiver.onnx").unlink()
    with pytest.raises(BundleError, match="manifest lacks analog_receiver.onnx"):
        Bundle.load(copy)


def test_a_newer_bundle_is_named(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"format": BUNDLE_FORMAT + 1}))
    with pytest.raises(BundleError, match=r"has format 3, this program reads up to 2; update"):
        Bundle.load(copy)


def test_a_manifest_that_leaves_a_file_out_is_refused(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["files"]["encoder.onnx"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"lacks encoder\.onnx"):
        Bundle.load(copy)


def test_an_earlier_bundle_is_named(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"format": 1}))
    with pytest.raises(BundleError, match="earlier format; make it again"):
        Bundle.load(copy)


def test_new_entries_leave_what_both_ends_must_share(copy):
    """A receiver whose knowledge base is newer reads the frames of one whose is older."""
    before = Bundle.load(copy)
    vectors = np.eye(1, before.knowledge.air_code.dim, dtype=np.float32)
    KnowledgeBase.open(copy / "skb").add(vectors, [Entry("test/new", "new")])
    after = Bundle.load(copy)
    assert after.shared_id == before.shared_id
    assert len(after.knowledge) == len(before.knowledge) + 1


def test_another_air_code_is_refused(copy):
    shutil.rmtree(copy / "skb")
    code = AirCode(np.random.default_rng(0).normal(size=(16, 256, 4)).astype(np.float32))
    KnowledgeBase.create(copy / "skb", code, np.eye(64, dtype=np.float32)[:1], [Entry("a", "a")])
    with pytest.raises(BundleError, match="another air code than its networks"):
        Bundle.load(copy)


def test_no_folder_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match=r"holds no manifest\.json"):
        Bundle.load(tmp_path / "absent")
