"""What ``crlsc-channel`` is told: radios, the links between them, and how it may be reached."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from crlsc_phy.channel import ChannelSettings
from crlsc_phy.errors import ChannelError, ServiceError
from crlsc_phy.net.channel.streams import SINKS, SOURCES, Place
from crlsc_phy.net.hosts import DEFAULT_CONTROL, check_private

__all__ = ["EmulatorConfig", "Link", "Radio", "from_plain", "to_plain"]

_FULL = ("wait", "drop")
_COMPLEX = {"taps", "dc"}


@dataclass(frozen=True)
class Radio:
    """A radio by its two streams, as the emulator sees them.

    Attributes:
        name: Of the radio.
        tx: Where the samples that it sends come from, None if it only receives.
        rx: Where those that it receives go, None if it only sends.
    """

    name: str
    tx: Place | None = None
    rx: Place | None = None


@dataclass(frozen=True)
class Link:
    """A channel from one radio to another, or to itself.

    Attributes:
        sender, receiver: Names of radios.
        settings: Of the channel.
    """

    sender: str
    receiver: str
    settings: ChannelSettings

    @property
    def name(self) -> str:
        """``SENDER>RECEIVER``."""
        return f"{self.sender}>{self.receiver}"


@dataclass(frozen=True)
class EmulatorConfig:
    """All of it.

    Attributes:
        radios: At least one that sends and one that receives.
        links: Each between two of them, at most one each way.
        control: Where the control socket listens; empty for none.
        full: ``wait`` stops taking samples when a receiver is slow, ``drop`` drops what it cannot take.
        queue: Samples that may wait for or at each radio.
        patience_s: After so long without samples a sender counts as silent, and the others go on without it.
        together: Wait until each sender has been heard once before the first sample goes on.
        keys: Folder of CURVE keys, as ``crlsc-channel keys`` makes it; empty for none.
        without_keys: Let other machines connect without keys.

    Raises:
        ServiceError: If radios and links do not go together, or others could connect that should not.
    """

    radios: tuple[Radio, ...]
    links: tuple[Link, ...]
    control: str = DEFAULT_CONTROL
    full: str = "wait"
    queue: int = 1 << 18
    patience_s: float = 0.1
    together: bool = False
    keys: str = ""
    without_keys: bool = False
    names: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", frozenset(radio.name for radio in self.radios))
        if len(self.names) != len(self.radios):
            raise ServiceError("two radios share a name")
        if not any(radio.tx for radio in self.radios) or not any(radio.rx for radio in self.radios):
            raise ServiceError("there must be a radio with tx and one with rx")
        sends = {radio.name for radio in self.radios if radio.tx}
        receives = {radio.name for radio in self.radios if radio.rx}
        for link in self.links:
            if link.sender not in sends:
                raise ServiceError(f"link {link.name}: no radio {link.sender!r} with tx")
            if link.receiver not in receives:
                raise ServiceError(f"link {link.name}: no radio {link.receiver!r} with rx")
            if (link.settings.rx, link.settings.tx) != (1, 1):
                raise ServiceError(f"link {link.name}: a stream is that of one antenna; rx and tx must be 1")
        if len({link.name for link in self.links}) != len(self.links):
            raise ServiceError("two links have the same ends")
        if not self.links:
            raise ServiceError("there are no links")
        if self.full not in _FULL:
            raise ServiceError(f"full is {self.full!r}; choose wait or drop")
        if not isinstance(self.queue, int) or self.queue < 1024:
            raise ServiceError(f"queue is {self.queue!r}; it must be 1024 samples or more")
        if not self.patience_s > 0:
            raise ServiceError(f"patience_s is {self.patience_s!r}; it must be above 0")
        if len({link.settings.sample_rate for link in self.links}) != 1:
            raise ServiceError("all links must have the same sample_rate")
        places = [place for radio in self.radios for place in (radio.tx, radio.rx) if place]
        for address in (self.control, *(place.address for place in places if place.binds)):
            if address:
                check_private(address, bool(self.keys), self.without_keys)

    @classmethod
    def load(cls, path: str | Path, **over: Any) -> EmulatorConfig:
        """Read a YAML file.

        Args:
            path: The file: ``radios``, ``links``, ``defaults`` for all links, and the attributes above.
            over: Attributes that the caller knows better.

        Raises:
            ServiceError: If it cannot be read, or has a key or value that is none.
            ChannelError: If a setting of a link is out of range.
        """
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ServiceError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
        try:
            return cls.of(content, **over)
        except (ServiceError, ChannelError) as error:
            raise type(error)(f"{path}: {error}") from None

    @classmethod
    def of(cls, content: Any, **over: Any) -> EmulatorConfig:
        """Of what a YAML file holds.

        Raises:
            ServiceError: If it has a key or value that is none.
            ChannelError: If a setting of a link is out of range.
        """
        options = {each.name for each in fields(cls) if each.init} - {"radios", "links"}
        _check_keys(content, {"radios", "links", "defaults"} | options, "the configuration")
        given = {name: content[name] for name in options if name in content} | over
        radios, links, defaults = (content.get(name) for name in ("radios", "links", "defaults"))
        if not isinstance(radios, dict) or not isinstance(links, list):
            raise ServiceError("radios must be a mapping of names, and links a list")
        return cls(
            tuple(_radio(str(name), radio) for name, radio in radios.items()),
            tuple(_link(link, defaults or {}) for link in links),
            **given,
        )


def _radio(name: str, content: Any) -> Radio:
    _check_keys(content, {"tx", "rx"}, f"radio {name}")
    places = {
        way: Place.parse(str(content[way]), forms) for way, forms in (("tx", SOURCES), ("rx", SINKS)) if way in content
    }
    return Radio(name, **places)


def _link(content: Any, defaults: Any) -> Link:
    settings = {each.name for each in fields(ChannelSettings)}
    _check_keys(content, {"from", "to"} | settings, "a link")
    _check_keys(defaults, settings, "defaults")
    if not {"from", "to"} <= content.keys():
        raise ServiceError("a link needs from and to")
    own = {name: value for name, value in content.items() if name not in ("from", "to")}
    return Link(str(content["from"]), str(content["to"]), ChannelSettings().changed(**from_plain(defaults | own)))


def from_plain(values: dict[str, Any]) -> dict[str, Any]:
    """Settings as YAML and JSON hold them, which have no complex numbers: these come as text.

    Raises:
        ServiceError: If one is none.
    """
    return {name: _complex(value) if name in _COMPLEX else value for name, value in values.items()}


def to_plain(values: dict[str, Any]) -> dict[str, Any]:
    """Undo :func:`from_plain`."""
    plain = dict(values)
    for name in _COMPLEX & values.keys():
        plain[name] = [str(part) for part in values[name]] if name == "taps" else str(values[name])
    return plain


def _complex(value: Any) -> Any:
    try:
        if isinstance(value, list):
            return tuple(complex(part) for part in value)
        return complex(value)
    except (TypeError, ValueError):
        raise ServiceError(f"{value!r} is no complex number; write it like 0.5-0.2j") from None


def _check_keys(content: Any, known: set[str], where: str) -> None:
    if not isinstance(content, dict):
        raise ServiceError(f"{where} must be a mapping, not {type(content).__name__}")
    unknown = [str(name) for name in content if name not in known]
    if unknown:
        raise ServiceError(f"{where} has {unknown[0]!r}; it takes {', '.join(sorted(known))}")
