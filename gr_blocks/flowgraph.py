"""Compilation of GNU Radio Companion files without a screen."""

from __future__ import annotations

import importlib.util
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from gnuradio import gr

from crlsc_phy.errors import CrlscError

__all__ = ["FlowgraphError", "load_flowgraph"]

BLOCKS = Path(__file__).parent
_WITHOUT_OBJECT = ("import", "note", "snippet")


class FlowgraphError(CrlscError):
    """A Companion file is missing, or does not compile to a flowgraph."""


def load_flowgraph(grc: Path, build: Path) -> Any:
    """Compile the Companion file ``grc`` to a program in the folder ``build``, and return the class of its top block.

    The constructor of the class takes the parameters of the flowgraph. The first compilation of a process takes
    seconds, because GNU Radio reads the descriptions of all blocks.

    Raises:
        FlowgraphError: If the file does not exist or does not compile.
    """
    if not grc.is_file():
        raise FlowgraphError(f"{grc}: no such flowgraph; run from a checkout of crlsc-phy")
    program = _compile(grc, build)
    spec = importlib.util.spec_from_file_location(grc.stem, program)
    if spec is None or spec.loader is None or program.stem != grc.stem:
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


def _compile(grc: Path, build: Path) -> Path:
    """Compile a Companion file as GNU Radio's ``grcc`` does, and return the program."""
    # The grcc program itself runs under the system's Python, which does not see this environment's packages.
    from gnuradio.grc.core import Messages

    try:
        build.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FlowgraphError(f"{build}: cannot be made ({error.strerror}); set CRLSC_BUILD to a folder") from None
    said: list[str] = []
    talkative, Messages.MESSENGERS_LIST[:] = list(Messages.MESSENGERS_LIST), [said.append]
    try:
        _, program = _platform().load_and_generate_flow_graph(str(grc.resolve()), str(build.resolve()))
    finally:
        Messages.MESSENGERS_LIST[:] = talkative
    if program is None:
        lines = filter(None, (line.strip(" *") for line in "".join(said).splitlines()))
        raise FlowgraphError(f"{grc}: does not compile: {' | '.join(list(lines)[-4:])}")
    return Path(program)


@lru_cache(maxsize=1)
def _platform() -> Any:
    """Return GNU Radio's compiler with its own blocks, those of ``GRC_BLOCKS_PATH`` and ours."""
    from gnuradio.grc.core import Constants
    from gnuradio.grc.core.platform import Platform

    platform = Platform(
        name="GNU Radio Companion Compiler",
        prefs=gr.prefs(),
        version=gr.version(),
        version_parts=(gr.major_version(), gr.api_version(), gr.minor_version()),
    )
    cache = Path(Constants.CACHE_FILE)
    try:
        # GNU Radio insists on a cache in the home folder, which may not be writable.
        cache.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache.parent).close()
    except OSError:
        Constants.CACHE_FILE = str(Path(tempfile.mkdtemp(prefix="crlsc-grc-")) / cache.name)
    # Ours may be in GRC_BLOCKS_PATH too, as `make` sets it; GNU Radio complains of each block that it reads twice.
    others = [path for path in platform.config.block_paths if not BLOCKS.samefile(path)]
    platform.build_library([str(BLOCKS), *others])
    return platform


def _left_out(grc: Path, program: str) -> list[str]:
    """Return the blocks that are not in the program: the compiler drops unknown ones without complaint."""
    blocks = yaml.safe_load(grc.read_text(encoding="utf-8"))["blocks"]
    return [
        f"{block['name']} ({block['id']})"
        for block in blocks
        if block["id"] not in _WITHOUT_OBJECT
        and block["states"]["state"] == "enabled"
        and f"self.{block['name']} = " not in program
    ]
