import numpy as np
import pytest

from crlsc_phy.quality import perceptual


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Where torch.hub looks for weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    perceptual._metric.cache_clear()
    yield tmp_path / "hub/checkpoints/alexnet-owt-7be5be79.pth"
    perceptual._metric.cache_clear()


def noisy(deviation: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = np.linspace(60, 190, 64)[:, None, None] + rng.normal(0, 1, (64, 96, 3)) * deviation
    return image.clip(0, 255).astype(np.uint8)


def test_without_weights_nothing_is_measured_and_nothing_fetched(weights):
    torch = pytest.importorskip("torch")
    assert perceptual._hub() == type(weights)(torch.hub.get_dir())
    assert perceptual.lpips(noisy(0), noisy(9)) is None
    assert not weights.exists()


def test_distance_is_that_of_torchmetrics_and_does_not_remember(weights):
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    functional = pytest.importorskip("torchmetrics.functional.image")
    # The real ones are not here; the distance is one between whatever features the network has.
    torch.manual_seed(0)
    weights.parent.mkdir(parents=True)
    torch.save(torchvision.models.alexnet(weights=None).state_dict(), weights)
    clean, near, far = noisy(0), noisy(5), noisy(40)
    planes = (torch.from_numpy(image).permute(2, 0, 1)[None] / 255 for image in (clean, far))
    expected = functional.learned_perceptual_image_patch_similarity(*planes, net_type="alex", normalize=True)
    assert perceptual.lpips(clean, clean) == 0
    assert perceptual.lpips(clean, far) == pytest.approx(float(expected), rel=1e-4)
    assert 0 < perceptual.lpips(clean, near) < perceptual.lpips(clean, far)
    assert perceptual.lpips(clean, clean) == 0
