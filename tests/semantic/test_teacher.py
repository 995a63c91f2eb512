"""The towers: the one in the wheel, open_clip's and timm's from local checkpoints."""

import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from crlsc_phy.errors import TrainingError
from crlsc_phy.semantic.teacher import embed_texts, load_classes, load_tower


def test_the_wheel_tower_knows_a_cat(photo):
    """Its features and its class directions fit together: a tabby's photograph lies nearest to a cat."""
    images = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None, :, :, 60:315].float() / 255
    names, directions = load_classes("lite0")
    features = load_tower("lite0", 224)(images)
    assert features.shape == (1, 1280)
    assert features.norm().item() == pytest.approx(1, abs=1e-5)
    assert names[int((features @ directions.T).argmax())] in {"tabby cat", "tiger cat", "Egyptian Mau", "lynx"}


def test_an_open_clip_tower_from_a_checkpoint(tmp_path):
    import open_clip

    torch.manual_seed(0)
    torch.save(open_clip.create_model("ViT-S-32-alt").state_dict(), tmp_path / "clip.pt")
    tower = load_tower(f"open_clip:ViT-S-32-alt:{tmp_path / 'clip.pt'}")
    features = tower(torch.rand(2, 3, 50, 70))
    assert features.shape == (2, tower.dim) == (2, 256)
    assert torch.allclose(features.norm(dim=1), torch.ones(2), atol=1e-5)
    texts = embed_texts(f"open_clip:ViT-S-32-alt:{tmp_path / 'clip.pt'}", ["a dog", "a cat", "a dog"])
    assert texts.shape == (3, 256)
    assert torch.allclose(texts.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.equal(texts[0], texts[2])
    assert not torch.allclose(texts[0], texts[1])


@pytest.fixture
def small_timm(tmp_path):
    """One of timm's smallest networks, 160 px and 96 features, with random weights: its name, and its checkpoints."""
    torch.manual_seed(0)
    for classes in (0, 3, 1000):
        weights = timm.create_model("test_resnet", num_classes=classes).state_dict()
        save_file(weights, tmp_path / f"{classes}.safetensors")
        torch.save({"state_dict": weights}, tmp_path / f"{classes}.pt")
    return tmp_path


@pytest.mark.parametrize("file", ["0.safetensors", "3.pt", "1000.safetensors", "1000.pt"])
def test_a_timm_tower_from_a_checkpoint(small_timm, file):
    name = f"timm:test_resnet:{small_timm / file}"
    tower = load_tower(name)
    images = torch.rand(2, 3, 50, 70)
    assert (tower.dim, tower.pixels) == (96, 160)
    features = tower(images)
    assert features.shape == (2, 96)
    # The same by timm alone, with the mean and deviation of its configuration.
    network = timm.create_model("test_resnet", num_classes=int(file.partition(".")[0])).eval()
    network.load_state_dict(timm.models.load_state_dict(str(small_timm / file)))
    large = F.interpolate(images, (160, 160), mode="bicubic", antialias=True).clamp(0, 1)
    expected = network.forward_head(network.forward_features((large - 0.5) / 0.5), pre_logits=True)
    assert torch.allclose(features, F.normalize(expected, dim=1), atol=1e-5)


def test_a_timm_tower_names_what_a_classifier_of_imagenet_names(small_timm):
    names, directions = load_classes(f"timm:test_resnet:{small_timm / '1000.pt'}")
    rows = torch.load(small_timm / "1000.pt", weights_only=True)["state_dict"]["fc.weight"]
    assert names[281] == "tabby cat"
    assert torch.allclose(directions, F.normalize(rows - rows.mean(dim=0), dim=1), atol=1e-6)
    for classes in (0, 3):
        assert load_classes(f"timm:test_resnet:{small_timm / f'{classes}.pt'}") is None


def test_a_checkpoint_that_does_not_fit_is_named(small_timm):
    (small_timm / "cut.safetensors").write_bytes((small_timm / "0.safetensors").read_bytes()[:1000])
    (small_timm / "code.pt").write_bytes(pickle.dumps({"state_dict": pytest.fail}))
    for checkpoint in ("absent.pt", "cut.safetensors", "code.pt"):
        with pytest.raises(TrainingError, match="teacher 'timm:test_resnet:.*timm cannot load it") as caught:
            load_tower(f"timm:test_resnet:{small_timm / checkpoint}")
        assert "\n" not in str(caught.value)
    with pytest.raises(TrainingError, match="teacher 'timm:test_vit:.*timm cannot load it") as caught:
        load_tower(f"timm:test_vit:{small_timm / '1000.pt'}")
    assert "\n" not in str(caught.value)


def test_without_a_network_the_weights_of_a_timm_tower_are_missed(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(TrainingError, match="teacher 'timm:test_resnet': timm cannot load it"):
        load_tower("timm:test_resnet")


def test_a_tower_without_text_says_so():
    with pytest.raises(TrainingError, match="'lite0' has no text tower"):
        embed_texts("lite0", ["a dog"])


@pytest.mark.parametrize(
    "name", ["resnet", "open_clip:", "open_clip:ViT-B-32", "open_clip:no-such-model:tag", "timm:", "timm:nope"]
)
def test_an_unknown_tower_is_named(name):
    with pytest.raises(TrainingError, match="teacher '"):
        load_tower(name)
