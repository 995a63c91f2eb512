"""Training of the analog coder: it learns, it can be cut off, and its air is the modem's."""

import numpy as np
import pytest
import torch

from crlsc_phy.data import CropSampler
from crlsc_phy.phy.papr import clip_and_filter
from crlsc_phy.semantic.analog_coder import AnalogConfig
from crlsc_phy.train.air import _clip, what_a_modem_meets
from crlsc_phy.train.analog import AnalogTraining, picture_quality, start_linear
from crlsc_phy.train.loop import fit
from crlsc_phy.train.recipe import LoopRecipe

CONFIG = AnalogConfig(semantic_dim=8, narrow=8, wide=16, receiver_blocks=1)


@pytest.fixture(scope="module")
def crops(photo):
    return [CropSampler([photo], None, size) for size in (64, 128)]


def training(crops, steps, semantic=None):
    torch.manual_seed(0)
    module = AnalogTraining(CONFIG, crops, semantic, LoopRecipe(steps, 8, 2e-3))
    start_linear(module.coder, crops[0], 0)
    return module


def test_it_learns_to_take_out_noise(crops, tmp_path):
    module = training(crops, 60)
    images = crops[0].batch(64, torch.Generator().manual_seed(9))
    before = picture_quality(module.coder, images, 32, 0).mean()
    fit(module, tmp_path, 1)
    assert picture_quality(module.coder, images, 32, 0).mean() > before


def test_a_run_goes_on_from_its_last_checkpoint(crops, tmp_path):
    short = training(crops, 3)
    fit(short, tmp_path, 1)
    longer = training(crops, 5)
    fit(longer, tmp_path, 1)
    assert longer.global_step == 5
    # In five steps it cannot have gone far; from a start of its own it would not have been there.
    a, b = (module.coder.receiver.enter.weight for module in (short, longer))
    assert 0 < float((a - b).detach().abs().max()) < 0.1


def test_with_vectors_the_receiver_alone_is_trained(crops, tmp_path):
    module = training(crops, 2, lambda images: torch.ones(len(images), 8))
    before = {name: value.clone() for name, value in module.coder.state_dict().items()}
    fit(module, tmp_path, 1)
    changed = {name for name, value in module.coder.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("receiver.") for name in changed)


def test_the_estimated_noise_is_that_of_the_estimates():
    generator = torch.Generator().manual_seed(0)
    symbols = torch.view_as_complex(torch.randn(400, 2048, 2, generator=generator) * 0.5**0.5)
    estimates, noise = what_a_modem_meets(symbols, generator)
    error = (estimates - symbols).abs().square().mean(dim=1)
    off_db = 10 * torch.log10(error / (noise / (1 + noise)))
    # Clipped bursts know less than they suffer; the others are off by the error of the estimate.
    assert abs(float(off_db.median())) < 0.2
    assert float(off_db.std()) < 1.5


@pytest.mark.parametrize("papr_db", [3.0, 5.0])
def test_clipping_costs_what_the_modem_s_does(papr_db):
    generator = torch.Generator().manual_seed(0)
    symbols = torch.view_as_complex(torch.randn(1, 48 * 200, 2, generator=generator) * 0.5**0.5)
    ours = _clip(symbols, torch.tensor([[[papr_db]]]), generator)[0].numpy()
    carriers = np.r_[-24:0, 1:25]
    grid = symbols[0].numpy().reshape(-1, 48)
    theirs = clip_and_filter(grid, carriers, 64, papr_db, passes=2)
    errors_db = [10 * np.log10(np.mean(np.abs(a - b) ** 2)) for a, b in ((ours, symbols[0].numpy()), (theirs, grid))]
    assert errors_db[0] == pytest.approx(errors_db[1], abs=1.5)
