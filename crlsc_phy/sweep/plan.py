"""Plan of a sweep: its lines, points and jobs, each identified by a hash of everything that decides its result.

A line is a curve over one channel, a point is one of its SNRs, and a job is one replica of a point. The seed of a job
is derived from its key, and the key from the line, the SNR and the replica. So no point depends on the other points.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from crlsc_phy.bundle import Bundle
from crlsc_phy.errors import CrlscError, SweepError
from crlsc_phy.files import sha256_of
from crlsc_phy.link.chain import CHAINS, Chain, ChainKind, Scene, TestImage, Trial
from crlsc_phy.link.pictures import identity_of_images, open_sent
from crlsc_phy.sweep.config import KeepConfig, StopConfig, SweepConfig

__all__ = ["Job", "Line", "Plan", "make_plan"]


@dataclass(frozen=True)
class Job:
    """One replica of a point.

    Attributes:
        key: Identifies the result, 20 hex digits.
        line: Id of its line.
        snr_db: Es/N0 in dB.
        replica: Number of the replica, from 0.
        keep: Whether the received picture is kept.
    """

    key: str
    line: str
    snr_db: float
    replica: int
    keep: bool = False

    @property
    def trial(self) -> Trial:
        """The trial that the chain runs."""
        half = len(self.key) // 2
        return Trial(self.snr_db, self.replica, (int(self.key[:half], 16), int(self.key[half:], 16)))


@dataclass(frozen=True)
class Line:
    """A curve over one channel.

    Attributes:
        id: Hash of everything that decides its results, 16 hex digits.
        curve, channel: Names of the curve and of the channel.
        kind, options: The chain and its options.
        scene: Scene of the chain.
        snr_db: Es/N0 of its points in dB.
        stop: When a point has enough results. It does not change what a replica finds, so the id leaves it out.
    """

    id: str
    curve: str
    channel: str
    kind: ChainKind
    options: Any
    scene: Scene
    snr_db: tuple[float, ...]
    stop: StopConfig

    def job(self, snr_db: float, replica: int, keep: KeepConfig) -> Job:
        """Return one of its jobs.

        Args:
            snr_db: Es/N0 of the point in dB.
            replica: Number of the replica, from 0.
            keep: Pictures to keep for the report.
        """
        kept = self.kind.images and snr_db in keep.snr_db and replica < keep.replicas
        return Job(_digest([self.id, snr_db, replica])[:20], self.id, snr_db, replica, kept)

    def make_chain(self) -> Chain:
        """Return its chain, loaded and ready.

        Raises:
            SweepError: If options, scene and bundle do not go together.
        """
        try:
            chain: Chain = self.kind.load()(self.options, self.scene)
        except CrlscError as error:
            raise SweepError(f"curve {self.curve!r} over {self.channel!r}: {error}") from None
        return chain

    @property
    def measure(self) -> str:
        """Name of the measure whose interval may stop a point."""
        return self.stop.measure or self.kind.measure


@dataclass(frozen=True)
class Plan:
    """A sweep that is ready to run.

    Attributes:
        config: Its configuration.
        lines: Lines by id, in the order in which they run.
        images: Pictures to send.
    """

    config: SweepConfig
    lines: Mapping[str, Line]
    images: tuple[TestImage, ...]

    @property
    def points(self) -> int:
        """Number of points."""
        return sum(len(line.snr_db) for line in self.lines.values())


def make_plan(config: SweepConfig) -> Plan:
    """Open the bundle and the pictures, and plan the jobs. No chain is made yet.

    Raises:
        SweepError: If the bundle or the pictures are missing, or two curves are the same.
    """
    images: tuple[TestImage, ...] = ()
    world: dict[str, Any] = {}
    if any(CHAINS[curve.chain].images for curve in config.curves.values()):
        images = open_sent(config.images, Path(config.data))
        world = {"bundle": _bundle_identity(config.bundle), "images": identity_of_images(images)}
    lines: dict[str, Line] = {}
    for channel in config.channels:
        for name, curve in config.curves.items():
            if channel in curve.channels:
                line = _line(name, channel, config, images, world)
                other = lines.setdefault(line.id, line)
                if other is not line:
                    raise SweepError(
                        f"curve {name!r} over {channel!r} is the same as {other.curve!r} over {other.channel!r}; "
                        "leave one of them out"
                    )
    return Plan(config, lines, images)


def _line(
    name: str, channel: str, config: SweepConfig, images: tuple[TestImage, ...], world: Mapping[str, Any]
) -> Line:
    curve, settings = config.curves[name], config.channels[channel]
    kind = CHAINS[curve.chain]
    # A recorded channel is identified by the content of its file, wherever that is.
    recorded: dict[str, Any] = {}
    if settings.cir:
        settings = replace(settings, cir=str(Path(settings.cir).absolute()))
        recorded["cir"] = sha256_of(Path(settings.cir))
    scene = Scene(settings, curve.air, curve.csi, images if kind.images else (), Path(config.bundle).absolute())
    identity = {
        "chain": curve.chain,
        "options": asdict(curve.options),
        "files": [sha256_of(path) for path in getattr(curve.options, "files", ())],
        "channel": asdict(settings) | recorded,
        "air": curve.air,
        "csi": curve.csi,
        "seed": config.seed,
    }
    identity |= world if kind.images else {}
    return Line(_digest(identity)[:16], name, channel, kind, curve.options, scene, curve.snr_db, curve.stop)


def _bundle_identity(folder: str) -> list[str]:
    try:
        bundle = Bundle.load(folder)
    except CrlscError as error:
        raise SweepError(f"{error}; give the folder of a bundle as bundle or --bundle") from None
    return [bundle.shared_id.hex(), bundle.id, bundle.knowledge.id]


def _digest(content: Any) -> str:
    """Return the SHA-256 in hex of canonical JSON, with complex numbers as text."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
