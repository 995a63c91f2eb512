import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from crlsc_phy.errors import ImageError
from crlsc_phy.quality.metrics import SCALE_WEIGHTS, cbr, ms_ssim, psnr_db, ssim

RNG = np.random.default_rng(1)


def pair(height: int, width: int, noise: float = 12) -> tuple[np.ndarray, np.ndarray]:
    ramp = np.linspace(20, 200, height)[:, None, None] + 30 * np.sin(np.arange(width) / 5)[None, :, None]
    a = np.clip(ramp + RNG.normal(0, 5, (height, width, 3)), 0, 255).astype(np.uint8)
    return a, np.clip(a + RNG.normal(0, noise, a.shape), 0, 255).astype(np.uint8)


def ssim_inside(x: np.ndarray, y: np.ndarray) -> float:
    """SSIM by scikit-image, over the places where the window fits."""
    options = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 255, "full": True}
    return structural_similarity(x, y, channel_axis=2, **options)[1][5:-5, 5:-5].mean()


@pytest.mark.parametrize("size", [(32, 32), (65, 47), (128, 200)])
def test_psnr_is_that_of_scikit_image(size):
    a, b = pair(*size)
    assert psnr_db(a, b) == pytest.approx(peak_signal_noise_ratio(a, b))


@pytest.mark.parametrize("size", [(32, 32), (65, 47), (128, 200)])
def test_ssim_is_that_of_scikit_image(size):
    a, b = pair(*size)
    assert ssim(a, b) == pytest.approx(ssim_inside(a, b), abs=1e-9)
    assert ssim(a, a) == pytest.approx(1)


@pytest.mark.parametrize(("size", "scales"), [((32, 40), 2), ((64, 64), 3), ((88, 91), 4), ((180, 176), 5)])
def test_ms_ssim_is_the_product_over_scales_of_what_others_measure(size, scales):
    torch = pytest.importorskip("torch")
    torchmetrics = pytest.importorskip("torchmetrics.functional.image")
    a, b = pair(*size)
    x, y = (torch.from_numpy(image).permute(2, 0, 1)[None].double() for image in (a, b))
    weights = SCALE_WEIGHTS[:scales] / SCALE_WEIGHTS[:scales].sum()
    expected = 1.0
    for weight in weights[:-1]:
        _, structure = torchmetrics.structural_similarity_index_measure(
            x, y, data_range=255.0, return_contrast_sensitivity=True
        )
        expected *= float(structure) ** weight
        x, y = (torch.nn.functional.avg_pool2d(image, 2) for image in (x, y))
    coarsest = ssim_inside(*(image[0].permute(1, 2, 0).numpy() for image in (x, y)))
    assert ms_ssim(a, b) == pytest.approx(expected * coarsest ** weights[-1], abs=1e-6)


def test_one_scale_is_the_ssim_of_scikit_image():
    a, b = pair(16, 20)
    assert ms_ssim(a, b) == pytest.approx(ssim_inside(a.astype(float), b.astype(float)), abs=1e-9)


def test_equal_images_are_perfect_and_noise_costs():
    a, b = pair(64, 64)
    _, worse = pair(64, 64, noise=60)
    assert psnr_db(a, a) == float("inf")
    assert ms_ssim(a, a) == pytest.approx(1)
    assert 0 <= ms_ssim(a, worse) < ms_ssim(a, b) < 1


@pytest.mark.parametrize("measure", [psnr_db, ms_ssim])
def test_images_that_cannot_be_compared_are_refused(measure):
    a, _ = pair(32, 32)
    with pytest.raises(ImageError, match="differ in size"):
        measure(a, pair(32, 33)[1])
    with pytest.raises(ImageError, match="uint8"):
        measure(a, a.astype(np.float32))


def test_ms_ssim_refuses_what_its_window_does_not_fit():
    with pytest.raises(ImageError, match="sides of 11"):
        ms_ssim(*pair(10, 64))


def test_cbr_counts_complex_samples_per_colour_value():
    assert cbr(6144, 64, 64) == 0.5
