"""The training of the DeepJSCC baseline, and the verb that starts it."""

import argparse
import json

import numpy as np
import pytest
import torch

from crlsc_phy.cli.sweep_baseline import add_verbs
from crlsc_phy.data import CropSampler
from crlsc_phy.errors import TrainingError
from crlsc_phy.semantic.deepjscc import DeepJscc
from crlsc_phy.train.deepjscc import DeepJsccTraining, heldout_psnr_db
from crlsc_phy.train.recipe import LoopRecipe


def test_training_learns_and_repeats(photo):
    def trained():
        training = DeepJsccTraining(8, CropSampler([photo], None, 32), LoopRecipe(batch=4), seed=3)
        optimiser = torch.optim.Adam(training.parameters(), 2e-3)
        losses = []
        for step in range(30):
            optimiser.zero_grad()
            # The first and the last batch are one and the same.
            loss = training.step_loss(torch.Generator().manual_seed(step % 29))["loss"]
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        return training.network.eval(), losses

    (network, losses), (_, again) = trained(), trained()
    assert losses == again
    assert losses[-1] < 0.9 * losses[0]
    crops = np.stack([photo[:64, :64], photo[64:128, 64:128]])
    assert heldout_psnr_db(network, crops, 20).shape == (2,)


@pytest.fixture
def asked(tiny_data, tmp_path):
    """What the verb is asked, for two steps."""
    parser = argparse.ArgumentParser()
    add_verbs(parser.add_subparsers())
    return parser.parse_args(
        ["train-baseline", str(tmp_path / "w.safetensors"), "--data", str(tiny_data), "--steps", "2", "--json"]
    )


def test_the_verb_trains_and_says_how_good_it_is(asked, capsys):
    assert asked.run(asked) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert DeepJscc.load(asked.out).filters == 8
    assert set(result["psnr_db"]["192"]) == {"0", "5", "10", "15", "20"}


@pytest.mark.parametrize(("name", "value", "words"), [("cbr", "1/3", "1/12, 1/6"), ("steps", 0, "1 or more")])
def test_the_verb_refuses_what_makes_no_baseline(asked, name, value, words):
    setattr(asked, name, value)
    with pytest.raises(TrainingError, match=words):
        asked.run(asked)


def test_a_step_takes_mixed_precision_and_the_device_of_its_module(photo):
    training = DeepJsccTraining(8, CropSampler([photo], None, 32), LoopRecipe(batch=4), seed=3)
    whole = training.step_loss(torch.Generator().manual_seed(0))["loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = training.step_loss(torch.Generator().manual_seed(0))["loss"]
    mixed.backward()
    assert mixed.item() == pytest.approx(whole.item(), rel=0.02)
    assert training.to("meta").step_loss(torch.Generator().manual_seed(0))["loss"].device.type == "meta"
