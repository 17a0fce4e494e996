"""tools/*.sh find a usable Python, or print which Pythons there are and what to install."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
HEADLINE = "No CPython 3.11 or later that can create virtual environments was found:"
REMEDY = (
    "Install one (Debian 12 or later: apt install python3 python3-venv; elsewhere pyenv has it),"
    " or pass make PYTHON=.."
)
NEWER = """import sys
sys.version_info = ({}, {}, 0)
"""
NO_ENSUREPIP = "import sys\nsys.modules['ensurepip'] = None\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is all of PATH, with the programs that the scripts use."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "sed", "dirname", "rm"):
        found = next(Path(each, name) for each in ("/bin", "/usr/bin") if Path(each, name).exists())
        (folder / name).symlink_to(found)
    return folder


def add_python(folder: Path, name: str, first: str) -> None:
    """Add a Python that runs `first` before the script of ``-c``."""
    program = folder / name
    run = f"{first}import sys; script = sys.argv.pop(1); sys.argv[0] = '-c'; exec(script)"
    program.write_text(
        f'#!/bin/sh\nshift; exec {shlex.quote(sys.executable)} -c {shlex.quote(run)} "$@"\n'
    )
    program.chmod(0o755)


def script(folder: Path, name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(folder), "HOME": str(folder)}
    command = [folder / "sh", ROOT / "tools" / name, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def nothing(folder: Path) -> str:
    return "there is no python3 on PATH"


def too_old(folder: Path) -> str:
    add_python(folder, "python3", NEWER.format(3, 10))
    return f"{folder}/python3 is Python 3.10, too old"


def without_venv(folder: Path) -> str:
    add_python(folder, "python3", NEWER.format(3, 12) + NO_ENSUREPIP)
    what = "Python 3.12 without venv and ensurepip (Debian: apt install python3.12-venv)"
    return f"{folder}/python3 is {what}"


def broken(folder: Path) -> str:
    (folder / "python3.11").write_text("#!/bin/sh\nexit 127\n")
    (folder / "python3.11").chmod(0o755)
    return f"{folder}/python3.11 does not run"


@pytest.mark.parametrize("machine", [nothing, too_old, without_venv, broken])
def test_without_a_usable_python_each_is_named_with_the_reason(
    folder: Path, tmp_path: Path, machine: Callable[[Path], str]
) -> None:
    why = machine(folder)
    found = script(folder, "find-python.sh", "3.11")
    assert (found.returncode, found.stdout) == (1, "")
    made = script(folder, "make-venv.sh", tmp_path / "venv", found.stdout.strip())
    assert made.returncode == 1
    assert made.stderr.splitlines() == [HEADLINE, f"  {why}", REMEDY]
    assert not (tmp_path / "venv").exists()


def test_a_python_that_is_named_must_be_usable_too(folder: Path, tmp_path: Path) -> None:
    why = too_old(folder)
    made = script(folder, "make-venv.sh", tmp_path / "venv", folder / "python3")
    assert made.returncode == 1
    assert made.stderr.splitlines() == [HEADLINE, f"  {why}", REMEDY]


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("has_plain_name", [False, True])
def test_any_version_from_3_11_is_found(folder: Path, version: str, has_plain_name: bool) -> None:
    name = "python3" if has_plain_name else f"python{version}"
    major, minor = version.split(".")
    add_python(folder, name, NEWER.format(major, minor))
    assert script(folder, "find-python.sh", "3.11").stdout == f"{folder / name}\n"
    others = script(folder, "find-python.sh", "--others").stdout.split()
    assert others == ([version] if version != "3.11" and not has_plain_name else [])


def test_3_11_comes_before_later_versions(folder: Path) -> None:
    for minor in (13, 11, 12):
        add_python(folder, f"python3.{minor}", NEWER.format(3, minor))
    assert script(folder, "find-python.sh", "3.11").stdout == f"{folder}/python3.11\n"
    assert script(folder, "find-python.sh", "--others").stdout.split() == ["3.12", "3.13"]


def test_a_venv_that_exists_is_kept(folder: Path, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    assert script(folder, "make-venv.sh", tmp_path / "venv", "").returncode == 0
    assert os.readlink(python) == sys.executable
