"""What the tests of the network share."""

import pytest
from machines import Wire, make


@pytest.fixture
def base(tmp_path):
    return make(tmp_path / "server/skb")


@pytest.fixture
def copy(tmp_path):
    return tmp_path / "terminal/skb"


@pytest.fixture
def wire():
    wires = []

    def lay(url):
        wires.append(Wire(url))
        return wires[-1]

    yield lay
    for one in wires:
        one.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    remote = pytest.importorskip("crlsc_phy.net.kb.connection")
    monkeypatch.setattr(remote, "_PAUSES_S", (0.01, 0.05))
