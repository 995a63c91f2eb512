"""What a sweep asks of a link, and what the link answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from crlsc_phy.channel import ChannelSettings
from crlsc_phy.images import UInt8Image

__all__ = ["Chain", "ImageResult", "Outcome", "Scene", "TestImage", "Trial"]


@dataclass(frozen=True)
class TestImage:
    """A picture to send.

    Attributes:
        name: Unique within the sweep.
        image: uint8 [H, W, 3].
        labels: What may be said to be in it; empty if that is not known.
    """

    # Not a class of tests.
    __test__ = False

    name: str
    image: UInt8Image
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """What a curve's chain works in.

    Attributes:
        channel: Without noise: the SNR is each trial's.
        air: ``modem``: whole bursts through the modem and the stream channel, everything counted. ``grid``: Sionna's
            OFDM resource grid in perfect synchrony.
        csi: What the receiver knows of the channel on the grid: ``perfect``, or ``ls`` for least squares at pilots.
            The modem estimates in any case.
        images: What is sent; empty for links of bits.
        bundle: Folder of the bundle.
    """

    channel: ChannelSettings = field(default_factory=ChannelSettings)
    air: Literal["modem", "grid"] = "modem"
    csi: Literal["perfect", "ls"] = "perfect"
    images: Sequence[TestImage] = ()
    bundle: Path = Path("models/default")


@dataclass(frozen=True)
class Trial:
    """One replica of a point.

    Attributes:
        snr_db: Es/N0 on an occupied carrier.
        replica: Counts from 0. Chains of images send number ``replica % len(images)``.
        seed: For ``numpy.random.default_rng``: derived from curve, SNR and replica, so that no point depends on which
            others there are.
    """

    snr_db: float
    replica: int
    seed: tuple[int, ...]


@dataclass
class ImageResult:
    """What became of a picture.

    Attributes:
        name: Of the picture.
        metrics: By name, see :data:`crlsc_phy.link.measures.MEASURES`; a metric that was not measured is left out.
        picture: What the receiver shows, uint8 [H, W, 3]; None if there is none.
    """

    name: str
    metrics: dict[str, float] = field(default_factory=dict)
    picture: UInt8Image | None = None


@dataclass
class Outcome:
    """What a replica found.

    Attributes:
        counts: Raw counts that add up over replicas: ``bits`` and ``bit_errors``, ``blocks`` and ``block_errors``,
            ``frames`` and ``frames_lost``; those of which a chain knows.
        image: Of chains that send one.
    """

    counts: dict[str, int] = field(default_factory=dict)
    image: ImageResult | None = None


class Chain(Protocol):
    """A link from end to end, loaded and ready. A worker makes it once for each curve."""

    def run(self, trial: Trial) -> Outcome:
        """Send once. The outcome depends on the chain's options, its scene and the trial alone."""
        ...


MakeChain = Callable[[Mapping[str, object], Scene], Chain]
