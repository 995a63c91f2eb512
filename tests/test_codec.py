"""The codec with the shipped bundle: sizes, losses, runtimes, wrong frames."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import BundleError, FrameError, ImageError, KnowledgeBaseError
from crlsc_phy.frame import SYMBOL, Mode, SemanticFrame
from crlsc_phy.images import find_images, load_image, resize
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase
from crlsc_phy.phy import BurstModem
from crlsc_phy.quality.metrics import psnr_db
from crlsc_phy.semantic.analog import LatentTransform


def test_a_photograph_comes_back(codec, photo):
    frame = codec.encode(photo, sequence=70_000)
    result = codec.decode(SemanticFrame.from_bytes(frame.to_bytes()))
    assert result.image.shape == photo.shape
    assert result.image.dtype == np.uint8
    assert frame.header.sequence == 70_000 - 65_536
    assert psnr_db(photo, result.image) > 24
    assert result.layers_ok == {"semantic": True, "detail": True}


@pytest.mark.parametrize("size", [(32, 32), (33, 57), (64, 64), (255, 32), (1024, 1024)])
def test_any_size_goes_through(codec, photo, size):
    image = resize(photo, *size)
    assert codec.decode(codec.encode(image)).image.shape == image.shape


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(32, 100), st.integers(32, 100), st.integers(0, 2**32 - 1))
def test_frames_of_noise_images_round_trip(codec, height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    frame = codec.encode(image)
    assert SemanticFrame.from_bytes(frame.to_bytes()) == frame
    assert codec.decode(frame).image.shape == image.shape


def test_64_pixels_cost_at_most_0_65_bit_a_pixel(codec, photo):
    assert 8 * len(codec.encode(resize(photo, 64, 64)).to_bytes()) / 4096 <= 0.65


def test_every_level_sharpens(codec, photo):
    values = [psnr_db(photo, codec.decode(codec.encode(photo, levels=n)).image) for n in range(codec.levels + 1)]
    assert values == sorted(values)


def test_both_runtimes_agree(codec, bundle_folder, photo):
    other = SemanticCodec.load(bundle_folder, runtime="torch")
    image = np.ascontiguousarray(resize(photo, 72, 96).transpose(2, 0, 1)[None].astype(np.float32) / 255)
    latent = codec.runtime.analyse(image)
    vector = codec.embed(photo)
    assert np.abs(vector - other.embed(photo)).max() < 1e-4
    assert np.abs(latent - other.runtime.analyse(image)).max() < 1e-4
    pictures = [each.runtime.synthesise(latent, vector[None]) for each in (codec, other)]
    assert np.abs(pictures[0] - pictures[1]).max() < 1e-4


def test_a_pictogram_of_an_unseen_vendor_is_known(codec, image_folder):
    result = codec.decode(codec.encode(load_image(image_folder / "butterfly-pictogram.png")))
    assert "butterfly" in [hit.label for hit in result.neighbours[:5]]
    assert 0 < result.confidence <= 1


def test_without_detail_the_meaning_stays(codec, photo):
    frame = codec.encode(photo)
    whole, preview = codec.decode(frame), codec.decode(replace(frame, detail=None))
    assert preview.label == whole.label
    assert preview.image.shape == photo.shape
    assert preview.layers_ok == {"semantic": True, "detail": False}


def test_without_meaning_the_picture_stays(codec, photo):
    frame = codec.encode(photo)
    result = codec.decode(replace(frame, semantic=None))
    assert (result.label, result.neighbours, result.confidence) == ("", (), 0.0)
    assert psnr_db(photo, result.image) > psnr_db(photo, codec.decode(frame).image) - 2


def test_a_hole_in_the_detail_costs_little(codec, photo):
    frame = codec.encode(photo)
    size = frame.header.detail_bytes
    result = codec.decode(replace(frame, erasures=((size // 2, size // 2 + size // 20),)))
    assert not result.layers_ok["detail"]
    assert psnr_db(photo, result.image) > psnr_db(photo, codec.decode(frame).image) - 4


def over_noise(frame, snr_db, seed=0):
    """The frame as a receiver without fading hands it out: estimates of least error given unit power."""
    rng = np.random.default_rng(seed)
    noise = 10 ** (-snr_db / 10)
    symbols = frame.symbols + np.sqrt(noise / 2) * rng.standard_normal((len(frame.symbols), 2)).view(complex)[:, 0]
    return replace(frame, detail=(symbols / (1 + noise)).astype(SYMBOL).tobytes())


@pytest.fixture(params=["learned", "latent"])
def analog_codec(request, bundle_folder, learned_bundle):
    if request.param == "learned":
        return SemanticCodec.load(learned_bundle)
    codec = SemanticCodec.load(bundle_folder)
    codec.analog = LatentTransform(codec.bundle.quantiser.codebooks)
    return codec


def test_analog_detail_degrades_gently(analog_codec, photo):
    frame = analog_codec.encode(photo, mode="analog")
    assert frame.header.mode is Mode.ANALOG
    assert np.mean(np.abs(frame.symbols) ** 2) == pytest.approx(1, rel=1e-3)
    quality = [psnr_db(photo, analog_codec.decode(over_noise(frame, snr), snr).image) for snr in (-5, 0, 5, 10, 20, 30)]
    assert quality == sorted(quality)
    # No cliff: 5 dB of channel never cost more than 5 dB of picture.
    assert max(np.diff(quality[:4])) < 5
    # Without noise the picture is at least that of the quantised latent.
    assert quality[-1] > psnr_db(photo, analog_codec.decode(analog_codec.encode(photo)).image) - 0.1


def test_analog_rates_trade_symbols_for_quality(analog_codec, photo):
    rates = (1, 2, 5, 8, analog_codec.analog.most)
    frames = [analog_codec.encode(photo, mode="analog", levels=rate) for rate in rates]
    assert [len(frame.symbols) for frame in frames] == [rate * 32 * 48 for rate in rates]
    quality = [psnr_db(photo, analog_codec.decode(over_noise(frame, 15), 15).image) for frame in frames]
    assert quality == sorted(quality)
    assert analog_codec.encode(photo, mode="analog", levels=0).header.mode is Mode.SEMANTIC


@pytest.mark.parametrize("size", [(32, 32), (33, 57), (1024, 1024)])
def test_any_size_goes_through_as_analog_detail(analog_codec, photo, size):
    image = resize(photo, *size)
    assert analog_codec.decode(analog_codec.encode(image, mode="analog", levels=3)).image.shape == image.shape


def test_analog_frames_that_do_not_fit_are_refused(analog_codec, photo):
    most = analog_codec.analog.most
    frame = analog_codec.encode(photo, mode="analog")
    with pytest.raises(FrameError, match=f"positions take 1 to {most}"):
        analog_codec.decode(replace(frame, header=replace(frame.header, height=64)))
    with pytest.raises(ImageError, match=f"in mode analog it must be a whole number from 0 to {most}"):
        analog_codec.encode(photo, mode="analog", levels=most + 1)
    with pytest.raises(ImageError, match="choose digital or analog"):
        analog_codec.encode(photo, mode="hybrid")


def test_both_runtimes_agree_on_learned_analog_detail(learned_bundle, photo):
    codecs = [SemanticCodec.load(learned_bundle, runtime) for runtime in ("onnx", "torch")]
    image = np.ascontiguousarray(resize(photo, 72, 96).transpose(2, 0, 1)[None].astype(np.float32) / 255)
    sent = [codec.analog.send(codec.runtime, image, 20) for codec in codecs]
    assert sent[0][1] == sent[1][1]
    assert np.abs(sent[0][0] - sent[1][0]).max() < 1e-4
    vector = codecs[0].embed(photo)[None]
    shown = [codec.analog.receive(codec.runtime, *sent[0], (9, 12), 8.0, vector) for codec in codecs]
    assert np.abs(shown[0] - shown[1]).max() < 1e-4


def test_what_an_analog_coder_sends_is_for_those_that_have_it(codec, learned_bundle, photo):
    learned = SemanticCodec.load(learned_bundle)
    for sender, receiver in ((learned, codec), (codec, learned)):
        with pytest.raises(FrameError, match="use the same bundle at both ends"):
            receiver.decode(sender.encode(photo, mode="analog", levels=4))


def test_a_frame_of_another_knowledge_base_is_refused(codec, photo):
    frame = codec.encode(photo)
    other = replace(frame, header=replace(frame.header, kb_id=b"\0\1\2\3"))
    with pytest.raises(FrameError, match="knowledge base 00010203"):
        codec.decode(other)


def test_contradicting_sizes_are_refused(codec, photo):
    frame = codec.encode(photo)
    with pytest.raises(FrameError, match="tokens of"):
        codec.decode(replace(frame, header=replace(frame.header, height=64)))
    with pytest.raises(FrameError, match="codebook levels"):
        codec.decode(replace(frame, header=replace(frame.header, levels=9)))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((31, 64, 3), np.uint8),
        np.zeros((64, 1025, 3), np.uint8),
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 3)),
    ],
)
def test_wrong_images_are_refused(codec, image):
    with pytest.raises(ImageError, match="image is"):
        codec.encode(image)


def test_an_unknown_runtime_is_refused(bundle_folder):
    with pytest.raises(BundleError, match="is unknown; choose onnx or torch"):
        SemanticCodec.load(bundle_folder, runtime="tpu")


@pytest.fixture(scope="module")
def private(codec, image_folder, tmp_path_factory):
    """A private base of the shipped pictures."""
    shared = codec.bundle.knowledge
    paths = find_images(image_folder)
    return KnowledgeBase.create(
        tmp_path_factory.mktemp("private") / "pkb",
        shared.air_code,
        np.stack([codec.embed(load_image(path)) for path in paths]),
        [Entry(path.name, path.stem) for path in paths],
        tau=shared.tau,
        threshold=shared.manifest.threshold,
    )


def test_a_private_base_is_looked_into_beside_the_shared_one(bundle_folder, private, photo):
    codec = SemanticCodec.load(bundle_folder, private=[private.path])
    result = codec.decode(codec.encode(photo))
    assert (result.neighbours[0].name, result.neighbours[0].base) == ("cat-face.jpg", "pkb")
    assert {hit.base for hit in result.neighbours} == {"pkb", "skb"}


def test_a_base_that_lost_its_entries_gives_a_picture_without_a_label(bundle_folder, private, photo, tmp_path):
    bundle = shutil.copytree(bundle_folder, tmp_path / "bundle")
    codec = SemanticCodec.load(bundle)
    frame = codec.encode(resize(photo, 64, 64))
    lost = replace(frame, semantic=None)
    picture = codec.decode(frame).image
    base = KnowledgeBase.open(bundle / "skb")
    base.remove([entry.name for entry in base.entries])
    assert codec.refresh() == []
    soft = {
        "semantic_llr": 6 * np.unpackbits(np.frombuffer(frame.semantic, np.uint8)).astype(np.float32) - 3,
        "semantic_coded_llr": np.zeros(40 * (len(frame.semantic) + 2), np.float32),
    }
    for each in (codec, SemanticCodec.load(bundle)):
        result = each.decode(frame)
        assert (result.label, result.confidence, result.neighbours) == ("", 0.0, ())
        assert np.array_equal(result.image, picture)
        result = each.decode(lost, **soft)
        assert (result.label, result.repaired) == ("", False)
    result = SemanticCodec.load(bundle, private=[private.path]).decode(frame)
    assert {hit.base for hit in result.neighbours} == {"pkb"}


def test_an_snr_that_is_unknown_or_beyond_all_bounds_gives_a_picture(codec, photo):
    frame = codec.encode(resize(photo, 64, 64), mode="analog", levels=8)
    assumed = codec.decode(frame).image
    for unknown in (np.nan, np.float32(np.nan), 20, np.float64(20)):
        assert np.array_equal(codec.decode(frame, snr_db=unknown).image, assumed)
    best = codec.decode(frame, snr_db=100).image
    for endless in (np.inf, 1e300, np.float32(4000)):
        assert np.array_equal(codec.decode(frame, snr_db=endless).image, best)
    for hopeless in (-np.inf, -4000):
        assert np.array_equal(codec.decode(frame, snr_db=hopeless).image, codec.decode(frame, snr_db=-100).image)


def test_a_private_base_of_another_air_code_is_refused(bundle_folder, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(300, 128)).astype(np.float32)
    code = AirCode.train(vectors, 16, rounds=100)
    KnowledgeBase.create(tmp_path / "foreign", code, vectors, [Entry(str(i), "") for i in range(300)])
    with pytest.raises(BundleError, match="foreign: made with another air code than bundle"):
        SemanticCodec.load(bundle_folder, private=[tmp_path / "foreign"])
    with pytest.raises(KnowledgeBaseError):
        SemanticCodec.load(bundle_folder, private=[tmp_path / "nowhere"])


def test_knowledge_and_channel_code_restore_together_what_either_loses(bundle_folder, codec, private, photo):
    """Pictures that differ from the one in the private base by light and cut, in noise that the LDPC code fails in."""
    knowing, modem = SemanticCodec.load(bundle_folder, private=[private.path]), BurstModem()
    modem.receive(modem.modulate(codec.encode(photo, levels=0)))
    lost = restored = by_entries = by_shared = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        margin = int(rng.integers(1, 20))
        view = (photo[margin:-margin, margin:-margin] * rng.uniform(0.8, 1)).astype(np.uint8)
        frame = codec.encode(resize(view, 96, 144), levels=0)
        iq = np.pad(modem.modulate(frame), 300)
        noise = rng.standard_normal((len(iq), 2)) * np.sqrt(10**0.91 * 64 / 52 / 2)
        for burst in modem.receive(iq + noise.view(complex)[:, 0]) + modem.flush():
            if not burst.semantic_ok:
                lost += 1
                soft = {"semantic_llr": burst.semantic_llr, "semantic_coded_llr": burst.semantic_coded_llr}
                result = knowing.decode(burst.frame, **soft)
                restored += result.repaired and result.neighbours == knowing.decode(frame).neighbours
                by_entries += knowing.decode(burst.frame, semantic_llr=burst.semantic_llr).repaired
                by_shared += codec.decode(burst.frame, **soft).repaired
    assert lost >= 12
    assert restored >= 0.6 * lost
    assert max(by_entries, by_shared) < restored


def test_soft_bits_that_do_not_fit_are_refused(codec, photo):
    lost = replace(codec.encode(photo), semantic=None)
    for soft in ({"semantic_llr": np.zeros(100)}, {"semantic_coded_llr": np.zeros(719)}):
        with pytest.raises(FrameError, match="LLRs of the semantic layer do not match the frame"):
            codec.decode(lost, **soft)
    assert not codec.decode(lost, semantic_llr=np.zeros(128), semantic_coded_llr=np.zeros(720)).repaired
