"""The modem over Sionna's own channels."""

import numpy as np
import pytest

from crlsc_phy.phy import BurstModem, Numerology

torch = pytest.importorskip("torch")
pytest.importorskip("sionna")


@pytest.fixture(autouse=True)
def seeded():
    from sionna.phy import config

    config.seed = 7


def test_awgn(make_frame):
    from sionna.phy.channel import AWGN

    modem = BurstModem()
    frame = make_frame()
    iq = torch.tensor(np.pad(modem.modulate(frame), 500))
    # Sample noise variance that gives 4 dB on each of the 52 of 64 carriers.
    received = AWGN()(iq, 10**-0.4 * 64 / 52).numpy()
    (burst,) = modem.receive(received)
    assert burst.frame == frame
    assert burst.snr_db == pytest.approx(4, abs=1)


@pytest.mark.parametrize(("model", "preset"), [("A", "256"), ("C", "128"), ("D", "64")])
def test_tdl_with_delay_spread(model, preset, make_frame):
    from sionna.phy.channel import TimeChannel
    from sionna.phy.channel.tr38901 import TDL

    numerology = Numerology.preset(preset)
    modem = BurstModem(numerology)
    frame = make_frame()
    iq = np.pad(modem.modulate(frame), (400, 800))
    tdl = TDL(model, 100e-9, 2.4e9, min_speed=1.0)
    channel = TimeChannel(tdl, numerology.sample_rate, len(iq), 1e-6, normalize_channel=True)
    arrived = 0
    for _ in range(10):
        received = channel(torch.tensor(iq)[None, None, None], torch.tensor(10**-2.5)).numpy().ravel()
        arrived += [b.frame for b in modem.receive(received) + modem.flush()] == [frame]
    # Flat Rayleigh fading at 25 dB mean: a fade below the QPSK threshold has a probability of about 1 %.
    assert arrived >= 9
