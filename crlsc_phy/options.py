"""Options of long work: validated dataclasses from YAML and from changes on the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib.abc import Traversable
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

from crlsc_phy.errors import CrlscError

__all__ = ["Options"]

T = TypeVar("T")


_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"


class _Loader(yaml.SafeLoader):
    """YAML with the numbers of version 1.2: 1e-7 is one, and 0:20:5 is no 1205 seconds but a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INT, _FLOAT)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(_INT, re.compile(r"^[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"^([-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+.0123456789"),
)


@dataclass(frozen=True)
class Options:
    """Reads options, and says what is wrong with them in one line.

    Attributes:
        error: What is raised.
        example: A change that would do, for messages.
    """

    error: type[CrlscError]
    example: str

    def load(self, name: str | Path, shipped: Traversable, changes: Sequence[str] = ()) -> Any:
        """What a YAML file holds, with changes.

        Args:
            name: The file, or the name of one in ``shipped``.
            shipped: The folder of those that come with the package.
            changes: Such as ``encoder.loop.steps=10``; the value is YAML.

        Raises:
            CrlscError: Of the kind ``error``, if the file is missing or not YAML, or a change is none.
        """
        known = shipped / f"{name}.yaml"
        try:
            text = known.read_text(encoding="utf-8") if known.is_file() else Path(name).read_text(encoding="utf-8")
        except OSError as error:
            raise self.error(f"{name}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise self.error(f"{name}: not YAML (it is no UTF-8 text)") from None
        content = self._parsed(text, str(name))
        content = {} if content is None else content
        for change in changes:
            self._change(content, change)
        return content

    def _parsed(self, text: str, where: str) -> Any:
        try:
            return yaml.load(text, _Loader)
        except yaml.YAMLError as error:
            raise self.error(f"{where}: not YAML ({' '.join(str(error).split())})") from None

    def _change(self, content: Any, change: str) -> None:
        path, equals, value = change.partition("=")
        if not equals:
            raise self.error(f"--set {change}: must be OPTION=VALUE, such as {self.example}")
        *parents, key = path.split(".")
        for parent in parents:
            content = content.setdefault(parent, {}) if isinstance(content, dict) else None
        if not isinstance(content, dict):
            raise self.error(f"--set {change}: {path} lies in no mapping of options")
        content[key] = self._parsed(value, f"--set {change}")

    def build(self, kind: type[T], content: Any, where: str) -> T:
        """A dataclass from plain mappings; ``where`` they are from is for messages.

        Raises:
            CrlscError: Of the kind ``error``, if a key or a type is wrong.
        """
        if not isinstance(content, dict):
            raise self.error(f"{where}: must be a mapping of options")
        types = get_type_hints(kind)
        known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
        values: dict[str, Any] = {}
        for key, value in content.items():
            if key not in known:
                raise self.error(f"{where}: unknown option {key!r}; known are {', '.join(sorted(known))}")
            values[key] = self._value(types[key], value, where, key)
        for key, item in known.items():
            if key not in values and item.default is MISSING and item.default_factory is MISSING:
                raise self.error(f"{where}: {key} is missing")
        return kind(**values)

    def _value(self, wanted: Any, value: Any, where: str, key: str) -> Any:
        if wanted is Any:
            return value
        if isinstance(wanted, UnionType):
            return None if value is None else self._value(get_args(wanted)[0], value, where, key)
        if is_dataclass(wanted):
            return self.build(wanted, value, f"{where}: {key}")  # type: ignore[arg-type]
        if get_origin(wanted) is Literal:
            if value not in get_args(wanted):
                raise self.error(f"{where}: {key} is {value!r}; choose one of {', '.join(map(repr, get_args(wanted)))}")
            return value
        if get_origin(wanted) is tuple:
            if not isinstance(value, list):
                raise self.error(f"{where}: {key} is {value!r}; it must be a list")
            return tuple(self._value(get_args(wanted)[0], part, where, key) for part in value)
        if get_origin(wanted) is not None:
            if not isinstance(value, dict):
                raise self.error(f"{where}: {key} must be a mapping of names")
            wanted = get_args(wanted)[1]
            return {str(name): self._value(wanted, part, f"{where}: {key}", name) for name, part in value.items()}
        return self._plain(wanted, value, where, key)

    def _plain(self, wanted: Any, value: Any, where: str, key: str) -> Any:
        if wanted is float and type(value) is int:
            return float(value)
        if wanted is complex and isinstance(value, (int, float, str)):
            # YAML has no complex numbers: they come as text.
            try:
                return complex(value)
            except ValueError:
                raise self.error(f"{where}: {key} is {value!r}; write a complex number like 0.5-0.2j") from None
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise self.error(f"{where}: {key} is {value!r}; it must be {wanted.__name__}")
        return value
