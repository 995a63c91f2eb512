"""Show GNU Radio's modules, and only those, to a virtual environment.

Run by the interpreter that GNU Radio was built for, with the environment's site-packages folder as argument:

    /usr/bin/python3 -I scripts/expose_gnuradio.py .venv/lib/python3.11/site-packages

Links rather than --system-site-packages: an environment open to all of the system's packages takes the system's
numpy, PyYAML or matplotlib where it lacks one, so that what it holds depends on the machine. Links rather than a .pth
file: a .pth can only add whole folders. What pip can bring (Mako, PyYAML, numpy, ...) is not linked.
"""

import importlib.util
import sys
from pathlib import Path

REQUIRED = ("gnuradio", "pmt")
# GNU Radio Companion draws with gi and cairo. GNU Radio's Qt sinks are compiled against the system's Qt, so a PyQt5
# from pip, which brings a Qt of its own, would crash beside them. The last two are radios' modules outside GNU Radio.
OPTIONAL = ("gi", "cairo", "PyQt5", "sip", "uhd", "osmosdr")


def expose(name: str, site_packages: Path) -> bool:
    """Link the top-level module ``name`` into ``site_packages``; False if this interpreter has no such module."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return False
    source = Path(spec.origin)
    if spec.submodule_search_locations is not None:
        source = source.parent
    link = site_packages / source.name
    if link.is_symlink():
        link.unlink()
    if not link.exists():
        link.symlink_to(source)
    return True


def main() -> int:
    """Link every module that there is; returns 1 if one that is required is not there."""
    if len(sys.argv) != 2:
        print("usage: expose_gnuradio.py SITE_PACKAGES", file=sys.stderr)
        return 2
    site_packages = Path(sys.argv[1])
    if not site_packages.is_dir():
        print(f"ERROR: {site_packages} is not a folder; give the environment's site-packages", file=sys.stderr)
        return 2
    found = [name for name in REQUIRED + OPTIONAL if expose(name, site_packages)]
    print("linked", *found)
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        print(f"ERROR: {sys.executable} has no {', '.join(missing)}; install GNU Radio for it", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
