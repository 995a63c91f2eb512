"""A cluster that does not answer is named in one line."""

import re

import pytest

from crlsc_phy.cluster import ray_workers
from crlsc_phy.errors import TrainingError


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:70000", "127.0.0.1:x", "a..b:1"])
def test_an_address_where_no_cluster_answers(address):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'crlsc-phy[ray]'")
    named = pytest.raises(TrainingError, match=f"^--ray {re.escape(address)}: no cluster answers there")
    with named, ray_workers(address, 1, TrainingError):
        pass
