"""Configuration of a sweep: its curves, channels and SNRs, as validated dataclasses read from YAML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

from crlsc_phy.channel import ChannelSettings
from crlsc_phy.channel.models import find_model
from crlsc_phy.errors import ChannelError, SweepError
from crlsc_phy.link.chain import CHAINS
from crlsc_phy.link.pictures import ImagesConfig
from crlsc_phy.options import Options, checked, one_of
from crlsc_phy.report.measures import MEASURES
from crlsc_phy.scalars import plain

__all__ = ["CurveConfig", "KeepConfig", "StopConfig", "SweepConfig", "load_config", "parse_snrs", "presets"]

_OPTIONS = Options(SweepError, "stop.replicas=10")
_PRESETS = resources.files("crlsc_phy.sweep") / "presets"
# More points than anybody looks at are a slip in a step.
_MOST_SNRS = 1000
_BY_TRIAL = ("snr_db", "noise_power", "seed")
"""Settings of a channel that each trial sets."""


def parse_snrs(given: object) -> tuple[float, ...]:
    """Return SNRs in dB in rising order, each once.

    ``given`` is a number, a range ``START:STOP:STEP`` whose stop is included, or several of them: separated by commas,
    in a list or in an array.

    Raises:
        SweepError: If it is none of these, or a range is empty or has too many points.
    """
    given = plain(given)
    listed = given.split(",") if isinstance(given, str) else given
    parts = listed if isinstance(listed, tuple | list) else [listed]
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
        raise SweepError(f"snr_db is {part!r}; give a number or a range START:STOP:STEP such as -10:25:2.5")
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


_Snrs = Annotated[tuple[float, ...], PlainValidator(parse_snrs)]


@checked(SweepError)
@dataclass(frozen=True)
class StopConfig:
    """When a point has seen enough.

    Attributes:
        replicas: Largest number of replicas; with pictures each replica sends one.
        errors: Stop after so many block errors, or lost frames where there are no blocks; 0 for no limit.
        half_width: Stop when the 95 % interval of ``measure`` reaches no further than this to either side; 0 for none.
        measure: A name of :data:`crlsc_phy.report.measures.MEASURES`; empty for the main one of the chain.

    Raises:
        SweepError: If a value is out of range.
    """

    replicas: Annotated[int, Field(ge=1)] = 8
    errors: Annotated[int, Field(ge=0)] = 0
    half_width: Annotated[float, Field(ge=0)] = 0.0
    measure: Annotated[str, one_of(("", *MEASURES))] = ""


@dataclass(frozen=True)
class KeepConfig:
    """Received pictures that are kept for the report.

    Attributes:
        snr_db: Es/N0 in dB of the points that keep pictures.
        replicas: Number of replicas that are kept at each, the first ones.
    """

    snr_db: Annotated[tuple[float, ...], PlainValidator(lambda given: () if given == [] else parse_snrs(given))] = ()
    replicas: int = 0


@dataclass(frozen=True)
class _Curve:
    """A curve, apart from the options of its chain.

    Attributes:
        chain: A name of :data:`crlsc_phy.link.chain.CHAINS`.
        air, csi: See :class:`crlsc_phy.link.chain.Scene`.
        channels: Names of the channels that it runs over.
        snr_db: Es/N0 of its points in dB.
        stop: When a point has seen enough.
    """

    chain: Annotated[str, one_of(CHAINS)]
    air: Literal["modem", "grid"]
    csi: Literal["perfect", "ls"]
    channels: tuple[str, ...]
    snr_db: _Snrs
    stop: StopConfig


@dataclass(frozen=True)
class CurveConfig(_Curve):
    """A curve; ``options`` are those of its chain, in a dataclass of its own."""

    options: Any


@dataclass(frozen=True)
class SweepConfig:
    """A whole sweep.

    Attributes:
        name: Name for the report.
        seed: Seed of everything that is drawn.
        bundle: Folder of the bundle.
        data: Folder of the data sets, as ``crlsc-train data`` makes it.
        images: Pictures to send; links of bits need none.
        channels: Channels by name, without noise.
        curves: Curves by name.
        keep: Pictures that are kept for the report.
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
        """Return the mappings, lists and numbers that :func:`load_config` reads, with every option spelled out."""
        content: dict[str, Any] = _plain(asdict(self))
        for curve in content["curves"].values():
            curve.update(curve.pop("options"))
        # Settings at their defaults are left out; most of them bear on other models.
        defaults = _plain(asdict(ChannelSettings()))
        for name, channel in content["channels"].items():
            said = {key: value for key, value in channel.items() if value != defaults[key]}
            content["channels"][name] = {"model": channel["model"]} | said
        return content


def _without_noise(raw: Any) -> Any:
    for key in _BY_TRIAL:
        if isinstance(raw, dict) and key in raw:
            raise ValueError(f"leave out {key}; each point of the sweep sets it")
    return raw


def _usable(channel: ChannelSettings) -> ChannelSettings:
    try:
        find_model(channel.model)
    except ChannelError as error:
        raise ValueError(str(error)) from None
    if channel.cir and not Path(channel.cir).is_file():
        raise ValueError(f"there is no file {channel.cir}")
    return channel


_Channel = Annotated[ChannelSettings, BeforeValidator(_without_noise), AfterValidator(_usable)]


@dataclass(frozen=True)
class _File:
    """A configuration file: the options of the sweep, and those of all curves that do not set their own."""

    curves: Annotated[Mapping[str, Mapping[str, Any]], Field(min_length=1)]
    channels: Annotated[Mapping[str, _Channel], Field(min_length=1)] = field(
        default_factory=lambda: {"awgn": ChannelSettings()}
    )
    snr_db: _Snrs = ()
    name: str = "sweep"
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 1
    bundle: str = "models/default"
    data: str = "data"
    images: ImagesConfig = field(default_factory=ImagesConfig)
    air: Literal["modem", "grid"] = "modem"
    csi: Literal["perfect", "ls"] = "perfect"
    stop: StopConfig = field(default_factory=StopConfig)
    keep: KeepConfig | None = None


def presets() -> dict[str, str]:
    """Return the names of the configurations that ship with the package, and the first line of each."""
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
    if snr_db is not None:
        content = _for_all_curves(content, "snr_db", snr_db)
    if channels:
        known = content.get("channels") if isinstance(content, dict) else None
        known = known if isinstance(known, dict) else {}
        picked = {channel: known.get(channel, {"model": channel}) for channel in channels}
        content = _for_all_curves(content, "channels", picked)
    file = _OPTIONS.build(_File, content, str(name))
    curves = {curve: _curve(file, raw, f"{name}: curves.{curve}") for curve, raw in file.curves.items()}
    shared = {each.name: getattr(file, each.name) for each in fields(SweepConfig)}
    return SweepConfig(**shared | {"curves": curves, "keep": file.keep or KeepConfig()})


def _for_all_curves(content: Any, key: str, value: Any) -> Any:
    """The content with an option for all curves, and none of its own for any."""
    if not isinstance(content, dict) or not isinstance(content.get("curves"), dict):
        return content
    curves = {
        name: {each: kept for each, kept in curve.items() if each != key} if isinstance(curve, dict) else curve
        for name, curve in content["curves"].items()
    }
    return {**content, "curves": curves, key: value}


def _curve(file: _File, raw: Mapping[str, Any], where: str) -> CurveConfig:
    shared = {each.name: getattr(file, each.name) for each in fields(_Curve) if each.name != "chain"}
    content = {**shared, "channels": list(file.channels), "stop": asdict(file.stop)}
    if not (file.snr_db or "snr_db" in raw):
        raise SweepError(f"{where}: snr_db is missing; say at which SNRs, such as snr_db: -10:25:2.5")
    own = {each.name for each in fields(_Curve)}
    content |= {key: value for key, value in raw.items() if key in own}
    if isinstance(raw.get("stop"), dict):
        content["stop"] = asdict(file.stop) | raw["stop"]
    curve = _OPTIONS.build(_Curve, content, where)
    for channel in curve.channels:
        if channel not in file.channels:
            raise SweepError(f"{where}: channel {channel!r} is unknown; there are {', '.join(file.channels)}")
    options = {key: value for key, value in raw.items() if key not in own}
    return CurveConfig(**vars(curve), options=_OPTIONS.build(CHAINS[curve.chain].load().Options, options, where))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, complex) else value
