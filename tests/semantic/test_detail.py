"""The networks of the detail layer: codebooks under mixed precision."""

import pytest
import torch

from crlsc_phy.semantic.detail import DetailCoder, DetailConfig

CONFIG = DetailConfig(semantic_dim=8, latent_dim=8, levels=2, codebook_bits=3, narrow=8, wide=8)


@pytest.fixture
def images():
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def steps(images: torch.Tensor, mixed: bool) -> tuple[DetailCoder, list[float]]:
    """Three steps of training: the coder, and the commitment of each."""
    torch.manual_seed(0)
    coder = DetailCoder(CONFIG)
    keep = torch.ones(4, 2, 4, 4, dtype=torch.bool)
    losses = []
    for _ in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            decoded, commitment = coder(images, torch.zeros(4, 8), keep)
        ((decoded - images).square().mean() + commitment).backward()
        losses.append(commitment.item())
    return coder, losses


def test_codebooks_follow_their_data_under_mixed_precision_as_under_single(images):
    (single, losses), (mixed, others) = steps(images, False), steps(images, True)
    quantiser = mixed.quantiser
    assert {each.dtype for each in (quantiser.codebooks, quantiser.sums, quantiser.usage)} == {torch.float32}
    # Half precision moves some vectors to another entry; the codebooks as a whole are the same.
    assert torch.allclose(quantiser.codebooks.mean(dim=1), single.quantiser.codebooks.mean(dim=1), atol=0.03)
    assert others == pytest.approx(losses, rel=0.2)
    assert mixed.analysis.wide[3].weight.grad.abs().sum() > 0
