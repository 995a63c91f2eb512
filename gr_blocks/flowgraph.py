"""Companion files to flowgraphs, without a screen."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from crlsc_phy.errors import CrlscError

__all__ = ["FlowgraphError", "load_flowgraph"]

BLOCKS = Path(__file__).parent
_WITHOUT_OBJECT = ("import", "note", "snippet")


class FlowgraphError(CrlscError):
    """A Companion file is missing, or does not make a flowgraph."""


def load_flowgraph(grc: Path, build: Path) -> Any:
    """Compile a Companion file and import what comes of it.

    Args:
        grc: The ``.grc`` file.
        build: Folder for the Python program.

    Returns:
        The class of the top block; its constructor takes the parameters of the flowgraph.

    Raises:
        FlowgraphError: If there is no such file or it does not compile.
    """
    if not grc.is_file():
        raise FlowgraphError(f"{grc}: no such flowgraph; run from a checkout of crlsc-phy")
    paths = filter(None, os.environ.get("GRC_BLOCKS_PATH", "").split(os.pathsep))
    # The grcc program runs under the system's Python, which does not see this environment's packages.
    child = subprocess.run(
        [sys.executable, "-c", "from gnuradio.grc.compiler import main; main()", "-o", str(build), str(grc)],
        env=os.environ | {"GRC_BLOCKS_PATH": os.pathsep.join([str(BLOCKS), *paths])},
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        lines = [line.strip() for line in f"{child.stdout}\n{child.stderr}".splitlines() if line.strip()]
        raise FlowgraphError(f"{grc}: does not compile: {' | '.join(lines[-4:])}")
    program = build / f"{grc.stem}.py"
    spec = importlib.util.spec_from_file_location(grc.stem, program)
    if spec is None or spec.loader is None or not program.is_file():
        raise FlowgraphError(f"{grc}: its options id is not {grc.stem!r}, the name of the file")
    missing = _left_out(grc, program.read_text(encoding="utf-8"))
    if missing:
        raise FlowgraphError(f"{grc}: GNU Radio does not know {', '.join(missing)}; update it, or set GRC_BLOCKS_PATH")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        # An empty parameter compiles to blk(gain=) without complaint.
        raise FlowgraphError(
            f"{grc}: compiles to a program with an error in line {error.lineno}: {error.text}"
        ) from None
    return getattr(module, grc.stem)


def _left_out(grc: Path, program: str) -> list[str]:
    """The blocks that are not in the program: the compiler drops unknown ones without complaint."""
    blocks = yaml.safe_load(grc.read_text(encoding="utf-8"))["blocks"]
    return [
        f"{block['name']} ({block['id']})"
        for block in blocks
        if block["id"] not in _WITHOUT_OBJECT
        and block["states"]["state"] == "enabled"
        and f"self.{block['name']} = " not in program
    ]
