"""Links of bits against closed forms, Sionna's decoder, and themselves."""

import numpy as np
import pytest
from coded_links import exact_ber
from scipy.special import erfc

from crlsc_phy.channel import ChannelSettings
from crlsc_phy.errors import SweepError
from crlsc_phy.link.baselines.coded import CodedChain, CodedOptions
from crlsc_phy.link.chain import Scene, Trial
from crlsc_phy.phy.fec import ldpc_code


def run(options, model="awgn", snr_db=5.0, replicas=1, seed=0, air="modem", **settings):
    """Counts of each replica."""
    chain = CodedChain(options, Scene(ChannelSettings(model=model, **settings), air=air))
    return [chain.run(Trial(snr_db, i, (seed, i))).counts for i in range(replicas)]


def rate(counts, what="bit"):
    """Mean over replicas, and its standard error from their scatter."""
    rates = np.array([count[f"{what}_errors"] / count[f"{what}s"] for count in counts])
    return rates.mean(), rates.std(ddof=1) / np.sqrt(len(rates))


@pytest.mark.parametrize(("modulation", "snr_db"), [("qpsk", 4), ("16qam", 11), ("64qam", 16)])
@pytest.mark.parametrize("model", ["awgn", "rayleigh"])
def test_uncoded_ber_is_that_of_the_closed_form(modulation, snr_db, model):
    counts = run(CodedOptions(modulation, rate=1, k=1200, blocks=20), model, snr_db, replicas=40)
    ber, error = rate(counts)
    assert abs(ber - exact_ber(modulation, model, snr_db)) < 4 * error
    # The interval is narrow enough to tell 0.3 dB.
    assert 4 * error < abs(exact_ber(modulation, model, snr_db - 0.3) - exact_ber(modulation, model, snr_db))


def test_a_gain_for_a_block_changes_how_errors_fall_but_not_how_many():
    options = {"rate": 1, "k": 200, "blocks": 2000}
    symbol = run(CodedOptions(**options), "rayleigh", 15, 10)
    block = run(CodedOptions(**options, fading="block"), "rayleigh", 15, 10)
    by_model = run(CodedOptions(**options), "rayleigh-block", 15, 10)
    assert block == by_model
    expected = exact_ber("qpsk", "rayleigh", 15)
    for counts in (symbol, block):
        ber, error = rate(counts)
        assert abs(ber - expected) < 4 * error
    # 200 bits with a gain each rarely escape; with one gain most do.
    assert rate(symbol, "block")[0] > 0.9
    assert rate(block, "block")[0] < 0.3


def test_outage_over_block_fading_is_that_of_the_snr_the_code_needs():
    # k = 1024, rate 1/2 needs 1.4 dB within a tenth or two: a block is lost where its gain leaves less.
    counts = run(CodedOptions(k=1024, n=2048, blocks=200, fading="block"), "rayleigh", 10, 10)
    lost, error = rate(counts, "block")
    assert abs(lost - (1 - np.exp(-(10 ** ((1.4 - 10) / 10))))) < 4 * error + 0.01


def test_a_direct_path_helps():
    plain, rice = (run(CodedOptions(rate=1), model, 15, 3, rice_k_db=10.0) for model in ("rayleigh", "rician"))
    assert rate(rice)[0] < rate(plain)[0] / 3


@pytest.mark.parametrize(("modulation", "n", "snr_db"), [("qpsk", 1024, 2.2), ("16qam", 1024, 7.5), ("64qam", 768, 15)])
def test_the_code_leaves_a_tenth_of_the_errors_at_most(modulation, n, snr_db):
    (counts,) = run(CodedOptions(modulation, k=512, n=n, blocks=200), snr_db=snr_db)
    assert counts["blocks"] == 200
    assert counts["block_errors"] <= 20
    assert counts["bit_errors"] / counts["bits"] < exact_ber(modulation, "awgn", snr_db) / 10


def test_our_decoder_decides_as_sionnas_with_the_same_rule():
    torch = pytest.importorskip("torch")
    ldpc = pytest.importorskip("sionna.phy.fec.ldpc")
    from sionna.phy.fec.ldpc.decoding import cn_update_minsum

    code, rng = ldpc_code(256, 512, 2), np.random.default_rng(1)
    bits = rng.integers(0, 2, (40, 256), np.uint8)
    noisy = 1.0 - 2.0 * code.encode(bits) + 0.8 * rng.standard_normal((40, 512))
    llr = (-2 * noisy / 0.8**2).astype(np.float32)
    decoder = ldpc.LDPC5GDecoder(
        ldpc.LDPC5GEncoder(256, 512, 2),
        cn_update=lambda messages, mask, clip: 0.75 * cn_update_minsum(messages, mask, clip),
        cn_schedule="layered",
        num_iter=10,
        llr_max=None,
    )
    with torch.inference_mode():
        theirs = decoder(torch.from_numpy(llr)).numpy() > 0
    posterior, _, _ = code.decode(llr, 10)
    wrong = np.any(theirs != bits, axis=1)
    assert 0 < wrong.sum() < 40
    np.testing.assert_array_equal(np.any((posterior > 0) != bits, axis=1), wrong)


def test_a_trial_depends_on_its_seed_alone():
    options = CodedOptions(rate=1, blocks=5)
    first, second = run(options, replicas=2)
    chain = CodedChain(options, Scene())
    assert chain.run(Trial(5.0, 1, (0, 1))).counts == second != first


def test_an_overrated_snr_misleads_belief_propagation():
    pytest.importorskip("sionna")
    honest, wrong = (
        run(CodedOptions(k=256, n=512, blocks=60, decoder="sionna", iterations=10, mismatch_db=gap), snr_db=2)[0]
        for gap in (0.0, 8.0)
    )
    assert wrong["block_errors"] > honest["block_errors"] + 5


def test_the_modem_carries_blocks_over_paths_that_symbols_cannot():
    options = {"k": 512, "n": 1024, "blocks": 6}
    (counts,) = run(CodedOptions(**options, modem=True), "tdl-a", 25)
    assert counts["block_errors"] <= 1
    # No burst is found: nothing is received, and nothing deceives.
    (counts,) = run(CodedOptions(**options, modem=True), "awgn", -20)
    assert (counts["block_errors"], counts["undetected"]) == (6, 0)
    with pytest.raises(SweepError, match=r"channel model 'tdl-a' needs a waveform; set air: grid or modem: true, or"):
        run(CodedOptions(**options), "tdl-a")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"modulation": "8psk"}, "modulation is '8psk'; choose one of qpsk, 16qam, 64qam"),
        ({"decoder": "turbo"}, "decoder is 'turbo'; it must be 'min-sum' or 'sionna'"),
        ({"fading": "fast"}, "fading is 'fast'; it must be '', 'symbol' or 'block'"),
        ({"k": 0}, "k is 0; it must be 1 or more"),
        ({"blocks": 0}, "blocks is 0; it must be 1 or more"),
        ({"rate": 1.5}, "rate is 1.5; it must be 1 or less"),
        ({"mismatch_db": float("nan")}, "mismatch_db is nan; it must be a finite number"),
        ({"rate": 1, "k": 1025}, "k is 1025; without a code it must be a multiple of 2, the bits of a symbol"),
        ({"k": 1024, "n": 1030}, "no LDPC code"),
        ({"k": 1024, "rate": 0.01}, "no LDPC code"),
    ],
)
def test_what_cannot_be_sent_is_refused(options, words):
    with pytest.raises(SweepError, match=words):
        CodedOptions(**options)


def test_several_antennas_are_refused():
    with pytest.raises(SweepError, match="2 x 2 antennas"):
        run(CodedOptions(), "rayleigh", rx=2, tx=2)


def test_the_closed_form_is_the_textbooks_for_qpsk():
    snr = 10**0.6
    assert exact_ber("qpsk", "awgn", 6) == pytest.approx(erfc(np.sqrt(snr / 2)) / 2)
    assert exact_ber("qpsk", "rayleigh", 6) == pytest.approx((1 - np.sqrt(snr / (2 + snr))) / 2)
