"""CONTRIBUTING's map lists every room of both packages; its commands and paths exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def rooms(package: str) -> list[str]:
    """Return the modules and packages at the top level of a package."""
    folder = ROOT / "src" / package
    modules = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
    return sorted([*modules, *(path.parent.name for path in folder.glob("*/__init__.py"))])


def mapped(package: str) -> list[str]:
    """Return the rooms that the map describes."""
    _, _, after = TEXT.partition(f"`{package}`, from the bottom:\n\n")
    table, _, _ = after.partition("\n\n")
    return sorted(re.findall(r"^\| `(\w+)` \| \S.*\. \|$", table, re.MULTILINE))


@pytest.mark.parametrize("package", ["cqlproto", "cqlproto_anyio"])
def test_the_map_has_every_room_once(package: str) -> None:
    assert mapped(package) == rooms(package)


def test_the_commands_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^    make ([a-z]+)", TEXT, re.MULTILINE)) <= targets


def test_the_paths_exist() -> None:
    folders = "bench|changelog.d|docs|examples|src|tests"
    for path in re.findall(rf"`((?:{folders})/[\w./-]*)`", TEXT):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/design.md"])
def test_the_named_sources_exist(page: str) -> None:
    sources = [path.as_posix() for path in [*ROOT.glob("src/**/*.py"), *ROOT.glob("tests/**/*.py")]]
    for name in re.findall(r"`([\w/]+\.py)`", (ROOT / page).read_text()):
        assert any(source.endswith(f"/{name}") for source in sources), name
