"""The stream: one output however it is cut, no break when it is changed, the truth on demand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crlsc_phy.channel import MODELS, ChannelSettings, StreamChannel
from crlsc_phy.channel.settings import FIXED
from crlsc_phy.errors import ChannelError

ALL = [name for name in MODELS if name != "replay"]
FAULTS = {
    "snr_db": 10.0, "cfo_hz": 1234.5, "drift_hz_s": 50.0, "sro_ppm": 100.0, "phase_noise_hz": 5.0, "iq_gain_db": 0.5,
    "iq_phase_deg": 2.0, "dc": 0.01 + 0.02j, "adc_bits": 10, "clip_db": 6.0,
}  # fmt: skip


def noise(count, seed=0, rows=0):
    parts = np.random.default_rng(seed).standard_normal((max(rows, 1), count, 2)).view(complex)[..., 0] / np.sqrt(2)
    return parts.astype(np.complex64) if rows else parts[0].astype(np.complex64)


def in_pieces(channel, samples, borders):
    ends = [0, *sorted(borders), samples.shape[-1]]
    parts = [channel(samples[..., a:b]) for a, b in itertools.pairwise(ends)]
    return np.concatenate(parts, axis=-1)


def check_alike(one, other):
    """Equal but for a sample in 100,000 that the converter rounds the other way.

    Some processors add up the ends of an array in another order than its middle.
    """
    step = 2 * 10 ** (ChannelSettings().adc_full_scale_db / 20) / 2 ** FAULTS["adc_bits"]
    differences = np.abs(one - other)
    assert np.count_nonzero(differences) <= max(1, one.size // 100_000)
    assert differences.max(initial=0) < 1.5 * step


@pytest.mark.parametrize("model", ALL)
def test_cuts_do_not_matter(model):
    options = {"model": model, "block": 777, "speed": 30.0, "taps": (1, 0.5j, 0.1), "rx": 2, "seed": 5, **FAULTS}
    samples = noise(150_000)
    borders = np.random.default_rng(1).integers(0, len(samples), 100)
    whole = StreamChannel(**options)(samples)
    assert whole.shape == (2, len(samples))
    assert whole.dtype == np.complex64
    check_alike(whole, in_pieces(StreamChannel(**options), samples, borders))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=40), st.sampled_from([0.0, 3.0, 300.0]))
def test_any_cuts_do_not_matter(borders, speed):
    options = {"model": "tdl-c", "speed": speed, "sample_rate": 20e6, **FAULTS}
    samples = noise(5000)
    check_alike(StreamChannel(**options)(samples), in_pieces(StreamChannel(**options), samples, borders))


def test_two_antennas_at_both_ends(tx=2):
    samples = noise(20_000, rows=tx)
    channel = StreamChannel("tdl-a", rx=2, tx=tx, seed=3)
    out = channel(samples)
    assert out.shape == (2, 20_000)
    taps = channel.taps_at(np.arange(10_000, 10_100))
    reach = taps.shape[3]
    for antenna in range(2):
        expected = [
            sum(taps[n, antenna, s] @ samples[s, 10_000 + n - np.arange(reach)] for s in range(tx)) for n in range(100)
        ]
        assert np.allclose(out[antenna, 10_000:10_100], expected, atol=1e-4)
    with pytest.raises(ChannelError, match="the channel takes 2 rows"):
        channel(noise(10))


@pytest.mark.parametrize("model", ["tdl-a", "cdl-c", "rician", "uma"])
def test_the_seed_decides(model):
    samples = noise(3000)
    first, again, other = (StreamChannel(model, snr_db=20, seed=seed)(samples) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other, atol=0.1)


@pytest.mark.parametrize("model", ["tdl-a", "cdl-a", "rayleigh", "tdl-d"])
@pytest.mark.parametrize("speed", [3.0, 50.0])
def test_straight_lines_between_knots_are_55_db_below_the_channel(model, speed):
    channel = StreamChannel(model, speed=speed, seed=2)
    places = np.arange(0, 300_000, 37)
    taps = channel.taps_at(places)
    gains, delays = channel.gains_at(places)
    lags = np.arange(taps.shape[3]) - channel.latency
    exact = gains @ np.sinc(lags - channel.settings.sample_rate * delays[:, None])
    error = np.sum(np.abs(taps - exact) ** 2) / np.sum(np.abs(exact) ** 2)
    assert 10 * np.log10(error) < -55


@pytest.mark.parametrize(
    "change",
    [
        {"speed": 20.0}, {"doppler_hz": 5.0}, {"delay_spread": 300e-9}, {"model": "tdl-b"}, {"model": "cdl-a"},
        {"cfo_hz": -500.0}, {"drift_hz_s": 1e5}, {"speed": 0.0},
    ],
)  # fmt: skip
def test_no_change_breaks_the_phase(change):
    """A tone stays smooth: the largest step between samples is hardly larger than before."""
    channel = StreamChannel("tdl-a", cfo_hz=300.0, speed=10.0, seed=4)
    tone = np.ones(20_000, np.complex64)
    before = channel(tone)[100:]
    channel.set(**change)
    after = channel(tone)
    joint = np.abs(np.diff(np.r_[before[-1], after]))
    assert joint[0] < 3 * np.abs(np.diff(before)).max()
    assert joint.max() < 0.03


def test_noise_follows_at_once_and_unity_power_stays():
    channel = StreamChannel("awgn", snr_db=0.0)
    quiet = np.zeros(200_000, np.complex64)
    assert np.var(channel(quiet)) == pytest.approx(1, rel=0.02)
    channel.set(snr_db=20.0)
    assert np.var(channel(quiet)) == pytest.approx(0.01, rel=0.02)
    channel.set(noise_power=0.5)
    assert np.var(channel(quiet)) == pytest.approx(0.5, rel=0.02)
    assert channel.settings.snr_db is None
    channel.set(snr_db=10.0, occupied=0.5)
    assert np.var(channel(quiet)) == pytest.approx(0.2, rel=0.02)
    channel.set(snr_db=None)
    assert not channel(quiet).any()


def test_the_truth_is_what_the_stream_went_through():
    channel = StreamChannel("tdl-a", speed=30.0, seed=6)
    samples = noise(30_000)
    out = channel(samples)
    places = np.arange(25_000, 25_050)
    taps = channel.taps_at(places)[:, 0, 0]
    lags = np.arange(taps.shape[1])
    expected = [taps[i] @ samples[n - lags] for i, n in enumerate(places)]
    assert np.allclose(out[places], expected, atol=1e-5)
    gains, delays = channel.gains_at(places)
    assert gains.shape == (50, 1, 1, len(delays)) == (50, 1, 1, 23)
    # What is to come is known too.
    later = channel.taps_at([10**9])
    assert np.isfinite(later).all()


def test_changes_are_remembered_by_the_truth():
    channel = StreamChannel("tdl-a", seed=6)
    samples = noise(10_000)
    channel(samples)
    before = channel.gains_at([5000])[0]
    channel.set(model="tdl-b")
    channel(samples)
    assert np.array_equal(channel.gains_at([5000])[0], before)
    assert len(channel.gains_at([15_000])[1]) == 23
    with pytest.raises(
        ChannelError, match=r"changed at sample 10240; ask for the samples before and after it separately"
    ):
        channel.gains_at([5000, 15_000])


def test_blocks_stand_and_then_jump():
    channel = StreamChannel("rayleigh-block", block=500, seed=1)
    out = channel(np.ones(5000, np.complex64)).reshape(10, 500)
    assert np.array_equal(out, np.repeat(out[:, :1], 500, axis=1))
    assert len(np.unique(out[:, 0])) == 10
    assert np.allclose(channel.gains_at([250, 750])[0].ravel(), out[:2, 0])


def test_static_taps_are_exact_and_cost_no_latency():
    channel = StreamChannel("static", taps=(0.5, 0, 0.25j))
    out = channel(np.r_[1, np.zeros(9)])
    assert channel.latency == 0
    assert np.allclose(out, [0.5, 0, 0.25j, *[0] * 7])


def test_awgn_alone_changes_nothing_else():
    samples = noise(1000)
    assert np.array_equal(StreamChannel()(samples), samples)
    channel = StreamChannel()
    channel(samples)
    channel.set(model="static", taps=(0.0, 1.0))
    for _ in range(10):
        out = channel(samples)
    assert np.allclose(out[1:], samples[:-1])


def test_a_fast_clock_is_as_fast_as_it_says_and_slips_when_it_must():
    tone = np.exp(2j * np.pi * 0.01 * np.arange(500_000)).astype(np.complex64)
    channel = StreamChannel(sro_ppm=200.0)
    out = channel(tone)[20_000:]
    assert channel.latency == 512
    turn = np.angle(np.mean(out[1:] * out[:-1].conj())) / (2 * np.pi)
    assert turn == pytest.approx(0.01 * (1 + 200e-6), rel=2e-6)
    assert np.abs(np.abs(out) - 1).max() < 1e-3
    assert channel.slips == 0
    # 596 of 992 samples of slack are left after 500,000 at 200 ppm; -1000 ppm use them up in 596,000.
    channel.set(sro_ppm=-1000.0)
    for slips in (0, 1, 1, 2):
        assert len(channel(tone)) == len(tone)
        assert channel.slips == slips


def test_phase_noise_grows_like_a_wiener_process():
    phase = np.unwrap(np.angle(StreamChannel(phase_noise_hz=100.0, seed=3)(np.ones(1_000_000, np.complex64))))
    for lag in (10, 1000):
        assert np.var(phase[lag::lag] - phase[:-lag:lag]) == pytest.approx(2 * np.pi * 100 * lag / 1e6, rel=0.1)


def test_drift_moves_the_frequency():
    channel = StreamChannel(cfo_hz=1000.0, drift_hz_s=10_000.0)
    out = channel(np.ones(1_000_000, np.complex64))
    for place in (0, 500_000, 990_000):
        turn = np.angle(np.mean(out[place + 1 : place + 1000] * out[place : place + 999].conj())) / (2 * np.pi) * 1e6
        assert turn == pytest.approx(1000 + 10_000 * (place + 500) / 1e6, abs=0.1)


def test_amplifier_mixer_and_converter():
    samples = noise(100_000)
    assert np.abs(StreamChannel(clip_db=3.0)(samples)).max() <= 10**0.15 * (1 + 1e-6)
    tone = np.exp(2j * np.pi * 0.1 * np.arange(10_000)).astype(np.complex64)
    spectrum = np.abs(np.fft.fft(StreamChannel(iq_gain_db=1.0, dc=0.1)(tone))) / 10_000
    image = abs(1 - 10 ** (1 / 20)) / (1 + 10 ** (1 / 20))
    assert spectrum[9000] / spectrum[1000] == pytest.approx(image, rel=0.01)
    assert spectrum[0] == pytest.approx(0.1, rel=0.01)
    coarse = StreamChannel(adc_bits=3, adc_full_scale_db=6.0)(samples)
    assert len(np.unique(coarse.real)) == 8
    fine = StreamChannel(adc_bits=12)(samples)
    # A uniform quantiser's error: step^2 / 12 for I and for Q.
    assert np.mean(np.abs(fine - samples) ** 2) == pytest.approx((2 * 10**0.6 / 2**12) ** 2 / 6, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "nonsense-block"}, "channel model 'nonsense-block' is unknown; choose one of awgn"),
        ({"model": "tdl-z"}, "channel model 'tdl-z' is unknown; choose one of awgn"),
        ({"speeed": 3}, "unknown option 'speeed'; choose one of speed, "),
        ({"speed": -1.0}, r"speed is -1\.0; it must be 0 or more"),
        ({"speed": float("nan")}, "speed is nan; it must be a finite number"),
        ({"sample_rate": 0.0}, r"sample_rate is 0\.0; it must be 0\.001 or more"),
        ({"snr_db": 10.0, "noise_power": 0.1}, "snr_db and noise_power both give the noise; give one of them"),
        ({"rx": 0}, "rx is 0; it must be 1 or more"),
        ({"rx": 1.5}, r"rx is 1\.5; it must be a whole number"),
        ({"rx": 9}, "rx is 9; it must be 8 or less"),
        ({"sight": "maybe"}, "sight is 'maybe'; it must be '', 'los' or 'nlos'"),
        ({"taps": ()}, "give at least one gain"),
        ({"taps": (1, float("inf"))}, r"taps\[1\] is inf; it must be finite"),
        ({"occupied": 1.5}, r"occupied is 1\.5; it must be 1 or less"),
        ({"sro_ppm": 1e5}, r"sro_ppm is 100000\.0; it must be 1000 or less"),
        ({"model": "umi", "distance_m": 1.0}, "channel model 'umi' takes 10 m or more"),
        ({"model": "static", "rx": 3, "tx": 2}, "as many antennas at both ends"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ChannelError, match=message):
        StreamChannel(**{"model": "awgn", **options})


def test_a_change_that_is_refused_changes_nothing():
    channel = StreamChannel("tdl-a", snr_db=10)
    for change in ({"model": "nothing"}, {"seed": 5}, {"sro_ppm": 5.0}, {"speed": -1.0}, {"rx": 2}):
        with pytest.raises(ChannelError):
            channel.set(**change)
    assert channel.settings == ChannelSettings(model="tdl-a", snr_db=10)
    channel(noise(1000))


@pytest.mark.parametrize("iq", [np.zeros((2, 5)), np.zeros((1, 2, 3)), 0.5 * np.ones((3, 1))])
def test_samples_of_another_shape_are_refused(iq):
    with pytest.raises(ChannelError, match="the channel takes 1 rows"):
        StreamChannel()(iq)
    assert StreamChannel()([]).shape == (0,)


@pytest.mark.parametrize("iq", [None, "1+2j", b"bytes", ["a", "b"], [None, 1], [[1, 2], [3]], {"iq": 1}, object()])
def test_what_are_no_samples_is_refused(iq):
    with pytest.raises(ChannelError, match="samples must be numbers in an array or list"):
        StreamChannel()(iq)


def test_samples_may_be_of_any_array_type():
    samples = noise(500)
    channel = {"model": "tdl-a", "snr_db": 20.0, "seed": 2}
    expected = StreamChannel(**channel)(samples)
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(samples)
    given = [
        samples.astype(np.complex128), samples.tolist(), list(samples), samples.astype(">c8"), samples[None],
        np.repeat(samples, 2)[::2], tensor, tensor.clone().requires_grad_(), tensor.conj().resolve_conj().conj(),
        memoryview(samples),
    ]  # fmt: skip
    for iq in given:
        assert np.array_equal(StreamChannel(**channel)(iq), expected)
    real = samples.real.astype(np.float32)
    assert np.array_equal(StreamChannel(**channel)(real), StreamChannel(**channel)(real.astype(np.complex64)))
    assert np.array_equal(StreamChannel()(np.arange(3, dtype=np.int16)), [0, 1, 2])


@pytest.mark.parametrize(
    "options",
    [{}, {"model": "tdl-a"}, {"model": "static", "taps": (0, 0, 1)}, {"model": "tdl-a", **FAULTS}, {"sro_ppm": 0}],
)
def test_a_buffer_may_be_filled_again(options):
    """What was given is not looked at again, and what was returned is the caller's."""
    samples = noise(6000)
    expected = in_pieces(StreamChannel(**options), samples, range(0, 6000, 1000))
    channel, buffer, parts = StreamChannel(**options), np.empty(1000, np.complex64), []
    for start in range(0, 6000, 1000):
        buffer[:] = samples[start : start + 1000]
        out = channel(buffer)
        assert np.array_equal(buffer, samples[start : start + 1000])
        parts.append(out.copy())
        buffer[:] = out[:] = np.nan
    assert np.array_equal(np.concatenate(parts), expected)


NUMPY = [
    ("snr_db", np.float32(5), 5.0), ("snr_db", np.float16(5), 5.0), ("snr_db", np.longdouble(5), 5.0),
    ("snr_db", np.int64(5), 5.0), ("snr_db", np.array(5.0), 5.0), ("speed", np.uint8(3), 3.0), ("rx", np.int64(2), 2),
    ("seed", np.uint64(2**63 - 1), 2**63 - 1), ("model", np.str_("rayleigh"), "rayleigh"),
    ("dc", np.complex64(0.5j), 0.5j), ("dc", np.clongdouble(0.5j), 0.5j), ("dc", np.float32(0.5), 0.5 + 0j),
    ("taps", np.array([1, 0.5j], np.complex64), (1, 0.5j)), ("taps", tuple(np.array([1, 0.5j])), (1, 0.5j)),
    ("taps", np.array([1, 2]), (1, 2)), ("taps", np.float64(0.5), (0.5,)), ("taps", [np.float32(1), 0.5j], (1, 0.5j)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "value"), NUMPY)
def test_settings_may_be_numpy_scalars_and_arrays(name, given, value):
    channel = StreamChannel(**{"model": "static", name: given})
    taken = getattr(channel.settings, name)
    assert taken == value
    assert type(taken) is type(value)
    assert channel.settings == ChannelSettings(model="static").changed(**{name: given})
    assert channel.settings == ChannelSettings(**{"model": "static", name: given})
    hash(channel.settings)
    running = StreamChannel("static", **{name: value} if name in FIXED else {})
    running.set(**{name: given})
    assert running.settings == channel.settings


@pytest.mark.parametrize(
    "options",
    [
        {"snr_db": np.array([5.0])},
        {"snr_db": np.float32("nan")},
        {"rx": np.float64(2)},
        {"rx": np.bool_(True)},
        {"taps": np.eye(2)},
    ],
)
def test_other_numpy_arrays_are_refused(options):
    with pytest.raises(ChannelError, match=f"{next(iter(options))}.* is "):
        StreamChannel(**options)


# The ends of each range, of which the worst is what all of them do together.
EXTREMES = [
    {"snr_db": -300.0, "occupied": 1e-6}, {"noise_power": 1e30}, {"sample_rate": 1e-3}, {"sample_rate": 1e12},
    {"carrier_hz": 1.0}, {"carrier_hz": 1e15}, {"delay_spread": 1e3}, {"delay_spread": 0.0}, {"speed": 299_792_458.0},
    {"doppler_hz": 1e12}, {"doppler_hz": 1e12, "carrier_hz": 1.0, "sample_rate": 1e-3}, {"rice_k_db": 300.0},
    {"rice_k_db": -300.0}, {"block": 1 << 30}, {"distance_m": 1e6}, {"distance_m": 1e-6}, {"taps": (1e15, 1e15j)},
    {"cfo_hz": 1e12, "drift_hz_s": -1e12, "sample_rate": 1e-3}, {"sro_ppm": 1000.0}, {"phase_noise_hz": 1e12},
    {"iq_gain_db": 300.0, "iq_phase_deg": 360.0, "dc": 1e15 + 1e15j}, {"clip_db": 300.0}, {"clip_db": -300.0},
    {"adc_bits": 24, "adc_full_scale_db": -300.0}, {"adc_bits": 24, "adc_full_scale_db": 300.0},
    {"snr_db": -300.0, "occupied": 1e-6, "iq_gain_db": 300.0, "dc": 1e15, "adc_bits": 1, "adc_full_scale_db": -300.0},
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("model", ["static", "rician", "rician-block", "tdl-d", "cdl-d", "umi", "rma"])
@pytest.mark.parametrize("options", EXTREMES, ids=str)
def test_all_that_can_be_set_gives_finite_samples(model, options):
    try:
        channel = StreamChannel(model, **options)
    except ChannelError as error:
        # Too many taps, or a terminal that is too near.
        assert set(options) & {"sample_rate", "delay_spread", "distance_m"}, error
    else:
        assert np.isfinite(channel(noise(300))).all()
