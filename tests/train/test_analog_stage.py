"""Training of the analog coder: it learns, it can be cut off, and its air is the modem's."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from crlsc_phy.data import CropSampler
from crlsc_phy.phy.papr import clip_and_filter
from crlsc_phy.semantic.analog_coder import AnalogCoder, AnalogConfig
from crlsc_phy.train.air import _clip, what_a_modem_meets
from crlsc_phy.train.analog import AnalogTraining, picture_quality, start_linear
from crlsc_phy.train.loop import fit
from crlsc_phy.train.recipe import LoopRecipe

CONFIG = AnalogConfig(semantic_dim=8, narrow=8, wide=16, receiver_blocks=1)


@pytest.fixture(scope="module")
def crops(photo):
    return [CropSampler([photo], None, size) for size in (64, 128)]


@pytest.fixture(scope="module")
def training(crops):
    """Makes a training of some steps, each from the same linear code."""
    torch.manual_seed(0)
    start = AnalogCoder(CONFIG)
    start_linear(start, crops[0], 0)

    def make(steps, semantic=None):
        module = AnalogTraining(CONFIG, crops, semantic, LoopRecipe(steps, 8, 2e-3))
        module.coder.load_state_dict(start.state_dict())
        return module

    return make


def test_it_learns_to_take_out_noise(training, crops, tmp_path):
    module = training(60)
    images = crops[0].batch(64, torch.Generator().manual_seed(9))
    before = picture_quality(module.coder, images, 32, 0).mean()
    fit(module, tmp_path, 1)
    assert picture_quality(module.coder, images, 32, 0).mean() > before


def test_a_run_goes_on_from_its_last_checkpoint(training, tmp_path):
    short = training(3)
    fit(short, tmp_path, 1)
    longer = training(5)
    fit(longer, tmp_path, 1)
    assert longer.global_step == 5
    # In five steps it cannot have gone far; from a start of its own it would not have been there.
    a, b = (module.coder.receiver.enter.weight for module in (short, longer))
    assert 0 < float((a - b).detach().abs().max()) < 0.1


def test_with_vectors_the_receiver_alone_is_trained(training, tmp_path):
    module = training(2, lambda images: torch.ones(len(images), 8))
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


@pytest.mark.parametrize("semantic", [None, lambda images: torch.ones(len(images), 8)])
def test_mixed_precision_gives_the_loss_of_single(training, semantic):
    losses = []
    for enabled in (False, True):
        module = training(1, semantic)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = module.step_loss(torch.Generator().manual_seed(3))["loss"]
        loss.backward()
        assert module.coder.receiver.leave[1].weight.grad.isfinite().all()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_step_runs_on_the_device_of_its_module(crops, monkeypatch):
    """On the device that stands for any: it computes shapes, and refuses tensors of the CPU beside its own."""
    # That device has no mixed precision to switch off.
    monkeypatch.setattr("torch.autocast", lambda *_arguments, **_options: nullcontext())
    module = AnalogTraining(CONFIG, crops, None, LoopRecipe(1, 8)).to("meta")
    for seed in range(3):
        loss = module.step_loss(torch.Generator().manual_seed(seed))["loss"]
        assert loss.device.type == "meta"
