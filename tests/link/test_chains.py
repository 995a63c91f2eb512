"""Chains of pictures through the real codec, modem and channels."""

import dataclasses

import numpy as np
import pytest

from crlsc_phy.channel import ChannelSettings
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import CrlscError, SweepError
from crlsc_phy.images import fit_within, load_image
from crlsc_phy.link.baselines.separate import SeparateChain, SeparateOptions
from crlsc_phy.link.budget import Budget, Rate
from crlsc_phy.link.burst import BurstLink
from crlsc_phy.link.chain import Scene, TestImage, Trial
from crlsc_phy.link.flat_fading import FlatLink
from crlsc_phy.link.frame_links import GridLink
from crlsc_phy.link.semantic import (
    AnalogChain,
    AnalogOptions,
    DigitalChain,
    DigitalOptions,
    HybridChain,
    HybridOptions,
    SemanticChain,
    SemanticOptions,
)
from crlsc_phy.phy.adaptation import THRESHOLDS_DB
from crlsc_phy.phy.mcs import MCS_TABLE, find_mcs
from crlsc_phy.quality.metrics import psnr_db
from crlsc_phy.report.measures import MEASURES

TDL = ChannelSettings(model="tdl-a", speed=3.0, delay_spread=100e-9)
TIMES = {"encode_s", "decode_s"}


def trial(snr_db: float, replica: int = 0) -> Trial:
    return Trial(snr_db, replica, (7, round(10 * snr_db) + 1000, replica))


@pytest.fixture(scope="module")
def scene(bundle_folder, image_folder) -> Scene:
    """A photograph, and two pictograms that the bundle's knowledge base knows."""
    images = (
        TestImage("cat", fit_within(load_image(image_folder / "cat-face.jpg"), 144), ("cat face", "cat")),
        TestImage("rocket", fit_within(load_image(image_folder / "rocket-pictogram.png"), 96), ("rocket",)),
        TestImage("elephant", fit_within(load_image(image_folder / "elephant-pictogram.png"), 80), ("elephant",)),
    )
    return Scene(images=images, bundle=bundle_folder)


@pytest.fixture(scope="module")
def over_tdl(scene) -> Scene:
    return dataclasses.replace(scene, channel=TDL)


def metrics(chain, snr_db, replica=0):
    return chain.run(trial(snr_db, replica)).image.metrics


def test_a_trial_depends_on_nothing_but_itself(over_tdl):
    first, second = (AnalogChain(AnalogOptions(symbols=4), over_tdl) for _ in range(2))
    for replica in range(3):
        first.run(trial(-4.0, replica))
    outcomes = [chain.run(trial(2.0, 4)) for chain in (first, second, first)]
    kept = [{k: v for k, v in each.image.metrics.items() if k not in TIMES} for each in outcomes]
    assert kept[0] == kept[1] == kept[2]
    assert np.array_equal(outcomes[0].image.picture, outcomes[1].image.picture)
    assert outcomes[0].image.name == "rocket"
    assert kept[0].keys() <= MEASURES.keys()


def test_the_snr_is_that_on_an_occupied_carrier(scene):
    chain = DigitalChain(DigitalOptions(mcs="qpsk-1/2", levels=2), scene)
    for snr_db in (3.0, 12.0):
        found = [metrics(chain, snr_db, replica)["snr_db_estimated"] for replica in range(9)]
        assert np.mean(found) == pytest.approx(snr_db, abs=0.3)


def test_fading_is_drawn_anew_for_each_trial(over_tdl):
    chain = SemanticChain(SemanticOptions(), over_tdl)
    found = [metrics(chain, 15.0, replica)["snr_db_estimated"] for replica in range(12)]
    assert np.std(found) > 1


def test_offsets_of_carrier_and_clock_are_the_channels(scene):
    channel = ChannelSettings(cfo_hz=9e3, sro_ppm=15.0)
    chain = DigitalChain(DigitalOptions(mcs="qpsk-1/2", levels=1), dataclasses.replace(scene, channel=channel))
    outcome = chain.run(trial(12.0))
    assert outcome.counts["frames_lost"] == outcome.counts["block_errors"] == 0
    with pytest.raises(SweepError, match="tx: 1 and rx: 1"):
        SemanticChain(SemanticOptions(), dataclasses.replace(scene, channel=ChannelSettings(rx=2)))


def test_everything_on_the_air_is_counted(scene, codec):
    link = BurstLink(scene.channel)
    sent = scene.images[0].image
    frame = codec.encode(sent, levels=3, mode="analog")
    mcs = find_mcs("analog-1/2")
    passage = link.send(frame, mcs, 10.0, (1,))
    assert passage.channel_uses == passage.burst.channel_uses
    # Samples that are not silent, as far as the band is full of them.
    samples = passage.airtime_s * link.numerology.sample_rate
    assert passage.channel_uses == pytest.approx(samples * 52 / 64)
    assert Budget(codec, link).cbr(sent, Rate("analog", 3, mcs)) == pytest.approx(passage.channel_uses / sent.size)
    found = metrics(AnalogChain(AnalogOptions(mcs="analog-1/2", symbols=3), scene), 10.0)
    assert found["channel_uses"] == passage.channel_uses
    assert found["cbr"] == pytest.approx(passage.channel_uses / sent.size)
    assert found["energy"] == pytest.approx(10 * passage.channel_uses)
    assert found["air_bytes"] == frame.coded_bytes


@pytest.mark.parametrize(("mode", "name"), [("analog", "analog-1/1"), ("digital", "16qam-1/2")])
def test_a_limit_is_filled_and_not_exceeded(scene, codec, mode, name):
    budget, limit = Budget(codec, BurstLink(scene.channel), 0.2), 0.2
    rate = budget.highest(scene.images[0].image, mode, find_mcs(name))
    assert budget.cbr(scene.images[0].image, rate) <= limit
    more = dataclasses.replace(rate, levels=rate.levels + 1)
    assert budget.cbr(scene.images[0].image, more) > limit


def test_digital_is_exact_above_its_threshold_and_grey_where_it_is_lost(scene, codec):
    chain = DigitalChain(DigitalOptions(mcs="qpsk-1/2", levels=3), scene)
    sent = scene.images[0].image
    good = chain.run(trial(5.0))
    clean = codec.decode(codec.encode(sent, levels=3))
    assert np.array_equal(good.image.picture, clean.image)
    assert good.counts["blocks"] > 1 and good.counts["block_errors"] == 0
    lost = chain.run(trial(-14.0))
    found = lost.image.metrics
    assert (lost.image.picture == 128).all()
    assert lost.counts == good.counts | {"frames_lost": 1, "block_errors": good.counts["blocks"]}
    assert found["outage"] == 1 and found["label"] == found["recall_10"] == found["cosine"] == 0
    assert found["psnr_db"] == pytest.approx(psnr_db(sent, np.full_like(sent, 128)))
    assert found["cbr"] == good.image.metrics["cbr"]
    assert "snr_db_estimated" not in found


def test_meaning_survives_minus_5_db_on_48_bytes(scene):
    chain = SemanticChain(SemanticOptions(), scene)
    found = [metrics(chain, -5.0, 3 * n + picture) for n in range(5) for picture in (1, 2)]
    assert np.mean([each["label"] for each in found]) == 1
    assert all(each["recall_1"] <= each["recall_5"] <= each["recall_10"] == 1 for each in found)
    assert min(each["cosine"] for each in found) > 0.8
    assert max(each["air_bytes"] for each in found) <= 48


def test_adapted_takes_what_the_link_adapter_would(scene, codec):
    budget, image = Budget(codec, BurstLink(scene.channel)), scene.images[0].image
    for mcs, threshold in zip(MCS_TABLE, THRESHOLDS_DB, strict=True):
        assert budget.adapted(image, threshold + 0.01) == Rate("digital", codec.levels, mcs)
    assert budget.adapted(image, THRESHOLDS_DB[0] - 0.1).levels == 0
    limited = Budget(codec, BurstLink(scene.channel), 0.25)
    rates = [limited.adapted(image, snr) for snr in (-3.0, 2.0, 7.0, 18.0)]
    assert [rate.levels for rate in rates] == sorted(rate.levels for rate in rates)
    assert all(limited.cbr(image, rate) <= 0.25 for rate in rates)
    # All levels fit long before the last MCS: the rest of the limit buys robustness.
    assert rates[-1].levels == codec.levels and rates[-1].mcs.index < MCS_TABLE[-1].index
    lost = [DigitalChain(DigitalOptions(cbr=0.25), scene).run(trial(7.0, n)).counts for n in range(6)]
    assert sum(each["block_errors"] for each in lost) == 0
    cautious = DigitalChain(DigitalOptions(margin_db=30.0), scene)
    assert "blocks" not in cautious.run(trial(7.0)).counts


def test_analog_gains_with_every_db(scene):
    chain = AnalogChain(AnalogOptions(cbr=0.21), scene)
    found = [metrics(chain, snr)["psnr_db"] for snr in (-6.0, 0.0, 6.0, 12.0, 25.0)]
    assert (np.diff(found) > 0.3).all()
    assert metrics(chain, 6.0)["cbr"] <= 0.21


def test_a_wrong_snr_and_clipped_peaks_cost_quality(scene):
    def quality(snr_db, **options):
        return metrics(AnalogChain(AnalogOptions(symbols=8, **options), scene), snr_db)["psnr_db"]

    right = quality(2.0)
    assert quality(2.0, snr_error_db=10.0) < right - 0.3
    assert quality(2.0, snr_error_db=-8.0) < right - 0.3
    assert quality(25.0, papr_db=3.0) < quality(25.0) - 0.3


def test_hybrid_is_as_good_as_the_better_one(scene):
    limit = 0.3
    hybrid, digital, analog = (
        chain(options, scene)
        for chain, options in (
            (HybridChain, HybridOptions(cbr=limit)),
            (DigitalChain, DigitalOptions(cbr=limit)),
            (AnalogChain, AnalogOptions(cbr=limit)),
        )
    )
    for snr_db in (-4.0, 10.0):
        found = [[metrics(chain, snr_db, replica) for replica in range(9)] for chain in (hybrid, digital, analog)]
        ours, *others = (np.mean([each["psnr_db"] for each in row]) for row in found)
        assert ours > max(others) - 0.1
        assert max(each["cbr"] for each in found[0]) <= limit


def test_hybrid_sends_meaning_where_there_is_no_room_for_more(scene, codec):
    least = max(
        Budget(codec, BurstLink(scene.channel)).cbr(sent.image, Rate("digital", 0, MCS_TABLE[0]))
        for sent in scene.images
    )
    chain = HybridChain(HybridOptions(cbr=least), scene)
    assert metrics(chain, 10.0, 2)["label"] == 1
    with pytest.raises(SweepError, match=r"picture elephant of 80x80 pixels, which takes at least 0\.\d{4}; raise cbr"):
        HybridChain(HybridOptions(cbr=0.9 * least), scene)


@pytest.mark.parametrize("size", [(32, 32), (33, 201), (96, 1024)])
def test_pictures_of_any_size(bundle_folder, size):
    rng = np.random.default_rng(0)
    image = np.asarray(rng.integers(0, 256, (*size, 3)), np.uint8)
    scene = Scene(images=(TestImage("noise", image),), bundle=bundle_folder)
    outcome = DigitalChain(DigitalOptions(mcs="qpsk-1/2", levels=1), scene).run(trial(10.0))
    assert outcome.image.picture.shape == image.shape
    # Without known labels nothing is said of labels.
    assert "label" not in outcome.image.metrics and "cosine" in outcome.image.metrics


def test_genie_is_the_highest_rate_that_arrives(over_tdl, image_folder):
    cat = TestImage("cat", fit_within(load_image(image_folder / "cat-face.jpg"), 96))
    small = dataclasses.replace(over_tdl, images=(cat,))
    genie = SeparateChain(SeparateOptions(cbr=0.3), small)
    fixed = [SeparateChain(SeparateOptions(cbr=0.3, mcs=mcs.name), small) for mcs in reversed(MCS_TABLE)]
    seen = set()
    for snr_db, replica in ((2.0, 0), (9.0, 3), (16.0, 0)):
        outcomes = [chain.run(trial(snr_db, replica)) for chain in fixed]
        best = next((each for each in outcomes if not each.counts["frames_lost"]), outcomes[-1])
        found = genie.run(trial(snr_db, replica))
        assert found.image.metrics["psnr_db"] == best.image.metrics["psnr_db"]
        assert found.image.metrics["cbr"] <= 0.3
        seen.add(found.image.metrics["psnr_db"])
    assert len(seen) == 3


@pytest.mark.parametrize("air", ["modem", "grid"])
def test_capacity_bounds_the_genie(scene, air):
    if air == "grid":
        pytest.importorskip("sionna")
    scene = dataclasses.replace(scene, air=air)
    bound, genie = (SeparateChain(SeparateOptions(cbr=0.3, mcs=mcs), scene) for mcs in ("capacity", "genie"))
    for snr_db in (2.0, 10.0):
        best, real = bound.run(trial(snr_db)), genie.run(trial(snr_db))
        assert real.counts["frames_lost"] == 0
        uses = best.image.metrics["channel_uses"]
        room = int(uses * np.log2(1 + 10 ** (snr_db / 10)) / 8)
        assert real.image.metrics["air_bytes"] < best.image.metrics["air_bytes"] <= room
        assert best.image.metrics["psnr_db"] > real.image.metrics["psnr_db"]
        assert real.image.metrics["cbr"] <= 0.3


def test_capacity_of_a_realisation_is_that_of_its_taps(scene):
    link = BurstLink(dataclasses.replace(scene.channel, model="static", taps=(0.5, 0.5j)))
    carriers = np.r_[-26:0, 1:27]
    gains = np.abs(0.5 + 0.5j * np.exp(-2j * np.pi * carriers / 64)) ** 2
    assert link.capacity(5000, 7.0, (1,)) == pytest.approx(np.mean(np.log2(1 + gains * 10**0.7)), rel=1e-5)
    flat = GridLink(FlatLink(ChannelSettings(model="rayleigh"), block=True))
    seen = [flat.capacity(100, 10.0, (seed,)) for seed in range(400)]
    # Of Rayleigh fading: exp(1/s) E1(1/s) / ln 2.
    assert np.mean(seen) == pytest.approx(2.9007, abs=0.25)


def test_a_file_that_is_lost_shows_grey_or_its_mean(scene):
    sent = scene.images[0].image
    grey, mean = (
        SeparateChain(SeparateOptions(cbr=0.2, mcs="16qam-1/2", conceal=conceal), scene).run(trial(2.0))
        for conceal in ("grey", "mean")
    )
    assert (grey.image.picture == 128).all() and len(np.unique(mean.image.picture.reshape(-1, 3), axis=0)) == 1
    assert mean.image.metrics["psnr_db"] > grey.image.metrics["psnr_db"]
    for outcome in (grey, mean):
        assert outcome.image.metrics["outage"] == outcome.counts["frames_lost"] == 1
        assert outcome.image.metrics["label"] == 0
        assert outcome.image.metrics["psnr_db"] == pytest.approx(psnr_db(sent, outcome.image.picture))


def test_what_no_mcs_has_room_for_is_not_sent(scene):
    chain = SeparateChain(SeparateOptions(codec="jpeg", cbr=0.12), scene)
    outcome = chain.run(trial(30.0, 2))
    found = outcome.image.metrics
    assert outcome.counts == {"frames": 1, "frames_lost": 1}
    assert found["outage"] == 1 and found["cbr"] == found["air_bytes"] == 0
    with pytest.raises(SweepError, match="cbr is too low for picture rocket: .* carry no byte with 64qam-5/6"):
        SeparateChain(SeparateOptions(cbr=0.055), scene)


def test_stripped_files_buy_quality(scene):
    whole, stripped = (
        metrics(SeparateChain(SeparateOptions(codec="jpeg", cbr=0.4, mcs="qpsk-1/2", count=count), scene), 8.0)
        for count in ("whole", "stripped")
    )
    assert stripped["psnr_db"] > whole["psnr_db"] + 1
    assert stripped["cbr"] <= 0.4


def test_the_receiver_of_a_file_finds_its_meaning_in_the_picture(scene, codec):
    chain = SeparateChain(SeparateOptions(cbr=0.6), scene)
    outcome = chain.run(trial(20.0, 1))
    assert outcome.image.metrics["label"] == 1
    sent, shown = (codec.embed(image) for image in (scene.images[1].image, outcome.image.picture))
    assert outcome.image.metrics["cosine"] == pytest.approx(float(sent @ shown), abs=1e-6)


@pytest.mark.parametrize("csi", ["perfect", "ls"])
def test_files_cross_the_grid(scene, csi):
    pytest.importorskip("sionna")
    scene = dataclasses.replace(scene, air="grid", csi=csi, channel=TDL)
    chain = SeparateChain(SeparateOptions(cbr=0.25), scene)
    outcomes = [chain.run(trial(14.0, replica)) for replica in range(6)]
    assert sum(each.counts["frames_lost"] for each in outcomes) <= 1
    assert max(each.image.metrics["cbr"] for each in outcomes) <= 0.25
    with pytest.raises(SweepError, match="papr_db is 5; a grid has no waveform to clip"):
        SeparateChain(SeparateOptions(papr_db=5.0), scene)


def test_frames_cross_a_grid_as_they_cross_the_air(scene, codec):
    """White noise in perfect synchrony: no preamble and no header, else the same."""
    link, sent = GridLink(FlatLink(ChannelSettings())), scene.images[1].image
    whole = link.send(codec.encode(sent, levels=3), find_mcs("qpsk-1/2"), 5.0, (1,))
    assert whole.burst.frame == codec.encode(sent, levels=3)
    assert whole.channel_uses < 0.9 * BurstLink(ChannelSettings()).channel_uses(
        whole.burst.frame.header, whole.burst.mcs
    )
    # Air code and CRC at rate 1/5 by QPSK, three times: what the detail adds is its bits and CRCs over its rate.
    alone = link.send(codec.encode(sent, levels=0), MCS_TABLE[0], -4.0, (1,))
    size = len(alone.burst.frame.semantic)
    assert alone.channel_uses == 8 * (size + 2) * 5 / 2 * 3
    assert whole.channel_uses == alone.channel_uses + 8 * (len(whole.burst.frame.detail) + 3 * whole.segments)
    symbols = codec.encode(sent, levels=4, mode="analog")
    analog = link.send(symbols, find_mcs("analog-1/2"), 3.0, (1,)).burst
    assert analog.detail_snr_db == pytest.approx(6.0, abs=0.1)
    assert np.mean(np.abs(analog.symbols - symbols.symbols) ** 2) == pytest.approx(10**-0.6, rel=0.15)


def test_a_code_that_noise_broke_on_a_grid_is_repaired_by_the_knowledge_base(scene, codec):
    link, frame = GridLink(FlatLink(ChannelSettings())), codec.encode(scene.images[1].image, levels=0)
    broken = [link.send(frame, MCS_TABLE[0], snr_db, (n,)).burst for snr_db in (-8.2, -8.5) for n in range(25)]
    lost = [burst for burst in broken if burst.frame.semantic is None]
    repaired = [codec.decode(b.frame, None, b.semantic_llr, b.semantic_coded_llr) for b in lost]
    assert len(lost) > 10
    assert sum(result.label == "rocket" for result in repaired) > len(lost) / 5
    assert not any(codec.decode(burst.frame).label for burst in lost)


@pytest.mark.parametrize("air", ["modem", "grid"])
def test_all_of_our_chains_take_either_air(scene, air):
    if air == "grid":
        pytest.importorskip("sionna")
    scene = dataclasses.replace(scene, air=air, channel=TDL)
    for chain in (
        SemanticChain(SemanticOptions(), scene),
        DigitalChain(DigitalOptions(cbr=0.3), scene),
        AnalogChain(AnalogOptions(cbr=0.3), scene),
        HybridChain(HybridOptions(cbr=0.3), scene),
    ):
        outcome = chain.run(trial(18.0, 4))
        assert outcome.counts["frames_lost"] == 0
        assert outcome.image.metrics["label"] == 1
        assert ("airtime_s" in outcome.image.metrics) == (air == "modem")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DigitalOptions(mcs="8psk"), "mcs is '8psk'; choose one of adapted, qpsk-1/5"),
        (lambda: DigitalOptions(levels=-1), "levels is -1; it must be 0 or more"),
        (lambda: DigitalOptions(cbr=0.0), "cbr is 0.0; it must be above 0"),
        (lambda: DigitalOptions(margin_db=float("nan")), "margin_db is nan; it must be a finite number"),
        (lambda: AnalogOptions(mcs="qpsk-1/2"), "choose one of analog-1/4"),
        (lambda: AnalogOptions(symbols=0), "symbols is 0; it must be 1 or more"),
        (lambda: AnalogOptions(symbols=8, cbr=0.1), "symbols and cbr both limit what is sent; give only one of them"),
        (lambda: AnalogOptions(snr_error_db=float("-inf")), "snr_error_db is -inf; it must be a finite number"),
        (lambda: HybridOptions(papr_db=1.0), "papr_db is 1"),
        (lambda: HybridOptions(cbr=float("inf")), "cbr is inf; it must be a finite number"),
        (lambda: SeparateOptions(codec="bpg"), "codec is 'bpg'; choose one of jpeg, webp, avif, heic"),
        (lambda: SeparateOptions(mcs="best"), "mcs is 'best'; choose one of genie, capacity, qpsk-1/5"),
        (lambda: SeparateOptions(count="half"), "count is 'half'"),
        (lambda: SeparateOptions(conceal="black"), "conceal is 'black'"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    with pytest.raises(SweepError, match=message.replace("(", r"\(")):
        make()


def test_scenes_that_make_no_sense_are_refused(scene, tmp_path):
    with pytest.raises(SweepError, match="no picture to send"):
        SemanticChain(SemanticOptions(), Scene(bundle=scene.bundle))
    small = Scene(images=(TestImage("dot", np.zeros((16, 40, 3), np.uint8)),), bundle=scene.bundle)
    with pytest.raises(SweepError, match="picture dot: image is 40x16 pixels; sides must be within 32 to 1024"):
        SemanticChain(SemanticOptions(), small)
    with pytest.raises(SweepError, match=r"levels is 99; bundle .* has \d+; give no more than that"):
        DigitalChain(DigitalOptions(levels=99), scene)
    with pytest.raises(SweepError, match=r"symbols is 99; bundle .* has \d+; give no more than that"):
        AnalogChain(AnalogOptions(symbols=99), scene)
    with pytest.raises(SweepError, match="cbr is too low for picture"):
        AnalogChain(AnalogOptions(cbr=0.01), scene)
    with pytest.raises(CrlscError, match="manifest"):
        SemanticChain(SemanticOptions(), dataclasses.replace(scene, bundle=tmp_path))


def test_the_codec_tells_the_vector_that_it_received(codec, scene):
    frame = codec.encode(scene.images[1].image, levels=0)
    received = codec.decode(frame)
    expected = codec.bundle.knowledge.air_code.decode(np.frombuffer(frame.semantic, np.uint8)[None])[0]
    assert np.array_equal(received.vector, expected)
    lost = dataclasses.replace(frame, semantic=None)
    assert not codec.decode(lost).vector.any()
    assert isinstance(codec, SemanticCodec)
