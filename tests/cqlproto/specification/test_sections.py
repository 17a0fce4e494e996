"""Every section of the three specifications has a test.

A test names its sections in a marker: ``@pytest.mark.spec("v3 v4 4.1.7", "v5 4.1.7")``, versions
and then the number. A case of a parametrized test may have its own marker.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from cqlproto.enums import ErrorCode, ProtocolVersion
from tests.cqlproto.specification.sections import ERROR_CODES, PROSE, SECTIONS

TESTS = Path(__file__).parent.parent


def named_in(text: str) -> set[tuple[int, str]]:
    """Return the sections that the markers of a test module name, by version and number."""
    found: set[tuple[int, str]] = set()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if not (isinstance(function, ast.Attribute) and function.attr == "spec"):
            continue
        for argument in node.args:
            assert isinstance(argument, ast.Constant), "a section is written out"
            *versions, number = str(argument.value).split()
            assert versions
            found |= {(int(version.removeprefix("v")), number) for version in versions}
    return found


def all_named() -> set[tuple[int, str]]:
    found: set[tuple[int, str]] = set()
    for path in TESTS.rglob("test_*.py"):
        found |= named_in(path.read_text())
    return found


def all_sections() -> list[tuple[int, str]]:
    return [(version, number) for version, sections in SECTIONS.items() for number in sections]


NAMED = all_named()


@pytest.mark.parametrize(("version", "number"), all_sections())
def test_a_section_is_named_by_a_test_or_is_prose(version: int, number: str) -> None:
    title = SECTIONS[version][number]
    tested = (version, number) in NAMED
    assert tested != ((version, number) in PROSE), f"v{version} {number} {title}"


def test_tests_name_sections_that_exist() -> None:
    assert NAMED - set(all_sections()) == set()
    assert PROSE.keys() - set(all_sections()) == set()


def test_markers_are_found() -> None:
    text = (
        '@pytest.mark.spec("v3 v4 2.1", "v5 2.4.1.1")\n'
        "def test_it(): ...\n"
        'CASES = [pytest.param(1, marks=pytest.mark.spec("v5 5.1"))]\n'
        "# pytest.mark.spec('v5 5.2')\n"
    )
    assert named_in(text) == {(3, "2.1"), (4, "2.1"), (5, "2.4.1.1"), (5, "5.1")}


def test_the_specifications_know_every_error_code() -> None:
    assert set(ERROR_CODES[5]) == {int(code) for code in ErrorCode}


def test_a_specification_is_there_for_every_version() -> None:
    assert set(SECTIONS) == set(ERROR_CODES) == {int(version) for version in ProtocolVersion}
