"""Compiled code where nothing can be written."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import crlsc_phy

PROGRAM = """
from crlsc_phy.machine import compiled

@compiled(nogil=True)
def add(a, b):
    return a + b

assert add(1, 2) == 3
print(type(add._cache).__name__)
"""


def test_code_is_compiled_where_no_cache_can_be_written():
    """As in a container: the package belongs to another user, and there is no home."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "crlsc_phy"
        package.mkdir()
        for name in ("__init__.py", "machine.py"):
            shutil.copy(Path(crlsc_phy.__file__).parent / name, package)
        (Path(folder) / "program.py").write_text(PROGRAM)
        for path in (package, Path(folder)):
            path.chmod(0o555)
        nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": folder}
        done = subprocess.run(
            [sys.executable, f"{folder}/program.py"], env=environment, capture_output=True, text=True, **nobody
        )
        for path in (Path(folder), package):
            path.chmod(0o755)
    assert (done.stdout, done.stderr) == ("NullCache\n", "")
