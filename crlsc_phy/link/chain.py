"""The interface between a sweep and its chains, and the registry of the chains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from crlsc_phy.channel import ChannelSettings
from crlsc_phy.errors import SweepError
from crlsc_phy.images import UInt8Image

__all__ = ["CHAINS", "Chain", "ChainKind", "ImageResult", "Outcome", "Scene", "TestImage", "Trial"]


@dataclass(frozen=True)
class TestImage:
    """A picture to send.

    Attributes:
        name: Name of the picture, unique within the sweep.
        image: The picture, uint8 [H, W, 3].
        labels: Right labels; empty if none is known.
    """

    # pytest takes classes called Test... for tests.
    __test__ = False

    name: str
    image: UInt8Image
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """Surroundings of a chain.

    Attributes:
        channel: Settings of the channel without noise; each trial sets the SNR.
        air: ``modem`` sends whole bursts through the modem and the stream channel, with all overhead counted.
            ``grid`` is Sionna's OFDM resource grid in perfect synchrony.
        csi: Channel state information of the receiver on the grid: ``perfect``, or ``ls`` for least squares at pilots.
            The modem always estimates the channel.
        images: Pictures to send; empty for links of bits.
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
        snr_db: Es/N0 on an occupied carrier in dB.
        replica: Number of the replica, from 0. Chains of pictures send picture ``replica % len(images)``.
        seed: Seed for ``numpy.random.default_rng``, derived from curve, SNR and replica, so that no point depends on
            the others.
    """

    snr_db: float
    replica: int
    seed: tuple[int, ...]


@dataclass
class ImageResult:
    """Result of sending a picture.

    Attributes:
        name: Name of the picture.
        metrics: Metrics by name, see :data:`crlsc_phy.report.measures.MEASURES`, without those not measured.
        picture: Picture shown by the receiver, uint8 [H, W, 3]; None if there is none.
    """

    name: str
    metrics: dict[str, float] = field(default_factory=dict)
    picture: UInt8Image | None = None


@dataclass
class Outcome:
    """Result of a trial.

    Attributes:
        counts: Raw counts that add up over replicas, as far as the chain has them: ``bits`` and ``bit_errors``,
            ``blocks`` and ``block_errors``, ``frames`` and ``frames_lost``.
        image: Result of the picture; None for links of bits.
    """

    counts: dict[str, int] = field(default_factory=dict)
    image: ImageResult | None = None


class Chain(Protocol):
    """A link from end to end, which a worker makes once for each line.

    The class of a chain is called with its options and a :class:`Scene`.

    Attributes:
        Options: Dataclass of the options that a sweep's configuration may set.
    """

    Options: ClassVar[type[Any]]

    def run(self, trial: Trial) -> Outcome:
        """Send once; the outcome depends only on the options, the scene and the trial."""
        ...


@dataclass(frozen=True)
class ChainKind:
    """An entry of the registry.

    Attributes:
        target: Class of the chain as ``module:Class``, imported when it is needed.
        about: Description in one line for ``crlsc-sweep list``.
        measure: Main measure of its results, a key of :data:`crlsc_phy.report.measures.MEASURES`.
        images: Whether the chain sends pictures, and so needs a bundle.
    """

    target: str
    about: str
    measure: str = "psnr_db"
    images: bool = True

    def load(self) -> Any:
        """Import and return the class of the chain.

        Raises:
            SweepError: If a library of the chain is not installed.
        """
        module, _, name = self.target.partition(":")
        try:
            return getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            raise SweepError(
                f"{error.name} is not installed; pip install 'crlsc-phy[train]' or run make setup"
            ) from None


CHAINS = {
    "coded": ChainKind(
        "crlsc_phy.link.baselines.coded:CodedChain", "random bits, uncoded or by 5G LDPC", "bler", images=False
    ),
    "digital": ChainKind("crlsc_phy.link.semantic:DigitalChain", "pictures: air code and tokens by 5G LDPC"),
    "semantic": ChainKind("crlsc_phy.link.semantic:SemanticChain", "meaning of pictures: the air code alone", "label"),
    "analog": ChainKind(
        "crlsc_phy.link.semantic:AnalogChain", "pictures: air code by 5G LDPC, detail as analog symbols"
    ),
    "hybrid": ChainKind("crlsc_phy.link.semantic:HybridChain", "pictures: digital or analog, whichever is better"),
    "separate": ChainKind(
        "crlsc_phy.link.baselines.separate:SeparateChain", "pictures: JPEG, WebP, AVIF or HEIC by 5G LDPC"
    ),
    "deepjscc": ChainKind(
        "crlsc_phy.link.baselines.deepjscc:DeepJsccChain", "pictures: learned joint source-channel coding"
    ),
}
"""The chains that a sweep may name."""
