"""The analog coder: its linear frame against the theory, rates, peaks; what training sends is what the codec sends."""

import numpy as np
import pytest
import torch

from crlsc_phy.data import CropSampler
from crlsc_phy.semantic.analog import LearnedAnalog
from crlsc_phy.semantic.analog_coder import AnalogCoder, AnalogConfig, cosines
from crlsc_phy.train.air import plain_noise, send
from crlsc_phy.train.analog import picture_quality

CONFIG = AnalogConfig(semantic_dim=8, narrow=4, wide=4, receiver_blocks=1)


class Networks:
    """A coder in the place of a bundle's runtime."""

    def __init__(self, coder):
        self._coder = coder

    def analog_send(self, image):
        with torch.inference_mode():
            return self._coder.sender(torch.from_numpy(image)).numpy()

    def analog_receive(self, *inputs):
        with torch.inference_mode():
            return self._coder.receiver(*(torch.from_numpy(each) for each in inputs)).numpy()


@pytest.fixture(scope="module")
def crops(photo):
    return CropSampler([photo], None).batch(400, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def coder(crops):
    torch.manual_seed(0)
    coder = AnalogCoder(CONFIG).eval()
    coder.start_linear(crops)
    return coder


@pytest.mark.parametrize("count", [1, 7, 128])
def test_the_transform_keeps_lengths_and_angles(count):
    matrix = cosines(count)
    assert torch.allclose(matrix @ matrix.T, torch.eye(count), atol=1e-5)


def test_every_further_symbol_and_decibel_helps(coder, crops):
    by_rate = [float(picture_quality(coder, crops[:50], rate, 15).mean()) for rate in (1, 2, 4, 8, 16, 32)]
    assert by_rate == sorted(by_rate)
    by_snr = [float(picture_quality(coder, crops[:50], 16, snr).mean()) for snr in (-5, 0, 5, 10, 15)]
    assert by_snr == sorted(by_snr)


def test_it_starts_as_good_as_a_linear_code_can_be(coder, crops):
    """Lee and Petersen: with powers by the square roots of the variances the error is (sum of roots)^2 over the SNR."""
    snr_db = 25
    with torch.inference_mode():
        values = coder.sender.blocks(torch.nn.functional.pixel_unshuffle(crops - 0.5, 8))
        waves = cosines(8) @ values @ cosines(8).T
        decoded = send(
            coder,
            crops,
            torch.zeros(len(crops), 8),
            torch.full((len(crops),), 32),
            lambda symbols: plain_noise(symbols, snr_db, torch.Generator().manual_seed(0)),
        )
    roots = waves.square().mean(dim=0).sqrt()
    left = float((crops - 0.5).square().sum() - waves.square().sum()) / len(crops)
    least = (float(roots.sum()) ** 2 / roots.numel() * 10 ** (-snr_db / 10) + left) / crops[0].numel()
    error = float((decoded - crops).square().mean())
    # Pictures differ in power, and each is scaled for itself: the mean over them is a little off on either side.
    assert 0.6 * least < error < 1.3 * least


def test_what_training_sends_is_what_the_codec_sends(coder, crops):
    images, rate, snr_db = crops[:1], 12, 3.0
    runtime, analog = Networks(coder), LearnedAnalog(32)
    symbols, scale = analog.send(runtime, images.numpy(), rate)
    assert np.mean(np.abs(symbols) ** 2) == pytest.approx(1, rel=1e-5)
    noise = 10 ** (-snr_db / 10)
    shown = analog.receive(runtime, symbols / (1 + noise), scale, (8, 8), snr_db, np.zeros((1, 8), np.float32))

    def silent(sent):
        return sent / (1 + noise), torch.full((1,), noise)

    with torch.inference_mode():
        trained = send(coder, images, torch.zeros(1, 8), torch.tensor([rate]), silent)
    assert np.abs(shown - trained.numpy()).max() < 1e-4


def test_brightness_makes_no_peak(coder):
    bright = np.full((1, 3, 64, 64), 0.95, np.float32)
    bright += 0.02 * np.random.default_rng(0).standard_normal(bright.shape).astype(np.float32)
    symbols, _ = LearnedAnalog(32).send(Networks(coder), bright, 32)
    assert np.abs(symbols).max() ** 2 < 20
