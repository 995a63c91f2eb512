"""Turbo decoding of the semantic layer with something else that knows air codes."""

from dataclasses import replace

import numpy as np
import pytest

from crlsc_phy.errors import ModemError
from crlsc_phy.frame import FrameHeader
from crlsc_phy.phy import BurstModem
from crlsc_phy.phy.turbo import turbo_decode


def lost_bursts(make_frame, channel, snr_db, count):
    """Bursts whose semantic layer was lost, with their frames."""
    modem = BurstModem()
    rng = np.random.default_rng(0)
    one = make_frame(detail=0)
    # Having read one header well, it reads those of the noisy bursts.
    modem.receive(np.pad(modem.modulate(one), (100, 100)))
    link = channel(snr_db=snr_db, lead=400, tail=400)
    lost = []
    for seed in range(count):
        frame = replace(one, semantic=rng.bytes(16))
        lost += [(frame, b) for b in modem.receive(link(modem.modulate(frame), seed=seed)) if not b.semantic_ok]
    return lost


def knowing(llr_of_true_bits):
    """An outer decoder that has heard each bit of the true code faintly."""

    def make(code):
        bits = np.unpackbits(np.frombuffer(code, np.uint8))
        return lambda _: ((2.0 * bits - 1) * llr_of_true_bits).astype(np.float32)

    return make


def test_what_is_known_of_a_code_brings_it_back(make_frame, channel):
    lost = lost_bursts(make_frame, channel, -9, 40)
    assert len(lost) > 10
    ignorant, faint = knowing(0.0), knowing(1.0)
    alone = [turbo_decode(b.semantic_coded_llr, b.frame.header, ignorant(frame.semantic)) for frame, b in lost]
    helped = [turbo_decode(b.semantic_coded_llr, b.frame.header, faint(frame.semantic)) for frame, b in lost]
    assert sum(code is not None for code in alone) < 0.2 * len(lost)
    assert sum(code == frame.semantic for code, (frame, _) in zip(helped, lost, strict=True)) > 0.8 * len(lost)


def test_the_outer_decoder_is_asked_for_what_it_adds(make_frame, channel):
    """It is told what the channel says without its own last answer, which would else confirm itself."""
    frame, burst = lost_bursts(make_frame, channel, -9.5, 30)[0]
    asked = []

    def stubborn(llr):
        asked.append(llr.copy())
        return np.full(128, -10.0, np.float32)

    assert turbo_decode(burst.semantic_coded_llr, burst.frame.header, stubborn) != frame.semantic
    assert len(asked) > 1
    assert np.abs(asked[-1]).mean() < 10


def test_a_wrong_prior_makes_no_wrong_code(make_frame, channel):
    rng = np.random.default_rng(5)
    lost = lost_bursts(make_frame, channel, -9, 40)
    wrong = [turbo_decode(b.semantic_coded_llr, b.frame.header, knowing(1.0)(rng.bytes(16))) for _, b in lost]
    assert all(code in (None, frame.semantic) for code, (frame, _) in zip(wrong, lost, strict=True))


@pytest.mark.parametrize("llr", [np.zeros(719), np.zeros((2, 720)), np.full(720, np.nan), np.full(720, np.inf), []])
def test_llrs_that_do_not_fit_are_refused(llr):
    with pytest.raises(ModemError, match="needs 720 finite LLRs"):
        turbo_decode(llr, FrameHeader(bytes(4), 64, 64, 16, 0), lambda llr: llr)
