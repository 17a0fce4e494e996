"""A release has a version, a section in the changelog, and metadata for a package index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import cqlproto
import cqlproto_anyio

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
KINDS = {kind["directory"] for kind in SETTINGS["tool"]["towncrier"]["type"]}


def sections() -> dict[str, str]:
    """Return the text of each release in the changelog, by version."""
    parts = re.split(r"^## (\S+) \(\d{4}-\d{2}-\d{2}\)\n", CHANGELOG, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_version_is_a_released_form() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", cqlproto.__version__)
    assert cqlproto_anyio.__version__ == cqlproto.__version__


def test_the_changelog_has_the_version_first() -> None:
    found = sections()
    assert next(iter(found)) == cqlproto.__version__
    assert re.search(r"^- ", found[cqlproto.__version__], re.MULTILINE)


def test_every_fragment_of_the_changelog_has_a_kind() -> None:
    """Towncrier ignores a file whose name it does not recognize."""
    names = [path.name for path in (ROOT / "changelog.d").glob("*.md")]
    parts = [re.fullmatch(r"\+?[\w-]+\.(\w+)\.md", name) for name in names]
    assert [name for name, part in zip(names, parts, strict=True) if not part] == []
    assert {part[1] for part in parts if part} <= KINDS


def test_texts_that_the_project_names_exist() -> None:
    assert (ROOT / PROJECT["readme"]).exists()
    assert all((ROOT / name).exists() for name in PROJECT["license-files"])
    assert (ROOT / "SECURITY.md").exists()


def test_every_address_of_the_project_is_a_url() -> None:
    assert PROJECT["urls"]
    for name, address in PROJECT["urls"].items():
        assert len(name) <= 32
        assert re.fullmatch(r"https://[\w.-]+/\S*", address), address
