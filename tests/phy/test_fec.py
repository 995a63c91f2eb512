"""The LDPC code is Sionna's, bit for bit, and the decoder loses nothing against Sionna's."""

import numpy as np
import pytest

from crlsc_phy.errors import ModemError
from crlsc_phy.phy import BurstModem
from crlsc_phy.phy.fec import crc24, ldpc_code

torch = pytest.importorskip("torch")
pytest.importorskip("sionna")

CODES = [
    (16, 80, 2),
    (160, 800, 2),
    (200, 400, 4),
    (600, 1800, 2),
    (1176, 2352, 2),
    (1560, 1872, 6),
    (1560, 2080, 4),
    (3824, 5736, 4),
    (5000, 15000, 2),
    (8448, 12672, 6),
]


@pytest.mark.parametrize(("k", "n", "bits"), CODES)
def test_encoder_is_sionnas(k, n, bits):
    from sionna.phy.fec.ldpc import LDPC5GEncoder

    words = np.random.default_rng(k).integers(0, 2, (2, k), dtype=np.uint8)
    expected = LDPC5GEncoder(k, n, bits)(torch.tensor(words, dtype=torch.float32)).numpy()
    assert np.array_equal(ldpc_code(k, n, bits).encode(words), expected)


@pytest.mark.parametrize(("k", "n", "bits"), CODES)
def test_decoder_returns_what_was_encoded(k, n, bits):
    rng = np.random.default_rng(k)
    code = ldpc_code(k, n, bits)
    words = rng.integers(0, 2, (3, k), dtype=np.uint8)
    llr = (8.0 * code.encode(words) - 4).astype(np.float32)
    # Bits missing here and there, as on a faded carrier.
    llr[:, rng.choice(n, n // 50, replace=False)] = 0
    posterior, valid, iterations = code.decode(llr)
    assert valid.all()
    assert (iterations < 20).all()
    assert np.array_equal(posterior > 0, words)


def noisy_words(k, n, snr_db, count, seed=0):
    """Words and the LLRs of QPSK over AWGN at Es/N0 ``snr_db``."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2, (count, k), dtype=np.uint8)
    variance = 10 ** (-snr_db / 10)
    received = (2.0 * ldpc_code(k, n, 2).encode(words) - 1) / np.sqrt(2)
    received += np.sqrt(variance / 2) * rng.standard_normal(received.shape)
    return words, (2 * np.sqrt(2) * received / variance).astype(np.float32)


@pytest.mark.parametrize(
    ("k", "n", "snr_db", "iterations"), [(160, 800, -3.6, 40), (1024, 2048, 1.2, 20), (1024, 1536, 3.1, 20)]
)
def test_block_errors_no_more_than_sionnas(k, n, snr_db, iterations):
    from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder

    words, llr = noisy_words(k, n, snr_db, 150)
    posterior, _, _ = ldpc_code(k, n, 2).decode(llr, iterations)
    ours = np.any((posterior > 0) != words, axis=1)
    decoder = LDPC5GDecoder(LDPC5GEncoder(k, n, 2), num_iter=20)
    theirs = np.any(decoder(torch.tensor(llr)).numpy() != words, axis=1)
    assert 0 < theirs.sum() < len(words)
    # On the same noise most words agree; what differs must not be more than chance against us.
    lost, won = np.sum(ours & ~theirs), np.sum(theirs & ~ours)
    assert lost - won <= 2.5 * np.sqrt(lost + won + 1)


def test_words_that_fail_still_give_soft_bits():
    words, llr = noisy_words(160, 800, -5.5, 300)
    posterior, valid, _ = ldpc_code(160, 800, 2).decode(llr, iterations=40)
    assert not valid.all()
    magnitude, wrong = np.abs(posterior[~valid]), (posterior > 0)[~valid] != words[~valid]
    rates = [np.mean(wrong[(magnitude >= low) & (magnitude < low + 2)]) for low in (0, 2, 4)]
    assert rates[0] > 1.3 * rates[1] > 1.3**2 * rates[2]
    # The first bits are never sent: what is known of them comes from the code alone.
    assert np.mean((posterior > 0)[:, :52] != words[:, :52]) < 0.35


@pytest.mark.parametrize(
    ("k", "n", "bits"),
    [(8, 40, 2), (100, 1000, 2), (100, 101, 2), (9000, 18000, 2), (100, 201, 2), (12, 0, 2), (100, 200, 0)],
)
def test_impossible_codes_are_refused(k, n, bits):
    with pytest.raises(ModemError, match=f"k = {k}, n = {n}"):
        ldpc_code(k, n, bits)


def test_lists_and_other_types_are_taken():
    code = ldpc_code(np.int64(16), np.int64(80), np.int64(2))
    assert code is ldpc_code(16, 80, 2)
    words = np.random.default_rng(0).integers(0, 2, (2, 16), dtype=np.uint8)
    coded = code.encode(words)
    assert np.array_equal(code.encode(words.tolist()), coded)
    assert np.array_equal(code.encode(torch.from_numpy(words)), coded)
    llr = 8.0 * coded - 4
    for given in (llr, llr.tolist(), torch.from_numpy(llr)):
        assert np.array_equal(code.decode(given)[0] > 0, words)
        assert np.array_equal(code.decode_reference(given) > 0, words)
    assert crc24(bytearray(b"abc")) == crc24(memoryview(b"abc")) == crc24(b"abc")


def test_crc_is_crc24b():
    from sionna.phy.fec.crc import CRCEncoder

    data = np.random.default_rng(0).bytes(97)
    bits = np.unpackbits(np.frombuffer(data, np.uint8)).astype(np.float32)
    coded = CRCEncoder("CRC24B")(torch.tensor(bits)[None]).numpy()[0]
    assert crc24(data) == np.packbits(coded[-24:].astype(np.uint8)).tobytes()


def test_sionnas_decoder_can_take_our_place(make_frame, channel):
    words, llr = noisy_words(160, 800, -3, 20)
    posterior = ldpc_code(160, 800, 2).decode_reference(llr, 20)
    assert np.mean(np.any((posterior > 0) != words, axis=1)) < 0.3
    frame = make_frame(detail=500)
    modem = BurstModem(ldpc="sionna")
    (burst,) = modem.receive(channel(snr_db=4, cfo=0.01, lead=100)(modem.modulate(frame)))
    assert burst.frame == frame
