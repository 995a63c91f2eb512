"""The sender follows the channel, rests while the channel rests, and is not led astray by bad or late reports."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crlsc_phy.errors import ModemError
from crlsc_phy.phy import ANALOG_TABLE, MCS_TABLE, BurstModem
from crlsc_phy.phy.adaptation import THRESHOLDS_DB, LinkAdapter, LinkReport, analog_thresholds_db

NEEDS = np.array(THRESHOLDS_DB)
EFFICIENCY = np.array([mcs.efficiency for mcs in MCS_TABLE])
MEASURED = Path(__file__).parents[2] / "benchmarks/results/mcs.json"


def loss(snr_db):
    """Share of segments lost with each MCS: 1 % at its threshold, a decade every 0.25 dB, as in the measured curves."""
    return np.minimum(1, 10 ** (-2 - 4 * (np.asarray(snr_db)[..., None] - NEEDS)))


def play(snrs_db, seed, *, worse_db=0.0, segments=2, sigma_db=0.5, delay=1, adapter=None):
    """Choices and delivered bits a symbol, [bursts] each.

    The estimate has an error of one sigma ``sigma_db``; the segments see ``worse_db`` less than it; a report comes
    ``delay`` bursts late.
    """
    rng = np.random.default_rng(seed)
    adapter = adapter or LinkAdapter()
    estimates = (snrs_db + sigma_db * rng.standard_normal(len(snrs_db))).tolist()
    # The number of lost segments, had each of the MCS been taken: the same luck for all of them.
    losses = loss(np.asarray(snrs_db) - worse_db)[:, :, None] > rng.random((len(snrs_db), 1, segments))
    failures = losses.sum(axis=2).tolist()
    choices, way = [], []
    for sequence, (estimate, lost) in enumerate(zip(estimates, failures, strict=True)):
        mcs = adapter.choice
        choices.append(mcs)
        way.append(LinkReport(sequence % 65536, estimate, mcs, segments, lost[mcs]))
        if len(way) > delay:
            adapter.update(way.pop(0))
    lost = np.take_along_axis(np.array(failures), np.array(choices)[:, None], axis=1)[:, 0]
    return np.array(choices), EFFICIENCY[choices] * (1 - lost / segments)


def best(snrs_db, worse_db=0.0):
    """Bits a symbol of who knows the SNR of each burst, and of the best single MCS."""
    table = EFFICIENCY * (1 - loss(np.asarray(snrs_db) - worse_db))
    return table.max(axis=1).mean(), table.mean(axis=0).max()


def report(sequence, snr_db, mcs=0, failures=0, segments=4):
    return LinkReport(sequence, snr_db, mcs, segments, failures)


def settled(snr_db, count=20, **options):
    """An adapter after ``count`` clean reports at one SNR, numbered from 0."""
    adapter = LinkAdapter(**options)
    for sequence in range(count):
        adapter.update(report(sequence, snr_db, adapter.choice))
    return adapter


def test_thresholds_are_those_measured():
    rows = json.loads(MEASURED.read_text())["rows"]
    assert [row["mcs"] for row in rows] == [mcs.name for mcs in MCS_TABLE]
    assert [row["modem_db"] for row in rows] == pytest.approx(THRESHOLDS_DB, abs=0.3)


def test_closed_loop_through_the_modem(make_frame, channel):
    adapter = LinkAdapter()
    receiver = BurstModem()
    used, lost = [], []
    for sequence, snr_db in enumerate([2] * 15 + [15] * 15 + [5] * 15):
        frame = make_frame(seed=sequence, sequence=sequence)
        iq = BurstModem(mcs=adapter.choice).modulate(frame)
        (burst,) = receiver.receive(channel(snr_db=snr_db, cfo=0.01, lead=200)(iq, seed=sequence))
        message = json.dumps(LinkReport.of(burst).to_dict())
        used.append(burst.mcs.index)
        lost.append(burst.segment_failures)
        adapter.update(LinkReport.from_dict(json.loads(message)))
    # A bit above 1.4, 14.3 and 4.5 dB: QPSK 1/2, 64-QAM 2/3, and QPSK 2/3 or 3/4.
    assert used[14] == 2
    assert used[29] == 8
    assert used[44] in (3, 4)
    # The only bursts to lose are those sent before the fall was known, and one more at most.
    assert lost[30] == 2
    assert sum(map(bool, lost)) <= 2


@pytest.mark.parametrize("segments", [1, 8])
def test_rests_on_a_constant_channel(segments):
    snrs_db = [*np.arange(-4, 24, 0.75), *THRESHOLDS_DB, *(NEEDS + 0.25), *(NEEDS + 0.5)]
    switches = []
    for seed, snr_db in enumerate(snrs_db):
        choices, _ = play(np.full(1000, snr_db), seed, segments=segments)
        switches.append(np.count_nonzero(np.diff(choices[200:])))
    # Once in 200 bursts at the worst SNR, once in 1000 over all.
    assert max(switches) <= 4
    assert np.mean(switches) < 0.8


def test_rests_where_the_channel_is_worse_than_the_thresholds():
    # Multipath, say: here the next MCS always looks good and always fails.
    switches, shares = [], []
    for seed, snr_db in enumerate(np.arange(2, 22, 0.8)):
        choices, delivered = play(np.full(2500, snr_db), seed, worse_db=1.5)
        switches.append(np.count_nonzero(np.diff(choices[1000:])))
        shares.append(delivered[1000:].mean() / best([snr_db], worse_db=1.5)[0])
    assert np.mean(switches) < 1500 / 200
    assert np.mean(shares) > 0.96


def test_comes_close_to_the_best_choice():
    shares = []
    for seed, snr_db in enumerate(np.arange(-2, 22, 0.5)):
        choices, delivered = play(np.full(200, snr_db), seed)
        assert loss(snr_db)[choices[100:]].max() <= 0.1
        shares.append(delivered[100:].mean() / best([snr_db])[0])
    assert np.mean(shares) > 0.94


# A swing of 10 Hz, met by 700 and by 2800 bursts/s: bursts of 7000 samples at 5 and 20 MS/s.
@pytest.mark.parametrize(("bursts_per_s", "share"), [(700, 0.88), (2800, 0.91)])
def test_follows_a_swing_of_6_db(bursts_per_s, share):
    adapted, ideal, fixed = [], [], []
    for seed, mean_db in enumerate((4, 8, 12, 16)):
        snrs_db = mean_db + 3 * np.sin(2 * np.pi * 10 * np.arange(1500) / bursts_per_s)
        choices, delivered = play(snrs_db, seed)
        assert np.ptp(choices[300:]) >= 2
        adapted.append(delivered.mean())
        for values, value in zip((ideal, fixed), best(snrs_db), strict=True):
            values.append(value)
    assert sum(adapted) > share * sum(ideal)
    assert sum(adapted) > 1.15 * sum(fixed)


def test_first_choice_takes_two_reports():
    adapter = LinkAdapter()
    assert adapter.snr_db is None
    assert adapter.update(report(0, 15)) == 0
    assert adapter.update(report(1, 15)) == 8
    assert adapter.snr_db == 15


def test_up_only_past_the_hysteresis_and_only_in_a_row():
    adapter = LinkAdapter((0, 10), hysteresis_db=0.2, smoothing=1)
    for sequence in range(40):
        adapter.update(report(sequence, 9.5, segments=0))
    for sequence, snr_db in enumerate((10.1, 10.1, 10.1, 10.3, 10.1, 10.3), 40):
        assert adapter.update(report(sequence, snr_db, segments=0)) == 0
    assert adapter.update(report(46, 10.3, segments=0)) == 1
    assert adapter.update(report(47, 10.05, segments=0)) == 1
    assert adapter.update(report(48, 9.95, segments=0)) == 0


def test_up_to_what_all_reports_in_the_row_allow():
    adapter = LinkAdapter(patience=3)
    for sequence, snr_db in enumerate((15, 11.5, 15)):
        assert adapter.choice == 0
        adapter.update(report(sequence, snr_db))
    assert adapter.choice == 7


def test_down_at_once_when_the_snr_falls():
    assert settled(15).update(report(20, 2, 8)) == 2


def test_down_at_once_when_an_option_fails():
    # A new one with the first burst that it loses, an old one with the second in a row.
    assert settled(15, count=4).update(report(20, 15, 8, failures=4)) == 7
    adapter = settled(15, count=40)
    assert [adapter.update(report(sequence, 15, 8, failures=4)) for sequence in (40, 41)] == [8, 7]
    adapter = settled(15, count=40)
    # A burst now and then is forgiven, as long as they are fewer than the target; more segments are not.
    choices = [adapter.update(report(40 + i, 15, 8, failures=4 * (i % 12 == 0))) for i in range(120)]
    assert set(choices) == {8}
    assert adapter.offset_db < 0.5
    choices = [adapter.update(report(160 + i, 15, adapter.choice, failures=1 + i % 2)) for i in range(20)]
    assert min(choices) < 8


def test_offset_balances_at_the_target():
    # So far above the thresholds that the choice stays and only the offset moves.
    for rate, low, high in ((8, -0.25, 0.1), (12, -0.25, 0.1), (4, 9, 10)):
        adapter = settled(60, target_bler=0.2)
        for sequence in range(20, 2020):
            adapter.update(report(sequence, 60, 10, failures=int(sequence % rate == 0), segments=1))
        assert low <= adapter.offset_db <= high, rate
        assert adapter.choice == 10


def test_losses_of_the_lowest_option_do_not_pile_up():
    adapter = LinkAdapter()
    for sequence in range(200):
        assert adapter.update(report(sequence, -8, 0, failures=4)) == 0
    for sequence in range(200, 204):
        adapter.update(report(sequence, 15, adapter.choice))
    assert adapter.choice == 8


def test_losses_of_an_option_left_behind_count_once():
    adapter = settled(15, count=4)
    assert adapter.update(report(20, 15, 8, failures=4)) == 7
    offset = adapter.offset_db
    # Three more bursts were on their way with MCS 8.
    for sequence in (21, 22, 23):
        assert adapter.update(report(sequence, 15, 8, failures=4)) == 7
    assert adapter.offset_db == offset
    assert adapter.update(report(24, 15, 7, failures=4)) == 6
    # A lower one that was on its way when a higher one was chosen does count.
    adapter = settled(15)
    assert adapter.update(report(20, 15, 4, failures=4)) == 3


def test_what_failed_is_left_alone_for_longer_and_longer():
    adapter = settled(14.2)
    needed, waits, last = 14.3 + 1.5, [], 0
    for sequence in range(20, 3000):
        mcs = adapter.choice
        # From 15.5 dB on MCS 8 looks good, and loses everything.
        failures = 4 if NEEDS[mcs] + 1.5 > needed - 0.01 else 0
        adapter.update(report(sequence, 15.5, mcs, failures=failures))
        if failures:
            waits.append(sequence - last)
            last = sequence
    assert len(waits) < 12
    assert waits[-1] > 500
    # The SNR moves: it is tried again soon.
    assert [adapter.update(report(sequence, 21, adapter.choice)) for sequence in (3000, 3001, 3002)][-1] == 10


def test_losses_to_others_do_not_end_at_the_lowest():
    # 2 bursts in 100 are lost at any MCS.
    rng = np.random.default_rng(5)
    adapter, choices = LinkAdapter(), []
    for sequence, hit in enumerate(rng.random(4000) < 0.02):
        choices.append(adapter.choice)
        snr_db = 15 + 0.5 * rng.standard_normal()
        adapter.update(report(sequence, snr_db, adapter.choice, failures=4 * int(hit)))
    assert np.mean(np.array(choices[100:]) == 8) > 0.8


def test_late_and_repeated_reports_change_nothing():
    adapter = settled(15)
    before = vars(adapter).copy()
    for sequence in (19, 19, 5, 0):
        assert adapter.update(report(sequence, -5, 8, failures=4)) == 8
    assert vars(adapter) == before


def test_sequences_wrap_and_a_sender_may_begin_anew():
    adapter = LinkAdapter()
    for sequence in (65533, 65534, 65535, 0, 1):
        adapter.update(report(sequence, 15, adapter.choice))
    assert adapter.choice == 8
    assert adapter.update(report(65535, -10, 8, failures=4)) == 8
    # 200 behind is no late report.
    assert adapter.update(report(65337, -10, 8, failures=4)) == 0


def test_silence_steps_down_until_reports_come_back():
    adapter = settled(15)
    assert [adapter.miss() for _ in range(10)] == [7, 6, 5, 4, 3, 2, 1, 0, 0, 0]
    assert adapter.snr_db is None
    assert [adapter.update(report(sequence, 15)) for sequence in (40, 41)] == [0, 8]


def test_analog_repetitions():
    needs = analog_thresholds_db(10)
    assert needs == pytest.approx((10 - 6.02, 10 - 3.01, 10), abs=0.01)
    for snr_db, wanted in ((-5, 4), (4.6, 4), (7.6, 2), (9.9, 2), (10.6, 1), (30, 1)):
        adapter = LinkAdapter(needs)
        for sequence in range(5):
            adapter.update(report(sequence, snr_db, segments=0))
        assert ANALOG_TABLE[adapter.choice].rate == (1, wanted)
    rng = np.random.default_rng(3)
    for snr_db in np.arange(2, 13, 0.25):
        adapter = LinkAdapter(needs)
        choices = [adapter.update(report(i, snr_db + 0.5 * rng.standard_normal(), segments=0)) for i in range(600)]
        assert np.count_nonzero(np.diff(choices[100:])) <= 2


def test_reports_survive_json():
    sent = LinkReport(sequence=65535, snr_db=-3.25, mcs=10, segments=8, segment_failures=8)
    assert LinkReport.from_dict(json.loads(json.dumps(sent.to_dict()))) == sent
    assert LinkReport.from_dict(sent.to_dict() | {"more": "from a newer receiver"}) == sent


@pytest.mark.parametrize("count", [np.int64, np.uint8, np.array])
@pytest.mark.parametrize("real", [np.float32, np.float64, np.array])
def test_numpy_numbers_are_numbers(count, real):
    report = LinkReport(count(7), real(12.5), count(3), count(8), count(1))
    assert report == LinkReport(7, 12.5, 3, 8, 1)
    assert {type(value) for value in report.to_dict().values()} == {int, float}
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()
    adapter = LinkAdapter(np.asarray(THRESHOLDS_DB, np.float32), count(2), margin_db=real(0.5), patience=count(1))
    assert type(adapter.choice) is int
    assert type(adapter.update(report)) is int
    assert type(adapter.offset_db) is float
    assert analog_thresholds_db(real(12.5), np.array([4, 2, 1])) == analog_thresholds_db(12.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequence": np.float64(1)}, "sequence is 1.0"),
        ({"sequence": np.True_}, "sequence is True"),
        ({"snr_db": np.array([1.0])}, r"snr_db is \(1.0,\)"),
        ({"sequence": -1}, "sequence is -1; it must be a whole number within 0 to 65535"),
        ({"sequence": 65536}, "sequence is 65536"),
        ({"sequence": 1.0}, "sequence is 1.0"),
        ({"sequence": True}, "sequence is True"),
        ({"snr_db": math.nan}, "snr_db is nan; it must be a number within -100 to 100"),
        ({"snr_db": -math.inf}, "snr_db is -inf"),
        ({"snr_db": "12"}, "snr_db is '12'"),
        ({"snr_db": False}, "snr_db is False"),
        ({"snr_db": 10**400}, "snr_db is 1000"),
        ({"mcs": 19}, "mcs is 19; it must be a whole number within 0 to 18"),
        ({"mcs": 11}, "mcs is 11; it must be one of 0, 1, .* 10, 16, 17, 18"),
        ({"mcs": None}, "mcs is None"),
        ({"segments": 1 << 24}, "segments is 16777216"),
        ({"segments": [8]}, r"segments is \(8,\)"),
        ({"segment_failures": 9}, "segment_failures is 9; it must be a whole number within 0 to 8"),
    ],
)
def test_bad_reports_are_refused(change, message):
    good = LinkReport(7, 12.5, 3, 8, 1)
    with pytest.raises(ModemError, match=f"^link report: {message}"):
        LinkReport.from_dict(good.to_dict() | change)
    with pytest.raises(ModemError, match=message):
        replace(good, **change)


def test_what_is_no_report_is_refused():
    for content in (None, 3, "report", [1, 2, 3, 4, 5]):
        with pytest.raises(ModemError, match="it must be a mapping"):
            LinkReport.from_dict(content)
    with pytest.raises(ModemError, match="lacks snr_db, segment_failures; it needs sequence, snr_db"):
        LinkReport.from_dict({"sequence": 1, "mcs": 2, "segments": 3})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thresholds_db": ()}, r"thresholds_db is \(\); it must be one or more, finite and rising"),
        ({"thresholds_db": (1, 1)}, "thresholds_db"),
        ({"thresholds_db": np.ones((2, 2))}, "thresholds_db"),
        ({"thresholds_db": "12"}, "thresholds_db"),
        ({"start": 1.5}, "start is 1.5"),
        ({"target_bler": "0.1"}, "target_bler is '0.1'; it must be above 0 and below 1"),
        ({"patience": None}, "patience is None; it must be a whole number, 1 or more"),
        ({"thresholds_db": (1, math.nan)}, "thresholds_db"),
        ({"start": 11}, "start is 11; it must be a whole number within 0 to 10"),
        ({"start": -1}, "start is -1"),
        ({"target_bler": 0}, "target_bler is 0"),
        ({"target_bler": 1}, "target_bler is 1"),
        ({"margin_db": math.inf}, "margin_db is inf"),
        ({"hysteresis_db": -0.1}, "hysteresis_db is -0.1"),
        ({"smoothing": 0}, "smoothing is 0"),
        ({"patience": 0}, "patience is 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ModemError, match=f"^link adapter: {message}"):
        LinkAdapter(**options)


def test_reports_about_options_that_are_not_there_are_refused():
    adapter = LinkAdapter((0, 5))
    with pytest.raises(ModemError, match="mcs is 2; this adapter has options 0 to 1"):
        adapter.update(report(0, 10, mcs=2))
    # In analog mode it is the SNR alone.
    adapter.update(report(0, 10, mcs=ANALOG_TABLE[0].index, segments=0))


@pytest.mark.parametrize("repetitions", [(), (2, 0), (1, 2), (2, 2)])
def test_bad_repetitions_are_refused(repetitions):
    with pytest.raises(ModemError, match="they must be positive and falling"):
        analog_thresholds_db(10, repetitions)
    with pytest.raises(ModemError, match="target_snr_db is nan"):
        analog_thresholds_db(math.nan)
