"""What a sweep is told: which curves over which channels at which SNRs, as validated dataclasses from YAML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from crlsc_phy.channel import MODELS, ChannelSettings
from crlsc_phy.errors import CrlscError, SweepError
from crlsc_phy.link.chain import find_chain
from crlsc_phy.link.pictures import ImagesConfig
from crlsc_phy.options import Options
from crlsc_phy.report.measures import MEASURES

__all__ = [
    "CurveConfig",
    "KeepConfig",
    "StopConfig",
    "SweepConfig",
    "load_config",
    "parse_snrs",
    "presets",
]

_OPTIONS = Options(SweepError, "stop.replicas=10")
_PRESETS = resources.files("crlsc_phy.sweep") / "presets"
_ALONE = {"awgn": {"model": "awgn"}}
"""The channels of a file that names none."""
# More points than anybody looks at are a slip in a step.
_MOST_SNRS = 1000
_BY_TRIAL = ("snr_db", "noise_power", "seed")
"""Settings of a channel that each trial sets."""


@dataclass(frozen=True)
class StopConfig:
    """When a point has seen enough.

    Attributes:
        replicas: Most replicas; of pictures each replica sends one.
        errors: Fewer replicas do with so many block errors, or frames lost where there are no blocks; 0 for no limit.
        half_width: Or with a 95 % interval of ``measure`` that reaches no further than this to either side; 0 for none.
        measure: A name of :data:`crlsc_phy.report.measures.MEASURES`; empty for the main one of the chain.
    """

    replicas: int = 8
    errors: int = 0
    half_width: float = 0.0
    measure: str = ""

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise SweepError(f"replicas is {self.replicas}; it must be 1 or more")
        if self.errors < 0 or not 0 <= self.half_width < math.inf:
            raise SweepError("errors and half_width must be 0 or more")
        if self.measure and self.measure not in MEASURES:
            raise SweepError(f"no measure {self.measure!r}; choose one of {', '.join(MEASURES)}")


@dataclass(frozen=True)
class KeepConfig:
    """Received pictures that are kept for the report.

    Attributes:
        snr_db: At which points.
        replicas: Of each, the first so many.
    """

    snr_db: tuple[float, ...] = ()
    replicas: int = 0


@dataclass(frozen=True)
class CurveConfig:
    """A curve.

    Attributes:
        chain: A name of :data:`crlsc_phy.link.chain.CHAINS`.
        options: Of this chain: a dataclass of its own.
        air, csi: As of :class:`crlsc_phy.link.chain.Scene`.
        channels: Names of the channels that it runs over.
        snr_db: Es/N0 of its points.
        stop: When a point has seen enough.
    """

    chain: str
    options: Any
    air: Literal["modem", "grid"]
    csi: Literal["perfect", "ls"]
    channels: tuple[str, ...]
    snr_db: tuple[float, ...]
    stop: StopConfig


@dataclass(frozen=True)
class SweepConfig:
    """A whole sweep.

    Attributes:
        name: For the report.
        seed: Of everything that is drawn.
        bundle: Folder of the bundle.
        data: Folder of the data sets, as ``crlsc-train data`` makes it.
        images: What is sent; links of bits need none.
        channels: By name, without noise.
        curves: By name.
        keep: Pictures for the report.
    """

    name: str
    seed: int
    bundle: str
    data: str
    images: ImagesConfig
    channels: Mapping[str, ChannelSettings]
    curves: Mapping[str, CurveConfig]
    keep: KeepConfig

    def plain(self) -> dict[str, Any]:
        """As mappings, lists and numbers that :func:`load_config` reads, everything said."""
        return {
            "name": self.name,
            "seed": self.seed,
            "bundle": self.bundle,
            "data": self.data,
            "images": asdict(self.images),
            "channels": {name: _plain_channel(channel) for name, channel in self.channels.items()},
            "curves": {name: _plain_curve(curve) for name, curve in self.curves.items()},
            "keep": {"snr_db": list(self.keep.snr_db), "replicas": self.keep.replicas},
        }


@dataclass(frozen=True)
class _Shared:
    """The top of a file: what is said once, and what is said for all curves."""

    name: str = "sweep"
    seed: int = 1
    bundle: str = "models/default"
    data: str = "data"
    images: ImagesConfig = field(default_factory=ImagesConfig)
    air: Literal["modem", "grid"] = "modem"
    csi: Literal["perfect", "ls"] = "perfect"
    stop: StopConfig = field(default_factory=StopConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise SweepError(f"seed is {self.seed}; it must be a whole number of 0 or more")


def presets() -> dict[str, str]:
    """The configurations that ship with the package: names, and what the first line of each says."""
    files = sorted((each for each in _PRESETS.iterdir() if each.name.endswith(".yaml")), key=lambda each: each.name)
    return {
        each.name.removesuffix(".yaml"): each.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") for each in files
    }


def load_config(
    name: str | Path, changes: Sequence[str] = (), snr_db: str | None = None, channels: Sequence[str] = ()
) -> SweepConfig:
    """Read a configuration.

    Args:
        name: A YAML file, or the name of a preset.
        changes: Options that take the place of the file's, such as ``stop.replicas=10``; the value is YAML.
        snr_db: SNRs for all curves, whatever the file says; None leaves it to the file.
        channels: Channels for all curves: names that the file has, or models; empty leaves it to the file.

    Raises:
        SweepError: If the file is missing or not YAML, or a key, a type or a value is wrong.
    """
    if str(name) not in presets() and not Path(name).is_file():
        raise SweepError(f"{name}: no such file, and no preset of that name; presets are {', '.join(presets())}")
    content = _OPTIONS.load(name, _PRESETS, changes)
    try:
        if not isinstance(content, dict):
            raise SweepError("must be a mapping of options")
        if snr_db is not None:
            content = _for_all_curves(content, "snr_db", snr_db)
        if channels:
            known = _mapping(content.get("channels", _ALONE), "channels")
            picked = {channel: known.get(channel, {"model": channel}) for channel in channels}
            content = _for_all_curves(content, "channels", picked)
        return _config(content, str(name))
    except SweepError as error:
        raise _located(str(name), error) from None


def parse_snrs(given: object) -> tuple[float, ...]:
    """SNRs in dB: a number, a range ``START:STOP:STEP`` whose stop is included, or several, with commas or as a list.

    Raises:
        SweepError: If it is none of them, or a step leads nowhere.
    """
    listed = given.split(",") if isinstance(given, str) else given
    parts = listed if isinstance(listed, list) else [listed]
    found = [snr for part in parts for snr in _snrs(part)]
    if not found:
        raise SweepError("snr_db is empty; give numbers or a range such as -10:25:2.5")
    # Adding zero makes -0.0 of a range 0.0, which is another text but no other SNR.
    return tuple(sorted({round(snr, 9) + 0.0 for snr in found}))


def _snrs(part: object) -> list[float]:
    if isinstance(part, (int, float)) and not isinstance(part, bool) and math.isfinite(part):
        return [float(part)]
    try:
        numbers = [float(number) for number in part.split(":")] if isinstance(part, str) else []
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3) or not all(map(math.isfinite, numbers)):
        raise SweepError(f"snr_db has {part!r}; give a number or a range START:STOP:STEP such as -10:25:2.5")
    if len(numbers) == 1:
        return numbers
    start, stop, step = numbers
    low, high = sorted((start, stop))
    if step <= 0:
        fix = f"{low:g}:{high:g}:{abs(step) or 1:g}"
        raise SweepError(f"snr_db {part!r} has the step {step:g}; a step must be above 0: write {fix}")
    if start > stop:
        raise SweepError(f"snr_db {part!r} stops before it starts; write {low:g}:{high:g}:{step:g}")
    count = math.floor((stop - start) / step + 1e-9) + 1
    if count > _MOST_SNRS:
        raise SweepError(f"snr_db {part!r} has {count} points; take a step of {(stop - start) / 50:g} or so")
    return [start + index * step for index in range(count)]


def _for_all_curves(content: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The content with an option for all curves, and none of its own for any."""
    curves = {
        name: {each: kept for each, kept in curve.items() if each != key} if isinstance(curve, dict) else curve
        for name, curve in _mapping(content.get("curves"), "curves").items()
    }
    return {**content, "curves": curves, key: value}


def _config(content: Mapping[str, Any], where: str) -> SweepConfig:
    apart = ("snr_db", "channels", "curves", "keep")
    unknown = content.keys() - {each.name for each in fields(_Shared)} - set(apart)
    if unknown:
        known = sorted({each.name for each in fields(_Shared)} | set(apart))
        raise SweepError(f"unknown option {min(map(str, unknown))!r}; known are {', '.join(known)}")
    shared = _OPTIONS.build(_Shared, {name: value for name, value in content.items() if name not in apart}, where)
    raw_channels = _mapping(content.get("channels", _ALONE), "channels")
    channels = {name: _channel(name, raw) for name, raw in raw_channels.items()}
    over = {"channels": list(channels)} | {name: content[name] for name in ("snr_db",) if name in content}
    over |= {"air": shared.air, "csi": shared.csi, "stop": asdict(shared.stop)}
    curves = {name: _curve(name, raw, over) for name, raw in _mapping(content.get("curves"), "curves").items()}
    keep = dict(_mapping(content["keep"], "keep")) if content.get("keep") else {}
    if keep.get("snr_db"):
        keep["snr_db"] = list(parse_snrs(keep["snr_db"]))
    built = _OPTIONS.build(KeepConfig, keep, f"{where}: keep")
    return SweepConfig(shared.name, shared.seed, shared.bundle, shared.data, shared.images, channels, curves, built)


def _mapping(content: Any, what: str) -> dict[str, Any]:
    if not isinstance(content, dict) or not content:
        raise SweepError(f"{what} must be a mapping of names, with one at least")
    return {str(name): value for name, value in content.items()}


def _channel(name: str, raw: Any) -> ChannelSettings:
    where = f"channel {name!r}"
    if isinstance(raw, dict):
        for key in _BY_TRIAL:
            if key in raw:
                raise SweepError(f"{where}: leave out {key}; each point of the sweep sets it")
    try:
        channel = _OPTIONS.build(ChannelSettings, raw, where)
    except CrlscError as error:
        raise _located(where, error) from None
    if channel.model not in MODELS:
        raise SweepError(f"{where}: no channel model {channel.model!r}; choose one of {', '.join(MODELS)}")
    if channel.cir and not Path(channel.cir).is_file():
        raise SweepError(f"{where}: cir {channel.cir}: no such file")
    return channel


def _curve(name: str, raw: Any, shared: Mapping[str, Any]) -> CurveConfig:
    where = f"curve {name!r}"
    if not isinstance(raw, dict) or "chain" not in raw:
        raise SweepError(f"{where}: must be a mapping of options with chain: among them")
    own = {each.name for each in fields(CurveConfig)} - {"options"}
    content = dict(shared) | {key: value for key, value in raw.items() if key in own}
    options = {key: value for key, value in raw.items() if key not in own}
    try:
        if "snr_db" not in content:
            raise SweepError("snr_db is missing; say at which SNRs, such as snr_db: -10:25:2.5")
        content["snr_db"] = list(parse_snrs(content["snr_db"]))
        if isinstance(raw.get("stop"), dict):
            content["stop"] = shared["stop"] | raw["stop"]
        content["options"] = _OPTIONS.build(find_chain(str(content["chain"])).load().Options, options, where)
        curve = _OPTIONS.build(CurveConfig, content, where)
    except CrlscError as error:
        raise _located(where, error) from None
    unknown = [channel for channel in curve.channels if channel not in shared["channels"]]
    if unknown:
        raise SweepError(f"{where}: no channel {unknown[0]!r}; there are {', '.join(shared['channels'])}")
    return curve


def _located(where: str, error: CrlscError) -> SweepError:
    """The error with the place where it is, once."""
    return SweepError(str(error) if str(error).startswith(where) else f"{where}: {error}")


def _plain_channel(channel: ChannelSettings) -> dict[str, Any]:
    """Settings apart from those at their defaults, most of which bear on other models."""
    defaults = ChannelSettings()
    said = {
        each.name: getattr(channel, each.name)
        for each in fields(channel)
        if getattr(channel, each.name) != getattr(defaults, each.name)
    }
    return {"model": channel.model} | {name: _plain(value) for name, value in said.items()}


def _plain_curve(curve: CurveConfig) -> dict[str, Any]:
    options = {name: _plain(value) for name, value in asdict(curve.options).items()}
    own = {
        "air": curve.air,
        "csi": curve.csi,
        "channels": list(curve.channels),
        "snr_db": list(curve.snr_db),
        "stop": asdict(curve.stop),
    }
    return {"chain": curve.chain} | options | own


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, complex) else value
