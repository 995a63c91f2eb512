"""Options: numbers of YAML 1.2, dataclasses that check themselves, and one line for each fault."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import Field

from crlsc_phy.errors import CrlscError, SweepError
from crlsc_phy.options import Number, Options, checked, read_yaml
from crlsc_phy.scalars import as_json, plain

OPTIONS = Options(SweepError, "gain=2")


@dataclass(frozen=True)
class Part:
    steps: Annotated[int, Field(ge=1)] = 1
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Whole:
    rate: Annotated[float, Field(gt=0, le=1e12)]
    name: str = ""
    gain: Number = 1.0
    gains: tuple[Number, ...] = ()
    on: bool = False
    part: Part | None = None
    parts: Mapping[str, Part] = field(default_factory=dict)
    several: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        if self.on and not self.name:
            raise CrlscError("on needs a name")


@checked(SweepError)
@dataclass(frozen=True)
class Checked:
    rate: Annotated[float, Field(gt=0)] = 1.0
    counts: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("11.52e6", 11.52e6), ("1e-7", 1e-7), ("1E+7", 1e7), ("-.5", -0.5), ("1_000", 1000), ("0x1F", 31), ("0", 0),
        ("0:20:5", "0:20:5"), ("1e", "1e"), ("e6", "e6"), ("11.52e6 Hz", "11.52e6 Hz"), ("0.5-0.2j", "0.5-0.2j"),
        (".inf", float("inf")), ("true", True), ("~", None), ("'3'", "3"), ("2026-01-02", datetime.date(2026, 1, 2)),
    ],
)  # fmt: skip
def test_numbers_are_those_of_yaml_1_2(text, value):
    read = read_yaml(text, "here", SweepError)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("text", ["[", "a: b: c", "{a: 1", "2026-99-99", "!!python/object:os.system {}", "[" * 100_000])
def test_what_is_not_yaml_is_one_line(text):
    with pytest.raises(SweepError, match="^here: not YAML [^\n]*$"):
        read_yaml(text, "here", SweepError)


def test_mappings_become_dataclasses():
    content = {"rate": 1, "gain": "0.5-0.2j", "gains": [1, "2j"], "part": {"steps": 2}, "parts": {"x": {"kind": "b"}}}
    content |= {"several": [{"steps": 5}], "name": datetime.date(2026, 1, 2)}
    made = OPTIONS.build(Whole, content, "file")
    assert made == Whole(
        1.0, "2026-01-02", 0.5 - 0.2j, (1, 2j), part=Part(2), parts={"x": Part(kind="b")}, several=(Part(5),)
    )
    assert type(made.rate) is float
    arrays = OPTIONS.build(Whole, {"rate": np.float32(0.5), "gains": np.array([1, 2j])}, "file")
    assert arrays == Whole(0.5, gains=(1, 2j))


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ([], ["options must be a mapping, not []"]),
        ({}, ["rate is missing"]),
        ({"rate": 0}, ["rate is 0; it must be above 0"]),
        ({"rate": 2e12}, ["rate is 2000000000000.0; it must be 1e+12 or less"]),
        ({"rate": float("nan")}, ["rate is nan; it must be a finite number"]),
        ({"rate": True}, ["rate is True; it must be a number"]),
        ({"rate": "1"}, ["rate is '1'; it must be a number"]),
        ({"rate": 1, "on": 1}, ["on is 1; it must be true or false"]),
        ({"rate": 1, "on": True}, ["on needs a name"]),
        ({"rate": 1, "gain": "loud"}, ["gain is 'loud'; it must be a complex number such as 0.5-0.2j"]),
        ({"rate": 1, "gains": 3}, ["gains is 3; it must be a list"]),
        ({"rate": 1, "gians": 3}, [
            "unknown option 'gians'; choose one of gains, gain, name, on, part, parts, rate, several",
        ]),
        ({"rate": 1, "part": 3}, ["part is 3; it must be a mapping of options"]),
        ({"rate": 1, "part": {"stesp": 3}}, ["part: unknown option 'stesp'; choose one of steps, kind"]),
        ({"rate": 1, "parts": {"x": {"c": 3}}}, ["parts.x: unknown option 'c'; choose one of kind, steps"]),
        ({"rate": 1, "several": [{}, {"c": 3}]}, ["several[1]: unknown option 'c'; choose one of kind, steps"]),
        ({"rate": -1, "name": 5, "part": {"steps": 0, "kind": "c"}}, [
            "rate is -1; it must be above 0",
            "name is 5; it must be text",
            "part.steps is 0; it must be 1 or more",
            "part.kind is 'c'; it must be 'a' or 'b'",
        ]),
    ],
)  # fmt: skip
def test_each_fault_is_a_line_with_what_is_allowed(content, lines):
    with pytest.raises(SweepError) as caught:
        OPTIONS.build(Whole, content, "file")
    assert str(caught.value).splitlines() == [f"file: {line}" for line in lines]


def test_a_key_that_is_no_text_is_refused():
    with pytest.raises(SweepError, match="^file: keys must be str"):
        OPTIONS.build(Whole, {"rate": 1, datetime.date(2026, 1, 2): 5}, "file")


def test_a_value_that_is_long_is_cut_short():
    with pytest.raises(SweepError) as caught:
        OPTIONS.build(Whole, {"rate": "1" * 10_000}, "file")
    assert len(str(caught.value)) < 200


def test_a_checked_class_checks_what_it_is_made_of():
    assert Checked(np.int64(3), np.array([1, 2])) == Checked(rate=3.0, counts=[1, 2]) == Checked(3.0, (1, 2))
    assert repr(Checked()) == "Checked(rate=1.0, counts=())"
    with pytest.raises(
        SweepError, match="rate is -1; it must be above 0\nunknown option 'count'; choose one of counts"
    ):
        Checked(-1, count=3)
    with pytest.raises(SweepError, match="unknown option 'self'"):
        Checked(**{"self": 1})


def test_scalars_and_arrays_become_plain():
    torch = pytest.importorskip("torch")
    for given, value in (
        (np.float16(0.5), 0.5), (np.longdouble(0.5), 0.5), (np.uint8(3), 3), (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array([[1, 2]]), ((1, 2),)), ([np.int8(1), (np.complex64(2j),)], (1, (2j,))), (torch.tensor([1.0]), (1.0,)),
        (torch.tensor(2), 2), (None, None), ({"a": 1}, {"a": 1}),
    ):  # fmt: skip
        assert plain(given) == value
        assert type(plain(given)) is type(value)
    assert as_json(np.arange(2)) == (0, 1)
    assert as_json(np.complex64(2j)) == as_json(2j) == "2j"


def test_a_terminal_that_encodes_needs_no_library_of_options():
    """They would take a tenth of a second of its start."""
    program = "import sys, crlsc_phy.codec, crlsc_phy.phy.modem; print('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
