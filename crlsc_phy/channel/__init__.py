"""Radio channels as endless streams: Sionna's models, fading, replayed responses, and the radios' own faults."""

from crlsc_phy.channel.cir import Cir
from crlsc_phy.channel.models import MODELS
from crlsc_phy.channel.settings import ChannelSettings
from crlsc_phy.channel.stream import StreamChannel

__all__ = ["MODELS", "ChannelSettings", "Cir", "StreamChannel"]
