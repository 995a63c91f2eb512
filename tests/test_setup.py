from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


@pytest.fixture
def checkout(tmp_path):
    """What set-up needs of a checkout, so that a test cannot touch the environment of the real one."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in ("scripts", "requirements"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture
def bare_python(tmp_path):
    """A Python that has no GNU Radio."""
    venv.create(tmp_path / "bare", symlinks=True)
    return tmp_path / "bare/bin/python"


@pytest.fixture
def path_without_apt(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "cat", "cut", "dirname", "flock", "grep", "head", "id", "ls", "mkdir", "sha256sum", "tail"):
        (folder / name).symlink_to(shutil.which(name))
    return str(folder)


def run_setup(checkout, *arguments, **environment):
    return subprocess.run(
        [checkout / "scripts/setup.sh", *arguments],
        env={"PATH": os.environ["PATH"], **{name: str(value) for name, value in environment.items()}},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_gnuradio_and_no_apt_is_one_line(checkout, bare_python, path_without_apt):
    result = run_setup(checkout, GR_PYTHON=bare_python, PATH=path_without_apt)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert re.match(r"setup: .* lacks gnuradio.*there is no apt-get here.*docs/install.md", result.stderr)
    assert not (checkout / ".venv").exists()


def test_a_foreign_environment_is_left_as_it_stands(checkout, bare_python):
    folder = bare_python.parents[1]
    before = sorted(folder.rglob("*"))
    result = run_setup(checkout, VENV=folder)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "lacks gnuradio pmt numpy" in result.stderr
    assert sorted(folder.rglob("*")) == before


def test_an_environment_that_has_all_is_used(checkout):
    result = run_setup(checkout, VENV=sys.prefix)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"using {sys.prefix} as it stands" in result.stdout


def test_a_folder_that_is_no_environment_is_not_touched(checkout, tmp_path):
    precious = tmp_path / "photos/cat.jpg"
    precious.parent.mkdir()
    precious.write_text("a cat")
    result = run_setup(checkout, VENV=precious.parent)
    assert result.returncode == 1
    assert "is not a Python environment" in result.stderr
    assert precious.read_text() == "a cat"


def expose(folder):
    pytest.importorskip("gnuradio", reason="GNU Radio is not importable here; `make setup` installs it")
    return subprocess.run(
        [os.environ.get("GR_PYTHON", "/usr/bin/python3"), "-I", ROOT / "scripts/expose_gnuradio.py", folder],
        capture_output=True,
        text=True,
        check=False,
    )


def test_only_gnuradio_is_exposed_and_twice_is_as_once(tmp_path):
    for _ in range(2):
        result = expose(tmp_path)
        assert result.returncode == 0, result.stderr
    names = {path.name.partition(".")[0] for path in tmp_path.iterdir()}
    assert {"gnuradio", "pmt"} <= names <= {"gnuradio", "pmt", "gi", "cairo", "PyQt5", "sip", "uhd", "osmosdr"}
    assert all(path.is_symlink() for path in tmp_path.iterdir())


def test_what_pip_installed_is_not_replaced(tmp_path):
    own = tmp_path / "pmt/__init__.py"
    own.parent.mkdir()
    own.write_text("")
    assert expose(tmp_path).returncode == 0
    assert not own.parent.is_symlink()


def make(*arguments):
    """Run make as from a shell, also when the tests themselves were started by make."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout


def read_constraints(path):
    """Every line of a constraints file as a requirement, those of the files that it includes first."""
    for line in path.read_text().splitlines():
        if line.startswith("-c "):
            yield from read_constraints(path.parent / line[3:])
        elif line and not line.startswith("#"):
            yield Requirement(line)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("constraints", ["numpy1.txt", "numpy2.txt"])
def test_every_dependency_is_pinned_once_within_its_bounds(constraints, python):
    environment = {"python_version": python, "python_full_version": f"{python}.1"}
    pins: dict[str, str] = {}
    for pin in read_constraints(ROOT / "requirements" / constraints):
        if pin.marker is None or pin.marker.evaluate(environment):
            name = canonicalize_name(pin.name)
            assert name not in pins
            (pins[name],) = (specifier.version for specifier in pin.specifier)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = ("train", "sweep", "baselines", "evidence", "gnuradio", "milvus", "net", "dev")
    needed = (extras[extra] for extra in names)
    wanted = [*project["dependencies"], *chain.from_iterable(needed)]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if f"{requirement.specifier}".startswith("=="):
            continue
        assert name in pins, f"{name} has no pin in requirements/"
        assert requirement.specifier.contains(pins[name]), f"{name} {pins[name]} is not {requirement.specifier}"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["--out", "out/demo"]),
        (["SNR=5", "SEED=3"], ["--snr", "5", "--out", "out/demo", "--seed", "3"]),
        (["IMAGES=my photos", "OUT=a b"], ["--images", "my photos", "--out", "a b"]),
    ],
)
def test_demo_passes_on_what_is_given(options, expected):
    command = shlex.split(make("-n", "demo", *options).replace("\\\n", " "))
    assert command[command.index("crlsc_phy.cli.demo") + 1 :] == expected


def test_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert [line.split()[0] for line in make().splitlines()] == phony.split()


def test_ci_runs_lint_and_tests():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-2:] == ["make lint", "make test"]


def test_without_apt_the_tests_run_with_what_is_there(checkout, path_without_apt):
    for name in ("python3", "env"):
        (Path(path_without_apt) / name).symlink_to(shutil.which(name))
    result = run_setup(checkout, "tests", VENV=sys.prefix, PATH=path_without_apt)
    assert (result.returncode, result.stderr) == (0, "")
    assert "there is no apt-get here" in result.stdout
    assert "tests that need chromium chromium-driver" in result.stdout


def test_an_unknown_argument_of_setup_is_one_line(checkout):
    result = run_setup(checkout, "test")
    assert result.returncode == 1
    assert result.stderr == "setup: 'test' is not an argument; give none, or tests\n"
