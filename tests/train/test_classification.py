"""The linear head learns what tells classes apart, and not what its encoder happens to hold still."""

import pytest
import torch
from torch.nn import functional as F

from crlsc_phy.train.tasks.classification import train_head

CLASSES, DIM = 5, 32


def _vectors(rows: torch.Tensor, spread: float, seed: int) -> torch.Tensor:
    """Unit vectors of classes in as many directions; ``spread`` is how much the others vary."""
    noise = torch.randn(len(rows), DIM, generator=torch.Generator().manual_seed(seed))
    noise[:, :CLASSES] *= 0.25
    noise[:, CLASSES:] *= spread
    return F.normalize(F.one_hot(rows, DIM) + noise, dim=1)


@pytest.fixture(scope="module")
def trained():
    targets = torch.arange(CLASSES).repeat(8)
    weight, bias = train_head(_vectors(targets, 0.05, 0), targets, CLASSES, 300)
    return weight, bias


@pytest.mark.parametrize(("spread", "least"), [(0.05, 0.95), (0.35, 0.9)])
def test_a_head_reads_its_own_encoder_and_one_that_is_noisier(trained, spread, least):
    weight, bias = trained
    targets = torch.arange(CLASSES).repeat(200)
    scores = _vectors(targets, spread, 1) @ weight.T + bias
    assert (scores.argmax(dim=1) == targets).float().mean() > least


def test_directions_that_hold_still_get_little_weight(trained):
    weight, _ = trained
    assert weight[:, CLASSES:].norm() < 0.3 * weight[:, :CLASSES].norm()


def test_more_steps_find_the_same_head(trained):
    weight, _ = trained
    targets = torch.arange(CLASSES).repeat(8)
    again, _ = train_head(_vectors(targets, 0.05, 0), targets, CLASSES, 600)
    assert (weight - again).norm() < 0.02 * weight.norm()
