"""The interface between a sweep and a link, and the registry of links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from crlsc_phy.channel import ChannelSettings
from crlsc_phy.errors import SweepError
from crlsc_phy.images import UInt8Image

__all__ = ["CHAINS", "Chain", "ChainKind", "ImageResult", "Outcome", "Scene", "TestImage", "Trial", "find_chain"]


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
        metrics: By name, see :data:`crlsc_phy.report.measures.MEASURES`; a metric that was not measured is left out.
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
    """A link from end to end, loaded and ready. A worker makes it once for each curve.

    A class of chains is called with its options and a :class:`Scene`.

    Attributes:
        Options: Dataclass of the options that a sweep's configuration may set.
    """

    Options: ClassVar[type[Any]]

    def run(self, trial: Trial) -> Outcome:
        """Send once. The outcome depends on the chain's options, its scene and the trial alone."""
        ...


@dataclass(frozen=True)
class ChainKind:
    """An entry of the registry.

    Attributes:
        target: The class of the chain as ``module:Class``. It is imported when it is asked for.
        about: One line for ``crlsc-sweep``: what the chain sends.
        measure: The main measure of its results, a name of :data:`crlsc_phy.report.measures.MEASURES`.
        images: Whether the chain sends pictures, and so needs a bundle.
    """

    target: str
    about: str
    measure: str = "psnr_db"
    images: bool = True

    def load(self) -> Any:
        """Import and return the class of the chain.

        Raises:
            SweepError: If a library that it needs is not installed.
        """
        module, _, name = self.target.partition(":")
        try:
            return getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            raise SweepError(
                f"{error.name} is not installed; pip install 'crlsc-phy[train]' or run make setup"
            ) from None

    def make(self, options: Any, scene: Scene) -> Chain:
        """Return a chain that is loaded and ready.

        Raises:
            CrlscError: If options, scene and bundle do not go together.
        """
        chain: Chain = self.load()(options, scene)
        return chain


CHAINS = {
    "coded": ChainKind(
        "crlsc_phy.link.baselines.coded:CodedChain", "random bits, uncoded or by 5G LDPC", "bler", images=False
    ),
    "digital": ChainKind("crlsc_phy.link.semantic:DigitalChain", "pictures: air code and tokens, by 5G LDPC"),
    "semantic": ChainKind("crlsc_phy.link.semantic:SemanticChain", "what pictures mean: the air code alone", "label"),
    "analog": ChainKind(
        "crlsc_phy.link.semantic:AnalogChain", "pictures: air code by 5G LDPC, detail as analog symbols"
    ),
    "hybrid": ChainKind("crlsc_phy.link.semantic:HybridChain", "pictures: digital or analog, whichever promises more"),
    "separate": ChainKind(
        "crlsc_phy.link.baselines.separate:SeparateChain", "pictures: JPEG, WebP, AVIF or HEIC, by 5G LDPC"
    ),
    "deepjscc": ChainKind(
        "crlsc_phy.link.baselines.deepjscc:DeepJsccChain", "pictures: learned joint source and channel code"
    ),
}
"""The chains that a sweep may name."""


def find_chain(name: str) -> ChainKind:
    """Return the registered chain called ``name``.

    Raises:
        SweepError: If there is none.
    """
    if name not in CHAINS:
        raise SweepError(f"chain {name!r} is unknown; choose one of {', '.join(CHAINS)}")
    return CHAINS[name]
