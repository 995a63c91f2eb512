"""Residual quantisation, packing and erasures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crlsc_phy.errors import FrameError
from crlsc_phy.semantic.tokens import ResidualQuantiser, packed_size


@pytest.fixture(scope="module")
def quantiser() -> ResidualQuantiser:
    generator = np.random.default_rng(0)
    scale = 0.5 ** np.arange(4)[:, None, None]
    return ResidualQuantiser((scale * generator.normal(size=(4, 512, 8))).astype(np.float32))


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_packing_is_lossless(levels, height, width, seed):
    quantiser = ResidualQuantiser(np.zeros((4, 512, 2), np.float32))
    tokens = np.random.default_rng(seed).integers(512, size=(levels, height, width))
    detail = quantiser.pack(tokens)
    assert len(detail) == packed_size(tokens.size, 9)
    again, arrived = quantiser.unpack(detail, (), tokens.shape)
    assert np.array_equal(again, tokens)
    assert arrived.all()


def test_each_level_brings_the_latent_nearer(quantiser):
    latent = np.random.default_rng(1).normal(size=(8, 5, 6)).astype(np.float32)
    tokens = quantiser.encode(latent, 4)
    errors = []
    for levels in range(5):
        kept = np.zeros(tokens.shape, np.bool_)
        kept[:levels] = True
        errors.append(float(((quantiser.decode(tokens, kept) - latent) ** 2).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[4] < 0.5 * errors[0]


def test_a_prefix_of_levels_is_the_same_tokens(quantiser):
    latent = np.random.default_rng(1).normal(size=(8, 5, 6)).astype(np.float32)
    assert np.array_equal(quantiser.encode(latent, 2), quantiser.encode(latent, 4)[:2])


def test_an_erased_byte_takes_the_tokens_it_touches(quantiser):
    tokens = np.random.default_rng(2).integers(512, size=(1, 4, 8))
    _, arrived = quantiser.unpack(quantiser.pack(tokens), ((1, 2),), tokens.shape)
    # Byte 1 holds bits 8 to 15: the last bit of token 0 and the first seven of token 1.
    assert np.flatnonzero(~arrived.ravel()).tolist() == [0, 1]


def test_a_lost_token_takes_its_finer_ones_along(quantiser):
    tokens = np.random.default_rng(3).integers(512, size=(4, 2, 2))
    kept = np.ones(tokens.shape, np.bool_)
    kept[1, 0, 0] = False
    latent = quantiser.decode(tokens, kept)
    assert np.allclose(latent[:, 0, 0], quantiser.codebooks[0][tokens[0, 0, 0]])
    assert np.allclose(latent[:, 1, 1], sum(quantiser.codebooks[i][tokens[i, 1, 1]] for i in range(4)), atol=1e-6)


def test_a_lost_layer_is_all_zero(quantiser):
    tokens, arrived = quantiser.unpack(None, (), (4, 2, 3))
    assert not arrived.any()
    assert not quantiser.decode(tokens, arrived).any()


def test_a_layer_of_the_wrong_length_is_refused(quantiser):
    with pytest.raises(FrameError, match="need"):
        quantiser.unpack(b"12345", (), (4, 2, 3))
