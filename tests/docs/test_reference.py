"""The reference lists every public name, and each of them has a docstring."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from tests.docs.pages import DOCS

PUBLIC = [
    "cqlproto",
    "cqlproto.compression",
    "cqlproto.cqltypes",
    "cqlproto.messages",
    "cqlproto.routing",
    "cqlproto.rows",
    "cqlproto.testing",
    "cqlproto_anyio",
    "cqlproto_anyio.patterns",
    "cqlproto_anyio.testing",
]
DIRECTIVE = re.compile(r"^\.\. (?:auto|py:)(\w+):: ([\w.]+)$")
AGAIN = re.compile(r"^```\{exported-again\} (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def described() -> dict[str, list[str]]:
    """Return the names that have an entry, by module."""
    found: dict[str, list[str]] = {}
    for page in sorted(DOCS.glob("api/*.md")):
        module = ""
        for line in page.read_text().splitlines():
            directive = DIRECTIVE.match(line)
            if directive is None:
                continue
            kind, name = directive.groups()
            if kind == "currentmodule":
                module = name
                continue
            owner, _, last = name.rpartition(".")
            found.setdefault(owner or module, []).append(last)
    return found


def linked() -> dict[str, list[str]]:
    """Return the names that link to an entry on another page, by module."""
    texts = "".join(page.read_text() for page in sorted(DOCS.glob("api/*.md")))
    return {module: names.split() for module, names in AGAIN.findall(texts)}


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_documented_once(module: str) -> None:
    names = importlib.import_module(module).__all__
    listed = described().get(module, []) + linked().get(module, [])
    assert sorted(listed) == sorted(set(names))


def test_what_is_linked_has_an_entry_elsewhere() -> None:
    entries = {
        id(getattr(importlib.import_module(module), name))
        for module, names in described().items()
        for name in names
    }
    for module, names in linked().items():
        for name in names:
            assert id(getattr(importlib.import_module(module), name)) in entries, name


def test_every_class_and_function_says_what_it_is() -> None:
    silent = []
    for module, names in described().items():
        for name in names:
            found = getattr(importlib.import_module(module), name)
            if (inspect.isclass(found) or inspect.isroutine(found)) and not found.__doc__:
                silent.append(f"{module}.{name}")
    assert silent == []
