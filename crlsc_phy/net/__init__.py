"""Knowledge bases between machines: a server, pulling from it, and publishing to it; needs aiohttp."""

from crlsc_phy.net.kb_client import Pulled, publish, pull
from crlsc_phy.net.kb_server import serve

__all__ = ["Pulled", "publish", "pull", "serve"]
