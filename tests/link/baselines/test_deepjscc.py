"""The DeepJSCC baseline: its networks beside Kaira's, and its chain."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from crlsc_phy.channel import ChannelSettings
from crlsc_phy.errors import BundleError, SweepError
from crlsc_phy.images import resize
from crlsc_phy.link.baselines.deepjscc import DeepJsccChain, DeepJsccOptions
from crlsc_phy.link.chain import Scene, TestImage, Trial
from crlsc_phy.semantic.deepjscc import DeepJscc

BOTH = [("modem", 0.25), ("grid", 0.12)]


@pytest.fixture(scope="session")
def weights(bundle_folder):
    """Those that are shipped."""
    return bundle_folder.parent / "baselines/deepjscc-1-12.safetensors"


@pytest.fixture
def picture(photo):
    """Sides that are no multiples of 4: uint8 [67, 90, 3]."""
    return resize(photo, 67, 101)[:, :90]


def chain(weights, picture, bundle, air="modem", **channel):
    scene = Scene(ChannelSettings(**channel), air, images=[TestImage("ramp", picture)], bundle=bundle)
    return DeepJsccChain(DeepJsccOptions(str(weights)), scene)


def test_the_networks_are_kairas():
    kaira = pytest.importorskip("kaira.models.image")
    from kaira.constraints import AveragePowerConstraint

    theirs = torch.nn.ModuleDict(
        {
            "encoder": kaira.Bourtsoulatze2019DeepJSCCEncoder(16),
            "decoder": kaira.Bourtsoulatze2019DeepJSCCDecoder(16),
        }
    ).eval()
    ours = DeepJscc(16).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        values = AveragePowerConstraint(1.0)(theirs["encoder"](images))
        symbols = ours.encode(images)
        pairs = values.flatten(1).reshape(2, -1, 2)
        torch.testing.assert_close(symbols, torch.view_as_complex(pairs) / 2**0.5, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.decode(symbols, 32, 48), theirs["decoder"](values), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("filters", [8, 16])
def test_symbols_have_unit_power_and_the_number_that_the_cbr_says(filters):
    symbols = DeepJscc(filters).encode(torch.rand(2, 3, 24, 32))
    assert symbols.shape == (2, 3 * 24 * 32 * filters // 96)
    torch.testing.assert_close(symbols.abs().square().mean(dim=1), torch.ones(2))


def test_weights_come_back_in_half_precision(tmp_path):
    network, images = DeepJscc(16).eval(), torch.rand(1, 3, 16, 16)
    network.save(tmp_path / "a.safetensors")
    with torch.no_grad():
        again = DeepJscc.load(tmp_path / "a.safetensors")
        torch.testing.assert_close(again.encode(images), network.encode(images))
    assert (tmp_path / "a.safetensors").stat().st_size < 400_000


def test_files_that_are_no_weights_are_refused(tmp_path):
    from safetensors.numpy import save_file

    with pytest.raises(BundleError, match="no such file"):
        DeepJscc.load(tmp_path / "none.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    save_file({"decoder.model.0.transconv.weight": np.zeros((8, 1, 1, 1), np.float32)}, tmp_path / "other.safetensors")
    for name in ("junk", "other"):
        with pytest.raises(BundleError, match=rf"{name}.safetensors: has no weights of DeepJSCC"):
            DeepJscc.load(tmp_path / f"{name}.safetensors")
        with pytest.raises(SweepError, match=rf"weights .*{name}.safetensors: has no weights"):
            DeepJsccChain(DeepJsccOptions(str(tmp_path / f"{name}.safetensors")), Scene())
    with pytest.raises(SweepError, match="train-baseline"):
        DeepJsccOptions(str(tmp_path / "none.safetensors"))


@pytest.mark.parametrize(("air", "most"), BOTH)
def test_a_picture_gets_better_with_the_snr(weights, picture, bundle_folder, air, most):
    if air == "grid":
        pytest.importorskip("sionna")
    link = chain(weights, picture, bundle_folder, air)
    poor, good = (link.run(Trial(snr_db, 0, (1, 2))).image for snr_db in (0.0, 25.0))
    assert good.picture.shape == picture.shape
    assert 15 < poor.metrics["psnr_db"] < good.metrics["psnr_db"] - 1
    assert good.metrics["psnr_db"] > 22
    # 17 x 23 positions of 4 symbols, and the overhead.
    assert 17 * 23 * 4 / picture.size < good.metrics["cbr"] < most
    assert good.metrics["outage"] == 0


def test_what_arrives_follows_from_the_trial(weights, picture, bundle_folder):
    first, other, again = (
        chain(weights, picture, bundle_folder).run(Trial(10.0, 0, seed)).image.picture for seed in ((1,), (2,), (1,))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_burst_that_is_not_found_shows_grey(weights, picture, bundle_folder):
    outcome = chain(weights, picture, bundle_folder).run(Trial(-25.0, 0, (1,)))
    assert outcome.counts == {"frames": 1, "frames_lost": 1}
    assert outcome.image.metrics["outage"] == 1
    assert (outcome.image.picture == 128).all()
