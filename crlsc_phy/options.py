"""Options from YAML, the command line and Python: read, checked by pydantic, and reported in plain words.

Options are dataclasses. What a field may be is said by its type, such as ``Annotated[float, Field(gt=0)]``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache, wraps
from importlib.abc import Traversable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import yaml
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs, ErrorDetails

from crlsc_phy.errors import CrlscError, brief
from crlsc_phy.scalars import as_json, plain

__all__ = ["Number", "Options", "checked", "one_of", "read_yaml"]

T = TypeVar("T")

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
# What pydantic says, in the words of YAML and of our messages.
_WORDS = {
    "an object": "a mapping of options",
    "a valid array": "a list",
    "a valid tuple": "a list",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid boolean": "true or false",
}
_BOUNDS = {
    "greater_than": "it must be above {gt:g}",
    "greater_than_equal": "it must be {ge:g} or more",
    "less_than": "it must be below {lt:g}",
    "less_than_equal": "it must be {le:g} or less",
    "too_short": "give {min_length} or more",
    "value_error": "{error}",
}
_LONGEST = 80
"""Characters of a value that a message repeats."""


class _Loader(yaml.SafeLoader):
    """YAML with the numbers of version 1.2: 1e-7 is a number, and 0:20:5 is text rather than 1205 seconds."""

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


def read_yaml(text: str, where: str, error: type[CrlscError]) -> Any:
    """Parse YAML with the numbers of version 1.2.

    Args:
        text: A document, or the value of an option on the command line.
        where: Where the text comes from; the error message begins with it.
        error: Raised if the text is not YAML.

    Returns:
        Mappings, lists, text, numbers, booleans, dates and None.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as fault:
        raise error(f"{where}: not YAML ({brief(fault)})") from None


def _number(value: Any) -> Any:
    """A complex number that may be text, which is all that YAML and JSON have for it."""
    try:
        if isinstance(value, str | int | float | complex) and not isinstance(value, bool):
            return complex(value)
    except (ValueError, OverflowError):
        pass
    raise ValueError("it must be a complex number such as 0.5-0.2j")


Number = Annotated[complex, BeforeValidator(_number), Field(strict=False)]
"""Type of a complex option: a number, or text such as ``0.5-0.2j``."""


def one_of(names: Iterable[str]) -> AfterValidator:
    """Return a validator for ``Annotated[str, ...]`` that refuses text other than ``names``."""

    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"choose one of {', '.join(name or repr(name) for name in names)}")
        return value

    return AfterValidator(check)


def checked(error: type[CrlscError]) -> Callable[[type[T]], type[T]]:
    """Make the constructor of a frozen dataclass check its arguments against the types of the fields.

    Scalars and arrays of numpy or torch are taken as the numbers they hold. Checks of several fields together stay in
    ``__post_init__``.

    Args:
        error: Raised by the constructor, with a line for each wrong argument.
    """

    def decorate(kind: type[T]) -> type[T]:
        names = _names(kind)

        @wraps(kind.__init__)
        def init(self: T, /, *given: Any, **named: Any) -> None:
            values = {name: plain(value) for name, value in (*zip(names, given, strict=False), *named.items())}
            try:
                _adapter(kind).validator.validate_python(ArgsKwargs((), values), self_instance=self)  # type: ignore[arg-type]
            except ValidationError as faults:
                raise error(_told(kind, faults)) from None

        kind.__init__ = init  # type: ignore[assignment]
        return kind

    return decorate


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    # A dataclass alone takes no configuration from outside; as part of another type it does, and so do those in it.
    return TypeAdapter(kind | None, config=_STRICT)  # type: ignore[operator]


@dataclass(frozen=True)
class Options:
    """Reader of the options of one kind of work.

    Attributes:
        error: Raised if options are wrong: a line for each fault.
        example: A change on the command line that would do, for messages.
    """

    error: type[CrlscError]
    example: str

    def load(self, name: str | Path, shipped: Traversable, changes: Sequence[str] = ()) -> Any:
        """Read a YAML file and apply changes to it.

        Args:
            name: Path of the file, or the name of one in ``shipped`` without its suffix.
            shipped: Folder of the files that come with the package.
            changes: Changes such as ``encoder.loop.steps=10``; the value is YAML.

        Returns:
            The content of the file, a new empty mapping if it is empty.

        Raises:
            CrlscError: Of the kind ``error``, if the file is missing or not YAML, or a change cannot be applied.
        """
        known = shipped / f"{name}.yaml"
        try:
            text = known.read_text(encoding="utf-8") if known.is_file() else Path(name).read_text(encoding="utf-8")
        except OSError as error:
            raise self.error(f"{name}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise self.error(f"{name}: not YAML (the file is not UTF-8 text)") from None
        content = read_yaml(text, str(name), self.error)
        content = {} if content is None else content
        for change in changes:
            self._change(content, change)
        return content

    def _change(self, content: Any, change: str) -> None:
        path, equals, value = change.partition("=")
        if not equals:
            raise self.error(f"--set {change}: write OPTION=VALUE, such as {self.example}")
        *parents, key = path.split(".")
        for parent in parents:
            content = content.setdefault(parent, {}) if isinstance(content, dict) else None
        if not isinstance(content, dict):
            raise self.error(f"--set {change}: {'.'.join(parents)} has no options; it is a value itself")
        content[key] = read_yaml(value, f"--set {change}", self.error)

    def build(self, kind: type[T], content: Any, where: str) -> T:
        """Make a dataclass of plain mappings.

        Args:
            kind: The dataclass. Its fields may be dataclasses, or mappings and tuples of them.
            content: Mappings, lists, text and numbers as YAML and JSON have them.
            where: Where the content comes from; each line of an error message begins with it. May be empty.

        Raises:
            CrlscError: Of the kind ``error``, if a key is unknown or missing, or a value is of another type or out of
                range.
        """
        where = where and f"{where}: "
        if not isinstance(content, Mapping):
            raise self.error(f"{where}options must be a mapping, not {_shown(content)}")
        try:
            built: T = _adapter(kind).validate_json(json.dumps(content, default=as_json))  # type: ignore[arg-type]
        except ValidationError as faults:
            raise self.error(_told(kind, faults, where)) from None
        except (CrlscError, TypeError, ValueError, RecursionError) as error:
            raise self.error(f"{where}{error}") from None
        return built


def _told(kind: Any, faults: ValidationError, where: str = "") -> str:
    """A line for each fault: where it is, what was given, and what is allowed."""
    return "\n".join(where + _line(kind, fault) for fault in faults.errors(include_url=False))


def _line(kind: Any, fault: ErrorDetails) -> str:
    path = fault["loc"]
    name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
    if fault["type"] == "missing":
        return f"{name} is missing"
    if fault["type"] == "unexpected_keyword_argument":
        key, known = str(path[-1]), sorted(_names_at(kind, path[:-1]))
        near = get_close_matches(key, known)
        known = near + [each for each in known if each not in near]
        place = name.removesuffix(key).rstrip(".")
        return f"{place}{': ' if place else ''}unknown option {key!r}; choose one of {', '.join(known)}"
    if fault["type"] in _BOUNDS:
        allowed = _BOUNDS[fault["type"]].format(**fault["ctx"])
    else:
        allowed = fault["msg"].replace("Input should", "it must")
        for theirs, ours in _WORDS.items():
            allowed = allowed.replace(theirs, ours)
    return f"{name} is {_shown(fault['input'])}; {allowed}"


def _names_at(kind: Any, path: Iterable[int | str]) -> list[str]:
    """Names of the options of the dataclass that lies within ``kind`` at ``path``."""
    for step in path:
        if is_dataclass(kind):
            kind = get_type_hints(kind)[str(step)]
        else:
            kind = next(each for each in reversed(get_args(kind)) if each is not ...)
        if isinstance(kind, UnionType):
            kind = next(filter(is_dataclass, get_args(kind)))
    return _names(kind)


def _names(kind: Any) -> list[str]:
    return [each.name for each in fields(kind) if each.init]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
