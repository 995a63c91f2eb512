"""Configuration of ``crlsc-channel``: radios, the channels between them, and who may connect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from crlsc_phy.channel import ChannelSettings
from crlsc_phy.errors import ChannelError, ServiceError
from crlsc_phy.net.channel.streams import SINKS, SOURCES, Place
from crlsc_phy.net.hosts import DEFAULT_CONTROL, check_private
from crlsc_phy.options import Options, read_yaml

__all__ = ["OPTIONS", "EmulatorConfig", "Link", "Radio"]

OPTIONS = Options(ServiceError, "snr_db=10")


@dataclass(frozen=True)
class Radio:
    """A radio, by the two streams that the emulator sees of it.

    Attributes:
        tx: Where the samples that it sends come from; None if it only receives.
        rx: Where the samples that it receives go; None if it only sends.
    """

    tx: Annotated[Place, PlainValidator(lambda text: Place.parse(str(text), SOURCES))] | None = None
    rx: Annotated[Place, PlainValidator(lambda text: Place.parse(str(text), SINKS))] | None = None


@dataclass(frozen=True)
class Link:
    """A channel from one radio to another, or to itself.

    Attributes:
        sender, receiver: Names of radios.
        settings: Settings of the channel.
    """

    sender: str
    receiver: str
    settings: ChannelSettings

    @property
    def name(self) -> str:
        """``SENDER>RECEIVER``."""
        return f"{self.sender}>{self.receiver}"


@dataclass(frozen=True)
class _Common:
    """Options that a file and :class:`EmulatorConfig` share."""

    radios: Mapping[str, Radio]
    control: str = DEFAULT_CONTROL
    full: Literal["wait", "drop"] = "wait"
    queue: Annotated[int, Field(ge=1024)] = 1 << 18
    patience_s: Annotated[float, Field(gt=0)] = 0.1
    together: bool = False
    keys: str = ""
    without_keys: bool = False


@dataclass(frozen=True)
class _File(_Common):
    """A configuration file."""

    links: tuple[Mapping[str, Any], ...] = ()
    defaults: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class EmulatorConfig(_Common):
    """Configuration of a channel emulator.

    Attributes:
        radios: Radios by name: at least one that sends and one that receives.
        links: Channels, each between two radios, at most one each way.
        control: Address of the control socket; empty for none.
        full: ``wait`` takes no more samples while a receiver is slow; ``drop`` drops samples that it cannot take.
        queue: Number of samples that may wait for or at each radio.
        patience_s: Seconds without samples after which a sender counts as silent and is no longer waited for.
        together: Wait until each sender has been heard once before the first sample goes on.
        keys: Folder of CURVE keys, as ``crlsc-channel keys`` makes it; empty for none.
        without_keys: Let other machines connect without keys.

    Raises:
        ServiceError: If radios and links do not go together, or other machines could connect without leave.
    """

    links: tuple[Link, ...] = ()

    def __post_init__(self) -> None:
        sends = {name for name, radio in self.radios.items() if radio.tx}
        receives = {name for name, radio in self.radios.items() if radio.rx}
        if not sends or not receives:
            raise ServiceError("there must be a radio with tx and one with rx")
        for link in self.links:
            if link.sender not in sends:
                raise ServiceError(f"link {link.name}: there is no radio {link.sender!r} with tx")
            if link.receiver not in receives:
                raise ServiceError(f"link {link.name}: there is no radio {link.receiver!r} with rx")
            if (link.settings.rx, link.settings.tx) != (1, 1):
                raise ServiceError(f"link {link.name}: a stream has one antenna; rx and tx must be 1")
        if not self.links:
            raise ServiceError("there are no links; name at least one, with from and to")
        if len({link.name for link in self.links}) != len(self.links):
            raise ServiceError("two links have the same ends")
        if len({link.settings.sample_rate for link in self.links}) != 1:
            raise ServiceError("all links must have the same sample_rate")
        places = [place for radio in self.radios.values() for place in (radio.tx, radio.rx) if place]
        for address in (self.control, *(place.address for place in places if place.binds)):
            if address:
                check_private(address, bool(self.keys), self.without_keys)

    @classmethod
    def load(cls, path: str | Path, **over: Any) -> EmulatorConfig:
        """Read a YAML file of ``radios``, ``links``, ``defaults`` for all links, and the attributes above.

        The attributes in ``over`` take the place of the file's.

        Raises:
            ServiceError: If the file cannot be read, or an option is unknown, of another type or out of range.
            ChannelError: If a setting of a link is.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ServiceError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
        content = read_yaml(text, str(path), ServiceError)
        try:
            return cls.of(content, **over)
        except (ServiceError, ChannelError) as error:
            raise _placed(error, str(path)) from None

    @classmethod
    def of(cls, content: Any, **over: Any) -> EmulatorConfig:
        """Return the configuration that the content of a YAML file describes, as :meth:`load` does of a file."""
        content = content | over if isinstance(content, dict) else content
        file = OPTIONS.build(_File, content, "")
        defaults = _settings(ChannelSettings(), file.defaults or {}, "defaults")
        common = {each.name: getattr(file, each.name) for each in fields(_Common)}
        return cls(**common, links=tuple(_link(link, defaults) for link in file.links))


def _link(content: Mapping[str, Any], defaults: ChannelSettings) -> Link:
    if not {"from", "to"} <= content.keys():
        raise ServiceError(f"link {dict(content)}: needs from and to, the names of radios")
    own = {name: value for name, value in content.items() if name not in ("from", "to")}
    link = Link(str(content["from"]), str(content["to"]), defaults)
    return Link(link.sender, link.receiver, _settings(defaults, own, f"link {link.name}"))


def _settings(defaults: ChannelSettings, changes: Mapping[str, Any], where: str) -> ChannelSettings:
    try:
        return defaults.changed(**changes)
    except ChannelError as error:
        raise _placed(error, where) from None


def _placed(error: ServiceError | ChannelError, where: str) -> ServiceError | ChannelError:
    """The error, with each line of its message saying where."""
    return type(error)("\n".join(f"{where}: {line}" for line in str(error).splitlines()))
