"""``python -m crlsc_phy.cli.doctor``: check what is installed, and whether it works together in one process.

The module itself imports only the standard library, because the parts that it checks may be missing, or may crash at
import. GNU Radio, torch and the others are imported together, in the order of ``PARTS``, in a process of their own: a
numpy with another ABI than GNU Radio's ends that process instead of raising an exception.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec

from crlsc_phy.cli.verbs import accept_any_text

__all__ = ["Check", "Part", "diagnose", "main", "try_together"]

TIMEOUT_S = 300

SETUP = "run make setup"
_ANEW = f"remove the environment's folder and {SETUP}"
_SIONNA = sys.version_info >= (3, 11)
_NO_SIONNA = "it needs Python 3.11 or newer; everything but its channels works"


@dataclass(frozen=True, slots=True)
class Part:
    """A library that the project needs.

    Attributes:
        name: Its usual name.
        module: Its top-level module.
        distribution: Its name in pip's records; None for GNU Radio, which pip does not install.
        together: Whether it is imported in the joint process.
        required: Whether the project is broken without it.
        remedy: What to do when it is missing.
    """

    name: str
    module: str
    distribution: str | None
    together: bool = False
    required: bool = True
    remedy: str = SETUP


PARTS = (
    Part("numpy", "numpy", "numpy", together=True),
    Part("GNU Radio", "gnuradio.gr", None, together=True, remedy=f"{SETUP}, or see docs/install.md"),
    Part("torch", "torch", "torch", together=True),
    Part("torchvision", "torchvision", "torchvision", together=True),
    Part(
        "Sionna", "sionna.phy", "sionna-no-rt", together=True, required=_SIONNA, remedy=SETUP if _SIONNA else _NO_SIONNA
    ),
    Part("faiss", "faiss", "faiss-cpu", together=True),
    Part("open_clip", "open_clip", "open_clip_torch", together=True),
    Part("onnxruntime", "onnxruntime", "onnxruntime", together=True),
    Part("scipy", "scipy", "scipy", together=True),
    Part("numba", "numba", "numba", together=True),
    Part("safetensors", "safetensors", "safetensors"),
    Part("Pillow", "PIL", "pillow"),
    Part("lightning", "lightning", "lightning"),
    Part("timm", "timm", "timm"),
    Part("onnx", "onnx", "onnx"),
    Part("pyzmq", "zmq", "pyzmq", required=False),
    Part("Mako", "mako", "mako", required=False),
    Part("pytest", "pytest", "pytest", required=False),
)

# Each import announces itself, so that the last name printed is the one that a crash belongs to.
_TOGETHER = """
import importlib, sys
for module in sys.argv[1:]:
    print(module, flush=True)
    importlib.import_module(module)
if "gnuradio.gr" in sys.argv:
    from gnuradio import gr
    print("GNU Radio", gr.version(), flush=True)
if "sionna.phy" in sys.argv:
    print("sionna.phy", flush=True)
    import torch
    from sionna.phy.channel.tr38901 import TDL
    from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder
    bits = torch.randint(0, 2, (1, 64)).float()
    encoder = LDPC5GEncoder(64, 128)
    sent = encoder(bits)
    assert torch.equal(LDPC5GDecoder(encoder, num_iter=2)(8 * sent - 4), bits), "LDPC round trip differs"
    gains, _ = TDL("A", 100e-9, 3.5e9)(batch_size=1, num_time_steps=2, sampling_frequency=1e6)
    assert gains.isfinite().all(), "TDL-A has gains that are not finite"
print("ok", flush=True)
"""


@dataclass(frozen=True, slots=True)
class Check:
    """The result for one part, or for all parts together.

    Attributes:
        name: The part's name.
        ok: Whether it works.
        found: Its version, or the duration of the joint process.
        required: Whether the project is broken if it fails.
        problem: One line that says what is wrong and what to do; empty when ``ok``.
    """

    name: str
    ok: bool
    found: str
    required: bool = True
    problem: str = ""


def try_together(modules: list[str], code: str = _TOGETHER) -> tuple[list[str], str]:
    """Import ``modules`` in a new process that runs ``code``, and let Sionna encode a code word and draw a channel.

    Returns:
        The lines that the process printed, and one line that says what ended it early (empty if nothing did).
    """
    try:
        result = subprocess.run(
            [sys.executable, "-c", code, *modules], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return [], f"no answer within {TIMEOUT_S} s"
    lines = result.stdout.splitlines()
    if result.returncode == 0:
        return lines, ""
    where = lines[-1] if lines else "Python"
    if result.returncode < 0:
        return lines, f"{where} crashed (signal {-result.returncode})"
    last = result.stderr.strip().splitlines()[-1:] or [f"exit status {result.returncode}"]
    return lines, f"{where}: {last[0]}"


def diagnose() -> list[Check]:
    """Check every part, then all of them together.

    Returns:
        A check for Python, one for each of ``PARTS`` in order, and one for the joint process.
    """
    versions = {part.name: _version(part) for part in PARTS}
    present = [part.module for part in PARTS if part.together and versions[part.name]]
    start = time.monotonic()
    lines, problem = try_together(present)
    seconds = time.monotonic() - start
    for line in lines:
        if line.startswith("GNU Radio "):
            versions["GNU Radio"] = line.removeprefix("GNU Radio ")
    checks = [Check("Python", True, platform.python_version())]
    for part in PARTS:
        version = versions[part.name]
        absent = "" if version else f"{part.name} is not installed for {sys.executable}; {part.remedy}"
        checks.append(Check(part.name, bool(version), version or "missing", part.required, absent))
    if problem:
        clash = "gnuradio" in problem or "numpy" in problem
        remedy = "GNU Radio needs the numpy that it was built for; make setup chooses it"
        problem = f"importing all in one process fails: {problem}; {remedy if clash else _ANEW}"
    checks.append(Check("together", not problem, f"{len(present)} modules in {seconds:.0f} s", problem=problem))
    return checks


def _version(part: Part) -> str:
    if part.distribution is None:
        # Its version is known only after its import, which happens in the joint process.
        return "present" if find_spec(part.module.partition(".")[0]) else ""
    try:
        return metadata.version(part.distribution)
    except metadata.PackageNotFoundError:
        return ""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 1 if a required part is missing or does not work, else 0."""
    parser = argparse.ArgumentParser(
        prog="doctor", description="Check what is installed, and whether it works together."
    )
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")
    accept_any_text()
    options = parser.parse_args(arguments)
    checks = diagnose()
    healthy = all(check.ok for check in checks if check.required)
    if options.json:
        report = {(row := asdict(check)).pop("name"): row for check in checks}
        print(json.dumps({"ok": healthy, "checks": report}, indent=2))
        return 0 if healthy else 1
    for check in checks:
        mark = "ok" if check.ok else "FAIL" if check.required else "-"
        print(f"{check.name:<14}{check.found:<24}{mark}")
    for check in checks:
        if check.problem:
            print(f"{'' if check.required else 'optional: '}{check.problem}")
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main())
