"""Radio channels for endless streams of samples: Sionna's models, fading, recordings, and impairments of the radios."""

from crlsc_phy.channel.cir import Cir
from crlsc_phy.channel.models import MODELS
from crlsc_phy.channel.settings import ChannelSettings
from crlsc_phy.channel.stream import StreamChannel

__all__ = ["MODELS", "ChannelSettings", "Cir", "StreamChannel"]
