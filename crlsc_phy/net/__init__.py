"""Services: knowledge bases over HTTP (needs aiohttp), codec and channel over ZMQ (needs pyzmq)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crlsc_phy.net.kb.client import Pulled, publish, pull
    from crlsc_phy.net.kb.server import serve

__all__ = ["Pulled", "publish", "pull", "serve"]


def __getattr__(name: str) -> Any:
    # Loaded on demand: a client of the codec service needs neither aiohttp nor faiss.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'kb.server' if name == 'serve' else 'kb.client'}"), name)
