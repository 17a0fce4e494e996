"""The wheel and the source distribution can be built, and installed in a new environment.

Both are built from a copy of the sources, without isolation: the setuptools of this environment
builds them, so that no network is needed.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from cqlproto._version import __version__

ROOT = Path(__file__).parent.parent
BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, sys.argv[1])(sys.argv[2]))
"""
USE = """
import importlib.metadata, pathlib, sys
import cqlproto, cqlproto_anyio, cqlproto_anyio.policies, cqlproto.rows
for package in (cqlproto, cqlproto_anyio):
    assert pathlib.Path(package.__file__).is_relative_to(sys.argv[1]), package.__file__
    assert pathlib.Path(package.__file__).with_name("py.typed").exists()
print(importlib.metadata.version("cqlproto"), cqlproto.__version__)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a Python program and return its last line."""
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout.rstrip("\n").rpartition("\n")[2]


def modules(root: Path) -> set[str]:
    """Return the packages' files below a folder, as paths relative to it."""
    found = {*root.rglob("*.py"), *root.rglob("py.typed")}
    return {str(path.relative_to(root)) for path in found if "__pycache__" not in path.parts}


def build(kind: str, source: Path, folder: Path) -> Path:
    folder.mkdir()
    return folder / run("-c", BUILD, f"build_{kind}", folder, cwd=source)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the files that a distribution is built from."""
    copied = tmp_path_factory.mktemp("distributions") / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", copied / "src", ignore=ignored)
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, copied)
    return copied


@pytest.mark.parametrize("way", ["wheel", "sdist"])
def test_it_is_installed_and_imported(source: Path, tmp_path: Path, way: str) -> None:
    """Test the wheel, and a wheel built from the source distribution."""
    if way == "sdist":
        packed = build("sdist", source, tmp_path / "sdist")
        assert packed.name == f"cqlproto-{__version__}.tar.gz"
        with tarfile.open(packed) as archive:
            archive.extractall(tmp_path, filter="data")
        unpacked = tmp_path / packed.name.removesuffix(".tar.gz")
        assert (unpacked / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
        assert modules(unpacked / "src") == modules(source / "src")
        source = unpacked
    wheel = build("wheel", source, tmp_path / "wheel")
    assert wheel.name == f"cqlproto-{__version__}-py3-none-any.whl"
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--no-deps", "--no-index", "--target", site, wheel, cwd=tmp_path)
    assert modules(site) == modules(source / "src")
    # The new environment has no packages: the program adds this environment's dependencies.
    needed = Path(str(importlib.metadata.distribution("anyio").locate_file("")))
    program = f"import sys; sys.path[:0] = [{str(site)!r}]; sys.path.append({str(needed)!r})\n"
    used = run("-I", "-S", "-c", program + USE, site, cwd=tmp_path)
    assert used == f"{__version__} {__version__}"
