"""What a sweep runs: its lines, points and jobs, each named by what decides its result.

A line is a curve over a channel, a point one of its SNRs, a job one replica of a point. A job's seed comes from its
key, and its key from the line, the SNR and the replica: no point depends on which others there are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from crlsc_phy.bundle import Bundle
from crlsc_phy.channel import ChannelSettings
from crlsc_phy.errors import CrlscError, SweepError
from crlsc_phy.files import sha256_of
from crlsc_phy.link.chain import Chain, ChainKind, Scene, TestImage, Trial, find_chain
from crlsc_phy.link.pictures import identity_of_images, open_sent
from crlsc_phy.sweep.config import CurveConfig, KeepConfig, StopConfig, SweepConfig

__all__ = ["Job", "Line", "Plan", "make_plan"]


@dataclass(frozen=True)
class Job:
    """One replica of a point.

    Attributes:
        key: By which its result is known, 20 hex digits.
        line: Id of its line.
        snr_db: Es/N0.
        replica: From 0.
        keep: Whether the received picture is kept.
    """

    key: str
    line: str
    snr_db: float
    replica: int
    keep: bool = False

    @property
    def trial(self) -> Trial:
        """What the chain is asked for."""
        half = len(self.key) // 2
        return Trial(self.snr_db, self.replica, (int(self.key[:half], 16), int(self.key[half:], 16)))


@dataclass(frozen=True)
class Line:
    """A curve over a channel.

    Attributes:
        id: Hash of all that decides its results, 16 hex digits.
        curve, channel: Their names.
        kind, options: Its chain.
        scene: Where that works.
        snr_db: Its points.
        stop: When a point has seen enough; it does not decide what a replica finds, and is no part of the id.
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
        """One of its jobs."""
        kept = self.kind.images and snr_db in keep.snr_db and replica < keep.replicas
        return Job(_digest([self.id, snr_db, replica])[:20], self.id, snr_db, replica, kept)

    def make_chain(self) -> Chain:
        """Its chain, loaded and ready.

        Raises:
            SweepError: If options, scene and bundle do not go together.
        """
        try:
            return self.kind.make(self.options, self.scene)
        except CrlscError as error:
            raise SweepError(f"curve {self.curve!r} over {self.channel!r}: {error}") from None

    @property
    def measure(self) -> str:
        """The measure that its interval is judged by."""
        return self.stop.measure or self.kind.measure


@dataclass(frozen=True)
class Plan:
    """A sweep that can run.

    Attributes:
        config: What it was made from.
        lines: By id, in the order in which they run.
        images: That are sent.
    """

    config: SweepConfig
    lines: Mapping[str, Line]
    images: tuple[TestImage, ...]

    @property
    def points(self) -> int:
        """How many points there are."""
        return sum(len(line.snr_db) for line in self.lines.values())

    @property
    def most_jobs(self) -> int:
        """How many jobs there are if no point stops early."""
        return sum(len(line.snr_db) * line.stop.replicas for line in self.lines.values())


def make_plan(config: SweepConfig) -> Plan:
    """Open bundle and pictures, and find what is to be run. No chain is made yet.

    Raises:
        SweepError: If bundle or pictures are missing, or two curves are the same.
    """
    kinds = {name: find_chain(curve.chain) for name, curve in config.curves.items()}
    images: tuple[TestImage, ...] = ()
    world: dict[str, Any] = {}
    if any(kind.images for kind in kinds.values()):
        images = open_sent(config.images, Path(config.data))
        world = {"bundle": _bundle_identity(config.bundle), "images": identity_of_images(images)}
    lines: dict[str, Line] = {}
    for channel in config.channels:
        for name, curve in config.curves.items():
            if channel in curve.channels:
                line = _line(name, channel, curve, kinds[name], config, images, world)
                if line.id in lines:
                    other = lines[line.id]
                    raise SweepError(
                        f"curve {name!r} over {channel!r} is the same as {other.curve!r} over {other.channel!r}; "
                        "leave one of them out"
                    )
                lines[line.id] = line
    return Plan(config, lines, images)


def _line(
    name: str,
    channel: str,
    curve: CurveConfig,
    kind: ChainKind,
    config: SweepConfig,
    images: tuple[TestImage, ...],
    world: Mapping[str, Any],
) -> Line:
    settings = config.channels[channel]
    if settings.cir:
        settings = replace(settings, cir=str(Path(settings.cir).absolute()))
    scene = Scene(settings, curve.air, curve.csi, images if kind.images else (), Path(config.bundle).absolute())
    identity = {
        "chain": curve.chain,
        "options": asdict(curve.options),
        "files": [sha256_of(path) for path in getattr(curve.options, "files", ())],
        "channel": _channel_identity(settings),
        "air": curve.air,
        "csi": curve.csi,
        "seed": config.seed,
    }
    identity |= world if kind.images else {}
    return Line(_digest(identity)[:16], name, channel, kind, curve.options, scene, curve.snr_db, curve.stop)


def _channel_identity(settings: ChannelSettings) -> dict[str, Any]:
    # Of a recorded channel what is in the file counts, wherever it lies.
    return asdict(settings) | ({"cir": sha256_of(Path(settings.cir))} if settings.cir else {})


def _bundle_identity(folder: str) -> list[str]:
    try:
        bundle = Bundle.load(folder)
    except CrlscError as error:
        raise SweepError(f"{error}; name the folder of a bundle by bundle: or --bundle") from None
    return [bundle.shared_id.hex(), bundle.id, bundle.knowledge.id]


def _digest(content: Any) -> str:
    """SHA-256 in hex of canonical JSON; complex numbers are written as text."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
