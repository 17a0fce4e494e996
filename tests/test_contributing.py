"""CONTRIBUTING's map lists every room of both packages; its commands and paths exist."""

from __future__ import annotations

import re
import tomllib
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
    """Return the rooms that the map describes, in its order."""
    _, _, after = TEXT.partition(f"`{package}`, from the bottom:\n\n")
    table, _, _ = after.partition("\n\n")
    return re.findall(r"^\| `(\w+)` \| \S.*\. \|$", table, re.MULTILINE)


@pytest.mark.parametrize("package", ["cqlproto", "cqlproto_anyio"])
def test_the_map_has_every_room_once(package: str) -> None:
    assert sorted(mapped(package)) == rooms(package)


@pytest.mark.parametrize(
    ("package", "contract"), [("cqlproto", "core-layers"), ("cqlproto_anyio", "client-layers")]
)
def test_the_map_goes_from_the_bottom_to_the_top(package: str, contract: str) -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    contracts = {each["id"]: each for each in tools["importlinter"]["contracts"]}
    layers = [set(re.findall(r"\w+", layer)) for layer in contracts[contract]["layers"]]
    floors = [
        next(len(layers) - n for n, layer in enumerate(layers) if room in layer)
        for room in mapped(package)
    ]
    assert floors == sorted(floors)


def test_each_command_of_make_help_is_listed() -> None:
    shown = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(re.findall(r"^    make ([a-z]+)", TEXT, re.MULTILINE)) == sorted(shown)


def test_each_variable_is_read_somewhere() -> None:
    _, _, table = TEXT.partition("| Variable | Meaning |\n")
    names = re.findall(r"`([A-Z][A-Z0-9_]+)[`=]", table.partition("\n\n")[0].replace("| `", "`"))
    sources = [path.read_text() for path in [*(ROOT / "tests").rglob("*.py"), ROOT / "Makefile"]]
    assert len(names) >= 8
    assert [name for name in names if not any(f'"{name}"' in text for text in sources)] == []


def test_the_paths_exist() -> None:
    folders = "bench|changelog.d|docs|examples|src|tests"
    for path in re.findall(rf"`((?:{folders})/[\w./-]*)`", TEXT):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/design.md"])
def test_the_named_sources_exist(page: str) -> None:
    sources = [path.as_posix() for path in [*ROOT.glob("src/**/*.py"), *ROOT.glob("tests/**/*.py")]]
    for name in re.findall(r"`([\w/]+\.py)`", (ROOT / page).read_text()):
        assert any(source.endswith(f"/{name}") for source in sources), name


def test_the_marks_exist() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    known = {re.split(r"\W", mark)[0] for mark in tools["pytest"]["ini_options"]["markers"]}
    assert set(re.findall(r"@pytest\.mark\.(\w+)", TEXT)) - {"asyncio"} <= known
